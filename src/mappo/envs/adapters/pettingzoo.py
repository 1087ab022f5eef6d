"""Packages of PettingZoo's Parallel API, by name. Loads no torch.

family       package               extra       names
mpe2         mpe2                  mpe         simple_spread_v3, ...
sisl         pettingzoo            sisl        multiwalker_v9, pursuit_v5
butterfly    pettingzoo            butterfly   knights_archers_zombies_v11, pistonball_v6, cooperative_pong_v6
magent2      magent2               magent      adversarial_pursuit_v4, battle_v4, ...
mamujoco     gymnasium-robotics    mujoco      HalfCheetah-2x3, Ant-4x2, Humanoid-9|8, ...: a robot, and its parts

Options are those of the package, and so are their defaults: the episodes of mpe2 have 25 steps (`max_cycles`), those of
multiwalker, pursuit and magent2 500, of mamujoco 1,000 (`max_episode_steps`), where an agent sees its own joints and
the next ones (`agent_obsk=1`).

Where teams play against each other (mpe2's `simple_tag_v3`, magent2's battles), one policy learns to maximise the sum
over all agents: that is not play against an opponent.
"""

import contextlib
import ctypes.util
import difflib
import importlib
import inspect
import io
import os
import pkgutil
import re
import sys
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

from mappo.envs.registry import FAMILIES
from mappo.envs.vector.time_limit import TimeLimit
from mappo.errors import UserError

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
# Whose signature tells the options, where what makes the environment takes any.
_SIGNED = {"multiwalker_v9": "_env", "pursuit_v5": "_env", "cooperative_pong_v6": "CooperativePong"}
_NOT_OPTIONS = {"self", "render_mode", "randomizer", "scenario", "agent_conf"}


def names(family: str) -> list[str]:
    """All that the family's package holds, found without importing each.

    Raises:
        UserError: the package is missing.
    """
    package = _package(family)
    if family == "mamujoco":
        return list(_ROBOTS)
    if family in ("sisl", "butterfly"):
        registered = [key.split("/") for key in package.parallel_registry]
        return sorted(re.sub(r"-v(\d+)$", r"_v\1", name) for space, name in registered if space == family)
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if re.search(r"_v\d+$", m.name))


def make(family: str, name: str, options: Mapping[str, Any], render: bool = False) -> Any:
    """One environment. It has `shared_reward = True` where all agents are given one number, the team's.

    Args:
        family: one of those above.
        name: what follows the family, such as `simple_spread_v3`.
        options: keyword arguments of the package's own constructor.
        render: it will be asked for pictures.

    Raises:
        UserError: the package is missing, it has no such environment, or that has no such option.
    """
    known = names(family)
    if name not in known and not (family == "mamujoco" and _SEGMENTS.fullmatch(name)):
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(near)}?" if near else "."
        raise UserError(f"{family} has no environment {name!r}{hint} There are: {', '.join(known)}")
    module, fixed = _module(family, name), dict[str, Any]()
    if family == "mamujoco":
        fixed = dict(zip(("scenario", "agent_conf"), name.split("-", 1), strict=True))
    blind = name.startswith(("pistonball", "cooperative_pong"))  # agents see the picture, drawn for `render_mode` alone
    taken = _options(family, name, module)
    if taken and (unknown := [o for o in options if o not in taken]):
        raise UserError(f"{family}/{name} has no option {', '.join(unknown)}; there are: {', '.join(taken)}")
    try:
        with _hushed(family):
            env = module.parallel_env(**fixed, **options, render_mode="rgb_array" if render or blind else None)
    except Exception as error:  # what a package raises for a wrong value is its own affair
        given = f" with {dict(options)}" if options else ""
        raise UserError(f"{family}/{name} cannot be made{given}: {type(error).__name__}: {error}") from error
    if _shares(family, name, options):
        env.shared_reward = True
    if name.startswith("knights_archers_zombies"):
        _begin_anew(env)
    if name.startswith("multiwalker"):
        _keep_state(env)
        return TimeLimit(env, options.get("max_cycles", 500), cuts=False)  # its own limit, which it calls an end
    if family == "magent2":
        _keep_teams(env)
    if family == "mpe2":
        # All observations, side by side, observed once more: the critic has these already, and a step costs a tenth.
        env.state_space, env.state = None, None
    return env


def _package(family: str) -> Any:
    return _imported(family, "magent2.environments" if family == "magent2" else FAMILIES[family].module)


