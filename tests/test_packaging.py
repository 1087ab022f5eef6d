"""Installation: the targets of the Makefile with a pip that only takes notes, and the wheel."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import mappo
from paths import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
# Stands for .venv/bin/python: writes its arguments into a file, and has no index of CPU builds if $OFFLINE is set.
PYTHON = """#!/bin/sh
case "$*" in *version_info*|*"pip --version"*) exit 0;; esac
echo "$*" >> notes
case "$*" in *--index-url*) test -z "$OFFLINE";; esac
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout whose .venv only takes notes."""
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name, text in {"python": PYTHON, "mappo": "#!/bin/sh\n", "pytest": "#!/bin/sh\n"}.items():
        (tmp_path / ".venv/bin" / name).write_text(text)
        (tmp_path / ".venv/bin" / name).chmod(0o755)
    return tmp_path


def make(folder: Path, *words: str, **environment: str) -> list[str]:
    """Run make on a machine with Linux's name and without a GPU; return what pip was asked for."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "uname").write_text("#!/bin/sh\necho Linux\n")
    (tools / "uname").chmod(0o755)
    path = f"{tools}{os.pathsep}/usr/bin{os.pathsep}/bin"
    (folder / "notes").write_text("")
    subprocess.run(["make", *words], cwd=folder, env={"PATH": path, **environment}, check=True, capture_output=True)
    lines = (folder / "notes").read_text().splitlines()
    return [
        re.sub(r"-m pip |--no-compile |--quiet |--disable-pip-version-check |-c constraints.txt ", "", line)
        for line in lines
    ]


TORCH = next(line for line in (ROOT / "constraints.txt").read_text().split() if line.startswith("torch=="))
CPU = f"install --no-deps --retries 0 --timeout 15 --index-url https://download.pytorch.org/whl/cpu {TORCH}"
needs_no_gpu = pytest.mark.skipif(Path("/usr/bin/nvidia-smi").exists(), reason="make finds the GPU of this machine")


@needs_no_gpu
def test_a_training_installs_what_it_needs_and_the_tests_the_rest(folder: Path):
    assert make(folder, "train") == [CPU, f"install {TORCH}", "install -e .[mpe]"]
    assert make(folder, "train") == []
    assert make(folder, "test") == ["install -e .[dev]"]
    assert make(folder, "test", "train") == []
    assert make(folder, "gpl") == ["install -e .[vmas]"]


@needs_no_gpu
def test_an_index_that_cannot_be_reached_leaves_the_default_one(folder: Path):
    assert make(folder, "train", OFFLINE="1") == [CPU, f"install {TORCH}", "install -e .[mpe]"]
    assert (folder / ".venv/.cuda-0").exists()


def test_the_build_of_torch_is_chosen_once_and_changed_by_hand(folder: Path):
    both = [f"install {TORCH}", "install -e .[mpe]"]
    assert make(folder, "train", "CUDA=1") == both
    assert make(folder, "train") == []
    assert make(folder, "train", "CUDA=0") == ["uninstall --yes torch", CPU, *both]
    assert make(folder, "train", "CUDA=0", CUDA="/usr/local/cuda") == []
    assert make(folder, "train", "CUDA=1") == ["uninstall --yes torch", *both]
    assert make(folder, "install", CUDA="/usr/local/cuda") == ["install -e .[dev]"]


def test_the_default_index_can_be_asked_for(folder: Path):
    assert make(folder, "train", "TORCH_INDEX=") == [f"install {TORCH}", "install -e .[mpe]"]


def test_nothing_under_the_gpl_is_installed_unasked():
    """Of the packages that mappo names, vmas is the only one under the GPL."""
    wanted = [*PROJECT["project"]["dependencies"], *(x for name in EXTRAS if name != "vmas" for x in EXTRAS[name])]
    assert not [text for text in wanted if "vmas" in text]
    assert any("vmas" in text for text in EXTRAS["vmas"])


def test_the_dockerfile_copies_what_the_context_has():
    context = (ROOT / ".dockerignore").read_text().split()
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    names = " ".join(copied).split()
    assert names
    assert context[0] == "**"
    for name in names:
        assert (ROOT / name).exists()
        assert f"!{name}" in context


@pytest.mark.slow
def test_the_wheel_holds_every_file_and_runs_alone(tmp_path: Path):
    """From a copy, since a build leaves folders behind; beside the packages of this environment."""
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "src", source / "src", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"mappo-{mappo.__version__}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {str(f.relative_to(ROOT / "src")) for f in (ROOT / "src/mappo").rglob("*") if f.is_file()}
    assert {name for name in files if "__pycache__" not in name} <= names
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    tiny = ["--run.total-steps", "512", "--run.eval-episodes", "2", "--run.score-episodes", "2", "--env.num-envs", "4"]
    script = (
        "import sys, mappo; from mappo.cli.main import entry; print(mappo.__file__); sys.argv[0] = 'mappo'; entry()"
    )
    command = [sys.executable, "-P", "-c", script, "train", "probe/signal", *tiny, "--run.dir", "run"]
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"} | {"PYTHONPATH": str(site)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == str(site / "mappo/__init__.py")
    assert json.loads((tmp_path / "run/config.json").read_text())["mappo"] == mappo.__version__
    assert (tmp_path / "run/curve.png").exists()
