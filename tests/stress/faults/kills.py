"""`kill -9` at random moments of runs by the command line: what comes of them is what would have come anyway."""

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults.runs import (
    BEGIN_AGAIN,
    PATIENCE,
    SIZE,
    Violation,
    assert_same,
    ended,
    fork,
    forked,
    outcome,
    resuming,
    tracks,
    words,
)

UPDATES = 16
MOMENTS = ("start", "saving", "training", "saving", "resume", "end", "saving")


class Chain:
    """One run that is killed again and again.

    Args:
        folder: an empty one. kind: see `runs.KINDS`. whole: what the same run came to without a kill.
        real: processes that load everything themselves, in place of forks of this one.
    """

    def __init__(self, folder: Path, kind: str, whole: dict[str, Any], rng: random.Random, real: bool = False) -> None:
        self.folder, self.kind, self.whole, self.rng, self.real = folder, kind, whole, rng, real
        self.run, self.log = folder / "run", folder / "log"
        self.fell = Counter[str]()
        self.copies: list[tuple[int, Path]] = []  # the step gone on from, and the run as the kill left it
        self.turn = rng.randrange(len(MOMENTS))

    def go(self, kills: int) -> None:
        """Kills it so many times, then lets it finish; what comes of it is checked."""
        while sum(self.fell.values()) < kills:
            if not self.kill_once(self.arguments()):
                self.check()
                shutil.rmtree(self.run)  # it was done: another time
                for _, copy in self.copies:
                    shutil.rmtree(copy)
                self.copies.clear()
        forked(self.arguments(), self.log)
        self.check()

    def arguments(self) -> list[str]:
        """How to go on: resumed, or from the beginning where nothing was saved, which is told."""
        if self.run.exists() and not self.saved():
            told = forked(resuming(self.run, self.kind), self.log, (2,))
            reasons = ("nothing was saved in it yet", "there is no config.json in it", "the run is incomplete")
            reasons += ("there is no checkpoint of seed-",)  # killed between the first checkpoints of two seeds
            if sum(reason in told for reason in reasons) != 1 or len(told.strip().splitlines()) != 1:
                raise Violation(f"it is not told that nothing was saved, and nothing else: {told}")
            told = forked(words(self.kind, self.run, UPDATES), self.log, (0, 2))
            if " exists" in told and sum(advice in told for advice in BEGIN_AGAIN) != 1:  # without a row: it begins
                raise Violation(f"it is not told to begin again: {told}")
            shutil.rmtree(self.run)
        return resuming(self.run, self.kind) if self.run.exists() else words(self.kind, self.run, UPDATES)

    def saved(self) -> bool:
        try:
            return all(steps(own) for own in tracks(self.run))
        except ValueError:  # no config.json
            return False

    def kill_once(self, args: list[str]) -> bool:
        """False if it ended before."""
        before, pid = self.state(), self.start(args)
        self.turn += 1
        moment = MOMENTS[self.turn % len(MOMENTS)]
        code = self.wait(pid, moment, args[0] == "resume")
        if code is not None:
            if code:
                raise Violation(f"exit code {code}:\n{self.log.read_text()[-3000:]}")
            return False
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.fell[self.where(args[0], before)] += 1
        if self.kind == "pool" and self.saved():
            copy = self.folder / f"copy-{len(self.copies)}"
            shutil.copytree(self.run, copy)
            self.copies.append((steps(self.run)[-1], copy))
        return True

    def start(self, args: list[str]) -> int:
        if not self.real:
            return fork(args, self.log)
        with open(self.log, "ab") as log:
            command = [sys.executable, "-m", "mappo", *args]
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True).pid

    def wait(self, pid: int, moment: str, resumed: bool) -> int | None:
        """Until the moment has come; the exit code if it ends before that."""
        rng, places = self.rng, [self.run, *(self.run / f"seed-{k}" for k in (1, 2, 3))]
        first, count = rows(self.run), rng.randrange(1, 6)
        row = rng.randrange(first, UPDATES) + 1 if first < UPDATES else first
        longest = 3.0 if self.real else 0.3
        if moment in ("start", "resume"):
            return ended(pid, rng.uniform(0, longest if moment == "start" or resumed else longest / 2))
        seen: set[str] = set()

        def has_come() -> bool:
            if moment == "training":
                return rows(self.run) >= row
            if moment == "end":
                return bool(found := steps(places[0]) or steps(places[1])) and found[-1] >= UPDATES * SIZE
            for place in places:
                seen.update(f"{place.name}/{name}" for name in listed(place / "checkpoints") if name[0] == ".")
            return len(seen) >= count

        code = wait_for(pid, has_come)
        if code is not None:
            return code
        return ended(pid, rng.uniform(0, {"training": 0.01, "end": 0.5}.get(moment, 0.006)))

    def state(self) -> tuple[int, list[int]]:
        own = self.run / "seed-1" if (self.run / "seed-1").exists() else self.run
        return rows(self.run), steps(own)

    def where(self, command: str, before: tuple[int, list[int]]) -> str:
        """Where the kill fell, by what it left."""
        try:
            places = tracks(self.run)
        except ValueError:
            return "before config.json was there"
        if any(name[0] == "." for own in places for name in listed(own / "checkpoints")):
            return "inside a checkpoint's writing"
        if len({tuple(steps(own)) for own in places}) > 1:
            return "between two seeds' checkpoints"
        if any(name[0] == "." and name != ".lock" for own in [self.run, *places] for name in listed(own)):
            return "inside the writing of another file"
        count, found = self.state()
        if found and found[-1] >= UPDATES * SIZE:
            return "after the last checkpoint"
        if (count, found) == before:
            return f"in the start of {command}"
        if count * SIZE > (found[-1] if found else 0):
            return "between a row and its checkpoint"
        return "elsewhere in training"

    def check(self) -> None:
        """The finished run is the one that was never killed, or, of new episodes, the same each time."""
        what = f"{self.kind}, in {self.run}"
        if self.kind != "pool":
            assert_same(self.whole, outcome(self.run), what)
            return
        table = (self.run / "metrics.csv").read_bytes().splitlines()
        first = self.copies[0][0] if self.copies else UPDATES * SIZE
        pairs = [("never killed", self.whole["metrics.csv"].splitlines(), 0, first)]
        for number, (step, copy) in enumerate(self.copies):
            forked(resuming(copy, self.kind), self.log)
            until = self.copies[number + 1][0] if number + 1 < len(self.copies) else UPDATES * SIZE
            pairs.append((copy.name, (copy / "metrics.csv").read_bytes().splitlines(), step, until))
            if number + 1 == len(self.copies):
                assert_same(outcome(copy), outcome(self.run), what)
        for name, other, low, high in pairs:
            part = slice(low // SIZE + 1, high // SIZE + 1)
            if table[part] != other[part]:
                raise Violation(f"{what}: rows of steps {low} to {high} are not those of {name}: the same checkpoint")
        updates = [int(row["update"]) for row in csv.DictReader((self.run / "metrics.csv").open())]
        if updates != [*range(1, UPDATES + 1)]:
            raise Violation(f"{what}: rows {updates}")


def listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def steps(own: Path) -> list[int]:
    return sorted(int(name) for name in listed(own / "checkpoints") if name.isdigit())


def rows(run: Path) -> int:
    for file in (run / "metrics.csv", run / "seed-1" / "metrics.csv"):
        if file.exists():
            return max(0, file.read_bytes().count(b"\n") - 1)
    return 0


def wait_for(pid: int, has_come: Callable[[], bool]) -> int | None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if has_come():
            return None
        if (code := ended(pid, 0)) is not None:
            return code
        time.sleep(0.0003)
    raise Violation("it neither gets on nor ends")


def uninterrupted(folder: Path, kind: str) -> dict[str, Any]:
    """What a run comes to that nothing kills."""
    forked(words(kind, folder / "run", UPDATES), folder / "log")
    return outcome(folder / "run")


def kill_all(folder: Path, kinds: list[str], kills: int, each: int, seed: int, real: bool) -> Counter[str]:
    """So many kills, at most `each` of one run, kind by kind."""
    fell, number = Counter[str](), 0
    wholes: dict[str, dict[str, Any]] = {}
    while (done := sum(fell.values())) < kills:
        kind = kinds[number % len(kinds)]
        if kind not in wholes:
            place = folder / f"whole-{kind}-{real}"
            place.mkdir()
            wholes[kind] = uninterrupted(place, kind)
        place = folder / f"{number}-{kind}-{real}"
        place.mkdir()
        chain = Chain(place, kind, wholes[kind], random.Random(f"{seed} {number} {real}"), real)
        chain.go(min(each, kills - done))
        fell += chain.fell
        number += 1
        print(f"  {done + sum(chain.fell.values()):>4} kills  {kind:<7} {dict(chain.fell)}", flush=True)
        shutil.rmtree(place)
    return fell


def run(folder: Path, kills: int, real: int, seed: int) -> str:
    """Most kills are of processes forked from this one, which has loaded everything: a start costs no seconds then."""
    kinds = ["plain", "memory", "seeds", "plain", "memory", "seeds", "pool"]
    fell = kill_all(folder, kinds, kills - real, 8, seed, real=False)
    fell += kill_all(folder, kinds, real, 5, seed, real=True)
    for where, count in fell.most_common():
        print(f"  {count:>4}  {where}")
    return f"{kills} kills ({real} of processes that loaded everything anew), each final state as without them"
