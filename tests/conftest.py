"""What all tests share: one thread, one seed, and drawn examples that are the same everywhere."""

import os
import signal

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
if hasattr(signal, "SIGHUP"):  # who is started under nohup ignores it, and so would every program started here
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# No deadline: a loaded machine is no bug. In CI a red test must be red again on every machine.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True)
def seed() -> int:
    """Each test starts from the same global random state."""
    torch.manual_seed(0)
    return 0
