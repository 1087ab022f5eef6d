"""`mappo bench`: what it times, how it reckons, and what it prints."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mappo.cli.main import main
from mappo.experiments import bench, workload
from mappo.experiments.workload import Cost, TimedPart, Workload, matmul_part, measure, reference
from mappo.system import hardware as machine

PARTS = ["environment alone", "policy alone", "update alone", "end to end", "bare matrix products"]


class Clock:
    """Time passes when work is done: one second of CPU, and two by the clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cpu = self.wall = 0.0
        told = SimpleNamespace(process_time=lambda: self.cpu, perf_counter=lambda: self.wall)
        monkeypatch.setattr(workload, "time", told)

    def spend(self, seconds: float) -> None:
        self.cpu += seconds
        self.wall += 2 * seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def small() -> Workload:
    return Workload(reference("plain", 2), seed=3)


def cells(line: str) -> list[str]:
    return [x.strip() for x in line.strip("|").split("|")]


def test_the_command_prints_tables_of_markdown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(workload, "TURN", 0)
    assert main(["bench", "--device", "cpu", "--num-envs", "2", "--rounds", "1"]) == 0
    out, err = capsys.readouterr()
    assert "measuring on cpu" in err
    about, figures = ([*map(cells, x.splitlines())] for x in out.strip().split("\n\n"))
    told = dict(about)
    assert told["CPU"] == f"{machine.cpu_model()}, {machine.usable_cores()} cores usable"
    assert torch.__version__ in told["versions"]
    assert "2 environments" in told["work"]
    assert told["run"].startswith("1 thread, 1 round, load ")
    assert [row[:2] for row in figures[2:]] == [[recipe, part] for recipe in ("full", "plain") for part in PARTS]
    for _, part, cpu, wall, rate, share in figures[2:]:
        assert float(cpu) >= 0
        assert float(rate.replace(",", "")) == pytest.approx(1000 / float(wall), rel=0.01)
        assert (share == "100.0%") == (part == "end to end")
    assert len({len(line) for line in out.strip().split("\n\n")[1].splitlines()}) == 1  # it reads as it is, too


def test_seconds_are_those_of_the_work_alone(clock: Clock):
    part = TimedPart("x", lambda: clock.spend(3), before=lambda: clock.spend(50))
    assert measure([part], steps=500, rounds=2, repeats=4) == {"x": [Cost(6, 12)] * 2}


def test_what_a_device_still_has_to_do_counts_for_whoever_asked_for_it(clock: Clock):
    waiting = [0.0]

    def kernel(seconds: float) -> Callable[[], None]:
        return lambda: waiting.append(waiting.pop() + seconds)

    def sync() -> None:
        clock.spend(waiting[0])
        waiting[0] = 0

    part = TimedPart("x", kernel(3), before=kernel(50))
    assert measure([part], steps=1000, rounds=1, sync=sync, repeats=2) == {"x": [Cost(3, 6)]}


def test_parts_take_turns_and_each_fills_its_turn(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workload, "TURN", 12)
    order: list[str] = []

    def part(name: str, seconds: float) -> TimedPart:
        return TimedPart(name, lambda: (order.append(name), clock.spend(seconds)))

    measure([part("a", 3), part("b", 1), part("long", 60)], steps=1, rounds=2)
    turns = ["a"] * 2 + ["b"] * 6 + ["long"]
    # Three runs of burn-in, behind which a GPU has recorded what it launches, and one to see how long.
    assert order == ["a"] * 4 + ["b"] * 4 + ["long"] * 4 + turns * 2


@pytest.mark.parametrize(("device", "share"), [("cpu", "25.0%"), ("cuda", "75.0%")])
def test_figures_are_medians_and_shares_those_of_each_round(device: str, share: str):
    # A quarter of the CPU time and three quarters of the clock, in two rounds of three; not so of the medians.
    spent = {
        "a": [Cost(1, 3), Cost(3, 3), Cost(8, 24)],
        "end to end": [Cost(4, 4), Cost(4, 12), Cost(32, 32)],
    }
    rows = bench.table_rows("full", spent, torch.device(device))
    assert rows[0] == ["full", "a", "3.00000", "3.00000", "333", share]
    assert rows[1] == ["full", "end to end", "4.00000", "12.00000", "83", "100.0%"]


def test_the_reference_is_the_work_of_the_paper():
    full, plain = reference("full"), reference("plain", 7)
    assert (full.env.num_envs, plain.env.num_envs, full.ppo.rollout_length) == (128, 7, 25)
    assert full.network.hidden == plain.network.hidden == (64, 64)
    assert (full.ppo.epochs, full.ppo.minibatches, full.network.memory_size) == (10, 1, 0)
    assert (full.network.activation, full.network.layer_norm, full.ppo.value_norm) == ("tanh", True, True)
    assert (full.ppo.huber_delta, full.ppo.value_clip) == (10, 0.2)
    assert (plain.network.activation, plain.network.layer_norm, plain.ppo.value_norm) == ("relu", False, False)
    assert (plain.ppo.huber_delta, plain.ppo.value_clip) == (None, None)
    assert (plain.ppo.epochs, plain.ppo.actor_lr) == (full.ppo.epochs, full.ppo.actor_lr)


