"""Exceptions of mappo. All other exceptions are bugs."""


class UserError(ValueError):
    """An error the user can fix. The command line prints its message without a traceback, and exits with code 2."""


class StopTraining(Exception):
    """Exception for callbacks, to end a run early. The run is saved, and can be resumed."""
