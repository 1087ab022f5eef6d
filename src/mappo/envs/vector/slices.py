"""Slices of the environments for halves and workers."""

from collections.abc import Sequence

from mappo.core.slices import equal_slices


def half_slices(num_envs: int) -> tuple[slice, ...]:
    """Return the two halves of the environments, to be stepped in turn; a single environment has no half."""
    return equal_slices(num_envs, min(num_envs, 2))


def worker_ranges(halves: Sequence[slice], num_workers: int) -> list[list[range]]:
    """Return for each worker its environments of each half.

    The second half is dealt to the workers in reverse order: all get almost the same number in total.
    """
    per_half: list[list[range]] = []
    for index, half in enumerate(halves):
        slices = equal_slices(half.stop - half.start, num_workers)
        ranges = [range(half.start + s.start, half.start + s.stop) for s in slices]
        per_half.append(ranges[::-1] if index else ranges)
    return [list(ranges) for ranges in zip(*per_half, strict=True)]
