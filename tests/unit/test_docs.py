"""The documentation says what the code does."""

import re
from dataclasses import MISSING, fields
from pathlib import Path

from chalicelib.config import Settings

PROJECT = Path(__file__).resolve().parents[2]


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


def test_links_between_documents_lead_somewhere() -> None:
    """Every relative link of the README and of docs/ names a file that is there."""
    for page in [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
