"""Groups of runs: seeds with equal settings are a group, named by the settings that differ. Loads no torch."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mappo.config import Config
from mappo.config.bounds import option_name
from mappo.errors import UserError, suggest
from mappo.experiments.compare.record import Record
from mappo.runs.config_json import RESUMABLE_SETTINGS

# Settings that change the episodes: their returns cannot be compared with others.
_TASK = ("env.num_agents", "env.options", "env.time_limit")
# Settings without effect on learning.
_NO_EFFECT = {("run", name) for name in ("seed", "seeds", "eval_interval", "eval_episodes")} | RESUMABLE_SETTINGS
_MISSING = "-"
ALL = "all runs"

# Records by environment, then by group; both in the order of their first record.
Groups = dict[str, dict[str, list[Record]]]


def group_records(records: Sequence[Record], by: Sequence[str] = ()) -> Groups:
    """Return the records by environment and by group.

    Records of a group differ in nothing but the seed. Its name is made of the settings that differ between records of
    the same environment. A name given by the user goes first.

    Args:
        records: the records.
        by: settings that make the groups, such as `ppo.actor-lr`; all others may then differ within a group.

    Raises:
        UserError: there is no such setting.
    """
    by_task: dict[str, list[Record]] = {}
    for record in records:
        by_task.setdefault(_task_name(record), []).append(record)
    return {task: _group(found, by) for task, found in by_task.items()}


def _group(records: Sequence[Record], by: Sequence[str]) -> dict[str, list[Record]]:
    settings = [settings_of(record.config) for record in records]
    names = [_setting_name(name, settings[0]) for name in by] or _varying(records, settings)
    groups: dict[str, list[Record]] = {}
    for record, values in zip(records, settings, strict=True):
        label = record.label if record.label and not by else describe(values, names) or ALL
        groups.setdefault(label, []).append(record)
    return groups


def _varying(records: Sequence[Record], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the settings that differ between records without a name given by the user."""
    unnamed = [values for record, values in zip(records, settings, strict=True) if not record.label]
    names = dict.fromkeys(name for values in unnamed for name in values)
    return [name for name in names if len({repr(values.get(name)) for values in unnamed}) > 1]


def mixed_settings(records: Sequence[Record]) -> list[str]:
    """Return the options that differ within a group, as the command line spells them."""
    settings = [settings_of(record.config) for record in records]
    names = dict.fromkeys(name for values in settings for name in values)
    return [_option(name) for name in names if len({repr(values.get(name)) for values in settings}) > 1]


def settings_of(config: Config) -> dict[str, Any]:
    """Return the settings with an effect on learning, by names such as `ppo.gamma`."""
    sections = config.to_dict().items()
    values = {f"{s}.{name}": value for s, options in sections for name, value in options.items()}
    hidden = {f"{section}.{name}" for section, name in _NO_EFFECT}
    return {name: value for name, value in values.items() if name not in hidden and name not in _TASK}


def _setting_name(name: str, values: Collection[str]) -> str:
    """Return the name of a setting as in `settings_of`, from its spelling on the command line."""
    spelled = name.removeprefix("--").replace("-", "_")
    if spelled not in values:
        options = [_option(value) for value in values]
        raise UserError(f"there is no setting {name!r} to group by{suggest(name, options)}")
    return spelled


def describe(values: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return settings as a text, such as `critic-input own, gamma 0.9`."""
    return ", ".join(f"{_option(name).partition('.')[2]} {format_value(values.get(name))}" for name in names)


def _option(name: str) -> str:
    return option_name(*name.split(".", 1))


def format_value(value: Any) -> str:
    """Return the value of a setting as a short text."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return "x".join(map(str, value)) or _MISSING  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, float):
        return f"{value:g}"
    return _MISSING if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _task_name(record: Record) -> str:
    """Return the name of an environment, with the options that change its episodes."""
    env = record.config.env
    changes = [f"{env.num_agents} agents"] if env.num_agents else []
    changes += env.options
    changes += [f"time limit {env.time_limit}"] if env.time_limit else []
    return record.env + (f" ({', '.join(changes)})" if changes else "")
