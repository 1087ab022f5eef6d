"""Whatever is typed, and whatever files say: no traceback, a right exit code, nothing written but where it belongs.

    make fuzz ARGS="[--examples 10000] [--processes 100] [--seed 0]"

Calls `mappo.cli.main` with drawn command lines, config files, and run directories whose files were damaged or forged
(with true checksums); then the program itself. What a drawn setting would make large is not computed, see `bounded`;
all else is real. Exits 1 at the first violation, with the smallest example that was found.
"""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from hypothesis import HealthCheck, Phase, given, seed as seeded, settings, strategies as st
from safetensors.torch import load_file, save_file

import mappo
import strangers
from mappo import envs
from mappo.cli import commands, env_commands as catalogue, main as cli
from mappo.config import Config
from mappo.errors import UserError
from mappo.evaluation import score_run as evaluate

CODES = {0, 2, 3, 130, 143}
SMALL = {
    "env": {"num_envs": 2},
    "network": {"hidden": [4]},
    "ppo": {"rollout_length": 4, "epochs": 1},
    "run": {"total_steps": 32, "eval_interval": 8, "eval_episodes": 2, "progress": "off"},
}
MOST = 2**14  # numbers, of what a drawn setting would have computed
Case = tuple[list[str], set[int]]


def make_run(path: Path, task: str = "probe/signal", **sections: dict[str, Any]) -> Path:
    """A small run, stopped half-way."""
    told = {name: {**SMALL[name], **sections.get(name, {})} for name in SMALL}
    told["run"]["dir"] = str(path)

    def stop(update: Any) -> None:
        if update.index == 2:
            raise mappo.StopTraining

    return mappo.train(task, Config.from_dict(told), callback=stop).path


# What is drawn

WEIRD = [
    *("", " ", "\0", "\n", "-", "--", "-1", "0", "1", "2", "3", "1e9", "1e400", "-inf", "nan", "None", "True", "auto"),
    *("9" * 30, "9" * 5000, "0x10", "1_0", "٣", "½", "[red]", "[/]", "{}", "[]", "null", '{"a": 1}', "$HOME", "*", "/"),
    *("../..", "~", ".", "a/b", "x" * 300, "x" * 5000, "\x1b[31m", "\u202e", "\ud800", "\udc80", "😀", "a=b", "=", ":"),
    *(
        "cpu",
        "team",
        "agent",
        "plain",
        "off",
        "last",
        "best",
        "spread",
        "probe/signal",
        "os:system",
        "evil:make",
        "mpe2",
    ),
]
VALUES = st.one_of(
    st.sampled_from(WEIRD),
    st.integers().map(str),
    st.floats().map(str),
    st.text(max_size=20),
    st.integers(-3, 40).map(str),
)
SECTIONS = {name: list(values) for name, values in Config().to_dict().items()}
TYPED = [f"--{s}.{n.replace('_', '-')}" for s, names in SECTIONS.items() for n in names if n not in ("dir", "name")]
OTHERS = [
    *("--run.name", "--preset", "--config", "--resume", "--help", "--episodes", "--on", "--checkpoint", "--sampled"),
    *("--workers", "--allow-code", "--json", "--seed", "--progress", "--time-limit", "--options", "--rounds", "--x"),
    *("--network.obs-norm", "--network.no-obs-norm", "--ppo.popart", "-h", "--no-resume", "--env.options"),
]
OPTIONS = st.one_of(
    st.tuples(st.sampled_from(TYPED), VALUES),
    st.tuples(st.sampled_from(TYPED), VALUES).map(lambda x: ("=".join(x),)),
    st.tuples(st.sampled_from(OTHERS), VALUES),
    st.tuples(st.sampled_from([*TYPED, *OTHERS])),
    st.tuples(VALUES),
)
ARGS = st.lists(OPTIONS, max_size=4).map(lambda xs: [word for x in xs for word in x])
TINY = [
    *("--env.num-envs", "2", "--network.hidden", "4", "--ppo.rollout-length", "4", "--ppo.epochs", "1"),
    *("--run.total-steps", "8", "--run.eval-episodes", "2", "--run.progress", "off"),
]
TASKS = st.sampled_from(
    ["probe/signal", "probe/memory", "probe/unequal", "spread", "nowhere:make", "vmas/x", "lbf/x", "x"]
)
TRAIN = st.tuples(TASKS, ARGS).map(lambda x: ["train", x[0], *TINY, "--run.dir", "new", *x[1]])
COMMANDS = st.tuples(st.sampled_from([*commands.COMMANDS, "", "x", "--help", "--version"]), ARGS)
LINES = st.one_of(
    TRAIN,
    COMMANDS.map(lambda x: [x[0], *x[1]]),
    st.tuples(st.sampled_from(["resume", "evaluate", "play"]), ARGS).map(lambda x: [x[0], "run", *x[1]]),
    st.lists(VALUES, max_size=5),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.sampled_from(WEIRD[:40]),
    lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=8), x, max_size=4),
    max_leaves=8,
)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        section: st.one_of(JSON, st.dictionaries(st.sampled_from([*names, "x", "__init__"]), JSON, max_size=3))
        for section, names in SECTIONS.items()
    },
)
CONFIG_TEXTS = st.one_of(
    st.binary(max_size=50),
    JSON.map(lambda x: json.dumps(x).encode()),
    SETTINGS.map(lambda x: json.dumps(x).encode()),
    SETTINGS.map(lambda x: json.dumps({"config": x, "env": "evil:make"}).encode()),
)


