"""Where something is in a picture, as the service says it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Box:
    """Shares of the picture's width and height, 0 to 1."""

    left: float
    top: float
    width: float
    height: float

    @classmethod
    def clipped(
        cls, corners: tuple[float, float, float, float], width: float = 1, height: float = 1
    ) -> "Box":
        """What of the corners (left, top, right, bottom) is inside a picture of that size."""
        left, top = max(corners[0], 0), max(corners[1], 0)
        right, bottom = min(corners[2], width), min(corners[3], height)
        return cls(
            float(left / width),
            float(top / height),
            float((right - left) / width),
            float((bottom - top) / height),
        )

    @classmethod
    def around(cls, boxes: Iterable["Box"]) -> "Box":
        """The smallest that holds them all; at least one."""
        lefts, tops, rights, bottoms = zip(
            *((box.left, box.top, box.right, box.bottom) for box in boxes), strict=True
        )
        return cls.clipped((min(lefts), min(tops), max(rights), max(bottoms)))

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height

    @property
    def area(self) -> float:
        return self.width * self.height

    def overlap(self, other: "Box") -> float:
        """Intersection over union."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        common = max(width, 0) * max(height, 0)
        return common / (self.area + other.area - common)

    def slices(self, pixels: npt.NDArray[Any]) -> tuple[slice, slice]:
        """The rows and columns it covers, one of each at least."""
        height, width = pixels.shape[:2]
        left, top = int(self.left * width), int(self.top * height)
        right, bottom = round(self.right * width), round(self.bottom * height)
        return slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))

    @property
    def as_bounding_box(self) -> dict[str, float]:
        return {"Width": self.width, "Height": self.height, "Left": self.left, "Top": self.top}

    @property
    def as_polygon(self) -> list[dict[str, float]]:
        """Its corners, clockwise from the upper left."""
        return [
            {"X": self.left, "Y": self.top},
            {"X": self.right, "Y": self.top},
            {"X": self.right, "Y": self.bottom},
            {"X": self.left, "Y": self.bottom},
        ]
