"""The worker pool under violence: nothing is lost, miscounted or left behind. Linux only: reads /proc.

    make soak ARGS="[--kills 200] [--interrupts 10] [--learners 6] [--errors 2] [--seed 0]"
    make soak ARGS="--minutes 20 [--out runs/soak]"

Trains by the command line in a temporary folder, again and again, with workers that are killed, stopped or crash at
random moments; with runs that are interrupted, with learners that are killed, with an environment that raises. Exits 1
at the first violation, with all the facts, and keeps the folder. Take `nice`, and about a quarter of an hour.

With `--minutes` it trains so long instead, by turns in one long run, in one with workers and in many short ones, and
exits 1 if memory, files or threads grow: see `memory.py`, which writes a table and a picture of them.
"""

import argparse
import csv
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import memory
from games import Game
from paths import PYTHONPATH

ENVS, LENGTH, UPDATES, EVAL = 8, 10, 300, 10  # of a run: E, T, updates, and those between evaluations
PATIENCE = 300  # seconds for one command
STOP, KILL, CRASH = signal.SIGSTOP, signal.SIGKILL, signal.SIGSEGV
REPLACED = "It is replaced, and its episodes begin anew"
# One line names the worker, its environments and its end; that or the next, the environment at work and its seed.
LOST = re.compile(
    r"worker \d+ \(environments? [\d-]+(?: and [\d-]+)?\)"
    r"(?: was killed by SIG\w+| gave no answer for [\d.]+ s|: environment \d+ \(seed \d+, episode \d+\) failed as)"
)
CAN_BE_EMPTY = {"return_sum", "return_latest", "episode_length", "eval_return"}  # nothing ended, nothing was measured


class Quick(Game):
    """A game that can be drawn, and that fails at a step with some probability."""

    def __init__(self, failing: float = 0.0) -> None:
        super().__init__(act=partial(fail, failing) if failing else None)

    def render(self) -> np.ndarray:
        return np.full((16, 16, 3), 20 * self.clock, np.uint8)


def fail(probability: float, _now: dict[str, Any]) -> None:
    if random.random() < probability:
        raise ZeroDivisionError("a bug")


class Violation(Exception):
    pass


