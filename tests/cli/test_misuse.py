"""What may go wrong in a user's hands: each case ends with one message that says what is wrong, or simply works."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from mpe2 import simple_spread_v3

from mappo.algorithms.mappo import MAPPO
from mappo.cli.main import main
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig
from mappo.core.spec import ActionHeads, Spec
from mappo.envs import preset
from mappo.envs.vector.serial import SerialEnvs
from mappo.errors import UserError
from mappo.functional.losses import ppo_policy_data, ppo_policy_error
from mappo.runs.lock import lock_directory
from mappo.training.train import train

QUICK = Config(
    env=EnvConfig(num_envs=2, workers=0),  # processes take seconds to start
    network=NetworkConfig(hidden=(8,)),
    ppo=PPOConfig(epochs=1),
    run=RunConfig(total_steps=100, eval_episodes=2, progress="off"),
)


def quick(path: Path) -> Config:
    return replace(QUICK, run=replace(QUICK.run, dir=str(path)))


def spread() -> Any:
    return simple_spread_v3.parallel_env(max_cycles=5)


def test_a_partial_config_file_changes_the_preset_and_no_more(tmp_path: Path):
    (tmp_path / "c.json").write_text(json.dumps({"run": {"seed": 7}}))
    from mappo.cli.parsing import parse

    config = parse(["train", "spread", "--config", str(tmp_path / "c.json")]).config
    expected = preset("spread")
    assert config == replace(expected, run=replace(expected.run, seed=7))


def test_two_processes_do_not_train_in_one_directory(tmp_path: Path):
    train("spread", quick(tmp_path / "run"))
    with (
        lock_directory(tmp_path / "run"),
        pytest.raises(UserError, match=r"another process trains in .*run: wait for it, or stop it"),
    ):
        train("spread", quick(tmp_path / "run"), resume=True)
    assert train("spread", quick(tmp_path / "run"), resume=True).finished


HELPER = """
import ctypes, os, sys, time
from pathlib import Path
from mappo.runs.lock import lock_directory

with lock_directory(Path(sys.argv[1])):
    started, start = os.pipe()
    helper = os.fork() if sys.argv[2] == "killed" else ctypes.PyDLL(None).fork()
    if not helper:
        os.write(start, b".")
        time.sleep(60)
        os._exit(0)
    os.read(started, 1)  # until then the helper may not have begun to run
    print(helper, flush=True)
    if sys.argv[2] == "killed":
        os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("end", ["closed", "killed"])
def test_a_helper_that_an_environment_forked_does_not_keep_the_run_locked(end: str, tmp_path: Path):
    """Forked by Python it holds no lock at all; forked by compiled code it holds none once the run is over."""
    with subprocess.Popen([sys.executable, "-c", HELPER, tmp_path, end], stdout=subprocess.PIPE) as run:
        helper = int(run.stdout.readline() if run.stdout else 0)
        try:
            assert run.wait() == 0
            with lock_directory(tmp_path):
                pass
        finally:
            os.kill(helper, signal.SIGKILL)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RunConfig(device="mps"), "run.device must be one of auto, cpu, cuda, got 'mps'"),  # type: ignore[arg-type]
        (lambda: EnvConfig(reward="both"), "env.reward must be one of team, agent"),  # type: ignore[arg-type]
        (lambda: PPOConfig(epochs=2.5), "ppo.epochs must be of type int, got 2.5"),  # type: ignore[arg-type]
        (lambda: PPOConfig(epochs="3"), "ppo.epochs must be of type int, got '3'"),  # type: ignore[arg-type]
        (lambda: EnvConfig(num_envs=10**400), "env.num-envs must be below 2\\^63"),
        (lambda: RunConfig(threads=10**6), "run.threads must be at most 1,024"),
        (lambda: PPOConfig(value_norm_decay=1.0), "ppo.value-norm-decay must be below 1"),
        (lambda: Config(env=EnvConfig(num_envs=10**7), ppo=PPOConfig(minibatches=7)), "nearest that does: 5"),
    ],
)
def test_settings_made_in_python_are_checked_like_typed_ones(make: Any, message: str):
    with pytest.raises(UserError, match=message):
        make()


