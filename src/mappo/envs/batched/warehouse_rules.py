"""Names and rules of the multi-robot warehouse, as in the package rware 2.0.0. Loads no torch.

The adapter of the package and the batched twin read the same names.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Annotated, Any, Literal

import numpy as np

from mappo.config.bounds import at_least, at_most, check_types
from mappo.errors import UserError

SIZES = {"tiny": (1, 3), "small": (2, 3), "medium": (2, 5), "large": (3, 5)}  # rows and columns of shelves
REQUESTS = {"-easy": 2, "": 1, "-hard": 0.5}  # for each robot
EXAMPLES = ("rware-tiny-2ag-v2", "rware-small-4ag-hard-v2")
_REWARDS = {"indiv": "individual", "global": "global", "twostage": "two_stage"}
_NAME = re.compile(
    r"rware(?P<image>-img|-imgdict)?(?P<north>-Nd)?(-(?P<sight>[1-9]\d*)s)?"
    r"-((?P<size>tiny|small|medium|large)|(?P<rows>[1-9]\d*)x(?P<columns>[1-9]\d*))(-(?P<height>[1-9]\d*)h)?"
    r"-(?P<robots>[1-9]\d*)ag((?P<hardness>-easy|-hard)?|-(?P<requests>[1-9]\d*)req-(?P<reward>indiv|global|twostage))"
    r"-v2"
)


def registered_names() -> list[str]:
    """Return the names that rware registers by itself."""
    return [f"rware-{size}-{robots}ag{hard}-v2" for size, hard, robots in product(SIZES, REQUESTS, range(1, 20))]


def read_name(name: str) -> dict[str, Any] | None:
    """Return the arguments of rware's `Warehouse` for a name, with texts for the members of enums.

    None stands for a name that rware cannot register.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    rows, columns = SIZES[match["size"]] if match["size"] else (int(match["rows"]), int(match["columns"]))
    robots = int(match["robots"])
    arguments: dict[str, Any] = {
        "column_height": int(match["height"] or 8),
        "shelf_rows": rows,
        "shelf_columns": columns,
        "n_agents": robots,
        "msg_bits": 0,
        "sensor_range": int(match["sight"] or 1),
        "request_queue_size": int(match["requests"] or robots * REQUESTS[match["hardness"] or ""]),
        "max_inactivity_steps": None,
        "max_steps": 500,
        "reward_type": _REWARDS[match["reward"] or "indiv"],
    }
    if match["image"]:
        arguments["observation_type"] = "image_dict" if "dict" in match["image"] else "image"
        arguments["image_observation_directional"] = not match["north"]
    return arguments


@dataclass(frozen=True)
class WarehouseRules:
    """Rules of a game: the arguments of rware's `Warehouse` for flattened observations, and `ties`.

    Args:
        column_height: shelves of a column, one behind the other.
        shelf_rows: rows of shelf columns.
        shelf_columns: pairs of shelf columns in a row, an odd number.
        n_agents: A, the number of robots.
        request_queue_size: requested shelves at any time.
        msg_bits: bits of a robot's message.
        sensor_range: cells in sight to each side of a robot.
        max_inactivity_steps: steps without a delivery until truncation; None for no such limit.
        max_steps: steps until truncation.
        reward_type: pay of a delivery. `individual`: 1 for the robot. `global`: 1 for every robot. `two_stage`: a half
            for the robot, and a half for the return of the shelf.
        normalised_coordinates: True if a robot observes its place from 0 to 1.
        ties: `order` lets the first robot in order win a tie, and `package` asks rware.

    Raises:
        UserError: a value is out of range, or values contradict each other.
    """

    column_height: Annotated[int, at_least(1)]
    shelf_rows: Annotated[int, at_least(1)]
    shelf_columns: Annotated[int, at_least(1)]
    n_agents: Annotated[int, at_least(1)]
    request_queue_size: Annotated[int, at_least(0)]
    msg_bits: Annotated[int, at_least(0), at_most(10)] = 0
    sensor_range: Annotated[int, at_least(1)] = 1
    max_inactivity_steps: Annotated[int | None, at_least(1)] = None
    max_steps: Annotated[int, at_least(1)] = 500
    reward_type: Literal["global", "individual", "two_stage"] = "individual"
    normalised_coordinates: bool = False
    ties: Literal["order", "package"] = "order"

    def __post_init__(self) -> None:
        check_types("warehouse", self, "{}: {}".format)
        if self.shelf_columns % 2 == 0:
            raise UserError(f"warehouse: shelf_columns must be odd, got {self.shelf_columns}")
        check_crowd("warehouse", self.request_queue_size, self.n_agents, self.highways)

    @cached_property
    def highways(self) -> np.ndarray:
        """Cells without a place for a shelf, bool `(H, W)`."""
        height = (self.column_height + 1) * self.shelf_rows + 2
        width = 3 * self.shelf_columns + 1
        y, x = np.indices((height, width))
        before_goals = (y > height - self.column_height - 3) & ((x == width // 2) | (x == width // 2 - 1))
        return (x % 3 == 0) | (y % (self.column_height + 1) == 0) | (y == height - 1) | before_goals

    @property
    def goals(self) -> list[tuple[int, int]]:
        """Rows and columns of the two goals, in the order of deliveries."""
        height, width = self.highways.shape
        return [(height - 1, width // 2 - 1), (height - 1, width // 2)]


def check_crowd(name: str, requests: int, robots: int, highways: np.ndarray) -> None:
    """Raise UserError unless robots and requests fit in a warehouse; `highways` is 0 at the places of shelves."""
    shelves = int((highways == 0).sum())
    if not 0 < requests < shelves or robots > highways.size:
        raise UserError(
            f"{name}: {requests} requests and {robots} robots in a warehouse of {shelves} shelves and {highways.size} "
            "cells: there must be at least one request, and fewer requests than shelves"
        )
