"""torch's default dtype, a setting of the whole process, for the learner and for the code of environments."""

from typing import Any

import torch


class DefaultDtype:
    """Context with a default dtype of its own: changes inside last for the next entry, and end outside.

    Args:
        dtype: the default dtype at the first entry.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._outer = dtype

    def __enter__(self) -> None:
        self._outer = torch.get_default_dtype()
        if self.dtype is not self._outer:  # setting it takes a microsecond of each step
            torch.set_default_dtype(self.dtype)

    def __exit__(self, *_: Any) -> None:
        self.dtype = torch.get_default_dtype()
        if self.dtype is not self._outer:
            torch.set_default_dtype(self._outer)
