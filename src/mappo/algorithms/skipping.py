"""Updates that some seeds learn nothing from: their rollouts held what is not finite (`run.on_nonfinite`)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mappo.algorithms.mappo import MAPPO
from mappo.algorithms.multi_seed import MultiSeed
from mappo.core.timestep import Rollout

# What an update tells, in order, before the schedule and the number of epochs.
METRICS = (
    *("value", "explained_variance", "total_loss", "policy_loss", "value_loss", "entropy", "approx_kl"),
    *("clip_fraction", "grad_norm_actor", "grad_norm_critic", "skipped_steps"),
)


def learn(learner: MAPPO | MultiSeed, rollout: Rollout, skip: Sequence[bool]) -> dict[str, Tensor]:
    """`update`, but for the seeds that are to skip it: their weights and statistics stay, their schedules go on.

    Returns:
        As `update`; NaN where nothing was learned.
    """
    if not any(skip):
        return learner.update(rollout)
    agents = learner.agents if isinstance(learner, MultiSeed) else [learner]
    if rollout.critic_memory is not None:  # who skips has not moved it along, and begins anew
        rollout.critic_memory.unflatten(0, (len(agents), -1))[torch.tensor(skip, device=learner.device)] = 0
    if isinstance(learner, MultiSeed) and not all(skip):
        return learner.update(rollout, skip)
    nothing = (
        dict.fromkeys(METRICS, math.nan)
        | agents[0].config.schedule(agents[0].updates)
        | {"skipped_steps": 0.0, "epochs": 0.0}
    )
    for agent in agents:
        agent.updates += 1
    shape = (len(agents),) if isinstance(learner, MultiSeed) else ()
    return {name: torch.full(shape, x, device=learner.device) for name, x in nothing.items()}
