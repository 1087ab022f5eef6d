"""Settings and random streams of the whole process: an environment's never reach the learner, nor the learner's the
caller."""

import io
import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mappo
from mappo.backend.process_settings import EnvSettings
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig
from mappo.core.seeding import derive_seed
from mappo.envs.probes.basic import Signal
from mappo.errors import UserError
from mappo.evaluation.episodes import play_episodes
from mappo.evaluation.replay import replay
from mappo.networks.actor_critic import build_actor
from mappo.networks.cnn import CNN
from mappo.networks.encoders import ENCODERS
from mappo.policies.random_policy import RandomPolicy
from mappo.system import stdio
from sights import Robots


def config(path: Path, **network: Any) -> Config:
    return Config(
        EnvConfig(4, workers=0),
        NetworkConfig((8,), **network),
        PPOConfig(10, epochs=2, minibatches=2),
        RunConfig(120, eval_episodes=4, eval_interval=80, progress="off", dir=str(path)),
    )


class AtReset(Robots):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        torch.set_default_dtype(torch.float64)
        return super().reset(seed)


class AtStep(Robots):
    def step(self, actions: Any) -> Any:
        torch.set_default_dtype(torch.float64)
        assert torch.zeros(1).dtype == torch.float64
        return super().step(actions)

    def observation_space(self, agent: str) -> Any:
        if getattr(self, "clock", 0):
            assert torch.zeros(1).dtype == torch.float64  # what the environment set holds in its own code
        return super().observation_space(agent)


class AtTheStart(Robots):
    def __init__(self) -> None:
        torch.set_default_dtype(torch.float64)

    def step(self, actions: Any) -> Any:
        assert torch.zeros(1).dtype == torch.float64
        return super().step(actions)


class Batched(Signal):
    """An environment in torch; it sets the type as it is made, and at each step."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs)
        torch.set_default_dtype(torch.float64)

    def step(self, action: Any) -> Any:
        torch.set_default_dtype(torch.float64)
        return super().step(action)


@pytest.fixture
def _float32():
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("_float32")
@pytest.mark.parametrize("game", [pytest.param(AtReset, marks=pytest.mark.slow), AtStep, AtTheStart, Batched])
def test_networks_are_of_float32_whatever_type_an_environment_sets(game: Any, tmp_path: Path):
    dtypes: set[torch.dtype] = set()

    def look(update: Any) -> None:
        dtypes.add(torch.get_default_dtype())
        if update.index == 2:
            raise mappo.StopTraining

    run = mappo.train(game, config(tmp_path / "run", memory_size=4), callback=look)
    assert dtypes == {torch.float32}
    assert torch.get_default_dtype() == torch.float32
    actor = mappo.load_actor(run.path)
    assert actor.policy.network.head.weight.dtype == torch.float32
    assert mappo.train(game, config(tmp_path / "run", memory_size=4), resume=True).finished


@pytest.mark.usefixtures("_float32")
def test_the_callers_type_is_neither_used_nor_lost(tmp_path: Path):
    mappo.train("probe/target", config(tmp_path / "plain"))
    torch.set_default_dtype(torch.float64)
    run = mappo.train("probe/target", config(tmp_path / "double"))
    assert torch.get_default_dtype() == torch.float64
    assert mappo.load_actor(run.path).policy.network.head.weight.dtype == torch.float32
    assert (tmp_path / "plain/metrics.csv").read_bytes() == (tmp_path / "double/metrics.csv").read_bytes()


class Meddles(Robots):
    """At each call: another default device, an empty `sys.path`, and output to nowhere."""

    def meddle(self) -> None:
        torch.set_default_device("meta")
        sys.path.clear()
        sys.stdout = sys.stderr = io.StringIO()

    def __init__(self) -> None:
        self.meddle()

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        assert torch.get_default_device().type == "meta"  # the device that the environment set holds in its own code
        self.meddle()
        return super().reset(seed)

    def step(self, actions: Any) -> Any:
        self.meddle()
        return super().step(actions)

    def close(self) -> None:
        self.meddle()


class BatchedMeddles(Signal):
    """An environment in torch that meddles as it is made, and at each step."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs)
        Meddles()

    def step(self, action: Any) -> Any:
        Meddles()
        return super().step(action)


@pytest.fixture
def _process_settings():
    path, streams = sys.path.copy(), (sys.stdout, sys.stderr)
    yield
    sys.path[:] = path
    sys.stdout, sys.stderr = streams
    torch.set_default_device(None)


@pytest.mark.usefixtures("_process_settings")
@pytest.mark.parametrize("env", [Meddles, BatchedMeddles])
def test_device_path_and_output_stay_the_learners_whatever_an_environment_does(env: Any, tmp_path: Path):
    def settings() -> Any:
        return torch.get_default_device(), sorted(sys.path), sys.stdout, sys.stderr

    before = settings()
    run = mappo.train(env, config(tmp_path / "run"))
    assert run.finished
    assert settings() == before
    run.evaluate(episodes=4, env=env)
    assert settings() == before


def test_an_environment_may_add_to_the_path():
    before = sys.path.copy()
    with EnvSettings():
        sys.path[:] = ["mine"]
    assert sys.path == ["mine", *before]
    sys.path[:] = before


def test_a_closed_output_does_not_end_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    settings = config(tmp_path / "run")
    settings = replace(settings, run=replace(settings.run, progress="plain"))
    assert mappo.train(Robots, settings, callback=lambda _: stream.close()).finished


