"""The settings that belong to commands; they are not kept with a run."""

import dataclasses

from alexnet_tf.config.field import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class SingleCommands:
    """Any command."""

    distribution: str = setting(
        "mirrored",
        "mirrored: all devices of this process; multi_worker: those of several "
        "processes, on as many machines, that TF_CONFIG names.",
        choices=("mirrored", "multi_worker"),
        of=("train",),
    )
    startup_timeout: float = setting(
        300.0,
        "Time to wait for the other workers [seconds].",
        lower=0.0,
        upper=1e6,
        of=("train", "launch"),
    )
    workers: int = setting(
        2, "Number of processes.", lower=1, upper=64, of=("launch",)
    )
    max_restarts: int = setting(
        3,
        "How often all are started again since one was lost.",
        lower=0,
        of=("launch",),
    )
    override_learning_rate: bool = setting(
        False,
        "Go on with --learning_rate (times batch_size / base_batch_size), not "
        "with the rate that the run had reached.",
        of=("train", "launch"),
    )
    split: str = setting(
        "", "Split to measure; empty: the validation split.", of=("evaluate",)
    )
    ten_crops: bool = setting(
        True,
        "Also average over the four corner patches, the centre one and their "
        "mirror images. Sec. 4.1.",
        of=("evaluate",),
    )
    facts: bool = setting(
        False,
        "What the paper says of the network, counted here.",
        of=("inspect",),
    )
    scale: bool = setting(
        False,
        "Predict the speed of 1 to 1,024 devices from --measured, and draw it "
        "into --figures_dir (default: figures).",
        of=("inspect",),
    )
    measured: str = setting(
        "",
        "What benchmark --what=all --json wrote; with --scale.",
        of=("inspect",),
    )
    devices_per_machine: int = setting(
        8, "Devices of a machine; with --scale.", lower=1, of=("inspect",)
    )
    link: float = setting(
        25.0,
        "Speed of a machine's network [Gbit/s]; with --scale.",
        lower=0.001,
        of=("inspect",),
    )
    device_link: float = setting(
        200.0,
        "Speed between devices of a machine [Gbit/s]; with --scale.",
        lower=0.001,
        of=("inspect",),
    )
    saved_model: str = setting(
        "",
        "Use this exported SavedModel instead of --run_dir.",
        of=("predict",),
    )
    json_lines: bool = setting(
        False, "Print a JSON object a line and file.", of=("predict",)
    )
    caffemodel: str = setting(
        "", "The .caffemodel file to import.", of=("import_caffe",)
    )
    labels: str = setting(
        "",
        "Text file with the name of a class a line, in the order of the "
        "outputs; empty: those of --dataset.",
        of=("import_caffe",),
    )
    keras_file: str = setting(
        "",
        "Also write the network as a .keras file of this name.",
        of=("export",),
    )
    prepared_format: str = setting(
        "jpeg",
        "How images are stored. jpeg: quality 95; raw: bytes, which take "
        "several times the space and no time to decode.",
        choices=("jpeg", "raw"),
        of=("prepare",),
    )
    what: str = setting(
        "step",
        "What to measure. step: a training step on made-up images; input: "
        "images decoded, cut and mirrored on the processor; train: steps on "
        "images that are read; all: these three.",
        choices=("step", "input", "train", "all"),
        of=("benchmark",),
    )
    rounds: int = setting(
        5,
        "Times that each figure is measured, in turns.",
        lower=2,
        of=("benchmark",),
    )
    training_error: float = setting(
        0.25,
        "Tell in which epoch the top-1 error of training fell to this. Sec. "
        "3.1.",
        lower=0.0,
        upper=1.0,
        of=("compare",),
    )
    curves_only: bool = setting(
        False, "Learning curves only, which need no data set.", of=("figures",)
    )
    figures_dir: str = setting(
        "",
        "Directory for what figures, compare and inspect draw; empty: figures "
        "here, for the command figures in the first RUN_DIR.",
        of=("figures", "compare", "inspect"),
    )
    json: str = setting(
        "",
        "Also write what the command prints to this file.",
        of=("evaluate", "predict", "compare", "inspect", "benchmark"),
    )
    debug: bool = setting(False, "Show the stack trace of a user's error.")
