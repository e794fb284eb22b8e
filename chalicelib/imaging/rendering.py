"""From an original to its renditions: decode once, at the smallest scale that serves them all.

The way of the pixels: decoder (JPEG at 1/2, 1/4 or 1/8 by itself) → the size of the largest
rendition → sRGB → upright → each smaller rendition from a larger one → encoders. What Rekognition
is shown is encoded first, so that it can look while the rest is encoded.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageChops

from chalicelib.imaging.attention import strongest_detail
from chalicelib.imaging.color import to_srgb
from chalicelib.imaging.encoding import encoded
from chalicelib.imaging.fingerprint import fingerprint
from chalicelib.imaging.picture import Picture, taken
from chalicelib.imaging.plan import Target, at_most, part_of, reduction_for, scaled, target_of
from chalicelib.imaging.proxy import proxy_of, sight_for
from chalicelib.imaging.source import Source, decoding, open_source
from chalicelib.model import (
    BoundingBox,
    Feature,
    Limits,
    OutputFormat,
    Rendered,
    RenderedImage,
    RenditionSpec,
    ResizeMode,
)

_APART = 1.5
"""A rendition is resampled from one at least this many times larger, so that no two resamplings
of nearly the same size add up to a blur."""

_FINGERPRINT_SIDE = 64


def render(
    original: bytes,
    specs: Sequence[RenditionSpec],
    limits: Limits,
    *,
    background: str = "#ffffff",
    focus: BoundingBox | None = None,
    features: Collection[Feature] = (Feature.LABELS,),
) -> Rendered:
    """Every rendition, the Rekognition proxy and the fingerprint, at once: see ``prepare``."""
    prepared = prepare(
        original, specs, limits, background=background, focus=focus, features=features
    )
    return prepared.render()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A decoded original: what Rekognition is shown is there, the renditions can be encoded.

    ``pictures`` are in the order of ``specs``, each upright and in its final size, as are
    ``windows``, the parts of the original that they show; ``small`` shows the whole in a few
    pixels; ``encoded`` are those that are encoded already.
    """

    proxy: bytes
    specs: tuple[RenditionSpec, ...]
    pictures: tuple[Picture, ...]
    windows: tuple[BoundingBox | None, ...]
    small: Picture
    encoded: tuple[RenderedImage, ...]
    background: str
    notes: tuple[str, ...]

    @property
    def pixels(self) -> int:
        """How many pixels are kept in memory until ``render`` is done."""
        return sum(width * height for width, height in (each.size for each in self.pictures))

    def render(self) -> Rendered:
        """Every rendition, encoded, and the fingerprint."""
        done = {image.spec: image for image in self.encoded}
        return Rendered(
            renditions=tuple(
                done.get(spec) or encoded(picture, spec, self.background, window)
                for spec, picture, window in zip(
                    self.specs, self.pictures, self.windows, strict=True
                )
            ),
            proxy=self.proxy,
            fingerprint=fingerprint(self.small.image()),
            notes=self.notes,
        )


