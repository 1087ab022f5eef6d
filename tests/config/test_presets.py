"""Settings known to learn, which are ready before torch is."""

import subprocess
import sys

import pytest

import mappo
from mappo import envs
from mappo.algorithms.mappo import MAPPO
from mappo.config import Config
from mappo.config.presets import PRESETS
from mappo.envs import make, preset
from mappo.errors import UserError

NAMED = [(env, name) for env, known in PRESETS.items() for name in known]
MARKED = [pytest.param(*case, marks=pytest.mark.gpl) if case[0].startswith("vmas/") else case for case in NAMED]


@pytest.mark.parametrize(("env", "name"), MARKED)
def test_a_preset_fits_its_environment(env: str, name: str):
    config = preset(env, name)
    assert isinstance(config, Config)
    assert config == PRESETS[env][name]
    assert Config.from_dict(config.to_dict()) == config
    MAPPO(make(env, 1).spec, config)
    assert config.steps_per_update % config.ppo.minibatches == 0
    assert config.run.name is config.run.dir is None, "a preset names no place"


@pytest.mark.parametrize("env", [*envs.NATIVE, "mpe2/simple_spread_v3", "custom/somebody-s"])
def test_every_environment_has_a_default(env: str):
    assert preset(env) == preset(env, "default")
    assert isinstance(preset(env), Config)


def test_presets_are_for_environments_that_there_are():
    for name in PRESETS:
        envs.check_name(name)
    assert all("default" in known for known in PRESETS.values())


def test_the_batched_game_and_its_original_are_trained_alike():
    assert PRESETS["spread"] == PRESETS["mpe2/simple_spread_v3"]


def test_the_papers_settings_are_the_papers():
    paper = preset("spread", "paper")
    assert (paper.env.num_envs, paper.ppo.rollout_length, paper.ppo.epochs, paper.ppo.minibatches) == (128, 25, 10, 1)
    assert (paper.ppo.gamma, paper.ppo.gae_lambda, paper.ppo.clip_ratio) == (0.99, 0.95, 0.2)
    assert (paper.ppo.actor_lr, paper.ppo.critic_lr, paper.ppo.entropy_weight) == (7e-4, 7e-4, 0.01)
    assert (paper.ppo.value_clip, paper.ppo.huber_delta, paper.ppo.max_grad_norm) == (0.2, 10.0, 10.0)
    assert paper.run.total_steps == 20_000_000


def test_an_unknown_preset_is_told_with_the_nearest_and_all():
    with pytest.raises(UserError, match="unknown preset 'papr' for spread; did you mean 'paper'") as told:
        preset("spread", "papr")
    for name in PRESETS["spread"]:
        assert name in str(told.value)
    with pytest.raises(UserError, match="unknown preset 'paper' for probe/signal"):
        preset("probe/signal", "paper")


@pytest.mark.parametrize("name", ["nope", "spreed", "lbf", "", "spread ", "SPREAD", "customs/x", "/"])
def test_an_unknown_environment_has_no_preset(name: str):
    with pytest.raises(UserError, match=r"unknown environment|is a family of environments"):
        mappo.preset(name)
    with pytest.raises(UserError, match=r"There are: spread, .*module:function"):
        mappo.preset("nope")


def test_an_environment_of_ones_own_has_the_general_preset():
    assert mappo.preset("my_module:make_env") == mappo.preset("custom/make_env") == mappo.preset("lbf_like:make")


def test_presets_and_settings_load_without_torch():
    code = "import sys, mappo.config.presets, mappo.config; assert 'torch' not in sys.modules, 'torch was loaded'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
