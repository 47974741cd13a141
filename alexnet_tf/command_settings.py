"""The settings that belong to a command, not to a run."""

import dataclasses

from alexnet_tf.setting import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class SingleCommands:
    """Any command, not kept with a run."""

    distribution: str = setting(
        "mirrored",
        "train: mirrored: all devices of this process; multi_worker: those of "
        "several processes, on as many machines, that TF_CONFIG names.",
        choices=("mirrored", "multi_worker"),
    )
    startup_timeout: float = setting(
        300.0,
        "train: time to wait for the other workers [seconds].",
        lower=0.0,
        upper=1e6,
    )
    workers: int = setting(2, "launch: number of processes.", lower=1, upper=64)
    max_restarts: int = setting(
        3,
        "launch: how often all are started again since one was lost.",
        lower=0,
    )
    override_learning_rate: bool = setting(
        False,
        "train: go on with --learning_rate, not with the rate that the run "
        "had reached.",
    )
    split: str = setting(
        "", "evaluate: split to measure; empty: the validation split."
    )
    ten_crops: bool = setting(
        True,
        "evaluate: also average over the four corner patches, the centre one "
        "and their mirror images. Sec. 4.1.",
    )
    facts: bool = setting(
        False, "inspect: what the paper says of the network, counted here."
    )
    scale: bool = setting(
        False,
        "inspect: predict the speed of 1 to 1,024 devices from --measured, and "
        "draw it into --figures_dir (default: figures).",
    )
    measured: str = setting(
        "", "inspect: what benchmark --what=all --json wrote; with --scale."
    )
    devices_per_machine: int = setting(
        8, "inspect: devices of a machine; with --scale.", lower=1
    )
    link: float = setting(
        25.0, "inspect: speed of a machine's network [Gbit/s].", lower=0.001
    )
    device_link: float = setting(
        200.0,
        "inspect: speed between devices of a machine [Gbit/s].",
        lower=0.001,
    )
    saved_model: str = setting(
        "", "predict: use this exported SavedModel instead of --run_dir."
    )
    json_lines: bool = setting(
        False, "predict: print a JSON object a line and file."
    )
    caffemodel: str = setting(
        "", "import_caffe: the .caffemodel file to import."
    )
    labels: str = setting(
        "",
        "import_caffe: text file with the name of a class a line, in the order "
        "of the outputs; empty: those of --dataset.",
    )
    keras_file: str = setting(
        "", "export: also write the network as a .keras file of this name."
    )
    prepared_format: str = setting(
        "jpeg",
        "prepare: how images are stored. jpeg: quality 95; raw: bytes, which "
        "take several times the space and no time to decode.",
        choices=("jpeg", "raw"),
    )
    what: str = setting(
        "step",
        "benchmark: what to measure. step: a training step on made-up images; "
        "input: images decoded, cut and mirrored on the processor; train: "
        "steps on images that are read; all: these three.",
        choices=("step", "input", "train", "all"),
    )
    rounds: int = setting(
        5, "benchmark: times that each figure is measured, in turns.", lower=2
    )
    training_error: float = setting(
        0.25,
        "compare: tell in which epoch the top-1 error of training fell to "
        "this. Sec. 3.1.",
        lower=0.0,
        upper=1.0,
    )
    curves_only: bool = setting(
        False, "figures: learning curves only, which need no data set."
    )
    figures_dir: str = setting(
        "",
        "Directory for what figures, compare and inspect draw; empty: figures "
        "here, for the command figures in the first RUN_DIR.",
    )
    json: str = setting("", "Also write what the command prints to this file.")
    debug: bool = setting(False, "Show the stack trace of a user's error.")
