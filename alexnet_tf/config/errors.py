"""The exceptions that mean "the user can mend this"."""

import os


class UserError(ValueError):
    """A mistake of the user's, told in one to three lines.

    The message says what was received, what was expected and how to fix it.
    `main.py` prints it without a stack trace and exits with code 2; from a
    notebook it is an ordinary ValueError.
    """

    exit_code = 2


class LostWorkerError(UserError):
    """Another worker of the run is gone; all must be started again."""

    exit_code = os.EX_TEMPFAIL
