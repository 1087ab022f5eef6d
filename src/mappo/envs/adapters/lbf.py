"""Level-based foraging (package lbforaging): agents walk to food and load it together, if their levels suffice.

`lbf/Foraging-8x8-2p-2f-coop-v3` is a field of 8 x 8 with 2 players and 2 food items, each of which needs all players.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium
import numpy as np

from mappo.envs.adapters.packages import build
from mappo.envs.adapters.tuple_env import TupleEnv, render_without_display
from mappo.envs.batched import foraging_rules
from mappo.envs.names import require
from mappo.errors import UserError
from mappo.system.packages import install_command


class Foraging(TupleEnv):
    """lbforaging's `ForagingEnv`: observations float32 `(3 F + 3 P,)`, six actions, masks in the infos.

    An episode ends by itself when no food remains; the step limit truncates it before. Each agent has its own reward;
    over agents and time the rewards sum to at most 1.

    Args:
        env: the bare environment.
        actions: lbforaging's `Action`: none, north, south, west, east and load.
    """

    def __init__(self, env: Any, actions: Iterable[Any]) -> None:
        super().__init__(env)
        self._actions = tuple(actions)
        self._infos_of_moves: dict[tuple[int, ...], dict[str, Any]] = {}

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        # The package counts the last positions as taken: a seed would start another episode than in a new environment.
        for player in self.env.players:
            player.position = None
        return super().reset(seed, options)

    def _finished(self) -> bool:
        return not self.env.field.any()

    def _infos(self) -> dict[str, Any]:
        # The public `get_valid_actions` lists all joint actions: exponentially many.
        return dict(zip(self.possible_agents, map(self._info, self.env._valid_actions.values()), strict=True))

    def _info(self, legal: list[Any]) -> dict[str, Any]:
        """Return the info with the mask of a player's legal moves, made once for each set of moves."""
        key = tuple(map(id, legal))  # members of an enum are unique, and their hash is slow
        info = self._infos_of_moves.get(key)
        if info is None:
            mask = np.array([action in legal for action in self._actions])
            mask.flags.writeable = False
            info = self._infos_of_moves[key] = {"action_mask": mask}
        return info


def names(_family: str) -> list[str]:
    """Return the registered names; `make` builds further names of the same form.

    Raises:
        UserError: the package is missing.
    """
    require("lbforaging", "lbforaging", install_command("lbf"))
    return [name for name in gymnasium.registry if foraging_rules.NAME.fullmatch(name)]


def make(name: str, options: Mapping[str, Any], render: bool = False) -> Foraging:
    """Build an environment of lbforaging.

    Args:
        name: `Foraging[-{sight}s]-{size}x{size}-{players}p-{food}f[-coop][-ind][-pen]-v3`, registered or not.
        options: arguments of `ForagingEnv`, in place of the name's.
        render: True if pictures will be asked for.

    Raises:
        UserError: the name or an option is unknown, or the package is missing.
    """
    package = require("lbforaging.foraging.environment", "lbforaging", install_command("lbf"))
    if options.get("grid_observation"):
        raise UserError(f"lbf/{name}: {foraging_rules.NO_GRIDS}: leave out grid_observation")
    env = build(f"lbf/{name}", package.ForagingEnv, settings(name), options)
    steps = env._max_episode_steps
    if not isinstance(steps, int) or steps < 1:
        raise UserError(f"lbf/{name}: max_episode_steps must be a whole number from 1 on, got {steps!r}")
    if min(env.field.shape) < 3 or len(env.players) >= env.field.size:
        raise UserError(
            f"lbf/{name}: {len(env.players)} players and food, which lies off the edge, do not fit in {env.field.shape}"
        )
    if render:
        render_without_display()
    return Foraging(env, package.Action)


def settings(name: str) -> dict[str, Any]:
    """Return the arguments of `ForagingEnv` for a name, as in lbforaging's own registration.

    Raises:
        UserError: lbforaging has no such name.
    """
    found = foraging_rules.settings("lbf", name)
    size = found.pop("size")
    rest = {"min_player_level": 1, "max_player_level": 2, "min_food_level": 1, "max_episode_steps": 50}
    return {**found, **rest, "field_size": (size, size), "grid_observation": False}
