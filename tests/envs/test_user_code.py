"""A user's own environment by `module:function`: what is wrong with the name, or with what it makes, is told."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from games import Game
from mappo.cli import main as cli
from mappo.core.user_code import split_name
from mappo.envs import make
from mappo.errors import UserError
from paths import PYTHONPATH
from vectorized import from_factory

CODE = """
from games import Game
def needs(size, speed, *, horizon=7, **rest): return Game(horizon)
def keyword(*, size): return Game(size)
def nothing(): pass
def many(num_envs, size): pass
def fine(horizon=7, *others): return Game(horizon)
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "code_of_mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine:", "'mine:' names no function: write module:function, such as mine:make_env"),
        (":Mine", "':Mine' names no module: write module:function, such as my_module:Mine"),
        (":", "':' names no module: write module:function, such as my_module:make_env"),
        ("mine::Mine", "'mine::Mine' has more than one colon"),
        ("mine.py:Mine", "'mine.py:Mine' names a file: .*: write mine:Mine$"),
        ("./mine:Mine", "names a file: .*: write mine:Mine$"),
        ("./:Mine", "names a file: .*: write my_module:Mine$"),
        ("games/mine.py:Mine", "names a file: .*: write games.mine:Mine$"),
        ("games\\mine.py:Mine", "names a file: .*: write games.mine:Mine$"),
        ("/home/me/mine.py:Mine", r"names a file: .*: go to its folder \(/home/me\) and write mine:Mine$"),
        ("../mine:Mine", r"names a file: .*: go to its folder \(\.\.\) and write mine:Mine$"),
    ],
)
def test_a_name_that_is_none_is_told_how_it_is_written(name: str, message: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(UserError, match=message):
        make(name, 1)
    assert cli.main(["check", name]) == 2
    assert capsys.readouterr().err.startswith("mappo: ")


def test_names_that_are_some_are_left_as_they_are():
    for name in ("mine:Mine", "package.mine:Mine.make", "my-module:make"):
        assert ":".join(split_name(name)) == name


def test_parameters_that_nobody_gives_are_named():
    message = (
        r"needs cannot be called without size, speed: give --env.options size=VALUE speed=VALUE "
        r"\(to mappo check --options size=VALUE speed=VALUE\), or write defaults"
    )
    with pytest.raises(UserError, match=message):
        make("code_of_mine:needs", 2)
    with pytest.raises(UserError, match=r"without speed: give --env\.options speed=VALUE "):
        make("code_of_mine:needs", 2, options={"size": 1})
    with pytest.raises(UserError, match="without size: "):
        make("code_of_mine:keyword", 2)
    with pytest.raises(UserError, match="many cannot be called without size: "):
        make("code_of_mine:many", 2)
    assert make("code_of_mine:needs", 2, options={"size": 1, "speed": 2}).num_envs == 2
    assert make("code_of_mine:fine", 2).num_envs == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_a_function_that_returns_nothing_is_told_so(workers: int):
    for num_envs in (1, 2):
        with pytest.raises(UserError, match="returned None; return the environment"):
            make("code_of_mine:nothing", num_envs, workers=workers)


def test_environments_may_be_equal_to_none():
    class Equal(Game):
        __hash__ = Game.__hash__

        def __eq__(self, other: object) -> Any:
            raise ValueError("the truth value of an environment is ambiguous")

    assert from_factory(Equal, 2).num_envs == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "the function that makes environments returned None"),
        ("needs", "code_of_mine:needs cannot be called without size, speed"),
        ("many", "code_of_mine:many is batched (it takes num_envs), and only single environments can be checked"),
    ],
)
def test_a_check_says_so_too(name: str, message: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["check", f"code_of_mine:{name}"]) == 2
    out, err = capsys.readouterr()
    assert message in " ".join((out + err).split())


def test_the_current_folder_comes_last_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "another"
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = [*sys.path]
    make("code_of_mine:fine", 1)
    assert sys.path == [*path, str(folder)]
    sys.path.remove(str(folder))


@pytest.mark.slow
def test_modules_of_the_current_folder_do_not_replace_those_of_python(tmp_path: Path):
    """Consent was given to one module alone: neither the command nor its workers import another one from there."""
    (tmp_path / "mine.py").write_text("import statistics\nfrom games import Game\n")
    for name in ("statistics", "colorsys"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the folder was imported')\n")
    code = (
        "from mappo.envs import make\n"
        "env = make('mine:Game', 2, workers=1)\n"
        "env.reset(0); env.close()\n"
        "import colorsys, sys; print(sys.path.index(sys.argv[1]) == len(sys.path) - 1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, tmp_path],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_function_that_is_missing_is_told_with_the_file_it_was_looked_for_in():
    with pytest.raises(UserError, match=r"code_of_mine \(.*code_of_mine\.py\) has no 'fin'; did you mean 'fine'\?"):
        make("code_of_mine:fin", 2)
    with pytest.raises(UserError, match=r"sys \(built into Python\) has no 'make_env'"):
        make("sys:make_env", 2)
