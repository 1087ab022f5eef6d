"""Checks of each update for signs of bad or no learning, with advice. The session shows the notes."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mappo.algorithms.mappo import MAPPO
from mappo.config import Config
from mappo.core.spec import Spec
from mappo.core.timestep import Rollout
from mappo.functional.shapes import append_axes
from mappo.networks.input_reader import InputReader, bytes_reader, obs_reader, state_reader
from mappo.training.opponents_note import OpponentsNote
from mappo.training.trace_nonfinite import trace_nonfinite

PATIENCE = 5  # bad updates in a row before a run ends
FAR = 3  # bad updates in a row before a note is shown
MAX_SKIP_NOTES = 3  # notes about skipped updates, for each seed
# Evaluations may take this fraction of a run's time. The first seconds do not count: the start weighs too much.
MOST_EVALUATED = 0.5
SOON = 20.0
LARGE_KL = 0.5
LARGE_OBS = 100.0
LARGE_REWARD = 1e6
LARGE_VALUE = 1e10


class SeedDiagnostics:
    """Checks of the updates of a seed.

    Large observations make large values; returns are built from values, and value normalisation follows the returns:
    each update multiplies both. Once squares of values overflow, advantages are divided by an infinite deviation. Once
    values overflow themselves, every gradient step is skipped. Neither ends by itself: the run must end.

    Args:
        config: settings of the seed.
        readers: the networks' readers of observations and of states; by default numbers are read as they are.
    """

    def __init__(self, config: Config, readers: tuple[InputReader, InputReader] | None = None) -> None:
        self.config = config
        self._readers = readers or (bytes_reader(()), bytes_reader(()))
        self._is_normalized = config.network.obs_norm or config.network.layer_norm
        self._num_empty = 0
        self._num_far = 0
        self._is_advised = False

    def check_first(self, rollout: Rollout) -> str:
        """Return a note on the first rollout, or ""."""
        advice = "" if rollout.obs.ndim - rollout.active.ndim == 3 else ", or give --network.obs-norm"
        for name, largest, is_large in self._largest_inputs(rollout):
            if is_large:
                bad = f"{name} go up to {largest:.4g}, from which networks learn badly"
                return f"{bad}: divide them in the environment{advice}"
        return ""

    def _largest_inputs(self, rollout: Rollout) -> list[tuple[str, float, bool]]:
        """Return names and largest numbers of observations and states, and if they are large for the networks too."""
        active_obs = torch.where(append_axes(rollout.active, rollout.obs.ndim), rollout.obs, 0)
        named = zip(("Observations", "States"), (active_obs, rollout.state), self._readers, strict=True)
        return [
            (name, _largest(x), not self._is_normalized and _largest_read(x, reader) > LARGE_OBS)
            for name, x, reader in named
            if x is not None
        ]

    def advise(self, metrics: Mapping[str, float]) -> str:
        """Return advice, once in a run, if the policy moves too far in each update; otherwise ""."""
        self._num_far = self._num_far + 1 if metrics["approx_kl"] > LARGE_KL else 0
        if self._num_far < FAR or self._is_advised:
            return ""
        self._is_advised = True
        return (
            f"the policy moved far in each of the last {FAR} updates: the approximate KL is "
            f"{metrics['approx_kl']:.3g}, where 0.01 is usual. A smaller --ppo.actor-lr, fewer --ppo.epochs, or "
            f"--ppo.target-kl 0.05 keep it near"
        )

    def check(self, rollout: Rollout, metrics: Mapping[str, float], nonfinite: str = "") -> str:
        """Return why the run cannot go on, or "".

        Args:
            rollout: rollout of the update.
            metrics: metrics of the update.
            nonfinite: description of NaN or infinity in the rollout, the reason for a skipped update.
        """
        is_skipped = metrics["skipped_steps"] >= metrics["epochs"] * self.config.ppo.minibatches
        # NaN means infinity over infinity, or 0 over 0 where all returns are equal.
        is_infinite = math.isnan(metrics["explained_variance"]) and not abs(metrics["value"]) < LARGE_VALUE
        self._num_empty = self._num_empty + 1 if is_skipped or is_infinite else 0
        if self._num_empty < PATIENCE:
            return ""
        if nonfinite:
            return f"nothing was learned in the last {PATIENCE} updates: {nonfinite}"
        return self._explain_overflow(self._largest_inputs(rollout), _largest(rollout.reward), metrics["value"])

    def _explain_overflow(self, inputs: list[tuple[str, float, bool]], reward: float, value: float) -> str:
        """Return a message with the largest numbers and the helpful settings."""
        obs = max(largest for _, largest, _ in inputs)
        fixes: list[str] = []
        if any(is_large for *_, is_large in inputs):
            fixes.append("with normalised observations (--network.obs-norm, or --network.layer-norm)")
        if reward > LARGE_REWARD:
            fixes.append("with smaller rewards (divided by a constant in the environment, they ask for the same)")
        if not fixes:
            fixes.append("with smaller learning rates (--ppo.actor-lr, --ppo.critic-lr)")
        return (
            f"nothing was learned in the last {PATIENCE} updates, because their numbers overflow: observations go up "
            f"to {obs:.4g}, rewards to {reward:.4g}, and the critic's mean value is {value:.4g}. Start another run "
            f"{', and '.join(fixes)}; metrics.csv shows where it began"
        )


def _largest(x: Tensor) -> float:
    """Return the largest absolute value."""
    return float(x.max() if x.dtype in (torch.uint8, torch.bool) else x.abs().max())


def _largest_read(x: Tensor, reader: InputReader) -> float:
    """Return the largest absolute value that a network reads; images of bytes are not copied as floats."""
    is_bytes = reader.bytes_scale is not None and x.dtype == torch.uint8
    return _largest(x) / (reader.bytes_scale or 1.0) if is_bytes else _largest(reader(x, torch.float32))


class Diagnostics:
    """Checks of the updates of all seeds of a run.

    Args:
        config: settings of each seed.
        spec: the agents.
    """

    def __init__(self, config: Config, spec: Spec) -> None:
        self.config = config
        self.seeds = config.run.all_seeds
        # In notes; a single seed is not named.
        self._of_seed = [f" of seed {seed}" if len(self.seeds) > 1 else "" for seed in self.seeds]
        self._by_seed = [SeedDiagnostics(config, (obs_reader(spec), state_reader(spec))) for _ in self.seeds]
        self._num_skipped = [0] * len(self.seeds)
        # Indices of seeds without further learning, and of seeds with a traced gradient.
        self._lost: set[int] = set()
        self._traced: set[int] = set()
        self._evaluation_s = 0.0
        self._is_timed = False
        self._is_first = True
        self._spec = spec
        self._opponents = OpponentsNote(config, spec)

    def check_evaluation_time(self, seconds: float, elapsed: float, episodes: int) -> str:
        """Return advice, once, if evaluations take most of the time.

        Args:
            seconds: time of the last evaluation.
            elapsed: time of the session until now.
            episodes: number of episodes of the last evaluation.
        """
        self._evaluation_s += seconds
        if self._is_timed or elapsed < SOON or self._evaluation_s < MOST_EVALUATED * elapsed:
            return ""
        self._is_timed = True
        # An update has at most one evaluation, even if shorter intervals are set.
        interval = max(self.config.run.eval_interval, self.config.steps_per_update)
        fewer = f", or lower --run.eval-episodes below {episodes}" if episodes > 1 else ""
        return (
            f"evaluations took {self._evaluation_s / elapsed:.0%} of the time: raise --run.eval-interval above "
            f"{interval:,} steps{fewer}"
        )

    def check_first(self, rollout: Rollout) -> list[str]:
        """Return notes on the first rollouts of the session."""
        notes = [self._by_seed[0].check_first(rollout), self._note_late_reward(rollout)] if self._is_first else []
        self._is_first = False
        return [note for note in (*notes, self._opponents.check(rollout)) if note]

    def _note_late_reward(self, rollout: Rollout) -> str:
        """Return a note on the first reward of an agent that was not there to act, or ""."""
        if self.config.env.reward == "team" or self._spec.shared_reward:
            return ""
        places = (rollout.reward.ne(0) & ~rollout.active).nonzero()  # (N, 3): step, environment and agent
        if not len(places):
            return ""
        t, e, agent = map(int, places[0])
        ends = rollout.ended[:t, e].nonzero()
        step = t - int(ends[-1]) if len(ends) else t + 1
        return (
            f"{self._spec.agents[agent]} received the reward {float(rollout.reward[t, e, agent]):g} at step {step} of "
            f"an episode, and was not in env.agents: with env.reward agent nobody learns of it. Pay it at the step at "
            f"which the agent ends"
        )

    def check(
        self,
        agents: Sequence[MAPPO],
        rollouts: Sequence[Rollout],
        metrics: Sequence[Mapping[str, float]],
        nonfinite: Sequence[str],
    ) -> tuple[list[str], str]:
        """Check an update.

        Args:
            agents: learner of each seed.
            rollouts: rollout of each seed.
            metrics: metrics of each seed.
            nonfinite: description of NaN or infinity in the rollout of each seed, or "".

        Returns:
            Notes for the user; why the run cannot go on, or "".
        """
        notes: list[str] = []
        losses: dict[int, str] = {}
        reason = ""
        for k in range(len(self.seeds)):
            if k in self._lost:
                continue
            notes.append(self._note_skipped_update(k, nonfinite[k]))
            note = self._note_skipped_steps(k, agents[k], rollouts[k], metrics[k]["skipped_steps"])
            if note and self.config.run.on_nonfinite == "stop":
                reason = f"{note}, and the run stops, because run.on-nonfinite is stop"
            else:
                notes.append(note)
            advice = self._by_seed[k].advise(metrics[k])
            notes.append(f"{advice} ({self._of_seed[k].strip()})" if advice and self._of_seed[k] else advice)
            if loss := self._by_seed[k].check(rollouts[k], metrics[k], nonfinite[k]):
                losses[k] = loss
        self._lost.update(losses)
        if losses and len(self._lost) == len(self.seeds):
            reason = [*losses.values()][-1]
        else:
            notes += [f"seed {self.seeds[k]}: {loss}. The other seeds go on" for k, loss in losses.items()]
        return [note for note in notes if note], reason

    def _note_skipped_update(self, k: int, nonfinite: str) -> str:
        """Return a note on an update skipped for its rollout, or ""; at most `MAX_SKIP_NOTES` for each seed."""
        self._num_skipped[k] += bool(nonfinite)
        if not nonfinite or self._num_skipped[k] > MAX_SKIP_NOTES:
            return ""
        is_last = self._num_skipped[k] == MAX_SKIP_NOTES
        more = "; further skipped updates are not shown, but have no epochs in metrics.csv" if is_last else ""
        return f"the update{self._of_seed[k]} is skipped: {nonfinite}{more}"

    def _note_skipped_steps(self, k: int, agent: MAPPO, rollout: Rollout, num_skipped: float) -> str:
        """Return a note on skipped gradient steps, the first time with their source; or ""."""
        if not num_skipped:
            return ""
        source = "" if k in self._traced else trace_nonfinite(agent, rollout)
        self._traced.add(k)
        note = f"{num_skipped:.0f} gradient steps{self._of_seed[k]} were not finite, and are skipped"
        return f"{note}: {source}" if source else note
