"""Files from strangers: none of them runs code, takes memory without bound, is waited for, or leads elsewhere."""

import json
import os
import resource
import shutil
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import mappo
import strangers
from mappo.cli.main import main
from mappo.errors import UserError
from mappo.evaluation.curve import plot_curve
from mappo.runs import checkpoint
from mappo.system.safe_read import MAX_JSON, parse_json, printable, read_text
from mappo.training.live_view import LiveView
from mappo.training.progress import print_line
from strangers import copied, last, sealed, with_config, with_header

OPTIONS = str.split(
    "--env.num-envs 2 --network.hidden 8 --ppo.rollout-length 5 --ppo.epochs 1 --ppo.minibatches 1 "
    "--run.total-steps 20 --run.eval-interval 10 --run.eval-episodes 2 --run.progress off"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("strangers") / "run"
    config = mappo.Config.from_dict(
        {
            "env": {"num_envs": 2},
            "network": {"hidden": [8]},
            "ppo": {"rollout_length": 5, "epochs": 1},
            "run": {"total_steps": 20, "eval_interval": 10, "eval_episodes": 2, "progress": "off", "dir": str(path)},
        }
    )
    mappo.train("probe/signal", config)
    return path


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In a folder with a module whose import leaves a mark."""
    (tmp_path / "evil.py").write_text("open('EXECUTED', 'w').close()\ndef make(*_, **__): raise SystemExit(0)\n")
    (tmp_path / "evil_v1.py").write_text((tmp_path / "evil.py").read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return copied(made, tmp_path / "run")


@pytest.fixture(autouse=True)
def _bounded(tmp_path: Path) -> Iterator[None]:
    """Nothing may take a GiB or five seconds, or run what lies beside it."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20
    assert time.process_time() - start < 20
    assert not (tmp_path / "EXECUTED").exists()


def refused(run: Path, capsys: pytest.CaptureFixture[str], *commands: str) -> str:
    """Exit code 2, and one line that says why, the same for all commands."""
    lines = set[str]()
    for command in commands or ("evaluate", "play", "resume"):
        capsys.readouterr()
        assert main([command, str(run)]) == 2, command
        err = capsys.readouterr().err
        assert "Traceback" not in err
        assert err.startswith("mappo: ")
        assert printable(err) == err
        lines.add(err)
    with pytest.raises(UserError):
        mappo.load_actor(run)
    return "".join(lines)


# What config.json may say

SPACE = {"shape": [2**20] * 2, "dtype": "float32"}
CONFIGS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "wide": (lambda c: c["config"]["network"].update(hidden=[2_000_000_000]), "at most 65,536"),
    "wide and deep": (lambda c: c["config"]["network"].update(hidden=[65_536] * 99), "does not fit"),
    "deep": (lambda c: c["config"]["network"].update(hidden=[1] * 100_000), "at most 100"),
    "memory": (lambda c: c["config"]["network"].update(memory_size=65_536), "does not fit"),
    "agents": (lambda c: c["config"]["env"].update(num_agents=10**9), "at most 10,000"),
    "other agents": (lambda c: c["config"]["env"].update(num_agents=9_999), "'num_agents' is 9999, for"),
    "named agents": (lambda c: c["spec"].update(agents=[str(i) for i in range(10_001)]), "up to 10,000 names"),
    "twins": (lambda c: c["spec"].update(agents=["a"] * len(c["spec"]["agents"])), "each of them once"),
    "seen": (lambda c: c["spec"].update(obs=[SPACE] * len(c["spec"]["agents"])), "observe 1,099,511,627,776 numbers"),
    "state": (lambda c: c["spec"].update(state_shape=[2**31 - 1] * 3), "more than the limit of 67,108,864"),
    "negative": (lambda c: c["spec"]["obs"][0].update(shape=[-5]), "'shape' must be an array shape"),
    "dimensions": (lambda c: c["spec"]["obs"][0].update(shape=[1] * 1000), "'shape' must be an array shape"),
    "objects": (lambda c: c["spec"]["obs"][0].update(dtype="O"), "'dtype' must be a numeric array dtype"),
    "void": (lambda c: c["spec"]["obs"][0].update(dtype="V1000000000"), "'dtype' must be a numeric array dtype"),
    "choices": (lambda c: c["spec"]["heads"][0].update(categorical=[2**31 - 1]), "choose among"),
    "heads": (lambda c: c["spec"]["heads"][0].update(start=[0, 0]), "must fit the action heads"),
    "shape of heads": (lambda c: c["spec"]["heads"][0].update(shape=[2**30]), "must fit the action heads"),
    "bounds": (lambda c: c["spec"]["heads"][0].update(low=[{}], high=[1]), "is damaged"),
    "groups": (lambda c: c["spec"].update(groups=[0] * 9), "got 9 groups"),
    "types": (lambda c: c["config"]["ppo"].update(epochs=[1]), "ppo.epochs must be of type int"),
    "huge number": (lambda c: c["config"]["ppo"].update(gamma=10**300), "below 2^63"),
    "unknown": (lambda c: c["config"]["ppo"].update({"\x1b[31m": 1}), "unknown option"),
    "section": (lambda c: c["config"].update(__class__={}), "unknown section"),
    "encoder": (lambda c: c["config"]["network"].update(encoder="evil:make"), "names code to import, evil:make"),
    "environment": (lambda c: c.update(env="\x1b[31mred\x1b[0m"), "no environment is called '\\x1b[31mred"),
    "lines": (lambda c: c.update(env="a\nmappo: all is well"), "no environment is called"),
    "turned": (lambda c: c.update(env="spread\u202etxt"), "no environment is called 'spread\\u202etxt'"),
    "too old": (lambda c: c.update(format=1), "it was written by an earlier version of mappo"),
    "too new": (lambda c: c.update(format=99), "it was written by a later version of mappo"),
    "no format": (lambda c: c.update(format={"\x1b": 1}), "it was not written by mappo, or is damaged"),
    "true": (lambda c: c.update(format=True), "it was not written by mappo, or is damaged"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_what_a_config_may_say(case: str, run: Path, capsys: pytest.CaptureFixture[str]):
    change, message = CONFIGS[case]
    with_config(run, change)
    told = refused(run, capsys, "evaluate", "play", *([] if message == "does not fit" else ["resume"]))
    assert message in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 1_000_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"format": 2, "format": 3}', "format is given twice"),
        ('{"format": NaN}', "NaN is no number of JSON"),
        ('{"format": 1e999}', "1e999 is no number of JSON"),
        ('{"format": ' + "9" * 10_000 + "}", "cannot be read"),
        ("\0", "cannot be read"),
        ("\udc80", "cannot be read"),
    ],
)
def test_what_is_no_json(text: str, message: str, run: Path, capsys: pytest.CaptureFixture[str]):
    (run / "config.json").write_text(text, errors="surrogateescape")
    assert message in refused(run, capsys)
    assert main(["train", "spread", "--config", str(run / "config.json")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def as_by_older_versions(run: Path, best: str = "") -> None:
    """The best one named by a file, not by the checkpoints."""
    for path in (run / "checkpoints").glob("0*"):
        state = json.loads((path / "state.json").read_text())
        del state["best_step"]
        (path / "state.json").write_text(json.dumps(state))
        sealed(path)
    (run / "checkpoints" / "best").write_text(best)


@pytest.mark.parametrize("name", ["config.json", "checkpoints/best", "state.json", "model.safetensors"])
def test_files_of_ten_gigabytes(name: str, run: Path, capsys: pytest.CaptureFixture[str]):
    folder = last(run) if name in ("state.json", "model.safetensors") else run
    for other in sorted((run / "checkpoints").glob("[0-9]*")):
        if other != last(run):
            shutil.rmtree(other)
    if name == "checkpoints/best":
        as_by_older_versions(run)
    os.truncate(folder / name, 10 * 2**30)  # holes: it takes no disk
    if name == "checkpoints/best":
        assert main(["evaluate", str(run), "--checkpoint", "best", "--episodes", "2"]) == 2
        assert "holds no best checkpoint" in capsys.readouterr().err
    else:
        assert "10,737,418,240 bytes" in refused(run, capsys)
    if name == "config.json":
        assert main(["train", "spread", "--config", str(run / name)]) == 2
        assert "10,737,418,240 bytes are more than the limit of 16,777,216 bytes" in capsys.readouterr().err


def test_a_table_of_ten_gigabytes(run: Path, capsys: pytest.CaptureFixture[str]):
    os.truncate(run / "metrics.csv", 10 * 2**30)
    assert main(["resume", str(run)]) == 2
    assert "metrics.csv: 10,737,418,240 bytes" in capsys.readouterr().err


# What lies in the place of a file


@pytest.mark.parametrize("name", ["config.json", "metrics.csv", ".lock", "curve.png", "replay.gif", ".curve.png.part"])
@pytest.mark.parametrize("kind", ["pipe", "link", "socket"])
def test_what_is_no_file(name: str, kind: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    place, treasure = run / name, tmp_path / "treasure"
    treasure.write_text("precious")
    place.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "link":
        place.symlink_to(treasure)
    else:
        here = os.getcwd()
        os.chdir(run)
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(name)
        os.chdir(here)
    assert ("is a symbolic link" if kind == "link" else "is a pipe, a socket or a device") in refused(run, capsys)
    assert treasure.read_text() == "precious"


def test_what_is_no_file_is_no_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "pipe", "/dev/zero", "/dev/tty", tmp_path):
        assert main(["train", "spread", "--config", str(file)]) == 2
        told = capsys.readouterr().err
        assert "--config" in told
        assert ("not a plain file" in told) == (file not in ("/dev/tty", tmp_path)), told


def test_checkpoints_that_are_elsewhere_are_not_pruned(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    elsewhere = tmp_path / "photos"
    shutil.move(run / "checkpoints", elsewhere)
    (elsewhere / "000000000001").mkdir()
    (run / "checkpoints").symlink_to(elsewhere)
    assert "checkpoints is a symbolic link" in refused(run, capsys)
    assert (elsewhere / "000000000001").is_dir()


@pytest.mark.parametrize("place", ["000000000020", "000000000020/model.safetensors", ".000000000030.tmp"])
def test_links_within_checkpoints(place: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = run / "checkpoints" / place
    shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)
    path.symlink_to(tmp_path)
    assert "is a symbolic link" in refused(run, capsys)


def test_what_is_no_checkpoint_stays_beside_them(made: Path, tmp_path: Path):
    run = copied(made, tmp_path / "run")
    for name in ("2024-photos", "7", "٠٠٠٠٠٠٠٠٠٠٠١", "000000000020-mine"):
        (run / "checkpoints" / name).mkdir()
    before = sorted(p.name for p in (run / "checkpoints").iterdir() if p.is_dir())
    found = checkpoint.load(run)
    checkpoint.save(run, 30, {}, {}, {}, best=False)
    after = sorted(p.name for p in (run / "checkpoints").iterdir() if p.is_dir())
    assert found.path.name == "000000000020"
    assert set(before) - set(after) <= {"000000000010"}


@pytest.mark.parametrize("name", ["../../elsewhere", "..", "/etc", "²", "٠٠٠٠٠٠٠٠٠٠٢٠", "9" * 5000, "000000000099", ""])
def test_a_best_that_points_elsewhere(name: str, run: Path, capsys: pytest.CaptureFixture[str]):
    """Older versions kept it in a file; where the checkpoints tell, that is not looked at."""
    (run / "checkpoints" / "best").write_text(name)
    assert main(["evaluate", str(run), "--checkpoint", "best"]) == 0
    as_by_older_versions(run, name)
    capsys.readouterr()
    assert main(["evaluate", str(run), "--checkpoint", "best"]) == 2
    assert "checkpoint" in capsys.readouterr().err
    assert main(["resume", str(run)]) == 0


# What a checkpoint may hold


def rewritten(run: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    file = last(run) / f"{name}.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, file)
    sealed(last(run))


def first(tensors: dict[str, Any], part: str) -> str:
    return next(name for name in tensors if part in name and tensors[name].ndim)


ACTOR, CRITIC, MOMENT = "network.actor", "network.critic", "exp_avg_sq"
TENSORS: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "missing": ("model", lambda t: t.pop(first(t, ACTOR)), "missing tensor"),
    "extra": ("model", lambda t: t.update({f"{ACTOR}.x": torch.ones(1)}), "unexpected tensor"),
    "strange": ("model", lambda t: t.update({f"{ACTOR}.\x1b[31m\n\u202e": torch.ones(1)}), r"\x1b[31m\n\u202e"),
    "shape": ("model", lambda t: t.update({first(t, ACTOR): torch.ones(3, 3)}), "is (3, 3) of torch.float32"),
    "dtype": ("model", lambda t: t.update({(n := first(t, ACTOR)): t[n].double()}), "of torch.float64"),
    "empty": ("model", lambda t: t.clear(), "missing tensor"),
    "critic": ("model", lambda t: t.update({first(t, CRITIC): torch.ones(9)}), "is (9,) of"),
    "statistics": ("model", lambda t: t.update({"value_norm.moments": torch.ones(3)}), "is (3,) of torch.float32"),
    "moments": ("trainer", lambda t: t.update({first(t, MOMENT): torch.ones(1)}), "is (1,) of"),
    "half the moments": (
        "trainer",
        lambda t: [t.pop(n) for n in [*t] if n.endswith("exp_avg")],
        "missing tensor optimizer",
    ),
    "updates": ("trainer", lambda t: t.update(updates=torch.ones(3).long()), "updates is (3,) of torch.int64"),
    "generator": ("trainer", lambda t: t.update(generator=torch.zeros(5).byte()), "generator is (5,) of"),
    "no generator": ("trainer", lambda t: t["generator"].fill_(255), "does not fit"),
    "running": ("trainer", lambda t: t.update({"collector.running": torch.ones(1).double()}), "running is (1,) of"),
    "noise": ("trainer", lambda t: t.pop("collector.generator"), "missing tensor generator"),
    "foreign": ("trainer", lambda t: t.update(evil=torch.ones(1)), "unexpected tensor 'evil'"),
    "episodes": ("trainer", lambda t: t.update({"collector.env.x": torch.ones(1)}), "unexpected tensor 'env.x'"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_do_not_fit(case: str, run: Path, capsys: pytest.CaptureFixture[str]):
    name, change, message = TENSORS[case]
    rewritten(run, name, change)
    capsys.readouterr()
    assert main(["resume", str(run)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert printable(err) == err
    if name == "model" and case not in ("critic", "statistics"):
        assert message in refused(run, capsys, "evaluate", "play")


HEADERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a pickle": (lambda f: torch.save({"x": torch.ones(1)}, f), "the header cannot be"),
    "empty": (lambda f: f.write_bytes(b""), "the header cannot be"),
    "long": (lambda f: f.write_bytes(struct.pack("<Q", 10**8) + b"{}"), "the header cannot be 100,000,000 bytes long"),
    "longer than all": (lambda f: f.write_bytes(struct.pack("<Q", 2**64 - 1) + b"{}"), "the header cannot be"),
    "no json": (lambda f: f.write_bytes(struct.pack("<Q", 9) + b"x" * 50), "cannot read"),
    "a list": (lambda f: f.write_bytes(struct.pack("<Q", 2) + b"[]"), "cannot read"),
    "nested": (lambda f: f.write_bytes(struct.pack("<Q", 10**6) + b"[" * 10**6), "nested too deeply"),
    "twice": (lambda f: f.write_bytes(struct.pack("<Q", 15) + b'{"a":1,"a":2}  '), "a is given twice"),
    "a number": (lambda f: with_header(f, lambda h: h.update(x=7)), "cannot read"),
    "a shape": (lambda f: with_header(f, lambda h: next(iter(h.values())).update(shape=[2**70])), "cannot read"),
    "much": (lambda f: with_header(f, lambda h: next(iter(h.values())).update(shape=[2**40])), "cannot read"),
    "offsets": (lambda f: with_header(f, lambda h: next(iter(h.values())).update(data_offsets=[0, 2**40])), "cannot"),
    "backwards": (lambda f: with_header(f, lambda h: next(iter(h.values())).update(data_offsets=[9, 3])), "cannot"),
    "more": (lambda f: with_header(f, lambda h: None, b"x" * 100), "cannot read"),
    "dtype": (lambda f: with_header(f, lambda h: next(iter(h.values())).update(dtype="PICKLE")), "cannot read"),
}


@pytest.mark.parametrize("case", HEADERS)
@pytest.mark.parametrize("name", ["model", "trainer"])
def test_headers_that_lie(name: str, case: str, run: Path, capsys: pytest.CaptureFixture[str]):
    change, message = HEADERS[case]
    for folder in (run / "checkpoints").glob("[0-9]*"):
        change(folder / f"{name}.safetensors")
        sealed(folder)
    assert message in refused(run, capsys)


@pytest.mark.parametrize(
    "state",
    [
        {"step": "20"},
        {"step": -1},
        {"step": 10**30},
        {"step": None},
        {"updates": "x"},
        {"updates": None},
        {"device": 7},
        {"device": "tpu"},
        {"products": 7},
        {"products": "cublas"},
        {"best": "high"},
        {"best": [1]},
        {"format": 1},
        {"format": 99},
        {"format": "2"},
        {"sha256": 5},
    ],
)
def test_states_that_are_none(state: dict[str, Any], run: Path, capsys: pytest.CaptureFixture[str]):
    for folder in (run / "checkpoints").glob("[0-9]*"):
        sealed(folder, **state)
        if "sha256" in state:
            (folder / "state.json").write_text(f'{{"format": 2, "step": {int(folder.name)}, "sha256": 5}}')
    capsys.readouterr()
    code = main(["resume", str(run)])
    assert code == (0 if state == {"device": "tpu"} else 2)
    assert "Traceback" not in capsys.readouterr().err


# Code

NAMES = [
    *("evil:make", "evil:make.x", "os:system", "builtins:exec", "subprocess:call"),
    *("vmas/evil", "vmas/../evil", "vmas/evil.py", "vmas//tmp/evil", "mpe2/evil", "mpe2/evil_v1", "mpe2/..evil"),
    *("sisl/evil_v1", "butterfly/evil_v1", "mamujoco/evil", "magent2/evil_v1", "lbf/evil", "rware/evil", "smac/evil"),
    *("envpool/evil", "evil", "custom/evil", "mpe2/simple_spread_v3.os", "mpe2/os", "sisl/os.path"),
]


@pytest.mark.parametrize("name", NAMES)
def test_no_file_names_code(name: str, run: Path, capsys: pytest.CaptureFixture[str]):
    with_config(run, lambda c: c.update(env=name))
    for command in ("evaluate", "play", "resume"):
        assert main([command, str(run)]) == 2
        err = capsys.readouterr().err
        assert "Traceback" not in err
        if ":" in name:
            assert "names code to import" in err
            assert "--allow-code" in err
    mappo.load_actor(run)  # needs no environment


def test_what_the_user_allows_is_run(run: Path, tmp_path: Path):
    """The proof that the others could see it."""
    with_config(run, lambda c: c.update(env="evil:make"))
    assert main(["evaluate", str(run), "--allow-code"]) != 0
    (tmp_path / "EXECUTED").unlink()
    sys.modules.pop("evil", None)


@pytest.mark.parametrize(
    "option",
    ["entry_point=evil:make", "__class__=evil", "make_env=evil:make", "render_mode=human", "max_cycles=__import__"],
)
def test_no_option_names_code(option: str, run: Path, capsys: pytest.CaptureFixture[str]):
    for env in ("probe/signal", "mpe2/simple_spread_v3", "lbf/Foraging-8x8-2p-2f-coop-v3"):
        with_config(run, lambda c, env=env: c.update(env=env) or c["config"]["env"].update(options=[option]))
        assert main(["evaluate", str(run), "--episodes", "1"]) == 2
        assert "Traceback" not in capsys.readouterr().err


# What is shown

EVIL_NAMES = [
    "[red]x[/red]",
    "[/",
    "$\\frac{$",
    "a$b$c",
    "\x1b[2J\x1b[31m",
    "a\nb\rc",
    "\u202eabc",
    "\x9b31m",
    "\udc80",
]


@pytest.mark.parametrize("name", EVIL_NAMES)
def test_what_is_shown_is_spelled_out(name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from rich.console import Console

    console = Console(force_terminal=True, width=80)
    print_line(console, name)
    with LiveView(10, name, console) as view:
        view.note(name)
    shown = capsys.readouterr().out
    for letters in "\x1b[2J", "\x1b[31m", "\x9b", "\u202e", "b\rc":
        assert letters not in shown
    if "[" in name and name.isprintable():
        assert name in shown
    drawn = plot_curve(run, {name: 1.0}, tmp_path / "curve.png", title=name)
    with Image.open(drawn) as picture:
        assert picture.size == (1200, 750)


@pytest.mark.parametrize("name", ["$\\frac{$", "[red]run[red]", "a\nb", "\u202erun", "--help", "-x", " "])
def test_runs_of_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "probe/signal", f"--run.name={name}", *OPTIONS]) == 0
    assert (tmp_path / "runs" / name / "curve.png").exists()


def test_agents_of_any_name_are_shown_spelled_out(run: Path):
    with_config(run, lambda c: c["spec"].update(agents=["\x1b[31m", *c["spec"]["agents"][1:]]))
    actor = mappo.load_actor(run)
    with pytest.raises(UserError) as told:
        actor.agent("nobody")
    assert "\x1b" not in printable(str(told.value))


def test_strict_json():
    assert parse_json('{"a": [1, 2.5, null, true, "x"], "b": {"a": 1}}') == {
        "a": [1, 2.5, None, True, "x"],
        "b": {"a": 1},
    }
    for text in ('{"a": 1, "a": 1}', "[Infinity]", "[-Infinity]", "[NaN]", "[1e400]", "{", "", "[" * 10**5):
        with pytest.raises(ValueError, match=r"."):
            parse_json(text)


def test_a_file_is_read_up_to_its_bound(tmp_path: Path):
    file = tmp_path / "x"
    file.write_text("x" * 100)
    assert read_text(file, 100) == "x" * 100
    with pytest.raises(ValueError, match="100 bytes are more than the limit of 99 bytes"):
        read_text(file, 99)
    assert MAX_JSON > 4_000_000
    assert printable("a\x1b\u200b\u202e\ud800é\n") == "a\\x1b\\u200b\\u202e\\ud800é\n"
    assert strangers.digest(file) == checkpoint.digest(file)