@st.composite
def harms(draw: st.DrawFn) -> Callable[[Path], None]:
    """A change to a run directory."""
    kind = draw(st.sampled_from(["bytes", "cut", "swap", "gone", "folder", "link", "json", "tensors", "text"]))
    where, other, amount = draw(st.integers(0, 50)), draw(st.integers(0, 50)), draw(st.integers(0, 2**20))
    value, blob, names = draw(JSON), draw(st.binary(min_size=1, max_size=20)), draw(st.lists(VALUES, max_size=2))
    return partial(harm, kind, where, other, amount, value, blob, names)


def harm(kind: str, where: int, other: int, amount: int, value: Any, blob: bytes, names: list[str], run: Path) -> None:
    files = sorted(p for p in run.rglob("*") if p.is_file() and not p.is_symlink() and "tfevents" not in p.name)
    if not files:
        return
    file, second = files[where % len(files)], files[other % len(files)]
    data = bytearray(file.read_bytes())
    if kind == "bytes" and data:
        data[amount % len(data)] ^= 1 + blob[0] % 255
        file.write_bytes(data)
    elif kind == "cut":
        file.write_bytes(data[: amount % (len(data) + 1)])
    elif kind == "swap":
        held = second.read_bytes()
        second.write_bytes(data)
        file.write_bytes(held)
    elif kind == "gone":
        file.unlink()
    elif kind == "folder":
        file.unlink()
        file.mkdir()
    elif kind == "link":
        file.unlink()
        file.symlink_to(run.parent / "precious")
    elif kind == "text":
        place = amount % (len(data) + 1)
        file.write_bytes(data[:place] + blob + "".join(names).encode(errors="surrogatepass") + data[place:])
    elif kind == "json":
        forge_json(run, where, amount, value)
    elif kind == "tensors":
        forge_tensors(run, other, amount, blob)
    if amount % 2:
        for folder in run.glob("checkpoints/[0-9]*"):
            with contextlib.suppress(Exception):  # what is left of it cannot be sealed
                strangers.sealed(folder)


