"""The embedded metric format, as CloudWatch's specification has it, and what a line says in it."""

import json
import re
from typing import Any

UNITS = {
    *("Seconds", "Microseconds", "Milliseconds", "Percent", "Count", "Count/Second", "None"),
    *("Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes", "Bits"),
}
"""MetricDatum of the CloudWatch API, without the rates."""


def require_emf(line: str) -> dict[str, Any]:
    """The root node of a line. Fails where the specification says MUST and the line does not."""
    assert len(line.encode()) <= 256 * 1024
    root: dict[str, Any] = json.loads(line)
    assert set(root["_aws"]) == {"Timestamp", "CloudWatchMetrics"}
    timestamp = root["_aws"]["Timestamp"]
    assert isinstance(timestamp, int)
    assert 10**12 < timestamp < 10**13, "milliseconds since 1970"
    assert root["_aws"]["CloudWatchMetrics"], "nothing would come of it"
    for directive in root["_aws"]["CloudWatchMetrics"]:
        _require_directive(directive, root)
    return root


def _require_directive(directive: dict[str, Any], root: dict[str, Any]) -> None:
    assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
    assert re.fullmatch(r"[A-Za-z0-9._\-/#:]{1,255}", directive["Namespace"])
    assert directive["Dimensions"]
    for dimension_set in directive["Dimensions"]:
        assert len(dimension_set) <= 30
        for dimension in dimension_set:
            assert 1 <= len(dimension) <= 250
            assert isinstance(root[dimension], str), "a dimension's value is a string"
            assert 1 <= len(root[dimension]) <= 1024
            assert root[dimension].isascii()
    assert 1 <= len(directive["Metrics"]) <= 100
    names = [metric["Name"] for metric in directive["Metrics"]]
    assert len(set(names)) == len(names)
    for metric in directive["Metrics"]:
        assert set(metric) <= {"Name", "Unit", "StorageResolution"}
        assert metric["Unit"] in UNITS
        value = root[metric["Name"]]
        assert isinstance(value, int | float)
        assert not isinstance(value, bool)


def metrics_of(line: str) -> dict[tuple[str, ...], dict[str, tuple[float, str]]]:
    """What CloudWatch makes of a line: for each set of dimensions the metrics, (value, unit)."""
    root = require_emf(line)
    found: dict[tuple[str, ...], dict[str, tuple[float, str]]] = {}
    for directive in root["_aws"]["CloudWatchMetrics"]:
        for dimensions in directive["Dimensions"]:
            found.setdefault(tuple(dimensions), {}).update(
                {
                    metric["Name"]: (root[metric["Name"]], metric["Unit"])
                    for metric in directive["Metrics"]
                }
            )
    return found
