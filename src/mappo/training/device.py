"""Device of a run, and torch's settings while it trains."""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from mappo.backend.process_settings import TorchDefaults
from mappo.config import Config
from mappo.errors import UserError
from mappo.system.launched import Place


def check_gpus(place: Place) -> None:
    """Raise `UserError` unless each process of this machine has a GPU of its own."""
    if place.local_size > (count := torch.cuda.device_count()):
        raise UserError(
            f"{place.local_size} processes on this machine, which has {count} GPUs: each needs its own. Start {count}, "
            f"or train with --run.device cpu"
        )


@contextmanager
def torch_settings(config: Config, device: torch.device, place: Place) -> Generator[None]:
    """Set threads, torch's defaults and CUDA precision within the context; restore all of them at its end.

    Each of several processes on a machine gets a GPU of its own.
    """
    if device.type == "cuda" and place.size > 1:
        torch.cuda.set_device(place.local_rank % torch.cuda.device_count())
    threads = torch.get_num_threads()
    torch.set_num_threads(config.run.threads)
    try:
        tf32 = tf32_allowed(config.network.precision == "tf32") if device.type == "cuda" else nullcontext()
        with TorchDefaults(torch.float32), tf32:
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def tf32_allowed(is_allowed: bool) -> Generator[None]:
    """Allow or forbid CUDA to round products to TF32; torch allows it by default in convolutions."""
    backends: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn.conv]  # pyright: ignore
    former = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "tf32" if is_allowed else "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(backends, former, strict=True):
            backend.fp32_precision = precision


def choose_device(name: str, option: str = "run.device") -> torch.device:
    """Return the device: `auto` is CUDA if a device is present, never MPS.

    Raises:
        UserError: `cuda`, without a CUDA device.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{option} cuda: torch finds no CUDA device here; use cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
