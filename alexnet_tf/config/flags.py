"""One frozen `Config` of all settings, read from the command line.

`parse` makes an absl flag of each entry of `settings.py` and returns the
`Config` that a command line describes; nothing else in the package knows about
flags.
"""

import dataclasses
import math
from collections.abc import Sequence

from absl import flags

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.training import GROUPS, SingleCommands


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(*reversed(GROUPS)):
    """All settings of a run; field names are flag names.

    Raises:
        UserError: if a number is not finite, a text is none of those that are
            allowed, or two settings contradict each other.
    """

    def __post_init__(self):
        """Checks what the bounds of a single flag cannot."""
        self._check_values()
        self.kernel_counts()  # Which checks them.
        self._check_combinations()

    def _check_values(self):
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"--{name}={value}; give a finite number.")
            choices = field.metadata["choices"] or (value,)
            if value not in choices:
                raise UserError(f"--{name}={value}; give {', '.join(choices)}.")
        if self.mean not in ("image", "colour") and (
            not self.mean.endswith(".binaryproto")
        ):
            raise UserError(
                f"--mean={self.mean}; give image, colour, or the "
                "FILE.binaryproto of a mean image that Caffe measured."
            )
        if self.lrn_size % 2 == 0:
            raise UserError(
                f"--lrn_size={self.lrn_size} has no middle kernel map; use an "
                "odd number."
            )

    def _check_combinations(self):
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
                f"but --gpus={self.gpus} asks for GPUs; add "
                "--virtual_devices=0, or leave out --gpus."
            )
        if self.scale and self.facts:
            raise UserError("--scale and --facts are two reports; give one.")
        if self.measured and not self.scale:
            raise UserError(
                f"--measured={self.measured} is for --scale; give that, too."
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
    flag_values, words = _read(arguments)
    values = {
        field.name: flag_values[field.name].value
        for field in dataclasses.fields(Config)
    }
    return Config(**values), words


def check_flags(arguments: Sequence[str], command: str) -> None:
    """Checks that a command takes the flags of a command line.

    Raises:
        UserError: if one is a flag of other commands only.
    """
    flag_values, _ = _read(arguments)
    for field in dataclasses.fields(Config):
        if flag_values[field.name].present and not _takes(command, field):
            raise UserError(
                f"--{field.name} is a flag of "
                f"{', '.join(field.metadata['of'])}; {command} does not "
                "take it. Leave it out."
            )


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
        own = [
            _title(SingleCommands, field)
            for field in dataclasses.fields(SingleCommands)
            if command in field.metadata["of"]
        ]
        titles = [*own, *titles, _title(SingleCommands)]
    return "".join(map(flag_values.module_help, dict.fromkeys(titles)))


def to_flagfile(config: Config) -> str:
    """Returns the text of a flag file that starts the same run again."""
    return "".join(
        f"--{field.name}={getattr(config, field.name)}\n"
        for group in GROUPS
        if group is not SingleCommands
        for field in dataclasses.fields(group)
    )


def to_arguments(config: Config, command: str) -> list[str]:
    """Returns the flags that give a command the same settings."""
    return [
        f"--{field.name}={getattr(config, field.name)}"
        for field in dataclasses.fields(config)
        if _takes(command, field)
    ]


def _read(arguments):
    """Returns flags and words of a command line."""
    flag_values = _flag_values()
    try:
        return flag_values, flag_values(["alexnet_tf", *arguments])[1:]
    except (flags.Error, ValueError) as error:
        raise UserError(f"{error}\nSee --help.") from error


def _flag_values():
    """Makes the flags anew, so that parsing leaves nothing behind."""
    flag_values = flags.FlagValues()
    flag_values.set_gnu_getopt(True)  # Flags and words in any order.
    for group in GROUPS:
        for field in dataclasses.fields(group):
            _define_flag(field, flag_values, title=_title(group, field))
    return flag_values


def _takes(command, field):
    return not field.metadata["of"] or command in field.metadata["of"]


def _title(group, field=None):
    """Returns a heading of --help; flags of few commands have their own."""
    if field and field.metadata["of"]:
        return f"Only {', '.join(field.metadata['of'])}"
    return group.__doc__.rstrip(".")


def _define_flag(field, flag_values, *, title):
    text, _, lower, upper, choices = field.metadata.values()
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
