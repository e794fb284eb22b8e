"""The documentation says what the code does."""

import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import get_args

import pytest

from chalicelib.announcements import announcements_of
from chalicelib.aws.recognition import OPERATIONS
from chalicelib.config import FACE_ATTRIBUTES, FEATURES, MAX_COUNTS, Settings, read_settings
from chalicelib.model import Duplicate, EventKind, Feature
from chalicelib.prices import RECOGNITION_USD
from chalicelib.services import Step
from chalicelib.telemetry import COUNTS
from infrastructure.__main__ import COMMANDS
from infrastructure.workflow import WORKFLOW
from tests.template import decided, read_template
from tests.unit.test_announcements import COMPLETED, FAILED, QUARANTINED

PROJECT = Path(__file__).resolve().parents[2]
PAGES = (
    *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((PROJECT / "docs").glob("*.md")),
    PROJECT / "benchmarks" / "README.md",
)
METRICS = (
    *COUNTS.values(),
    *("BytesSaved", "EstimatedCost"),
    *(f"{step.capitalize()}Duration" for step in get_args(Step)),
)
TEMPLATE = read_template()


def document(name: str) -> str:
    return (PROJECT / "docs" / name).read_text()


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the tables below a heading, a list a row."""
    [section] = re.findall(rf"^#+ {heading}$(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]


def named(cell: str) -> list[str]:
    """What stands in a cell as code."""
    return re.findall(r"`([^`]+)`", cell)


def test_every_setting_is_documented_with_its_default() -> None:
    """docs/settings.md has a row for each setting, in order, with default and meaning."""
    rows = re.findall(
        r"^\| `([A-Z_]+)` \| (.*?) ?\| (.*) \|$",
        (PROJECT / "docs" / "settings.md").read_text(),
        re.MULTILINE,
    )
    expected = []
    for setting in fields(Settings):
        default = setting.metadata["default"]
        shown = "" if default is MISSING else f"`{default}`" if default else "empty"
        expected.append((setting.name.upper(), shown, setting.metadata["about"]))
    assert rows == expected


def test_every_feature_is_documented_with_its_limits_and_price() -> None:
    """docs/settings.md has each feature, its operation, defaults, limit, price and attributes."""
    expected = []
    for feature, spec in FEATURES.items():
        limits = ["", ""]
        if feature in MAX_COUNTS:
            limits = [f"{spec.max_count}, up to {MAX_COUNTS[feature]}", f"{spec.min_confidence:g}%"]
        expected.append(
            [f"`{feature}`", f"`{operation(feature)}`", *limits, f"{RECOGNITION_USD[feature]:.2f}"]
        )
    documented = [
        [name, asked, *limits]
        for name, asked, _, *limits in rows(document("settings.md"), "Recognition")
        if named(name)
    ]
    assert documented == expected
    for attribute in FACE_ATTRIBUTES:
        assert f"`{attribute.lower()}`" in document("settings.md")


def operation(feature: Feature) -> str:
    """``DetectLabels`` of ``_detect_labels``."""
    [ask] = [ask for features, ask in OPERATIONS.items() if feature in features]
    return ask.__name__.title().replace("_", "")


def test_every_feature_has_its_price() -> None:
    """docs/costs.md has each for a million images, and the sum."""
    *features, (_, _, _, total) = [
        row for row in rows(document("costs.md"), "Rekognition") if row[0] != "feature"
    ][1:]
    assert [(row[0], row[1]) for row in features] == [
        (f"`{feature}`", f"`{operation(feature)}`") for feature in Feature
    ]
    prices = [float(row[3].replace(",", "")) for row in features]
    assert prices == [1000 * RECOGNITION_USD[feature] for feature in Feature]
    assert float(total.replace(",", "")) == sum(prices)


def test_examples_of_settings_can_be_used() -> None:
    """Each block of docs/settings.md that sets variables makes a stage."""
    blocks = re.findall(
        r"^```(?:json)?\n(.*?)^```", document("settings.md"), re.MULTILINE | re.DOTALL
    )
    examples = [
        json.loads(block)["stages"]["dev"]["environment_variables"]
        if block.startswith("{")
        else dict(re.findall(r"^([A-Z_]+)=(.*)$", block, re.MULTILINE))
        for block in blocks
    ]
    needed = {
        setting.name.upper(): "5"
        for setting in fields(Settings)
        if setting.metadata["default"] is MISSING
    }
    for example in examples:
        read_settings(needed | example)
    shown = {variable for example in examples for variable in example}
    assert shown == {"RECOGNITION", "QUARANTINE", "RENDITIONS"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    """Every relative link names a file that is there and, behind a #, a heading or anchor in it."""
    for link in re.findall(r"\]\((?!https?://)([^)\s]+)\)", page.read_text()):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in anchors(target.read_text()), f"{page.name} links to {link}"


