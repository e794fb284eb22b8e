"""Names and paths, whatever a client makes of them."""

import unicodedata
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chalicelib.errors import InvalidRequest
from chalicelib.model import image_id_of
from chalicelib.web.requests import image_ids_of, key_of


@given(st.text(st.characters(codec="utf-8")))
@example("\u0301")
@example("a\u200b.jpg")
@example("../../etc/passwd")
@example("C:\\cat.jpg")
@example(" . ")
@example("\ufdfa" * 100)
def test_any_name_gives_a_safe_key_or_is_refused(filename: str) -> None:
    """One folder, a name of at most 255 bytes in NFC, no control characters, no dots alone."""
    try:
        key = key_of(filename)
    except InvalidRequest:
        return
    folder, _, name = key.partition("/")
    assert folder == "uploads"
    assert name not in {"", ".", ".."}
    assert "/" not in name
    assert "\\" not in name
    assert unicodedata.is_normalized("NFC", name)
    assert len(name.encode()) <= 255
    assert not any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in name)
    assert not set(name) & set("\u200e\u200f\u202a\u202e\u2066\u2069\ufeff")
    assert key_of(name) == key


@given(st.text(st.characters(codec="utf-8")))
@example("100%25.jpg")
@example("%2F.jpg")
def test_any_name_is_found_by_the_path_made_of_it(filename: str) -> None:
    """Whether or not the server decodes the path before it hands it over."""
    try:
        image_id = image_id_of(key_of(filename))
    except InvalidRequest:
        return
    assert image_id in image_ids_of(quote(filename, safe=""))
    if unquote(filename) == filename:
        assert image_id in image_ids_of(filename)


@pytest.mark.parametrize("name", ["a" * 255 + ".jpg", "é" * 128, "🦊" * 64])
def test_name_that_is_too_long_is_refused_with_both_numbers(name: str) -> None:
    """Bytes count, not letters: that is what file systems keep."""
    with pytest.raises(InvalidRequest, match=rf"has {len(name.encode())} bytes.*limit of 255"):
        key_of(name)


def test_longest_name_is_taken() -> None:
    """255 bytes are within the limit."""
    assert key_of("é" * 127 + "x") == "uploads/" + "é" * 127 + "x"


def test_name_that_is_no_unicode_is_refused() -> None:
    """Half of a surrogate pair, which JSON can carry, is no letter."""
    with pytest.raises(InvalidRequest, match="not valid Unicode"):
        key_of("a\ud800.jpg")


def test_letters_are_composed() -> None:
    """The same name is the same image, on a Mac and elsewhere."""
    assert key_of("Cafe\u0301.jpg") == key_of("Caf\u00e9.jpg")


def test_path_can_mean_several_images_in_an_order() -> None:
    """What the path says as it stands comes first, then what it says decoded."""
    assert image_ids_of("a%20b.jpg") == (
        image_id_of("uploads/a%20b.jpg"),
        image_id_of("uploads/a b.jpg"),
    )
    assert image_ids_of("cat.jpg") == (image_id_of("uploads/cat.jpg"),)
