"""A time limit around an environment of PettingZoo's Parallel API. Loads no torch."""

from typing import Any

from mappo.envs.vector.api_checks import check_return
from mappo.errors import UserError


class TimeLimit:
    """Wrapper to report the end of an episode at step `limit` as truncation, not as termination.

    A dead agent stays dead. A termination at step `limit` itself counts as truncation. This may be wrong, for at most a
    step in `limit`. An agent without a last observation stays terminated: its value is unknown.

    `state`, `render`, `shared_reward` and all other attributes are those of the environment.

    Args:
        env: the environment.
        limit: steps of an episode.
        cuts: True to end the episode at the limit; False to correct the flags of an episode with its own end there.

    Raises:
        UserError: the limit is below 1.
    """

    def __init__(self, env: Any, limit: int, *, cuts: bool) -> None:
        if limit < 1:
            raise UserError(f"a time limit must be at least 1 step, got {limit}")
        self.env = env
        self.limit = limit
        self.cuts = cuts
        self._num_steps = 0
        self._is_cut = False

    def __getattr__(self, name: str) -> Any:
        if name == "env":  # absent while a copy is made: avoid endless recursion
            raise AttributeError(name)
        return getattr(self.env, name)

    @property
    def agents(self) -> list[str]:
        return [] if self._is_cut else self.env.agents

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self._num_steps = 0
        self._is_cut = False
        # An environment need not have the parameter `options`.
        return self.env.reset(seed=seed) if options is None else self.env.reset(seed=seed, options=options)

    def step(self, actions: dict[str, Any]) -> Any:
        agents = list(self.env.agents)
        result = self.env.step(actions)
        self._num_steps += 1
        # The caller reports a result of another form.
        if self._num_steps != self.limit or not agents or check_return("step", result) is not None:
            return result
        obs, rewards, terminations, truncations, infos = result
        cut = [a for a in agents if (self.cuts or terminations.get(a)) and a in obs]
        terminations = {**terminations, **dict.fromkeys(cut, False)}
        truncations = {**truncations, **dict.fromkeys(cut, True)}
        self._is_cut = self.cuts
        return obs, rewards, terminations, truncations, infos