def prepare(
    original: bytes,
    specs: Sequence[RenditionSpec],
    limits: Limits,
    *,
    background: str = "#ffffff",
    focus: BoundingBox | None = None,
    features: Collection[Feature] = (Feature.LABELS,),
) -> Prepared:
    """Decode an original, once, and encode what Rekognition is shown of it.

    Renditions are upright sRGB without metadata, never larger than the original, in the order of
    ``specs``. ``background`` (``#rrggbb``) shows through where a format has no alpha. ``focus`` is
    what an ATTENTION rendition keeps in view, such as the box of a face; the strongest detail if
    None. ``features`` are what Rekognition will be asked about: faces and text take more pixels
    than labels. Raises PermanentError as ``inspect`` does, and CorruptImage for what turns out to
    be broken when its pixels are decoded.
    """
    source = open_source(original, limits)
    size = source.width, source.height
    notes = list(source.notes)
    targets = [target_of(spec, size) for spec in specs]
    sight = sight_for(features)
    if not any(sight.is_served_by(target, size) for target in targets):
        targets.append(sight.target(size))
    conversion = to_srgb(source.image, notes)
    is_lossy = all(target.spec.format is not OutputFormat.PNG for target in targets)
    with decoding(f"this {source.format} file is broken"):
        working, targets = _decoded(source, targets, subsampled=is_lossy)
    del source  # and its pixels, which take the most memory of all
    working = working.converted(conversion)
    if working.has_alpha and not working.is_see_through:
        working = working.flattened(background)
    if is_lossy:
        working = working.subsampled()

    if focus is None and any(spec.mode is ResizeMode.ATTENTION for spec in specs):
        focus = strongest_detail(working)

    levels = [working]
    pictures: dict[str, tuple[Picture, BoundingBox | None]] = {}
    for target in sorted(targets, key=lambda each: each.scale, reverse=True):
        parent = _parent(levels, target.scale * size[0])
        box = target.window(size, parent.size, focus)
        if box:
            box = taken(box, target.size, parent.size)
        picture = parent.resized(target.size, box)
        if target.is_whole:
            levels.append(picture)
        pictures[target.spec.name] = picture, part_of(parent.size, box) if box else None
    small = scaled(levels[-1].size, min(1.0, _FINGERPRINT_SIDE / max(levels[-1].size)))
    ordered = tuple(pictures[spec.name][0] for spec in specs)
    windows = tuple(pictures[spec.name][1] for spec in specs)
    proxy, stand_in = proxy_of(zip(specs, ordered, strict=True), working, background, sight)
    return Prepared(
        proxy=proxy,
        specs=tuple(specs),
        pictures=ordered,
        windows=windows,
        small=levels[-1].resized(small),
        encoded=(stand_in,) if stand_in else (),
        background=background,
        notes=tuple(notes),
    )


def _decoded(
    source: Source, targets: list[Target], *, subsampled: bool
) -> tuple[Picture, list[Target]]:
    """The upright whole in the size of the largest target, and the targets as they will be."""
    upright = source.width, source.height
    image = source.image
    width, height = image.size
    box = (0.0, 0.0, float(width), float(height))
    if source.format == "JPEG":
        reduction = reduction_for(targets)
        mode = "YCbCr" if subsampled and _is_ycbcr(image) else None
        drafted = image.draft(mode, (max(1, width // reduction), max(1, height // reduction)))
        if drafted:
            # Of a side that the scale does not divide, the last pixel is picture only in part.
            box = drafted[1]
            decoded = _turned(box[2:], source.turn)
            targets = [at_most(target, decoded, box[2] / width) for target in targets]
    inverted = source.format == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info
    image.load()
    if inverted:
        # Pillow takes CMYK for inverted, as Adobe writes it; without Adobe's marker it is not.
        image = ImageChops.invert(image)
    largest = max(targets, key=lambda target: target.scale)
    size = largest.size if largest.is_whole else scaled(upright, largest.scale)
    picture = Picture.of(image, _turned(size, source.turn), box, subsampled=subsampled)
    return picture.turned(source.turn), targets


def _is_ycbcr(image: Image.Image) -> bool:
    """Whether libjpeg is sure to find YCbCr in this JPEG (default_decompress_parms, jdapimin.c).

    Components numbered 1, 2, 3 are, unless Adobe's marker says otherwise.
    """
    numbers = [component[0] for component in getattr(image, "layer", [])]
    return numbers == [1, 2, 3] and image.info.get("adobe_transform", 1) == 1


def _turned(size: tuple[Any, Any], turn: int) -> tuple[Any, Any]:
    """Width and height from upright to as stored, or back; orientations 5–8 lie on their side."""
    return size if turn < 5 else size[::-1]  # noqa: PLR2004


def _parent(levels: Sequence[Picture], width: float) -> Picture:
    """The smallest picture there is that is well wider than ``width``."""
    return next((level for level in reversed(levels) if level.size[0] >= width * _APART), levels[0])
