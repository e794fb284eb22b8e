"""Which images are withheld: a policy's rules, applied to what Rekognition moderates."""

from collections.abc import Sequence

from chalicelib.model import ANY_LABEL, ModerationLabel, QuarantineRule


def reasons_to_withhold(
    labels: Sequence[ModerationLabel], rules: Sequence[QuarantineRule]
) -> tuple[str, ...]:
    """The labels for which an image is withheld, as they come; none where nothing speaks against.

    A rule holds for its label and all below it in Rekognition's taxonomy, the nearest one wins, and
    that of ``ANY_LABEL`` is the farthest. Names are compared in whatever case.
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

    return tuple(
        label.name
        for label in labels
        if (least := threshold(label.name.casefold())) is not None and label.confidence >= least
    )
