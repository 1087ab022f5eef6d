"""The directory of a run: its place, and its `config.json`.

runs/NAME/config.json               the environment, the config and the spaces
          metrics.csv, timing.csv   see logger.py
          checkpoints/              see checkpoint.py
          seed-N/                   of several seeds (`run.seeds`) all but the first of these, each a run of its own
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import torch

from mappo._version import __version__
from mappo.config import Config
from mappo.core.spec import Spec
from mappo.errors import UserError
from mappo.runs.spec_json import field, spec_from_dict, spec_to_dict
from mappo.system.files import error_text, write_text
from mappo.system.safe_read import MAX_JSON, parse_json, quote, read_text

FORMAT = 2
_RUN = ("progress", "threads", "graphs", "device", "name", "dir", "keep_every", "time_limit", "on_nonfinite")
# What a run's id leaves out: never another set, or every run that is there would seem to have been changed.
_NOT_IN_ID = {("run", name) for name in _RUN} | {("env", name) for name in ("workers", "restart", "worker_timeout")}
# What a resumed run may change. Threads and device change the rounding; another kind of device, the random streams.
RESUMABLE_SETTINGS = _NOT_IN_ID


def open_run(name: str, config: Config, spec: Spec, resume: bool) -> Path:
    """The run's directory: a new one, or on `resume` the one that is there.

    Raises:
        UserError: it exists and is not resumed, or is resumed and missing or of another config.
    """
    run = config.run
    given = Path(run.dir) if run.dir else Path("runs") / run.name if run.name else None
    if resume:
        if given is None:
            raise UserError("to resume, name the run: --run.name or --run.dir")
        old_name, old, old_spec = read_run(given)
        _check_unchanged(given)
        _check_settings_match(given, (old_name, old), (name, config))
        if difference := old_spec.mismatch(spec):
            raise UserError(f"{given} was made in another environment: {difference}")
        return given
    if given is not None:
        _create(given, name, config, spec)
        return given
    stem = re.sub(r"[^\w.-]", "-", name)
    number = 1
    while (path := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    _create(path, name, config, spec)
    return path


def _create(path: Path, name: str, config: Config, spec: Spec) -> None:
    """The directory of a run, and those of its seeds, each of which is a run of its own."""
    create_run(path, name, config, spec)
    for seed, own in zip(config.run.all_seeds, seed_paths(path, config), strict=True):
        if own != path:
            run = replace(config.run, seed=seed, seeds=1, name=None, dir=None)
            create_run(own, name, replace(config, run=run), spec)


def seed_paths(path: Path, config: Config) -> list[Path]:
    """Where the seeds of a run are: one seed in the run's own directory, several in `seed-N` of it."""
    run = config.run
    return [path] if run.seeds == 1 else [path / f"seed-{s}" for s in run.all_seeds]


def create_run(path: Path, env: str, config: Config, spec: Spec) -> None:
    """Makes the directory of a new run, and writes `config.json`.

    Raises:
        UserError: it exists, or cannot be written.
    """
    described = {
        "format": FORMAT,
        "mappo": __version__,
        "torch": torch.__version__,
        "env": env,
        "config": config.to_dict(),
        "spec": spec_to_dict(spec),
    }
    described["id"] = _identity(described)
    text = json.dumps(described, indent=2) + "\n"
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        own = [path] if not (seeds := list(path.glob("seed-*"))) else seeds
        saved = all(any(each.glob("checkpoints/[0-9]*")) for each in own)
        lacks = "no checkpoint was saved in it" if not saved else "it holds no config.json"
        goes = saved and (path / "config.json").exists()
        way = f"go on with it: mappo resume {path}" if goes else f"delete it, for {lacks}"
        raise UserError(f"{path} exists: choose another --run.name, or {way}") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file system takes
        raise UserError(f"cannot make {path}: {error_text(error)}") from None
    try:
        write_text(path / "config.json", text)
    except OSError as error:
        for left in (*path.iterdir(), path):  # so that its name is free again
            with suppress(OSError):
                left.rmdir() if left == path else left.unlink()
        raise UserError(f"cannot write {path / 'config.json'}: {error_text(error)}; nothing was begun") from None


