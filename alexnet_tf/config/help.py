"""The commands, and what --help says of them."""

import dataclasses
import textwrap
from collections.abc import Sequence

from alexnet_tf.config.training import Data, Hardware, Network, Output, Training

_CALL = "python -m alexnet_tf.main"
_FLAG_FILES = """\
--flagfile=FILE reads flags from a file; of a flag given twice the last one
counts: --flagfile=flags/paper.cfg --batch_size=256
"""
_OF_A_RUN = "All settings of the run are taken from its flags.cfg; "


@dataclasses.dataclass(frozen=True)
class Command:
    """What a command takes and does.

    Attributes:
        words: The words it takes, as "FILE..."; empty if it takes none.
        summary: What it does, in a sentence.
        details: What a user must know beside that.
        examples: Command lines, without the program.
        groups: The groups of flags that matter to it, beside its own.
    """

    words: str
    summary: str
    details: str
    examples: Sequence[str]
    groups: Sequence[type] = ()


COMMANDS = {
    "train": Command(
        "",
        "train the network (the default); on the --run_dir of an interrupted "
        "run it goes on",
        "Ends after --epochs or when the plateau rule says so. The run "
        "directory has its settings, history.csv, checkpoints, TensorBoard's "
        "files, result.json and the best weights as a SavedModel. Ctrl-C "
        "stops it after the step; the same command goes on from there.",
        [
            "--flagfile=flags/quickstart.cfg",
            "--flagfile=flags/paper.cfg --run_dir=runs/paper",
        ],
        (Data, Network, Training, Hardware, Output),
    ),
    "launch": Command(
        "",
        "train with --workers processes on this machine, as on so many "
        "machines; if one is lost all start again",
        "What the first one says is shown, what worker 1 says is in "
        "worker-1.log of the run directory. Flags are those of train but for "
        "--distribution; --virtual_devices and --gpus (auto, all or none) "
        "count for each worker. For machines of their own see train "
        "--distribution.",
        ["launch --workers=2 --flagfile=flags/quickstart.cfg"],
        (Data, Network, Training, Hardware, Output),
    ),
    "evaluate": Command(
        "RUN_DIR...",
        "top-1 and top-5 error of runs' best checkpoints, of the average of "
        "their predictions, and of each class",
        f"{_OF_A_RUN}flags given here win, as another --split, --gpus or "
        "--batch_size. Mean and classes are those of the run.",
        ["evaluate runs/a runs/b --json=errors.json"],
        (Data, Hardware),
    ),
    "predict": Command(
        "FILE...",
        "five best labels of image files, of folders of them, or of a list on "
        "standard input (-), by --run_dir or --saved_model",
        "Files that cannot be read are named on standard error, and the exit "
        "code is 1; the others are done.",
        [
            "predict photos/ --run_dir=runs/quickstart",
            "predict a.jpg --saved_model=runs/quickstart/saved_model "
            "--json_lines",
        ],
        (Output,),
    ),
    "prepare": Command(
        "",
        "--dataset rescaled once, into --prepared_dir, where train and "
        "evaluate look for it",
        "Interrupted, the same command goes on. A --run_dir does not matter.",
        ["prepare --dataset=folder:photos --prepared_dir=photos256"],
        (Data,),
    ),
    "benchmark": Command(
        "",
        "speed of --what beside the machine's own limits",
        "Settings are the paper's unless given, whatever is in a --run_dir; "
        "the images are made up. A few minutes for --what=step.",
        ["benchmark --what=step --precision=bfloat16"],
        (Data, Network, Training, Hardware),
    ),
    "export": Command(
        "",
        "--run_dir's best weights as a SavedModel, and as --keras_file",
        "The SavedModel is saved_model in the run directory. It is loaded "
        "again and compared; the exit code is 1 if it answers otherwise.",
        ["export --run_dir=runs/quickstart --keras_file=alexnet.keras"],
        (Output,),
    ),
    "import_caffe": Command(
        "",
        "make a run of --caffemodel, an AlexNet or CaffeNet with its weights",
        "The settings are those of flags/caffe_alexnet.cfg unless given. "
        "evaluate, predict, figures, export and train --init_from take the "
        "run like any other.",
        [
            "import_caffe --caffemodel=bvlc_alexnet.caffemodel "
            "--mean=imagenet_mean.binaryproto --run_dir=runs/caffe_alexnet",
        ],
        (Data, Network, Output),
    ),
    "inspect": Command(
        "",
        "layers, parameters, memory and devices; trains nothing",
        "Of --run_dir, or of the settings given.",
        [
            "inspect --flagfile=flags/paper.cfg --virtual_devices=4",
            "inspect --facts --flagfile=flags/paper.cfg",
            "inspect --scale --measured=benchmark.json",
        ],
        (Data, Network, Training, Hardware, Output),
    ),
    "compare": Command(
        "RUN_DIR...",
        "errors of finished runs over their seeds, as a table and as figures",
        "Runs whose settings differ in nothing but the seed (and in where "
        "things lie) make a row; those of the first one are what the others "
        "differ from.",
        ["compare runs/small/* --figures_dir=figures"],
    ),
    "figures": Command(
        "RUN_DIR...",
        "learning curves of runs laid over one another, and of each its first "
        "kernels, some answers, and images with their nearest neighbours, as "
        "PNG and SVG",
        f"{_OF_A_RUN}all but the curves need its data set.",
        ["figures runs/quickstart runs/no_lrn --figures_dir=figures"],
    ),
}


def usage(name: str = "") -> str:
    """Returns what --help says of a command, or of all, before the flags."""
    if name:
        return _usage_of(name, COMMANDS[name])
    lines = [f"usage: {_CALL} [COMMAND] [--flag=value ...]", ""]
    for command_name, command in COMMANDS.items():
        lines += textwrap.wrap(
            f"{command_name + ' ' + command.words:21} {command.summary}",
            78,
            initial_indent="  ",
            subsequent_indent=24 * " ",
        )
    lines += ["", "COMMAND --help tells more of one.", _FLAG_FILES]
    return "\n".join(lines)


def _usage_of(name, command):
    words = f" {command.words}" if command.words else ""
    summary = command.summary[0].upper() + command.summary[1:]
    lines = [
        f"usage: {_CALL} {name}{words} [--flag=value ...]",
        "",
        textwrap.fill(f"{summary}. {command.details}", 78),
        "",
        *(f"  {_CALL} {example}" for example in command.examples),
        "",
        _FLAG_FILES,
    ]
    return "\n".join(lines)
