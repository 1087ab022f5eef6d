"""Settings: checked when they are made, written and read without loss, loaded without torch."""

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest

from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig
from mappo.errors import StopTraining, UserError

INF, NAN = float("inf"), float("nan")
SECTIONS: dict[str, Any] = {"env": EnvConfig, "network": NetworkConfig, "ppo": PPOConfig, "run": RunConfig}
UNUSUAL = Config(
    EnvConfig(num_envs=32, num_agents=5, reward="agent"),
    NetworkConfig((7,), "tanh", layer_norm=True, actor_gain=1.0, critic_input="own", agent_id=False, memory_size=3),
    PPOConfig(minibatches=4, dual_clip=3.0, value_clip=0.2, max_grad_norm=None, chunk_length=25, target_kl=0.1),
    RunConfig(total_steps=10, seed=0, name="a-run", progress="off"),
)


@pytest.mark.parametrize(
    ("section", "field", "value", "message"),
    [
        ("env", "num_envs", 0, "env.num-envs must be at least 1, got 0"),
        ("env", "num_agents", 0, "env.num-agents must be at least 1, got 0"),
        ("network", "hidden", (), "network.hidden needs at least one layer, such as 64 64"),
        ("network", "hidden", (64, 0), "network.hidden must be at least 1, got 0"),
        ("network", "actor_gain", 0.0, "network.actor-gain must be above 0, got 0"),
        ("network", "memory_size", -1, "network.memory-size must be at least 0, got -1"),
        ("network", "memory_size", 65_537, "network.memory-size must be at most 65,536, got 65,537"),
        ("network", "initial_std", 0.0, "network.initial-std must be above 0, got 0"),
        ("ppo", "rollout_length", 0, "ppo.rollout-length must be at least 1, got 0"),
        ("ppo", "epochs", 0, "ppo.epochs must be at least 1, got 0"),
        ("ppo", "minibatches", 0, "ppo.minibatches must be at least 1, got 0"),
        ("ppo", "gamma", 1.1, "ppo.gamma must be between 0 and 1, got 1.1"),
        ("ppo", "gamma", NAN, "ppo.gamma must be between 0 and 1, got nan"),
        ("ppo", "gae_lambda", -0.1, "ppo.gae-lambda must be between 0 and 1, got -0.1"),
        ("ppo", "value_norm_decay", 2, "ppo.value-norm-decay must be between 0 and 1, got 2"),
        ("ppo", "lr_final", -1, "ppo.lr-final must be between 0 and 1, got -1"),
        ("ppo", "entropy_final", 1.5, "ppo.entropy-final must be between 0 and 1, got 1.5"),
        ("ppo", "clip_ratio", 0, "ppo.clip-ratio must be above 0, got 0"),
        ("ppo", "value_clip", -0.2, "ppo.value-clip must be above 0, got -0.2"),
        ("ppo", "huber_delta", 0, "ppo.huber-delta must be above 0, got 0"),
        ("ppo", "actor_lr", INF, "ppo.actor-lr must be above 0, got inf"),
        ("ppo", "critic_lr", NAN, "ppo.critic-lr must be above 0, got nan"),
        ("ppo", "adam_eps", 0, "ppo.adam-eps must be above 0, got 0"),
        ("ppo", "max_grad_norm", 0, "ppo.max-grad-norm must be above 0, got 0"),
        ("ppo", "dual_clip", 1.0, "ppo.dual-clip must be above 1, got 1"),
        ("ppo", "target_kl", 0.0, "ppo.target-kl must be above 0, got 0"),
        ("ppo", "n_step", 0, "ppo.n-step must be at least 1, got 0"),
        ("ppo", "weight_decay", -0.1, "ppo.weight-decay must be at least 0, got -0.1"),
        ("ppo", "value_weight", -1, "ppo.value-weight must be at least 0, got -1"),
        ("ppo", "entropy_weight", INF, "ppo.entropy-weight must be at least 0, got inf"),
        ("run", "total_steps", 0, "run.total-steps must be at least 1, got 0"),
        ("run", "threads", 0, "run.threads must be at least 1, got 0"),
        ("run", "eval_interval", 0, "run.eval-interval must be at least 1, got 0"),
        ("run", "eval_episodes", 0, "run.eval-episodes must be at least 1, got 0"),
        ("run", "seed", -1, "run.seed must be at least 0, got -1"),
        ("run", "name", "", "run.name must be a plain directory name, got ''; see run.dir"),
        ("run", "name", "a/b", "run.name must be a plain directory name, got 'a/b'; see run.dir"),
        ("run", "name", "..", "run.name must be a plain directory name, got '..'; see run.dir"),
    ],
)
def test_a_value_out_of_range_is_named(section: str, field: str, value: Any, message: str):
    with pytest.raises(UserError) as caught:
        SECTIONS[section](**{field: value})
    assert str(caught.value) == message


