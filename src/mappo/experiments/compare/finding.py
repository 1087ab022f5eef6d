"""Run directories by names, patterns and folders. Loads no torch."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mappo.config import Config
from mappo.errors import UserError
from mappo.runs.config_json import read_run_settings
from mappo.runs.names import seed_paths
from mappo.system.safe_read import quote

# Folders below a folder of runs, as in a sweep's folder: runs/STUDY/trial-0001.
_DEPTH = 3


@dataclass(frozen=True)
class FoundRun:
    """A run directory with readable settings."""

    path: Path
    env: str
    config: Config
    label: str = ""
    """Name of a group, given by the user."""

    @property
    def seeds(self) -> list[tuple[int, Path]]:
        """Return each seed with its directory."""
        return list(zip(self.config.run.all_seeds, seed_paths(self.path, self.config), strict=True))


@dataclass
class Findings:
    """Runs in the order of their names, and the errors of damaged runs."""

    runs: list[FoundRun] = field(default_factory=list[FoundRun])
    problems: list[str] = field(default_factory=list[str])


def find_runs(words: Sequence[str | Path]) -> Findings:
    """Return the runs that paths, patterns or folders name; a run named twice counts once.

    Args:
        words: run directories, folders with runs in them, or patterns such as `runs/spread-*`. `LABEL=PATH` names the
            group of the runs.

    Raises:
        UserError: a word names nothing.
    """
    found = Findings()
    known: set[Path] = set()
    for word in words:
        label, name = _split_label(str(word))
        paths = _matches(name)
        directories = [run for path in paths for run in _directories(path, _DEPTH)]
        if not directories:
            where = f"{quote(name)} is not a run directory, and holds none" if paths else f"there is no {quote(name)}"
            raise UserError(f"{where}: name run directories, folders of runs or patterns, such as runs/spread-*")
        for path in directories:
            if path.resolve() not in known:
                known.add(path.resolve())
                _add(found, path, label)
    return found


def _split_label(word: str) -> tuple[str, str]:
    """Return label and path of `LABEL=PATH`; a path that exists is a path."""
    label, equals, path = word.partition("=")
    is_labelled = bool(equals and label and path) and "/" not in label and not os.path.lexists(word)
    return (label, path) if is_labelled else ("", word)


def _matches(name: str) -> list[Path]:
    if os.path.lexists(name):
        return [Path(name)]
    return [Path(match) for match in sorted(glob.glob(name)) if os.path.isdir(match)]


def _directories(path: Path, depth: int) -> Iterator[Path]:
    """Yield the run directories in a folder, or the folder itself."""
    if (path / "config.json").exists():
        yield path
    elif depth and path.is_dir():
        with os.scandir(path) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        for name in names:
            yield from _directories(path / name, depth - 1)


def _add(found: Findings, path: Path, label: str) -> None:
    try:
        env, config, _ = read_run_settings(path)
    except UserError as error:
        found.problems.append(str(error))
    else:
        found.runs.append(FoundRun(path, env, config, label))
