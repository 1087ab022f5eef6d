"""The end of the program, whatever its environments have left behind."""

import subprocess
import sys

import pytest

from mappo.errors import StopTraining
from mappo.system.shutdown import Interrupts
from paths import PYTHONPATH

LEAVES = """
import multiprocessing, time
from mappo.system.shutdown import exit_within

child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,))
child.start()
print(child.pid, flush=True)
exit_within(0.3, 7)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_program_ended_by_force_takes_the_processes_of_multiprocessing_with_it():
    """Python's own end would wait for them; they hold standard output open until they end."""
    told = subprocess.run(
        [sys.executable, "-c", LEAVES], stdout=subprocess.PIPE, check=False, env={"PYTHONPATH": PYTHONPATH}, timeout=600
    )
    assert told.returncode == 7


def test_a_later_time_limit_does_not_extend_an_earlier_one():
    interrupts = Interrupts()
    interrupts.set_time_limit(None)
    interrupts.check()
    interrupts.set_time_limit(1e-9)
    interrupts.set_time_limit(60)  # as each trial of a sweep sets its own
    interrupts.set_time_limit(None)
    with pytest.raises(StopTraining):
        interrupts.check()
