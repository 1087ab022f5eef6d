"""The learner's class: `MAPPO`, or a subclass of the user, by its name in `ppo.learner`."""

import inspect
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from mappo.algorithms.mappo import MAPPO
from mappo.config import Config
from mappo.config.config import is_code
from mappo.core.user_code import load_code
from mappo.envs import CUSTOM
from mappo.errors import UserError
from mappo.networks.encoders import find_encoder


def with_learner(config: Config, learner: type[MAPPO] | None) -> tuple[Config, type[MAPPO]]:
    """Return the settings with the name of the learner, and its class; import all named code.

    Call this before any environment is made: its code may change the current folder of the process.

    Args:
        config: `ppo.learner` names the learner, unless `learner` is given.
        learner: a class of the caller.

    Raises:
        UserError: the learner is no subclass of `MAPPO`, cannot be imported, or is not the learner of the config.
    """
    find_encoder(config.network.encoder)
    name = config.ppo.learner
    if learner is not None:
        _check_class(repr(learner), learner)
        found = name_of_class(learner)
        if name not in ("mappo", found):
            raise UserError(f"ppo.learner is {name}, but learner= is {found}: give one of them")
        return replace(config, ppo=replace(config.ppo, learner=found)), learner
    if name == "mappo":
        return config, MAPPO
    if not is_code(name):
        hint = (
            "give the class, mappo.train(..., learner=...)" if name.startswith(CUSTOM) else "use mappo, or module:Class"
        )
        raise UserError(f"ppo.learner {name} cannot be imported: {hint}")
    loaded = load_code(name, "a subclass of mappo.MAPPO", "MyMAPPO")
    _check_class(name, loaded)
    return config, cast("type[MAPPO]", loaded)


def name_of_class(learner: type[MAPPO]) -> str:
    """Return `module:Class` of a learner, as the command line finds it again; `custom/Class` if it could not.

    The module of a script is named by its file.
    """
    if learner is MAPPO:
        return "mappo"
    module = learner.__module__
    if module == "__main__":
        main: Any = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        module = spec.name if spec is not None else Path(getattr(main, "__file__", None) or "").stem
    if not module or "<" in learner.__qualname__:  # a notebook, or a class within a function
        return CUSTOM + learner.__name__
    return f"{module}:{learner.__qualname__}"


def _check_class(name: str, learner: object) -> None:
    """Raise `UserError` unless the learner is a subclass of `MAPPO`."""
    if not (inspect.isclass(learner) and issubclass(learner, MAPPO)):
        raise UserError(f"the learner {name} must be a subclass of mappo.MAPPO")
