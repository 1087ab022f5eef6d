"""Games that misbehave, each in one way. Loads no torch: workers import it."""

import ctypes
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from games import Game

HANG = 240  # seconds: longer than any test waits, on a busy machine too


class Drawn(Game):
    def render(self) -> np.ndarray:
        return np.full((8, 8, 3), self.clock, np.uint8)


class Prints(Drawn):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        print("hello from Python")
        os.system("echo hello from a program")
        return super().reset(seed)


class CloseHangs(Drawn):
    def close(self) -> None:
        time.sleep(HANG)


class CloseRaises(Drawn):
    def close(self) -> None:
        raise OSError("the simulator is gone")


class CloseExits(Drawn):
    def close(self) -> None:
        raise SystemExit(7)


class CloseCannotBeInterrupted(Drawn):
    """Waits for a lock in compiled code, whatever signals come."""

    def close(self) -> None:
        libc, lock = ctypes.CDLL(None), ctypes.create_string_buffer(64)  # all zeros: PTHREAD_MUTEX_INITIALIZER
        libc.pthread_mutex_lock(lock)
        libc.pthread_mutex_lock(lock)


class LeavesThreads(Drawn):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        if not self.episodes:
            for name in ("reader", "writer", "watcher", "waiter"):
                threading.Thread(target=time.sleep, args=(HANG,), name=name).start()
        return super().reset(seed)


class NeverEnds(Drawn):
    """Once it is scored, or played in an evaluation, it makes the file that MARK names."""

    def __init__(self) -> None:
        super().__init__(horizon=-1, masks=False, state=False)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        if seed in (1_000_000, 2_000_000) and "MARK" in os.environ:
            Path(os.environ["MARK"]).touch()
        return super().reset(seed)

    def step(self, actions: dict[str, Any]) -> Any:
        time.sleep(1e-3)
        obs, rewards, ends, cuts, infos = super().step(actions)
        self.agents = list(self.possible_agents)
        obs, infos = self._look(self.agents)
        return obs, rewards, dict.fromkeys(ends, False), cuts, infos


class Mine(BaseException):
    """Not an `Exception`."""


class Raises(Drawn):
    """What is given, in the second step of the second episode and later."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.error = error

    def step(self, actions: dict[str, Any]) -> Any:
        if self.episodes > 1 and self.clock == 1:
            self.fail(2)
        return super().step(actions)

    def fail(self, depth: int) -> None:
        if depth:
            self.fail(depth - 1)
        raise self.error("no more")


class RaisesInterrupt(Raises):
    def __init__(self) -> None:
        super().__init__(KeyboardInterrupt)
