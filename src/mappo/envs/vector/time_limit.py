"""A time limit around an environment of PettingZoo's Parallel API. Loads no torch."""

from typing import Any, cast

from mappo.errors import UserError


class TimeLimit:
    """Says of what ends at step `limit` that it was cut off there: truncated, not terminated.

    Who ended earlier stays dead. Who terminates at that very step counts as cut off, which it may not be: one step in
    `limit` is then mistaken. Without a last observation it stays terminated, for there is nothing to go on from.

    Everything else is the environment's own: `state`, `render`, `shared_reward` and whatever it has beside.

    Args:
        env: the environment.
        limit: steps of an episode.
        cuts: also ends the episode there. If not, only the flags of one that ends itself there are put right.

    Raises:
        UserError: the limit is below 1.
    """

    def __init__(self, env: Any, limit: int, *, cuts: bool) -> None:
        if limit < 1:
            raise UserError(f"a time limit is at least 1 step, got {limit}")
        self.env, self.limit, self.cuts = env, limit, cuts
        self._steps, self._cut = 0, False

    def __getattr__(self, name: str) -> Any:
        if name == "env":  # not there yet, while a copy is made
            raise AttributeError(name)
        return getattr(self.env, name)

    @property
    def agents(self) -> list[str]:
        return [] if self._cut else self.env.agents

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self._steps, self._cut = 0, False
        # Environments need not know of options.
        return self.env.reset(seed=seed) if options is None else self.env.reset(seed=seed, options=options)

    def step(self, actions: dict[str, Any]) -> Any:
        before = list(self.env.agents)
        given = self.env.step(actions)
        self._steps += 1
        if self._steps != self.limit or not before or not _has_five(given):  # else who reads it says so
            return given
        obs, rewards, ends, cuts, infos = given
        over = [a for a in before if (self.cuts or ends.get(a)) and a in obs]
        ends, cuts = {**ends, **dict.fromkeys(over, False)}, {**cuts, **dict.fromkeys(over, True)}
        self._cut = self.cuts
        return obs, rewards, ends, cuts, infos


def _has_five(given: object) -> bool:
    return isinstance(given, tuple) and len(cast(Any, given)) == 5
