"""Packages of PettingZoo's Parallel API, by name. Loads no torch: workers import this module.

family       package               extra       names
mpe2         mpe2                  mpe         simple_spread_v3, ...
sisl         pettingzoo            sisl        multiwalker_v9, pursuit_v5
butterfly    pettingzoo            butterfly   knights_archers_zombies_v11, pistonball_v6, cooperative_pong_v6
magent2      magent2               magent      adversarial_pursuit_v4, battle_v4, ...
mamujoco     gymnasium-robotics    mujoco      HalfCheetah-2x3, Ant-4x2, Humanoid-9|8, ...: a robot, and its parts

Options and their defaults are the package's. Episodes of mpe2 have 25 steps (`max_cycles`), episodes of multiwalker,
pursuit and magent2 have 500, and episodes of mamujoco 1,000 (`max_episode_steps`). In mamujoco, an agent observes its
own joints and the next ones (`agent_obsk=1`).

Some environments have opposing teams (mpe2's `simple_tag_v3`, magent2's battles). One policy then learns to maximise
the sum over all agents: this is not training against an opponent.
"""

import contextlib
import ctypes.util
import importlib
import inspect
import io
import os
import pkgutil
import re
import sys
import warnings
from collections.abc import Generator, Mapping
from functools import partial
from typing import Any, cast

from mappo.envs.adapters.mujoco_labels import name_motors
from mappo.envs.adapters.packages import construction
from mappo.envs.names import check_options, require, unknown
from mappo.envs.registry import FAMILIES
from mappo.envs.vector.time_limit import TimeLimit
from mappo.system.packages import install_command

_ROBOTS = (
    "Ant-2x4",
    "Ant-2x4d",
    "Ant-4x2",
    "CoupledHalfCheetah-1p1",
    "HalfCheetah-2x3",
    "HalfCheetah-6x1",
    "Hopper-3x1",
    "Humanoid-9|8",
    "HumanoidStandup-9|8",
    "ManySegmentAnt-2x3",
    "ManySegmentSwimmer-2x3",
    "Pusher-3p",
    "Reacher-2x1",
    "Swimmer-2x1",
    "Walker2d-2x3",
)
_SEGMENTS = re.compile(r"ManySegment(Ant|Swimmer)-[1-9]\d*x[1-9]\d*")
# Functions whose signature declares the options, in modules whose maker accepts any keyword.
_SIGNED = {"multiwalker_v9": "_env", "pursuit_v5": "_env", "cooperative_pong_v6": "CooperativePong"}
_NOT_OPTIONS = {"self", "render_mode", "randomizer", "scenario", "agent_conf"}


def names(family: str) -> list[str]:
    """Return the names of all environments of the family's package, without importing each.

    Raises:
        UserError: the package is missing.
    """
    package = _load(family, "magent2.environments" if family == "magent2" else FAMILIES[family].module)
    if family == "mamujoco":
        return list(_ROBOTS)
    if family in ("sisl", "butterfly"):
        registered = [key.split("/") for key in package.parallel_registry]
        return sorted(re.sub(r"-v(\d+)$", r"_v\1", name) for space, name in registered if space == family)
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if re.search(r"_v\d+$", m.name))


def make(family: str, name: str, options: Mapping[str, Any], render: bool = False) -> Any:
    """Build one environment. It has `shared_reward = True` if all agents receive the team's reward.

    Args:
        family: a family of the table above.
        name: the name after the family, such as `simple_spread_v3`.
        options: keyword arguments of the package's own constructor.
        render: True if pictures will be asked for.

    Raises:
        UserError: the package is missing, or the name, an option or a value is invalid.
    """
    full_name = f"{family}/{name}"
    known = names(family)
    if name not in known and not (family == "mamujoco" and _SEGMENTS.fullmatch(name)):
        raise unknown(family, name, known)
    module = _module(family, name)
    if declared := _options(family, name, module):
        check_options(full_name, options, declared)
    fixed: dict[str, Any] = {}
    if family == "mamujoco":
        fixed = dict(zip(("scenario", "agent_conf"), name.split("-", 1), strict=True))
    # Agents of these two observe the picture, which the package renders for a `render_mode` alone.
    needs_picture = render or name.startswith(("pistonball", "cooperative_pong"))
    with _without_warning_file(family), construction(full_name, options, (Exception,)):
        env = module.parallel_env(**fixed, **options, render_mode="rgb_array" if needs_picture else None)
    if _has_shared_reward(family, name, options):
        env.shared_reward = True
    return _repair(env, family, name, options)


def _repair(env: Any, family: str, name: str, options: Mapping[str, Any]) -> Any:
    """Work around the packages' bugs; return the environment."""
    if name.startswith("knights_archers_zombies"):
        _reset_zombie_clock(env)
    if name.startswith("multiwalker"):
        _keep_state(env)
        # The package reports its own limit as a termination.
        return TimeLimit(env, options.get("max_cycles", 500), cuts=False)
    if family == "magent2":
        _keep_teams(env)
    if family == "mamujoco":
        name_motors(env)
    if family == "mpe2":
        # The state concatenates all observations, computed again for a tenth of a step; the critic has them already.
        env.state_space = None
        env.state = None
    return env


