"""The package vmas (arXiv:2207.03530): scenarios of 2-D physics, batched in torch, on CPU or GPU.

`vmas/balance`, `vmas/navigation`, `vmas/transport`, ...: its own scenarios, those that it took from MPE, and its debug
ones. The package is under the GPL, version 3: it is optional, and loaded when an environment is made.

All games of a batch draw from one stream of random numbers. The same seed, number of environments and actions bring
the same games again; one game alone, in another batch or beside others that end elsewhere, is not brought back by it.
"""

import contextlib
import difflib
import io
import warnings
from collections.abc import Generator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional

from mappo.core.spec import ActionHeads, Spec
from mappo.core.timestep import TimeStep
from mappo.errors import UserError

_OURS = ("seed", "wrapper", "wrapper_kwargs", "dict_spaces", "clamp_actions", "grad_enabled", "terminated_truncated")
_PROBE_ENVS, _PROBE_STEPS = 64, 20  # what of a scenario is played to see whether its agents share one reward


class Vmas:
    """`num_envs` copies of a scenario; an `Environment` that can draw itself, and cannot be saved.

    Observations are vectors, shorter ones with zeros behind; numbers of an action are clamped to their bounds. There
    is no state, no mask, and nobody dies. The scenario itself terminates episodes; `max_steps` truncates them. What
    vmas keeps of a game is spread over the scenario's own Python attributes, so that nothing exact could be saved.

    Args:
        scenario: its name in vmas.
        num_envs: E.
        max_steps: steps after which an episode is truncated.
        continuous_actions: numbers, or choices: one each, of all combinations of the signs of a force.
        multidiscrete_actions: with choices: one for each direction of the force.
        shared_reward: True: the team has one reward, and every agent gets it: the mean over agents, which is what each
            is given where they are all given the same. False: each agent has its own, and the team their sum. None:
            True unless two agents are seen to be given different rewards, in 20 random steps of 64 other environments
            of the same settings, always the same ones.
        options: of the scenario: `n_agents=4`.

    Raises:
        UserError: vmas is not installed, or has no such scenario or option.
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
        if ours := sorted(set(_OURS).intersection(options)):
            raise UserError(f"vmas/{scenario}: {', '.join(ours)} cannot be chosen: leave it out")
        self.num_envs, self.device = num_envs, torch.device(device)
        self._vmas = _load(scenario)
        # vmas keeps one random state in its class, for all environments of the process: each of ours has its own.
        self._shared_random: list[Any] = self._vmas.simulator.environment.Environment.vmas_random_state
        self._random: list[Any] = [*self._shared_random, *self._cuda_random()]
        options |= {"continuous_actions": continuous_actions, "multidiscrete_actions": multidiscrete_actions}
        if shared_reward is None:
            shared_reward = self._seen_to_share(self._made(scenario, _PROBE_ENVS, max_steps, options))
        self._env = self._made(scenario, num_envs, max_steps, options)
        observed = self._env.observation_space
        if any(space.shape is None for space in observed):
            raise UserError(f"vmas/{scenario} observes dicts: leave out the option that makes it do so")
        self.spec = Spec(
            agents=tuple(agent.name for agent in self._env.agents),
            obs_spaces=tuple(spaces.Box(-np.inf, np.inf, space.shape, np.float32) for space in observed),
            action_heads=tuple(map(_heads, self._env.action_space)),
            shared_reward=shared_reward,
        )
        self._everyone = torch.ones(num_envs, self.spec.num_agents, dtype=torch.bool, device=self.device)

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """All games anew; they share one stream of random numbers, which starts from the first seed."""
        if not (seed is None or isinstance(seed, int)):
            if len(seed) != self.num_envs:
                raise ValueError(f"vmas: {len(seed)} seeds for {self.num_envs} environments")
            seed = seed[0]
        with self._own_random():
            obs = self._seen(self._env.reset(seed=None if seed is None else seed % 2**32))
        nobody = ~self._everyone
        return self._time_step(obs, obs, nobody.float(), nobody[:, 0], nobody[:, 0], self._everyone)

    def step(self, action: Tensor) -> TimeStep:
        """One step of each game; actions `(E, A, D)`."""
        # (E, size): where an axis is missing vmas adds it in place.
        own = [action[:, j, : heads.size] for j, heads in enumerate(self.spec.action_heads)]
        with self._own_random():
            seen, rewards, terminated, truncated, _ = self._env.step(own)
            next_obs = obs = self._seen(seen)
            ended = terminated | truncated
            if ended.any():
                # Those that go on keep what they saw: to look again would draw its noise again.
                obs = torch.where(ended.view(-1, 1, 1), self._seen(self._restarted(ended)), obs)
        # A few scenarios give (E, 1).
        reward = torch.stack([x.reshape(self.num_envs) for x in rewards], 1).float()
        if self.spec.shared_reward:
            first = reward[:, :1]
            reward = (first + (reward - first).mean(1, keepdim=True)).repeat(1, reward.shape[1])
        return self._time_step(obs, next_obs, reward, terminated, ended, ended.unsqueeze(1) & self._everyone)

    def close(self) -> None:
        if self._env.viewer is not None:
            self._env.viewer.close()
            self._env.viewer = None

    def render(self, index: int) -> np.ndarray:
        """A picture of environment `index`, by vmas: uint8 `(H, W, 3)`."""
        with self._own_random():
            return np.ascontiguousarray(self._env.render(mode="rgb_array", env_index=index))

    def _made(self, scenario: str, num_envs: int, max_steps: int, options: Mapping[str, Any]) -> Any:
        with self._own_random(), warnings.catch_warnings():
            # How vmas tells of options that a scenario does not know.
            warnings.filterwarnings("error", message="Scenario kwargs")
            try:
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
            except (AssertionError, TypeError, ValueError, UserWarning) as error:
                raise UserError(f"vmas/{scenario} cannot be made with the options {dict(options)}: {error}") from error

    def _seen_to_share(self, env: Any) -> bool:
        with self._own_random():
            for _ in range(_PROBE_STEPS):
                rewards = env.step(env.get_random_actions())[1]
                if any((x != rewards[0]).any() for x in rewards):
                    return False
        return True

    def _restarted(self, ended: Tensor) -> list[Tensor]:
        """New games where the old ones have ended, and what all see then."""
        which = cast("list[int]", ended.nonzero()[:, 0].tolist())
        if len(which) == self.num_envs:
            return self._env.reset()
        for index in which:
            self._env.reset_at(index, return_observations=False)
        obs, *_ = self._env.get_from_scenario(
            get_observations=True, get_rewards=False, get_infos=False, get_dones=False
        )
        return obs

    def _seen(self, obs: Sequence[Tensor]) -> Tensor:
        """What each agent sees, in the padded layout: a new tensor `(E, A, O)`, for vmas may go on in its own."""
        flat, size = [x.flatten(1) for x in obs], max(x[0].numel() for x in obs)
        return torch.stack([functional.pad(x, (0, size - x.shape[1])) for x in flat], 1).float()

    def _time_step(
        self, obs: Tensor, next_obs: Tensor, reward: Tensor, terminated: Tensor, ended: Tensor, is_first: Tensor
    ) -> TimeStep:
        return TimeStep(
            obs=obs,
            state=None,
            mask=None,
            active=self._everyone,
            is_first=is_first,
            reward=reward,
            terminated=terminated.unsqueeze(1) & self._everyone,
            ended=ended,
            next_obs=next_obs,
            next_state=None,
            next_active=self._everyone,
        )

    @contextlib.contextmanager
    def _own_random(self) -> Generator[None, None, None]:
        """Within, vmas draws from this environment's random state, and afterwards others find theirs untouched."""
        shared = self._shared_random
        others, cuda = list(shared), self._cuda_random()
        shared[:] = self._random[: len(shared)]
        for state in self._random[len(shared) :]:
            torch.cuda.set_rng_state(state, self.device)
        try:
            yield
        finally:
            self._random = [*shared, *self._cuda_random()]
            shared[:] = others
            for state in cuda:
                torch.cuda.set_rng_state(state, self.device)

    def _cuda_random(self) -> list[Tensor]:
        """On a GPU vmas draws from torch's own generator."""
        return [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []


def make(name: str, num_envs: int, device: torch.device | str, options: Mapping[str, Any]) -> Vmas:
    """`num_envs` copies of the scenario `name`; see `Vmas` for the options, and what is raised."""
    return Vmas(name, num_envs, device, **options)


def _load(scenario: str) -> Any:
    """The package, if it has the scenario."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # gym, which vmas needs, writes there that it is unmaintained
            import gym  # noqa: F401  # pyright: ignore[reportUnusedImport]
        import vmas
    except ImportError as error:
        raise UserError(f"vmas is not installed ({error}): pip install 'mappo[vmas]'") from None
    package: Any = vmas
    known: list[str] = [*package.scenarios, *package.mpe_scenarios, *package.debug_scenarios]
    if scenario not in known:
        near = difflib.get_close_matches(scenario, known, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are: {', '.join(known)}"
        raise UserError(f"vmas has no scenario {scenario!r}; {hint}")
    return package


def _heads(space: Any) -> ActionHeads:
    """Of a space of gym's, the forerunner of gymnasium."""
    if hasattr(space, "nvec"):
        return ActionHeads(tuple(space.nvec.tolist()))
    if hasattr(space, "n"):
        return ActionHeads((int(space.n),))
    return ActionHeads(low=tuple(space.low.tolist()), high=tuple(space.high.tolist()))
