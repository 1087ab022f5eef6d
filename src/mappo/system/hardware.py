"""Facts about the machine and the software: processor, memory, load, versions, commit. Loads no torch.

Benchmarks and `mappo bench` print these facts beside each measurement.
"""

import ctypes
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path


def cpu_model() -> str:
    """Return the system's name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # macOS, or a processor without a name on Linux
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or platform.machine()


def cpu_family() -> tuple[str, int] | None:
    """Return vendor and family of an x86 processor on Linux, as in `("AuthenticAMD", 26)` for a Zen 5; else None."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        fields = dict(reversed([[word.strip() for word in line.split(":", 1)] for line in lines if ":" in line]))
        return fields["vendor_id"], int(fields["cpu family"])
    except (OSError, KeyError, ValueError):
        return None


def usable_cores() -> int:
    """Return the number of cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gib() -> float | None:
    """Return the memory of the whole machine in GiB; None if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, OSError, ValueError):
        return None


def load_average() -> float | None:
    """Return the average number of runnable processes in the last minute; None if the system does not report it."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def package_version(package: str) -> str:
    """Return the version of an installed package, from its distribution; "none" if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def describe_machine() -> dict[str, str | int | float | None]:
    """Return processor, usable cores, memory in GiB, system and Python, as JSON types."""
    memory = memory_gib()
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "memory_gib": None if memory is None else round(memory, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def git_state(folder: Path, *paths: str) -> tuple[str, bool] | None:
    """Return the commit of a source folder, and True if files have changed since.

    Args:
        folder: the folder of the sources.
        paths: files to compare with the commit, relative to the folder; by default all files of the folder.

    Returns:
        The short hash and the flag; None outside a checkout, and for an installed copy inside an unrelated checkout.
    """
    commit = _output("git", "-C", str(folder), "rev-parse", "--short", "HEAD")
    if not commit or not _output("git", "-C", str(folder), "ls-files", "."):
        return None
    return commit, bool(_output("git", "-C", str(folder), "status", "--porcelain", "--", *(paths or (".",))))


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory. Do nothing on systems without glibc.

    Returning a rollout's temporaries to the system and faulting the pages in again takes a fifth of an update
    (benchmarks/README.md).
    """
    trim_threshold = -1  # M_TRIM_THRESHOLD of malloc.h
    mmap_threshold = -3  # M_MMAP_THRESHOLD
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(trim_threshold, 1 << 30)
        libc.mallopt(mmap_threshold, 1 << 25)
    except (OSError, TypeError, AttributeError):
        pass


def let_idle_threads_sleep() -> None:
    """Make threads spin for some microseconds and then sleep until the next parallel work. Call before torch is loaded.

    By default threads spin for milliseconds: beside other jobs two threads then take up to ten times the processor
    time. Without any spinning two threads on free cores are slower than one thread (benchmarks/README.md). A policy
    set by the user wins.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # of GNU's library
        os.environ.setdefault("KMP_BLOCKTIME", "0")  # of Intel's and LLVM's library


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out. torch, not loaded here, has an error class for devices and a text for the CPU."""
    texts = ("DefaultCPUAllocator: ", "Storage size calculation overflowed", "CUDA error: out of memory")
    is_device = type(error).__name__ == "OutOfMemoryError"
    return isinstance(error, MemoryError) or is_device or any(text in str(error) for text in texts)


def _output(*command: str) -> str:
    """Return the output of a program; "" if the program is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
