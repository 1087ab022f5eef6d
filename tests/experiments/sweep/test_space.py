"""The space of a sweep: read from a file, checked, and turned into settings of trials."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from mappo.config import Config
from mappo.envs import preset
from mappo.errors import UserError
from mappo.experiments.sweep import space
from mappo.experiments.sweep.setting import Setting, apply, grid, start_point
from mappo.experiments.sweep.space import read_space


def read(folder: Path, data: Any) -> list[Setting]:
    (folder / "space.json").write_text(data if isinstance(data, str) else json.dumps(data))
    return read_space(folder / "space.json")


def test_a_setting_may_stand_for_several_options_and_be_spelled_as_on_the_command_line(tmp_path: Path):
    settings = read(
        tmp_path, {"ppo.actor-lr, ppo.critic_lr": {"low": 1e-4, "high": 1e-2}, "network.hidden": [[8], [16, 16]]}
    )
    assert [setting.name for setting in settings] == ["ppo.actor_lr, ppo.critic_lr", "network.hidden"]
    config = apply(settings, {settings[0].name: 0.005, settings[1].name: "[16, 16]"}, Config())
    assert (config.ppo.actor_lr, config.ppo.critic_lr, config.network.hidden) == (0.005, 0.005, (16, 16))
    assert replace(config, ppo=Config().ppo, network=Config().network) == Config()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "expected an object with the settings to vary"),
        ([1], "expected an object with the settings to vary"),
        ("{", r"space\.json: not valid JSON in line 1: Expecting property name"),
        ({"ppo.actor_rl": [1]}, "unknown option ppo.actor_rl; did you mean 'ppo.actor_lr'"),
        ({"gamma": [1]}, "unknown option gamma"),
        ({"run.seed": [1, 2]}, r"run\.seed cannot be varied: .*run.seeds repeats them"),
        ({"ppo.gamma": 0.9}, "ppo.gamma: 0.9 is no space; give a list of choices"),
        ({"ppo.gamma": []}, "ppo.gamma: the list of choices is empty"),
        ({"ppo.gamma": [0.9, 1.5]}, "ppo.gamma must be between 0 and 1, got 1.5"),
        ({"ppo.gamma": [0.9, 0.9]}, "ppo.gamma: 0.9 is given twice"),
        ({"ppo.gamma, ppo.gamma": [0.9]}, "ppo.gamma stands in it twice"),
        ({"ppo.gamma": [0.9], "ppo.epochs, ppo.gamma": [1]}, "ppo.gamma stands in it twice"),
        ({"ppo.returns": {"low": 0, "high": 1}}, "ppo.returns takes no range: give a list of choices"),
        ({"ppo.returns": ["gea"]}, "ppo.returns must be one of gae, n_step, discounted, got 'gea'"),
        ({"network.hidden": [8]}, "network.hidden must be a list of whole numbers, got 8"),
        ({"ppo.gamma": {"low": 0.9}}, "ppo.gamma: high is missing"),
        ({"ppo.gamma": {"min": 0.9, "max": 1}}, "ppo.gamma: unknown word min; there are: low, high, log, step"),
        ({"ppo.gamma": {"low": 0.9, "high": 0.9}}, "ppo.gamma: low must be below high, got 0.9 and 0.9"),
        ({"ppo.gamma": {"low": 0.9, "high": 2}}, "ppo.gamma must be between 0 and 1, got 2"),
        ({"ppo.gamma": {"low": 0, "high": 1, "log": True}}, "ppo.gamma: log needs a low above 0"),
        ({"ppo.gamma": {"low": 0.5, "high": 1, "log": True, "step": 0.1}}, "ppo.gamma: log needs .* no step"),
        ({"ppo.gamma": {"low": 0.5, "high": 1, "step": 0.6}}, "ppo.gamma: step must be above 0 and at most .* 0.5"),
        ({"ppo.epochs": {"low": 1.5, "high": 3}}, "ppo.epochs: low must be of type int, got 1.5"),
        ({"ppo.gamma": {"low": "a", "high": 1}}, "ppo.gamma: low must be of type float, got 'a'"),
    ],
)
def test_an_invalid_space_is_refused_with_file_and_setting(tmp_path: Path, data: Any, message: str):
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, data)
    assert str(error.value).startswith(str(tmp_path / "space.json"))


@given(st.integers(1, 50), st.integers(1, 60), st.integers(1, 60))
def test_the_points_of_a_range_go_from_low_by_the_step_as_far_as_they_fit(low: int, width: int, step: int):
    step = min(step, width)
    whole = space._parse_range("ppo.epochs", [("ppo", "epochs")], {"low": low, "high": low + width, "step": step})
    assert whole.points() == list(range(low, low + width + 1, step))
    data = {"low": low / 100, "high": (low + width) / 100, "step": step / 100}
    if data["high"] <= 1:
        gamma = space._parse_range("ppo.gamma", [("ppo", "gamma")], data)
        points = gamma.points()
        assert points == [x / 100 for x in range(low, low + width + 1, step)]
        drawn = data["low"] + step / 100  # rounded, as Optuna's values are
        assert gamma.option_value(drawn) == (low + step) / 100


def test_a_grid_holds_every_combination_once(tmp_path: Path):
    settings = read(
        tmp_path,
        {"ppo.gamma": {"low": 0.9, "high": 0.99, "step": 0.03}, "ppo.value_clip": [None, 0.2], "ppo.epochs": [1, 2]},
    )
    configs = [apply(settings, values, Config()) for values in grid(settings)]
    found = [(config.ppo.gamma, config.ppo.value_clip, config.ppo.epochs) for config in configs]
    assert found == [(g, c, e) for g in (0.9, 0.93, 0.96, 0.99) for c in (None, 0.2) for e in (1, 2)]


def test_a_grid_needs_steps_and_has_an_end(tmp_path: Path):
    with pytest.raises(UserError, match=r"--grid needs a list of choices, or a step, for ppo\.gamma"):
        grid(read(tmp_path, {"ppo.gamma": {"low": 0.9, "high": 0.99}}))
    with pytest.raises(UserError, match=r"ppo\.epochs has 2,000 values: give a larger step"):
        grid(read(tmp_path, {"ppo.epochs": {"low": 1, "high": 2000}}))
    with pytest.raises(UserError, match="the grid has 1,024 combinations, more than 1,000"):
        grid(read(tmp_path, {"ppo.epochs": {"low": 1, "high": 32}, "ppo.n_step": {"low": 1, "high": 32}}))


def test_the_start_of_a_search_is_the_base_where_the_space_contains_it(tmp_path: Path):
    base = preset("spread")
    settings = read(
        tmp_path,
        {
            "ppo.actor_lr, ppo.critic_lr": {"low": 1e-4, "high": 1e-2, "log": True},
            "ppo.entropy_weight": {"low": 0.01, "high": 0.1},
            "network.hidden": [[32], [64, 64]],
            "ppo.minibatches": {"low": 2, "high": 16, "step": 3},
        },
    )
    assert base.ppo.entropy_weight < 0.01
    found = start_point(settings, base)
    assert found == {
        "ppo.actor_lr, ppo.critic_lr": base.ppo.actor_lr,
        "network.hidden": "[64, 64]",
        "ppo.minibatches": 8,
    }
    values = {"ppo.entropy_weight": 0.02, **found}
    assert apply(settings, values, base) == replace(base, ppo=replace(base.ppo, entropy_weight=0.02))
    fine = read(tmp_path, {"ppo.minibatches": {"low": 1, "high": 8001, "step": 1}})
    assert start_point(fine, base) == {"ppo.minibatches": 8}  # the limit is of grids alone
    coarse = read(tmp_path, {"ppo.minibatches": {"low": 1, "high": 16, "step": 3}})
    assert start_point(coarse, base) == {}
    unequal = replace(base, ppo=replace(base.ppo, critic_lr=5e-3))
    assert "ppo.actor_lr, ppo.critic_lr" not in start_point(settings, unequal)
