"""What a run's policy is worth, and pictures of it."""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from mappo import envs
from mappo.config import EnvConfig
from mappo.core.protocols import Environment
from mappo.deploy.load import read_actor
from mappo.errors import UserError
from mappo.evaluation.episodes import replay
from mappo.evaluation.gif import write_gif
from mappo.evaluation.statistics import SCORE_SEED, score
from mappo.runs.directory import read_run, seed_paths
from mappo.system.files import error_text
from mappo.system.shutdown import closing


def evaluate_run(
    path: Path | str,
    episodes: int = 320,
    *,
    on: str | None = None,
    checkpoint: str = "last",
    sampled: bool = False,
    env: Any = None,
    seed: int = SCORE_SEED,
    workers: int | None = None,
    allow_code: bool = False,
) -> dict[str, Any]:
    """Plays a run's policy, or those of its seeds, and the baselines of its environment, on the same reset seeds.

    Args:
        path: the run directory. episodes: how many games.
        on: a package that holds the original environment, such as `mpe2`, to score on that.
        checkpoint: `last` or `best`. sampled: draw actions, in place of the likeliest.
        env: what to play in, as for `train`; needed only where the run's environment has no name.
        workers: as `env.workers`, of environments in Python; None: as in training.
        allow_code: import the function that the run's `config.json` names as its environment (`module:function`).

    Returns:
        `env`, `package_version`, `policy`, `checkpoint`, and what `playing.score` gives.

    Raises:
        UserError: the run, the checkpoint or the package is missing or damaged.
    """
    if episodes < 1:
        raise UserError(f"episodes must be at least 1, got {episodes}")
    name, config, spec = read_run(Path(path))
    paths = seed_paths(Path(path), config)
    actors, found = zip(*(read_actor(own, checkpoint, sampled) for own in paths), strict=True)
    if env is None and name.startswith("custom/"):
        raise UserError(f"{name} has no name that mappo knows: give the environment, run.evaluate(env=make_env)")
    if env is not None and on is not None:
        raise UserError("give env, or on, but not both")
    if env is None:
        check_code(name, allow_code)
    where = config.env if workers is None else replace(config.env, workers=workers)
    with _make_env(name if env is None else env, name, where, episodes, on) as (name, env):
        if difference := spec.mismatch(env.spec):
            raise UserError(f"{path} was trained in another environment: {difference}")
        about = {
            "env": name,
            "package_version": envs.package_version(name),
            "policy": "sampled" if sampled else "greedy",
            "checkpoint": checkpoint,
            "step": min(saved.state["step"] for saved in found),
        }
        return about | score(env, name, actors, episodes, seed)


@contextmanager
def _make_env(
    env: Any, name: str, config: EnvConfig, episodes: int, on: str | None
) -> Generator[tuple[str, Environment]]:
    """The name of the environment to play in, and some of it side by side; what was made here is closed behind."""
    if envs.is_batched(env):
        yield name, env
        return
    env_options = config.env_options
    if not isinstance(env, str):
        made = envs.from_python(env, episodes, env_options)
    else:
        if on is not None:
            env_options = replace(env_options, options=envs.translate_options(env, env_options.options))
            env = envs.original_name(env, on)
        name, made = env, envs.make_envs(env, envs.num_envs_for(env, episodes), env_options)
    with closing(made) if isinstance(env, str) or callable(env) else nullcontext():  # what was given is not closed
        yield name, made


def check_code(name: str, allowed: bool) -> None:
    """Raises UserError where a file names a function to import, and that is not `allowed`."""
    if envs.is_code(name) and not allowed:
        raise UserError(
            f"config.json names code to import, {name}: look at it, and if you trust it, add --allow-code "
            f"(from Python, allow_code=True)"
        )


def draw_replay(
    path: Path, episodes: int = 4, seed: int = SCORE_SEED, checkpoint: str = "last", allow_code: bool = False
) -> Path:
    """Writes `replay.gif` into the run directory: greedy games (of its first seed) from the seeds of scores.

    Raises:
        UserError: there is no such run, or its environment cannot draw.
    """
    name, config, _ = read_run(path)
    if not 1 <= episodes <= 100:
        raise UserError(f"a replay shows 1 to 100 games, got {episodes}")
    if name.startswith("custom/"):
        raise UserError(f"{name} has no name that mappo knows: its games cannot be drawn from here")
    check_code(name, allow_code)
    actor, _ = read_actor(seed_paths(path, config)[0], checkpoint)
    out = path / "replay.gif"
    with closing(envs.make_envs(name, 1, config.env.env_options, render=True)) as env:
        frames = replay(env, actor, range(seed, seed + episodes))
    try:
        write_gif(frames, out)
    except ValueError as error:
        raise UserError(f"the pictures of {name} make no replay: {error}") from None
    except OSError as error:
        raise UserError(f"cannot write {out}: {error_text(error)}") from None
    return out
