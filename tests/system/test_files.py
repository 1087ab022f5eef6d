"""Files are complete under their names, or absent; a write that fails leaves nothing behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mappo.system.files import write_text


def test_a_file_has_its_text_and_nothing_stands_beside_it(tmp_path: Path):
    write_text(tmp_path / "page.html", ["first, ", "second"])
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("page.html", "first, second")]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_write_that_fails_leaves_the_former_file_alone(error: type[BaseException], tmp_path: Path):
    def parts() -> Iterator[str]:
        yield "half"
        raise error

    (tmp_path / "page.html").write_text("former")
    with pytest.raises(error):
        write_text(tmp_path / "page.html", parts())
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("page.html", "former")]


def test_a_folder_under_the_name_stays_and_the_error_is_of_the_write(tmp_path: Path):
    (tmp_path / "page.html").mkdir()
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path / "page.html", "text")
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(FileNotFoundError) as found:
        write_text(tmp_path / "nowhere" / "page.html", "text")
    assert found.value.__context__ is None, "no error of the removal"
