"""One frozen `Config` of all settings, read from the command line.

`parse` makes an absl flag of each entry of `settings.py` and returns the
`Config` that a command line describes; nothing else in the package knows about
flags.
"""

import dataclasses
import math
from collections.abc import Sequence

from absl import flags

from alexnet_tf.errors import UserError
from alexnet_tf.network import Network
from alexnet_tf.settings import GROUPS, SingleCommands


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(*reversed(GROUPS)):
    """All settings of a run; field names are flag names.

    Raises:
        UserError: if a number is not finite or two settings contradict each
            other.
    """

    def __post_init__(self):
        """Checks what the bounds of a single flag cannot."""
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"--{name}={value}; give a finite number.")
        try:
            counts = self.kernel_counts()
        except ValueError as error:
            raise UserError(
                f"--kernels={self.kernels}; give five whole numbers from 0 up, "
                f"as {Network.kernels}."
            ) from error
        if not counts["conv1"]:
            raise UserError(
                f"--kernels={self.kernels} leaves out conv1, without which "
                "nothing is left to normalise; leave out another layer."
            )
        if self.mean not in ("image", "colour") and (
            not self.mean.endswith(".binaryproto")
        ):
            raise UserError(
                f"--mean={self.mean}; give image, colour, or the "
                "FILE.binaryproto of a mean image that Caffe measured."
            )
        if self.crop_size > self.image_size:
            raise UserError(
                f"--crop_size={self.crop_size} does not fit into "
                f"--image_size={self.image_size}; make the crop smaller or "
                "the image larger."
            )
        if self.devices_per_replica not in (0, 1, self.towers):
            raise UserError(
                f"--devices_per_replica={self.devices_per_replica} with "
                f"--towers={self.towers}; use 1 (all towers on one device) or "
                f"{self.towers} (one device for each tower)."
            )
        if self.virtual_devices and self.gpus not in ("auto", "none"):
            raise UserError(
                f"--virtual_devices={self.virtual_devices} divides the CPU "
                f"but --gpus={self.gpus} asks for GPUs; give only one of them."
            )
        if self.lrn_size % 2 == 0:
            raise UserError(
                f"--lrn_size={self.lrn_size} has no middle kernel map; use an "
                "odd number."
            )
        if self.saved_model and self.run_dir:
            raise UserError(
                f"--saved_model={self.saved_model} and "
                f"--run_dir={self.run_dir} both name a model; give one."
            )


def parse(arguments: Sequence[str]) -> tuple[Config, list[str]]:
    """Reads a command line, without the program's name.

    Args:
        arguments: Flags, among them --flagfile=FILE, and other words in any
            order; of a flag given twice the last one counts.

    Returns:
        The settings, and the words that are not flags.

    Raises:
        UserError: if a flag is unknown or out of bounds, a flag file cannot
            be read, or flags contradict each other.
    """
    flag_values = _flag_values()
    try:
        words = flag_values(["alexnet_tf", *arguments])[1:]
    except (flags.Error, ValueError) as error:
        raise UserError(f"{error}\nSee --help.") from error
    values = {
        field.name: flag_values[field.name].value
        for field in dataclasses.fields(Config)
    }
    return Config(**values), words


def flag_help(groups: Sequence[type] = GROUPS, *, command: str = "") -> str:
    """Returns the help text of flags, group by group.

    Args:
        groups: The groups of settings; all, if not given.
        command: If given, its own flags come first, and those that every
            command takes last.
    """
    flag_values = _flag_values()
    titles = [_title(g, f) for g in groups for f in dataclasses.fields(g)]
    if command:
        titles = [f"Only {command}", *titles, _title(SingleCommands)]
    return "".join(map(flag_values.module_help, dict.fromkeys(titles)))


def to_flagfile(config: Config) -> str:
    """Returns the text of a flag file that starts the same run again."""
    return "".join(
        f"--{field.name}={getattr(config, field.name)}\n"
        for group in GROUPS
        if group is not SingleCommands
        for field in dataclasses.fields(group)
    )


def to_arguments(config: Config) -> list[str]:
    """Returns the command line that `parse` makes the same `Config` of."""
    return [
        f"--{name}={value}"
        for name, value in dataclasses.asdict(config).items()
    ]


def _flag_values():
    """Makes the flags anew, so that parsing leaves nothing behind."""
    flag_values = flags.FlagValues()
    flag_values.set_gnu_getopt(True)  # Flags and words in any order.
    for group in GROUPS:
        for field in dataclasses.fields(group):
            _define_flag(field, flag_values, title=_title(group, field))
    return flag_values


def _title(group, field=None):
    """Returns a heading of --help; flags of one command have their own."""
    if field and group is SingleCommands:
        command, colon, _ = field.metadata["help"].partition(": ")
        if colon:
            return f"Only {command}"
    return group.__doc__.rstrip(".")


def _define_flag(field, flag_values, *, title):
    text, lower, upper, choices = field.metadata.values()
    # absl prints flags under the name of their module: here, their group.
    common = {"flag_values": flag_values, "module_name": title}
    bounds = {"lower_bound": lower, "upper_bound": upper}
    name, default = field.name, field.default
    if choices:
        flags.DEFINE_enum(name, default, choices, text, **common)
    elif field.type is bool:
        flags.DEFINE_boolean(name, default, text, **common)
    elif field.type is int:
        flags.DEFINE_integer(name, default, text, **bounds, **common)
    elif field.type is float:
        flags.DEFINE_float(name, default, text, **bounds, **common)
    else:
        flags.DEFINE_string(name, default, text, **common)
