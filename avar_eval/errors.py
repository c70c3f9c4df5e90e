"""Errors a user can meet. The command line prints each as one message, without a traceback."""


class AvarError(Exception):
    """Something went wrong that the message says how to mend. Exit code 1."""

    exit_code = 1


class UsageError(AvarError):
    """The call itself is off: an unknown name or a value out of range. Exit code 2."""

    exit_code = 2