def _module(family: str, name: str) -> Any:
    """Return the module with `parallel_env`."""
    if family in ("sisl", "butterfly"):
        # Modules named NAME_vN are deprecated there, in favour of the registry.
        registry = _load(family, FAMILIES[family].module).parallel_registry
        spec = registry[re.sub(r"_v(\d+)$", r"-v\1", f"{family}/{name}")]
        return _load(family, cast(str, spec.entry_point).split(":")[0])
    modules = {"mpe2": f"mpe2.{name}", "magent2": f"magent2.environments.{name}"}
    return _load(family, modules.get(family, "gymnasium_robotics.envs.multiagent_mujoco.mamujoco_v1"))


def _load(family: str, module: str) -> Any:
    _set_headless(family)
    # The packages announce their next versions, and Box2D crashes if its deprecation warnings are errors.
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return require(module, FAMILIES[family].package, install_command(str(FAMILIES[family].extra)))


def _set_headless(family: str) -> None:
    """Select rendering without a screen, unless the user has set the variables.

    Only Linux has EGL; elsewhere, the import of mujoco would fail with this setting.
    """
    if family != "mamujoco":
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    elif "MUJOCO_GL" not in os.environ and sys.platform == "linux" and ctypes.util.find_library("EGL"):
        os.environ["MUJOCO_GL"] = "egl"


@contextlib.contextmanager
def _without_warning_file(family: str) -> Generator[None]:
    """Keep MuJoCo from writing warnings about its models into a file in the current folder."""
    if family != "mamujoco":
        yield
        return
    mujoco = importlib.import_module("mujoco")
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(str)  # a callable without effect
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


def _options(family: str, name: str, module: Any) -> list[str]:
    """Return the options of an environment, sorted; an empty list if the package does not declare them."""
    makers: list[Any] = [getattr(module, _SIGNED.get(name, "raw_env"), module.parallel_env)]
    extra: list[str] = []
    if family == "magent2":
        makers = [module.parallel_env]
        # Rewards are keywords of any name, with their defaults in a dict.
        package = sys.modules[module.parallel_env.__module__]
        extra = [*getattr(package, "default_reward_args", {}), *getattr(package, "default_env_args", {})]
    if family == "mamujoco":
        robot = "Ant" if "Ant" in name else "Swimmer" if "Swimmer" in name else name.split("-")[0]
        gymnasium: Any = importlib.import_module("gymnasium")
        if f"{robot}-v5" in gymnasium.registry:
            makers.append(gymnasium.envs.registration.load_env_creator(gymnasium.registry[f"{robot}-v5"].entry_point))
            extra = ["max_episode_steps"]
    parameters = [p for m in makers for p in inspect.signature(m).parameters.values()]
    declared = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD or p.kind is p.KEYWORD_ONLY]
    return sorted({*declared, *extra} - _NOT_OPTIONS)


def _has_shared_reward(family: str, name: str, options: Mapping[str, Any]) -> bool:
    """Return True if all agents receive one number, according to the packages' sources.

    speaker_listener: the listener's distance. formation, line: nothing but the joint reward. spread, reference: only if
    the agents' own part has no weight (`local_ratio=0`). multiwalker, pursuit: the mean over agents, unless
    `shared_reward=False`. pistonball, cooperative_pong: the ball's. mamujoco: the robot's.
    """
    base = name.rsplit("_v", 1)[0]
    if base in ("simple_spread", "simple_reference"):
        return options.get("local_ratio", 0.5) == 0
    if base in ("multiwalker", "pursuit"):
        return bool(options.get("shared_reward", True))
    always = ("simple_speaker_listener", "simple_formation", "simple_line", "pistonball", "cooperative_pong")
    return family == "mamujoco" or base in always


def _reset_zombie_clock(env: Any) -> None:
    """Reset the clock of the next zombie at each episode; knights_archers_zombies keeps it, whatever the seed."""
    bare = env.unwrapped
    reinit = bare.reinit

    def reinit_with_clock() -> None:
        bare.zombie_spawn_interval.reset()
        reinit()

    bare.reinit = reinit_with_clock


def _keep_teams(env: Any) -> None:
    """Let `state()` of magent2 ask only for teams with living members; it fails for the others."""
    world = env.unwrapped
    package_state = world.state
    teams = world._all_handles

    def state() -> Any:
        world._all_handles = [team for team in teams if world.env.get_num(team)]
        try:
            return package_state()
        finally:
            world._all_handles = teams

    world.state = state


def _keep_state(env: Any) -> None:
    """Let fallen walkers of multiwalker observe zeros; the package asks them after their removal, and fails."""
    walkers = env.unwrapped.env
    obs_size = 24

    def get_last_obs() -> dict[int, Any]:
        return {i: w.get_observation() if w.hull else [0.0] * obs_size for i, w in enumerate(walkers.walkers)}

    walkers.get_last_obs = get_last_obs


mpe2, sisl, butterfly, magent2, mamujoco = (
    partial(make, family) for family in ("mpe2", "sisl", "butterfly", "magent2", "mamujoco")
)
