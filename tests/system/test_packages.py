import sys
from importlib import metadata
from pathlib import Path

import pytest

from mappo.system.packages import install_command, pip_install


@pytest.fixture(autouse=True)
def fresh() -> None:
    install_command.cache_clear()


def test_a_command_names_the_packages_of_an_extra(monkeypatch: pytest.MonkeyPatch):
    requires = ["numpy>=2", 'rware<3,>=2; extra == "rware"', "six; extra == 'rware'", 'x>1; extra == "rware2"']
    monkeypatch.setattr(metadata, "requires", lambda _: requires)
    assert install_command("rware").endswith(" install 'rware<3,>=2' six")


def test_without_an_installation_the_checkout_is_named(monkeypatch: pytest.MonkeyPatch):
    def missing(_: str) -> list[str]:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "requires", missing)
    root = Path(__file__).parents[2]
    assert (root / "pyproject.toml").exists()
    assert install_command("lbf").endswith(f" install '{root}[lbf]'")


def test_pip_is_that_of_the_running_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    own, other = tmp_path / "own", tmp_path / "other"
    for folder in (own, other):
        folder.mkdir()
        (folder / "pip").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(own / "python"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(own))
    assert pip_install("a>=1") == "pip install 'a>=1'"
    monkeypatch.setenv("PATH", str(other))
    assert pip_install("a", "b") == "own/python -m pip install a b"
    monkeypatch.chdir(other)
    assert pip_install("a") == f"{own}/python -m pip install a"
