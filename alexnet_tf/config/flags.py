"""One frozen `Config` of all settings, read from the command line.

`parse` makes an absl flag of each setting and returns the `Config` that a
command line describes; nothing else in the package uses flags.
"""

import dataclasses
import difflib
import io
import itertools
import math
import os
import re
import select
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from alexnet_tf import __version__
from alexnet_tf.config.commands import (
    COMMANDS,
    FORMER_COMMANDS,
    CommandOptions,
    find_command,
    owners,
    takes,
    usage,
)
from alexnet_tf.config.data import Data
from alexnet_tf.config.errors import UNPRINTABLE, UserError, printable
from alexnet_tf.config.field import change_path
from alexnet_tf.config.network import Network
from alexnet_tf.config.runtime import Hardware, Output
from alexnet_tf.config.training import Training

# In a checkout, a link to the flags/ next to the package.
FLAG_FILES = Path(__file__).parents[1] / "flags"
GROUPS = (Data, Network, Training, Hardware, Output, CommandOptions)
# Settings that a run keeps; its data may move.
DATA_AND_NETWORK = {
    field.name
    for group in (Data, Network)
    for field in dataclasses.fields(group)
} - {"data_dir", "max_bad_fraction"}
# Former spellings, in files written by earlier versions.
FORMER_NAMES = {
    "colour_noise": "color_noise",
    "colour_noise_std": "color_noise_std",
    "colour_noise_shrink": "color_noise_shrink",
    "factorised_conv2": "factorized_conv2",
    "initialisation": "initialization",
    "facts": "paper_facts",
    "measured": "benchmark_json",
    "link": "network_gbps",
    "device_link": "device_gbps",
    "what": "target",
    "distribution": "cluster",
}
# Names of flags in other programs, which an error message translates.
_SYNONYMS = {
    synonym: name
    for name, synonyms in {
        "batch_size": "b bs batch",
        "crop_size": "crop input_size",
        "data_dir": "data_root cache_dir download_dir",
        "dataset": "d data data_path dataset_dir dataset_path image_dir input",
        "dropout_rate": "dropout",
        "epochs": "e epoch num_epochs max_epochs n_epochs",
        "flagfile": "c cfg config config_file",
        "freeze": "frozen freeze_layers",
        "gpus": "gpu device devices cuda num_gpus",
        "image_size": "img_size imgsz resolution",
        "init_from": "pretrained finetune init restore_from ckpt",
        "learning_rate": "lr base_lr initial_lr rate",
        "plateau_patience": "patience",
        "precision": "dtype amp fp16 bf16 mixed_precision",
        "run_dir": "o out output output_dir out_dir log_dir logdir save_dir "
        "model_dir checkpoint_dir job_dir resume model",
        "schedule": "scheduler lr_schedule",
        "seed": "random_seed",
        "train_split": "train",
        "validation_split": "val val_split test_split",
        "weight_decay": "wd l2 decay",
        "workers": "num_workers nproc",
    }.items()
    for synonym in synonyms.split()
}
# The flags that people use first.
_FIRST = {
    *("dataset", "data_dir", "run_dir", "init_from", "epochs", "batch_size"),
    *("learning_rate", "gpus", "precision", "seed"),
}
# What settings were before they existed, in runs that do not have them.
FORMER_DEFAULTS: dict[str, Any] = {
    "exif_orientation": False,
    "order": "shuffled",
    "augment_chunk": 1,
    "schedule": "",
}
_FORMER_VALUES = {
    ("mean", "colour"): "color",
    ("tower_communication", "True"): Network.tower_communication,
    ("tower_communication", "False"): "",
    ("cluster", "mirrored"): "none",
    ("cluster", "multi_worker"): "tf_config",
}
_FLAG_FILE = re.compile("--?flagfile(?:=(.*))?", re.DOTALL)
# Limits of the flag files of a command line, which are far smaller.
_MOST_BYTES = 1_000_000
_DEEPEST = 20
_PIPE_SECONDS = 60.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(CommandOptions, Output, Hardware, Training, Network, Data):
    """All settings of a run; field names are flag names.

    A `Config` is also an instance of each group of settings.
    """

    def __post_init__(self):
        """Checks what the bounds of a single flag cannot."""
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"--{name}={value}; give a finite number.")
            if isinstance(value, str) and UNPRINTABLE.search(value):
                raise UserError(
                    f"--{name}={printable(value)} has control characters or "
                    "bytes that are not UTF-8; rename the file or folder, or "
                    "give a link to it."
                )
            choices = field.metadata["setting"].choices
            if choices and value not in choices:
                raise UserError(f"--{name}={value}; give {', '.join(choices)}.")
        if self.dataset == "folder:":
            raise UserError(
                "--dataset=folder: has no path; give folder:PATH, or folder:. "
                "for the current folder."
            )
        is_file = self.mean.endswith(".binaryproto")
        if self.mean not in ("image", "color") and not is_file:
            raise UserError(
                f"--mean={self.mean}; give image, color, or the "
                "FILE.binaryproto of a mean image measured by Caffe."
            )
        if self.lrn_size % 2 == 0:
            raise UserError(
                f"--lrn_size={self.lrn_size} has no middle kernel map; use an "
                "odd number."
            )
        if self.crop_size < self.smallest_crop:
            raise UserError(
                f"--crop_size={self.crop_size} is too small for the poolings "
                f"of --architecture={self.architecture}; give at least "
                f"{self.smallest_crop}."
            )
        Network.__post_init__(self)
        self.export_formats()  # Checks --format.
        self.average_weights()  # Checks --weights.
        self.layer_decays()  # Checks --layer_weight_decay.
        self._check_schedule()
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
        reports = ("scale", "paper_facts", "schedule_table")
        if len(given := [f"--{n}" for n in reports if getattr(self, n)]) > 1:
            raise UserError(
                f"{' and '.join(given)} are separate reports; give one."
            )
        if self.paper_facts and self.architecture != "alexnet":
            raise UserError(
                "--paper_facts is about AlexNet, not about --architecture="
                f"{self.architecture}; leave it out."
            )
        if self.benchmark_json and not self.scale:
            raise UserError(
                f"--benchmark_json={self.benchmark_json} is for --scale; give "
                "that, too."
            )
        if self.saved_model and self.run_dir:
            raise UserError(
                f"--saved_model={self.saved_model} and "
                f"--run_dir={self.run_dir} both name a model; give one."
            )
        if self.saved_model and self.labels:
            raise UserError(
                f"--saved_model={self.saved_model} contains labels; leave out "
                "--labels, or export the run again with it."
            )

    def _check_schedule(self):
        """Checks --schedule, and that nothing else changes the rates."""
        if not (schedule := self.rate_schedule):
            return
        if self.color_noise == "off" and any(
            changes.get("color_noise") for changes in schedule.changes
        ):
            raise UserError(
                "--schedule sets color_noise=on, but --color_noise=off; give "
                "another --color_noise, or leave color_noise out."
            )
        for name in (
            *("optimizer", "warmup_epochs", "base_batch_size"),
            "override_learning_rate",
        ):
            if (value := getattr(self, name)) != getattr(Config, name):
                raise UserError(
                    f"--{name}={value} with --schedule, which sets all "
                    f"learning rates; leave out --{name}, or give --schedule= "
                    "(empty)."
                )


