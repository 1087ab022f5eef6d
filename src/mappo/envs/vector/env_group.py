"""Several environments stepped one after another, in one process. Loads no torch."""

import signal
from collections.abc import Callable, Sequence
from typing import Any

from mappo.envs.vector.buffers import Arrays
from mappo.envs.vector.env_slot import Game
from mappo.envs.vector.team_layout import Layout, needs_reset
from mappo.envs.vector.time_limit import TimeLimit
from mappo.errors import UserError
from mappo.system.shutdown import close
from mappo.system.tracebacks import told


class FailedError(UserError):
    """The environment's own code raised."""


class Shard:
    """Some of the environments that `Arrays` shows: those of several ranges, each stepped by itself.

    Args:
        make: called once for each environment. ranges: of the environments' numbers; one may be empty.
        shared_reward: see `Layout`. time_limit: see `TimeLimit`, which then cuts.

    Raises:
        UserError: `make` fails, or what it gives cannot be used.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        ranges: Sequence[range],
        shared_reward: bool = False,
        time_limit: int | None = None,
    ) -> None:
        self.ranges, self._numbers = ranges, [i for part in ranges for i in part]
        self.envs: list[Any] = []
        self._doing = (self._numbers[0], "made")  # which environment is at work, and at what
        try:
            self._make(make, time_limit, shared_reward)
        except BaseException:
            self.close()
            raise

    def _make(self, make: Callable[[], Any], time_limit: int | None, shared_reward: bool) -> None:
        with _Blame(self):
            for i in self._numbers:
                self._doing = (i, "made")
                self.envs.append(make())
        if any(env is None for env in self.envs):
            raise UserError("the function that makes environments gave None: let it return the environment")
        if len({id(env) for env in self.envs}) < len(self.envs):
            raise UserError(f"the function gave one {type(self.envs[0]).__name__} several times: make one at each call")
        self._doing = (self._numbers[0], "asked for its spaces")
        with _Blame(self):
            self.layout = Layout(self.envs[0], shared_reward)
            if needs_reset(self.envs[0]):  # the layout reset it; all alike, for any number of workers
                for env in self.envs[1:]:
                    env.reset(seed=0)
        if time_limit is not None:
            self.envs = [TimeLimit(env, time_limit, cuts=True) for env in self.envs]

    def show_in(self, arrays: Arrays) -> None:
        """From here on."""
        self.arrays, self._busy = arrays, arrays["busy"]
        games = [Game(env, self.layout, arrays.rows(i)) for i, env in zip(self._numbers, self.envs, strict=True)]
        self.games = dict(zip(self._numbers, games, strict=True))

    def reset(self, check_order: bool = False) -> None:
        """The episodes that `seed` and `episode` name."""
        for i, game in self.games.items():
            self._at(i, "reset")
            with _Blame(self):
                game.reset(check_order and i == 0)
            self._busy[i] = 0

    def step(self, part: int) -> None:
        """One step of the environments of one range, by the actions that `Arrays` holds."""
        numbers, layout = self.ranges[part], self.layout
        if not numbers:
            return
        chosen = self.arrays["action"][numbers.start : numbers.stop]
        own = [seat.act(chosen[:, j]) for j, seat in enumerate(layout.seats)]
        for i in numbers:
            self._at(i, "stepped")
            with _Blame(self):
                actions = {agent: own[j][i - numbers.start] for j, agent in enumerate(layout.agents)}
                self.games[i].step(actions)
            self._busy[i] = 0

    def _at(self, index: int, doing: str) -> None:
        self._doing = (index, doing)
        self._busy[index] = 1

    def warnings(self) -> list[str]:
        """What the environments should be told, once."""
        texts = [text for game in self.games.values() for text in game.warnings]
        for game in self.games.values():
            game.warnings.clear()
        return texts

    def draw(self, index: int) -> Any:
        """The picture of one environment.

        Raises:
            UserError: there is none.
        """
        self._doing, env = (index, "drawn"), self.envs[index]
        if not callable(getattr(env, "render", None)):
            raise UserError("this environment cannot draw: it has no render()")
        with _Blame(self):
            try:
                return env.render()
            except NotImplementedError:  # PettingZoo's base class
                raise UserError("this environment cannot draw: it has no render()") from None

    def close(self) -> None:
        close(*self.envs)

    def blame(self, error: BaseException) -> FailedError:
        """An error in an environment's own code, as a message that names environment and seed."""
        index, doing = self._doing
        where = f"environment {index}"
        if hasattr(self, "arrays"):
            seed, episode = (int(self.arrays[name][index]) for name in ("seed", "episode"))
            where += f" (seed {seed}, episode {episode})"
        return FailedError(f"{where} failed as it was {doing}:\n{told(error)}")


class _Blame:
    """A context in which an environment's own errors become messages; cheaper than a generator, once a step."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        # Whatever it is, sys.exit too: the environment would go, not the program. Ctrl-C is the user's, if it is heard.
        if error is None or isinstance(error, UserError):
            return
        if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            return
        raise self._shard.blame(error) from error
