"""Which moderation labels withhold an image, by a policy's rules."""

from collections import Counter

import pytest

from chalicelib.model import ModerationLabel, QuarantineRule
from chalicelib.moderation import TAXONOMY, reasons_to_withhold

VIOLENCE = ModerationLabel("Violence", 90)
WEAPON = ModerationLabel("Weapon Violence", 90, "Violence")
BLOOD = ModerationLabel("Blood & Gore", 70, "Violence")
DRUGS = ModerationLabel("Drugs & Tobacco", 95)
PARAPHERNALIA = ModerationLabel("Drugs & Tobacco Paraphernalia & Use", 95, "Drugs & Tobacco")
SMOKING = ModerationLabel("Smoking", 95, "Drugs & Tobacco Paraphernalia & Use")
PILLS = ModerationLabel("Pills", 60, "Drugs & Tobacco Paraphernalia & Use")
ALCOHOL = ModerationLabel("Alcohol", 80)
THREE_LEVELS = (DRUGS, PARAPHERNALIA, SMOKING)


def rules(**least: float | None) -> tuple[QuarantineRule, ...]:
    """A rule for each label, whose name has underscores where it has blanks."""
    return tuple(QuarantineRule(label.replace("_", " "), each) for label, each in least.items())


CASES = {
    "nothing was seen": ((), rules(any=0), []),
    "there are no rules": ((VIOLENCE, WEAPON), (), []),
    "neither is there": ((), (), []),
    "no rule is for it": ((ALCOHOL,), rules(Violence=10), []),
    "exactly at the threshold": ((VIOLENCE,), rules(Violence=90), ["Violence"]),
    "just below it": ((VIOLENCE,), rules(Violence=90.01), []),
    "a threshold of 0": ((ModerationLabel("Violence", 0),), rules(Violence=0), ["Violence"]),
    "another case": ((VIOLENCE,), rules(vIOLENCE=80), ["Violence"]),
    "parent in another case": (
        (ModerationLabel("Weapon Violence", 90, "VIOLENCE"),),
        rules(violence=80),
        ["Weapon Violence"],
    ),
    "below its rule": ((WEAPON,), rules(Violence=80), ["Weapon Violence"]),
    "with the label above": (
        (VIOLENCE, WEAPON),
        rules(Violence=80),
        ["Violence", "Weapon Violence"],
    ),
    "three levels": (
        THREE_LEVELS,
        (QuarantineRule("Drugs & Tobacco", 90),),
        [
            *("Drugs & Tobacco", "Drugs & Tobacco Paraphernalia & Use", "Smoking"),
        ],
    ),
    "three levels in the order from below": (
        THREE_LEVELS[::-1],
        (QuarantineRule("DRUGS & TOBACCO", 90),),
        ["Smoking", "Drugs & Tobacco Paraphernalia & Use", "Drugs & Tobacco"],
    ),
    "the level between is not in the answer": (
        (DRUGS, SMOKING),
        (QuarantineRule("Drugs & Tobacco", 96), QuarantineRule("Smoking", 90)),
        ["Smoking"],
    ),
    "what is between leads no farther": (
        (SMOKING,),
        (QuarantineRule("Drugs & Tobacco", 90),),
        [],
    ),
    "any": ((VIOLENCE, ALCOHOL), rules(any=80), ["Violence", "Alcohol"]),
    "any, below its threshold": ((ALCOHOL,), rules(any=81), []),
    "any is the farthest": ((WEAPON,), rules(any=10, Violence=95), []),
    "any where a rule is for another": ((ALCOHOL,), rules(any=70, Violence=95), ["Alcohol"]),
    "ANY": ((ALCOHOL,), (QuarantineRule("Any", 70),), ["Alcohol"]),
    "the nearest is stricter": (
        (VIOLENCE, WEAPON),
        rules(Violence=95, Weapon_Violence=40),
        ["Weapon Violence"],
    ),
    "the nearest is laxer": ((VIOLENCE, WEAPON), rules(Violence=80, Weapon_Violence=95), []),
    "the nearest of three": (
        THREE_LEVELS,
        (
            QuarantineRule("Drugs & Tobacco", 10),
            QuarantineRule("Drugs & Tobacco Paraphernalia & Use", 99),
        ),
        [],
    ),
    "never": ((ALCOHOL,), rules(Alcohol=None), []),
    "never beats any": ((ALCOHOL, VIOLENCE), rules(any=50, Alcohol=None), ["Violence"]),
    "never holds below, too": ((VIOLENCE, WEAPON), rules(any=50, Violence=None), []),
    "never above, something below": (
        (VIOLENCE, WEAPON),
        rules(Violence=None, Weapon_Violence=50),
        ["Weapon Violence"],
    ),
    "never below, something above": (
        (VIOLENCE, WEAPON),
        rules(Violence=50, Weapon_Violence=None),
        [],
    ),
    "never below any": ((VIOLENCE, WEAPON), rules(any=50, Weapon_Violence=None), []),
    "never two levels below": (
        THREE_LEVELS,
        (QuarantineRule("Drugs & Tobacco", 60), QuarantineRule("Smoking", None)),
        [],
    ),
    "never for one of two below": (
        (*THREE_LEVELS, PILLS),
        (QuarantineRule("Drugs & Tobacco", 60), QuarantineRule("Smoking", None)),
        ["Drugs & Tobacco", "Drugs & Tobacco Paraphernalia & Use", "Pills"],
    ),
    "never below what is surer than that": (
        (VIOLENCE, BLOOD),
        (QuarantineRule("Violence", 80), QuarantineRule("Blood & Gore", None)),
        ["Violence"],
    ),
    "a parent that is not in the answer": (
        (ModerationLabel("Weapons", 90, "Violence"),),
        rules(any=80, Violence=None),
        [],
    ),
    "its own parent": ((ModerationLabel("A", 90, "A"),), rules(any=80), ["A"]),
    "its own parent, without a rule": ((ModerationLabel("A", 90, "A"),), rules(B=80), []),
    "in a circle": (
        (
            ModerationLabel("A", 90, "B"),
            ModerationLabel("B", 90, "C"),
            ModerationLabel("C", 90, "A"),
        ),
        rules(any=95, C=80),
        ["A", "B", "C"],
    ),
    "in a circle without a rule": (
        (ModerationLabel("A", 90, "B"), ModerationLabel("B", 90, "A")),
        rules(C=80),
        [],
    ),
    "twice": ((ALCOHOL, ALCOHOL), rules(any=50), ["Alcohol"]),
}


