"""Comparison with a second process, in which sets and hashes of text have another order. Loads no torch."""

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import cloudpickle

from mappo.envs.check.determinism import Trace, replay
from mappo.envs.check.recorder import Recorder, StopChecking
from mappo.envs.check.report import Report, Violation
from mappo.envs.vector.rules import broken
from mappo.envs.vector.team_layout import ordered_agents

# The process starts itself again, with another seed of the hash, until a set of the names has another order.
_CODE = """import json, os, sys
names = json.loads(sys.argv[1])
seed = int(os.environ["PYTHONHASHSEED"])
if list(set(names)) == names and seed < 20:
    os.environ["PYTHONHASHSEED"] = str(seed + 1)
    os.execv(sys.executable, sys.orig_argv)
sys.path[:] = json.loads(sys.argv[2])
from mappo.envs.check.other_process import main
main(int(sys.argv[3]), int(sys.argv[4]))"""
_TIMEOUT = 120.0


def compare_process(recorder: Recorder, trace: Trace, possible: list[Any], make: Callable[[], Any]) -> None:
    """Make the environment in a second process, compare the order of its agents, and replay the episode there.

    Nothing is compared if the function cannot be sent to a process, or the process fails.

    Args:
        recorder: takes the findings.
        trace: the beginning of an episode.
        possible: the agents, in the order of `possible_agents` here.
        make: makes the environment.
    """
    names = list(map(str, possible))
    try:
        job = cloudpickle.dumps((make, trace, recorder.report.name))
        other_names, violations = _run(job, names)
    except Exception:  # a comparison that is not possible says nothing about the environment
        return
    if other_names != names:
        is_same_set = sorted(other_names) == sorted(names)
        recorder.add(broken("names-order" if is_same_set else "names-differ", agents=names, others=other_names))
        return  # other differences may follow from this
    for violation in violations:
        if violation.code not in recorder.found:
            recorder.found[violation.code] = violation
            recorder.report.violations.append(violation)


def _run(job: bytes, names: list[str]) -> tuple[list[str], list[Violation]]:
    with tempfile.TemporaryFile() as job_file, tempfile.TemporaryFile() as reply_file:
        job_file.write(job)
        job_file.flush()
        handles = (job_file.fileno(), reply_file.fileno())
        path = json.dumps([str(entry) for entry in sys.path])
        subprocess.run(
            [sys.executable, "-P", "-c", _CODE, json.dumps(names), path, *map(str, handles)],
            env=os.environ | {"PYTHONHASHSEED": "1"},
            pass_fds=handles,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT,
            check=True,
        )
        reply_file.seek(0)
        return pickle.load(reply_file)


def main(job: int, reply: int) -> None:
    """Answer for the second process: names of the agents, and what differs in the episode.

    Args:
        job: file descriptor with the maker and the episode.
        reply: file descriptor for the answer.
    """
    with os.fdopen(job, "rb") as stream:
        stream.seek(0)
        make, trace, name = pickle.load(stream)
    env = make()
    recorder = Recorder(Report(name, trace.seed))
    try:
        replay(recorder, trace, {"an environment in another process": env})
    except StopChecking:  # an error of another kind than here: told by the other checks if it is one
        recorder.report.violations.clear()
    with os.fdopen(reply, "wb") as stream:
        pickle.dump((list(map(str, ordered_agents(env.possible_agents))), recorder.report.violations), stream)
    os._exit(0)  # whatever the environment has started
