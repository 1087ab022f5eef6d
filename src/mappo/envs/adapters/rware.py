"""The multi-robot warehouse (package rware): robots bring requested shelves to the goals, and put them back.

`rware/rware-tiny-2ag-v2`: a tiny warehouse with 2 robots and 2 requests; `-hard` has half as many requests as robots.
"""

import re
from collections.abc import Mapping
from typing import Any

import gymnasium

from mappo.envs.adapters.tuple_env import TupleEnv, build, draw_without_display, load, unknown
from mappo.errors import UserError

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

    Its episodes end by `max_steps` or `max_inactivity_steps` alone, both of them time limits. Rewards are each
    agent's own, or with `reward_type="global"` one number for all.
    """

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.shared_reward = env.reward_type.name == "GLOBAL"

    def _finished(self) -> bool:
        return False

    def _viewer(self) -> Any:
        return self.env.renderer


def make(name: str, options: Mapping[str, Any], render: bool = False) -> RobotWarehouse:
    """One environment of rware.

    Args:
        name: `rware-{tiny|small|medium|large}-{robots}ag[-easy|-hard]-v2`, or any other that rware can register.
        options: arguments of `Warehouse`, in place of what the name says; what it has an enum for, by the enum's
            names: `reward_type="global"`, `observation_type="image"`.
        render: it will be drawn.

    Raises:
        UserError: the name or an option is not known, or the package is missing.
    """
    package = load("rware.warehouse", "rware")
    chosen = dict(options)
    for option, kind in (("reward_type", package.RewardType), ("observation_type", package.ObservationType)):
        if option in chosen:
            chosen[option] = _member(name, option, kind, chosen[option])
    if "image_observation_layers" in chosen:
        layers = chosen["image_observation_layers"]
        if isinstance(layers, str):
            raise UserError(f"rware/{name}: image_observation_layers must be a list, got {layers!r}")
        chosen["image_observation_layers"] = [
            _member(name, "image_observation_layers", package.ImageLayer, layer) for layer in layers
        ]
    env = build(f"rware/{name}", package.Warehouse, settings(name), chosen)
    if not env.max_steps and not env.max_inactivity_steps:
        raise UserError(f"rware/{name}: nothing ends an episode: give max_steps or max_inactivity_steps")
    shelves, cells = int((env.highways == 0).sum()), env.highways.size
    if not 0 < env.request_queue_size < shelves or env.n_agents > cells:
        raise UserError(
            f"rware/{name}: {env.request_queue_size} requests and {env.n_agents} robots in a warehouse of {shelves} "
            f"shelves and {cells} cells: there must be at least one request, and fewer than shelves"
        )
    if render:
        draw_without_display()
    return RobotWarehouse(env)


def settings(name: str) -> dict[str, Any]:
    """The arguments of `Warehouse` that a name stands for, as in rware's own registration.

    Raises:
        UserError: it is not a name of rware's.
    """
    match, package = _NAME.fullmatch(name), load("rware.warehouse", "rware")
    if match is None:
        registered = (key for key in gymnasium.registry if key.startswith("rware-"))
        raise unknown("rware", name, registered, "rware/rware-tiny-2ag-v2, rware/rware-small-4ag-hard-v2")
    rows, columns = _SIZES[match["size"]] if match["size"] else (int(match["rows"]), int(match["columns"]))
    robots = int(match["robots"])
    chosen: dict[str, Any] = {
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
        chosen["observation_type"] = package.ObservationType["IMAGE_DICT" if "dict" in match["image"] else "IMAGE"]
        chosen["image_observation_directional"] = not match["north"]
    return chosen


def _member(name: str, option: str, kind: Any, value: Any) -> Any:
    """The member of an enum that a user means."""
    if isinstance(value, kind):
        return value
    names = [member.name.lower() for member in kind]
    if not isinstance(value, str) or value.lower() not in names:
        raise UserError(f"rware/{name}: {option} knows {', '.join(names)}, got {value!r}")
    return kind[value.upper()]
