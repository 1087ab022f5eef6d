"""Names and units of an agent's numbers come from its environment's metadata into its contract."""

import importlib.util
from typing import Any

import pytest

from mappo.config.settings import EnvOptions
from mappo.deploy.build import build_agent_policy
from mappo.deploy.contract import make_contract
from mappo.deploy.labels import read_labels
from mappo.envs import make_envs
from mappo.errors import UserError
from teams import ORIGIN, TEAMS, random_actor
from vectorized import from_factory


def test_labels_are_of_one_agent_or_of_all():
    metadata = {"observation_names": ["x", "y"], "action_units": {"a": ["m/s"], "b": ["N"]}, "name": "other"}
    assert read_labels(metadata, "b", 2, 1) == {"observation_names": ["x", "y"], "action_units": ["N"]}
    assert read_labels(metadata, "c", 2, 1) == {"observation_names": ["x", "y"]}


@pytest.mark.parametrize("entry", [["x"], "xy", ["x", 1], {"a": ["x"]}])
def test_labels_of_another_length_or_kind_are_refused(entry: Any):
    with pytest.raises(UserError, match=r'metadata\["observation_names"\] must be a list of 2 texts for a'):
        read_labels({"observation_names": entry}, "a", 2, 1)


def test_a_contract_holds_them():
    actor = random_actor(from_factory(TEAMS["box-clip"].make, 1).spec)
    labels = {"observation_units": ["m"] * 5, "action_names": ["up", "left", "down", "right"]}
    contract = make_contract(build_agent_policy(actor.policy, 0), "a", ORIGIN, labels=labels)
    assert contract["observation"] == {"names": None, "units": ["m"] * 5}
    assert [head["name"] for head in contract["action"]["heads"]] == labels["action_names"]
    assert "unit" not in contract["action"]["heads"][0]


@pytest.mark.skipif(not importlib.util.find_spec("gymnasium_robotics"), reason="needs the extra mujoco")
def test_motors_of_a_robot_have_names_and_torques():
    env: Any = make_envs("mamujoco/HalfCheetah-2x3", 1, EnvOptions(workers=0))
    try:
        assert read_labels(env.metadata, "agent_1", env.spec.obs_size(1), 3) == {
            "action_names": ["fthigh", "fshin", "ffoot"],
            "action_units": ["120 N m", "60 N m", "30 N m"],
        }
    finally:
        env.close()
