"""Pictures: bytes in, bytes out. No I/O, no state, safe to call from several threads at once.

``inspect`` reads the header of an original, ``prepare`` decodes it and gives what Rekognition is
shown, and its ``render`` encodes the renditions; the function ``render`` does both. Everything that
is wrong with a file comes out as a PermanentError of this project, whatever Pillow raises inside.
"""

from chalicelib.imaging.formats import content_type, extension
from chalicelib.imaging.inspection import inspect
from chalicelib.imaging.rendering import Prepared, prepare, render

__all__ = ["Prepared", "content_type", "extension", "inspect", "prepare", "render"]