def test_a_run_has_a_name_or_a_directory_but_not_both():
    with pytest.raises(UserError, match=r"run\.name and run\.dir exclude each other: give one"):
        RunConfig(name="a", dir="b")


def test_minibatches_must_divide_the_rollout_and_the_nearest_that_do_are_told():
    with pytest.raises(UserError) as caught:
        Config(EnvConfig(num_envs=10), ppo=PPOConfig(rollout_length=3, minibatches=7))
    assert str(caught.value) == (
        "ppo.minibatches 7 does not divide ppo.rollout-length x env.num-envs = 3 x 10 = 30; nearest that does: 6"
    )


@pytest.mark.parametrize(("chunk", "nearest"), [(0, 1), (5, 4), (7, 6), (100, 12)])
def test_a_chunk_must_divide_the_rollout_and_the_nearest_that_does_is_told(chunk: int, nearest: int):
    with pytest.raises(UserError) as caught:
        PPOConfig(rollout_length=12, chunk_length=chunk)
    assert str(caught.value) == (
        f"ppo.chunk-length {chunk} does not divide ppo.rollout-length 12; nearest that does: {nearest}"
    )


@pytest.mark.parametrize(
    ("network", "ppo", "chunk"),
    [
        ({}, {}, None),
        ({}, {"chunk_length": 5}, None),
        ({}, {"minibatch_by": "sequence"}, 5),
        ({}, {"minibatch_by": "sequence", "chunk_length": 25}, 25),
        ({"memory_size": 8}, {}, 5),
        ({"memory_size": 8}, {"rollout_length": 40}, 10),
        ({"memory_size": 8}, {"rollout_length": 13, "chunk_length": 1}, 1),
        ({"memory_size": 8}, {"rollout_length": 13, "chunk_length": 13}, 13),
    ],
)
def test_with_a_memory_or_if_asked_for_steps_stay_together_in_chunks(
    network: dict[str, Any], ppo: dict[str, Any], chunk: int | None
):
    assert Config(network=NetworkConfig(**network), ppo=PPOConfig(**ppo)).chunk_length == chunk


def test_minibatches_of_chunks_must_divide_these():
    assert Config(EnvConfig(num_envs=2), ppo=PPOConfig(minibatch_by="sequence", minibatches=10))
    with pytest.raises(UserError) as caught:
        Config(EnvConfig(num_envs=2), ppo=PPOConfig(minibatch_by="sequence", minibatches=25))
    assert str(caught.value) == (
        "ppo.minibatches 25 does not divide chunks of 5 steps x env.num-envs = 5 x 2 = 10; nearest that does: 10"
    )


def test_popart_needs_value_statistics():
    with pytest.raises(UserError, match=r"ppo\.popart rescales the critic .*: it needs ppo\.value-norm$"):
        PPOConfig(popart=True, value_norm=False)


@pytest.mark.parametrize("critic", ["env", "joint"])
def test_rewards_of_agents_need_a_critic_row_for_each(critic: Any):
    with pytest.raises(UserError) as caught:
        Config(EnvConfig(reward="agent"), NetworkConfig(critic_input=critic))
    assert str(caught.value) == (
        f"env.reward agent needs a critic row for each agent, but network.critic-input {critic} "
        f"has one for the team: use auto, agent or own"
    )


def test_a_config_never_changes():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().ppo.gamma = 0.5  # type: ignore[misc]


def test_sizes_that_follow():
    config = Config(EnvConfig(num_envs=8), ppo=PPOConfig(rollout_length=5), run=RunConfig(total_steps=81))
    assert config.steps_per_update == 40
    assert config.num_updates == 3  # rounded up to whole rollouts


@pytest.mark.parametrize("config", [Config(), UNUSUAL])
def test_written_and_read_again_it_is_the_same_also_through_json(config: Config):
    assert Config.from_dict(config.to_dict()) == config
    again = Config.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert hash(again) == hash(config)


