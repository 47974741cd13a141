"""The paper's experiments: the runs of docs/experiments-of-the-paper.md.

From the repository's root, all parts or those named, in that order:

    python -m examples.experiments --jobs=2 --seeds=1,2,3 ablations figure3

Finished runs are left alone and others continue, so an interrupted script can
be started again; log.txt has when runs started, continued and ended. Of
several jobs, each trains one run at a time on a core of its own. --data=DIR
reads the folders DIR/imagenette-160 and DIR/cifar10-jpeg instead of TFDS's data
sets; the part finetuning needs them. All other flags are for the runs, such as
--epochs=1 for a trial.
"""

import argparse
import fnmatch
import itertools
import json
import math
import os
import queue
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from alexnet_tf.evaluation.plots import COLORS, make_figure, make_plain, save
from alexnet_tf.evaluation.tables import format_table
from alexnet_tf.storage.run_dir import RunDir

ROOT = Path("runs", "experiments")
PARTS = (
    *("imagenette", "ablations", "figure3", "finetuning"),
    *("rates", "figure1", "figure1_small", "section3_3"),
)
CROPS = {"center": "center crop", "ten_crop": "ten crops"}
# The whole network on photographs, and smaller ones.
IMAGENETTE = {
    "full": ["--flagfile=imagenette"],
    "half": ["--flagfile=imagenette", "--width=0.5"],
    "one_tower": ["--flagfile=imagenette", "--flagfile=one_gpu"],
}
# Each claim about AlexNet.
CLAIMS = {
    "base": [],
    "one_tower": ["--flagfile=one_gpu"],
    "no_lrn": ["--flagfile=ablations/no_lrn"],
    "non_overlapping_pooling": ["--flagfile=ablations/non_overlapping_pooling"],
    "no_augmentation": ["--flagfile=ablations/no_augmentation"],
    "no_color_noise": ["--flagfile=ablations/no_color_noise"],
    "no_dropout": ["--flagfile=ablations/no_dropout"],
    "no_weight_decay": ["--flagfile=ablations/no_weight_decay"],
    "tanh": ["--flagfile=ablations/tanh"],
    "glorot": ["--flagfile=ablations/glorot"],
    "tanh_glorot": ["--flagfile=ablations/tanh", "--flagfile=ablations/glorot"],
    "without_conv3": ["--flagfile=ablations/without_conv3"],
    "without_conv4": ["--flagfile=ablations/without_conv4"],
    "without_conv5": ["--flagfile=ablations/without_conv5"],
    "no_communication": ["--flagfile=ablations/no_communication"],
    "text": [
        "--initialization=paper",
        "--nolrn_divide_alpha",
        "--color_noise=paper",
        "--mean=image",
    ],
    "source": [
        "--flagfile=code_2012",
        "--exif_orientation",
        "--schedule=0: weights=0.01, biases=0.02; 16: weights=0.001",
        "--epochs=20",
    ],
    "half_precision_links": ["--link_precision=float16"],
    "bfloat16": ["--precision=bfloat16"],
}
ABLATIONS = {
    name: ["--flagfile=experiments", *flags] for name, flags in CLAIMS.items()
}
# All kernels of conv1, and a quarter of the other layers.
FIGURE3 = {
    "conv1": [
        "--flagfile=experiments",
        "--kernels=384,256,384,384,256",
        "--schedule=0: weights=0.01; 8: weights=0.001",
        "--epochs=10",
    ]
}
# Networks for three classes, from one of the seven others or from nothing, by
# the number of images of a class.
NEW = ("n03425413", "n03445777", "n03888257")
COUNTS = (20, 50, 100, 300, 900)
FEW = [
    "--flagfile=experiments",
    "--batch_size=30",
    "--schedule=0: weights=0.01; 48: weights=0.001",
    "--epochs=60",
]
BASE = f"--init_from={ROOT}/finetuning/base-SEED"
STARTS = {  # With their labels in the figure.
    "from_nothing": ("from random weights", []),
    "finetuned": (
        "fine-tuned, conv1 and conv2 frozen",
        [BASE, "--freeze=conv1,conv2"],
    ),
    "finetuned_all_layers": ("fine-tuned, all layers", [BASE]),
}
# The network of Figure 1, and another that it may have been, at the best rates
# of RATES.
FIGURE1 = {
    "relu": ["--flagfile=cifar10/figure1_relu"],
    "tanh": ["--flagfile=cifar10/figure1_tanh"],
}
SMALL = ["--architecture=conv_small", "--kernels=32,32,64"]
FIGURE1_SMALL = {
    "small_relu": [*FIGURE1["relu"], *SMALL],
    "small_tanh": [*FIGURE1["tanh"], *SMALL, "--learning_rate=0.03"],
}
RATES = {
    f"{name}_{rate}": [*flags, f"--learning_rate={rate}", "--epochs=4"]
    for name, flags in (FIGURE1 | FIGURE1_SMALL).items()
    for rate in ("0.0003", "0.001", "0.003", "0.01", "0.03")
}
# They train until their training error is that of the figure, some epochs at a
# time, and not for ever.
FIGURE1_ERROR, FIGURE1_EPOCHS, FIGURE1_AT_ONCE = 0.25, 60, 4
# The networks of 13% and 11% error, and what else than normalization differs.
SHORT = [
    "--schedule=0: weights=1e-3, biases=2e-3; 16: weights=1e-4; "
    "18: weights=1e-5",
    "--epochs=20",
]
THIRTEEN = ["--flagfile=cifar10/conv_local_13pct", *SHORT]
ELEVEN = ["--flagfile=cifar10/conv_local_11pct", *SHORT]
SECTION3_3 = {
    "13pct": THIRTEEN,
    "normalization_alone": [
        *ELEVEN,
        "--kernels=64,64,32,32",
        "--layer_weight_decay=conv1=0,conv2=0",
    ],
    "width_and_decay_alone": [*ELEVEN, "--lrn=off"],
    "11pct": ELEVEN,
}


