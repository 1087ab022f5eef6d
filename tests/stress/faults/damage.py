"""Damaged checkpoints: each is noticed, told, and the one before is used, bit for bit."""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from faults.operations import unscored
from faults.runs import SIZE, Violation, command, resuming, words
from mappo.errors import UserError
from mappo.runs import checkpoint
from mappo.runs.checkpoint import Checkpoint

UPDATES = 6
FILES = ("model.safetensors", "trainer.safetensors", "state.json")
Harm = Callable[[random.Random, Path, Path], str]


def flip(rng: random.Random, last: Path, _: Path) -> str:
    file = last / rng.choice(FILES)
    data = bytearray(file.read_bytes())
    place, bit = rng.randrange(len(data)), rng.randrange(8)
    data[place] ^= 1 << bit
    file.write_bytes(data)
    return f"bit {bit} of byte {place} of {file.name}"


def block(rng: random.Random, last: Path, _: Path) -> str:
    """What a sector that was never written holds."""
    file = last / rng.choice(FILES)
    data = bytearray(file.read_bytes())
    place = rng.randrange(len(data))
    data[place : place + 512] = bytes(len(data[place : place + 512]))
    file.write_bytes(data)
    return f"zeros from byte {place} of {file.name}"


def truncate(rng: random.Random, last: Path, _: Path) -> str:
    file = last / rng.choice(FILES)
    data = file.read_bytes()
    length = rng.choice([0, len(data) - 2, rng.randrange(len(data) - 1)])  # state.json ends with a newline
    file.write_bytes(data[:length])
    return f"{file.name} of {length} bytes"


def append(rng: random.Random, last: Path, _: Path) -> str:
    file = last / rng.choice(FILES)
    file.write_bytes(file.read_bytes() + rng.randbytes(rng.randrange(1, 100)) + b"x")
    return f"{file.name} is longer"


def remove(rng: random.Random, last: Path, _: Path) -> str:
    file = last / rng.choice(FILES)
    file.unlink()
    if rng.random() < 0.3:
        file.mkdir()
    return f"{file.name} is gone"


def swap_in_time(rng: random.Random, last: Path, _: Path) -> str:
    file, before = last / rng.choice(FILES), earlier(last)
    shutil.copy(before / file.name, file)
    return f"{file.name} is that of {before.name}"


def swap_runs(rng: random.Random, last: Path, other: Path) -> str:
    file = last / rng.choice(FILES)
    shutil.copy(other / "checkpoints" / last.name / file.name, file)
    return f"{file.name} is that of another run"


def swap_each_other(rng: random.Random, last: Path, _: Path) -> str:
    one, two = rng.sample(FILES, 2)
    data = (last / one).read_bytes()
    (last / one).write_bytes((last / two).read_bytes())
    (last / two).write_bytes(data)
    return f"{one} and {two} are each other's"


def swap_whole(_rng: random.Random, last: Path, other: Path) -> str:
    shutil.rmtree(last)
    shutil.copytree(other / "checkpoints" / last.name, last)
    return "the whole of it is another run's"


def rename(rng: random.Random, last: Path, _: Path) -> str:
    name = f"{int(last.name) + rng.choice([7, 1007]):012d}"
    last.rename(last.parent / name)
    return f"it is called {name}"


def double(rng: random.Random, last: Path, _: Path) -> str:
    before = earlier(last)
    shutil.rmtree(last)
    shutil.copytree(before, last)
    return f"it is a copy of {before.name}"


HARMS: list[Harm] = [
    *(flip, flip, flip, flip, block, truncate, truncate, append, remove),
    *(swap_in_time, swap_runs, swap_each_other, swap_whole, rename, double),
]


