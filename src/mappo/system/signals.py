"""Signal handlers that belong to the program: environments can neither replace nor inherit them. Loads no torch.

The command line and the worker processes call `hold`. The library installs no handler.
"""

import os
import signal
import threading
from types import FrameType
from typing import Any

_set_handler = signal.signal
_held: dict[int, Any] = {}  # by number of the signal, the handler before the first `hold`
_forking = threading.local()


def hold(number: int, handler: Any) -> Any:
    """Install a handler that `signal.signal` cannot replace, and return the former handler.

    Holding the first handler again ends the hold. A forked process gets the first handler.
    """
    former = _set_handler(number, handler)
    if _held.setdefault(number, former) == handler:
        del _held[number]
    signal.signal = _set_unless_held if _held else _set_handler
    return former


def ignore_signal(_number: int, _frame: FrameType | None) -> None:
    """Do nothing. Unlike SIG_IGN, programs started by this process do not inherit this handler."""


def is_ignored(number: int) -> bool:
    """Return whether a signal has no effect on this process."""
    return signal.getsignal(number) in (signal.SIG_IGN, ignore_signal)


def _set_unless_held(signalnum: int, handler: Any) -> Any:
    return signal.getsignal(signalnum) if signalnum in _held else _set_handler(signalnum, handler)


def _block_signals() -> None:
    """Block all signals around a fork: the new process must not run handlers that it is about to lose."""
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()) if _held else None


def _unblock_signals() -> None:
    if _forking.mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _release_all() -> None:
    """Give a forked process the handlers of any other process."""
    if _held:
        signal.set_wakeup_fd(-1)  # a signal of this process would count as one of the parent's
    for number, handler in list(_held.items()):
        hold(number, handler)
    _unblock_signals()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_block_signals, after_in_parent=_unblock_signals, after_in_child=_release_all)
