"""The directory of a run: made or found by the first process, for all processes of the run."""

import json
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from mappo.algorithms.mappo import MAPPO
from mappo.backend.ranks import Ranks, Tensors, from_text, to_text
from mappo.config import Config
from mappo.core.spec import Spec
from mappo.errors import LostError, UserError
from mappo.runs.directory import create_seed_runs, open_run, read_run
from mappo.runs.lock import lock_directory
from mappo.runs.names import named_path, seed_paths
from mappo.runs.own_files import holds_only_own_files
from mappo.runs.spec_json import spec_from_dict, spec_to_dict
from mappo.runs.steps import has_checkpoint
from mappo.runs.unbegun import free_name
from mappo.training.init_from import InitFrom


class RunFolder:
    """Directory of a run, and of the seeds that this process trains.

    Args:
        name: name of the environment.
        config: settings of the whole run.
        share: settings of this process, with its seeds.
        ranks: processes with the same seed; the first of them has the files.
        is_first: whether this process is the first of all.
        folder: result of `runs_folder`.
        resume: go on with the run; an error if there is none.
    """

    def __init__(
        self, name: str, config: Config, share: Config, ranks: Ranks, is_first: bool, folder: Path, resume: bool
    ) -> None:
        self._name = name
        self._config = config
        self._own_seeds = share.run.all_seeds
        self._ranks = ranks
        self._is_first = is_first
        self._folder = folder
        self._is_asked = resume
        self._exists = resume
        self._init_from = InitFrom(config, named_path(config, folder))
        self.notes: list[str] = []

    def find(self) -> Spec | None:
        """Return the Spec of the run to go on with; None for a new run."""
        path = named_path(self._config, self._folder)

        def read() -> Tensors:
            is_wanted = self._is_asked or self._config.run.exists == "resume"
            if path is not None and not is_wanted and self._own_seeds == self._config.run.all_seeds:
                free_name(path)
            if path is None or not is_wanted or not (self._is_asked or (path / "config.json").exists()):
                return {}
            return {"spec": from_text(json.dumps(spec_to_dict(read_run(path)[2])))}

        found = self._ranks.from_first(read)
        if not found:
            return None
        self._exists = True
        return spec_from_dict(json.loads(to_text(found["spec"])))

    def open(
        self, num_envs: int, spec: Spec, learners: Sequence[MAPPO], stack: ExitStack
    ) -> tuple[Path, list[Path], bool]:
        """Make or check the directory; load the weights of `run.init_from` into the learners of a new run.

        Args:
            num_envs: number of environments of all processes, for each seed; an environment object has its own.
            spec: the environment's.
            learners: of the seeds of this process.
            stack: holds the locks.

        Returns:
            The directory, the directory of each seed of this process, and True to resume from checkpoints.

        Raises:
            UserError: the directory is of another run, or in use; or `run.init_from` does not fit.
        """
        sources = partial(self._init_from.find, learners[0])

        def make() -> Tensors:
            if len(self._own_seeds) < self._config.run.seeds and not self._is_first:
                self._wait_for_first()
            config = replace(self._config, env=replace(self._config.env, num_envs=num_envs))
            path = open_run(self._name, config, spec, self._exists, self._folder, sources)
            paths = self._own_paths(path)
            if self._exists and self._is_first and not self._is_asked:
                create_seed_runs(path, self._name, config, spec, sources)
            for directory in sorted({path, *paths} if self._is_first else set(paths)):
                stack.enter_context(lock_directory(directory))
            is_begun = self._is_asked or any(map(has_checkpoint, paths))
            if not is_begun and self._exists:
                _clear(paths)
            return {"path": from_text(str(path)), "is_begun": torch.tensor(is_begun)}

        found = self._ranks.from_first(make)
        path = Path(to_text(found["path"]))
        own_paths = self._own_paths(path)
        if not found["is_begun"]:
            self.notes += self._init_from.load(learners, own_paths)
        return path, own_paths, bool(found["is_begun"])

    def _own_paths(self, path: Path) -> list[Path]:
        paths = dict(zip(self._config.run.all_seeds, seed_paths(path, self._config), strict=True))
        return [paths[seed] for seed in self._own_seeds]

    def _wait_for_first(self) -> None:
        """Wait until the first process has made the directories of all seeds."""
        path = named_path(self._config, self._folder)
        if path is None:
            raise UserError("seeds in several processes need a common directory: give --run.name or --run.dir")
        end = time.monotonic() + self._config.run.lost_after
        while not all((seed / "config.json").exists() for seed in seed_paths(path, self._config)):
            if time.monotonic() > end:
                raise LostError(
                    f"the first process has not made {path} within {self._config.run.lost_after:g} s: all processes "
                    f"need a common file system"
                )
            time.sleep(0.1)
        self._exists = True


def _clear(paths: Sequence[Path]) -> None:
    """Remove the records of runs that ended before their first checkpoint: they begin again."""
    for path in paths:
        if not holds_only_own_files(path):
            raise UserError(f"{path} holds no checkpoint, and files that are not mappo's: choose another --run.name")
        for name in ("metrics.csv", "timing.csv", "returns.csv"):
            (path / name).unlink(missing_ok=True)
        for name in ("tensorboard", "checkpoints"):
            shutil.rmtree(path / name, ignore_errors=True)
