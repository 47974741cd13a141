"""Errors that the user can fix.

Functions of this package raise a `UserError` for any invalid setting, file or
environment; their docstrings do not repeat it.
"""

import os


class UserError(ValueError):
    """An error the user can fix: received, expected, fix, in 1 to 3 lines.

    `main.py` prints it without a stack trace and exits with code 2; in a
    notebook it is an ordinary ValueError.
    """

    exit_code = 2


class LostWorkerError(UserError):
    """Another worker of the run is lost; all must be restarted."""

    exit_code = os.EX_TEMPFAIL