def test_an_environment_cannot_close_the_output_of_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with open(tmp_path / "out", "wb", buffering=0) as file:
        copy = os.dup(file.fileno())
        monkeypatch.setattr(stdio, "_copies", {file.fileno(): copy})
        with EnvSettings():
            os.close(file.fileno())
        file.write(b"seen")
        os.close(copy)
    assert (tmp_path / "out").read_bytes() == b"seen"


def test_the_program_keeps_its_output_from_its_start_on():
    code = (
        "import os; from mappo.system import stdio; stdio.prepare_streams(); "
        "os.close(1); stdio.restore_output(); print('seen')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("seen\n", "")


class Broken(Signal):
    """Fails in one of its methods, or asks the program to end."""

    def __init__(self, num_envs: int, where: str, error: BaseException) -> None:
        super().__init__(num_envs)
        self.where, self.error = where, error

    def reset(self, seed: Any = None) -> Any:
        return self.fail("reset") or super().reset(seed)

    def step(self, action: Any) -> Any:
        return self.fail("step") or super().step(action)

    def render(self, index: int) -> Any:
        return self.fail("render") or np.zeros((2, 2, 3), np.uint8)

    def fail(self, where: str) -> None:
        if where == self.where:
            raise self.error


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), SystemExit(3)])
@pytest.mark.parametrize("where", ["reset", "step", "render"])
def test_errors_of_a_batched_environment_of_the_user_are_told_by_its_own_lines(where: str, error: BaseException):
    env = Broken(1, where, error)
    policy = RandomPolicy(env.spec)
    pattern = rf"the environment failed:\nTraceback .*\n +File \".*test_process_state.py\", line \d+, in {where}"
    with pytest.raises(UserError, match=pattern):
        next(replay(env, policy, [1]))
    if where != "render":
        with pytest.raises(UserError, match=pattern):
            play_episodes(env, policy, [1])


@pytest.mark.parametrize("error", [UserError("mine"), mappo.StopTraining(), MemoryError(), KeyboardInterrupt()])
def test_errors_with_a_meaning_pass_through_an_environment(error: BaseException):
    with pytest.raises(type(error)) as found, EnvSettings():
        raise error
    assert found.value is error


def test_an_error_of_mappo_itself_is_not_blamed_on_the_environment():
    no_action: Any = lambda *_, **__: (None, None)  # noqa: E731
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'shape'"):
        play_episodes(Signal(1), no_action, [1])


def streams() -> tuple[Any, ...]:
    legacy: Any = np.random.get_state()  # noqa: NPY002  # the stream of the process is the point
    return random.getstate(), legacy[1].tolist(), legacy[2], torch.get_rng_state().tolist()


class Own(nn.Module):
    """An encoder of the user's, with weights from torch's own stream."""

    def __init__(self, groups: int, shape: tuple[int, ...], net: NetworkConfig) -> None:
        super().__init__()
        time.sleep(0.05)  # another thread may take its turn
        self.layer = nn.Linear(shape[-1], net.hidden[-1])

    def forward(self, x: Any) -> Any:
        return self.layer(x)


@pytest.fixture
def _own_encoder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(ENCODERS, "own", Own)


@pytest.mark.usefixtures("_own_encoder")
def test_the_callers_random_streams_are_not_moved(tmp_path: Path):
    before = streams()
    for name, env, network in (
        ("robots", Robots, {"memory_size": 4}),
        ("image", "probe/image", {}),
        ("own", "probe/signal", {"encoder": "own"}),
    ):
        run = mappo.train(env, config(tmp_path / name, **network))
        mappo.load_actor(run.path)
    assert streams() == before


@pytest.mark.slow
def test_the_first_import_moves_no_stream():
    code = "import random; s = random.getstate(); import mappo; mappo.train; assert random.getstate() == s"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.usefixtures("_own_encoder")
def test_trainings_in_threads_give_the_numbers_they_give_alone(tmp_path: Path):
    kinds = {
        "robots": (Robots, {"memory_size": 4}),
        "own": ("probe/signal", {"encoder": "own"}),
        "other": ("probe/unequal", {"encoder": "own"}),
    }

    def run(name: str, folder: str) -> None:
        env, network = kinds[name]
        mappo.train(env, config(tmp_path / folder / name, **network))

    for name in kinds:
        run(name, "alone")
    threads = [threading.Thread(target=run, args=(name, "together")) for name in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in kinds:
        texts = [(tmp_path / folder / name / "metrics.csv").read_bytes() for folder in ("alone", "together")]
        assert texts[0] == texts[1]


def test_a_seed_gives_the_weights_that_it_always_gave():
    """A generator draws what torch's own stream draws after `torch.manual_seed`."""
    spec = mappo.make("probe/image", 1).spec
    network_config = NetworkConfig((8,), memory_size=4)
    made = build_actor(spec, network_config, torch.Generator().manual_seed(derive_seed(1, 0)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(1, 0))
        first = nn.Conv2d(1, 16, 3, 1, 1)  # its own draws, then those of an orthogonal matrix
        nn.init.orthogonal_(first.weight, 2.0**0.5)
    assert isinstance(made.encoder, CNN)
    weight: Any = made.encoder.convolutions[0].weight
    assert torch.equal(weight, first.weight)
