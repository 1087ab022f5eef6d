"""What goes wrong, told apart by who can mend it."""


class UserError(ValueError):
    """The user can mend it: the command line prints the message alone and exits with code 2."""


class StopTraining(Exception):
    """Raised by a callback to end a run early: the run is saved, and can be resumed."""
