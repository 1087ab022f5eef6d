"""Several environments stepped one after another, in one process. Loads no torch."""

import signal
from collections.abc import Callable, Sequence
from typing import Any

from mappo.envs.vector.buffers import Buffers
from mappo.envs.vector.env_slot import EnvSlot
from mappo.envs.vector.team_layout import TeamLayout, needs_reset
from mappo.envs.vector.time_limit import TimeLimit
from mappo.errors import UserError
from mappo.system.shutdown import close_all
from mappo.system.tracebacks import format_error


class EnvFailedError(UserError):
    """The environment's own code raised."""


class EnvGroup:
    """Some of the environments that `Buffers` shows: those of several ranges, each stepped by itself.

    Args:
        make: called once for each environment. ranges: of the environments' numbers; one may be empty.
        shared_reward: see `TeamLayout`. time_limit: see `TimeLimit`, which then cuts.

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
        self._current_call = (self._numbers[0], "made")  # which environment is at work, and at what
        try:
            self._make(make, time_limit, shared_reward)
        except BaseException:
            self.close()
            raise

    def _make(self, make: Callable[[], Any], time_limit: int | None, shared_reward: bool) -> None:
        with _WrapErrors(self):
            for i in self._numbers:
                self._current_call = (i, "made")
                self.envs.append(make())
        if any(env is None for env in self.envs):
            raise UserError("the function that makes environments gave None: let it return the environment")
        if len({id(env) for env in self.envs}) < len(self.envs):
            raise UserError(f"the function gave one {type(self.envs[0]).__name__} several times: make one at each call")
        self._current_call = (self._numbers[0], "asked for its spaces")
        with _WrapErrors(self):
            self.layout = TeamLayout(self.envs[0], shared_reward)
            if needs_reset(self.envs[0]):  # the layout reset it; all alike, for any number of workers
                for env in self.envs[1:]:
                    env.reset(seed=0)
        if time_limit is not None:
            self.envs = [TimeLimit(env, time_limit, cuts=True) for env in self.envs]

    def attach(self, arrays: Buffers) -> None:
        """From here on."""
        self.arrays, self._stepping = arrays, arrays["busy"]
        games = [EnvSlot(env, self.layout, arrays.rows(i)) for i, env in zip(self._numbers, self.envs, strict=True)]
        self.slots = dict(zip(self._numbers, games, strict=True))

    def reset(self, check_order: bool = False) -> None:
        """The episodes that `seed` and `episode` name."""
        for i, game in self.slots.items():
            self._at(i, "reset")
            with _WrapErrors(self):
                game.reset(check_order and i == 0)
            self._stepping[i] = 0

    def step(self, part: int) -> None:
        """One step of the environments of one range, by the actions that `Buffers` holds."""
        numbers, layout = self.ranges[part], self.layout
        if not numbers:
            return
        chosen = self.arrays["action"][numbers.start : numbers.stop]
        own = [seat.to_env_action(chosen[:, j]) for j, seat in enumerate(layout.agent_spaces)]
        for i in numbers:
            self._at(i, "stepped")
            with _WrapErrors(self):
                actions = {agent: own[j][i - numbers.start] for j, agent in enumerate(layout.agents)}
                self.slots[i].step(actions)
            self._stepping[i] = 0

    def _at(self, index: int, doing: str) -> None:
        self._current_call = (index, doing)
        self._stepping[index] = 1

    def warnings(self) -> list[str]:
        """What the environments should be told, once."""
        texts = [text for game in self.slots.values() for text in game.warnings]
        for game in self.slots.values():
            game.warnings.clear()
        return texts

    def render(self, index: int) -> Any:
        """The picture of one environment.

        Raises:
            UserError: there is none.
        """
        self._current_call, env = (index, "drawn"), self.envs[index]
        if not callable(getattr(env, "render", None)):
            raise UserError("this environment cannot draw: it has no render()")
        with _WrapErrors(self):
            try:
                return env.render()
            except NotImplementedError:  # PettingZoo's base class
                raise UserError("this environment cannot draw: it has no render()") from None

    def close(self) -> None:
        close_all(*self.envs)

    def wrap_error(self, error: BaseException) -> EnvFailedError:
        """An error in an environment's own code, as a message that names environment and seed."""
        index, doing = self._current_call
        where = f"environment {index}"
        if hasattr(self, "arrays"):
            seed, episode = (int(self.arrays[name][index]) for name in ("seed", "episode"))
            where += f" (seed {seed}, episode {episode})"
        return EnvFailedError(f"{where} failed as it was {doing}:\n{format_error(error)}")


class _WrapErrors:
    """A context in which an environment's own errors become messages; cheaper than a generator, once a step."""

    def __init__(self, shard: EnvGroup) -> None:
        self._shard = shard

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        # Whatever it is, sys.exit too: the environment would go, not the program. Ctrl-C is the user's, if it is heard.
        if error is None or isinstance(error, UserError):
            return
        if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            return
        raise self._shard.wrap_error(error) from error
