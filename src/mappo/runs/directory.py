"""Directory of a run: its path, and its `config.json`.

runs/NAME/config.json               the environment, the config, the spaces, versions and machine
          metrics.csv, timing.csv   see logger.py
          returns.csv, score.json   returns game by game: of each evaluation, and of the score (see scores.py)
          checkpoints/              see checkpoint.py
          curve.png, replay.gif     the learning curve, and episodes of the trained team
          report.html               a page with all of the run, see experiments/report
          tensorboard/              the metrics, for TensorBoard
          trackers/                 the records in trackers (`run.track`), see trackers/follow.py
          seed-N/                   with several seeds (`run.seeds`): a run of its own for each seed, with all files

`open_run` makes or resumes a directory, `read_run` reads one.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mappo._version import __version__
from mappo.config import Config
from mappo.config.bounds import read_field
from mappo.core.spec import Spec
from mappo.errors import UserError
from mappo.runs.config_json import FORMAT, RESUMABLE_SETTINGS, damaged, read_config_json, read_run_settings
from mappo.runs.names import free_path, named_path, runs_folder, seed_paths as seed_paths
from mappo.runs.own_files import holds_only_own_files
from mappo.runs.spec_json import check_readable, spec_from_dict, spec_to_dict
from mappo.runs.steps import has_checkpoint
from mappo.system import hardware
from mappo.system.files import error_text, shell_path, write_text

# Where the weights of a run come from, as `config.json` records it: `run`, `step`, `sha256`. None: random weights.
Record = dict[str, Any] | None
Sources = Callable[[], Sequence[Record]]  # for each seed


def open_run(
    name: str, config: Config, spec: Spec, resume: bool, folder: Path | None = None, sources: Sources | None = None
) -> Path:
    """Make the directory of a new run, or check the directory of a run to resume. Return its absolute path.

    Args:
        name: the environment's name.
        config: the run's settings.
        spec: the environment's agents and spaces.
        resume: resume the run in the directory.
        folder: result of `runs_folder`; by default of the current folder.
        sources: called for a new run; by default all weights are random.

    Raises:
        UserError: a new run's directory exists; or a resumed run is missing, or has another config.
    """
    folder = folder or runs_folder(config)
    path = named_path(config, folder)
    if resume:
        if path is None:
            raise UserError("to resume, name the run: --run.name or --run.dir")
        _check_resumable(path, name, config, spec)
        return path
    if path is None:
        path = free_path(folder, name)
    found = [None] * config.run.seeds if sources is None else sources()  # may raise: ahead of the directory
    create_run(path, name, config, spec, found[0] if config.run.seeds == 1 else None)
    create_seed_runs(path, name, config, spec, lambda: found)
    return path


def create_seed_runs(path: Path, name: str, config: Config, spec: Spec, sources: Sources) -> None:
    """Make the directories of several seeds that are missing in a run; arguments as of `open_run`."""
    paths = seed_paths(path, config)
    found = [None] * len(paths) if all(seed_path.exists() for seed_path in paths) else sources()
    for seed, seed_path, source in zip(config.run.all_seeds, paths, found, strict=True):
        if not seed_path.exists():
            seed_config = replace(config, run=replace(config.run, seed=seed, seeds=1, name=None, dir=None))
            create_run(seed_path, name, seed_config, spec, source)


def create_run(path: Path, env: str, config: Config, spec: Spec, source: Record = None) -> None:
    """Make the directory of a new run, and write `config.json`, with the source of the weights if there is one.

    Raises:
        UserError: the directory exists, or cannot be written.
    """
    data = {
        "format": FORMAT,
        "mappo": __version__,
        "torch": torch.__version__,
        "machine": _describe_machine(),
        "env": env,
        "config": config.to_dict(),
        "spec": spec_to_dict(spec),
    }
    if source is not None:
        data["source"] = source
    data["id"] = _run_id(data)
    text = json.dumps(data, indent=2) + "\n"
    check_readable(text)
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        raise UserError(f"{path} exists{_existing_run_hint(path)}") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise UserError(f"cannot make {path}: {error_text(error)}") from None
    try:
        write_text(path / "config.json", text)
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)  # made above: remove it, so that the name is free again
        raise UserError(f"cannot write {path / 'config.json'}: {error_text(error)}; nothing was begun") from None


def _describe_machine() -> dict[str, Any]:
    """Return facts about this machine, with the GPU if this process uses one."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_initialized() else None
    return {**hardware.describe_machine(), "gpu": gpu}