def run(*words: str, core: int | None = None, output=None) -> int:
    """Runs a command of the program, on one core if given; returns its code."""
    command = [sys.executable, "-m", "alexnet_tf.main", *words]
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    streams = {"stdout": output, "stderr": output, "stdin": subprocess.DEVNULL}
    return subprocess.run(command, **streams).returncode


def run_checked(*words: str) -> None:
    """Runs a command; ends the script if it fails."""
    if code := run(*words):
        sys.exit(code)


def train_all(
    directory: Path,
    variants: Mapping[str, Sequence[str]],
    options: argparse.Namespace,
    flags: Sequence[str],
    *,
    to_figure1: bool = False,
    evaluated: str = "",
) -> None:
    """Trains all variants with one seed, then with the next.

    With `to_figure1` to the training error of Figure 1, unless the flags have
    a number of epochs. Variants named like the pattern `evaluated` are then
    evaluated as they end, with the center patch and with ten.
    """
    if any(word.startswith("--epochs=") for word in options.last):
        to_figure1 = False
    cores: queue.Queue[int] = queue.Queue()
    for core in sorted(os.sched_getaffinity(0))[: options.jobs]:
        cores.put(core)

    def log(text):
        line = f"{time.strftime('%F %T')} {directory.name}/{text}"
        print(line, flush=True)
        with (ROOT / "log.txt").open("a") as file:
            file.write(f"{line}\n")

    def next_epochs(path):
        """Returns the flag for what is left of a run, None if nothing is."""
        run_dir = RunDir(path)
        result = run_dir.read_result()
        if not to_figure1:
            return None if result else []
        errors = [math.inf]
        if result:
            errors = run_dir.read_columns(["top1_error"])["top1_error"]
        done = len(run_dir.read_history())
        if errors[-1] <= FIGURE1_ERROR or done >= FIGURE1_EPOCHS:
            return None
        return [f"--epochs={done + FIGURE1_AT_ONCE}"]

    def train(name):
        """Trains to the end, and evaluates; returns whether that failed."""
        path = directory / name
        variant, _, seed = name.rpartition("-")
        while (epochs := next_epochs(path)) is not None:
            log(f"{name} {'continues' if path.exists() else 'starts'}")
            words = [*variants[variant], *flags, *epochs, f"--seed={seed}"]
            words += options.last
            words = [word.replace("SEED", seed) for word in words]
            code = run_beside(path, *words, f"--run_dir={path}")
            reason = f" with code {code}, see {path}.log" if code else ""
            log(f"{name} ends{reason}")
            if code:
                return True
        report = Path(f"{path}.json")
        if fnmatch.fnmatch(variant, evaluated) and not report.exists():
            words = "evaluate", str(path), "--checkpoint=last"
            return run_beside(path, *words, f"--json={report}") != 0
        return False

    def run_beside(path, *words):
        """Runs a command on a core that is free; returns its code."""
        core = cores.get() if options.jobs > 1 else None
        try:
            with Path(f"{path}.log").open("a") as out:
                return run(*words, core=core, output=out)
        finally:
            if core is not None:
                cores.put(core)

    directory.mkdir(parents=True, exist_ok=True)
    names = [f"{name}-{seed}" for seed in options.seeds for name in variants]
    pool = ThreadPoolExecutor(options.jobs)
    try:
        failed = list(itertools.compress(names, pool.map(train, names)))
    except KeyboardInterrupt:  # The runs stop, too; no other starts.
        pool.shutdown(cancel_futures=True)
        sys.exit(128 + signal.SIGINT)
    if failed:
        sys.exit(f"{len(failed)} runs failed: {', '.join(failed)}")


