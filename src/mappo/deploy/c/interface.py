"""Names and types of the C interface, for the writer of the files and for programs that call them. Loads no torch."""

import re
from collections.abc import Sequence

C_TYPES = {"uint8": "uint8_t", "float32": "float", "int64": "int32_t"}  # of the arrays of an observation


def field_names(inputs: Sequence[str]) -> list[str]:
    """Return the name in the struct `mappo_observation` for each array: `obs`, or `obs_KEY` for `obs.KEY`."""
    names: list[str] = []
    for name in inputs:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        while plain in names:
            plain += "_"
        names.append(plain)
    return names
