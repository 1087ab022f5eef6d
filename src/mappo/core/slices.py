"""Equal slices of an axis, for the seeds, workers and halves that divide the environments. Loads no torch."""


def equal_slices(count: int, parts: int) -> tuple[slice, ...]:
    """Return `parts` consecutive slices of `range(count)`, whose lengths differ by at most 1.

    Args:
        count: length of the axis.
        parts: number of slices; with more parts than elements some slices are empty.
    """
    bounds = [count * k // parts for k in range(parts + 1)]
    return tuple(map(slice, bounds, bounds[1:]))