def anchors(text: str) -> Iterator[str]:
    """What a link can lead to: headings as GitHub makes anchors of them, and anchors by name."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#+ (.+)$", prose, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    yield from re.findall(r'<a id="([^"]+)">', text)


def test_every_alarm_is_explained() -> None:
    """docs/operating.md has each alarm of the template, and none that is not."""
    stack = decided(TEMPLATE, Stage="dev")
    expected = {
        resource["Properties"]["AlarmName"].removeprefix("image-pipeline-dev-")
        for resource in stack["Resources"].values()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }
    explained = [name for row in rows(document("operating.md"), "Alarms") for name in named(row[0])]
    assert sorted(explained) == sorted(expected)


def test_every_alarm_of_the_state_machine_is_explained() -> None:
    """docs/orchestration.md has each, and none that is not."""
    resources = decided(read_template(WORKFLOW), Stage="dev", Worker="worker")["Resources"]
    expected = {
        resource["Properties"]["AlarmName"].removeprefix("image-pipeline-dev-")
        for resource in resources.values()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }
    explained = [
        name for row in rows(document("orchestration.md"), "Alarms") for name in named(row[0])
    ]
    assert sorted(explained) == sorted(expected)


def test_every_metric_is_explained() -> None:
    """docs/operating.md has each metric, and none that is not."""
    explained = [
        name for row in rows(document("operating.md"), "Metrics") for name in named(row[0])
    ]
    assert sorted(explained) == sorted(METRICS)


def test_every_parameter_is_documented_with_its_default() -> None:
    """docs/deploying.md has a row for each parameter, in order, with its default."""
    documented = [
        (named(row[0])[0], row[1])
        for row in rows(document("deploying.md"), "Parameters")
        if named(row[0])
    ]
    expected = [
        (name, shown_default(parameter)) for name, parameter in TEMPLATE["Parameters"].items()
    ]
    assert documented == expected


def shown_default(parameter: dict[str, str]) -> str:
    if "Default" not in parameter:
        return ""
    return f"`{parameter['Default']}`" if parameter["Default"] != "" else "empty"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_shown(command: str) -> None:
    """Somewhere it stands with a stage, as it is run."""
    shown = f"python -m infrastructure {command} --stage"
    assert any(shown in page.read_text() for page in PAGES), command


def test_filter_policies_name_what_there_is() -> None:
    """Each example of docs/events.md is JSON and filters by attributes in its table."""
    text = document("events.md")
    told = {name for row in rows(text, "Filter policies of SNS") for name in named(row[0])}
    policies = [
        json.loads(json.loads(attributes)["FilterPolicy"])
        for attributes in re.findall(r"--attributes '(.*)'", text)
    ]

    assert {name for policy in policies for name in policy} == {"label", "status", "code"} <= told
    images = (COMPLETED, FAILED, QUARANTINED, replace(COMPLETED, duplicates=(Duplicate("b", 2),)))
    attributes = [announcements_of(image)[0].attributes for image in images]
    assert {name for each in attributes for name in each} == told


def test_every_event_is_explained() -> None:
    """docs/events.md has each kind with its status, in order."""
    told = [
        (named(event)[0], named(status)[0])
        for event, status, _ in rows(document("events.md"), "What is told, and when")
        if named(status)
    ]
    assert told == [(f"image.{kind.lower()}", kind) for kind in EventKind]
