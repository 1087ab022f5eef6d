"""Whether a run still learns: numbers that are too large overflow, and what is left of them teaches nothing."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mappo.algorithms.mappo import MAPPO
from mappo.config import Config
from mappo.core.timestep import Rollout
from mappo.training.trace_nonfinite import trace_nonfinite

PATIENCE, FAR = 5, 3  # updates in a row
TOLD = 3  # skipped updates of each seed
MOST_EVALUATED, SOON = 0.5, 20.0  # of a run's time; and seconds, before which starts weigh too much
LARGE_KL = 0.5
LARGE_OBS, LARGE_REWARD, LARGE_VALUE = 100.0, 1e6, 1e10


class Diagnostics:
    """Looks at each update of a run.

    A critic that reads large numbers answers large values; returns are made of these values, and the statistics that
    normalise them follow: each update multiplies both. Once their squares overflow, advantages are divided by an
    infinite deviation; once they do so themselves, every gradient step is skipped. Neither ends by itself.
    """

    def __init__(self, config: Config) -> None:
        self.config, self._empty, self._far, self._advised = config, 0, 0, False
        self._normalized = config.network.obs_norm or config.network.layer_norm

    def check_first(self, rollout: Rollout) -> str:
        """What to know of the first rollout; empty if there is nothing."""
        seen = _largest_obs(rollout)
        if seen <= LARGE_OBS or self._normalized:
            return ""
        return (
            f"Observations go up to {seen:.4g}, from which networks learn badly: divide them in the environment, or "
            f"give --network.obs-norm"
        )

    def advise(self, metrics: Mapping[str, float]) -> str:
        """What to do about a policy that moves too far at once; empty but once in a run."""
        self._far = self._far + 1 if metrics["approx_kl"] > LARGE_KL else 0
        if self._far < FAR or self._advised:
            return ""
        self._advised = True
        return (
            f"the policy moved far in each of the last {FAR} updates: the approximate KL is "
            f"{metrics['approx_kl']:.3g}, where 0.01 is usual. A smaller --ppo.actor-lr, fewer --ppo.epochs, or "
            f"--ppo.target-kl 0.05 keep it near"
        )

    def check(self, rollout: Rollout, metrics: Mapping[str, float], spoilt: str = "") -> str:
        """Why the run cannot go on; empty if it can.

        Args:
            spoilt: what in the rollout is not finite, for which its update was skipped.
        """
        skipped = metrics["skipped_steps"] >= metrics["epochs"] * self.config.ppo.minibatches
        # Not a number: infinity over infinity, or 0 over 0 where all returns are alike.
        infinite = math.isnan(metrics["explained_variance"]) and not abs(metrics["value"]) < LARGE_VALUE
        self._empty = self._empty + 1 if skipped or infinite else 0
        if self._empty < PATIENCE:
            return ""
        if spoilt:
            return f"nothing was learned in the last {PATIENCE} updates: {spoilt}"
        seen, paid = _largest_obs(rollout), _largest(rollout.reward)
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


def _largest_obs(rollout: Rollout) -> float:
    """The largest number that an agent, or a critic by the state, reads; bytes are divided by 255."""
    there = rollout.active.reshape(*rollout.active.shape, *(1,) * (rollout.obs.ndim - rollout.active.ndim))
    return max(_largest(torch.where(there, rollout.obs, 0)), _largest(rollout.state))


def _largest(x: Tensor | None) -> float:
    return 0.0 if x is None or x.dtype in (torch.uint8, torch.bool) else float(x.abs().max())


class SeedDiagnostics:
    """Those of seeds side by side.

    Args:
        config: of each. seeds: of the runs.
    """

    def __init__(self, config: Config, seeds: Sequence[int]) -> None:
        self.config, self.seeds = config, seeds
        self._watches, self._lost, self._traced = [Diagnostics(config) for _ in seeds], set[int](), set[int]()
        self._skipped = [0] * len(seeds)
        self._evaluated, self._timed = 0.0, False

    def check_evaluation_time(self, seconds: float, elapsed: float) -> str:
        """Told how long each evaluation took, of all the time until then: what to do if most goes there; once."""
        self._evaluated += seconds
        if self._timed or elapsed < SOON or self._evaluated < MOST_EVALUATED * elapsed:
            return ""
        self._timed, episodes = True, self.config.run.eval_episodes
        least = max(self.config.run.eval_interval, self.config.steps_per_update)  # there is one an update at most
        fewer = f", or --run.eval-episodes fewer than {episodes}" if episodes > 1 else ""
        return (
            f"evaluations took {self._evaluated / elapsed:.0%} of the time: give --run.eval-interval more than "
            f"{least:,} steps{fewer}"
        )

    def check_first(self, rollout: Rollout) -> str:
        """As `Diagnostics.check_first`."""
        return self._watches[0].check_first(rollout)

    def check(
        self,
        agents: Sequence[MAPPO],
        rollouts: Sequence[Rollout],
        metrics: Sequence[Mapping[str, float]],
        spoilt: Sequence[str],
    ) -> tuple[list[str], str]:
        """After an update: what to tell the user, and why the run cannot go on; empty if it can.

        Args:
            agents, rollouts: of each seed. metrics: of its update. spoilt: what in the rollout is not finite.
        """
        notes, end, ended, why = list[str](), "", list[str](), ""
        for k, (rollout, own, told) in enumerate(zip(rollouts, metrics, spoilt, strict=True)):
            if k in self._lost:
                continue
            whose = f" of seed {self.seeds[k]}" if len(self.seeds) > 1 else ""
            if told:
                self._skipped[k] += 1
                if self._skipped[k] <= TOLD:
                    more = "; further ones are not told, but have no epochs in metrics.csv"
                    notes.append(f"the update{whose} is skipped: {told}{more if self._skipped[k] == TOLD else ''}")
            if own["skipped_steps"]:
                notes.append(f"{own['skipped_steps']:.0f} gradient steps{whose} were not finite, and are skipped")
                if k not in self._traced and (where := trace_nonfinite(agents[k], rollout)):
                    notes[-1] += f": {where}"
                self._traced.add(k)
                if self.config.run.on_nonfinite == "stop":
                    end = f"{notes.pop()}, and the run stops, for run.on-nonfinite is stop"
            if advice := self._watches[k].advise(own):
                notes.append(f"{advice}{whose and f' ({whose.strip()})'}")
            if lost := self._watches[k].check(rollout, own, told):
                self._lost.add(k)
                why = lost
                ended.append(f"seed {self.seeds[k]}: {lost}. The other seeds go on")
        if ended and len(self._lost) == len(self.seeds):
            return notes, why
        return notes + ended, end