def forge_json(run: Path, where: int, amount: int, value: Any) -> None:
    """Puts a value anywhere into config.json or a state.json, under true checksums."""
    file = [run / "config.json", *sorted(run.glob("checkpoints/*/state.json"))][where % 3 if where % 3 < 2 else 0]
    with contextlib.suppress(OSError, ValueError):
        told: Any = json.loads(file.read_text())
        places: list[tuple[Any, Any]] = []

        def walk(x: Any) -> None:
            for key, inner in list(x.items() if isinstance(x, dict) else enumerate(x)):
                places.append((x, key))
                if isinstance(inner, (dict, list)):
                    walk(inner)

        walk(told)
        holder, key = places[amount % len(places)]
        if amount % 5:
            holder[key] = value
        else:
            del holder[key]
        file.write_text(json.dumps(told))


def forge_tensors(run: Path, other: int, amount: int, blob: bytes) -> None:
    """Other numbers, shapes or dtypes in a tensor file, under true checksums."""
    folders = sorted(run.glob("checkpoints/[0-9]*"))
    with contextlib.suppress(Exception):
        file = folders[other % len(folders)] / f"{('model', 'trainer')[amount % 2]}.safetensors"
        tensors = {k: v.clone() for k, v in load_file(file).items()}
        name = sorted(tensors)[amount % len(tensors)]
        x = tensors[name]
        change = blob[0] % 7
        if change == 0:
            tensors[name] = x.reshape(-1)[: max(1, x.numel() - 1)].clone()
        elif change == 1:
            tensors[name] = x.to(torch.float64 if x.dtype != torch.float64 else torch.int8)
        elif change == 2:
            del tensors[name]
        elif change == 3:
            tensors[name + "x"] = x
        elif x.is_floating_point():
            x.fill_([float("nan"), float("inf"), -1e30, 1e30][amount % 4])
        else:
            x.fill_([-1, 0, 1, 127][amount % 4] if x.dtype != torch.bool else 1)
        save_file(tensors, file)
        strangers.sealed(folders[other % len(folders)])


# What is not computed


@contextlib.contextmanager
def bounded() -> Generator[None]:
    """A drawn setting may ask for a day's work, which would tell nothing more."""
    for_training, score = envs.for_training, evaluate.score

    def training(env: Any, config: Config, *others: Any) -> Any:
        width = max(config.network.hidden) * len(config.network.hidden) + config.network.memory_size
        work = config.steps_per_update * config.run.seeds * config.ppo.epochs
        if max(width, work, config.run.eval_episodes or 0) > MOST or (config.env.num_agents or 0) > 50:
            raise UserError("this would take long")
        if config.num_updates * max(1, config.run.seeds) * config.ppo.epochs > 200:
            raise UserError("this would take long")
        return for_training(env, config, *others)

    def few(env: Any, name: str, teams: Any, episodes: int, **rest: Any) -> Any:
        return score(env, name, teams, min(episodes, 3), **rest)

    with (
        mock.patch.object(envs, "for_training", training),
        mock.patch.object(evaluate, "score", few),
        mock.patch("mappo.experiments.bench.run_benchmark", return_value=None),
        mock.patch.object(catalogue.checker, "check", side_effect=UserError("this would take long")),
        mock.patch("mappo.evaluation.score_run.replay", side_effect=UserError("this would take long")),
        mock.patch.object(os, "cpu_count", return_value=1),
    ):
        yield


# What must hold