def test_the_bare_products_are_the_products_of_the_work(small: Workload):
    with FlopCounterMode(display=False) as counter:
        matmul_part(small).work()
    inputs, width, agents, epochs = 18, 64, 3, 10
    actor = 2 * (inputs * width + width * width + width * 5)
    critic = 2 * (agents * inputs * width + width * width + width)
    # Gradients cost twice a forward pass, less what the input would need.
    learned = agents * (3 * actor - 2 * inputs * width) + 3 * critic - 2 * agents * inputs * width
    expected = agents * actor + critic * (1 + 1 / 25) + epochs * learned
    assert counter.get_total_flops() / small.steps == pytest.approx(expected)
    assert expected == pytest.approx(1.37e6, rel=0.01)


def test_each_part_does_its_own_and_nothing_else(small: Workload, monkeypatch: pytest.MonkeyPatch):
    called: list[str] = []
    for owner, name in ((type(small.env), "step"), (type(small.agent), "act"), (type(small.agent), "update")):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *x, _do=original, _as=name, **y: (called.append(_as), _do(*x, **y))[1])
    small.update()
    called.clear()
    before = {k: x.clone() for k, x in small.env.state_dict().items()}
    done: dict[str, tuple[int, int, int]] = {}
    for part in small.parts():
        if part.name == "update alone":  # on a new rollout each time
            assert part.before is not None
            part.before()
            assert called.count("step") == 25
            called.clear()
        part.work()
        done[part.name] = (called.count("step"), called.count("act"), called.count("update"))
        called.clear()
        if part.name in ("environment alone", "policy alone"):  # that of training is left alone
            assert all(torch.equal(x, before[k]) for k, x in small.env.state_dict().items())
    assert done == {
        "environment alone": (25, 0, 0),
        "policy alone": (0, 25, 0),
        "update alone": (0, 0, 1),
        "end to end": (25, 25, 1),
    }


def test_an_update_answers_what_a_log_would_read(small: Workload):
    metrics = small.update()
    assert {"return_sum", "policy_loss", "entropy"} <= set(metrics)
    assert metrics["episodes"] == 2


MISTAKES = {
    "rounds": (["--rounds", "0"], "--rounds must be at least 1, got 0"),
    "threads": (["--threads", "0"], "--threads must be at least 1, got 0"),
    "no environments": (["--num-envs", "0"], "--num-envs must be at least 1, got 0"),
    "too many": (["--num-envs", "1000001"], "--num-envs must be at most 1,000,000, got 1,000,001"),
    "device": (["--device", "tpu"], "invalid choice 'tpu'"),
    "option": (["--round", "1"], "Perhaps you meant: --rounds"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_gets_one_message(mistake: str, capsys: pytest.CaptureFixture[str]):
    args, expected = MISTAKES[mistake]
    assert main(["bench", *args]) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert expected in " ".join(re.sub("[│╭╮╰╯─]", " ", out + err).split())


def test_a_missing_gpu_is_told_by_the_option(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["bench", "--device", "cuda"]) == 2
    assert capsys.readouterr().err == "mappo: --device cuda: torch finds no CUDA device here; use cpu or auto\n"


def test_too_little_memory_is_told_and_threads_are_as_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(*_: object) -> None:
        assert torch.get_num_threads() == 2
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.\nC++ stack")

    monkeypatch.setattr(bench, "Workload", fail)
    before = torch.get_num_threads()
    assert main(["bench", "--device", "cpu", "--num-envs", "5000", "--threads", "2"]) == 2
    assert torch.get_num_threads() == before
    message = (
        "--num-envs 5,000: not enough memory (DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.)"
    )
    assert message in capsys.readouterr().err


def test_only_cuda_is_waited_for():
    assert workload.synchronizer(torch.device("cuda")) is torch.cuda.synchronize
    assert workload.synchronizer(torch.device("cpu"))() is None


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_checkout_tells_its_commit_and_whether_it_was_changed(tmp_path: Path):
    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    sources, installed = tmp_path / "src", tmp_path / ".venv"
    for folder in (sources, installed):
        folder.mkdir()
        (folder / "a.py").write_text("1\n")
    assert machine.git_state(sources) is None
    git("init", "-q")
    git("add", "src")
    git("commit", "-q", "-m", "one")
    commit = git("rev-parse", "--short", "HEAD")
    assert machine.git_state(sources) == (commit, False)
    assert machine.git_state(installed) is None  # a copy inside somebody's checkout is not of that commit
    (sources / "notes.txt").write_text("new")
    assert machine.git_state(sources) == (commit, True)
    assert machine.git_state(sources, "*.py") == (commit, False)


def test_a_machine_that_tells_nothing_is_no_error(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr(machine.Path, "read_text", refuse)
    monkeypatch.setattr(machine.subprocess, "run", refuse)
    monkeypatch.setattr(machine.os, "sysconf", refuse)
    monkeypatch.setattr(machine.os, "getloadavg", refuse)
    assert machine.cpu_model()
    assert machine.git_state(Path.cwd()) is None
    assert (machine.memory_gib(), machine.load_average(), machine.package_version("no-such-package")) == (
        None,
        None,
        "none",
    )
    about = dict(bench.machine_rows(torch.device("cpu"), 2, "1 thread"))
    assert (about["memory"], about["commit"], about["GPU"]) == ("unknown", "no checkout", "none used")
    assert about["run"] == "1 thread, load unknown at the end"
