"""Short runs of every kind by the command line, and what each has come to."""

import contextlib
import csv
import io
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mappo.cli import main as cli
from mappo.errors import UserError
from mappo.runs import checkpoint
from mappo.runs.directory import read_run, seed_paths

ENVS, LENGTH = 4, 5
SIZE = ENVS * LENGTH  # steps of an update
PATIENCE = 120.0
SMALL = (
    f"--env.num-envs {ENVS} --network.hidden 8 --ppo.rollout-length {LENGTH} --ppo.epochs 1 --ppo.minibatches 1 "
    "--run.eval-episodes 4 --run.progress plain"
)
KINDS = {
    "plain": "probe/unequal",
    "memory": "probe/combined --network.memory-size 4 --network.obs-norm --ppo.value-norm --env.reward agent",
    "seeds": "probe/memory --run.seeds 3 --network.memory-size 4 --ppo.value-norm",
    "pool": "games:Game --env.workers 2 --network.layer-norm",  # its episodes cannot be saved
}


# What a new run in the place of one that cannot go on is told: it was empty, or killed before config.json was there, or
# between the first checkpoints of two seeds.
BEGIN_AGAIN = (
    "or delete it, for no checkpoint was saved in it",
    "exists and is not a run: choose another --run.name or --run.dir",
    "/seed-1\n",
)


class Violation(Exception):
    """What is promised did not hold."""


def words(kind: str, run: Path, updates: int, every: int = 1) -> list[str]:
    """`mappo train ...` of so many updates, with a checkpoint after `every` of them."""
    steps = f"--run.total-steps {updates * SIZE} --run.eval-interval {every * SIZE} --run.dir {run}"
    return ["train", *f"{KINDS[kind]} {SMALL} {steps}".split()]


def resuming(run: Path, kind: str = "") -> list[str]:
    return ["resume", str(run), "--progress", "plain", *["--allow-code"] * (kind == "pool")]


def tracks(run: Path) -> list[Path]:
    """The directories of a run's seeds."""
    return seed_paths(run, read_run(run)[1])


def outcome(run: Path) -> dict[str, Any]:
    """All that a run has come to, but for clock times: by the name of what it is."""
    found: dict[str, Any] = {}
    for own in tracks(run):
        whose = "" if own == run else f"{own.name}: "
        with open(own / "timing.csv", newline="") as file:
            found[f"{whose}rows of timing.csv"] = [(row["update"], row["step"]) for row in csv.DictReader(file)]
        for name in ("metrics.csv", "returns.csv"):
            found[f"{whose}{name}"] = (own / name).read_bytes()
        found[f"{whose}checkpoints"] = sorted(os.listdir(own / "checkpoints"))
        for name in ("last", "best"):
            try:
                saved = checkpoint.load(own, name)
            except UserError as error:
                found[f"{whose}{name}"] = str(error)
                continue
            found[f"{whose}{name} passed over"] = saved.passed_over
            found[f"{whose}{name} state"] = {k: v for k, v in saved.state.items() if k != "sha256"}
            for key, x in (saved.model | saved.trainer).items():
                found[f"{whose}{name} {key}"] = (x.dtype, tuple(x.shape), x.contiguous().view(-1).tolist())
    for path in run.rglob(".*"):
        if path.name != ".lock" and path.parent.name != "tensorboard":
            found[f"left behind: {path.relative_to(run)}"] = True
    return found


def assert_same(whole: dict[str, Any], other: dict[str, Any], where: str) -> None:
    """Bit for bit."""
    names = [n for n in whole | other if repr(whole.get(n)) != repr(other.get(n))]  # repr: NaN equals itself
    if names:
        first = f"{whole.get(names[0])!r}\nand\n{other.get(names[0])!r}"
        raise Violation(f"{where}: not as in the run that nothing interrupted: {', '.join(names[:9])}:\n{first[:4000]}")


@dataclass(frozen=True)
class Told:
    """What a command came to."""

    code: int
    out: str
    err: str


def command(args: Sequence[str]) -> Told:
    """`mappo ...` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: print(f"mappo: {message}", file=err)  # as the program does
        code = cli.main(list(args))
    return Told(code, out.getvalue(), err.getvalue())


def fork(args: Sequence[str], log: Path, user: int | None = None, prepare: Callable[[], None] | None = None) -> int:
    """`mappo ...` in a process of its own that need not load everything anew; its id.

    Args:
        args: words of the command line.
        log: file of its output.
        user: number of its user.
        prepare: called in the process first.
    """
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: those of numpy's library, which wait
        pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
        if user is not None:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        if prepare is not None:
            prepare()
        sys.argv = ["mappo", *args]
        torch.set_num_threads(1)
        cli.entry()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int, seconds: float = PATIENCE) -> int | None:
    """Its exit code, or None if it still runs then; by a signal minus its number."""
    until = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.0003)


def forked(args: Sequence[str], log: Path, expected: Sequence[int] = (0,), user: int | None = None) -> str:
    """A command in a process of its own, to its end; what it printed."""
    log.unlink(missing_ok=True)
    pid = fork(args, log, user)
    code = ended(pid)
    if code is None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    text = log.read_text(errors="replace")
    if code not in expected:
        raise Violation(f"exit code {code}, expected {expected}: mappo {' '.join(args)}\n{text[-3000:]}")
    if "Traceback" in text or "Exception ignored" in text:
        raise Violation(f"a traceback: mappo {' '.join(args)}\n{text[-3000:]}")
    return text
