"""Games of the package envpool: its Jumanji family, in C++, stepped side by side on the CPU.

`envpool/LevelBasedForaging-v0` and `envpool/Cleaner-v0`. They are envpool's own versions of Jumanji's games, which
follow, loosely, those of lbforaging and others: other rules, other rewards, and no numbers to be compared with theirs.
Of envpool 1.2.5:

- LevelBasedForaging: 2 agents, 2 food items, 8 x 8. Every episode starts from one and the same state, whatever the
  seed: a policy learns that level, and no other. Options `lbf_agents` and `lbf_food` set another one.
- Cleaner: 3 agents from one corner, walls at random. An illegal move ends the episode. In one game of about fifty,
  walls close the corner: nothing is legal, and all choices are offered.
- RobotWarehouse is a placeholder without shelves, whose rewards are 0, or -1 for a bump that ends the game: refused.
"""

import difflib
import importlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mappo.core.spec import ActionHeads, Spec
from mappo.core.timestep import TimeStep
from mappo.errors import UserError

# Of each game: what agents observe one by one, and what all of them see.
_GAMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "LevelBasedForaging-v0": (("agents_view",), ()),
    "Cleaner-v0": (("agents_locations",), ("agents_locations", "grid")),
}
_OURS = ("num_envs", "batch_size", "seed", "env_seed", "max_num_players", "max_episode_steps", "gym_reset_return_info")


