"""A run directory for all processes of a run, which may have no file system in common."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from mappo.backend.ranks import Ranks, Tensors
from mappo.runs import checkpoint


@contextmanager
def shared_run(path: Path, ranks: Ranks) -> Generator[Path]:
    """Give the run directory to the first process, and to each other process a copy with what an evaluation reads.

    Args:
        path: directory of a run of a single seed, read by the first process alone.
        ranks: the processes.

    Raises:
        UserError: in the first process, the run is damaged.
    """

    def read() -> Tensors:
        files = [path / "config.json", *sorted(checkpoint.load(path).path.iterdir())]
        contents = {file.relative_to(path).as_posix(): bytearray(file.read_bytes()) for file in files}
        return {name: torch.frombuffer(data, dtype=torch.uint8) for name, data in contents.items()}

    found = ranks.from_first(read) if ranks.size > 1 else {}
    if not ranks.rank:
        yield path
        return
    with TemporaryDirectory() as folder:
        for name, data in found.items():
            file = Path(folder, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data.numpy().tobytes())
        yield Path(folder)
