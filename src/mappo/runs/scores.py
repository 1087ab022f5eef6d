"""Score of a run in its `score.json`: the returns of the final policies and of the baselines, episode by episode.

`evaluate_run` writes the file after it has scored the last checkpoint. Loads no torch.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from mappo.config.bounds import read_field
from mappo.errors import UserError
from mappo.runs.config_json import FORMAT, check_format, read_json
from mappo.system.files import error_text, write_text
from mappo.system.safe_read import quote

# Episodes kept of each evaluation and of each policy: the files of a run stay small.
MAX_KEPT = 10_000
# Larger returns are damage: sums and squares of many must stay finite.
MAX_RETURN = 1e100


@dataclass(frozen=True)
class Score:
    """Team returns of policies on the episodes of consecutive reset seeds.

    Args:
        env: environment of the episodes, such as the original of a twin.
        package_version: version of the environment.
        step: environment steps of the checkpoint.
        seed: reset seed of the first episode.
        returns: a return for each episode, by policy: `greedy` and `sampled`.
        baselines: the same, of each baseline.
    """

    env: str
    package_version: str
    step: int
    seed: int
    returns: Mapping[str, Sequence[float]]
    baselines: Mapping[str, Sequence[float]]

    @property
    def num_episodes(self) -> int:
        """Return the number of episodes of each policy."""
        return min((len(values) for values in self.returns.values()), default=0)


def save_score(run: Path, score: Score) -> None:
    """Write the score of a run (of one seed), unless a score of the same step has more episodes.

    A directory that cannot be written costs a warning.
    """
    try:
        former = read_score(run)
    except UserError:  # damaged: replaced
        former = None
    if former is not None and former.step == score.step and former.num_episodes > score.num_episodes:
        return
    data = asdict(score)
    for name in ("returns", "baselines"):
        data[name] = {policy: list(values[:MAX_KEPT]) for policy, values in data[name].items()}
    try:
        write_text(run / "score.json", json.dumps({"format": FORMAT, **data}) + "\n")
    except OSError as error:
        warnings.warn(f"the score is not kept in {run / 'score.json'}: {error_text(error)}", stacklevel=2)


def read_score(run: Path) -> Score | None:
    """Return the score of a run (of one seed); None if there is none.

    Raises:
        UserError: the file is damaged.
    """
    file = run / "score.json"
    if not file.exists():
        return None
    data = read_json(file, f"{file} cannot be used")
    check_format(data.get("format"), str(file))
    try:
        return Score(
            read_field(data, "env", str),
            read_field(data, "package_version", str),
            read_field(data, "step", int),
            read_field(data, "seed", int),
            _read_returns(data, "returns"),
            _read_returns(data, "baselines"),
        )
    except UserError as error:
        raise UserError(f"{file} is damaged: {error}") from None


def _read_returns(data: dict[str, Any], name: str) -> dict[str, list[float]]:
    found: dict[str, Any] = read_field(data, name, dict)
    for policy, values in found.items():
        if not values or not isinstance(values, list) or not all(map(_is_return, cast(list[Any], values))):
            raise UserError(f"{quote(policy)!r} in {name!r} must be a list of numbers up to {MAX_RETURN:g}")
    return found


def _is_return(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_RETURN
