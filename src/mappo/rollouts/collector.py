"""The only code that steps a training environment."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from mappo.core.protocols import Agent, Environment, Resumable, SeedSharded, SplitEnvironment
from mappo.core.state_dict import flatten, mismatch, subdict
from mappo.core.timestep import Rollout, TimeStep, concat_steps
from mappo.errors import UserError
from mappo.rollouts.env_checks import check_first_step, find_nonfinite
from mappo.rollouts.graphed import GraphedRollouts

PRESENT_FIELDS = ("obs", "state", "mask", "active", "is_first")
OUTCOME_FIELDS = ("reward", "terminated", "ended", "next_obs", "next_state", "next_active")


class Collector:
    """Fills one preallocated rollout after another, and keeps count of the episodes that pass by.

    Args:
        env: stepped by nobody else. agent: acts. length: T, steps of each rollout.
        step: where the environments are: what `env.reset` gave.
        generator: of the action noise, on the agent's device; of `MultiSeed` one for each, who share the environments
        out
            among them in order.
    """

    def __init__(
        self,
        env: Environment,
        agent: Agent,
        length: int,
        step: TimeStep,
        generator: torch.Generator | Sequence[torch.Generator],
    ) -> None:
        self.env, self.agent, self.length = env, agent, length
        self.generators = [generator] if isinstance(generator, torch.Generator) else list(generator)
        size = env.num_envs // len(self.generators)
        self.seed_slices = [slice(k * size, (k + 1) * size) for k in range(len(self.generators))]
        # Of its own class: a wrapper that passes on what it does not know is stepped as a whole.
        parted = isinstance(env, SplitEnvironment) and hasattr(type(env), "send") and hasattr(type(env), "receive")
        # All seeds act at once, so that a part would have to hold as many environments of each.
        self.split_env: SplitEnvironment = (
            cast(SplitEnvironment, env) if parted and len(self.generators) == 1 else _Unsplit(env)
        )
        self.steps = self._split(check_first_step(step, env))
        self.memory = agent.new_memory(env.num_envs)[0]
        self.chunk = agent.config.chunk_length or 1
        if length % self.chunk:
            raise ValueError(f"a rollout of {length} steps cannot be cut into chunks of {self.chunk}")
        self.rollout = self._allocate(step)
        self.graphed = GraphedRollouts.create(env, self.steps) if agent.config.run.graphs else None
        self.nonfinite = [""] * len(self.seed_slices)  # of each seed: what in its last rollout is not finite
        # Raw rewards of the episodes under way: return of each agent, steps.
        self.running_return = torch.zeros_like(step.reward)
        self.running_length = torch.zeros_like(step.reward[:, 0])

    @torch.no_grad()
    def collect(self) -> tuple[Rollout, dict[str, Tensor]]:
        """T steps of all environments.

        Returns:
            The rollout, which the next call overwrites, and of the episodes that ended in it, as scalars (of several
            seeds `(S,)`): `episodes` (number), `return_sum` (mean over episodes of the team reward summed over steps,
            raw) and `episode_length` (mean, steps); the means are NaN where none ended.

        Raises:
            UserError: the environment gave a reward or an observation that is not finite. With `run.on_nonfinite` skip
                it stands in `nonfinite` instead.
        """
        rollout, noise = self.rollout, self._sample_noise()
        totals = self._all_steps(noise) if self.graphed is None else self.graphed(self._all_steps, noise, rollout)
        self._check_finite()
        counted = totals.reshape(len(self.seed_slices), -1, 3).sum(1)
        count, return_sum, length = (counted if len(self.seed_slices) > 1 else counted[0]).unbind(-1)
        return rollout, {
            "episodes": count,
            "return_sum": return_sum / count,
            "episode_length": length / count,
        }

    def _all_steps(self, noise: Tensor) -> Tensor:
        """Fills the rollout. Of the episodes that ended, by environment: number, returns, lengths `(E, 3)`."""
        rollout = self.rollout
        totals = self.running_return.new_zeros(self.env.num_envs, 3)
        for t in range(self.length):
            if rollout.memory is not None and t % self.chunk == 0:
                rollout.memory[t // self.chunk] = cast(Tensor, self.memory)
            for index in range(len(self.steps)):
                if t:
                    self._receive(t - 1, index, totals)
                self._act(t, index, noise)
        for index in range(len(self.steps)):
            self._receive(self.length - 1, index, totals)
        return totals

    def _check_finite(self) -> None:
        """What is not finite is told; and not remembered, where the run goes on."""
        self.nonfinite = find_nonfinite(self.rollout, self.env, self.seed_slices)
        if not any(self.nonfinite):
            return
        if self.agent.config.run.on_nonfinite != "skip":
            raise UserError(next(filter(None, self.nonfinite)))
        if self.memory is not None:
            self.memory.masked_fill_(~self.memory.isfinite().all(-1, keepdim=True), 0)

    def _act(self, t: int, index: int, noise: Tensor) -> None:
        """Answers where one part of the environments is, and sends it on its way."""
        step, part = self.steps[index], self.split_env.slices[index]
        self._store(PRESENT_FIELDS, (t, part), step)
        memory = None if self.memory is None else self.memory[part]
        action, log_prob, memory = self.agent.act(step, memory, noise=noise[t, part])
        if self.memory is not None and memory is not None:
            self.memory[part] = memory
        self.rollout.action[t, part], self.rollout.log_prob[t, part] = action, log_prob
        self.split_env.send(index, self.agent.env_action(action))

    def _receive(self, t: int, index: int, totals: Tensor) -> None:
        """What it brought; number, returns and lengths of the episodes that ended enter the totals `(E, 3)`."""
        step, part = self.split_env.receive(index), self.split_env.slices[index]
        self.steps[index] = step
        self._store(OUTCOME_FIELDS, (t, part), step)
        running, age = self.running_return[part], self.running_length[part]
        running += step.reward
        age += 1
        ended, returned = step.ended, self.env.spec.team_reward(running)
        # Not by factors: 0 times a number that is not finite is none either.
        totals[part] += torch.stack([x.where(ended, 0) for x in (torch.ones_like(age), returned, age)], -1)
        running.masked_fill_(ended.unsqueeze(-1), 0)
        age.masked_fill_(ended, 0)

    def _sample_noise(self) -> Tensor:
        """Uniform in [0, 1), for each action of a rollout; of each seed from its own generator."""
        length, envs, *rest = self.rollout.action.shape
        shape = (length, envs // len(self.generators), *rest)
        drawn = [torch.rand(shape, generator=g, device=self.agent.device) for g in self.generators]
        return drawn[0] if len(drawn) == 1 else torch.cat(drawn, 1)

    def state_dict(self, seed: int = 0) -> dict[str, Tensor]:
        """The noise to come, and, where the environment can be saved, the episodes under way; of one of the seeds."""
        state, share, env = (
            {"generator": self.generators[seed].get_state()},
            self.seed_slices[seed],
            self._seed_env(seed),
        )
        if isinstance(env, Resumable):
            state |= {
                "running": self.running_return[share],
                "steps": self.running_length[share],
                **flatten("env", env.state_dict()),
            }
            if self.memory is not None and self.rollout.critic_memory is not None:
                state |= {"memory": self.memory[share], "critic_memory": self.rollout.critic_memory[share]}
        return state

    def load_state_dict(self, *states: Mapping[str, Tensor]) -> None:
        """Goes on where `state_dict` was taken of each seed; with new episodes, where environments cannot be saved.

        Raises:
            ValueError: they are of other environments.
        """
        for seed, state in enumerate(states):
            wanted = self.state_dict(seed)  # nothing of it, where it is of another kind of device
            spare = [name for name in wanted if "running" not in state and (name != "generator" or not state)]
            if difference := mismatch(state, wanted, spare):
                raise ValueError(difference)
        shown, loaded = list[TimeStep](), False
        for seed, (state, share) in enumerate(zip(states, self.seed_slices, strict=True)):
            if "generator" in state:
                self.generators[seed].set_state(state["generator"].cpu())
            env = self._seed_env(seed)
            if not isinstance(env, Resumable) or "running" not in state:
                shown.append(self.steps[0].slice_envs(share))  # of several seeds: where its new episodes begin
                continue
            loaded = True
            shown.append(env.load_state_dict(subdict(state, "env")))
            self.running_return[share] = state["running"]
            self.running_length[share] = state["steps"]
            if self.memory is not None and self.rollout.critic_memory is not None:
                self.memory[share] = state["memory"]
                self.rollout.critic_memory[share] = state["critic_memory"]
        if loaded:
            self.steps[:] = self._split(concat_steps(shown))

    def _seed_env(self, seed: int) -> object:
        """What is saved of a seed's environments: of those that share one, its share."""
        return self.env.seed_env(seed) if isinstance(self.env, SeedSharded) else self.env

    def _split(self, step: TimeStep) -> list[TimeStep]:
        if len(self.split_env.slices) == 1:
            return [step]
        return [step.slice_envs(part) for part in self.split_env.slices]

    def _store(self, names: tuple[str, ...], where: tuple[int, slice], step: TimeStep) -> None:
        for name in names:
            value, buffer = getattr(step, name), getattr(self.rollout, name)
            if (value is None) != (buffer is None):
                raise UserError(f"the environment's {name} must be given at the reset and at every step, or never")
            if value is None:
                continue
            kept = buffer[where]
            if value.dtype != buffer.dtype:  # copying would round
                raise UserError(f"the environment's {name} was {buffer.dtype} at the reset and is {value.dtype} now")
            if value.shape != kept.shape:  # copying would broadcast
                raise UserError(
                    f"the environment's {name} must be {tuple(kept.shape)} as at the reset, got {tuple(value.shape)}"
                )
            kept.copy_(value)

    def _allocate(self, step: TimeStep) -> Rollout:
        def like(x: Tensor | None) -> Tensor | None:
            return None if x is None else torch.zeros((self.length, *x.shape), dtype=x.dtype, device=x.device)

        envs, agents = step.active.shape
        made: dict[str, Any] = {name: like(getattr(step, name)) for name in (*PRESENT_FIELDS, *OUTCOME_FIELDS)}
        device = self.agent.device
        spec = self.env.spec
        drawn = (self.length, envs, agents, spec.action_size)
        made["action"] = torch.zeros(drawn, dtype=spec.action_dtype, device=device)
        made["log_prob"] = torch.zeros((self.length, envs, agents), device=device)
        if self.memory is not None:
            made["memory"] = self.memory.new_zeros(self.length // self.chunk, *self.memory.shape)
            made["critic_memory"] = self.agent.new_memory(envs)[1]
        return Rollout(**made)


class _Unsplit:
    """An environment that is stepped as a whole, as one of a single part."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self.slices = (slice(0, env.num_envs),)

    def send(self, index: int, action: Tensor) -> None:
        self._action = action

    def receive(self, index: int) -> TimeStep:
        return self._env.step(self._action)