def steps(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def earlier(path: Path) -> Path:
    return [other for other in steps(path.parent) if other.name < path.name][-1]


def same(a: Checkpoint, b: Checkpoint) -> bool:
    return a.state == b.state and all(
        list(x) == list(y) and all(torch.equal(x[k], y[k]) and x[k].dtype == y[k].dtype for k in x)
        for x, y in ((a.model, b.model), (a.trainer, b.trainer))
    )


class Damages:
    """Two runs that are whole, and a copy of one of them to be damaged."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng, self.kinds = folder, random.Random(seed), Counter[str]()
        self.whole, self.other, self.run = (folder / name for name in ("whole", "other", "run"))
        for path, number in ((self.whole, 1), (self.other, 2)):
            with unscored():
                told = command([*words("plain", path, UPDATES), "--run.seed", str(number), "--run.keep-every", "1"])
            if told.code:
                raise Violation(f"a run without faults fails: {told.err}")
        self.saved = {path.name: read(path) for path in steps(self.whole / "checkpoints")}

    def copy(self) -> Path:
        """A new one; its last checkpoint."""
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(self.whole, self.run, ignore=shutil.ignore_patterns("*.png", "tensorboard"))
        return steps(self.run / "checkpoints")[-1]

    def one(self, number: int) -> None:
        harm = HARMS[number % len(HARMS)]
        last = self.copy()
        count = 1 + self.rng.randrange(3) // 2  # now and then the one before as well
        told = [f"{path.name}: {harm(self.rng, path, self.other)}" for path in steps(last.parent)[::-1][:count]]
        self.kinds[harm.__name__] += 1
        what = f"{harm.__name__}: {'; '.join(told)}"
        found = checkpoint.load(self.run)
        if not same(found, self.saved[found.path.name]):
            raise Violation(f"{what}: {found.path.name} is not what was saved")
        if len(found.passed_over) < count or any(str(last.parent) not in p or "\n" in p for p in found.passed_over):
            raise Violation(f"{what}: told is {found.passed_over}")

    def one_by_commands(self, number: int) -> None:
        """`evaluate`, `play` and `resume` say what they pass over, and go on from the one before."""
        last = self.copy()
        harm = (block, truncate, remove, swap_runs, swap_whole)[number % 5]
        what = harm(self.rng, last, self.other)
        evaluate, play = (["evaluate", str(self.run), "--episodes", "4"], ["play", str(self.run)])  # has no pictures
        for args, code in ((evaluate, 0), (play, 2), (resuming(self.run), 0)):
            with unscored():
                told = command(args)
            lines = (told.out + told.err).splitlines()
            if told.code != code or not any("passed over: " in line and str(last) in line for line in lines):
                raise Violation(f"{what}: {args[0]} ends with {told.code} and tells\n{told.out}{told.err}")
        if not same(read(last), self.saved[last.name]):
            raise Violation(f"{what}: it was not repeated as it was")

    def of_the_best(self, number: int) -> None:
        """The best one that is damaged or gone is told, and none other given for it."""
        self.copy()
        best = checkpoint.load(self.run, "best").path
        (self.run / "checkpoints" / "best").write_text(f"{20:012d}\n")  # of an older version, and stale
        if checkpoint.load(self.run, "best").path != best:
            raise Violation("a stale file names the best")
        if number % 2:
            shutil.rmtree(best)
        else:
            swap_whole(self.rng, best, self.other)
        try:
            found = checkpoint.load(self.run, "best")
        except UserError as error:
            if str(best) in str(error):
                return
            raise Violation(f"the best is gone: {error}") from None
        if best.name != f"{UPDATES * SIZE:012d}" or not same(found, self.saved[found.path.name]):
            raise Violation(f"{found.path} is given for the best, {best}")


def read(path: Path) -> Checkpoint:
    return checkpoint.load(path.parent.parent, until=int(path.name))


def run(folder: Path, count: int, seed: int) -> str:
    damages = Damages(folder, seed)
    for number in range(count):
        damages.one(number)
        if number % 10 == 0:
            damages.of_the_best(number // 10)
        if number % 25 == 0:
            damages.one_by_commands(number // 25)
    told = ", ".join(f"{n} {kind}" for kind, n in damages.kinds.items())
    return f"{count} damaged checkpoints ({told})"