def test_what_is_missing_takes_its_default_and_whole_numbers_do_for_floats():
    config = Config.from_dict({"ppo": {"gamma": 1, "dual_clip": 2}, "network": {"hidden": [3]}})
    assert config == Config(network=NetworkConfig((3,)), ppo=PPOConfig(gamma=1.0, dual_clip=2.0))
    assert isinstance(config.ppo.gamma, float)
    assert Config.from_dict({}) == Config()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"pop": {}}, "unknown section 'pop'; there are: env, network, ppo, run"),
        ({"num_updates": {}}, "unknown section 'num_updates'; there are: env, network, ppo, run"),
        ({"to_dict": {}}, "unknown section 'to_dict'; there are: env, network, ppo, run"),
        ({"__class__": {}}, "unknown section '__class__'; there are: env, network, ppo, run"),
        (
            {"env": {"gamma": 1}},
            "unknown option env.gamma; did you mean 'ppo.gamma'?",
        ),
        (
            {"env": {"xyz": 1}},
            "unknown option env.xyz; there are: num_envs, num_agents, reward, options, time_limit, workers, restart, "
            "worker_timeout",
        ),
        ({"ppo.epoch": 2}, "unknown option ppo.epoch; did you mean 'ppo.epochs'?"),
        ({"ppo.": 2}, "unknown option ppo.; there are: " + ", ".join(f.name for f in dataclasses.fields(PPOConfig))),
        ({"epochs": 2}, "unknown section 'epochs'; did you mean 'ppo.epochs'?"),
        ({3: 2}, "unknown section '3'; there are: env, network, ppo, run"),
        ({"ppo.epochs": "10"}, "ppo.epochs must be of type int, got '10'"),
        ({"ppo.epochs": {"x": 1}}, "ppo.epochs must be of type int, got {'x': 1}"),
        ({"ppo": {"actor_lr": 1}, "ppo.actor-lr": 2}, "ppo.actor_lr is given twice"),
        ({"ppo": {"epochs": 2.5}}, "ppo.epochs must be of type int, got 2.5"),
        ({"ppo": {"epochs": True}}, "ppo.epochs must be of type int, got True"),
        ({"ppo": {"epochs": None}}, "ppo.epochs must be of type int, got None"),
        ({"ppo": {"gamma": "1"}}, "ppo.gamma must be of type float, got '1'"),
        ({"ppo": {"gamma": True}}, "ppo.gamma must be of type float, got True"),
        ({"ppo": {"dual_clip": "no"}}, "ppo.dual-clip must be of type float, got 'no'"),
        ({"ppo": {"value_norm": 1}}, "ppo.value-norm must be of type bool, got 1"),
        ({"run": {"name": 3}}, "run.name must be of type str, got 3"),
        ({"run": {"device": "tpu"}}, "run.device must be one of auto, cpu, cuda, got 'tpu'"),
        ({"run": {"device": ["cpu"]}}, "run.device must be one of auto, cpu, cuda, got ['cpu']"),
        ({"network": {"hidden": 64}}, "network.hidden must be a list of whole numbers, got 64"),
        ({"network": {"hidden": [64.5]}}, "network.hidden must be of type int, got 64.5"),
        ({"ppo": {"gamma": 2.0}}, "ppo.gamma must be between 0 and 1, got 2"),
    ],
)
def test_what_is_unknown_or_of_a_wrong_type_is_named(data: dict[str, Any], message: str):
    with pytest.raises(UserError) as caught:
        Config.from_dict(data)
    assert str(caught.value) == message


@pytest.mark.parametrize("settings", [Config(), UNUSUAL])
def test_dotted_names_of_any_spelling_are_the_nested_settings(settings: Config):
    nested = settings.to_dict()
    for mark in "_-":
        dotted = {f"{s}.{name.replace('_', mark)}": x for s in nested for name, x in nested[s].items()}
        assert Config.from_dict(dotted) == Config.from_dict(nested) == settings


def test_a_section_must_be_a_table():
    with pytest.raises(UserError, match="ppo"):
        Config.from_dict({"ppo": 3})


def test_errors_tell_apart_who_can_mend_them():
    assert issubclass(UserError, ValueError)
    assert not issubclass(StopTraining, (UserError, ValueError))


def test_settings_and_errors_load_without_torch():
    code = "import sys, mappo, mappo.config, mappo.errors, mappo.config.presets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("length", [11, 13, 127])
def test_a_memory_that_would_learn_nothing_through_time_is_refused(length: int):
    network = NetworkConfig(memory_size=8)
    with pytest.raises(UserError, match=f"has no divisor up to 10 for the chunks.*ppo.chunk-length {length}"):
        Config(network=network, ppo=PPOConfig(rollout_length=length))
    assert Config(network=network, ppo=PPOConfig(rollout_length=1)).chunk_length == 1