BOX = spaces.Box(-1, 1, (2,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ActionHeads(), "an agent needs something to choose"),
        (lambda: ActionHeads((3, 0)), "an agent needs something to choose"),
        (lambda: ActionHeads(low=(0.0,)), "each number of an action needs a low bound below its high one"),
        (lambda: ActionHeads(low=(1.0,), high=(1.0,)), "each number of an action needs a low bound below its high one"),
        (lambda: ActionHeads(low=(np.nan,), high=(1.0,)), "each number of an action needs a low bound below"),
        (
            lambda: ActionHeads.from_space(spaces.Box(0, 9, (2,), np.int64)),
            "are not supported: use Discrete, MultiDiscrete",
        ),
        (lambda: Spec((), (), ()), "a Spec needs at least one agent"),
        (lambda: Spec(("x", "y"), (BOX,) * 2, (ActionHeads((3,)),)), "and an observation space and action heads for"),
        (lambda: Spec(("x",), (spaces.Dict(a=BOX),), (ActionHeads((3,)),)), "observations must be arrays"),
        (lambda: Spec(("x", "y"), (BOX,) * 2, (ActionHeads((3,)),) * 2, (0,)), "a Spec of 2 agents got 1 groups"),
    ],
)
def test_agents_that_cannot_be_are_told(make: Any, message: str):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("mlp", r"network\.encoder mlp reads vectors, not inputs of shape \(6, 6, 3\): use cnn or auto"),
        ("rnn", r"network\.encoder 'rnn' is not known; there are: auto, mlp, cnn"),
    ],
)
def test_an_encoder_that_cannot_read_what_is_seen_is_told(encoder: str, message: str):
    spec = Spec(("x",), (spaces.Box(0, 255, (6, 6, 3), np.uint8),), (ActionHeads((3,)),))
    with pytest.raises(UserError, match=message):
        MAPPO(spec, replace(QUICK, network=NetworkConfig((8,), encoder=encoder)))


def test_numbers_and_paths_of_other_libraries_are_taken():
    config = replace(
        QUICK,
        network=NetworkConfig(hidden=[8, np.int64(4)]),  # type: ignore[arg-type]
        run=RunConfig(seed=np.int64(3), dir=Path("x")),  # type: ignore[arg-type]
    )
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("text", ["[" * 200_000, '{"ppo": {"epochs": ' + "9" * 400 + "}}", "\x00"])
def test_config_files_of_any_content_are_answered_in_one_line(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "c.json").write_text(text)
    assert main(["train", "spread", "--config", str(tmp_path / "c.json")]) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


class Odd:
    """A PettingZoo environment that breaks one rule."""

    def __init__(self, rule: str) -> None:
        self.env, self.rule = spread(), rule
        self.possible_agents = self.env.possible_agents

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    @property
    def agents(self) -> list[str]:
        return [] if self.rule == "nobody" else self.env.agents

    def reset(self, seed: int | None = None) -> Any:
        obs, infos = self.env.reset(seed=seed)
        if self.rule == "names":
            obs = {f"other_{a}": x for a, x in obs.items()}
        if self.rule == "illegal":
            infos = {a: {"action_mask": np.zeros(5, dtype=np.int8)} for a in obs}
        return obs if self.rule == "reset" else (obs, infos)

    def step(self, action: Any) -> Any:
        obs, rewards, ends, cuts, infos = self.env.step(action)
        if self.rule == "rewards":
            rewards = {f"other_{a}": x for a, x in rewards.items()}
        return (obs, rewards, ends, infos) if self.rule == "step" else (obs, rewards, ends, cuts, infos)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("names", "Odd: observations holds 'other_agent_0', which is not in possible_agents: agent_0, agent_1"),
        ("rewards", "Odd: rewards holds 'other_agent_0', which is not in possible_agents: agent_0, agent_1"),
        ("nobody", r"Odd: reset left nobody in env.agents: \[\]"),
        ("illegal", "agent_0 has an action mask in which nothing is legal"),
        ("reset", "Odd: reset returned dict; return observations, infos"),
        ("step", "Odd: step returned \\(dict, .*, dict\\); return observations, rewards, terminations"),
    ],
)
def test_environments_that_break_a_rule_are_told_which(rule: str, message: str):
    with pytest.raises(UserError, match=message):  # noqa: PT012
        env = SerialEnvs(lambda: Odd(rule), 2)
        env.reset(1)
        env.step(torch.zeros(2, 3, 1, dtype=torch.long))


