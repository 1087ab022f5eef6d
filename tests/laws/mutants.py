"""A proof that the laws' tests can fail: each bug below, put in on purpose, must turn them red.

    python tests/laws/mutants.py [-k NAME] [-l]

Copies the sources and tests to a temporary folder, puts in one bug at a time, and runs the tests that should
notice. Exits 1 if a bug survives, or if the tests are not green without one. A new law adds its bugs to `bugs.py`.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bugs import BUGS, Bug

ROOT = Path(__file__).resolve().parents[2]
GREEN, RED = 10, 11
# The copy is loaded before pytest can find an installed package, and must be the copy.
RUN = f"""
import sys, mappo, pytest
if not mappo.__file__.startswith(sys.argv[1]):
    sys.exit(mappo.__file__ + " is not the copy")
sys.exit({GREEN} + pytest.main(sys.argv[2:]))
"""


def run(copy: Path, tests: list[str]) -> tuple[int, str]:
    """pytest's exit code, counted from `GREEN`, and what it printed."""
    options = ["-p", "no:cacheprovider", "-x", "-q", "--no-header", "--tb=line"]
    environment = os.environ | {
        "PYTHONPATH": str(copy / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",  # or a bug of the same length, put in within a second, goes unnoticed
        "CI": "1",  # the same examples each time
    }
    command = [sys.executable, "-c", RUN, str(copy), *options, *[f"tests/{name}" for name in tests]]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def copied(to: Path) -> Path:
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "pyproject.toml", to)
    return to


def check(bug: Bug, copy: Path) -> str:
    """Puts the bug in, runs its tests, takes it out. Gives "red", or what went wrong."""
    path = copy / "src" / "mappo" / bug.file
    clean = path.read_text(encoding="utf-8")
    if clean.count(bug.old) != 1:
        return f"NOT FOUND ONCE: {clean.count(bug.old)} times in {bug.file}: {bug.old!r}"
    try:
        path.write_text(clean.replace(bug.old, bug.new), encoding="utf-8")
        code, output = run(copy, bug.tests.split())
    finally:
        path.write_text(clean, encoding="utf-8")
    if code == RED:
        return "red"
    return f"SURVIVED: {bug.tests}" if code == GREEN else f"BROKEN, exit code {code}:\n{output[-2000:]}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Put each bug in, and see the tests of its law turn red.")
    parser.add_argument("-k", metavar="NAME", default="", help="only bugs whose law or name holds this")
    parser.add_argument("-l", action="store_true", help="list the bugs and run nothing")
    arguments = parser.parse_args()
    bugs = [bug for bug in BUGS if arguments.k.lower() in f"law {bug.law}: {bug.name}".lower()]
    if not bugs:
        parser.error(f"no bug is named {arguments.k!r}")
    for bug in bugs if arguments.l else []:
        print(f"{bug.law:>10}  {bug.name}")
    if arguments.l:
        return 0

    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder).resolve())
        code, output = run(copy, sorted({name for bug in bugs for name in bug.tests.split()}))
        print(f"{'law':>10}  {'bug':<52} tests", flush=True)
        print(f"{'-':>10}  {'none':<52} {'green' if code == GREEN else 'NOT GREEN'}", flush=True)
        if code != GREEN:
            print(output)
            return 1
        survivors = 0
        for bug in bugs:
            start = time.monotonic()
            result = check(bug, copy)
            survivors += result != "red"
            seconds = time.monotonic() - start
            print(f"{bug.law:>10}  {bug.name:<52} {result}  ({seconds:.1f} s)", flush=True)
    print(f"{len(bugs) - survivors} of {len(bugs)} bugs turn the tests red")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
