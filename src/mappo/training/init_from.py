"""Start of a run from the weights of another run, by `run.init_from`. `train` and `RunFolder` call this.

`config.json` of the new run records the source: its directory, its step, and the checksum of its weights. A resumed
run has checkpoints of its own, and does not read the source again.
"""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mappo.algorithms.mappo import MAPPO
from mappo.backend.ranks import Tensors, from_text, to_text
from mappo.config import Config
from mappo.core.state_dict import subdict
from mappo.errors import UserError, shorten
from mappo.runs.checkpoint import Checkpoint, load
from mappo.runs.directory import Record, read_run, saved_source, seed_paths
from mappo.runs.steps import check_name
from mappo.training.transfer import MAX_NAMED, Source, Transferred, transfer


class InitFrom:
    """The source of a run: `run.init_from`, `RUN` or `RUN@CHECKPOINT`.

    Make this before any environment: the code of an environment may change the current folder.

    Args:
        config: settings of the whole run.
        own_path: directory of the run, if it has a name.
    """

    def __init__(self, config: Config, own_path: Path | None) -> None:
        self._config = config
        text = config.run.init_from or ""
        run, mark, checkpoint = text.rpartition("@")
        if not mark or (Path(text) / "config.json").exists():
            run = text
            checkpoint = "last"
        self._checkpoint = checkpoint
        self._path = Path(run).absolute()
        self._is_own = bool(text) and own_path == self._path

    def find(self, agent: MAPPO) -> list[Record]:
        """Choose the checkpoint to start from, for each seed; check that its weights fit.

        Args:
            agent: learner of a seed.

        Returns:
            The record for `config.json` of each seed; None for each seed without `run.init_from`.

        Raises:
            UserError: there is no such run or checkpoint, it has another number of seeds, or it does not fit.
        """
        seeds = self._config.run.seeds
        if self._config.run.init_from is None:
            return [None] * seeds
        try:
            records = self._choose(agent)
        except UserError as error:
            raise UserError(f"run.init-from {self._config.run.init_from}: {error}") from None
        return [*records] if len(records) == seeds else [records[0]] * seeds

    def _choose(self, agent: MAPPO) -> list[dict[str, Any]]:
        """Return a record for each seed, or one for all; see `find`."""
        if self._is_own:
            raise UserError("this is the run's own directory: choose another --run.name")
        check_name(self._checkpoint)
        paths = seed_paths(self._path, read_run(self._path)[1])
        if len(paths) not in (1, self._config.run.seeds):
            raise UserError(
                f"it holds {len(paths)} seeds, this run has {self._config.run.seeds}: name one, such as {paths[0]}"
            )
        records: list[dict[str, Any]] = []
        for path in paths:
            source = _read_source(path, self._checkpoint)
            for problem in source.checkpoint.passed_over:
                warnings.warn(f"passed over: {problem}", stacklevel=5)
            misfits = transfer(agent, source).misfits
            if misfits and self._config.run.init_strict:
                raise UserError(
                    f"{source.checkpoint.path} does not fit, see run.init-strict: {shorten(misfits, MAX_NAMED)}"
                )
            records.append(_record(path, source.checkpoint))
        return records

    def load(self, agents: Sequence[MAPPO], paths: Sequence[Path]) -> list[str]:
        """Load the weights of the recorded source of each seed into its learner; return notes for the user.

        Args:
            agents: the learners of a new run.
            paths: directories of the seeds, with the record in `config.json`.

        Raises:
            UserError: the source is gone, or is not what it was when the run was made.
        """
        if self._config.run.init_from is None:
            return []
        starts: dict[str, None] = {}
        misfits: list[str] = []
        warning = ""
        for agent, path in zip(agents, paths, strict=True):
            found = agent.ranks.from_first(lambda agent=agent, path=path: _read_recorded(agent, path))
            agent.network.load_state_dict(subdict(found, "network"))
            agent.value_norm.load_state_dict(subdict(found, "value_norm"))
            start, misfits, warning = json.loads(to_text(found["note"]))
            starts[start] = None
        if warning and not agents[0].ranks.rank:
            warnings.warn(warning, stacklevel=5)
        first, *others = starts
        text = f"starts from {first}{', each seed from its own' if others else ''}"
        return [f"{text}; does not fit: {shorten(misfits, MAX_NAMED)}" if misfits else text]


def _read_source(path: Path, checkpoint: str | int) -> Source:
    _, config, spec = read_run(path)
    return Source(config, spec, load(path, checkpoint))


def _record(path: Path, found: Checkpoint) -> dict[str, Any]:
    return {"run": str(path), "step": found.state["step"], "sha256": found.state["sha256"]["model.safetensors"]}


def _read_recorded(agent: MAPPO, path: Path) -> Tensors:
    """Return the learner's tensors from the source recorded in a run directory, with `note`, a text in JSON."""
    record = saved_source(path)
    run = Path(record["run"])
    again = f"{path} holds no checkpoint yet, and cannot begin again: delete it"
    try:
        source = _read_source(run, record["step"])
    except UserError as error:
        raise UserError(f"{error}; {again}") from None
    if _record(run, source.checkpoint) != record:
        raise UserError(f"{source.checkpoint.path} holds other weights than when {path} was made; {again}")
    found = transfer(agent, source)
    note = [f"step {record['step']:,} of {run}", found.misfits, "" if found.reads_alike else _warning(run, found)]
    return {**found.tensors, "note": from_text(json.dumps(note))}


def _warning(run: Path, found: Transferred) -> str:
    """Return the warning that the actor reads its observations by random weights."""
    return (
        f"run.init-from: {found.actor_share:.0%} of the actor's weights come from {run}, but a layer that reads "
        f"observations begins at random. The layers behind were trained for other inputs, and such a run often begins "
        f"worse than from scratch. An encoder over entities fits any number of agents: docs/continuing.md"
    )