def test_a_turn_based_environment_is_told_its_parallel_twin():
    with pytest.raises(UserError, match=r"is turn-based \(AEC\); use parallel_env\(...\) in place of env"):
        SerialEnvs(simple_spread_v3.env, 1)


def test_an_environment_of_ones_own_is_scored_by_giving_it_again(tmp_path: Path):
    run = train(spread, quick(tmp_path / "run"))
    with pytest.raises(UserError, match=r"give the environment, run.evaluate\(env=make_env\)"):
        run.evaluate(2)
    assert run.evaluate(2, env=spread)["episode_length"] == 5
    assert run.evaluate(2, env=spread())["step"] == run.step


def test_an_actor_takes_what_an_environment_gives(tmp_path: Path):
    import mappo

    actor = mappo.load_actor(train("spread", quick(tmp_path / "run")).path)
    obs = np.linspace(-1, 1, 18)
    expected, _ = actor(torch.as_tensor(obs, dtype=torch.float32))
    assert torch.equal(actor(obs)[0], expected)
    assert torch.equal(actor(obs.tolist())[0], expected)
    only = np.eye(5, dtype=np.int8)[3]
    assert actor(obs, mask=only)[0].tolist() == [3]
    with pytest.raises(ValueError, match=r"the mask must be \(5,\), got \(5, 5\)"):
        actor(obs, mask=np.eye(5))
    with pytest.raises(UserError, match="holds no checkpoint of step 000000000101; there are"):
        mappo.load_actor(tmp_path / "run", checkpoint="000000000101")


def test_logits_masked_by_minus_infinity_have_an_entropy_and_a_gradient():
    logit = torch.randn(6, 4, dtype=torch.float64)
    illegal = torch.tensor([False, True, False, False])
    leaf = logit.clone().requires_grad_()
    action, adv = torch.tensor([0, 2, 3, 0, 2, 3]), torch.randn(6, dtype=torch.float64)
    masked = leaf.masked_fill(illegal, -torch.inf)
    loss, _ = ppo_policy_error(ppo_policy_data(masked, masked.detach(), action, adv))
    expected = torch.distributions.Categorical(logits=masked.detach()).entropy().mean()
    torch.testing.assert_close(loss.entropy_loss, expected)
    (loss.policy_loss - loss.entropy_loss).backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()
    assert (leaf.grad[:, 1] == 0).all()


def test_a_reader_who_leaves_does_not_end_the_run(tmp_path: Path):
    code = "from mappo.cli.main import entry; entry()"
    options = ["--env.num-envs", "2", "--network.hidden", "8", "--ppo.epochs", "1", "--ppo.minibatches", "1"]
    options += ["--run.total-steps", "2000", "--run.eval-episodes", "2", "--run.dir", str(tmp_path / "run")]
    with subprocess.Popen(
        [sys.executable, "-c", code, "train", "probe/signal", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.wait(timeout=600)
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 1 + 40


def test_a_damaged_record_is_told_on_resume(tmp_path: Path):
    train("spread", quick(tmp_path / "run"))
    numbers = tmp_path / "run" / "metrics.csv"
    numbers.write_bytes(numbers.read_bytes().replace(b"entropy,", b"entrupy,", 1))
    config = replace(quick(tmp_path / "run"), run=replace(QUICK.run, dir=str(tmp_path / "run")))
    assert train("spread", config, resume=True).finished, "nothing is left to write"
    numbers.write_bytes(b"\xff" + numbers.read_bytes())
    with pytest.raises(UserError, match=r"cannot read .*metrics.csv: .*can't decode byte 0xff"):
        train("spread", config, resume=True)


@pytest.mark.skipif(sys.platform != "linux", reason="of GNU's OpenMP")
@pytest.mark.slow
def test_threads_of_torch_sleep_while_they_wait(tmp_path: Path):
    """Even where torch is loaded before the settings of a run are read."""
    code = "from mappo.__main__ import entry; entry()"
    told = subprocess.run(
        [sys.executable, "-c", code, "resume", tmp_path / "none"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_DISPLAY_ENV": "verbose"},
    )
    assert told.returncode == 2
    assert "GOMP_SPINCOUNT = '0'" in told.stderr
