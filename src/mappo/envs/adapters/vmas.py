"""The package vmas (arXiv:2207.03530): scenarios of 2-D physics, batched in torch, on CPU or GPU.

`vmas/balance`, `vmas/navigation`, `vmas/transport`, ...: vmas's own scenarios, its scenarios from MPE, and its debug
scenarios. The package is under the GPL, version 3: it is optional, and loaded when an environment is built.

All environments of a batch sample from one stream of random numbers. The same seed, number of environments and actions
bring the same episodes again. A single episode is not repeated in another batch, or beside episodes that end elsewhere.
"""

import contextlib
import io
import warnings
from collections.abc import Generator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional

from mappo.core.seeding import expand_seeds
from mappo.core.spec import ActionHeads, Spec
from mappo.core.timestep import TimeStep
from mappo.envs.adapters.packages import construction, refuse_options
from mappo.envs.batched.base import time_step_of_team
from mappo.envs.names import require, unknown
from mappo.errors import UserError
from mappo.system.packages import install_command

_RESERVED = (
    *("seed", "wrapper", "wrapper_kwargs", "dict_spaces", "clamp_actions", "grad_enabled", "terminated_truncated"),
)
# Environments and random steps that test if the agents of a scenario share one reward.
_PROBE_ENVS = 64
_PROBE_STEPS = 20


