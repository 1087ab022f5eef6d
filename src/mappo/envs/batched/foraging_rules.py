"""Names and rules of level-based foraging, as in the package lbforaging 2.0.0. Loads no torch.

The adapter of the package and the batched twin read the same names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import product
from typing import Annotated, Any

import numpy as np
from gymnasium import spaces

from mappo.config.bounds import at_least, check_types
from mappo.envs.names import check_options, unknown
from mappo.errors import UserError

NAME = re.compile(
    r"Foraging(-(?P<sight>[1-9]\d*)s)?-(?P<size>[1-9]\d*)x(?P=size)-(?P<players>[1-9]\d*)p-(?P<food>[1-9]\d*)f"
    r"(?P<coop>-coop)?(?P<ind>-ind)?(?P<pen>-pen)?-v3"
)
NO_GRIDS = "lbforaging 2.0.0 cannot make grid observations, because it declares a wrong shape for them"
LOADERS = 3  # the level of food is at most the sum of the levels of this many players, the lowest
_BY_NAME = ("size", "players", "max_num_food")  # a name alone decides them


@dataclass(frozen=True)
class ForagingRules:
    """Rules of a game, called like the arguments of lbforaging's `ForagingEnv`; where that takes lists, a number.

    Args:
        size: rows, and columns, of the field.
        players: P, the number of agents.
        max_num_food: F, the most items of food in an episode.
        sight: cells that a player sees to each side.
        force_coop: every item of food has the highest level, and needs at least the three lowest players.
        max_food_level: highest level of food; None for the sum of the three lowest levels of players.
        min_food_level: lowest level of food, ignored with `force_coop`.
        min_player_level: lowest level of a player.
        max_player_level: highest level of a player.
        penalty: cost of a failed attempt to load, for each player in it.
        max_episode_steps: steps of an episode before truncation.
        normalize_reward: the rewards for all food add up to 1.
        observe_agent_levels: players see the levels of players.

    Raises:
        UserError: a value is out of range, or values contradict each other.
    """

    size: Annotated[int, at_least(3)]
    players: Annotated[int, at_least(1)]
    max_num_food: Annotated[int, at_least(1)]
    sight: Annotated[int, at_least(1)]
    force_coop: bool = False
    max_food_level: Annotated[int | None, at_least(1)] = None
    min_food_level: Annotated[int, at_least(1)] = 1
    min_player_level: Annotated[int, at_least(1)] = 1
    max_player_level: Annotated[int, at_least(1)] = 2
    penalty: Annotated[float, at_least(0)] = 0.0
    max_episode_steps: Annotated[int, at_least(1)] = 50
    normalize_reward: bool = True
    observe_agent_levels: bool = True

    def __post_init__(self) -> None:
        check_types("foraging", self, "{}: {}".format)
        if self.players >= self.size**2:
            text = f"{self.players} players and food, which lies off the edge, do not fit in {self.size} x {self.size}"
            raise UserError(f"foraging: {text}")
        if self.min_player_level > self.max_player_level:
            raise UserError(f"foraging: min_player_level {self.min_player_level} exceeds {self.max_player_level}")
        weakest = self.min_player_level * min(self.players, LOADERS)
        highest = weakest if self.max_food_level is None else self.max_food_level
        if not self.force_coop and self.min_food_level > highest:
            raise UserError(f"foraging: min_food_level {self.min_food_level} exceeds {highest}, the highest level")

    @property
    def highest_food_level(self) -> int:
        """The highest level that food can have in any episode."""
        return self.max_food_level or self.max_player_level * min(self.players, LOADERS)

    @property
    def obs_space(self) -> spaces.Box:
        """The observation space of each agent: `(3 F + 3 P,)`, or `(3 F + 2 P,)` without the players' levels."""
        edge = self.size - 1
        food = [edge, edge, self.highest_food_level] * self.max_num_food
        columns = 3 if self.observe_agent_levels else 2
        players = [edge, edge, self.max_player_level][:columns] * self.players
        low = [-1, -1, 0] * self.max_num_food + [-1, -1, 0][:columns] * self.players
        return spaces.Box(np.array(low, np.float32), np.array(food + players, np.float32))


def settings(family: str, name: str) -> dict[str, Any]:
    """Return the arguments of `ForagingRules` for a name, registered or not, as in lbforaging's own registration.

    Args:
        family: first part of the full name, for the error.
        name: `Foraging[-{sight}s]-{size}x{size}-{players}p-{food}f[-coop][-ind][-pen]-v3`.

    Raises:
        UserError: lbforaging has no such name.
    """
    if name.startswith("Foraging-grid"):
        raise UserError(f"{family}/{name}: {NO_GRIDS}: use a name without -grid")
    match = NAME.fullmatch(name)
    if match is None:
        form = f"{family}/Foraging-8x8-2p-2f-coop-v3, {family}/Foraging-2s-10x10-3p-3f-v3"
        raise unknown(family, name, registered_names(), form)
    return {
        "size": int(match["size"]),
        "players": int(match["players"]),
        "max_num_food": int(match["food"]),
        "sight": int(match["sight"] or match["size"]),
        "force_coop": bool(match["coop"]),
        "max_food_level": 1 if match["ind"] else None,
        "penalty": 0.1 if match["pen"] else 0.0,
    }


def rules_of(name: str, options: Mapping[str, Any]) -> ForagingRules:
    """Return the rules of a name of the batched twin, changed by the user's options.

    Raises:
        UserError: the name or an option is unknown, or a value is invalid.
    """
    full_name = f"foraging/{name}"
    check_options(full_name, options, [field.name for field in fields(ForagingRules) if field.name not in _BY_NAME])
    return ForagingRules(**settings("foraging", name) | dict(options))


def registered_names() -> list[str]:
    """Return the names that lbforaging 2.0.0 registers."""
    sizes = range(5, 20)
    players = range(2, 10)
    food = range(1, 5)
    return [
        f"Foraging{sight}-{n}x{n}-{p}p-{f}f{coop}-v3"
        for n, p, f, coop, sight in product(sizes, players, food, ("-coop", ""), ("-2s", ""))
    ]