def _identity(described: dict[str, Any]) -> str:
    """Of what a run's numbers come from: where two runs have the same, so are their checkpoints."""
    config = {section: dict(options) for section, options in described["config"].items()}
    for section, name in _NOT_IN_ID:
        config.get(section, {}).pop(name, None)
    text = json.dumps([described["env"], config, described["spec"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check_unchanged(path: Path) -> None:
    file = path / "config.json"
    data = read_json(file, f"{path} is not a run directory")
    if "id" in data and data["id"] != _identity(data):
        raise UserError(
            f"{file} is damaged, or was changed since the run was made: put back what it held; if the change is meant, "
            f'delete its "id"'
        )


def identity(path: Path) -> str | None:
    """Which run a directory is, as its checkpoints name it; None of one that older versions made."""
    return read_json(path / "config.json", f"{path} is not a run directory").get("id")


def read_run(path: Path) -> tuple[str, Config, Spec]:
    """Environment, config and spaces of a run directory.

    Raises:
        UserError: it is not one, or was written by a later version.
    """
    check_no_links(path)
    data = read_json(path / "config.json", f"{path} is not a run directory")
    check_format(data.get("format"), f"{path}: config.json")
    try:
        config = Config.from_dict(field(data, "config", dict))
        name, spec = field(data, "env", str), spec_from_dict(field(data, "spec", dict))
        if len(name) > 1000 or not name.isprintable():
            raise UserError(f"no environment is called '{quote(name)}'")
        if config.env.num_agents not in (None, spec.num_agents):
            raise UserError(f"'num_agents' is {config.env.num_agents}, for {spec.num_agents} agents")
        return name, config, spec
    except (TypeError, ValueError, OverflowError) as error:  # UserError is one
        raise UserError(f"{path / 'config.json'} is damaged: {error}") from None


def check_format(told: Any, where: str) -> None:
    """Raises UserError where a file's format is not the one that is read, and says which version reads it."""
    if told == FORMAT and type(told) is int:
        return
    if type(told) is int and told > FORMAT:
        way = f"it was written by a later version of mappo than {__version__}: pip install --upgrade mappo"
    elif type(told) is int and told > 0:
        way = "it was written by an earlier version of mappo, whose runs cannot be read any more: train it again"
    else:
        way = "it was not written by mappo, or is damaged"
    raise UserError(f"{where} has format {quote(repr(told))}, this version reads {FORMAT}; {way}")


def _check_settings_match(path: Path, old: tuple[str, Config], new: tuple[str, Config]) -> None:
    differences = [f"env {old[0]}, not {new[0]}"] if old[0] != new[0] else []
    for section in fields(Config):
        before, after = getattr(old[1], section.name), getattr(new[1], section.name)
        for own in fields(before):
            a, b = getattr(before, own.name), getattr(after, own.name)
            if a != b and (section.name, own.name) not in RESUMABLE_SETTINGS:
                differences.append(f"{section.name}.{own.name} {a}, not {b}")
    if differences:
        raise UserError(f"{path} was made with other settings: {'; '.join(differences)}; its own are in config.json")


def read_json(file: Path, otherwise: str) -> dict[str, Any]:
    """The object that a file holds; else a UserError that begins with `otherwise`."""
    try:
        data = parse_json(read_text(file, MAX_JSON))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{otherwise}: there is no {file.name} in it") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{otherwise}: {file.name} cannot be read ({error})") from None
    if not isinstance(data, dict):
        raise UserError(f"{otherwise}: {file.name} does not hold an object")
    return cast(dict[str, Any], data)


# What mappo reads or writes in a run directory, beside its own names that begin with a dot, and all of its folders.
_OWN = re.compile(r"config\.json|metrics\.csv|timing\.csv|curve\.png|replay\.gif|checkpoints|tensorboard|seed-\d+|\..*")


_FOLDERS = re.compile(r"checkpoints|tensorboard|seed-\d+|\.?\d{12,18}(\.tmp)?")


def check_no_links(run: Path) -> None:
    """Whatever mappo reads or writes in a run directory must be a file or a directory: nothing leads elsewhere.

    Raises:
        UserError: something is a link, a pipe, a device.
    """
    for entry in _entries(run, _OWN):
        mode = entry.stat(follow_symlinks=False).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            what = "a symbolic link" if stat.S_ISLNK(mode) else "a pipe, a socket or a device"
            raise UserError(f"{quote(entry.path)} is {what}: put what it stands for in its place, or remove it")


def _entries(folder: Path, names: re.Pattern[str], depth: int = 0) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if names.fullmatch(entry.name)]
    except (OSError, ValueError):  # told where it is read
        return
    for entry in entries:
        yield entry
        if depth < 3 and _FOLDERS.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            inside = _OWN if entry.name.startswith("seed-") else re.compile(".*", re.DOTALL)
            yield from _entries(Path(entry.path), inside, depth + 1)
