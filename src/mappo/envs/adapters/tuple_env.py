"""gymnasium environments with `Tuple` spaces, one part for each agent, brought to PettingZoo's Parallel API.

Level-based foraging (`lbf`) and the robotic warehouse (`rware`) have this form. Imports no torch: workers run it.
"""

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mappo.errors import UserError

_NOT_OPTIONS = ("kwargs", "map_info", "map_name", "render_mode")  # what the name says, and how it is drawn


class TupleEnv:
    """One environment whose spaces, observations, actions and rewards are tuples by agent, as dicts by agent.

    All agents live until the end. Both packages call a time limit a termination; which of the two it was is for
    `_finished` to say.

    Args:
        env: the bare environment: gymnasium's wrappers would only cost time.
    """

    shared_reward = False

    def __init__(self, env: Any) -> None:
        self.env = env
        self.possible_agents = [f"agent_{i}" for i in range(len(env.action_space))]
        self.agents: list[str] = []
        self._observed: dict[str, Any] = dict(zip(self.possible_agents, env.observation_space, strict=True))
        self._acted: dict[str, Any] = dict(zip(self.possible_agents, env.action_space, strict=True))

    def observation_space(self, agent: str) -> Any:
        return self._observed[agent]

    def action_space(self, agent: str) -> Any:
        return self._acted[agent]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts an episode: from the seed, else from where the random numbers are."""
        obs, _ = self.env.reset(seed=seed)
        self.agents = self.possible_agents.copy()
        return dict(zip(self.agents, obs, strict=True)), self._infos()

    def step(self, actions: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """Observations, rewards, terminations, truncations and infos; after the end five empty dicts."""
        names = self.agents
        if not names:
            return {}, {}, {}, {}, {}
        obs, rewards, terminated, truncated, _ = self.env.step([actions[agent] for agent in names])
        over = bool(terminated or truncated)
        finished = over and self._finished()
        if over:
            self.agents = []
        return (
            dict(zip(names, obs, strict=True)),
            dict(zip(names, map(float, rewards), strict=True)),
            dict.fromkeys(names, finished),
            dict.fromkeys(names, over and not finished),
            self._infos(),
        )

    def render(self) -> np.ndarray:
        """The game as it stands, uint8 `(H, W, 3)`.

        Raises:
            UserError: there is no way to draw here.
        """
        viewer = self._viewer()
        if viewer is not None:
            # Its first act is to clear the current window, which may be another game's.
            viewer.window.switch_to()
            return np.ascontiguousarray(self.env.render(mode="rgb_array"))
        try:
            draw_without_display()
            return np.ascontiguousarray(self.env.render(mode="rgb_array"))
        except Exception as error:  # pyglet has its own kinds, of which the names need a display to import
            raise UserError(
                f"{type(self.env).__name__} cannot be drawn here ({error}): pictures need EGL, on Debian and Ubuntu "
                "apt-get install libegl1 libgl1 libglu1-mesa"
            ) from error

    def close(self) -> None:
        self.env.close()

    def _finished(self) -> bool:
        """Whether the episode that is over ended by itself, not by a time limit."""
        raise NotImplementedError

    def _viewer(self) -> Any:
        """The package's window, once it has drawn."""
        raise NotImplementedError

    def _infos(self) -> dict[str, Any]:
        return {agent: {} for agent in self.possible_agents}


def draw_without_display() -> None:
    """pyglet decides when its `gl` is first imported whether it needs a display; only Linux has EGL to do without."""
    if "pyglet.gl" not in sys.modules:
        importlib.import_module("pyglet").options["headless"] = sys.platform == "linux"


def load(module: str, extra: str) -> Any:
    """A module of an optional package.

    Raises:
        UserError: it is not installed; `extra` of mappo brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{module.split('.')[0]} is not installed ({error}): pip install 'mappo[{extra}]'") from error


def build(
    name: str,
    constructor: Callable[..., Any],
    settings: Mapping[str, Any],
    options: Mapping[str, Any],
    parameters_of: Callable[..., Any] | None = None,
    also: Sequence[str] = (),
) -> Any:
    """Calls `constructor` with what the name stands for, and the user's options over that.

    Args:
        parameters_of: where the options are declared, if not at the constructor.
        also: options that the caller has seen to.

    Raises:
        UserError: it has no such option, or does not take the values.
    """
    declared = inspect.signature(parameters_of or constructor).parameters
    known = [*(p for p in declared if p not in _NOT_OPTIONS), *also]
    for option in options:
        if option not in known:
            raise UserError(f"{name} has no option {option!r}; there are: {', '.join(known)}")
    try:
        return constructor(**{**settings, **options})
    except (AssertionError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{name} cannot be made with the options {dict(options)}: {str(error) or type(error).__name__}"
        ) from error


def unknown(family: str, name: str, known: Iterable[str], form: str) -> UserError:
    """What to raise for a name that the family does not have, with the nearest ones.

    Args:
        form: how its names are built, or some of them.
    """
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(repr(f'{family}/{n}') for n in near)}?" if near else "."
    return UserError(f"unknown environment {f'{family}/{name}'!r}{hint} Names are like {form}")