class Place:
    """A folder to work in, of which all but two run directories must stay as it is."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.kept = folder, make_run(folder / "kept", "speaker_listener")
        self.memory = make_run(folder / "kept-2", "probe/combined", network={"hidden": [4], "memory_size": 3})
        (folder / "precious").write_text("precious")
        (folder / "evil.py").write_text("open('EXECUTED', 'w').close()\n")
        self.codes = Counter[int]()

    def fresh(self, memory: bool = False) -> Path:
        for name in ("run", "new", "runs"):
            subprocess.run(["rm", "-rf", str(self.folder / name)], check=True)
        run = strangers.copied(self.memory if memory else self.kept, self.folder / "run")
        self.before = self.outside()
        return run

    def outside(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for path in self.folder.rglob("*"):
            name = str(path.relative_to(self.folder))
            if not name.startswith(("run/", "new/", "runs", "new", "runs/", "settings.json", "__pycache__")):
                found[name] = path.lstat().st_mtime_ns if path.is_file() else 0
        return found

    def call(self, args: list[str], typed: bool = False) -> int:
        """`main`, as the program calls it; what is `typed` may be shown as it is."""
        out, err, here = io.StringIO(), io.StringIO(), os.getcwd()
        os.chdir(self.folder)
        try:
            with (
                bounded(),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                warnings.catch_warnings(),
                mock.patch.object(cli, "env_output_to_stderr", contextlib.nullcontext),
            ):
                warnings.simplefilter("ignore")
                code = cli.main(args)
        finally:
            os.chdir(here)
        self.codes[code] += 1
        told = out.getvalue() + err.getvalue()
        assert code in CODES, code
        assert "Traceback" not in told, told
        assert code != 2 or err.getvalue().strip(), "what is to be mended is told"
        for letters in ("\u202e", "\x1b[31m", "\0"):
            assert typed or letters not in err.getvalue(), err.getvalue()
        after = self.outside()
        assert after == self.before, set(after.items()) ^ set(self.before.items())
        return code


def fuzz(place: Place, examples: int, seed: int) -> None:
    """All three kinds, in equal parts."""
    drawn = settings(
        max_examples=examples // 3,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )

    @seeded(seed)
    @drawn
    @given(LINES)
    def lines(args: list[str]) -> None:
        place.fresh()
        place.call(args, typed=True)

    @seeded(seed)
    @drawn
    @given(CONFIG_TEXTS, st.booleans())
    def configs(text: bytes, small: bool) -> None:
        place.fresh()
        (place.folder / "settings.json").write_bytes(text)
        more = TINY if small else []
        place.call(["train", "probe/signal", "--config", "settings.json", "--run.dir", "new", *more])

    @seeded(seed)
    @drawn
    @given(
        st.lists(harms(), min_size=1, max_size=3),
        st.sampled_from(["resume", "evaluate", "evaluate", "play", "actor"]),
        st.booleans(),
        st.booleans(),
    )
    def files(changes: list[Callable[[Path], None]], command: str, best: bool, memory: bool) -> None:
        run = place.fresh(memory)
        for change in changes:
            change(run)
        if command == "actor":
            with contextlib.suppress(UserError), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what is passed over
                mappo.load_actor(run, checkpoint="best" if best else "last")
            return
        more = ["--checkpoint", "best"] if best and command != "resume" else []
        place.call([command, "run", *more])

    lines()
    configs()
    files()


def processes(place: Place, count: int, seed: int) -> None:
    """The program itself."""
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH")]))

    @seeded(seed)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(LINES, harms(), st.booleans())
    def lines(args: list[str], change: Callable[[Path], None], damaged: bool) -> None:
        run = place.fresh()
        if damaged:
            change(run)
        words = [os.fsencode(a) for a in args if "\0" not in a and not any(0xD800 <= ord(c) < 0xDC80 for c in a)]
        if words[:1] in ([b"bench"], [b"check"]) or any(
            w.startswith((b"--run.t", b"--run.s", b"--ppo")) for w in words[16:]
        ):
            words = [*words, b"--help"]  # might take a day
        done = subprocess.run(
            [sys.executable, "-m", "mappo", *words],
            cwd=place.folder,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=600,
            check=False,
        )
        place.codes[done.returncode] += 1
        assert done.returncode in CODES, (done.returncode, done.stderr)
        assert b"Traceback" not in done.stdout + done.stderr, done.stderr.decode(errors="replace")
        assert place.outside() == place.before

    lines()


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw command lines, config files and run directories.")
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder).resolve())
        fuzz(place, chosen.examples, chosen.seed)
        print(f"{sum(place.codes.values()):,} in process: exit codes {dict(place.codes)}", flush=True)
        place.codes.clear()
        processes(place, chosen.processes, chosen.seed)
        print(f"{sum(place.codes.values()):,} processes: exit codes {dict(place.codes)}")
    print(f"no violation, in {(time.monotonic() - started) / 60:.1f} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