def _existing_run_hint(path: Path) -> str:
    """Return the advice for a new run in the place of something else. Only an empty run may be deleted."""
    other = "choose another --run.name or --run.dir"
    try:
        is_run = read_config_json(path).keys() >= {"format", "env", "config"}
    except UserError:
        is_run = False
    if not is_run:
        return f" and is not a run: {other}"
    seeds = sorted(path.glob("seed-*")) or [path]
    begun = [run for run in seeds if has_checkpoint(run)]
    if begun:
        resumable = path if begun == seeds else begun[0]
        return f": {other}, or go on with it: mappo resume {shell_path(resumable)}"
    if holds_only_own_files(path):
        return f": {other}, or delete it, for no checkpoint was saved in it"
    return f", without a checkpoint, and holds other files too: {other}"


def _run_id(data: dict[str, Any]) -> str:
    """Return the hash of everything that determines a run's numbers. Runs with equal ids have equal checkpoints."""
    config = {section: dict(options) for section, options in data["config"].items()}
    for section, name in RESUMABLE_SETTINGS:
        config.get(section, {}).pop(name, None)
    if "first_total_steps" in data:  # the length was changed, and the checkpoints before belong to the run
        config["run"]["total_steps"] = data["first_total_steps"]
    facts = [data["env"], config, data["spec"], *([data["source"]] if "source" in data else [])]
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def saved_run_id(path: Path) -> str | None:
    """Return the id in a run's `config.json`; None for runs of older versions."""
    return read_config_json(path).get("id")


def saved_source(path: Path) -> dict[str, Any]:
    """Return where the weights of a run come from: its directory `run`, the `step`, and `sha256` of the weights.

    Raises:
        UserError: `config.json` holds no such record.
    """
    try:
        source = read_field(read_config_json(path), "source", dict)
        for name, kind in (("run", str), ("step", int), ("sha256", str)):
            read_field(source, name, kind)
    except UserError as error:
        raise UserError(f"{path / 'config.json'} does not record the source of its weights: {error}") from None
    return source


def read_run(path: Path) -> tuple[str, Config, Spec]:
    """Return environment name, config and spaces of a run directory.

    Raises:
        UserError: the directory is not a run, is damaged, or was written by a version with another format.
    """
    name, config, data = read_run_settings(path)
    try:
        spec = spec_from_dict(read_field(data, "spec", dict))
        if config.env.num_agents not in (None, spec.num_agents):
            raise UserError(f"'num_agents' is {config.env.num_agents}, for {spec.num_agents} agents")
    except (TypeError, ValueError, OverflowError) as error:  # UserError is a ValueError
        raise damaged(path, error) from None
    return name, config, spec


def _check_resumable(path: Path, name: str, config: Config, spec: Spec) -> None:
    """Raise a UserError unless the run in `path` has the same environment, settings and spaces."""
    old_name, old_config, old_spec = read_run(path)
    data = read_config_json(path)
    if "id" in data and data["id"] != _run_id(data):
        raise UserError(
            f"{path / 'config.json'} is damaged, or was changed since the run was made: restore the file; if the "
            f'change is meant, delete its "id"'
        )
    differences = [] if old_name == name else [f"env {old_name}, not {name}"]
    differences += old_config.differences(config, RESUMABLE_SETTINGS)
    if differences:
        is_longer = old_config.run.total_steps != config.run.total_steps
        length = f"; for another length add --total-steps {config.run.total_steps}" if is_longer else ""
        hint = f"to continue with the settings in its config.json: mappo resume {shell_path(path)}{length}"
        if not any(map(has_checkpoint, seed_paths(path, old_config))):
            hint = "it holds no checkpoint: to begin again with these settings leave out --resume (--run.exists resume)"
        raise UserError(f"{path} was made with other settings: {'; '.join(differences)}; {hint}")
    if difference := old_spec.mismatch(spec):
        raise UserError(f"{path} was made in another environment: {difference}")