class Program:
    """`mappo ...`, in a session of its own, by which all that it starts is found again."""

    last: "Program | None" = None

    def __init__(self, folder: Path, *args: str, log: str = "log", module: str = "mappo") -> None:
        self.folder, self.log, self.started = folder, folder / log, time.monotonic()
        self.tmp, self.shared = folder / "tmp", set(os.listdir("/dev/shm"))
        self.tmp.mkdir(exist_ok=True)
        self.command = [sys.executable, "-m", module, *args]
        settings = {"PYTHONPATH": PYTHONPATH, "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(self.tmp)}
        Program.last = self
        with open(self.log, "wb") as log_file:
            self.process = subprocess.Popen(
                ["sh", "-c", 'ulimit -c 0; exec "$@"', "sh", *self.command],
                cwd=folder,
                env=os.environ | settings,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def workers(self) -> list[int]:
        """Living processes of the session but its leader."""
        found: list[int] = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            status = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            if len(status) > 3 and int(status[3]) == self.process.pid and status[0] not in "ZX":
                found.append(int(pid))
        return [pid for pid in found if pid != self.process.pid]

    def left(self, *codes: int) -> None:
        """Waits for its end, and asserts its exit code and that it left nothing behind."""
        try:
            code = self.process.wait(max(30.0, self.started + PATIENCE - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.violated("it does not end")
        if code not in codes:
            self.violated(f"exit code {code}, expected {' or '.join(map(str, codes))}")
        until = time.monotonic() + 5
        while (workers := self.workers()) and time.monotonic() < until:
            time.sleep(0.02)
        if workers:
            self.violated(f"processes left: {[(p, read(f'/proc/{p}/stat')) for p in workers]}")
        if new := set(os.listdir("/dev/shm")) - self.shared:
            self.violated(f"left in /dev/shm: {new}")
        # torch keeps a cache there.
        if files := [name for name in os.listdir(self.tmp) if not name.startswith("torchinductor")]:
            self.violated(f"temporary files left: {files}")

    def end(self) -> None:
        """Of all that is left of it, where something went wrong."""
        for pid in [*[self.process.pid] * (self.process.poll() is None), *self.workers()]:
            with suppress(ProcessLookupError):
                os.kill(pid, KILL)

    def violated(self, what: str) -> None:
        command = " ".join(self.command)
        raise Violation(f"{what}\n{command}\nin {self.folder}; {self.log.name} ends with:\n{self.text[-4000:]}")


def read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:  # the process has left
        return ""


def train(folder: Path, updates: int, seed: int, *options: str) -> Program:
    settings = {
        "env.num-envs": ENVS,
        "env.workers": 2,
        "network.hidden": 8,
        "ppo.rollout-length": LENGTH,
        "ppo.epochs": 1,
        "run.total-steps": updates * ENVS * LENGTH,
        "run.eval-interval": EVAL * ENVS * LENGTH,
        "run.eval-episodes": 4,
        "run.seed": seed,
        "run.dir": "run",
        "run.progress": "plain",
    }
    given = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return Program(folder, "train", "soak:Quick", "--network.layer-norm", *given, *options)


def check_run(program: Program, updates: int, whole: bool = True, score: bool = True) -> None:
    """A finished run: one row for each update, the right counters, finite numbers; it can be loaded and scored.

    Args:
        whole: it was not resumed, so that no step of an episode is missing from those that ended.
        score: its environment does not fail.
    """
    from mappo.runs import checkpoint

    run, size = program.folder / "run", ENVS * LENGTH
    for name in ("metrics.csv", "timing.csv"):
        with open(run / name, newline="") as file:
            rows = list(csv.DictReader(file))
        counted = [(int(row["update"]), int(row["step"])) for row in rows]
        if counted != [(i, i * size) for i in range(1, updates + 1)]:
            program.violated(f"rows of {name}: {counted}")
        for row in rows:
            for column, cell in row.items():
                if not (math.isfinite(float(cell)) if cell else column in CAN_BE_EMPTY):
                    program.violated(f"{name}, update {row['update']}: {column} is {cell!r}")
        if name == "metrics.csv":
            counts = [(float(row["episodes"]), float(row["episode_length"] or 0)) for row in rows]
            steps = sum(count * length for count, length in counts)
            # All steps but those of the episodes under way at the end.
            most = updates * size
            least = most - ENVS * Quick().horizon if whole else 1
            if not least <= round(steps) <= most:
                program.violated(f"{sum(c for c, _ in counts)} episodes of {steps} steps in a run of {most}")
    step = checkpoint.load(run).state["step"]
    if step != updates * size:
        program.violated(f"the last checkpoint is of step {step}")
    for name in ("curve.png", "replay.gif"):
        if not (run / name).exists():
            program.violated(f"{name} is missing")
    if not score:
        return
    scored = Program(program.folder, "evaluate", "run", "--allow-code", "--json", "--episodes", "32", log="evaluate")
    scored.left(0)
    found = re.search(r"^\{.*\}$", scored.text, re.MULTILINE)
    if found is None or not math.isfinite(json.loads(found[0])["return_sum"]["mean"]):
        scored.violated("no score")


class Hunter:
    """Kills workers of one run, at random moments, and keeps account of all that it sees."""

    def __init__(self, program: Program, rng: random.Random, limit: int) -> None:
        self.program, self.rng, self.limit = program, rng, limit
        self.pool_of: dict[int, int] = {}  # by process
        self.ready: dict[int, float] = {}  # since when
        self.struck = set[int]()
        self.pause = rng.choice([5, 20, 60])  # updates; by the longest some are still killed in the scoring
        self.kills, self.rows = Counter[str](), 0
        self.lately = Counter[int]()  # kills of each pool since the last update

    def hunt(self) -> None:
        due, late, row, last = 0.0, 0.0, 0, time.monotonic() + PATIENCE
        while self.program.process.poll() is None and time.monotonic() < last:
            alive, now = self.look(), time.monotonic()
            is_time = now >= due and (self.rows >= row or now >= late) and len(self.struck) < self.limit
            if is_time and (prey := self.prey(alive)):
                self.strike(self.rng.choice(prey))
                # Some at once, some only after many updates: to replace a worker takes longer than those.
                due, late = now + self.rng.uniform(0.05, 0.5), now + 1
                row = self.rows + self.rng.choice([0, 0, 1, self.pause])
            time.sleep(0.01)

    def look(self) -> list[int]:
        alive = self.program.workers()
        for pid in alive:
            if pid not in self.pool_of and (pool := memory_of(pid)):
                self.pool_of[pid] = pool
            if pid in self.pool_of and pid not in self.ready and "memfd:mappo" in read(f"/proc/{pid}/maps"):
                self.ready[pid] = time.monotonic()
        if (count := rows(self.program.folder)) != self.rows:
            self.rows = count
            self.lately.clear()
        return alive

    def prey(self, alive: list[int]) -> list[int]:
        """Workers of pools that are up; two between two updates, for a pool gives up where one is lost four times."""
        up = Counter(self.pool_of[pid] for pid in self.ready)
        there = [pid for pid in alive if pid in self.pool_of and pid not in self.struck]
        return [pid for pid in there if up[self.pool_of[pid]] >= 2 and self.lately[self.pool_of[pid]] < 2]

    def strike(self, pid: int) -> None:
        young = pid not in self.ready
        how = self.rng.choice([KILL, KILL, KILL, CRASH, CRASH, *[STOP] * self.may_hang(pid)])
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            return
        self.struck.add(pid)
        self.lately[self.pool_of[pid]] += 1
        self.kills[how.name] += 1
        self.kills["of them as it started"] += young

    def may_hang(self, pid: int) -> bool:
        """Not while it is made and reset for the first time: that may take ten minutes before it counts as hanging."""
        pools = list(dict.fromkeys(self.pool_of.values()))
        first_steps = dict(zip(pools, (1, EVAL + 1), strict=False))  # in training, in evaluations; none in the scoring
        settled = time.monotonic() - self.ready.get(pid, math.inf) > 0.5
        return settled and self.rows >= first_steps.get(self.pool_of[pid], math.inf)

    def check(self) -> int:
        """Each process but the first two of a pool replaced one that is named in the log; their number."""
        replaced = len(self.pool_of) - 2 * len(set(self.pool_of.values()))
        log = self.program.text
        told, named = log.count(REPLACED), len(LOST.findall(log))
        if not replaced == told == named:
            self.program.violated(f"{replaced} workers were replaced, {told} times it is told, {named} times by name")
        return replaced


def memory_of(pid: int) -> int | None:
    """Which memory a worker shares, and with it the pool; None for what is no worker yet."""
    if "mappo.envs.vector.worker" not in read(f"/proc/{pid}/cmdline"):
        return None
    try:
        links = [f"/proc/{pid}/fd/{number}" for number in os.listdir(f"/proc/{pid}/fd")]
        return next((os.stat(x).st_ino for x in links if "memfd:mappo" in os.readlink(x)), None)
    except OSError:  # it has left
        return None


def kill_workers(folder: Path, rng: random.Random, limit: int) -> Counter[str]:
    """One training with restarts, in which at most so many workers are killed."""
    program = train(folder, UPDATES, rng.randrange(1000), "--env.restart", "--env.worker-timeout", "1.5")
    hunter = Hunter(program, rng, limit)
    hunter.hunt()
    program.left(0)
    replaced = hunter.check()
    check_run(program, UPDATES)
    return hunter.kills + Counter({"replaced": replaced})


def ended(program: Program, seconds: float) -> bool:
    try:
        program.process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def some_moment(program: Program, rng: random.Random, updates: int, index: int) -> str | None:
    """Waits for a moment of the start-up, of training or of the scoring, by turns; its name, or None if all is over."""
    phase = ("start-up", "training", "training", "start-up", "scoring")[index % 5]
    row, delay = rng.randrange(1, updates), rng.uniform(0.1, 5)
    if phase == "start-up":
        return None if ended(program, delay) else f"at {delay:.1f} s"

    def is_there() -> bool:
        return rows(program.folder) >= row if phase == "training" else "Scoring" in program.text

    while not is_there():
        if ended(program, 0.01):
            return None
    return None if ended(program, delay / 20) else f"in {phase}, after {rows(program.folder)} updates"


def rows(folder: Path) -> int:
    return max(0, read(str(folder / "run" / "metrics.csv")).count("\n") - 1)


def interrupt(folder: Path, rng: random.Random, index: int) -> str:
    """A training without restarts is sent a signal as by Ctrl-C, to the whole group; then it is resumed."""
    number, times = [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGTERM, 1), (signal.SIGTERM, 2)][index % 4]
    program = train(folder, UPDATES // 2, index)
    if (moment := some_moment(program, rng, UPDATES // 2, index)) is None:
        return "too late"
    for _ in range(times):
        if program.process.poll() is None:
            os.killpg(program.process.pid, number)
        ended(program, rng.uniform(0, 0.3))
    # Where there is no handler the signal itself ends it, which a shell reports as the same number.
    program.left(128 + number, -number)
    check_silence(program)
    return f"{number.name} x {times} {moment}: {resume(program, UPDATES // 2)}"


def kill_learner(folder: Path, rng: random.Random, index: int) -> str:
    """The learner is killed; every other time with a worker that hangs."""
    program = train(folder, UPDATES // 2, index)
    if (moment := some_moment(program, rng, UPDATES // 2, index)) is None:
        return "too late"
    stopped = program.workers()[: index % 2]
    for pid in stopped:
        os.kill(pid, STOP)
    program.process.kill()
    program.left(-KILL)
    return f"SIGKILL {moment}, {len(stopped)} workers stopped: {resume(program, UPDATES // 2)}"


def raise_errors(folder: Path, rng: random.Random, index: int) -> str:
    """An environment that fails at random: every other time with restarts, else the run is resumed."""
    restart = index % 2 == 0
    options = ["--env.options", f"failing={0.0005 if restart else 0.0002}", *["--env.restart"] * restart]
    program = train(folder, UPDATES // 2, rng.randrange(1000), *options)
    if restart:
        program.left(0)
        told, named = program.text.count(REPLACED), len(LOST.findall(program.text))
        if told != named:
            program.violated(f"{told} workers were replaced, {named} times by name")
        check_run(program, UPDATES // 2, score=False)
        return f"restart: {told} workers replaced"
    for attempt in range(30):
        program.left(0, 2)
        if program.process.returncode == 0:
            check_run(program, UPDATES // 2, whole=False, score=False)
            return f"no restart: resumed {attempt} times"
        if not LOST.search(program.text) or "ZeroDivisionError: a bug" not in program.text:
            program.violated("the failure is not named")
        if saved(folder):
            program = Program(folder, "resume", "run", "--allow-code", "--progress", "plain", log=f"resume-{attempt}")
        else:
            shutil.rmtree(folder / "run", ignore_errors=True)
            program = train(folder, UPDATES // 2, rng.randrange(1000), *options)
    program.violated("30 attempts do not finish it")
    return ""


def watch_memory(folder: Path, minutes: float, out: Path) -> int:
    """Three trainings of a third of the time each; their memory must stay what it was."""
    parts: dict[str, list[memory.Sample]] = {}
    grown = 0
    for part in ("one process", "two workers", "short runs"):
        place = folder / part.replace(" ", "-")
        place.mkdir()
        if part == "one process":
            program = train(place, 10**9, 1, "--env.workers", "0")
        elif part == "two workers":
            program = train(place, 10**9, 1)
        else:
            program = Program(place, module="memory")
        samples, until = parts.setdefault(part, []), program.started + 20 * minutes
        while (now := time.monotonic()) < until:
            if program.process.poll() is not None:
                program.left(143)
                program.violated("it ended")
            samples.append(memory.sample([program.process.pid, *program.workers()], now - program.started))
            time.sleep(min(1.0, minutes / 10))
        done = rows(place) or program.text.count(" runs")
        program.process.terminate()
        program.left(143)
        memory.write(parts, out)
        told = memory.growth(samples)
        grown += bool(told)
        last = samples[-1]
        facts = f"{last.memory_mib:.0f} MiB, {last.files} files, {last.threads} threads, {last.processes} processes"
        print(f"{part}: {done} {'updates' if rows(place) else 'runs'}, {facts}; {told or 'constant'}", flush=True)
    print(f"{out}/memory.csv, {out}/memory.png")
    return 1 if grown else 0


def saved(folder: Path) -> bool:
    return any((folder / "run" / "checkpoints").glob("[0-9]*"))


def resume(program: Program, updates: int) -> str:
    """Goes on with what a run left, if it saved a checkpoint, and checks the whole."""
    if not (program.folder / "run").exists():
        return "no run yet"
    before = saved(program.folder)
    resumed = Program(program.folder, "resume", "run", "--allow-code", "--progress", "plain", log="resume")
    resumed.left(0 if before else 2)
    check_silence(resumed)
    if not before:
        if "nothing was saved in it yet" not in resumed.text and "there is no config.json in it" not in resumed.text:
            resumed.violated("it is not told that there is no checkpoint")
        return "no checkpoint yet"
    check_run(resumed, updates, whole=False)
    return "resumed"


def check_silence(program: Program) -> None:
    for word in ("Traceback", "Exception ignored", "Error"):
        if word in program.text:
            program.violated(f"{word} in the output")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="workers to kill, stop or crash")
    parser.add_argument("--interrupts", type=int, default=10, help="runs to send SIGINT or SIGTERM")
    parser.add_argument("--learners", type=int, default=6, help="runs whose learner is killed")
    parser.add_argument("--errors", type=int, default=2, help="runs whose environment raises")
    parser.add_argument("--minutes", type=float, help="watch the memory of trainings so long instead")
    parser.add_argument("--out", type=Path, default=Path("runs/soak"), help="where memory.csv and memory.png go")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random here, but for the clock")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is ended too
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    total, number = Counter[str](), 0

    def trial(kind: str, run: Callable[[Path, random.Random], Any]) -> Any:
        nonlocal number
        number += 1
        place = folder / f"{number}-{kind}"
        place.mkdir()
        told = run(place, random.Random(f"{arguments.seed} {kind} {number}"))
        text = ", ".join(f"{n} {name}" for name, n in told.items()) if isinstance(told, Counter) else told
        print(f"{time.monotonic() - started:6.0f} s  {number:>3}  {kind:<10} {text}", flush=True)
        shutil.rmtree(place)
        return told

    try:
        if arguments.minutes is not None:
            code = watch_memory(folder, arguments.minutes, arguments.out)
            shutil.rmtree(folder)
            return code
        while (done := sum(total[how.name] for how in (KILL, CRASH, STOP))) < arguments.kills:
            total += trial("kills", partial(kill_workers, limit=min(25, arguments.kills - done)))
        for kind, count, run in (
            ("interrupt", arguments.interrupts, interrupt),
            ("learner", arguments.learners, kill_learner),
            ("error", arguments.errors, raise_errors),
        ):
            index = 0
            while index < count:
                index += trial(kind, partial(run, index=index)) != "too late"
                total[kind] = index
    except Violation as violation:
        print(f"VIOLATED in trial {number} of seed {arguments.seed}: {violation}")
        return 1
    finally:
        if Program.last is not None:
            Program.last.end()
    shutil.rmtree(folder)
    print(f"no violation in {time.monotonic() - started:.0f} s: {', '.join(f'{n} {k}' for k, n in total.items())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
