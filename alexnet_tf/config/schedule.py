"""Learning rates and color noise by date, the syntax of --schedule."""

import bisect
import contextlib
import dataclasses
import re

from alexnet_tf.config.errors import UserError

_NAMES = "weights, biases, LAYER.weights, LAYER.biases or color_noise"
_EXAMPLE = "0: weights=0.01, biases=0.02; 25: weights=0.001"
_SWITCH = {"on": True, "off": False}


@dataclasses.dataclass(frozen=True)
class Schedule:
    """What applies from each date to the next; dates are in epochs done.

    Names are weights and biases, of all layers, or conv1.weights, whose values
    are learning rates, and color_noise, a bool.
    """

    dates: tuple[float, ...]  # Ascending from 0.
    changes: tuple[dict[str, float | bool], ...]  # By name, at each date.

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        """Reads dates such as 25: weights=0.001, separated by semicolons."""
        dates: list[float] = []
        changes: list[dict[str, float | bool]] = []
        for part in text.split(";"):
            date_text, _, pairs = part.partition(":")
            if not pairs.strip():
                raise _error(f"{part.strip()!r} is not EPOCHS: NAME=VALUE, ...")
            date = read_number("schedule", date_text)
            if dates and date <= dates[-1]:
                raise _error(f"date {date:g} is not after {dates[-1]:g}")
            dates.append(date)
            changes.append(_read_changes(date, pairs))
        if dates[0] or "weights" not in changes[0]:
            raise _error("weights have no rate at date 0")
        return cls(tuple(dates), tuple(changes))

    @property
    def layers(self) -> list[str]:
        """Names of the layers with rates of their own."""
        names = [n for names in self.changes for n in names if "." in n]
        return list(dict.fromkeys(name.partition(".")[0] for name in names))

    def values(self, name: str) -> list:
        """Returns the value of a name from each date on.

        A layer without a rate of its own has the general one, and biases
        without any that of the weights.
        """
        kind = name.rpartition(".")[2]
        names = [name, kind]
        if kind == "biases":
            names += [name.removesuffix(kind) + "weights", "weights"]
        reached: dict[str, float | bool] = {"color_noise": True}
        values = []
        for changes in self.changes:
            reached |= changes
            values.append(next(reached[n] for n in names if n in reached))
        return values

    def value(self, name: str, epochs_done: float) -> float | bool:
        """Returns the value of a name after some epochs."""
        return self.values(name)[bisect.bisect(self.dates, epochs_done) - 1]


def _read_changes(date, text):
    """Returns the values that are set at a date."""
    changes = {}
    for name, value in read_pairs("schedule", text).items():
        if name == "color_noise":
            if value not in _SWITCH or not date.is_integer():
                raise _error(
                    f"color_noise={value} at {date:g}; it is on or off, from a "
                    "whole epoch"
                )
            changes[name] = _SWITCH[value]
        elif re.fullmatch(r"(\w+\.)?(weights|biases)", name):
            changes[name] = read_number("schedule", value)
        else:
            raise _error(f"{name!r} is not {_NAMES}")
    return changes


def _error(problem):
    return UserError(f"--schedule: {problem}; give dates as {_EXAMPLE!r}.")


def read_pairs(flag: str, text: str) -> dict[str, str]:
    """Reads NAME=VALUE, NAME=VALUE, ... of a flag."""
    pairs: dict[str, str] = {}
    for pair in text.split(",") if text else ():
        name, sign, value = map(str.strip, pair.partition("="))
        if not sign or name in pairs:
            fault = "is given twice" if sign else "is not NAME=VALUE"
            raise UserError(f"--{flag}: {pair.strip()!r} {fault} in {text!r}.")
        pairs[name] = value
    return pairs


def read_number(flag: str, text: str) -> float:
    """Reads a number of a flag."""
    with contextlib.suppress(ValueError):
        number = float(text)
        if 0 <= number <= 1e6:
            return number
    raise UserError(
        f"--{flag}: {text.strip()!r} is not a number from 0 to 1e6."
    )


def show(value: float | bool) -> str:
    """Returns a value as --schedule has it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}"
