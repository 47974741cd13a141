"""Time of each layer in a training step, read off a profile of real steps."""

import collections
import math
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from alexnet_tf.evaluation.tables import format_table

_STEPS = 3


def measure_layers(model: keras.Model, step: Callable) -> list[dict]:
    """Profiles some calls of `step`, which must have been called before.

    Returns:
        A row for each layer, towers together: `layer`, and `forward_ms` and
        `backward_ms`, the time per step for which any part of it runs. The
        last rows are the update of the weights, and what belongs to no layer.
    """
    with tempfile.TemporaryDirectory() as directory:
        tf.profiler.experimental.start(directory)
        for _ in range(_STEPS):
            step()
        tf.profiler.experimental.stop()
        (file,) = Path(directory).glob("**/*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    layers = list(
        dict.fromkeys(layer.name.split("_tower")[0] for layer in model.layers)
    )
    spans = collections.defaultdict(list)
    for plane in space.planes:
        for name, start, end in _operations(plane):
            spans[_layer_and_pass(name, layers)].append((start, end))
    times = collections.Counter(
        {key: _union(some) / _STEPS for key, some in spans.items()}
    )
    rows = []
    for name in [*layers, "update", "other"]:
        forward, backward = times[name, "forward"], times[name, "backward"]
        row = {"layer": name, "forward_ms": forward, "backward_ms": backward}
        if forward or backward:
            rows.append(row)
    return rows


def _operations(plane):
    """Yields name, start and end [ms] of each operation of a device."""
    is_gpu = plane.name.startswith("/device:GPU")
    stat_names = {number: m.name for number, m in plane.stat_metadata.items()}
    for line in plane.lines:
        for event in line.events:
            name = plane.event_metadata[event.metadata_id].name
            texts = {
                stat_names[stat.metadata_id]: stat.str_value
                or stat_names.get(stat.ref_value, "")
                for stat in event.stats
            }
            # An operation on a CPU is called name:Type. The loops of XLA
            # record the function they come from, GPU kernels their operation.
            if not re.fullmatch(r"[\w/.\-]+:\w+", name):
                operation = texts.get("tf_op") if is_gpu else ""
                name = texts.get("hlo_module") or operation
            if name:
                start = line.timestamp_ns / 1e6 + event.offset_ps / 1e9
                yield name, start, start + event.duration_ps / 1e9


def _union(spans):
    """Returns the length of time covered by at least one span."""
    total, last_end = 0.0, -math.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, last_end))
        last_end = max(last_end, end)
    return total


def _layer_and_pass(name, layers):
    """Returns (layer, "forward" or "backward") of an operation's name."""
    layer = re.search(rf"({'|'.join(layers)})_tower\d", name)
    is_backward = "gradient_tape" in name or "_backward" in name
    if layer:
        return layer.group(1), "backward" if is_backward else "forward"
    return "update" if "momentum_sgd/" in name else "other", "forward"


def as_table(rows: list[dict]) -> str:
    """Returns the rows of `measure_layers` as text."""
    total = sum(row["forward_ms"] + row["backward_ms"] for row in rows)
    cells = []
    for row in rows:
        name, forward, backward = row.values()
        share = f"{(forward + backward) / total:.1%}"
        cells.append([name, f"{forward:.1f}", f"{backward:.1f}", share])
    table = format_table(["layer", "forward ms", "backward ms", "share"], cells)
    return (
        f"{table}\n{total:.1f} ms a step in all; layers that run at the same "
        "time both count."
    )
