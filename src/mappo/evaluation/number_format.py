"""Number formats of returns, for tables, pictures and progress. Loads no torch."""

import math


def return_format(*sizes: float) -> str:
    """Return the format of returns, with fewer decimals the larger the largest of their sizes; -0.0 becomes 0.0.

    Args:
        sizes: the returns, or those of a table that set the decimals of all.
    """
    largest = max(map(abs, sizes), default=0.0)
    return f"z,.{0 if largest >= 1000 else 1 if largest >= 10 else 3}f"


def format_return(value: float) -> str:
    """Format a single return; NaN and infinity become `n/a`."""
    return format(value, return_format(value)) if math.isfinite(value) else "n/a"
