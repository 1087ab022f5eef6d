"""Names and units of the actions of MuJoCo's robots, for exported policies."""

from typing import Any


def name_motors(env: Any) -> None:
    """Put `action_names` and `action_units` of each agent into the environment's metadata.

    A name is that of the joint that the motor moves. An action times the gear of the motor is a torque.

    Args:
        env: of gymnasium-robotics.
    """
    model = env.unwrapped.single_agent_env.unwrapped.model
    names: dict[str, list[str]] = {}
    units: dict[str, list[str]] = {}
    for agent, nodes in zip(env.possible_agents, env.unwrapped.agent_action_partitions, strict=True):
        motors = [model.actuator(node.act_ids) for node in nodes]
        names[agent] = [model.joint(motor.trnid[0]).name for motor in motors]
        units[agent] = [f"{motor.gear[0]:g} N m" for motor in motors]
    env.metadata = {**env.metadata, "action_names": names, "action_units": units}