def parse(arguments: Sequence[str]) -> tuple[Config, list[str]]:
    """Returns the settings of a command line, and the words between its flags.

    Args:
        arguments: Flags, including --flagfile=FILE, and words in any order,
            without the program's name; of equal flags the last one counts. A ~
            in paths and words is expanded.
    """
    flag_values, words = _read(arguments)
    values = {}
    for field in dataclasses.fields(Config):
        value = flag_values[field.name].value
        values[field.name] = _FORMER_VALUES.get((field.name, value), value)
    config = _change_paths(Config(**values), os.path.expanduser)
    return config, [os.path.expanduser(word) for word in words]


def absolute(config: Config) -> Config:
    """Returns the same settings with absolute paths."""
    return _change_paths(config, os.path.abspath)


def _change_paths(config, change):
    changed = {
        field.name: change_path(getattr(config, field.name), pattern, change)
        for field in dataclasses.fields(config)
        if (pattern := field.metadata["setting"].path)
    }
    return dataclasses.replace(config, **changed)


def parse_run(file: Path, arguments: Sequence[str] = ()) -> Config:
    """Returns the settings in a run's flags.cfg, and flags on top of them.

    The run may be one of an earlier version.
    """
    former = [f"--{name}={value}" for name, value in FORMER_DEFAULTS.items()]
    saved = expand_flag_files([f"--flagfile={file}"])
    config, _ = parse([*former, *saved, *arguments])
    if (
        config.towers > 1
        and "conv6" in config.layers_that_see_all_towers()
        and "--tower_communication=True" in saved
    ):
        raise UserError(
            f"{file} is of a version whose conv6 saw its own tower only; now "
            "it sees all towers, which are other weights.\nTo keep that run's "
            "network, replace --tower_communication=True there by "
            "--tower_communication=conv3,fc6,fc7, and add this to its command."
        )
    return config


def check_flags(arguments: Sequence[str], command: str) -> None:
    """Checks that a command takes all flags of a command line."""
    for name in sorted(given_flags(arguments)):
        if not takes(command, name):
            raise UserError(
                f"--{name} is a flag of {', '.join(owners(name))}; {command} "
                "does not take it. Leave it out."
            )


