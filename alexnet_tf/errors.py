"""The one exception that means "the user can mend this"."""


class UserError(ValueError):
    """A mistake of the user's, told in one to three lines.

    The message says what was received, what was expected and how to fix it.
    `main.py` prints it without a stack trace and exits with code 2; from a
    notebook it is an ordinary ValueError.
    """
