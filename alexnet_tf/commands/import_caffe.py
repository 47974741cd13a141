"""Imports a network trained with Caffe as a run."""

import dataclasses
import hashlib
import math
from pathlib import Path

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config, to_flagfile
from alexnet_tf.data import splits
from alexnet_tf.data import tfds_source as sources
from alexnet_tf.data.labels import read_lines
from alexnet_tf.models import caffe_weights
from alexnet_tf.models.build import build_network
from alexnet_tf.storage import checkpoints
from alexnet_tf.storage.caffe_format import read_network
from alexnet_tf.storage.dataset_info import placeholder_info, write_dataset_info
from alexnet_tf.storage.files import write_json, write_whole
from alexnet_tf.storage.run_dir import open_run

# Caffe's mean color of ImageNet, BGR turned to RGB.
_MEAN_RGB = [123.0, 117.0, 104.0]
# SHA-1, name, and what its readme says of ILSVRC-2012's validation images.
_PUBLISHED = {
    "9116a64c0fbe4459d18f4bb6b56d647b63920377": (
        "bvlc_alexnet.caffemodel",
        "top-1 accuracy 57.1 %, top-5 80.2 %, so errors of 0.429 and 0.198",
    ),
    "4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46": (
        "bvlc_reference_caffenet.caffemodel",
        "top-1 accuracy 57.4 %, top-5 80.4 %, so errors of 0.426 and 0.196",
    ),
}


def run(config: Config) -> int:
    """Imports --caffemodel into a new run directory."""
    run_dir = open_run(config.run_dir)
    if run_dir.dataset.exists():
        raise UserError(
            f"{run_dir.path} has a run already; give another --run_dir."
        )
    if not config.caffemodel:
        raise UserError("give --caffemodel=FILE, a network of Caffe's.")
    if config.mean == "image":
        raise UserError(
            "--mean=image would have to be measured; give color, or the "
            "FILE.binaryproto of a mean image."
        )
    file = Path(config.caffemodel)
    layers = read_network(file)
    caffe_weights.check_settings(layers, config)
    info = _describe_dataset(config, layers)
    model = build_network(config, info)
    caffe_weights.assign(layers, model)
    sha1 = hashlib.sha1(file.read_bytes()).hexdigest()
    with run_dir.locked():
        _write(config, run_dir, info, model, sha1)
    print(
        f"{file}: {model.count_params():,} parameters, "
        f"{len(info.class_names):,} classes\n"
        f"{_compare_with_published(sha1)}\n"
        f"Imported into {run_dir.path}. Measure it: evaluate {run_dir.path}; "
        f"train on from it: --init_from={run_dir.path}"
    )
    return 0


def _describe_dataset(config, layers):
    """Returns the info of the images that the network was trained on."""
    names = _class_names(config)
    blobs = layers["fc8"].blobs if "fc8" in layers else []
    if blobs and len(blobs[0]) != len(names):
        source = config.labels or f"--dataset={config.dataset}"
        raise UserError(
            f"fc8 of {config.caffemodel} has {len(blobs[0]):,} classes, "
            f"{source} has {len(names):,}; give --labels=FILE with a name a "
            "line, or the --dataset that has them."
        )
    info, mean_image = placeholder_info(names), splits.read_mean(config)
    return dataclasses.replace(info, mean_rgb=_MEAN_RGB, mean_image=mean_image)


def _class_names(config):
    if not config.labels:
        return sources.class_names(config.dataset, data_dir=config.data_dir)
    return sources.unique_names(read_lines(config.labels))


def _write(config, run_dir, info, model, sha1):
    """Writes the run; dataset.json, which makes it one, comes last."""
    # Its errors were not measured; it is the only checkpoint.
    errors = {"val_top1_error": math.inf, "val_loss": math.inf}
    state = {"step": 0, "epochs_done": 0, **errors}
    values = checkpoints.values_of(model.variables)
    checkpoints.save(run_dir.checkpoints, values, state)
    write_whole(run_dir.flags, to_flagfile(config))
    result = {"imported_from": config.caffemodel, "sha1": sha1}
    result["parameters"] = model.count_params()
    write_json(run_dir.result, result)
    write_dataset_info(run_dir, info)


def _compare_with_published(sha1):
    if sha1 not in _PUBLISHED:
        names = " or ".join(name for name, _ in _PUBLISHED.values())
        return f"SHA-1 {sha1}, not that of the published {names}."
    name, accuracy = _PUBLISHED[sha1]
    return (
        f"SHA-1 {sha1}, that of the published {name}.\n"
        f"Its readme: ILSVRC-2012 validation, center crop, {accuracy}."
    )