def describes_network(arguments: Sequence[str]) -> bool:
    """Returns whether a command line has flags of data or network.

    Places of data do not count: the data of a run may move.
    """
    names = DATA_AND_NETWORK - {"dataset", "prepared_dir"}
    return bool(given_flags(arguments) & names)


def given_flags(arguments: Sequence[str], *, in_files: bool = True) -> set[str]:
    """Returns the names of the settings that a command line has flags of.

    Those in flag files only if `in_files`.
    """
    if not in_files:
        pairs = _with_flag_files(arguments)
        arguments = [argument for argument, file in pairs if file is None]
    flag_values, _ = _read(arguments)
    names = (field.name for field in dataclasses.fields(Config))
    return {name for name in names if flag_values[name].present}


def _with_flag_files(arguments):
    """Yields each argument with the flag file that it names, or None."""
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":  # Words only from here on.
            yield from ((word, None) for word in (argument, *rest))
        elif named := _FLAG_FILE.fullmatch(argument):
            yield argument, next(rest, "") if named[1] is None else named[1]
        else:
            yield argument, None


def run_name(arguments: Sequence[str], config: Config) -> str:
    """Returns a name for a run: that of its flag files, or of its data set."""
    pairs = _with_flag_files(arguments)
    names = [Path(file).stem for _, file in pairs if file is not None]
    kind, _, path = config.dataset.partition(":")
    name = "-".join(names) or Path(path).name or kind
    return re.sub(r"[^\w.]+", "-", name).strip("-.")[:80] or "run"


def find_help(arguments: Sequence[str]) -> str:
    """Returns the help or the version that a command line requests, or "".

    --help, or the word help at the start, is about the flags that are used
    first, --helpfull about all; both about a command if there is one.
    """
    arguments = list(itertools.takewhile(lambda a: a != "--", arguments))
    options = {a.lstrip("-") for a in arguments if a.startswith("-")}
    if "version" in options:
        return f"alexnet_tf {__version__}"
    by_word = arguments[:1] == ["help"]
    if not by_word and not options & {"h", "help", "helpfull"}:
        return ""
    words = [w for w in arguments[by_word:] if not w.startswith("-")]
    words = [FORMER_COMMANDS.get(word, word) for word in words]
    if by_word and words:
        find_command(words[0], [])  # Refuses an unknown one.
    command = next((word for word in words if word in COMMANDS), "")
    return usage(command) + flag_help(command, full="helpfull" in options)


def flag_help(command: str = "", *, full: bool = True) -> str:
    """Returns the help text of flags, group by group.

    Without `full` only of those that are used first. If a command is given, its
    own flags come before others.
    """
    flag_values = _flag_values()
    groups = COMMANDS[command].groups if command else GROUPS
    fields = [(g, f.name) for g in groups for f in dataclasses.fields(g)]
    titles = [
        _title(CommandOptions, field.name)
        for field in dataclasses.fields(CommandOptions)
        if command in owners(field.name)
    ]
    if full:
        titles += [_title(*field) for field in fields]
        titles.append(_title(CommandOptions))
    else:
        titles.append("Common flags (--helpfull shows all)")
        for _, name in fields:
            if name in _FIRST:
                flag = flag_values[name]
                flag_values.register_key_flag_for_module(titles[-1], flag)
    return "\n".join(map(flag_values.module_help, dict.fromkeys(titles)))


def to_flagfile(config: Config) -> str:
    """Returns the text of a flag file that starts the same run again.

    Its paths are absolute, so that it can be read in any directory.
    """
    config = absolute(config)
    return "".join(
        f"--{field.name}={getattr(config, field.name)}\n"
        for group in GROUPS
        if group is not CommandOptions
        for field in dataclasses.fields(group)
    )


def to_arguments(config: Config, command: str) -> list[str]:
    """Returns the flags that give a command the same settings."""
    return [
        f"--{field.name}={getattr(config, field.name)}"
        for field in dataclasses.fields(config)
        if takes(command, field.name)
    ]


def _read(arguments):
    """Returns the flags and words of a command line."""
    arguments = expand_flag_files(arguments)
    flag_values = _flag_values()
    try:
        return flag_values, flag_values(["alexnet_tf", *arguments])[1:]
    except flags.UnrecognizedFlagError as error:
        name = error.flagname.replace("-", "_")
        known = [field.name for field in dataclasses.fields(Config)]
        near = [_SYNONYMS[name]] if name in _SYNONYMS else None
        near = near or difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean --{near[0]}?" if near else "."
        raise UserError(
            f"unknown flag --{error.flagname}{hint}\nSee --help."
        ) from error
    except (flags.Error, ValueError) as error:
        raise UserError(f"{error}\nSee --help.") from error
    except RecursionError as error:  # While absl looks for similar names.
        longest = max(arguments, key=len)
        raise UserError(f"{longest} is not a flag.\nSee --help.") from error


