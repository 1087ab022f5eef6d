"""Settings of the whole process, which the code of environments may change: kept apart from the learner's."""

import sys
from typing import Any

import torch

from mappo.errors import ElsewhereError, LostError, StopTraining, UserError
from mappo.system.hardware import is_out_of_memory
from mappo.system.shutdown import CloseTimeoutError
from mappo.system.stdio import restore_output
from mappo.system.tracebacks import format_error, runs_user_code

_PASSED_ON = (UserError, StopTraining, LostError, ElsewhereError, CloseTimeoutError)


class TorchDefaults:
    """Context with a default dtype and device of its own: changes inside last for the next entry, and end outside.

    Args:
        dtype: the default dtype at the first entry; by default the present default dtype.
    """

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        self.dtype = dtype or torch.get_default_dtype()
        self.device = torch.device("cpu") if dtype else torch.get_default_device()

    def __enter__(self) -> None:
        self._outer = (torch.get_default_dtype(), torch.get_default_device())
        self._switch(self._outer, (self.dtype, self.device))

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.dtype = torch.get_default_dtype()
        self.device = torch.get_default_device()
        self._switch((self.dtype, self.device), self._outer)

    @staticmethod
    def _switch(old: tuple[torch.dtype, torch.device], new: tuple[torch.dtype, torch.device]) -> None:
        if new[0] is not old[0]:  # setting the dtype takes a microsecond of each step
            torch.set_default_dtype(new[0])
        if new[1] != old[1]:
            # A default device slows down each call of torch; the CPU needs none.
            torch.set_default_device(None if new[1].type == "cpu" else new[1])


class EnvSettings(TorchDefaults):
    """Context for the code of an environment: its torch defaults, while `sys.path` and the output stay the learner's.

    An environment may add to `sys.path`; what it removes comes back. Standard output and error that it replaces or
    closes come back too: the user must see the run.

    Raises:
        UserError: code of the user inside the context raised another error, or asked the program to end.
    """

    def __enter__(self) -> None:
        super().__enter__()
        self._path = sys.path.copy()
        self._streams = (sys.stdout, sys.stderr)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        if sys.path != self._path:
            sys.path[:] = [*sys.path, *(entry for entry in self._path if entry not in sys.path)]
        sys.stdout, sys.stderr = self._streams
        restore_output()
        if isinstance(error, Exception | SystemExit):
            raise_as_user_error("the environment", error)


def raise_as_user_error(code: str, error: BaseException) -> None:
    """Raise a UserError in place of an error in code of the user; `code` says whose, as in "the environment"."""
    if not isinstance(error, _PASSED_ON) and runs_user_code(error) and not is_out_of_memory(error):
        raise UserError(f"{code} failed:\n{format_error(error)}") from error