@pytest.mark.parametrize("case", CASES)
def test_labels_are_judged_by_the_nearest_rule(case: str) -> None:
    """The labels that a rule is against, in the order in which they were seen."""
    labels, policy, reasons = CASES[case]

    assert list(reasons_to_withhold(labels, policy)) == reasons


@pytest.mark.parametrize("case", CASES)
def test_rules_hold_in_whatever_order(case: str) -> None:
    """Which rule is the nearest does not depend on where it stands."""
    labels, policy, reasons = CASES[case]

    assert list(reasons_to_withhold(labels, policy[::-1])) == reasons


# ── the labels that there are ────────────────────────────────────────────────────────────────────


def above(label: str) -> list[str]:
    """The label and all that it is below, up to the top; ends where that goes round in circles."""
    way = [label]
    while (parent := TAXONOMY[way[-1]]) and len(way) <= len(TAXONOMY):
        way.append(parent)
    return way


def test_taxonomy_leads_to_its_top() -> None:
    """Each label is at the top or below another one that there is, on three levels at most."""
    assert {len(above(label)) for label in TAXONOMY} == {1, 2, 3}


def test_label_of_the_taxonomy_has_one_spelling() -> None:
    """Rules and answers are compared in whatever case, and rules without spaces around."""
    names = {label.casefold() for label in TAXONOMY}

    assert len(names) == len(TAXONOMY)
    assert all(label == " ".join(label.split()) for label in TAXONOMY)
    assert "any" not in names, "which stands for all"
    assert not any("," in label or "%" in label for label in TAXONOMY), "which are of rules"


def test_taxonomy_is_that_of_version_7() -> None:
    """Its top level, how many there are below each, and what version 6 had called otherwise."""
    below = Counter(above(label)[-1] for label in TAXONOMY)

    assert below == {
        "Explicit": 8,
        "Non-Explicit Nudity of Intimate parts and Kissing": 11,
        "Swimwear or Underwear": 3,
        "Violence": 8,
        "Visually Disturbing": 6,
        "Drugs & Tobacco": 5,
        "Alcohol": 4,
        "Rude Gestures": 2,
        "Gambling": 1,
        "Hate Symbols": 4,
    }
    assert TAXONOMY.keys().isdisjoint({"Suggestive", "Drugs", "Tobacco", "Self Injury"})
    assert above("Explosions and Blasts") == [
        *("Explosions and Blasts", "Graphic Violence", "Violence")
    ]


@pytest.mark.parametrize("label", TAXONOMY)
def test_every_label_withholds_by_each_rule_above_it(label: str) -> None:
    """With those above it in the answer, as Rekognition gives them."""
    way = above(label)
    labels = [ModerationLabel(name, 90, TAXONOMY[name]) for name in reversed(way)]

    for rule in (*way, "any"):
        assert label in reasons_to_withhold(labels, (QuarantineRule(rule, 80),))
