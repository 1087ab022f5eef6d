"""Runs that go on: `mappo resume`, `mappo train --resume`, and runs that are complete already."""

from dataclasses import replace
from pathlib import Path

from mappo.cli.commands import Resume, Train
from mappo.cli.ending import make_missing
from mappo.cli.results import program_name
from mappo.config import Config
from mappo.core.user_code import allow_flag, check_code
from mappo.envs import CUSTOM
from mappo.errors import UserError
from mappo.runs.config_json import RESUMABLE_SETTINGS, read_run_settings
from mappo.runs.length import change_length, is_complete
from mappo.runs.names import named_path, seed_paths
from mappo.system.files import shell_path
from mappo.system.launched import is_quiet
from mappo.system.shutdown import CloseLimit
from mappo.system.stdio import say


def resumed_settings(command: Resume) -> tuple[str, Config]:
    """Return environment and settings of a run to resume; change its length first, if the command gives one.

    Raises:
        UserError: there is no such run, or its environment or length does not allow it.
    """
    env, config, _ = read_run_settings(command.run)
    if env.startswith(CUSTOM):
        raise UserError(f"{env} is an environment of yours: mappo.train(make_env, config, resume=True) goes on with it")
    check_code([env, *config.named_code], command.allow_code)
    if command.total_steps is not None:
        for note in change_length(command.run, command.total_steps, not is_quiet()):
            say(note)
        config = replace(config, run=replace(config.run, total_steps=command.total_steps))
    time_limit = config.run.time_limit if command.time_limit is None else command.time_limit or None
    run = replace(config.run, name=None, dir=str(command.run), progress=command.progress, time_limit=time_limit)
    return env, replace(config, run=run)


def trained_settings(command: Train) -> Config:
    """Return the settings of `mappo train`; `--resume` is the short form of `--run.exists resume`.

    Raises:
        UserError: `--resume` without the name of a run.
    """
    config = command.config
    if not command.resume:
        return config
    if config.run.name is None and config.run.dir is None:
        raise UserError("to resume, name the run: --run.name or --run.dir")
    return replace(config, run=replace(config.run, exists="resume"))


def has_nothing_left(env: str, config: Config, close_limit: CloseLimit) -> bool:
    """Return whether the run in the settings' directory is complete and scored; make what else is missing, and say so.

    Raises:
        UserError: all checkpoints of a complete run are damaged.
    """
    path = named_path(config, Path(config.run.dir or "runs"))
    if path is None:
        return False
    if not (path / "config.json").exists():
        if config.run.exists == "resume":
            say(f"{path} is not there yet: a new run begins")
        return False
    name, saved, _ = read_run_settings(path)
    if name != env or saved.differences(config, RESUMABLE_SETTINGS) or not is_complete(path, saved):
        return False  # the training names the differences
    from mappo.runs.checkpoint import load

    if any(
        load(seed_path).state["step"] < saved.end_step for seed_path in seed_paths(path, saved)
    ):  # damaged: trained again
        return False
    make_missing(path, saved, close_limit)
    program = program_name()
    run = shell_path(path)
    trust = allow_flag(env, *saved.named_code)
    say(
        f"{path} is complete: {saved.run.total_steps:,} steps, trained and scored; nothing is left to do.\n"
        f"  another score   {program} evaluate {run}{allow_flag(env, saved.network.encoder)}\n"
        f"  a longer run    {program} resume {run}{trust} --total-steps {2 * saved.run.total_steps}"
    )
    return True