def _module(family: str, name: str) -> Any:
    """Where `parallel_env` is."""
    if family in ("sisl", "butterfly"):
        # Modules called NAME_vN are deprecated there, in favour of the registry.
        spec = _package(family).parallel_registry[re.sub(r"_v(\d+)$", r"-v\1", f"{family}/{name}")]
        return _imported(family, cast(str, spec.entry_point).split(":")[0])
    parents = {"mpe2": f"mpe2.{name}", "magent2": f"magent2.environments.{name}"}
    return _imported(family, parents.get(family, "gymnasium_robotics.envs.multiagent_mujoco.mamujoco_v1"))


def _imported(family: str, path: str) -> Any:
    _headless(family)
    try:
        # They tell of their next versions, and Box2D crashes where its deprecations are errors.
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return importlib.import_module(path)
    except ImportError as error:
        raise UserError(
            f"{FAMILIES[family].package} is not installed, or not with all that {family} needs ({error}): "
            f"pip install 'mappo[{FAMILIES[family].extra}]'"
        ) from None


def _headless(family: str) -> None:
    """Pictures without a screen, unless the user set these. EGL is Linux's, and without it the import would fail."""
    if family != "mamujoco":
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    elif "MUJOCO_GL" not in os.environ and sys.platform == "linux" and ctypes.util.find_library("EGL"):
        os.environ["MUJOCO_GL"] = "egl"


@contextlib.contextmanager
def _hushed(family: str) -> Any:
    """MuJoCo writes warnings about its models into a file where the user happens to be: not so."""
    if family != "mamujoco":
        yield
        return
    mujoco = importlib.import_module("mujoco")
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(str)  # takes it, and does nothing
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


def _options(family: str, name: str, module: Any) -> list[str]:
    """What may be given; nothing where that cannot be told."""
    makers: list[Any] = [getattr(module, _SIGNED.get(name, "raw_env"), module.parallel_env)]
    extra = list[str]()
    if family == "magent2":
        makers = [module.parallel_env]
        own = sys.modules[module.parallel_env.__module__]  # rewards are keywords of any name, defaults in a dict
        extra = [*getattr(own, "default_reward_args", {}), *getattr(own, "default_env_args", {})]
    if family == "mamujoco":
        robot = "Ant" if "Ant" in name else "Swimmer" if "Swimmer" in name else name.split("-")[0]
        gymnasium: Any = importlib.import_module("gymnasium")
        if f"{robot}-v5" in gymnasium.registry:
            makers.append(gymnasium.envs.registration.load_env_creator(gymnasium.registry[f"{robot}-v5"].entry_point))
            extra = ["max_episode_steps"]
    parameters = [p for m in makers for p in inspect.signature(m).parameters.values()]
    named = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD or p.kind is p.KEYWORD_ONLY]
    return sorted({*named, *extra} - _NOT_OPTIONS)


def _shares(family: str, name: str, options: Mapping[str, Any]) -> bool:
    """All agents are given one number, as the packages' sources have it.

    speaker_listener: the listener's distance. formation, line: nothing but the joint reward. spread, reference: where
    nothing is weighed by the agents' own (`local_ratio=0`). multiwalker, pursuit: the mean over agents, unless
    `shared_reward=False`. pistonball, cooperative_pong: the ball's. mamujoco: the robot's.
    """
    base = name.rsplit("_v", 1)[0]
    if base in ("simple_spread", "simple_reference"):
        return options.get("local_ratio", 0.5) == 0
    if base in ("multiwalker", "pursuit"):
        return bool(options.get("shared_reward", True))
    always = ("simple_speaker_listener", "simple_formation", "simple_line", "pistonball", "cooperative_pong")
    return family == "mamujoco" or base in always


def _begin_anew(env: Any) -> None:
    """knights_archers_zombies carries the clock of the next zombie into the next episode, whatever its seed."""
    game = env.unwrapped
    begin = game.reinit

    def anew() -> None:
        game.zombie_spawn_interval.reset()
        begin()

    game.reinit = anew


def _keep_teams(env: Any) -> None:
    """magent2's `state()` fails where a team has nobody left: it is asked for those that have."""
    world = env.unwrapped
    whole, teams = world.state, world._all_handles

    def state() -> Any:
        world._all_handles = [team for team in teams if world.env.get_num(team)]
        try:
            return whole()
        finally:
            world._all_handles = teams

    world.state = state


def _keep_state(env: Any) -> None:
    """multiwalker asks walkers for what they see after it removed them (`remove_on_fall`), and fails: they give 0."""
    walkers = env.unwrapped.env
    size = 24

    def seen() -> dict[int, Any]:
        return {i: w.get_observation() if w.hull else [0.0] * size for i, w in enumerate(walkers.walkers)}

    walkers.get_last_obs = seen


mpe2, sisl, butterfly, magent2, mamujoco = (
    partial(make, family) for family in ("mpe2", "sisl", "butterfly", "magent2", "mamujoco")
)
