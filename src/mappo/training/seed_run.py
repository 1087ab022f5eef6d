"""A single seed of a run: its directory, its learner, its logs and checkpoints. The session runs all seeds."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from mappo.algorithms.mappo import MAPPO
from mappo.backend import matmul
from mappo.core.seeding import derive_seed
from mappo.core.state_dict import flatten, mismatch, subdict
from mappo.errors import UserError
from mappo.runs import checkpoint
from mappo.runs.checkpoint import Checkpoint
from mappo.runs.logger import RunLogger, Update
from mappo.runs.retention import prune
from mappo.runs.steps import has_checkpoint
from mappo.system.files import shell_path
from mappo.training.rank_states import gather_states, is_own, num_processes, pack, state_of, unpack


class SeedRun:
    """Learner, logs and checkpoints of a seed.

    Args:
        path: run directory of the seed.
        seed: seed of the run.
        agent: learner of the seed.
    """

    def __init__(self, path: Path, seed: int, agent: MAPPO) -> None:
        self.path = path
        self.seed = seed
        self.agent = agent
        self.keep_every = agent.config.run.keep_every  # steps between permanent checkpoints
        self.best = -math.inf
        self.best_step: int | None = None
        self.saved_step = -1
        self.library: matmul.Library = matmul.best_library()
        self.ranks = agent.ranks
        self.logger: RunLogger  # of the first process alone

    def start(self) -> None:
        """Begin the logs of a new run."""
        if not self.ranks.rank:
            self.logger = RunLogger(self.path, seed=self.seed)

    def log(self, update: Update) -> None:
        """Record an update."""
        if not self.ranks.rank:
            self.logger.write(update)

    def log_returns(self, step: int, returns: Mapping[int, float], agent_means: Sequence[float]) -> None:
        """Record the returns of an evaluation, see `RunLogger.write_returns`."""
        if not self.ranks.rank:
            self.logger.write_returns(self.agent.updates, step, returns, agent_means)

    def close(self) -> None:
        """Close the logs, if there are any."""
        if hasattr(self, "logger"):
            self.logger.close()

    def resume(self, found: Checkpoint) -> tuple[dict[str, Tensor], list[str]]:
        """Restore the learner and the logs from a checkpoint.

        Returns:
            Tensors of the trainer, without random states of another kind of device; notes for the user.

        Raises:
            UserError: the checkpoint is damaged, or of another config.
        """
        state = self._checked_state(found)
        updates = int(state["updates"])
        notes = [f"passed over: {problem}" for problem in found.passed_over]
        trainer = self._own_trainer(found, notes)
        notes += self._keep_library(state.get("products", self.library))
        self._load_agent(found, {**found.model, **trainer}, updates)
        self.saved_step = int(state["step"])
        self.best_step = checkpoint.best_step(found)
        # The best checkpoint may be lost: a better checkpoint, later than the restored step, took its place.
        best = None if self.best_step is None else state["best"]
        self.best = -math.inf if best is None else float(best)
        if self.ranks.rank:
            return trainer, notes
        self.logger = RunLogger(self.path, seed=self.seed, resume=(updates, self.saved_step))
        # The process may have died between writing a checkpoint and removing the checkpoints it replaces.
        prune(self.path, self.saved_step, self.best_step, self.keep_every, later=False)
        parent = self.path.parent / "config.json"
        if self.path.name.startswith("seed-") and self.agent.config.run.seeds == 1 and parent.exists():
            notes.append(
                f"this is one seed of {parent.parent}, which cannot go on as a whole once the steps of its seeds differ"
            )
        return trainer, notes + self.logger.notes

    def _own_trainer(self, found: Checkpoint, notes: list[str]) -> dict[str, Tensor]:
        """Return the trainer's tensors of this process; without random streams that do not fit, with a note."""
        state = found.state
        trainer = state_of(found.trainer, self.ranks.rank)
        former = num_processes(found.trainer)
        other = "" if former == self.ranks.size else f"{former} processes by {self.ranks.size}"
        if state["device"] != self.agent.device.type:  # a generator cannot load the state of another kind of device
            other = state["device"]
        if other:
            notes.append(f"resumed from {other}: random streams and episodes start anew")
            trainer = {k: v for k, v in trainer.items() if not is_own(k)}
            self.agent.generator.manual_seed(derive_seed(self.seed, 3, int(state["updates"]), self.ranks.rank))
        # Earlier runs of format 2 saved the critic's memory with the episodes. New episodes begin with an empty memory.
        trainer = {"critic_memory" if k == "collector.critic_memory" else k: v for k, v in trainer.items()}
        if "collector.running" not in trainer:
            trainer.pop("critic_memory", None)
        return trainer

    def _checked_state(self, found: Checkpoint) -> dict[str, Any]:
        """Return the content of `state.json`, checked for missing entries."""
        kinds = {"updates": (int,), "device": (str,), "best": (int, float, type(None))}
        for name, allowed in kinds.items():
            if type(found.state.get(name, found)) not in allowed:
                raise self._misfit(found, f"{name} in its state.json is missing")
        if found.state.get("products", "mkl") not in get_args(matmul.Library):
            raise self._misfit(found, "products in its state.json must be mkl or onednn")
        return found.state

    def _keep_library(self, library: matmul.Library) -> list[str]:
        """Multiply by the library of the run so far, on another processor too; return notes for the user."""
        if library == "onednn" and not matmul.has_onednn():
            return ["this processor lacks AVX-512, used by the run so far: later numbers differ in their last digits"]
        self.library = library
        return []

    def _load_agent(self, found: Checkpoint, tensors: Mapping[str, Tensor], updates: int) -> None:
        """Load the learner, after a check of names, shapes, dtypes and the number of updates."""
        tensors = {k: v for k, v in tensors.items() if not k.startswith("collector.")}
        if difference := mismatch(tensors, _expected_tensors(self.agent, tensors), ("generator", "critic_memory")):
            raise self._misfit(found, difference)
        step = updates * self.agent.config.steps_per_update
        if not (updates == int(tensors["updates"]) and step == int(found.state["step"])):
            raise self._misfit(found, f"it is not of {updates} updates")
        try:
            self.agent.load_state_dict(tensors)
        except (RuntimeError, TypeError) as error:  # impossible random states
            raise self._misfit(found, str(error).splitlines()[-1].strip()) from None

    def _misfit(self, found: Checkpoint, reason: str) -> UserError:
        return UserError(f"{found.path} does not fit {self.path}/config.json: {reason}")

    def save(self, step: int, result: float, collector: Callable[[], Mapping[str, Tensor]]) -> None:
        """Write a checkpoint, unless this step is already saved.

        Args:
            step: environment steps done.
            result: return of the evaluation at this step, NaN without an evaluation.
            collector: returns the state of the collector.
        """
        if self.saved_step == step:
            return
        if result > self.best:
            self.best = result
            self.best_step = step
        tensors = gather_states(self.agent.state_dict() | flatten("collector", collector()), self.ranks)
        if self.ranks.rank:
            self.saved_step = step
            return
        model = {k: v for k, v in tensors.items() if k.startswith(("network.", "value_norm."))}
        trainer = {k: v for k, v in tensors.items() if k not in model}
        measured = {"best": self.best, "eval_return": result}
        state: dict[str, Any] = {k: v if math.isfinite(v) else None for k, v in measured.items()}
        state |= {"updates": self.agent.updates, "device": self.agent.device.type, "products": self.library}
        self.logger.flush()  # the rows up to a checkpoint must be on the disk before the checkpoint
        checkpoint.save(self.path, step, state, model, trainer, self.best_step, self.keep_every)
        self.saved_step = step


