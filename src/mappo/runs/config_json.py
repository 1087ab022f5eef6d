"""The settings of a run in its `config.json`, and the format of its JSON files. Loads no torch."""

from pathlib import Path
from typing import Any, cast

from mappo._version import __version__
from mappo.config import Config
from mappo.config.bounds import read_field
from mappo.errors import UserError
from mappo.runs.own_files import check_no_links
from mappo.runs.steps import read_error
from mappo.system.safe_read import MAX_JSON, parse_json, quote, read_text

FORMAT = 2
_FILES = ("name", "dir", "exists", "keep_every", "score_episodes", "replay_episodes")
_PROCESSES = ("processes", "restarts", "lost_after")
_RUN = ("progress", "track", "threads", "graphs", "device", "time_limit", "on_nonfinite", *_FILES, *_PROCESSES)
_ENV = ("workers", "restart", "worker_timeout")
# Settings excluded from the run id: a resumed run may change them. Changing this set invalidates existing runs.
# A change of threads or device changes the rounding; another kind of device, the random streams.
RESUMABLE_SETTINGS = {("run", name) for name in _RUN} | {("env", name) for name in _ENV}


def read_run_settings(path: Path) -> tuple[str, Config, dict[str, Any]]:
    """Return environment name, config and all of `config.json` of a run directory.

    Raises:
        UserError: the directory is not a run, is damaged, or was written by a version with another format.
    """
    check_no_links(path)
    data = read_config_json(path)
    check_format(data.get("format"), f"{path}: config.json")
    try:
        config = Config.from_dict(read_field(data, "config", dict))
        name = read_field(data, "env", str)
        if len(name) > 1000 or not name.isprintable():
            raise UserError(f"no environment is called '{quote(name)}'")
    except (TypeError, ValueError, OverflowError) as error:  # UserError is a ValueError
        raise damaged(path, error) from None
    return name, config, data


def damaged(path: Path, error: Exception) -> UserError:
    """Return the error to raise for a damaged `config.json`."""
    return UserError(f"{path / 'config.json'} is damaged: {error}")


def read_config_json(path: Path) -> dict[str, Any]:
    """Return the object in the `config.json` of a run directory, of any format."""
    return read_json(path / "config.json", f"{path} is not a run directory")


def read_json(file: Path, problem: str) -> dict[str, Any]:
    """Return the JSON object in a file.

    Args:
        file: the JSON file.
        problem: the first words of the error, such as "X is not a run directory".

    Raises:
        UserError: the file is missing, cannot be read, or holds no object.
    """
    try:
        data = parse_json(read_text(file, MAX_JSON))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{problem}: there is no {file.name} in it") from None
    except (OSError, ValueError) as error:
        raise read_error(f"{problem}: {file.name} cannot be read ({error})", error) from None
    if not isinstance(data, dict):
        raise UserError(f"{problem}: {file.name} does not hold an object")
    return cast(dict[str, Any], data)


def check_format(version: Any, where: str) -> None:
    """Raise a UserError if a file has another format than the present format. The message says how to read it."""
    is_number = type(version) is int  # bool is a subclass of int
    if is_number and version == FORMAT:
        return
    if is_number and version > FORMAT:
        hint = f"it was written by a later version of mappo than {__version__}: use that version"
    elif is_number and version > 0:
        hint = "it was written by an earlier version of mappo: such runs cannot be read any more, train again"
    else:
        hint = "it was not written by mappo, or is damaged"
    raise UserError(f"{where} has format {quote(repr(version))}, this version reads {FORMAT}; {hint}")
