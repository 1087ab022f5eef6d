"""The collector: steps an environment with a policy and fills rollouts."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from mappo.backend.ranks import ALONE, Ranks
from mappo.core.protocols import Environment, Learner, Resumable, SeedSharded, SplitEnvironment, provides
from mappo.core.slices import equal_slices
from mappo.core.state_dict import flatten, mismatch, subdict
from mappo.core.timestep import OUTCOME_FIELDS, PRESENT_FIELDS, Rollout, TimeStep, concat_steps
from mappo.errors import UserError
from mappo.rollouts.env_checks import check_first_step, check_like_reset, find_nonfinite
from mappo.rollouts.episode_counter import EpisodeCounter
from mappo.rollouts.graphed import graphed_rollouts
from mappo.rollouts.unsplit import Unsplit


class Collector:
    """Fills preallocated rollouts, and counts the episodes that end.

    Args:
        env: the environment, stepped by nothing else.
        agent: acts.
        length: T, steps of each rollout.
        step: the present of the environment, as returned by `env.reset`.
        generator: of the action noise, on the agent's device. With several seeds a list, a generator for each seed; the
            environments are cut into equal slices, in the order of the seeds.
        ranks: processes that learn together from the rollouts of all; they skip a rollout together.
    """

    @torch.inference_mode(False)  # an environment may have left it on; tensors made in it are no inputs of gradients
    def __init__(
        self,
        env: Environment,
        agent: Learner,
        length: int,
        step: TimeStep,
        generator: torch.Generator | Sequence[torch.Generator],
        ranks: Ranks = ALONE,
    ) -> None:
        self.env = env
        self.agent = agent
        self.ranks = ranks
        self.length = length
        self.generators = [generator] if isinstance(generator, torch.Generator) else list(generator)
        self.seed_slices = equal_slices(env.num_envs, len(self.generators))
        # All seeds act in one call, so that a slice would have to hold equally many environments of each.
        is_split = len(self.generators) == 1 and provides(env, "slices", "send", "receive")
        self.split_env = cast(SplitEnvironment, env) if is_split else Unsplit(env)
        self.steps = [s.map(torch.clone) for s in self._split(check_first_step(step, env))]
        self.memory = agent.new_memory(env.num_envs)
        self.chunk_length = agent.config.chunk_length or 1
        if length % self.chunk_length:
            raise ValueError(f"a rollout of {length} steps cannot be cut into chunks of {self.chunk_length}")
        self.rollout = self._allocate(step)
        self.graphed = graphed_rollouts(env) if agent.static_shapes and agent.config.run.graphs else None
        self.nonfinite = [""] * len(self.seed_slices)  # for each seed, the first bad number of its last rollout
        self.episodes = EpisodeCounter(env.spec, step.reward, agent.static_shapes)

    @torch.no_grad()
    def collect(self) -> tuple[Rollout, dict[str, Tensor]]:
        """Step all environments T times.

        Returns:
            The rollout, which the next call overwrites, and statistics of the finished episodes, as scalars
            (`(S,)` with several seeds): `episodes` (number), `return_sum` (mean over episodes of the raw team reward
            summed over steps), `episode_length` (mean, steps), and `return_latest` (mean over environments of their
            latest return). Means are NaN where no episode ended, or an environment has not finished one yet.

        Raises:
            UserError: a number is not finite. With `run.on_nonfinite` skip the message stands in `nonfinite` instead.
        """
        noise = self._sample_noise()
        totals = self._fill(noise) if self.graphed is None else self.graphed(self._fill, noise, self.rollout)
        self._check_finite()
        sums = totals.reshape(len(self.seed_slices), -1, 3).sum(1)
        latest = self.episodes.latest[:, 0].div(self.episodes.latest[:, 1]).reshape(len(sums), -1).mean(-1)  # 0/0: NaN
        if len(sums) == 1:
            sums, latest = self._sum_over_ranks(sums[0], latest[0])
        count, return_sum, length = sums.unbind(-1)
        return self.rollout, {
            "episodes": count,
            "return_sum": return_sum / count,
            "episode_length": length / count,
            "return_latest": latest,
        }

    def _sum_over_ranks(self, sums: Tensor, latest: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums `(3,)` and the mean latest return of all processes; skip a rollout that one of them skips."""
        if self.ranks.size == 1:
            return sums, latest
        summed = self.ranks.sum(torch.cat([sums, latest.view(1), sums.new_tensor([any(self.nonfinite)])]))
        if summed[4] and not any(self.nonfinite):
            self.nonfinite = ["a number of an environment in another process is not finite"]
        return summed[:3], summed[3] / self.ranks.size

    def _fill(self, noise: Tensor) -> Tensor:
        """Fill the rollout; return number, returns and lengths of finished episodes, `(E, 3)`."""
        steps = list(self.steps)
        rows = [self._rows(envs, noise) for envs in self.split_env.slices]
        for t in range(self.length):
            if self.rollout.memory is not None and t % self.chunk_length == 0:
                self.rollout.memory[t // self.chunk_length] = cast(Tensor, self.memory)
            for index in range(len(steps)):
                if t:
                    steps[index] = self._receive(index, rows[index][t - 1])
                self._act(index, rows[index][t], steps[index])
        for index in range(len(steps)):
            steps[index] = self._receive(index, rows[index][-1])
        self._set_present(steps)
        return self.episodes.count(self.rollout)

    def _set_present(self, steps: list[TimeStep]) -> None:
        """Set the present of the environments; a graph reads it at fixed addresses."""
        if self.graphed is None:
            self.steps = steps
        else:
            for present, step in zip(self.steps, steps, strict=True):
                present.copy_(step)

    def _check_finite(self) -> None:
        """Record or raise the first non-finite number of each seed; reset the affected memories."""
        self.nonfinite = find_nonfinite(self.rollout, self.env, self.seed_slices, self.ranks.rank, self.ranks.size)
        if not any(self.nonfinite):
            return
        if self.agent.config.run.on_nonfinite != "skip":
            raise UserError(next(filter(None, self.nonfinite)))
        if self.memory is not None:
            self.memory.masked_fill_(~self.memory.isfinite().all(-1, keepdim=True), 0)

    def _rows(self, envs: slice, noise: Tensor) -> list[dict[str, Tensor]]:
        """Return the place of each step of a slice in the rollout, as views by name, with the noise of its actions."""
        tensors = self.rollout.tensors() | {"noise": noise}
        columns = {name: x[:, envs].unbind() for name, x in tensors.items() if name != "memory"}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _act(self, index: int, row: Mapping[str, Tensor], step: TimeStep) -> None:
        """Act for a slice of the environments and begin its step."""
        store(PRESENT_FIELDS, step, row)
        envs = self.split_env.slices[index]
        memory = None if self.memory is None else self.memory[envs]
        action, log_prob, memory = self.agent.act(step, memory, noise=row["noise"])
        if self.memory is not None and memory is not None:
            self.memory[envs] = memory
        row["action"].copy_(action)
        row["log_prob"].copy_(log_prob)
        self.split_env.send(index, self.agent.env_action(action))

    def _receive(self, index: int, row: Mapping[str, Tensor]) -> TimeStep:
        """Receive the step of a slice."""
        step = self.split_env.receive(index)
        store(OUTCOME_FIELDS, step, row)
        return step

    def _sample_noise(self) -> Tensor:
        """Sample the noise of a rollout's actions, uniform in [0, 1), `(T, E, A, D)`; each seed from its generator."""
        length, num_envs, *rest = self.rollout.action.shape
        shape = (length, num_envs // len(self.generators), *rest)
        noise = [torch.rand(shape, generator=g, device=self.agent.device) for g in self.generators]
        return noise[0] if len(noise) == 1 else torch.cat(noise, 1)

    def state_dict(self, seed: int = 0) -> dict[str, Tensor]:
        """Return the state of a seed: its generator, the latest returns and, for `Resumable` ones, the episodes."""
        envs = self.seed_slices[seed]
        state = {"generator": self.generators[seed].get_state(), "latest": self.episodes.latest[envs]}
        if isinstance(env := self._seed_env(seed), Resumable):
            state |= self.episodes.state_dict(envs) | flatten("env", env.state_dict())
            if self.memory is not None:
                state["memory"] = self.memory[envs]
        return state

    def load_state_dict(self, *states: Mapping[str, Tensor]) -> None:
        """Restore the states returned by `state_dict`, in the order of the seeds.

        Environments without `state_dict` keep the new episodes of their last reset.

        Raises:
            ValueError: a state is of other environments.
        """
        for seed, state in enumerate(states):
            if "running" in state and state["running"].dtype == torch.float32:
                self.episodes.use_float32()
            expected = self.state_dict(seed)
            # A state of another kind of device has no generator and no episodes.
            optional = [name for name in expected if "running" not in state and (name != "generator" or not state)]
            if difference := mismatch(state, expected, [*optional, "latest", "env.stream"]):  # new names
                raise ValueError(difference)
        steps: list[TimeStep] = []
        for seed, state in enumerate(states):
            if "generator" in state:
                self.generators[seed].set_state(state["generator"].cpu())
            envs = self.seed_slices[seed]
            self.episodes.latest[envs] = state.get("latest", self.episodes.latest[envs])
            if "running" not in state:
                steps.append(self.steps[0].slice_envs(envs))
                continue
            steps.append(cast(Resumable, self._seed_env(seed)).load_state_dict(subdict(state, "env")))
            for name, x in self.episodes.state_dict(envs).items():
                x.copy_(state[name])
            if self.memory is not None:
                self.memory[envs] = state["memory"]
        if any("running" in state for state in states):
            self._set_present(self._split(concat_steps(steps)))

    def _seed_env(self, seed: int) -> object:
        """Return the environments of a seed, to be saved by themselves."""
        return self.env.seed_env(seed) if isinstance(self.env, SeedSharded) else self.env

    def _split(self, step: TimeStep) -> list[TimeStep]:
        """Cut a step into the slices of `split_env`."""
        return [step.slice_envs(envs) for envs in self.split_env.slices]

    def _allocate(self, step: TimeStep) -> Rollout:
        """Allocate a rollout with the fields of a step, `(T, E, ...)`."""
        shape = (self.length, *step.active.shape)
        device = self.agent.device
        chunks = self.length // self.chunk_length
        return Rollout(
            **vars(step.map(lambda x: x.new_zeros(self.length, *x.shape))),
            action=torch.zeros(*shape, self.env.spec.action_size, dtype=self.env.spec.action_dtype, device=device),
            log_prob=torch.zeros(shape, device=device),
            memory=None if self.memory is None else self.memory.expand(chunks, -1, -1, -1).clone(),
        )


def store(names: Sequence[str], step: TimeStep, row: Mapping[str, Tensor]) -> None:
    """Copy fields of a step into its place in a rollout."""
    for name in names:
        value = getattr(step, name)
        target = row.get(name)
        check_like_reset(name, value, target)
        if target is not None:
            target.copy_(value)
