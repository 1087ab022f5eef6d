"""The StarCraft Multi-Agent Challenge and its relatives, in PettingZoo's Parallel API; an episode is a battle.

`smac/2s3z`, `smacv2/terran_5_vs_5`, `smaclite/2s3z`: SMAC (Samvelyan et al., 2019), SMACv2 (Ellis et al., 2023) and
SMAClite (Michalski et al., 2023). None of them is on PyPI, and the first two need StarCraft II. Other environments with
SMAC's interface train too: `mappo.train(lambda: SmacEnv(MyEnv()))`.

Loads no torch: workers import this module.
"""

import contextlib
import copy
import importlib
import io
import os
import re
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from mappo.envs.adapters.packages import build
from mappo.envs.adapters.smac_env import SmacEnv
from mappo.envs.names import require, unknown
from mappo.errors import UserError

# SMAC's own limits, because SMAClite has none.
EPISODE_LIMITS = {
    "10m_vs_11m": 150,
    "27m_vs_30m": 180,
    "2c_vs_64zg": 400,
    "2s3z": 120,
    "2s_vs_1sc": 300,
    "3s5z": 150,
    "3s5z_vs_3s6z": 170,
    "3s_vs_5z": 250,
    "MMM": 150,
    "MMM2": 180,
    "bane_vs_bane": 200,
    "corridor": 400,
}
# SMACv2's teams: units, their frequencies, and the units that must not form a team alone.
TEAMS: dict[str, tuple[list[str], list[float], list[str]]] = {
    "protoss": (["stalker", "zealot", "colossus"], [0.45, 0.45, 0.1], []),
    "terran": (["marine", "marauder", "medivac"], [0.45, 0.45, 0.1], ["medivac"]),
    "zerg": (["zergling", "baneling", "hydralisk"], [0.45, 0.1, 0.45], ["baneling"]),
}
_TEAM = re.compile(
    r"10gen_(?P<map>protoss|terran|zerg)|(?P<race>protoss|terran|zerg)_(?P<units>\d+)_vs_(?P<enemies>\d+)"
)
_INSTALL = {
    "smac": "'git+https://github.com/oxwhirl/smac', and StarCraft II with SMAC's maps",
    "smacv2": "'git+https://github.com/oxwhirl/smacv2', and StarCraft II with SMACv2's maps",
    "smaclite": "--no-deps 'git+https://github.com/uoe-agents/smaclite' and pip install rtree scikit-learn pygame-ce",
}


class SmacLite:
    """SMAClite's environment with the interface of SMAC; it accepts seeds and has no step limit.

    Args:
        env: SMAClite's environment.
    """

    def __init__(self, env: Any) -> None:
        self.env = env
        self.get_obs = env.get_obs
        self.get_state = env.get_state
        self.get_avail_actions = env.get_avail_actions
        self.close = env.close

    def get_env_info(self) -> dict[str, Any]:
        env = self.env
        return {
            "n_agents": env.n_agents,
            "n_actions": env.n_actions,
            "obs_shape": env.obs_size,
            "state_shape": env.state_size,
        }

    def reset(self, seed: int | None = None) -> None:
        # The state shows the last actions, also after a reset: a seed would start another episode than in a new env.
        self.env.last_actions = np.zeros_like(self.env.last_actions)
        self.env.reset(seed=seed)

    def step(self, actions: list[int]) -> tuple[float, bool, dict[str, Any]]:
        _, reward, terminated, _, info = self.env.step(actions)
        return reward, terminated, info

    def render(self, mode: str) -> np.ndarray:
        for device in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
            os.environ.setdefault(device, "dummy")
        return self.env.render()


def make_smac(name: str, options: Mapping[str, Any], render: bool = False) -> SmacEnv:
    """Build a map of SMAC, such as `3m`, `2s3z` or `MMM2`.

    Args:
        name: name of the map.
        options: arguments of SMAC's `StarCraft2Env`.
        render: no effect.

    Raises:
        UserError: the map or an option is unknown, or SMAC or StarCraft II is missing.
    """
    maps = _load("smac", "smac.env.starcraft2.maps.smac_maps").get_smac_map_registry()
    if name not in maps:
        raise unknown("smac", name, maps, "smac/3m, smac/2s3z, smac/MMM2")
    env = build(f"smac/{name}", _load("smac", "smac.env").StarCraft2Env, {"map_name": name}, options)
    _check_starcraft(f"smac/{name}", name, options.get("game_version"))
    return SmacEnv(env)


