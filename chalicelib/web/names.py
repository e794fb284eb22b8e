"""What a file's name may be, and what becomes of it on its way into an object key."""

import unicodedata

MAX_NAME_BYTES = 255
"""The longest name that common file systems keep."""

NOT_IN_NAMES = ("Cc", "Cs", "Zl", "Zp")
"""Controls, halves of characters, ends of lines and paragraphs (Unicode's general categories)."""

TURNING = {*range(0x200E, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF}
"""What turns the direction of text, by which ``exe.gpj`` shows as ``jpg.exe``, and the BOM."""


def file_name(given: object) -> str:
    """The last part of a name or path, composed (NFC), without what is not for reading.

    Anything else that S3 and URLs can carry stays as it is. Raises ValueError when nothing is
    left, or for more than 255 bytes of UTF-8.
    """
    if not isinstance(given, str):
        raise TypeError("is a text")
    if any(unicodedata.category(char) == "Cs" for char in given):
        raise ValueError("is not valid Unicode")
    last = unicodedata.normalize("NFC", given).replace("\\", "/").rpartition("/")[2]
    name = "".join(char for char in last if _is_readable(char)).strip()
    length = len(name.encode())
    if name in {"", ".", ".."}:
        raise ValueError(f"is no file name ({given!r:.80}): give one such as cat.jpg")
    if length > MAX_NAME_BYTES:
        raise ValueError(f"has {length} bytes, over the limit of {MAX_NAME_BYTES}: shorten it")
    return name


def _is_readable(char: str) -> bool:
    return unicodedata.category(char) not in NOT_IN_NAMES and ord(char) not in TURNING