def expand_flag_files(arguments: Sequence[str]) -> list[str]:
    """Returns a command line with flags in place of the names of flag files.

    Each file is read once: the second reading of a pipe would be empty.
    """
    left = _MOST_BYTES

    def expand(arguments: Sequence[str], above: tuple[str, ...]) -> Iterator:
        nonlocal left
        for argument, name in _with_flag_files(arguments):
            if name is None:
                yield argument
                continue
            file = _find_flag_file(os.path.expanduser(name.strip()))
            if file in above or len(above) == _DEEPEST:
                chain = " > ".join((*above[-3:], file))
                raise UserError(
                    f"--flagfile={file} is read by itself, or inside "
                    f"{_DEEPEST} others: {chain}. Remove one of these "
                    "--flagfile from its file."
                )
            text = _read_flag_file(file, left)
            left -= len(text)
            lines = map(str.strip, io.StringIO(text, newline=None))
            inside = [
                line
                for line in lines
                if line and not line.startswith(("#", "//"))
            ]
            yield from expand(inside, (*above, file))

    return list(expand(arguments, ()))


def _read_flag_file(file, most):
    """Returns the text of a file or pipe that ends."""
    content, end = b"", time.monotonic() + _PIPE_SECONDS

    def without_waiting(path, options):
        return os.open(path, options | os.O_NONBLOCK)

    try:
        with open(file, "rb", 0, opener=without_waiting) as pipe:
            part: bytes | None = None  # None: nothing to read yet.
            while part != b"":
                wait = max(0.0, end - time.monotonic())
                if not select.select([pipe], [], [], wait)[0]:
                    raise UserError(
                        f"--flagfile={file} is a pipe that did not end in "
                        f"{_PIPE_SECONDS:g} s; let its writer close it, or "
                        "give a file."
                    )
                part = pipe.read(most + 1)
                content += part or b""
                if len(content) > most:
                    raise UserError(
                        f"--flagfile={file} makes more than {_MOST_BYTES:,} "
                        "bytes of flag files; is it one?"
                    )
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--flagfile={file} cannot be read: {error}. Give a text file with "
            "one flag a line."
        ) from error
    if "\0" in text:
        raise UserError(
            f"--flagfile={file} has NUL characters; give a text file with one "
            "flag a line."
        )
    return text


def _find_flag_file(name):
    """Returns the path of a local file, or else of one in `FLAG_FILES`.

    The name may lack flags/ and .cfg; a directory is not a flag file.
    """
    for path in map(Path, (name, f"{name}.cfg")):
        if path.exists() and not path.is_dir():
            return str(path)
    known = {
        str(path.relative_to(FLAG_FILES).with_suffix("")): path
        for path in sorted(FLAG_FILES.rglob("*.cfg"))
    }
    short = name.removeprefix("flags/").removesuffix(".cfg")
    if short not in known:
        raise UserError(
            f"--flagfile={name} is not a file; give the path of a flag file, "
            f"or one of {', '.join(known)}."
        )
    return str(known[short])


def _flag_values():
    """Makes new flags, so that parsing has no side effects."""
    flag_values = flags.FlagValues()
    flag_values.set_gnu_getopt(True)  # Flags and words in any order.
    for group in GROUPS:
        for field in dataclasses.fields(group):
            _define_flag(field, flag_values, title=_title(group, field.name))
    for former, name in FORMER_NAMES.items():
        flags.DEFINE_alias(former, name, flag_values, "Former names")
    return flag_values


def _title(group, flag=""):
    """Returns a heading of --help."""
    if commands := owners(flag):
        return f"Only {', '.join(commands)}"
    return group.__doc__.rstrip(".")


def _define_flag(field, flag_values, *, title):
    declared = field.metadata["setting"]
    name, default, text = field.name, field.default, declared.help
    # absl prints flags under the name of their module: here, their group.
    common = {"flag_values": flag_values, "module_name": title}
    bounds = {"lower_bound": declared.lower, "upper_bound": declared.upper}
    if declared.choices:
        former = [old for setting, old in _FORMER_VALUES if setting == name]
        flags.DEFINE_enum(name, default, declared.choices, text, **common)
        # `parse` replaces the former values; --help does not show them.
        flag_values[name].parser = flags.EnumParser(
            [*declared.choices, *former]
        )
    elif field.type is bool:
        flags.DEFINE_boolean(name, default, text, **common)
    elif field.type is int:
        flags.DEFINE_integer(name, default, text, **bounds, **common)
    elif field.type is float:
        flags.DEFINE_float(name, default, text, **bounds, **common)
    else:
        flags.DEFINE_string(name, default, text, **common)