def make_smacv2(name: str, options: Mapping[str, Any], render: bool = False) -> SmacEnv:
    """Build a battle of SMACv2 between teams sampled anew each time, as in its published configurations.

    Args:
        name: `{protoss|terran|zerg}_{units}_vs_{enemies}`, such as `terran_5_vs_5`; `10gen_terran` is the same.
        options: arguments of its `StarCraft2Env`, in place of the configuration's; `capability_config` sets how teams
            and places are sampled.
        render: no effect.

    Raises:
        UserError: the name or an option is unknown, or SMACv2 or StarCraft II is missing.
    """
    package = _load("smacv2", "smacv2.env")
    match = _TEAM.fullmatch(name)
    if match is None:
        usual = [f"{race}_{n}_vs_{m}" for race in TEAMS for n, m in ((5, 5), (10, 10), (10, 11), (20, 20), (20, 23))]
        raise unknown("smacv2", name, usual, "smacv2/terran_5_vs_5, smacv2/protoss_10_vs_11")
    race = match["map"] or match["race"]
    # The wrapper accepts its environment's arguments, and writes into the configuration: options are copied.
    env = build(
        f"smacv2/{name}",
        package.StarCraftCapabilityEnvWrapper,
        _team_settings(race, int(match["units"] or 5), int(match["enemies"] or 5)),
        copy.deepcopy(dict(options)),
        parameters_of=package.StarCraft2Env,
    )
    _check_starcraft(f"smacv2/{name}", f"10gen_{race}", options.get("game_version"))
    return SmacEnv(env)


def make_smaclite(name: str, options: Mapping[str, Any], render: bool = False) -> SmacEnv:
    """Build a map of SMAClite, such as `2s3z`, or `custom` with the option `map_file`.

    Args:
        name: with or without the ending `-v0`.
        options: arguments of its environment, and `episode_limit`, SMAC's own by default.
        render: no effect.

    Raises:
        UserError: the map or an option is unknown, or SMAClite is missing.
    """
    _load("smaclite", "smaclite")
    chosen = dict(options)
    name = name.removesuffix("-v0")
    limit = chosen.pop("episode_limit", EPISODE_LIMITS.get(name))
    names = [key.split("/")[1].removesuffix("-v0") for key in gymnasium.registry if key.startswith("smaclite/")]
    if name not in names:
        raise unknown("smaclite", name, names, "smaclite/2s3z, smaclite/MMM2")
    constructor = _load("smaclite", "smaclite.env").SMACliteEnv
    settings = {**gymnasium.spec(f"smaclite/{name}-v0").kwargs, "render_mode": "rgb_array"}
    with contextlib.redirect_stdout(io.StringIO()):  # SMAClite prints
        env = build(f"smaclite/{name}", constructor, settings, chosen, also=["episode_limit"])
    return SmacEnv(SmacLite(env), limit)


def _team_settings(race: str, num_units: int, num_enemies: int) -> dict[str, Any]:
    """Return the arguments of SMACv2's wrapper for teams of a race, as in its published configurations."""
    units, weights, never_alone = TEAMS[race]
    return {
        "map_name": f"10gen_{race}",
        "obs_own_pos": True,
        "use_unit_ranges": True,
        "min_attack_range": 2,
        "capability_config": {
            "n_units": num_units,
            "n_enemies": num_enemies,
            "team_gen": {
                "dist_type": "weighted_teams",
                "unit_types": units,
                "weights": weights,
                "exception_unit_types": never_alone,
                "observe": True,
            },
            "start_positions": {"dist_type": "surrounded_and_reflect", "p": 0.5, "map_x": 32, "map_y": 32},
        },
    }


def _load(family: str, module: str) -> Any:
    return require(module, family, f"pip install {_INSTALL[family]}")


def _check_starcraft(name: str, map_name: str, version: str | None) -> None:
    """Find the binary and the map now; the packages look for them at their first reset only.

    Raises:
        UserError: the binary or the map is missing.
    """
    try:
        config = importlib.import_module("pysc2.run_configs").get(version=version)
        config.map_data(importlib.import_module("pysc2.maps").get(map_name).path)
    except Exception as error:  # pysc2 raises a dozen classes of errors
        raise UserError(
            f"{name} needs StarCraft II and the map {map_name} ({error}): install it into ~/StarCraftII, or "
            "into the folder in SC2PATH, and copy SMAC_Maps into its Maps"
        ) from error