def _expected_tensors(agent: MAPPO, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return names, shapes and dtypes of an agent's checkpoint; weights never trained have no Adam moments."""
    moments = {
        name: {"step": torch.zeros(()), "exp_avg": weight, "exp_avg_sq": weight}
        for name, weight in agent.network.named_parameters()
        if weight.requires_grad and subdict(tensors, f"optimizer.{name}")
    }
    return agent.state_dict() | flatten("optimizer", moments)


def resume_seed_runs(seed_runs: Sequence[SeedRun]) -> tuple[Path, list[dict[str, Tensor]], list[str]]:
    """Restore all seeds from their last common checkpoints.

    Returns:
        The checkpoint of the first seed, the collector's state of each seed, and notes for the user.

    Raises:
        UserError: a checkpoint is missing, damaged or of another config.
    """
    ranks = seed_runs[0].ranks
    checkpoints, notes = unpack(ranks.from_first(lambda: pack(*load_common_checkpoints(seed_runs))))
    collector_states: list[dict[str, Tensor]] = []
    for seed_run, found in zip(seed_runs, checkpoints, strict=True):
        trainer, seed_notes = seed_run.resume(found)
        notes += seed_notes
        collector_states.append(subdict(trainer, "collector"))
    return checkpoints[0].path, collector_states, list(dict.fromkeys(notes))


def load_common_checkpoints(seed_runs: Sequence[SeedRun]) -> tuple[list[Checkpoint], list[str]]:
    """Load the last intact checkpoint of the same step of each seed.

    Returns:
        The checkpoints in the order of the seeds, and notes for the user.

    Raises:
        UserError: a seed has no checkpoint, or the seeds have no step in common.
    """
    _check_all_begun(seed_runs)
    last = [checkpoint.load(seed_run.path) for seed_run in seed_runs]
    found = last
    while len(steps := {int(f.state["step"]) for f in found}) > 1:
        # The process died while it saved the seeds, or some seeds were continued by themselves.
        try:
            found = [checkpoint.load(seed_run.path, until=min(steps)) for seed_run in seed_runs]
        except UserError:
            pairs = zip(seed_runs, last, strict=True)
            steps_text = ", ".join(f"{run.path.name} {int(f.state['step']):,}" for run, f in pairs)
            raise UserError(
                f"{seed_runs[0].path.parent}: its seeds have no step in common any more ({steps_text}): go on with "
                f"each by itself, as in mappo resume {shell_path(seed_runs[0].path)}"
            ) from None
    step = int(found[0].state["step"])
    notes: list[str] = []
    for seed_run, former in zip(seed_runs, last, strict=True):
        if former.state["step"] != step:
            notes.append(
                f"seed {seed_run.seed} goes back from step {int(former.state['step']):,} to {step:,}, which all have"
            )
    return found, notes


def _check_all_begun(seed_runs: Sequence[SeedRun]) -> None:
    """Raise `UserError` if some seeds have a checkpoint and others have none."""
    begun = [run for run in seed_runs if has_checkpoint(run.path)]
    missing = ", ".join(run.path.name for run in seed_runs if run not in begun)
    if begun and missing:
        path = begun[0].path
        raise UserError(
            f"{path.parent}: there is no checkpoint of {missing}, so its seeds cannot go on together. If the run "
            f"ended before the first checkpoint of all seeds, delete it and start it again; to continue a single seed: "
            f"mappo resume {shell_path(path)}"
        )
