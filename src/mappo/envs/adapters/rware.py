"""The multi-robot warehouse (package rware): robots bring requested shelves to the goals, and put them back.

`rware/rware-tiny-2ag-v2` is a tiny warehouse with 2 robots and 2 requests; `-hard` has half as many requests as robots.
"""

import re
from collections.abc import Mapping
from typing import Any

import gymnasium

from mappo.envs.adapters.packages import build
from mappo.envs.adapters.tuple_env import TupleEnv, render_without_display
from mappo.envs.names import require, unknown
from mappo.errors import UserError
from mappo.system.packages import install_command

_SIZES = {"tiny": (1, 3), "small": (2, 3), "medium": (2, 5), "large": (3, 5)}  # rows and columns of shelves
_REQUESTS = {"-easy": 2, "": 1, "-hard": 0.5}  # for each robot
_REWARDS = {"indiv": "INDIVIDUAL", "global": "GLOBAL", "twostage": "TWO_STAGE"}
_NAME = re.compile(
    r"rware(?P<image>-img|-imgdict)?(?P<north>-Nd)?(-(?P<sight>[1-9]\d*)s)?"
    r"-((?P<size>tiny|small|medium|large)|(?P<rows>[1-9]\d*)x(?P<columns>[1-9]\d*))(-(?P<height>[1-9]\d*)h)?"
    r"-(?P<robots>[1-9]\d*)ag((?P<hardness>-easy|-hard)?|-(?P<requests>[1-9]\d*)req-(?P<reward>indiv|global|twostage))"
    r"-v2"
)


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
    shelves = int((env.highways == 0).sum())
    cells = env.highways.size
    if not 0 < env.request_queue_size < shelves or env.n_agents > cells:
        raise UserError(
            f"rware/{name}: {env.request_queue_size} requests and {env.n_agents} robots in a warehouse of {shelves} "
            f"shelves and {cells} cells: there must be at least one request, and fewer requests than shelves"
        )
    if render:
        render_without_display()
    return RobotWarehouse(env)


def settings(name: str) -> dict[str, Any]:
    """Return the arguments of `Warehouse` for a name, as in rware's own registration.

    Raises:
        UserError: rware has no such name.
    """
    package = _load_package()
    match = _NAME.fullmatch(name)
    if match is None:
        raise unknown("rware", name, names("rware"), "rware/rware-tiny-2ag-v2, rware/rware-small-4ag-hard-v2")
    rows, columns = _SIZES[match["size"]] if match["size"] else (int(match["rows"]), int(match["columns"]))
    robots = int(match["robots"])
    arguments: dict[str, Any] = {
        "column_height": int(match["height"] or 8),
        "shelf_rows": rows,
        "shelf_columns": columns,
        "n_agents": robots,
        "msg_bits": 0,
        "sensor_range": int(match["sight"] or 1),
        "request_queue_size": int(match["requests"] or robots * _REQUESTS[match["hardness"] or ""]),
        "max_inactivity_steps": None,
        "max_steps": 500,
        "reward_type": package.RewardType[_REWARDS[match["reward"] or "indiv"]],
    }
    if match["image"]:
        arguments["observation_type"] = package.ObservationType["IMAGE_DICT" if "dict" in match["image"] else "IMAGE"]
        arguments["image_observation_directional"] = not match["north"]
    return arguments


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
