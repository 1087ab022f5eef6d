"""The multi-robot warehouse (package rware): robots bring requested shelves to the goals, and put them back.

`rware/rware-tiny-2ag-v2` is a tiny warehouse with 2 robots and 2 requests; `-hard` has half as many requests as robots.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium

from mappo.envs.adapters.packages import build
from mappo.envs.adapters.tuple_env import TupleEnv, render_without_display
from mappo.envs.batched.warehouse_rules import EXAMPLES, check_crowd, read_name
from mappo.envs.names import require, unknown
from mappo.errors import UserError
from mappo.system.packages import install_command


class RobotWarehouse(TupleEnv):
    """rware's `Warehouse`: observations float32 `(71,)` by default, five actions, and `msg_bits` bits beside them.

    Episodes end by `max_steps` or `max_inactivity_steps` alone, both of them time limits. Each agent has its own
    reward; with `reward_type="global"` all agents receive the same number.
    """

    viewer_name = "renderer"

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.shared_reward = env.reward_type.name == "GLOBAL"


def names(_family: str) -> list[str]:
    """Return the registered names; `make` builds further names of the same form.

    Raises:
        UserError: the package is missing.
    """
    _load_package()
    return [name for name in gymnasium.registry if name.startswith("rware-")]


def make(name: str, options: Mapping[str, Any], render: bool = False) -> RobotWarehouse:
    """Build an environment of rware.

    Args:
        name: `rware-{tiny|small|medium|large}-{robots}ag[-easy|-hard]-v2`, or any other name that rware can register.
        options: arguments of `Warehouse`, in place of the name's; names stand for members of enums:
            `reward_type="global"`, `observation_type="image"`.
        render: True if pictures will be asked for.

    Raises:
        UserError: the name or an option is unknown, or the package is missing.
    """
    package = _load_package()
    chosen = _enum_options(name, package, options)
    env = build(f"rware/{name}", package.Warehouse, settings(name), chosen)
    if not env.max_steps and not env.max_inactivity_steps:
        raise UserError(f"rware/{name}: nothing ends an episode: use max_steps or max_inactivity_steps")
    check_crowd(f"rware/{name}", env.request_queue_size, env.n_agents, env.highways)
    if render:
        render_without_display()
    return RobotWarehouse(env)


def settings(name: str) -> dict[str, Any]:
    """Return the arguments of `Warehouse` for a name, as in rware's own registration.

    Raises:
        UserError: rware has no such name.
    """
    arguments = read_name(name)
    if arguments is None:
        raise unknown("rware", name, names("rware"), ", ".join(f"rware/{example}" for example in EXAMPLES))
    return _enum_options(name, _load_package(), arguments)


def _load_package() -> Any:
    return require("rware.warehouse", "rware", install_command("rware"))


def _enum_options(name: str, package: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with members of rware's enums in place of their names."""
    chosen = dict(options)
    for option, kind in (("reward_type", package.RewardType), ("observation_type", package.ObservationType)):
        if option in chosen:
            chosen[option] = _member(name, option, kind, chosen[option])
    option = "image_observation_layers"
    if isinstance(chosen.get(option), str):
        raise UserError(f"rware/{name}: {option} must be a list, got {chosen[option]!r}")
    if option in chosen:
        chosen[option] = [_member(name, option, package.ImageLayer, layer) for layer in chosen[option]]
    return chosen


def _member(name: str, option: str, kind: Any, value: Any) -> Any:
    """Return the member of an enum for the user's value."""
    if isinstance(value, kind):
        return value
    names = [member.name.lower() for member in kind]
    if not isinstance(value, str) or value.lower() not in names:
        raise UserError(f"rware/{name}: {option} must be one of {', '.join(names)}, got {value!r}")
    return kind[value.upper()]
