"""Handlers that belong to the program: an environment neither replaces nor inherits them."""

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mappo.system import signals
from mappo.system.signals import hold, ignore_signal, is_ignored

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
# SIG_IGN, not Python's own, where a shell has started the tests in the background.
OF_THE_TESTS = signal.getsignal(signal.SIGINT)


@pytest.fixture(autouse=True)
def _all_released() -> Iterator[None]:
    yield
    assert not signals._held  # pyright: ignore[reportPrivateUsage]
    assert signal.signal is signals._set_handler  # pyright: ignore[reportPrivateUsage]


@pytest.fixture
def held() -> Iterator[list[int]]:
    """The signals that the handler of this program has received."""
    received: list[int] = []
    former = {n: hold(n, lambda number, _: received.append(number)) for n in (signal.SIGTERM, signal.SIGINT)}
    yield received
    for number, handler in former.items():
        hold(number, handler)


def forked(act: Callable[[], int]) -> int:
    """The exit code of a forked process, or minus the number of the signal that ended it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there are threads
        pid = os.fork()
    if not pid:
        code = 99
        try:
            code = act()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("other", [signal.SIG_IGN, signal.SIG_DFL, lambda *_: pytest.fail("it was called")])
def test_a_held_handler_stays(other: Any, held: list[int]):
    handler = signal.getsignal(signal.SIGTERM)
    assert signal.signal(signal.SIGTERM, other) is handler
    os.kill(os.getpid(), signal.SIGTERM)
    assert held == [signal.SIGTERM]
    former = signal.signal(signal.SIGUSR1, ignore_signal)
    assert signal.signal(signal.SIGUSR1, former) is ignore_signal, "others are the environment's"


def test_a_handler_may_be_held_in_place_of_another():
    former = hold(signal.SIGTERM, ignore_signal)
    assert is_ignored(signal.SIGTERM)
    assert hold(signal.SIGTERM, signal.SIG_IGN) is ignore_signal
    assert is_ignored(signal.SIGTERM)
    hold(signal.SIGTERM, former)
    assert not is_ignored(signal.SIGTERM)


@pytest.mark.usefixtures("held")
def test_a_forked_process_has_the_handlers_of_any_other():
    def end_by_signal() -> int:
        assert signal.getsignal(signal.SIGINT) is OF_THE_TESTS
        assert signal.signal(signal.SIGUSR1, ignore_signal) != ignore_signal
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    assert forked(end_by_signal) == -signal.SIGTERM

    def replace() -> int:
        signal.signal(signal.SIGTERM, ignore_signal)
        os.kill(os.getpid(), signal.SIGTERM)
        return 7

    assert forked(replace) == 7, "it may have handlers of its own"
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(forked(end_by_signal)))
    thread.start()
    thread.join()
    assert codes == [-signal.SIGTERM], "forked by a thread"
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set(), "nothing is left blocked"


def test_signals_of_a_forked_process_do_not_wake_this_one(held: list[int]):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    former = signal.set_wakeup_fd(writer)

    def receive() -> int:
        signal.signal(signal.SIGTERM, ignore_signal)
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    try:
        assert forked(receive) == 0
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert os.read(reader, 9) == bytes([signal.SIGTERM])
        assert held == [signal.SIGTERM]
    finally:
        signal.set_wakeup_fd(former)
        os.close(reader)
        os.close(writer)
