"""One seed of a run: its directory, its learner, and what is written of it."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mappo.algorithms.mappo import MAPPO
from mappo.core.seeding import derive_seed
from mappo.core.state_dict import flatten, mismatch, subdict
from mappo.errors import UserError
from mappo.runs import checkpoint
from mappo.runs.checkpoint import Checkpoint
from mappo.runs.logger import RunLogger


class SeedRun:
    """Records and checkpoints of one seed.

    Args:
        path: the seed's own run directory. seed: that of its run. agent: its learner.
        keep_every: steps between checkpoints that stay, see `run.keep_every`.
    """

    def __init__(self, path: Path, seed: int, agent: MAPPO, keep_every: int | None = None) -> None:
        self.path, self.seed, self.agent, self.keep_every = path, seed, agent, keep_every
        self.best, self.saved = -math.inf, -1
        self.best_step: int | None = None
        self.logger: RunLogger

    def start(self) -> None:
        """A new run."""
        self.logger = RunLogger(self.path, seed=self.seed)

    def resume(self, found: Checkpoint) -> tuple[dict[str, Tensor], list[str]]:
        """Sets the learner, and the records, to what they were.

        Returns:
            What the checkpoint holds of the rest, without what another kind of device cannot read; and notes for the
            user.
        """
        told = {"updates": (int,), "device": (str,), "best": (int, float, type(None))}
        if wrong := [k for k, kinds in told.items() if k not in found.state or type(found.state[k]) not in kinds]:
            raise UserError(
                f"{found.path} does not fit {self.path}/config.json: {wrong[0]} in its state.json is missing"
            )
        notes = [f"passed over: {problem}" for problem in found.passed_over]
        tensors = found.trainer
        if found.state["device"] != self.agent.device.type:  # generators of one kind cannot be set on another
            notes.append(f"resumed from {found.state['device']}: random streams and episodes start anew")
            tensors = {k: v for k, v in tensors.items() if k != "generator" and not k.startswith("collector.")}
            self.agent.generator.manual_seed(derive_seed(self.seed, 3, int(found.state["updates"])))
        # Earlier runs of format 2 saved the critic's memory with the episodes. New episodes begin with an empty memory.
        tensors = {"critic_memory" if k == "collector.critic_memory" else k: v for k, v in tensors.items()}
        if "collector.running" not in tensors:
            tensors.pop("critic_memory", None)
        own = {k: v for k, v in {**found.model, **tensors}.items() if not k.startswith("collector.")}
        if difference := mismatch(own, _expected_tensors(self.agent, own), ("generator", "critic_memory")):
            raise UserError(f"{found.path} does not fit {self.path}/config.json: {difference}")
        updates, size = int(found.state["updates"]), self.agent.config.steps_per_update
        if not updates == int(own["updates"]) == int(found.state["step"]) / size:
            raise UserError(f"{found.path} does not fit {self.path}/config.json: it is not of {updates} updates")
        try:
            self.agent.load_state_dict(own)
        except (RuntimeError, TypeError) as error:  # random numbers of no generator
            first = str(error).splitlines()[-1].strip()
            raise UserError(f"{found.path} does not fit {self.path}/config.json: {first}") from None
        self.saved = int(found.state["step"])
        self.best_step = checkpoint.best_step(found)
        # A better one, later than where the run goes on from, may have taken its place and be lost.
        best = None if self.best_step is None else found.state["best"]
        self.best = -math.inf if best is None else float(best)
        self.logger = RunLogger(self.path, seed=self.seed, resume=(int(found.state["updates"]), self.saved))
        # Where the process died between a checkpoint and what it puts out of the way.
        checkpoint.prune(self.path, self.saved, self.best_step, self.keep_every, later=False)
        whole = self.path.parent / "config.json"
        if self.path.name.startswith("seed-") and self.agent.config.run.seeds == 1 and whole.exists():
            notes.append(f"this is one seed of {whole.parent}, which cannot go on as a whole once their steps differ")
        return tensors, notes + self.logger.notes

    def save(self, step: int, result: float, collector: Callable[[], Mapping[str, Tensor]]) -> None:
        """A checkpoint of now, unless there is one."""
        if self.saved == step:
            return
        if result > self.best:
            self.best, self.best_step = result, step
        everything = self.agent.state_dict() | flatten("collector", collector())
        model = {k: v for k, v in everything.items() if k.startswith(("network.", "value_norm."))}
        trainer = {k: v for k, v in everything.items() if k not in model}
        measured = {"best": self.best, "eval_return": result}
        state: dict[str, Any] = {k: v if math.isfinite(v) else None for k, v in measured.items()}
        state |= {"updates": self.agent.updates, "device": self.agent.device.type}
        self.logger.flush()  # what the checkpoint counts as written is
        checkpoint.save(self.path, step, state, model, trainer, self.best_step, self.keep_every)
        self.saved = step


def _expected_tensors(agent: MAPPO, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a checkpoint of it holds: names, shapes and dtypes; of weights that never had a gradient no moments."""
    moments = {
        name: {"step": torch.zeros(()), "exp_avg": weight, "exp_avg_sq": weight}
        for name, weight in agent.network.named_parameters()
        if weight.requires_grad and subdict(given, f"optimizer.{name}")
    }
    return agent.state_dict() | flatten("optimizer", moments)


def load_common_checkpoints(tracks: list[SeedRun]) -> tuple[list[Checkpoint], list[str]]:
    """The last checkpoint of each that is whole, of one and the same step; and notes for the user.

    Raises:
        UserError: one of them has none, or they have no step in common.
    """
    begun = [any((track.path / "checkpoints").glob("[0-9]*")) for track in tracks]
    if any(begun) and not all(begun):
        whole = next(track.path for track, there in zip(tracks, begun, strict=True) if there)
        without = ", ".join(track.path.name for track, there in zip(tracks, begun, strict=True) if not there)
        raise UserError(
            f"{whole.parent}: there is no checkpoint of {without}, so that its seeds cannot go on together (where the "
            f"run ended before the first checkpoint of all, nothing was saved in it yet that all have: delete it, and "
            f"start it again); to go on with another by itself: mappo resume {whole}"
        )
    found = last = [checkpoint.load(track.path) for track in tracks]
    while len(steps := {int(f.state["step"]) for f in found}) > 1:
        # Some were saved once more before the process died, or were gone on with by themselves.
        try:
            found = [checkpoint.load(track.path, until=min(steps)) for track in tracks]
        except UserError:
            where = ", ".join(f"{t.path.name} {int(f.state['step']):,}" for t, f in zip(tracks, last, strict=True))
            raise UserError(
                f"{tracks[0].path.parent}: its seeds have no step in common any more ({where}): go on with each by "
                f"itself, as in mappo resume {tracks[0].path}"
            ) from None
    step = int(found[0].state["step"])
    moved = [(t, int(f.state["step"])) for t, f in zip(tracks, last, strict=True) if int(f.state["step"]) != step]
    return found, [f"seed {t.seed} goes back from step {was:,} to {step:,}, which all have" for t, was in moved]
