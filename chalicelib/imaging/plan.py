"""How large each rendition becomes, and at which scale an original has to be decoded for them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from chalicelib.imaging.encoding import LONGEST_SIDE
from chalicelib.model import BoundingBox, OutputFormat, RenditionSpec, ResizeMode

Size = tuple[int, int]
Box = tuple[float, float, float, float]

_TOLERANCE = 0.9
"""A FIT rendition is "at most" its box, and may come out this much smaller when the decoder's own
scale then does: a 4000-pixel photo in a box of 2048 becomes 2000 wide and costs half, because the
decoder never makes the pixels that a resize would take away again."""


@dataclass(frozen=True, slots=True)
class Target:
    """A rendition to be: ``size`` in pixels, at ``scale`` (0–1] of the upright original."""

    spec: RenditionSpec
    size: Size
    scale: float

    @property
    def is_whole(self) -> bool:
        """Whether it shows all of the original, nothing cropped."""
        return self.spec.mode is ResizeMode.FIT

    def window(self, original: Size, parent: Size, focus: BoundingBox | None) -> Box | None:
        """The part it shows of a ``parent`` picture of the whole, None for all.

        Around the middle of the picture, or with ATTENTION as close around the middle of ``focus``
        as the edges allow.
        """
        if self.is_whole:
            return None
        middle = BoundingBox(left=0, top=0, width=1, height=1)
        if focus and self.spec.mode is ResizeMode.ATTENTION:
            middle = focus
        across = min(parent[0], self.size[0] / self.scale * parent[0] / original[0])
        down = min(parent[1], self.size[1] / self.scale * parent[1] / original[1])
        left = (middle.left + middle.width / 2) * parent[0] - across / 2
        top = (middle.top + middle.height / 2) * parent[1] - down / 2
        left = min(max(0.0, left), parent[0] - across)
        top = min(max(0.0, top), parent[1] - down)
        return left, top, left + across, top + down


def part_of(parent: Size, box: Box) -> BoundingBox | None:
    """A box in pixels of a picture as fractions of its sides, to a millionth; None for all."""
    left, right = (round(place / parent[0], 6) for place in box[::2])
    top, bottom = (round(place / parent[1], 6) for place in box[1::2])
    if (left, top, right, bottom) == (0, 0, 1, 1):
        return None
    return BoundingBox(left, top, round(right - left, 6), round(bottom - top, 6))


def target_of(spec: RenditionSpec, original: Size) -> Target:
    """The rendition of an upright original, which is never enlarged.

    COVER and ATTENTION take the shorter of box and original on each side, and
    scale so that both are filled.
    """
    longest = LONGEST_SIDE.get(spec.format, LONGEST_SIDE[OutputFormat.WEBP])
    box = min(spec.width, longest), min(spec.height, longest)
    if spec.mode is ResizeMode.FIT:
        scale = min(1.0, box[0] / original[0], box[1] / original[1])
        return Target(spec, scaled(original, scale), scale)
    size = min(box[0], original[0]), min(box[1], original[1])
    return Target(spec, size, max(size[0] / original[0], size[1] / original[1]))


def reduction_for(targets: Sequence[Target]) -> int:
    """How many times smaller a JPEG decoder may make the picture: 8, 4, 2 or 1."""
    return next(
        reduction
        for reduction in (8, 4, 2, 1)
        if all(
            1 / reduction >= target.scale * (_TOLERANCE if target.is_whole else 1)
            for target in targets
        )
    )


def at_most(target: Target, decoded: tuple[float, float], scale: float) -> Target:
    """The target, or the whole of what was ``decoded`` where that is a little smaller."""
    if target.scale <= scale:
        return target
    return replace(target, size=(max(1, int(decoded[0])), max(1, int(decoded[1]))), scale=scale)


def scaled(size: Size, scale: float) -> Size:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
