"""Several environments stepped in turn in a process. Loads no torch."""

import signal
from collections.abc import Callable, Sequence
from typing import Any

from mappo.envs.vector.api_checks import check_api, needed_arguments
from mappo.envs.vector.buffers import Buffers
from mappo.envs.vector.env_slot import EnvSlot
from mappo.envs.vector.rules import broken
from mappo.envs.vector.state_space import needs_reset
from mappo.envs.vector.team_layout import TeamLayout
from mappo.envs.vector.time_limit import TimeLimit
from mappo.errors import UserError
from mappo.system.shutdown import close_all, close_failed
from mappo.system.signals import is_ignored
from mappo.system.tracebacks import format_error

_NO_PICTURES = "this environment draws no pictures: it has no method render() (docs/environments.md)"


class EnvFailedError(UserError):
    """Error raised by the environment's own code."""


class EnvGroup:
    """Environments of several ranges of the arrays in `Buffers`; each range is stepped by itself.

    Args:
        make: called once for each environment.
        ranges: indices of the environments; a range may be empty.
        shared_reward: see `TeamLayout`.
        time_limit: see `TimeLimit`; episodes are cut off.
        late_rewards: see `EnvOptions`.

    Raises:
        UserError: `make` fails, or returns no usable environment.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        ranges: Sequence[range],
        shared_reward: bool = False,
        time_limit: int | None = None,
        late_rewards: bool = True,
    ) -> None:
        self.ranges = ranges
        self._indices = [i for envs in ranges for i in envs]
        self.envs: list[Any] = []
        self._current_call = (self._indices[0], "made")  # environment at work, and its work, for error messages
        try:
            self._make(make, time_limit, shared_reward)
            self.layout.late_rewards = late_rewards
        except BaseException:
            close_failed(*self.envs)
            raise

    def _make(self, make: Callable[[], Any], time_limit: int | None, shared_reward: bool) -> None:
        with _WrapErrors(self):
            for i in self._indices:
                self._current_call = (i, "made")
                self.envs.append(make())
        if any(env is None for env in self.envs):
            raise UserError(str(check_api(None)))
        if len({id(env) for env in self.envs}) < len(self.envs):
            raise UserError(str(broken("same-object", kind=type(self.envs[0]).__name__)))
        self._current_call = (self._indices[0], "asked for its spaces")
        with _WrapErrors(self):
            self.layout = TeamLayout(self.envs[0], shared_reward)
            if needs_reset(self.envs[0]):
                # The layout has reset the first environment. Reset all: episodes must be the same for any number
                # of workers.
                for env in self.envs[1:]:
                    env.reset(seed=0)
        if time_limit is not None:
            self.envs = [TimeLimit(env, time_limit, cuts=True) for env in self.envs]

    def attach(self, arrays: Buffers) -> None:
        """Write all results into these arrays from now on."""
        self.arrays = arrays
        self._busy = arrays["busy"]
        self.slots = {
            i: EnvSlot(env, self.layout, arrays.rows(i)) for i, env in zip(self._indices, self.envs, strict=True)
        }

    def reset(self, check_order: bool = False) -> None:
        """Start the episodes determined by `seed` and `episode`.

        Args:
            check_order: True to compare the order of agents in `state()` with `possible_agents`.
        """
        with _WrapErrors(self):
            for i, slot in self.slots.items():
                self._begin_call(i, "reset")
                slot.reset(check_order and i == 0)
                self._busy[i] = 0

    def step(self, index: int) -> None:
        """Step the environments of range `index` by the actions in the arrays."""
        envs = self.ranges[index]
        if not envs:
            return
        action = self.arrays["action"][envs.start : envs.stop]  # (e, A, D)
        env_actions = self.layout.to_env_actions(action)
        with _WrapErrors(self):
            for i, actions in zip(envs, env_actions, strict=True):
                self._begin_call(i, "stepped")
                self.slots[i].step(actions)
                self._busy[i] = 0

    def _begin_call(self, index: int, call: str) -> None:
        self._current_call = (index, call)
        self._busy[index] = 1

    def take_warnings(self) -> list[str]:
        """Return the warnings of the environments since the last call."""
        texts = [text for slot in self.slots.values() for text in slot.warnings]
        for slot in self.slots.values():
            slot.warnings.clear()
        return texts

    def render(self, index: int) -> Any:
        """Return a picture of an environment.

        Raises:
            UserError: the environment has no pictures.
        """
        env = self.envs[index]
        self._current_call = (index, "rendered")
        if not callable(getattr(env, "render", None)):
            raise UserError(_NO_PICTURES)
        if signature := needed_arguments(env.render):
            raise UserError(f"this environment cannot be rendered: declare render(self) in place of render{signature}")
        with _WrapErrors(self):
            try:
                return env.render()
            except NotImplementedError:  # PettingZoo's base class
                raise UserError(_NO_PICTURES) from None

    def close(self) -> None:
        """Close all environments."""
        close_all(*self.envs)

    def wrap_error(self, error: BaseException) -> EnvFailedError:
        """Return an error of the environment's own code as a message with environment, seed and episode."""
        index, call = self._current_call
        where = f"environment {index}"
        if hasattr(self, "arrays"):
            seed, episode = (int(self.arrays[name][index]) for name in ("seed", "episode"))
            where += f" (seed {seed}, episode {episode})"
        return EnvFailedError(f"{where} failed as it was {call}:\n{format_error(error)}")


class _WrapErrors:
    """Context to turn errors of an environment into messages; cheaper than a generator."""

    def __init__(self, group: EnvGroup) -> None:
        self._group = group

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        # Also for sys.exit: the environment asked to end, not the program.
        if error is None or isinstance(error, UserError):
            return
        # Ctrl-C is the user's, unless the process ignores SIGINT: then the environment itself raised the exception.
        if isinstance(error, KeyboardInterrupt) and not is_ignored(signal.SIGINT):
            return
        raise self._group.wrap_error(error) from error
