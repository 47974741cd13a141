"""How a setting is declared."""

import dataclasses


def setting(default, text, *, of=(), lower=None, upper=None, choices=None):
    """Declares a field: its default, help text, commands and bounds.

    Without commands in `of` it is a setting of all.
    """
    metadata = {
        "help": text,
        "of": of,
        "lower": lower,
        "upper": upper,
        "choices": choices,
    }
    return dataclasses.field(default=default, metadata=metadata)
