"""The tensors of all processes in one checkpoint: names of the first process as they are, of others after `rank-N.`."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from mappo.backend.ranks import Ranks, Tensors, from_text, to_text
from mappo.core.state_dict import flatten, subdict
from mappo.errors import UserError
from mappo.runs.checkpoint import Checkpoint

PREFIX = "rank-"


def is_own(name: str) -> bool:
    """Return whether a tensor differs between processes: random states, memories and episodes."""
    return name in ("generator", "critic_memory") or name.startswith("collector.")


def gather_states(tensors: Tensors, ranks: Ranks) -> Tensors:
    """Return the tensors of all processes in the first process; elsewhere nothing.

    Raises:
        UserError: the weights or the moments of two processes differ.
    """
    if ranks.size == 1:
        return tensors
    common = {name: x for name, x in tensors.items() if not is_own(name)}
    private = {name: x for name, x in tensors.items() if is_own(name)}
    gathered = ranks.gather(private | {"checksum": from_text(_checksum(common))})
    checksums = [to_text(states.pop("checksum")) for states in gathered]
    different = [str(rank) for rank, checksum in enumerate(checksums) if checksum != checksums[0]]
    if different:
        raise UserError(
            f"the weights of process {', '.join(different)} differ from those of process 0: its machine computes "
            f"otherwise, or is damaged. The last checkpoint is whole"
        )
    result = dict(tensors) if gathered else {}
    for rank, states in enumerate(gathered[1:], 1):
        result |= flatten(f"{PREFIX}{rank}", states)
    return result


def _checksum(tensors: Tensors) -> str:
    digest = hashlib.sha256()
    for _, x in sorted(tensors.items()):
        digest.update(x.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def num_processes(trainer: Mapping[str, Tensor]) -> int:
    """Return the number of processes that a checkpoint holds the states of."""
    return 1 + len({name.partition(".")[0] for name in trainer if name.startswith(PREFIX)})


def state_of(trainer: Mapping[str, Tensor], rank: int) -> Tensors:
    """Return the tensors of a checkpoint for a process."""
    if not rank:
        return {name: x for name, x in trainer.items() if not name.startswith(PREFIX)}
    common = {name: x for name, x in trainer.items() if not name.startswith(PREFIX) and not is_own(name)}
    return common | subdict(trainer, f"{PREFIX}{rank}")


def pack(checkpoints: Sequence[Checkpoint], notes: Sequence[str]) -> Tensors:
    """Return checkpoints and notes as tensors, to be sent to other processes."""
    facts = [[str(found.path), found.state, found.passed_over] for found in checkpoints]
    packed: Tensors = {"facts": from_text(json.dumps([facts, list(notes)]))}
    for k, found in enumerate(checkpoints):
        packed |= flatten(f"model-{k}", found.model) | flatten(f"trainer-{k}", found.trainer)
    return packed


def unpack(packed: Tensors) -> tuple[list[Checkpoint], list[str]]:
    """Return the checkpoints and notes given to `pack`."""
    facts, notes = json.loads(to_text(packed["facts"]))
    checkpoints = [
        Checkpoint(Path(path), state, subdict(packed, f"model-{k}"), subdict(packed, f"trainer-{k}"), tuple(passed))
        for k, (path, state, passed) in enumerate(facts)
    ]
    return checkpoints, notes
