"""What the demo makes of the paths it is given."""

from pathlib import Path

import pytest

from localcloud.demo import find_files, sample_photos, split_paths


def test_one_path_with_spaces_needs_no_quotes(tmp_path: Path) -> None:
    """A folder that is there is taken as it is named, whatever is in its name."""
    folder = tmp_path / "it's my folder"
    folder.mkdir()
    assert split_paths(str(folder)) == [folder]


def test_several_paths_may_be_quoted_and_have_wildcards(tmp_path: Path) -> None:
    """Words are split as a shell does; one that matches nothing is kept, to be reported."""
    for name in ("a 1.jpg", "a 2.jpg", "b.png"):
        (tmp_path / name).touch()
    paths = split_paths(f"'{tmp_path}/a 1.jpg' {tmp_path}/*.png {tmp_path}/none.jpg")
    assert paths == [tmp_path / "a 1.jpg", tmp_path / "b.png", tmp_path / "none.jpg"]
    assert split_paths("  ") == []


def test_files_of_a_folder_keep_their_path_below_it(tmp_path: Path) -> None:
    """Subfolders become part of the key, so that equal names do not clash."""
    (tmp_path / "sub").mkdir()
    for name in ("cat.jpg", "sub/cat.jpg"):
        (tmp_path / name).touch()
    assert [key for _, key in find_files([tmp_path])] == [
        "uploads/cat.jpg",
        "uploads/sub/cat.jpg",
    ]


def test_same_name_from_two_folders_gets_a_number(tmp_path: Path) -> None:
    """No file replaces another of the same run."""
    paths = [tmp_path / "a" / "cat.jpg", tmp_path / "b" / "cat.jpg"]
    assert [key for _, key in find_files(paths)] == ["uploads/cat.jpg", "uploads/cat (2).jpg"]


@pytest.mark.parametrize("path", sample_photos(), ids=lambda path: path.name)
def test_sample_photographs_are_there(path: Path) -> None:
    """The package that ships the default photographs still does."""
    assert path.stat().st_size > 50_000
