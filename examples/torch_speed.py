"""Speeds of training steps, of this program and of PyTorch, in turns.

From the repository's root:

    python -m examples.torch_speed [--torch=PYTHON] [--preload=LIBRARY]

of torch_alexnet.py, which runs in a process of its own, by a PYTHON that has
PyTorch. Both train the whole network on batches of 128 images of 224 pixels
that are in memory. A LIBRARY such as jemalloc's libjemalloc.so.2 takes the
place of PyTorch's memory allocator.
"""

import argparse
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from alexnet_tf.benchmarks import step
from alexnet_tf.benchmarks.timing import measure_in_turns, speed_table
from alexnet_tf.config.flags import parse
from alexnet_tf.distribution.devices import connect

# jemalloc keeps what it has, as TensorFlow does.
_KEEP = "oversize_threshold:0,dirty_decay_ms:-1,muzzy_decay_ms:-1"


@contextlib.contextmanager
def torch_steps(python: str, preload: str, precision: str):
    """Yields a function that makes a step in a process of PyTorch."""
    program = Path(__file__).with_name("torch_alexnet.py")
    environment = dict(os.environ)
    if preload:
        environment |= {"LD_PRELOAD": preload, "MALLOC_CONF": _KEEP}
    with subprocess.Popen(
        [python, program, precision],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:

        def make_step():
            print(file=process.stdin, flush=True)
            return int(process.stdout.readline())

        yield make_step


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--torch", default=sys.executable)
    parser.add_argument("--preload", default="")
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    if subprocess.run([options.torch, "-c", "import torch"]).returncode:
        parser.error(
            f"{options.torch} cannot import PyTorch, see above; give a "
            "--torch=PYTHON that can."
        )
    batches, subjects = step.make_batches(128, 224), {}
    with contextlib.ExitStack() as stack:
        for precision in ("float32", "bfloat16"):
            config, _ = parse([f"--precision={precision}"])
            network = step.make_network(config, connect(config))
            subjects[precision] = step.step_in_loop(network, batches)
            subjects[f"PyTorch, {precision}"] = stack.enter_context(
                torch_steps(options.torch, options.preload, precision)
            )
        *_, times = measure_in_turns(subjects, options.rounds, warmup_calls=1)
    rows = []
    for name, subject in times.items():
        base = times[name.split(", ")[-1]]
        ratios = np.divide(base.wall, subject.wall)
        rows.append({"what": name, **subject.speed(), "of": np.median(ratios)})
        rows[-1]["spread"] = f"({min(ratios):.2f}-{max(ratios):.2f})"
    columns = {"of": ("of ours", ".2f"), "spread": ("(spread)", "")}
    print(speed_table(rows, columns))


if __name__ == "__main__":
    main()
