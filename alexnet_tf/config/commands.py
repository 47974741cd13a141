"""The commands: what each takes and does, and the flags that only some have."""

import dataclasses
import difflib
import shlex
import shutil
import sys
import textwrap
from pathlib import Path

from alexnet_tf.config.data import Data
from alexnet_tf.config.errors import UserError
from alexnet_tf.config.field import PATH, setting
from alexnet_tf.config.network import Network
from alexnet_tf.config.runtime import Hardware, Output
from alexnet_tf.config.training import Training

# Formats of export: the name of the file in the run directory, and the packages
# in requirements-export.txt that write and read it.
EXPORT_FORMATS = {
    "saved_model": ("saved_model", ()),
    "saved_model_bfloat16": ("saved_model_bfloat16", ()),
    "keras": ("alexnet.keras", ()),
    "onnx": ("alexnet.onnx", ("onnx", "tf2onnx", "onnxruntime")),
    "tflite": ("alexnet.tflite", ("ai_edge_litert",)),
    "tflite_int8": ("alexnet_int8.tflite", ("ai_edge_litert",)),
    "safetensors": ("alexnet.safetensors", ("safetensors",)),
}
_CALL = "python -m alexnet_tf.main"
_FLAG_FILES = """\
--flagfile=FILE reads flags from a file: a path, or the name of one of this
project's, with or without flags/ and .cfg, from any directory. If a flag is
given twice, the last one counts: --flagfile=flags/paper.cfg --batch_size=256
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommandOptions:
    """Any command."""

    # These are not saved with a run. `Command.flags` lists who takes them.
    cluster: str = setting(
        "auto",
        "Workers that train together, usually one per machine: those of "
        "TF_CONFIG, of a Slurm step (srun) or of Ray Train; auto: those that "
        "the environment shows; none: this process alone.",
        choices=("auto", "tf_config", "slurm", "ray", "none"),
    )
    startup_timeout: float = setting(
        300.0, "Wait for other workers [seconds].", lower=0.0, upper=1e6
    )
    workers: int = setting(2, "Number of processes.", lower=1, upper=64)
    max_restarts: int = setting(
        3, "Restarts of all workers after one is lost, at most.", lower=0
    )
    override_learning_rate: bool = setting(
        False,
        "Continue with --learning_rate (times batch_size / base_batch_size) "
        "instead of the rate that the run has reached.",
    )
    checkpoint: str = setting(
        "best",
        "Weights to use: those of the best epoch, which the validation error "
        "chose, or the last.",
        choices=("best", "last"),
    )
    split: str = setting("", "Split to measure; empty: the validation split.")
    weights: str = setting(
        "",
        "Weights of the runs in the average: a number for each run, which add "
        "up to 1, as 0.5,0.3,0.2; or search: those with the lowest top-1 error "
        "on the images that are measured. Empty: equal ones.",
    )
    ten_crops: bool = setting(
        True, "Also average over corners, center and mirror images. Sec. 4.1."
    )
    paper_facts: bool = setting(
        False,
        "Compare the paper's numbers with those of this network, which has "
        "1,000 classes unless --dataset or --run_dir is given.",
    )
    schedule_table: bool = setting(
        False, "Print the epochs, learning rates and color noise of --schedule."
    )
    scale: bool = setting(
        False,
        "Predict the speed of 1 to 1,024 devices from --benchmark_json and "
        "plot it to --figures_dir (default: figures).",
    )
    benchmark_json: str = setting(
        "", "Output of benchmark --target=all --json; with --scale.", path=PATH
    )
    devices_per_machine: int = setting(
        8, "Devices of a machine; with --scale.", lower=1
    )
    network_gbps: float = setting(
        25.0, "Bandwidth of a machine [Gbit/s]; with --scale.", lower=0.001
    )
    device_gbps: float = setting(
        200.0, "Bandwidth of a device [Gbit/s]; with --scale.", lower=0.001
    )
    saved_model: str = setting(
        "", "Exported SavedModel to use instead of --run_dir.", path=PATH
    )
    json_lines: bool = setting(False, "Print one JSON object per file.")
    caffemodel: str = setting("", "The .caffemodel file to import.", path=PATH)
    safetensors: str = setting(
        "",
        "The .safetensors file of torchvision's AlexNet to import.",
        path=PATH,
    )
    labels: str = setting(
        "",
        "Text file with one line per class: CLASS LABEL in any order, or LABEL "
        "in the order of the outputs. Empty: the labels of the run; ImageNet's "
        "classes (n01440764) have some anyway.",
        path=PATH,
    )
    format: str = setting(
        "saved_model",
        f"Formats to write, separated by commas: {', '.join(EXPORT_FORMATS)}.",
    )
    keras_file: str = setting(
        "", "Also save the network to this .keras file.", path=PATH
    )
    prepared_format: str = setting(
        "jpeg",
        "Storage format of the images. jpeg: quality 95; raw: uncompressed, "
        "about ten times as large, with nothing to decode.",
        choices=("jpeg", "raw"),
    )
    target: str = setting(
        "step",
        "What to measure. step: a training step on synthetic images; input: "
        "decoding, cropping and mirroring on the CPU; train: training steps "
        "on images read from files; all: all three.",
        choices=("step", "input", "train", "all"),
    )
    rounds: int = setting(5, "Interleaved repetitions.", lower=2)
    training_error: float = setting(
        0.25,
        "Report the epoch that reaches this top-1 training error. Sec. 3.1.",
        lower=0.0,
        upper=1.0,
    )
    curves_only: bool = setting(
        False, "Learning curves only, which need no data set."
    )
    figures_dir: str = setting(
        "",
        "Output directory; empty: figures/ in the first RUN_DIR, for compare "
        "and inspect in the current directory.",
        path=PATH,
    )
    json: str = setting(
        "", "Also write the results to this JSON file.", path=PATH
    )
    debug: bool = setting(False, "Show the stack trace of a user error.")

    def average_weights(self) -> list[float]:
        """Returns the numbers in --weights, none if there are none."""
        if self.weights in ("", "search"):
            return []
        try:
            weights = [float(text) for text in self.weights.split(",")]
        except ValueError:
            weights = []
        total = sum(weights)
        if min(weights, default=-1) < 0 or not 0.99 < total < 1.01:
            raise UserError(
                f"--weights={self.weights}; give search, or a number from 0 to "
                "1 for each run, which add up to 1, as 0.5,0.3,0.2."
            )
        return [weight / total for weight in weights]

    def export_formats(self) -> list[str]:
        """Returns the names in --format."""
        names = [name.strip() for name in self.format.split(",")]
        for name in names:
            if name not in EXPORT_FORMATS:
                raise UserError(
                    f"--format={self.format}: {name!r} is not a format; give "
                    f"some of {','.join(EXPORT_FORMATS)}."
                )
        return list(dict.fromkeys(names))


@dataclasses.dataclass(frozen=True)
class Command:
    """What a command takes and does."""

    summary: str  # A sentence without a capital and a stop.
    details: str  # What else a user needs to know.
    examples: tuple[str, ...]  # Command lines, without the program.
    words: str = ""  # Arguments besides flags, such as "FILE...".
    flags: tuple[str, ...] = ()  # Its flags among `CommandOptions`.
    groups: tuple[type, ...] = ()  # Other settings that matter to it.
    # "run" puts the flags.cfg of --run_dir under the flags, "resumed run" only
    # under flags of neither data nor network; "each run" does the same as "run"
    # for each run directory among the words.
    settings: str = "flags"
    # Whether it opens --dataset, and the flags whose files it writes.
    reads_data: bool = False
    writes: tuple[str, ...] = ()
    newest: bool = False  # Whether it takes the newest run if none is named.
    # Files in flags/ that come under the flags if a flag is given.
    flag_files: dict[str, str] = dataclasses.field(default_factory=dict)


_TRAINING_GROUPS = (Data, Network, Training, Hardware, Output)
COMMANDS = {
    "train": Command(
        "train the network (the default); resumes an interrupted --run_dir",
        "The run directory receives the settings, history.csv, checkpoints, "
        "TensorBoard files, result.json and the best weights as a SavedModel. "
        "Ctrl-C stops after the current step.",
        (
            "--flagfile=flags/quickstart.cfg",
            "--flagfile=flags/paper.cfg --run_dir=runs/paper",
        ),
        flags=(
            *("cluster", "startup_timeout", "override_learning_rate"),
            "labels",
        ),
        groups=_TRAINING_GROUPS,
        reads_data=True,
        writes=("run_dir", "data_dir"),
        settings="resumed run",
    ),
    "launch": Command(
        "train with --workers processes on this machine, to emulate several "
        "machines; restarts all of them if one is lost",
        "Shows the output of the first worker; worker 1 writes to "
        "worker-1.log in the run directory, and so on. Takes the flags of "
        "train except --cluster; --virtual_devices and --gpus (auto, all "
        "or none) are per worker.",
        ("launch --workers=2 --flagfile=flags/quickstart.cfg",),
        flags=(
            *("workers", "max_restarts"),
            *("startup_timeout", "override_learning_rate", "labels"),
        ),
        groups=_TRAINING_GROUPS,
        reads_data=True,
        writes=("run_dir", "data_dir"),
        settings="resumed run",
    ),
    "evaluate": Command(
        "top-1 and top-5 error of runs' best checkpoints, of their averaged "
        "predictions, and of each class; confusion matrix, as PNG and SVG",
        "Settings come from each run's flags.cfg; flags given here override "
        "them. Mean and classes are the run's.",
        (
            "evaluate runs/a runs/b --json=errors.json",
            "evaluate runs/a runs/b --weights=search",
        ),
        words="RUN_DIR...",
        flags=(
            *("checkpoint", "split", "ten_crops", "weights", "labels"),
            *("figures_dir", "json"),
        ),
        groups=(Data, Hardware),
        settings="each run",
        reads_data=True,
        writes=("data_dir", "figures_dir", "json"),
        newest=True,
    ),
    "predict": Command(
        "five most probable labels of image files, of folders of them, or of "
        "a list on standard input (-), by --run_dir or --saved_model",
        "Files that cannot be read are reported on standard error and the "
        "exit code is 1; the other files are still classified.",
        (
            "predict photos/ --run_dir=runs/quickstart",
            "predict a.jpg --saved_model=runs/a/saved_model --json_lines",
        ),
        words="FILE...",
        flags=("saved_model", "labels", "json_lines", "json"),
        groups=(Output,),
        settings="run",
        writes=("json",),
        newest=True,
    ),
    "prepare": Command(
        "resize --dataset once into --prepared_dir, where train and evaluate "
        "then read it",
        "The same command resumes an interrupted one. --run_dir has no effect.",
        ("prepare --dataset=folder:photos --prepared_dir=photos256",),
        flags=("prepared_format",),
        groups=(Data,),
        reads_data=True,
        writes=("prepared_dir", "data_dir"),
    ),
    "benchmark": Command(
        "measure the speed of --target next to the machine's own limits",
        "Settings are the paper's unless given, whatever --run_dir contains; "
        "images are synthetic. --target=step takes a few minutes.",
        ("benchmark --target=step --precision=bfloat16",),
        flags=("target", "rounds", "json"),
        groups=(Data, Network, Training, Hardware),
        writes=("json",),
    ),
    "export": Command(
        "save --run_dir's best weights in each --format, and a model card",
        "The files are in the run directory. Each is reloaded and compared "
        "with the run on 50 validation images; the exit code is 1 if the "
        "probabilities of one differ by more than 1e-4. (Those of "
        "8 and 16 bits are approximate; their validation errors are shown.)",
        (
            "export --run_dir=runs/quickstart --format=onnx,tflite",
            "export --run_dir=runs/quickstart --keras_file=alexnet.keras",
        ),
        flags=("format", "keras_file", "labels"),
        groups=(Data, Output),
        settings="run",
        writes=("run_dir", "keras_file"),
        newest=True,
    ),
    "import_weights": Command(
        "convert --caffemodel, Caffe's AlexNet or CaffeNet with weights, or "
        "--safetensors, torchvision's AlexNet, to a run",
        "Settings are those of flags/caffe_alexnet.cfg or "
        "flags/torchvision.cfg unless given. evaluate, predict, figures, "
        "export and train --init_from accept the run.",
        (
            "import_weights --caffemodel=bvlc_alexnet.caffemodel "
            "--mean=imagenet_mean.binaryproto --run_dir=runs/caffe_alexnet",
            "import_weights --safetensors=alexnet.safetensors",
        ),
        flags=("caffemodel", "safetensors", "labels"),
        groups=(Data, Network, Output),
        flag_files={
            "caffemodel": "caffe_alexnet.cfg",
            "safetensors": "torchvision.cfg",
        },
        writes=("run_dir",),
    ),
    "inspect": Command(
        "show layers, parameters, memory and devices without training",
        "Describes --run_dir, or the settings given.",
        (
            "inspect --flagfile=flags/paper.cfg --virtual_devices=4",
            "inspect --paper_facts --flagfile=flags/paper.cfg",
            "inspect --schedule_table --flagfile=flags/code_2012.cfg",
            "inspect --scale --benchmark_json=benchmark.json",
        ),
        flags=(
            *("paper_facts", "schedule_table", "scale", "benchmark_json"),
            *("devices_per_machine", "network_gbps", "device_gbps"),
            *("figures_dir", "json"),
        ),
        groups=_TRAINING_GROUPS,
        settings="run",
        reads_data=True,
        writes=("figures_dir", "json"),
    ),
    "compare": Command(
        "compare the errors of finished runs across seeds, as a table and as "
        "figures",
        "Runs whose settings differ only in the seed and in paths form a row; "
        "folders whose images have equal names are one --dataset. The first "
        "row is the baseline.",
        ("compare runs/a-* runs/b-* --figures_dir=figures",),
        words="RUN_DIR...",
        flags=("training_error", "figures_dir", "json"),
        settings="each run",
        writes=("figures_dir", "json"),
    ),
    "figures": Command(
        "plot the learning curves of runs together, and each run's first "
        "kernels, sample predictions, wrong answers and nearest neighbors, as "
        "PNG and SVG",
        "Settings come from each run's flags.cfg.",
        ("figures runs/quickstart runs/no_lrn --figures_dir=figures",),
        words="RUN_DIR...",
        flags=("checkpoint", "curves_only", "labels", "figures_dir"),
        settings="each run",
        writes=("figures_dir",),
        newest=True,
    ),
}

# Former names of commands.
FORMER_COMMANDS = {"import_caffe": "import_weights"}


def owners(flag: str) -> list[str]:
    """Returns the commands that a flag belongs to; empty if to all."""
    return [name for name, c in COMMANDS.items() if flag in c.flags]


def takes(command: str, flag: str) -> bool:
    """Returns whether a command takes a flag."""
    return command in (owners(flag) or [command])


def find_command(name: str, words: list[str]) -> Command:
    """Returns a command, given what follows its name on the command line."""
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        names = ", ".join(COMMANDS)
        raise UserError(f"{name!r} is not a command; use one of {names}.{hint}")
    if words and not COMMANDS[name].words:
        raise UserError(
            f"{name} does not take {' '.join(words)!r}; flags begin with --. "
            "See --help."
        )
    return COMMANDS[name]


def call(*words: object) -> str:
    """Returns a command line to copy, with the program as it was called."""
    program = [sys.orig_argv[0], "-m", "alexnet_tf.main"]
    if Path(sys.argv[0]).name == "alexnet":
        is_found = shutil.which("alexnet") == sys.argv[0]
        program = ["alexnet" if is_found else sys.argv[0]]
    return shlex.join([*program, *map(str, words)])


def usage(name: str = "") -> str:
    """Returns the part of --help before the flags, of one command or of all."""
    if name:
        command = COMMANDS[name]
        call = f"{_CALL} {name} {command.words}".rstrip()
        summary = command.summary[0].upper() + command.summary[1:]
        text = textwrap.fill(f"{summary}. {command.details}", 78)
        examples = "".join(f"  {_CALL} {e}\n" for e in command.examples)
        return (
            f"usage: {call} [--flag=value ...]\n\n{text}\n\n{examples}\n"
            f"{_FLAG_FILES}"
        )
    lines = [f"usage: {_CALL} [COMMAND] [--flag=value ...]", ""]
    for name, command in COMMANDS.items():
        text = f"  {name + ' ' + command.words:21} {command.summary}"
        lines += textwrap.wrap(text, 78, subsequent_indent=24 * " ")
    more = "COMMAND --help shows more about one, --helpfull all flags."
    lines += ["", more, _FLAG_FILES]
    return "\n".join(lines)
