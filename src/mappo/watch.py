"""Whether a run still learns: numbers that are too large overflow, and what is left of them teaches nothing."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mappo.config import Config
from mappo.types import Rollout

PATIENCE = 5  # updates in a row
LARGE_OBS, LARGE_REWARD, LARGE_VALUE = 100.0, 1e6, 1e10


class Watch:
    """Looks at each update of a run.

    A critic that reads large numbers answers large values; returns are made of these values, and the statistics that
    normalise them follow: each update multiplies both. Once their squares overflow, advantages are divided by an
    infinite deviation; once they do so themselves, every gradient step is skipped. Neither ends by itself.
    """

    def __init__(self, config: Config) -> None:
        self.config, self._empty = config, 0
        self._normalized = config.network.obs_norm or config.network.layer_norm

    def first(self, rollout: Rollout) -> str:
        """What to know of the first rollout; empty if there is nothing."""
        seen = _seen(rollout)
        if seen <= LARGE_OBS or self._normalized:
            return ""
        return (
            f"Observations go up to {seen:.4g}, from which networks learn badly: divide them in the environment, or "
            f"give --network.obs-norm"
        )

    def look(self, rollout: Rollout, metrics: Mapping[str, float]) -> str:
        """Why the run cannot go on; empty if it can."""
        skipped = metrics["skipped_steps"] >= metrics["epochs"] * self.config.ppo.minibatches
        # Not a number: infinity over infinity, or 0 over 0 where all returns are alike.
        infinite = math.isnan(metrics["explained_variance"]) and not abs(metrics["value"]) < LARGE_VALUE
        self._empty = self._empty + 1 if skipped or infinite else 0
        if self._empty < PATIENCE:
            return ""
        seen, paid = _seen(rollout), _largest(rollout.reward)
        ways: list[str] = []
        if seen > LARGE_OBS and not self._normalized:
            ways.append("with normalised observations (--network.obs-norm, or --network.layer-norm)")
        if paid > LARGE_REWARD:
            ways.append("with smaller rewards (divided by a constant in the environment, they ask for the same)")
        if not ways:
            ways.append("with smaller learning rates (--ppo.actor-lr, --ppo.critic-lr)")
        return (
            f"nothing was learned in the last {PATIENCE} updates, for their numbers overflow: observations go up to "
            f"{seen:.4g}, rewards to {paid:.4g}, and the critic's mean value is {metrics['value']:.4g}. Start another "
            f"run {', and '.join(ways)}; metrics.csv shows where it began"
        )


def _seen(rollout: Rollout) -> float:
    """The largest number that an agent, or a critic by the state, reads; bytes are divided by 255."""
    there = rollout.active.reshape(*rollout.active.shape, *(1,) * (rollout.obs.ndim - rollout.active.ndim))
    return max(_largest(torch.where(there, rollout.obs, 0)), _largest(rollout.state))


def _largest(x: Tensor | None) -> float:
    return 0.0 if x is None or x.dtype in (torch.uint8, torch.bool) else float(x.abs().max())
