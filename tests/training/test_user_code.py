"""Learners and encoders of the user, named by `module:attribute`: runs with them, and the consent to import them."""

import json
import math
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mappo
from mappo.backend.ranks import Ranks
from mappo.cli.main import main
from mappo.config import Config
from mappo.errors import UserError
from mappo.runs import checkpoint
from mappo.training.learner import name_of_class
from mappo.training.train import _make_agents
from training_runs import CONFIG, assert_same, stop_after, within

CODE = """
from pathlib import Path
import torch
from torch import nn
import mappo
from mappo.networks.layers import Linear

Path(__file__).with_name("IMPORTED").touch()

class Counting(mappo.MAPPO):
    extra_metrics = ("count",)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.count = torch.zeros(())

    def loss(self, batch, outputs):
        total, metrics = super().loss(batch, outputs)
        self.count += 1
        return total - 0.01 * self.count * batch.mean(outputs.entropy), metrics | {"count": self.count}

    def state_dict(self):
        return super().state_dict() | {"count": self.count}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.count.copy_(state["count"])

class Encoder(nn.Module):
    def __init__(self, groups, size, width):
        super().__init__()
        self.layer = Linear(groups, size, width)

    def forward(self, x):
        return torch.tanh(self.layer(x))

calls = []

def make(groups, shape, net, role, spec):
    calls.append((role, spec.num_agents))
    return Encoder(groups, shape[0], net.hidden[-1])

def broken(groups, shape, net):
    raise KeyError("width")

number = 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("mappo.training.session.draw_curve", lambda *_: None)
    monkeypatch.setattr("mappo.training.evaluator.Evaluator.measure_at_end", lambda *_: {})
    yield tmp_path
    sys.modules.pop("mine", None)


def with_code(path: Path | str, learner: str = "mine:Counting", encoder: str = "mine:make", **run: Any) -> Config:
    data = {"ppo": {"learner": learner}, "network": {"encoder": encoder}}
    episodes = {"score_episodes": 0, "replay_episodes": 0, "eval_episodes": 8}
    return within(Config.from_dict(data, CONFIG), Path(path), **(episodes | run))


def imported(folder: Path) -> bool:
    return (folder / "IMPORTED").exists()


@pytest.mark.parametrize("seeds", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_with_code_of_ones_own_resumes_exactly(folder: Path, seeds: int):
    whole = mappo.train("spread", with_code("whole", seeds=seeds))
    mappo.train("spread", with_code("cut", seeds=seeds), callback=stop_after(3))
    assert main(["resume", "cut", "--allow-code", "--progress", "off"]) == 0
    for a, b in zip(
        *([p.parents[0] for p in sorted(Path(x).rglob("metrics.csv"))] for x in ("whole", "cut")), strict=True
    ):
        assert_same(a, b)
        found = checkpoint.load(a)
        assert found.trainer["count"] == 4 * 6
    assert whole.metrics["count"][0] == (1 + 2 + 3 + 4) / 4
    roles = [role for role, _ in sys.modules["mine"].calls]
    assert roles[:2] == ["actor", "critic"]
    assert {agents for _, agents in sys.modules["mine"].calls} == {3}


def test_files_name_code_only_with_consent(folder: Path, capsys: pytest.CaptureFixture[str]):
    words = [*("--run.dir", "run", "--run.total-steps", "80", "--env.num-envs", "8", "--ppo.rollout-length", "10")]
    words += [
        "--run.score-episodes",
        "4",
        "--run.replay-episodes",
        "0",
        "--run.eval-episodes",
        "4",
        "--run.progress",
        "off",
    ]
    typed = ["--ppo.learner", "mine:Counting", "--network.encoder", "mine:make"]
    assert main(["train", "probe/signal", *words, *typed]) == 0  # typed: consent
    out = capsys.readouterr().out
    assert "mappo evaluate run --allow-code" in out.replace(str(folder) + "/", "").replace(".venv/bin/", "")
    (folder / "IMPORTED").unlink()
    sys.modules.pop("mine")
    commands = {
        "evaluate run --episodes 2": "mine:make",
        "play run --episodes 1": "mine:make",
        "export run --to c": "mine:make",
        "resume run": "mine:make and mine:Counting",
        "train probe/signal --config run/config.json --run.name other": "mine:make and mine:Counting",
    }
    for command, names in commands.items():
        assert main(command.split()) == 2, command
        err = capsys.readouterr().err
        assert f"names code to import, {names}: look at it" in err
        assert "add --allow-code" in err
    with pytest.raises(UserError, match=r"names code to import, mine:make.*allow_code=True"):
        mappo.load_actor("run")
    assert not imported(folder)
    del commands["play run --episodes 1"], commands["resume run"]  # no pictures here; a resume is tested above
    del commands["export run --to c"]
    assert main(["export", "run", "--to", "c", "--allow-code"]) == 2
    err = capsys.readouterr().err
    assert "names code" not in err
    assert "Encoder" in err  # imported, and refused as C
    for command in commands:
        tail = words[2:] if command.startswith("train") else []
        assert main([*command.split(), "--allow-code", *tail]) == 0, command
    actor = mappo.load_actor("run", allow_code=True)
    assert type(actor.policy.network.encoder).__name__ == "Encoder"
    assert imported(folder)


def test_an_encoder_alone_needs_no_consent_for_the_learner(folder: Path, capsys: pytest.CaptureFixture[str]):
    mappo.train("spread", with_code("run", encoder="mlp", total_steps=80))
    (folder / "IMPORTED").unlink()
    sys.modules.pop("mine")
    mappo.load_actor("run")
    assert main(["evaluate", "run", "--episodes", "2"]) == 0  # the learner plays no part
    capsys.readouterr()
    assert main(["train", "spread", "--resume", "--run.dir", "run", "--config", "run/config.json", "--allow-code"]) == 0
    assert "mappo evaluate run\n" in capsys.readouterr().out.replace(".venv/bin/", "")
    assert not imported(folder)


def test_a_space_of_a_sweep_names_code_only_with_consent(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "space.json").write_text(json.dumps({"network.encoder": ["mlp", "mine:make"]}))
    words = ["sweep", "probe/signal", "space.json", "--grid", "--run.total-steps", "64", "--run.progress", "off"]
    assert main(words) == 2
    assert "space.json names code to import, mine:make" in capsys.readouterr().err
    assert not imported(folder)


class Quiet(mappo.MAPPO):
    def loss(self, batch: Any, outputs: Any) -> Any:
        return super().loss(batch, outputs)


class AddsUp(Quiet):
    loss_adds_up = True


def test_a_class_of_the_caller_is_recorded_by_its_name(folder: Path):
    from importlib import import_module

    sys.path.append(str(folder))
    counting = import_module("mine").Counting
    run = mappo.train("spread", within(CONFIG, folder / "run", total_steps=80), learner=counting)
    assert run.config.ppo.learner == "mine:Counting"
    again = mappo.train("spread", within(CONFIG, folder / "run", total_steps=80), learner=counting, resume=True)
    assert again.step == 80
    with pytest.raises(UserError, match=r"made with other settings: ppo\.learner mine:Counting, not mappo"):
        mappo.train("spread", within(CONFIG, folder / "run", total_steps=80), resume=True)
    with pytest.raises(UserError, match=r"ppo\.learner is mine:Counting, but learner= is .*Quiet"):
        mappo.train("spread", with_code("other"), learner=Quiet)


def test_a_class_within_a_function_can_be_resumed_from_python_alone(folder: Path, capsys: pytest.CaptureFixture[str]):
    class Local(Quiet):
        pass

    mappo.train("spread", within(CONFIG, folder / "run"), learner=Local, callback=stop_after(2))
    assert main(["resume", "run"]) == 2
    assert "ppo.learner custom/Local cannot be imported: give the class" in capsys.readouterr().err
    assert mappo.train("spread", within(CONFIG, folder / "run"), learner=Local, resume=True).finished


def test_a_script_names_its_classes_by_its_file(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Quiet, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "/home/me/my_loss.py", raising=False)
    assert name_of_class(Quiet) == "my_loss:Quiet"
    monkeypatch.delattr(sys.modules["__main__"], "__file__")
    assert name_of_class(Quiet) == "custom/Quiet"


@pytest.mark.parametrize(
    ("learner", "encoder", "message"),
    [
        ("mine:make", "mlp", "the learner mine:make must be a subclass of mappo.MAPPO"),
        ("mine:Nothing", "mlp", r"mine \(.*mine.py\) has no 'Nothing'"),
        ("nowhere:Learner", "mlp", "there is no module 'nowhere', neither installed nor in"),
        ("mine:", "mlp", "names no function: write module:function, such as mine:MyMAPPO"),
        ("maddpg", "mlp", "ppo.learner maddpg cannot be imported: use mappo, or module:Class"),
        ("mappo", "mine:number", "mine:number is a int: name a function that makes an encoder"),
        ("mappo", "nowhere:make", "there is no module 'nowhere'"),
        ("mappo", "mine.py:make", "names a file: .*write mine:make"),
        (
            "mappo",
            "mine:broken",
            r"network.encoder mine:broken failed for the actor: KeyError: 'width' \(mine.py:\d+\)",
        ),
        ("mappo", "residul", "'residul' is not known; there are: auto, mlp, cnn.*is named by module:function"),
    ],
)
def test_names_that_lead_nowhere_are_refused_ahead_of_the_run(learner: str, encoder: str, message: str, folder: Path):
    with pytest.raises(UserError, match=message):
        mappo.train("spread", with_code("run", learner, encoder))
    assert not (folder / "run").exists()


def test_several_processes_need_a_loss_that_adds_up():
    spec = mappo.make("spread", 2).spec
    two = Ranks()
    two.size = 2
    for kind in (mappo.MAPPO, AddsUp):
        assert _make_agents(partial(kind, spec, CONFIG, ranks=two), CONFIG, two)
    with pytest.raises(UserError, match="the loss of Quiet may not add up over 2 processes: take all of its means by"):
        _make_agents(partial(Quiet, spec, CONFIG, ranks=two), CONFIG, two)


@pytest.mark.slow
def test_processes_with_a_loss_that_does_not_add_up_say_so_once(capfd: pytest.CaptureFixture[str]):
    words = ["train", "probe/signal", "--run.processes", "2", "--run.dir", "run", "--ppo.learner", "mine:Counting"]
    assert main([*words, "--run.total-steps", "64", "--run.progress", "off"]) == 2
    assert capfd.readouterr().err.count("the loss of Counting may not add up over 2 processes: take all") == 1


class Failing(mappo.MAPPO):
    def loss(self, batch: Any, outputs: Any) -> Any:
        if self.updates == 1:
            raise ZeroDivisionError("by my own code")
        return super().loss(batch, outputs)


def test_an_error_in_a_loss_shows_the_users_lines_alone(folder: Path):
    with pytest.raises(UserError, match=r"Failing\.loss failed:\nTraceback") as error:
        mappo.train("spread", within(CONFIG, folder / "run"), learner=Failing)
    assert "ZeroDivisionError: by my own code" in str(error.value)
    assert "src/mappo" not in str(error.value)


def test_tensors_of_another_learner_do_not_fit(folder: Path):
    mappo.train("spread", with_code("run", encoder="mlp"), callback=stop_after(1))
    (folder / "mine.py").write_text(CODE.replace("torch.zeros(())", "torch.zeros(2)"))
    sys.modules.pop("mine")
    assert math.isclose(float(checkpoint.load(folder / "run").trainer["count"]), 4)
    with pytest.raises(UserError, match=r"does not fit .*config.json: count is \(\)"):
        mappo.train("spread", with_code("run", encoder="mlp"), resume=True)


def test_an_encoder_of_three_parameters_is_called_as_ever():
    seen: list[tuple[Any, ...]] = []

    def make(groups: int, shape: tuple[int, ...], net: mappo.NetworkConfig) -> Any:
        seen.append((groups, shape))
        return torch.nn.Linear(shape[0], net.hidden[-1])

    from mappo.networks.encoders import ENCODERS

    mappo.register_encoder("of_three")(make)
    try:
        agent = mappo.MAPPO(mappo.make("spread", 2).spec, Config.from_dict({"network": {"encoder": "of_three"}}))
    finally:
        del ENCODERS["of_three"]
    assert seen == [(1, (18,)), (1, (54,))]
    assert isinstance(agent.network.actor.encoder.get_parameter("weight"), Tensor)
    with pytest.raises(UserError, match="needs a name of its own"):
        mappo.register_encoder("a:b")
