"""What all tests share: one thread, one seed, and drawn examples that are the same everywhere."""

import importlib.util
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
def gpl(request: pytest.FixtureRequest) -> None:
    """Tests of packages under the GPL fail without them: to be skipped unseen they need no run of their own."""
    if request.node.get_closest_marker("gpl") and importlib.util.find_spec("vmas") is None:
        pytest.fail("vmas is missing: make gpl installs it")


@pytest.fixture(autouse=True)
def seed() -> int:
    """Each test starts from the same global random state."""
    torch.manual_seed(0)
    return 0
