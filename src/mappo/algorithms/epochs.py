"""The update loop: epochs over a rollout, for a single learner or for several at once."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from mappo.algorithms.minibatch import Batch
from mappo.backend.cuda_graphs import Graphed, addresses
from mappo.config import Config
from mappo.core.timestep import Rollout

# Metrics of a loss, and of an update, in order; the schedule and the number of epochs follow.
LOSS_METRICS = ("total_loss", "policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")
METRICS = ("value", "explained_variance", *LOSS_METRICS, "grad_norm_actor", "grad_norm_critic", "skipped_steps")


def scalars(numbers_by_name: Mapping[str, float], shape: Sequence[int], device: torch.device) -> dict[str, Tensor]:
    """Return tensors of a shape, filled with the numbers."""
    return {name: torch.full(shape, float(x), device=device) for name, x in numbers_by_name.items()}


def skipped_metrics(extra: Sequence[str], device: torch.device) -> dict[str, Tensor]:
    """Return the metrics of an update without a gradient step; `extra` names those of a user's loss."""
    return scalars({**dict.fromkeys((*METRICS, *extra), math.nan), "skipped_steps": 0.0}, (), device)


class UpdateSteps(Protocol):
    """The steps of an update, for a single learner or for several at once."""

    config: Config

    def prepare(self, rollout: Rollout, recompute: bool = False) -> tuple[Batch, dict[str, Tensor], Any]: ...

    def minibatches(self, batch: Batch, order: Tensor | None) -> Iterable[Batch]: ...

    def gradient_step(self, batch: Batch) -> dict[str, Tensor]: ...

    def finish_update(self, rollout: Rollout, values: Any) -> None: ...


@torch.inference_mode(False)  # turns gradients on: an environment may have turned them off in this process
def learn(
    learner: UpdateSteps, graphed: Graphed | None, rollout: Rollout, orders: Tensor | None
) -> tuple[dict[str, Tensor], int]:
    """Run all epochs on a rollout, as a CUDA graph where `graphed` is given; see `run_epochs`."""
    work = partial(run_epochs, learner, rollout)
    inputs = () if orders is None else (orders,)
    if graphed is None:
        return work(*inputs)
    metrics, epochs = graphed(work, addresses(rollout), *inputs)
    return {name: x.clone() for name, x in metrics.items()}, epochs  # the next replay overwrites its output


def run_epochs(learner: UpdateSteps, rollout: Rollout, orders: Tensor | None = None) -> tuple[dict[str, Tensor], int]:
    """Run all epochs on a rollout.

    Args:
        learner: takes the steps.
        rollout: T steps of E environments.
        orders: the permutation of the rows for each epoch, `(epochs, ..., rows)`; None for a single minibatch.

    Returns:
        Metrics, means over all gradient steps, and the number of epochs.
    """
    ppo = learner.config.ppo
    batch, metrics, values = learner.prepare(rollout)
    steps: list[dict[str, Tensor]] = []
    epoch = 0
    for epoch in range(ppo.epochs):
        if epoch and ppo.recompute_advantages:
            batch, _, values = learner.prepare(rollout, recompute=True)
        order = None if orders is None else orders[epoch]
        epoch_steps = [learner.gradient_step(minibatch) for minibatch in learner.minibatches(batch, order)]
        steps += epoch_steps
        # The comparison waits for the device, which graphs forbid: `Config.allows_graphs`.
        if ppo.target_kl is not None and torch.stack([s["approx_kl"] for s in epoch_steps]).mean() > ppo.target_kl:
            break
    learner.finish_update(rollout, values)
    means = {name: torch.stack([s[name] for s in steps]).mean(0) for name in steps[0]}
    skipped_steps = torch.stack([s["skipped_steps"] for s in steps]).sum(0)
    return metrics | means | {"skipped_steps": skipped_steps}, epoch + 1
