"""Which images are withheld: a policy's rules, applied to what Rekognition moderates."""

from collections.abc import Sequence

from chalicelib.model import ANY_LABEL, ModerationLabel, QuarantineRule

TAXONOMY = {
    "Explicit": "",
    "Explicit Nudity": "Explicit",
    "Exposed Male Genitalia": "Explicit Nudity",
    "Exposed Female Genitalia": "Explicit Nudity",
    "Exposed Buttocks or Anus": "Explicit Nudity",
    "Exposed Female Nipple": "Explicit Nudity",
    "Explicit Sexual Activity": "Explicit",
    "Sex Toys": "Explicit",
    "Non-Explicit Nudity of Intimate parts and Kissing": "",
    "Non-Explicit Nudity": "Non-Explicit Nudity of Intimate parts and Kissing",
    "Bare Back": "Non-Explicit Nudity",
    "Exposed Male Nipple": "Non-Explicit Nudity",
    "Partially Exposed Buttocks": "Non-Explicit Nudity",
    "Partially Exposed Female Breast": "Non-Explicit Nudity",
    "Implied Nudity": "Non-Explicit Nudity",
    "Obstructed Intimate Parts": "Non-Explicit Nudity of Intimate parts and Kissing",
    "Obstructed Female Nipple": "Obstructed Intimate Parts",
    "Obstructed Male Genitalia": "Obstructed Intimate Parts",
    "Kissing on the Lips": "Non-Explicit Nudity of Intimate parts and Kissing",
    "Swimwear or Underwear": "",
    "Female Swimwear or Underwear": "Swimwear or Underwear",
    "Male Swimwear or Underwear": "Swimwear or Underwear",
    "Violence": "",
    "Weapons": "Violence",
    "Graphic Violence": "Violence",
    "Weapon Violence": "Graphic Violence",
    "Physical Violence": "Graphic Violence",
    "Self-Harm": "Graphic Violence",
    "Blood & Gore": "Graphic Violence",
    "Explosions and Blasts": "Graphic Violence",
    "Visually Disturbing": "",
    "Death and Emaciation": "Visually Disturbing",
    "Emaciated Bodies": "Death and Emaciation",
    "Corpses": "Death and Emaciation",
    "Crashes": "Visually Disturbing",
    "Air Crash": "Crashes",
    "Drugs & Tobacco": "",
    "Products": "Drugs & Tobacco",
    "Pills": "Products",
    "Drugs & Tobacco Paraphernalia & Use": "Drugs & Tobacco",
    "Smoking": "Drugs & Tobacco Paraphernalia & Use",
    "Alcohol": "",
    "Alcohol Use": "Alcohol",
    "Drinking": "Alcohol Use",
    "Alcoholic Beverages": "Alcohol",
    "Rude Gestures": "",
    "Middle Finger": "Rude Gestures",
    "Gambling": "",
    "Hate Symbols": "",
    "Nazi Party": "Hate Symbols",
    "White Supremacy": "Hate Symbols",
    "Extremist": "Hate Symbols",
}
"""Each moderation label of Rekognition, and what it is below: nothing, at the top.

Three levels, as version 7 of its model has them:
https://docs.aws.amazon.com/rekognition/latest/dg/moderation-api.html
"""


def reasons_to_withhold(
    labels: Sequence[ModerationLabel], rules: Sequence[QuarantineRule]
) -> tuple[str, ...]:
    """The labels for which an image is withheld, as they come; none where nothing speaks against.

    A rule holds for its label and all below it in Rekognition's taxonomy, the nearest one wins, and
    that of ``ANY_LABEL`` is the farthest. Names are compared in whatever case. Along with a label
    Rekognition names those above it, as sure: of these, only what leads to a reason is one, or a
    rule that lets the label pass would never help.
    """
    thresholds = {rule.label.casefold(): rule.min_confidence for rule in rules}
    parents = {label.name.casefold(): label.parent.casefold() for label in labels}

    def threshold(name: str) -> float | None:
        above = {""}  # what was looked at, so that no answer leads round in circles
        while name not in above:
            if name in thresholds:
                return thresholds[name]
            above.add(name)
            name = parents.get(name, "")
        return thresholds.get(ANY_LABEL)

    def is_reason(label: ModerationLabel, above: frozenset[str] = frozenset()) -> bool:
        name = label.name.casefold()
        least = threshold(name)
        if least is None or label.confidence < least:
            return False
        above |= {name}
        below = [
            each
            for each in labels
            if each.parent.casefold() == name and each.name.casefold() not in above
        ]
        is_surer = all(each.confidence < label.confidence for each in below)
        return is_surer or any(is_reason(each, above) for each in below)

    return tuple(dict.fromkeys(label.name for label in labels if is_reason(label)))