class EnvPool:
    """`num_envs` games of one kind; an `Environment` on the CPU, which cannot be saved.

    All agents are given the team's reward. The game's own end terminates an episode, the time limit truncates it,
    also where envpool tells otherwise: 100 steps, which is all that the games themselves allow. What the game would
    have ended by itself at the very last step counts as truncated.

    Args:
        game: its name in envpool, without `Jumanji/`.
        num_envs: E.
        max_steps: an earlier time limit.
        num_threads: of envpool; for some hundreds of games and more.
        options: of envpool's game.

    Raises:
        UserError: envpool is not installed, or has no such game or option.
    """

    def __init__(
        self, game: str, num_envs: int, max_steps: int | None = None, num_threads: int = 1, **options: Any
    ) -> None:
        self._envpool = _load(game)
        if num_envs < 1 or num_threads < 1:
            raise UserError(f"envpool/{game} needs at least one environment and thread: {num_envs}, {num_threads}")
        if ours := sorted(set(_OURS).intersection(options)):
            raise UserError(f"envpool/{game}: {', '.join(ours)} cannot be chosen; there are max_steps and num_threads")
        self.game, self.num_envs, self.device = game, num_envs, torch.device("cpu")
        self._options = {**options, "num_threads": num_threads}
        self._own, self._common = _GAMES[game]
        self._pool: Any = None
        self._start(range(num_envs))
        limit: int = self._pool.config["max_episode_steps"]
        self._max_steps = limit if max_steps is None else max_steps
        if not 1 <= self._max_steps <= limit:
            raise UserError(f"envpool/{game} plays 1 to {limit} steps, got max_steps {max_steps}")
        self._warn_of_one_start()
        obs = self._pool.reset()[0]
        agents, choices = obs["action_mask"].shape[1:]
        space = spaces.Box(-np.inf, np.inf, self._seen(obs).shape[2:], np.float32)
        self.spec = Spec(
            agents=tuple(f"agent_{i}" for i in range(agents)),
            obs_spaces=(space,) * agents,
            action_heads=(ActionHeads((choices,)),) * agents,
            groups=(0,) * agents,
            shared_reward=True,
        )
        self._everyone = torch.ones(num_envs, agents, dtype=torch.bool)

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """First episodes start from the seeds, later ones from what the games draw on."""
        if seed is not None:
            seeds = range(seed, seed + self.num_envs) if isinstance(seed, int) else seed
            if len(seeds) != self.num_envs:
                raise ValueError(f"envpool: {len(seeds)} seeds for {self.num_envs} environments")
            self._start(seeds)
        first = self._pool.reset()[0]
        obs, nothing = self._seen(first), np.zeros(self.num_envs, np.float32)
        return self._time_step(obs, obs, _legal(first), nothing, nothing > 0, nothing > 0, self._everyone)

    def step(self, action: Tensor) -> TimeStep:
        """One step of each game; actions `(E, A, 1)`."""
        seen, reward, terminated, truncated, info = self._pool.step(action[..., 0].cpu().numpy().astype(np.int32))
        late = info["elapsed_step"] >= self._max_steps
        ended = terminated | truncated | late
        next_obs = obs = self._seen(seen)
        mask = _legal(seen)
        if ended.any():
            # Else envpool would start them at the next step, and leave out its action.
            which = ended.nonzero()[0].astype(np.int32)
            first = self._pool.reset(which)[0]
            obs, next_obs = next_obs.clone(), next_obs
            obs[which], mask[which] = self._seen(first), _legal(first)
        is_first = torch.as_tensor(ended).unsqueeze(1) & self._everyone
        return self._time_step(obs, next_obs, mask, reward, ended & ~late, ended, is_first)

    def close(self) -> None:
        self._pool.close()

    def _start(self, seeds: Sequence[int]) -> None:
        """envpool takes seeds only when it makes the games."""
        if self._pool is not None:
            self._pool.close()
        self._pool = self._made(seeds)

    def _made(self, seeds: Sequence[int]) -> Any:
        folded = [seed % 2**31 for seed in seeds]
        try:
            return self._envpool.make_gymnasium(
                f"Jumanji/{self.game}", num_envs=len(folded), seed=folded, **self._options
            )
        except (AssertionError, TypeError, ValueError) as error:
            raise UserError(f"envpool/{self.game} cannot be made with the options {self._options}: {error}") from error

    def _warn_of_one_start(self) -> None:
        pool = self._made(range(8))
        starts = self._seen(pool.reset()[0])
        pool.close()
        if (starts == starts[0]).all():
            warnings.warn(
                f"envpool/{self.game} starts every episode from the same state, whatever the seed: what is learned "
                f"and scored here holds for that one level",
                stacklevel=4,
            )

    def _seen(self, obs: Mapping[str, np.ndarray]) -> Tensor:
        """What each agent observes: float32 `(E, A, O)`; a copy, for the memory is envpool's."""
        envs, agents = obs["action_mask"].shape[:2]
        own = [obs[key].reshape(envs, agents, -1) for key in self._own]
        common = [np.repeat(obs[key].reshape(envs, 1, -1), agents, 1) for key in self._common]
        return torch.as_tensor(np.concatenate([*own, *common], -1).astype(np.float32))

    def _time_step(
        self,
        obs: Tensor,
        next_obs: Tensor,
        mask: Tensor,
        reward: np.ndarray,
        terminated: np.ndarray,
        ended: np.ndarray,
        is_first: Tensor,
    ) -> TimeStep:
        return TimeStep(
            obs=obs,
            state=None,
            mask=mask,
            active=self._everyone,
            is_first=is_first,
            reward=torch.tensor(reward).unsqueeze(1).repeat(1, self.spec.num_agents),
            terminated=torch.as_tensor(terminated).unsqueeze(1) & self._everyone,
            ended=torch.as_tensor(ended),
            next_obs=next_obs,
            next_state=None,
            next_active=self._everyone,
        )


def make(name: str, num_envs: int, device: torch.device | str, options: Mapping[str, Any]) -> EnvPool:
    """`num_envs` games `name`, on the CPU wherever the policy is; see `EnvPool` for the options, and what is raised."""
    return EnvPool(name, num_envs, **options)


def _load(game: str) -> Any:
    """The package, if the game is one that can be played here."""
    if game.startswith("RobotWarehouse"):
        raise UserError(
            f"envpool/{game} is no warehouse: in envpool 1.2.5 it has no shelves, and no reward above 0; use rware/..."
        )
    if game not in _GAMES:
        near = difflib.get_close_matches(game, _GAMES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(_GAMES)}"
        raise UserError(f"envpool/{game} is not a game that mappo plays; {hint}")
    try:
        return importlib.import_module("envpool")
    except ImportError as error:
        raise UserError(f"envpool is not installed ({error}): pip install 'mappo[envpool]'") from None


def _legal(obs: Mapping[str, np.ndarray]) -> Tensor:
    """The mask, bool `(E, A, N)`; all True where nothing is legal, for an agent must choose."""
    mask = torch.tensor(obs["action_mask"])
    return mask | ~mask.any(-1, keepdim=True)
