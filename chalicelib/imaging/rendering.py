"""From an original to its renditions: decode once, at the smallest scale that serves them all.

The way of the pixels: decoder (JPEG at 1/2, 1/4 or 1/8 by itself) → the largest rendition → sRGB →
upright → each smaller rendition from a larger one → encoders.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image, ImageChops

from chalicelib.imaging.color import Conversion, normal, to_srgb
from chalicelib.imaging.encoding import LONGEST_SIDE, chosen_format, encode
from chalicelib.imaging.fingerprint import fingerprint
from chalicelib.imaging.picture import Box, Picture
from chalicelib.imaging.proxy import PROXY, PROXY_SIDE_ENOUGH, proxy_of
from chalicelib.imaging.source import Source, decoding, open_source
from chalicelib.model import (
    BoundingBox,
    Limits,
    OutputFormat,
    Rendered,
    RenderedImage,
    RenditionSpec,
    ResizeMode,
)

_TOLERANCE = 0.9
"""An "at most" rendition may come out this much smaller than its box when the decoder's own scale
then does: a 4000-pixel photo in a box of 2048 becomes 2000 wide and costs half, because the decoder
never makes the pixels that a resize would take away again."""

_APART = 1.5
"""A rendition is resampled from one at least this many times larger, so that no two resamplings
of nearly the same size add up to a blur."""

_FINGERPRINT_SIDE = 64


@dataclass(frozen=True, slots=True)
class _Target:
    """A rendition to be: ``size`` in pixels, at ``scale`` (0–1) of the upright original."""

    spec: RenditionSpec
    size: tuple[int, int]
    scale: float

    @property
    def is_whole(self) -> bool:
        return self.spec.mode is ResizeMode.FIT


def render(
    original: bytes,
    specs: Sequence[RenditionSpec],
    limits: Limits,
    *,
    background: str = "#ffffff",
    focus: BoundingBox | None = None,
) -> Rendered:
    """Every rendition, the Rekognition proxy and the fingerprint, from one decoding.

    Renditions are upright sRGB without metadata, never larger than the original, in the order of
    ``specs``. ``background`` (``#rrggbb``) shows through where a format has no alpha. ``focus`` is
    what a COVER rendition keeps in view, the centre if None. Raises PermanentError as ``inspect``
    does, and CorruptImage for what turns out to be broken when its pixels are decoded.
    """
    source = open_source(original, limits)
    notes = list(source.notes)
    targets = _targets(specs, source)
    conversion = to_srgb(source.image, notes)
    with decoding(f"this {source.format} file is broken"):
        image, box, targets = _decoded(source, targets, planes=conversion is None)
        working = _first_resized(image, box, source, targets[0].scale)
    working = _in_srgb(working, conversion).turned(source.turn)
    if working.has_alpha and not working.is_see_through:
        working = working.flattened(background)
    if all(target.spec.format is not OutputFormat.PNG for target in targets):
        working = working.subsampled()

    levels = [working]
    finished: dict[str, RenderedImage] = {}
    for target in targets:
        parent = _parent(levels, target, source)
        picture = parent.resized(target.size, _window(target, parent, source, focus))
        if target.is_whole:
            levels.append(picture)
        if target.spec is not PROXY:
            finished[target.spec.name] = _encoded(picture, target.spec, background)
    whole = [
        finished[each.spec.name] for each in targets if each.is_whole and each.spec is not PROXY
    ]
    smallest = levels[-1]
    return Rendered(
        renditions=tuple(finished[spec.name] for spec in specs),
        proxy=proxy_of(whole, working, background),
        fingerprint=fingerprint(smallest.resized(_fit(smallest.size, _FINGERPRINT_SIDE)).image()),
        notes=tuple(notes),
    )


def _targets(specs: Sequence[RenditionSpec], source: Source) -> list[_Target]:
    """The largest scale first; with one for the proxy where no rendition can stand in for it."""
    targets = [_target(spec, source) for spec in specs]
    enough = min(PROXY_SIDE_ENOUGH, source.width, source.height)
    if not any(each.is_whole and max(each.size) >= enough for each in targets):
        targets.append(_target(PROXY, source))
    return sorted(targets, key=lambda target: target.scale, reverse=True)


def _target(spec: RenditionSpec, source: Source) -> _Target:
    most = LONGEST_SIDE[chosen_format(spec.format, (spec.width, spec.height), alpha=True)]
    width, height = min(spec.width, most), min(spec.height, most)
    if spec.mode is ResizeMode.FIT:
        scale = min(1.0, width / source.width, height / source.height)
        size = max(1, round(source.width * scale)), max(1, round(source.height * scale))
        return _Target(spec, size, scale)
    size = min(width, source.width), min(height, source.height)
    return _Target(spec, size, max(size[0] / source.width, size[1] / source.height))


def _decoded(
    source: Source, targets: list[_Target], *, planes: bool
) -> tuple[Image.Image, Box, list[_Target]]:
    """The pixels, the part of them that is picture, and the targets in the size they will have."""
    image = source.image
    box: Box = (0, 0, *image.size)
    if source.format == "JPEG":
        full = image.size
        planes = planes and _is_ycbcr(image)
        reduction = _reduction(targets)
        aim = (max(1, full[0] // reduction), max(1, full[1] // reduction))
        drafted = image.draft("YCbCr" if planes else None, aim)
        if drafted:
            box = drafted[1]
            targets = [_at_most(target, box[2] / full[0], box, source.turn) for target in targets]
    inverted = source.format == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info
    image.load()
    if inverted:
        # Pillow takes CMYK for inverted, as Adobe writes it; without Adobe's marker it is not.
        image = ImageChops.invert(image)
    return (image if image.mode == "YCbCr" and planes else normal(image)), box, targets


def _reduction(targets: list[_Target]) -> int:
    """How many times smaller the decoder may make the picture: 8, 4, 2 or 1."""
    for reduction in (8, 4, 2):
        if all(
            1 / reduction >= target.scale * (_TOLERANCE if target.is_whole else 1)
            for target in targets
        ):
            return reduction
    return 1


def _at_most(target: _Target, scale: float, box: Box, turn: int) -> _Target:
    """The target, in the decoder's scale where that is a little smaller."""
    if target.scale <= scale:
        return target
    size = (max(1, int(box[2])), max(1, int(box[3])))
    return replace(target, size=size if turn < 5 else size[::-1], scale=scale)  # noqa: PLR2004


def _is_ycbcr(image: Image.Image) -> bool:
    """Whether libjpeg is sure to find YCbCr in this JPEG (default_decompress_parms, jdapimin.c).

    Components numbered 1, 2, 3 are, unless Adobe's marker says otherwise.
    """
    numbers = [component[0] for component in getattr(image, "layer", [])]
    return numbers == [1, 2, 3] and image.info.get("adobe_transform", 1) == 1


def _first_resized(image: Image.Image, box: Box, source: Source, scale: float) -> Picture:
    """The whole picture at the scale of the largest rendition, lying as in the file."""
    width, height = (source.width, source.height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if source.turn >= 5:  # noqa: PLR2004
        size = size[::-1]
    size = min(size[0], image.width), min(size[1], image.height)
    picture = Picture.of(image)
    if image.mode == "YCbCr":
        picture = picture.subsampled()
    return picture.resized(size, box)


def _in_srgb(picture: Picture, conversion: Conversion | None) -> Picture:
    return picture if conversion is None else Picture.of(conversion(picture.image()))


def _parent(levels: list[Picture], target: _Target, source: Source) -> Picture:
    """The smallest picture there is that is well larger than the target."""
    needed = target.scale * source.width * _APART
    return next((level for level in reversed(levels) if level.size[0] >= needed), levels[0])


def _window(
    target: _Target, parent: Picture, source: Source, focus: BoundingBox | None
) -> Box | None:
    """The part of ``parent`` that the target shows, around the focus."""
    if target.is_whole:
        return None
    width, height = parent.size
    across = min(width, target.size[0] / target.scale * width / source.width)
    down = min(height, target.size[1] / target.scale * height / source.height)
    x, y = width / 2, height / 2
    if focus is not None:
        x, y = (focus.left + focus.width / 2) * width, (focus.top + focus.height / 2) * height
    left = min(max(0.0, x - across / 2), width - across)
    top = min(max(0.0, y - down / 2), height - down)
    return left, top, left + across, top + down


def _fit(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, math.floor(size[1] * scale + 0.5))


def _encoded(picture: Picture, spec: RenditionSpec, background: str) -> RenderedImage:
    output = chosen_format(spec.format, picture.size, alpha=picture.has_alpha)
    if output is OutputFormat.JPEG:
        picture = picture.flattened(background)
    body = encode(picture.image(), output, spec.quality)
    return RenderedImage(spec, output, *picture.size, body)