def compare(directory: Path, first: str, *flags: str) -> None:
    """Compares the runs of a directory with those of the first variant."""
    runs = sorted(path.parent for path in directory.glob("*/result.json"))
    runs.sort(key=lambda path: not path.name.startswith(f"{first}-"))
    figures = ROOT / "figures" / directory.name
    outputs = (f"--figures_dir={figures}", f"--json={directory}.json")
    run_checked("compare", *map(str, runs), *flags, *outputs)


def show_errors(directory: Path) -> None:
    """Prints a row for each evaluated variant: mean and range of its seeds."""
    reports: dict[str, list[dict]] = {}
    for file in sorted(directory.glob("*-*.json")):
        variant = file.stem.rpartition("-")[0]
        reports.setdefault(variant, []).append(json.loads(file.read_text()))
    measured = list(itertools.product(CROPS, ("top1_error", "top5_error")))
    titles = [f"{CROPS[crops]}, {name[:4]} %" for crops, name in measured]
    rows = []
    for variant, runs in reports.items():
        cells = [variant, str(len(runs))]
        for crops, name in measured:
            errors = [100 * run[crops][name] for run in runs]
            mean = statistics.fmean(errors)
            cells.append(f"{mean:.1f} ({min(errors):.1f}-{max(errors):.1f})")
        rows.append(cells)
    print(format_table(["", "seeds", *titles], rows, markdown=True))


def link_classes(
    source: Path, target: Path, names: Sequence[str], count: int | None = None
) -> list[str]:
    """Makes a folder of the first training images of classes, of links.

    Returns:
        The flag for it.
    """
    for part in ("train", "val"):
        for name in names:
            folder = target / part / name
            folder.mkdir(parents=True, exist_ok=True)
            files = sorted((source / part / name).resolve().iterdir())
            for file in files[: count if part == "train" else None]:
                if not (folder / file.name).exists():
                    (folder / file.name).symlink_to(file)
    return [f"--dataset=folder:{target}"]


def finetune(options: argparse.Namespace) -> None:
    """Trains for three classes with several numbers of images."""
    source, directory = (
        Path(options.data, "imagenette-160"),
        ROOT / "finetuning",
    )
    names = {path.name for path in (source / "train").iterdir()}
    seven = link_classes(source, directory / "seven", sorted(names - set(NEW)))
    train_all(directory, {"base": ["--flagfile=experiments"]}, options, seven)
    for count in COUNTS:
        few = link_classes(source, directory / f"{count}", NEW, count)
        starts = {
            f"{count}_{name}": FEW + flags
            for name, (_, flags) in STARTS.items()
        }
        train_all(directory, starts, options, few)
    draw_few(directory)


