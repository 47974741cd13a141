"""Errors that the user can fix, and names in a form that can be printed.

Functions of this package raise a `UserError` for any invalid setting, file or
environment; their docstrings do not repeat it.
"""

import os
import re

# Control characters, line separators, changes of the writing direction, and
# "surrogates", as which Python reads bytes that are not UTF-8.
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# A value or a whole message that is too long to read; the middle goes.
_LONG = re.compile(r"(\S{200})\S{200,}(\S{100})")
_VERY_LONG = re.compile("(.{2000}).{1500,}(.{500})", re.DOTALL)


def printable(name: str | bytes | os.PathLike) -> str:
    """Returns a name with escapes for what a terminal would act on."""
    return UNPRINTABLE.sub(_escape, os.fsdecode(name))


def _escape(match):
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # Stands for a single byte.
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


class UserError(ValueError):
    """An error the user can fix: received, expected, fix, in 1 to 3 lines.

    `main.py` prints it without a stack trace and exits with code 2; in a
    notebook it is an ordinary ValueError. The names in its message are made
    printable, and long values are shortened.
    """

    exit_code = 2

    def __init__(self, message: str):
        text = "\n".join(map(printable, str(message).split("\n")))
        for pattern in (_LONG, _VERY_LONG):
            text = pattern.sub(r"\1 [...] \2", text)
        super().__init__(text)


class LostWorkerError(UserError):
    """Another worker of the run is lost; all must be restarted."""

    exit_code = os.EX_TEMPFAIL