class Vmas:
    """E copies of a scenario: an `Environment` with pictures, without a saved state.

    Observations are vectors, padded with zeros. Continuous actions are clamped to their bounds. There is no state, no
    mask and no death. The scenario itself terminates episodes; `max_steps` truncates them. The state is spread over
    Python attributes of the scenario: an exact copy of it cannot be saved.

    Args:
        scenario: its name in vmas.
        num_envs: E.
        device: device of all tensors.
        max_steps: steps until an episode is truncated.
        continuous_actions: True for continuous actions, False for one choice among all signs of a force.
        multidiscrete_actions: with discrete actions, one choice for each direction of the force.
        shared_reward: True: all agents receive the team's reward, the mean over agents. False: each agent has its own
            reward, and the team's is the sum. None: True unless two agents receive different rewards in a trial of 20
            random steps. The trial has 64 environments, always the same, with equal settings.
        options: options of the scenario, such as `n_agents=4`.

    Raises:
        UserError: vmas is not installed, or the scenario, an option or a value is invalid.
    """

    def __init__(
        self,
        scenario: str,
        num_envs: int,
        device: torch.device | str = "cpu",
        max_steps: int = 100,
        continuous_actions: bool = True,
        multidiscrete_actions: bool = False,
        shared_reward: bool | None = None,
        **options: Any,
    ) -> None:
        if num_envs < 1:
            raise UserError(f"vmas/{scenario} needs at least one environment, got {num_envs}")
        if not isinstance(max_steps, int) or max_steps < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UserError(f"vmas/{scenario}: max_steps must be a whole number from 1 on, got {max_steps!r}")
        refuse_options(f"vmas/{scenario}", options, _RESERVED, "leave it out")
        self.num_envs = num_envs
        self.device = torch.device(device)
        self._vmas = _load(scenario)
        # vmas keeps one random state in its class, for the whole process; here each environment has its own.
        self._shared_random: list[Any] = self._vmas.simulator.environment.Environment.vmas_random_state
        self._random: list[Any] = [*self._shared_random, *self._cuda_random()]
        options |= {"continuous_actions": continuous_actions, "multidiscrete_actions": multidiscrete_actions}
        if shared_reward is None:
            shared_reward = self._is_reward_shared(self._build(scenario, _PROBE_ENVS, max_steps, options))
        self._env = self._build(scenario, num_envs, max_steps, options)
        if any(space.shape is None for space in self._env.observation_space):
            raise UserError(f"vmas/{scenario} observes dicts: leave out the option that makes it do so")
        self.spec = Spec(
            agents=tuple(agent.name for agent in self._env.agents),
            obs_spaces=tuple(spaces.Box(-np.inf, np.inf, x.shape, np.float32) for x in self._env.observation_space),
            action_heads=tuple(map(_heads, self._env.action_space)),
            shared_reward=shared_reward,
        )
        self._everyone = torch.ones(num_envs, self.spec.num_agents, dtype=torch.bool, device=self.device)

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """Reset all environments; their common stream of random numbers starts from the first seed."""
        first_seed = None if seed is None else expand_seeds("vmas", seed, self.num_envs)[0] % 2**32
        with self._private_random():
            obs = self._stack_obs(self._env.reset(seed=first_seed))
        nobody = ~self._everyone
        return time_step_of_team(
            self._everyone,
            obs=obs,
            next_obs=obs,
            reward=nobody.float(),
            terminated=nobody,
            ended=nobody[:, 0],
            is_first=self._everyone,
        )

    def step(self, action: Tensor) -> TimeStep:
        """Step all environments by actions `(E, A, D)`."""
        # Each agent's action has shape (E, size); vmas would add a missing axis in place.
        actions = [action[:, j, : heads.size] for j, heads in enumerate(self.spec.action_heads)]
        with self._private_random():
            agent_obs, rewards, terminated, truncated, _ = self._env.step(actions)
            next_obs = obs = self._stack_obs(agent_obs)
            ended = terminated | truncated
            if ended.any():
                # Other environments keep their observations: to observe again would sample the noise again.
                obs = torch.where(ended.view(-1, 1, 1), self._stack_obs(self._restart(ended)), obs)
        # A few scenarios return rewards (E, 1).
        reward = torch.stack([x.reshape(self.num_envs) for x in rewards], 1).float()
        if self.spec.shared_reward:
            # The mean, in a form that returns equal rewards exactly.
            first = reward[:, :1]
            reward = (first + (reward - first).mean(1, keepdim=True)).repeat(1, reward.shape[1])
        return time_step_of_team(
            self._everyone,
            obs=obs,
            next_obs=next_obs,
            reward=reward,
            terminated=terminated.unsqueeze(1) & self._everyone,
            ended=ended,
            is_first=ended.unsqueeze(1) & self._everyone,
        )

    def close(self) -> None:
        if self._env.viewer is not None:
            self._env.viewer.close()
            self._env.viewer = None

    def render(self, index: int) -> np.ndarray:
        """Render environment `index` by vmas: uint8 `(H, W, 3)`."""
        with self._private_random():
            return np.ascontiguousarray(self._env.render(mode="rgb_array", env_index=index))

    def _build(self, scenario: str, num_envs: int, max_steps: int, options: Mapping[str, Any]) -> Any:
        with self._private_random(), warnings.catch_warnings(), construction(f"vmas/{scenario}", options):
            # vmas only warns of options that a scenario does not use.
            warnings.filterwarnings("error", message="Scenario kwargs")
            return self._vmas.make_env(
                scenario,
                num_envs,
                device=self.device,
                max_steps=max_steps,
                seed=0,
                clamp_actions=True,
                terminated_truncated=True,
                **options,
            )

    def _is_reward_shared(self, env: Any) -> bool:
        """Return False if two agents receive different rewards in random steps."""
        with self._private_random():
            rewards = (env.step(env.get_random_actions())[1] for _ in range(_PROBE_STEPS))
            return not any((x != first).any() for first, *others in rewards for x in others)

    def _restart(self, ended: Tensor) -> list[Tensor]:
        """Reset the environments `ended`, `(E,)`; return the observations of all environments, per agent."""
        indices = cast("list[int]", ended.nonzero()[:, 0].tolist())
        if len(indices) == self.num_envs:
            return self._env.reset()
        for index in indices:
            self._env.reset_at(index, return_observations=False)
        obs, *_ = self._env.get_from_scenario(
            get_observations=True, get_rewards=False, get_infos=False, get_dones=False
        )
        return obs

    def _stack_obs(self, obs: Sequence[Tensor]) -> Tensor:
        """Stack the agents' observations in the padded layout: `(E, A, O)`, a copy because vmas reuses its own."""
        flat = [x.flatten(1) for x in obs]
        size = max(x.shape[1] for x in flat)
        return torch.stack([functional.pad(x, (0, size - x.shape[1])) for x in flat], 1).float()

    @contextlib.contextmanager
    def _private_random(self) -> Generator[None]:
        """Let vmas sample from this environment's random state; restore the state of the process afterwards."""
        shared = self._shared_random
        saved = list(shared)
        saved_cuda = self._cuda_random()
        shared[:] = self._random[: len(shared)]
        for state in self._random[len(shared) :]:
            torch.cuda.set_rng_state(state, self.device)
        try:
            yield
        finally:
            self._random = [*shared, *self._cuda_random()]
            shared[:] = saved
            for state in saved_cuda:
                torch.cuda.set_rng_state(state, self.device)

    def _cuda_random(self) -> list[Tensor]:
        """Return the state of torch's own generator on a GPU, where vmas samples from it; else an empty list."""
        return [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []


def make(name: str, num_envs: int, device: torch.device | str, options: Mapping[str, Any]) -> Vmas:
    """Build `num_envs` copies of the scenario `name`; see `Vmas` for options and errors."""
    return Vmas(name, num_envs, device, **options)


def names(_family: str) -> list[str]:
    """Return the names of all scenarios.

    Raises:
        UserError: the package is missing.
    """
    package = _load_package()
    return [*package.scenarios, *package.mpe_scenarios, *package.debug_scenarios]


def _load(scenario: str) -> Any:
    """Import the package, if it has the scenario."""
    known = names("vmas")
    if scenario not in known:
        raise unknown("vmas", scenario, known)
    return _load_package()


def _load_package() -> Any:
    with contextlib.redirect_stderr(io.StringIO()):  # gym, which vmas needs, prints a notice about its maintenance
        require("gym", "vmas", install_command("vmas"))
    return require("vmas", "vmas", install_command("vmas"))


def _heads(space: Any) -> ActionHeads:
    """Return the action heads of a space of gym, the forerunner of gymnasium."""
    if hasattr(space, "nvec"):
        return ActionHeads(tuple(space.nvec.tolist()))
    if hasattr(space, "n"):
        return ActionHeads((int(space.n),))
    return ActionHeads(low=tuple(space.low.tolist()), high=tuple(space.high.tolist()))