def draw_few(directory: Path) -> None:
    """Draws the error after the last epoch by the number of images."""
    figure = make_figure((7, 4.2), "Three classes, from few images of each")
    axes = figure.add_subplot()
    for (start, (label, _)), color in zip(STARTS.items(), COLORS, strict=False):
        means = []
        for count in COUNTS:
            runs = directory.glob(f"{count}_{start}-*/result.json")
            histories = [
                RunDir(run.parent).read_columns(["val_top1_error"])
                for run in runs
            ]
            errors = [100 * h["val_top1_error"][-1] for h in histories]
            axes.plot(
                [count] * len(errors), errors, "o", color=color, alpha=0.4
            )
            means.append(statistics.fmean(errors))
            print(f"{start}, {count} images: {means[-1]:.1f}% of {errors}")
        axes.plot(COUNTS, means, color=color, label=f"{label}: seeds, mean")
    axes.set_xscale("log")
    axes.set_xticks(COUNTS, list(map(str, COUNTS)), minor=False)
    axes.minorticks_off()
    axes.set(xlabel="training images of a class", ylim=(0, None))
    axes.set_ylabel("validation images misclassified [%]")
    make_plain(axes)
    axes.legend(frameon=False)
    save(figure, ROOT / "figures" / "finetuning", name="few_images")


def _numbers(text):
    return [int(number) for number in text.split(",")]


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line; `last` has the flags for the runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seeds", type=_numbers, default=[1, 2, 3])
    parser.add_argument("--data")
    options, options.last = parser.parse_known_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(unknown)}; give {', '.join(PARTS)}")
    if "finetuning" in options.parts and not options.data:
        parser.error("finetuning needs --data=DIR with DIR/imagenette-160")
    if not options.parts:
        options.parts = list(PARTS)
        if not options.data:
            print("The part finetuning is left out: it needs --data=DIR.")
            options.parts.remove("finetuning")
    return options


def main() -> None:
    """Runs the parts."""
    options = read_options()

    def with_seeds(*seeds):
        return argparse.Namespace(**(vars(options) | {"seeds": seeds}))

    def prepared(flag_file, name, folder):
        source = f"folder:{options.data}/{folder}" if options.data else name
        target = ROOT / "prepared" / Path(flag_file).name
        flags = [f"--dataset={source}", f"--prepared_dir={target}"]
        words = [f"--flagfile={flag_file}", *flags, "--prepared_format=raw"]
        run_checked("prepare", *words)
        return flags

    photos = "imagenette/160px-v2", "imagenette-160"
    small = "cifar10/figure1_relu", "cifar10", "cifar10-jpeg"
    for part in options.parts:
        directory = ROOT / part
        if part == "imagenette":
            flags = prepared("imagenette", *photos)
            train_all(directory, IMAGENETTE, options, flags, evaluated="*")
            compare(directory, "full")
            show_errors(directory)
        elif part == "ablations":
            flags = prepared("experiments", *photos)
            train_all(directory, ABLATIONS, options, flags, evaluated="base")
            compare(directory, "base", "--training_error=0.4")
            show_errors(directory)
        elif part == "figure3":
            flags = prepared("experiments", *photos)
            ten = with_seeds(*range(1, 11))
            train_all(directory, FIGURE3, ten, flags)
            runs = [str(directory / f"conv1-{seed}") for seed in ten.seeds]
            figures = f"--figures_dir={ROOT / 'figures' / part}"
            run_checked("figures", *runs, figures)
        elif part == "finetuning":
            finetune(options)
        elif part == "rates":
            train_all(directory, RATES, with_seeds(1), prepared(*small))
            compare(directory, "relu_0.001")
        elif part == "figure1":
            flags = prepared(*small)
            train_all(directory, FIGURE1, options, flags, to_figure1=True)
            compare(directory, "relu")
        elif part == "figure1_small":
            flags = prepared(*small)
            train_all(directory, FIGURE1_SMALL, options, flags, to_figure1=True)
            compare(directory, "small_relu")
        elif part == "section3_3":
            flags = prepared(*small)
            train_all(directory, SECTION3_3, options, flags, evaluated="*")
            compare(directory, "13pct")
            show_errors(directory)


if __name__ == "__main__":
    main()
