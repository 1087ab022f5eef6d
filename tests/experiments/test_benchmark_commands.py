"""Every command of the benchmarks' pages runs, shortened, or stands below with the reason why not."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pages import SHELL, blocks, commands
from paths import PYTHONPATH, ROOT

PAGES = sorted((ROOT / "benchmarks").rglob("*.md"))
# Options that shorten a script.
SHORTER = {
    "reading.py": "--envs 1 --steps 20 --blocks 2",
    "twins.py": "--twins foraging/Foraging-8x8-2p-2f-coop-v3 --envs 8 --steps 64 --blocks 2",
    "speed.py": "--recipes plain --rounds 1 --updates 1 --check-steps 100000",
    "variants.py": "--only bf16 --rounds 1",
    "pool.py": "--envs 4 --steps 200 --rounds 1",
    "time_to_score.py": "--seeds 1 --episodes 2 -- --run.total-steps 6400 --run.score-episodes 0",
    "scaling.py": "--most 4 --seconds 0",
    "gpu.py": "--device cpu --envs 2 --rounds 1 --learn-envs 2 --steps 100",
    "deploy.py": "--rounds 1",
}
OTHERS = "installs other libraries; tests/experiments/test_peers.py has its parts"
NOT_RUN = {
    "pip install supersuit": "installs a package from an index, for a single row of a table",
    "python benchmarks/peers/install.py jax --place ../peers": OTHERS,
    "python benchmarks/peers/run.py --place ../peers --only jax": OTHERS,
    "python benchmarks/peers/install.py jax torchrl --place ../peers": OTHERS,
    "python benchmarks/peers/run.py --place ../peers --only jax torchrl": OTHERS,
    "python benchmarks/peers/run.py --place ../peers --tables full --check 640000": OTHERS,
    "../peers/jax/bin/python benchmarks/peers/jax_check.py": OTHERS,
}


def all_commands() -> list[str]:
    found = [block for page in PAGES for block in blocks(page.read_text("utf-8")) if block.language in SHELL]
    return [command for block in found for command in commands(block.text)]


def test_commands_that_are_not_run_are_on_a_page():
    assert set(NOT_RUN) <= set(all_commands())


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in all_commands() if command not in NOT_RUN])
def test_a_command_runs(command: str, tmp_path: Path):
    """In a copy of the folder: the scripts add rows to its tables."""
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    python, script, *options = shlex.split(command)
    assert python == "python"
    words = [script, *options, *SHORTER[Path(script).name].split()]
    environment = os.environ | {"PYTHONPATH": PYTHONPATH}
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert done.stdout
