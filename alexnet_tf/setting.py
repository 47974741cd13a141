"""How a setting is declared."""

import dataclasses


def setting(default, text, *, lower=None, upper=None, choices=None):
    """Declares a field: its default, help text and bounds."""
    metadata = {
        "help": text,
        "lower": lower,
        "upper": upper,
        "choices": choices,
    }
    return dataclasses.field(default=default, metadata=metadata)
