"""The machine that a number was measured on, and the versions that ran. Loads no torch."""

import ctypes
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path


def cpu_model() -> str:
    """As the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # macOS, or a processor that Linux has no name for
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or platform.machine()


def usable_cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gib() -> float | None:
    """Of the whole machine; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, OSError, ValueError):
        return None


def load_average() -> float | None:
    """Processes that wanted to run in the last minute, on average; None where the system does not tell."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def package_version(package: str) -> str:
    """Of an installed package, as its distribution says; "none" where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def git_state(folder: Path, *paths: str) -> tuple[str, bool] | None:
    """The commit that a folder of sources is at, and whether they have been changed since.

    Args:
        folder: of the sources. paths: what may not have changed, from there; all in the folder by default.

    Returns:
        None outside a checkout, and for an installed copy that merely lies inside somebody's.
    """
    commit = _output("git", "-C", str(folder), "rev-parse", "--short", "HEAD")
    if not commit or not _output("git", "-C", str(folder), "ls-files", "."):
        return None
    return commit, bool(_output("git", "-C", str(folder), "status", "--porcelain", "--", *(paths or (".",))))


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory: returning a rollout's temporaries to the system and faulting them in again
    takes a fifth of an update (benchmarks/README.md). Elsewhere there is no such function, and nothing to do.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(trim_threshold, 1 << 30)
        libc.mallopt(mmap_threshold, 1 << 25)
    except (OSError, TypeError, AttributeError):
        pass


def _output(*command: str) -> str:
    """What a program prints; nothing where it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
