"""Errors that the user can fix.

Functions of this package raise a `UserError` for any invalid setting, file or
environment; their docstrings do not repeat it.
"""

import os


class UserError(ValueError):
    """An error the user can fix, described in one to three lines.

    The message says what was received, what was expected and how to fix it.
    `main.py` prints it without a stack trace and exits with code 2; in a
    notebook it is an ordinary ValueError.
    """

    exit_code = 2


class LostWorkerError(UserError):
    """Another worker of the run is lost; all must be restarted."""

    exit_code = os.EX_TEMPFAIL
