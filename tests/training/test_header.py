"""The header of a run: the preset, each changed setting, device and threads; the number of a directory is no seed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import mappo
from mappo.config import Config
from mappo.training.header import device_line, number_note, settings_line


def changed(config: Config, **sections: dict[str, Any]) -> Config:
    return replace(config, **{name: replace(getattr(config, name), **values) for name, values in sections.items()})


def test_the_preset_with_the_fewest_differences_is_named_with_each_of_them():
    long = mappo.preset("spread", "long")
    assert settings_line("spread", long) == "preset long"
    text = settings_line("spread", changed(long, ppo={"gamma": 0.97, "actor_lr": 1e-3}, run={"seed": 5}))
    assert text == "preset long, with ppo.gamma 0.97, not 0.95; ppo.actor-lr 0.001, not 0.002"
    five = settings_line("spread", changed(long, env={"num_agents": 5}))
    assert five == "preset long, with env.num-agents 5", "a default of None is no value"
    default = mappo.preset("spread")
    assert settings_line("spread", default) == "preset default"
    assert settings_line("mpe2/simple_spread_v3", default) == "preset default"


def test_an_environment_without_presets_is_compared_with_the_general_settings():
    config = mappo.preset("probe/signal")
    assert settings_line("probe/signal", config) == "general settings"
    assert settings_line("custom/Game", changed(config, env={"num_envs": 4})) == (
        "general settings, with env.num-envs 4, not 32"
    )


def test_many_changes_are_cut_short():
    config = changed(
        mappo.preset("spread"),
        ppo={"gamma": 0.5, "actor_lr": 1.0, "critic_lr": 1.0, "epochs": 1, "lr_final": 0.5, "clip_ratio": 0.5},
        network={"hidden": (8,), "activation": "relu", "layer_norm": True, "memory_size": 5},
    )
    text = settings_line("spread", config)
    assert text.count(", not ") == 8
    assert text.endswith("; 2 more in config.json")


def test_device_and_threads():
    assert device_line(torch.device("cpu"), 1) == "cpu, 1 thread"
    assert device_line(torch.device("cpu"), 3) == "cpu, 3 threads"


@pytest.mark.parametrize(
    ("directory", "run", "is_noted"),
    [
        ("spread-2", {}, True),
        ("spread-1", {}, False),
        ("spread-2", {"seed": 2}, False),
        ("spread-2", {"seeds": 3}, False),
        ("spread-2", {"name": "spread-2"}, False),
        ("spread-x", {}, False),
    ],
)
def test_the_number_of_a_run_is_told_from_its_seed(directory: str, run: dict[str, Any], is_noted: bool):
    note = number_note(Path("runs", directory), "spread", changed(mappo.preset("spread"), run=run))
    assert note == ("spread-2 is run number 2 of spread, and its seed is 1" if is_noted else "")
