"""Imports a network trained with Caffe or PyTorch as a run."""

import dataclasses
import hashlib
import math
from pathlib import Path

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config, to_flagfile
from alexnet_tf.data import splits
from alexnet_tf.data import tfds_source as sources
from alexnet_tf.data.labels import read_lines
from alexnet_tf.models import imported_weights
from alexnet_tf.models.build import build_network
from alexnet_tf.storage import checkpoints
from alexnet_tf.storage.dataset_info import placeholder_info, write_dataset_info
from alexnet_tf.storage.files import write_json, write_whole
from alexnet_tf.storage.run_dir import open_run

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
    """Imports --caffemodel or --safetensors into a new run directory."""
    run_dir = open_run(config.run_dir)
    if run_dir.dataset.exists():
        raise UserError(
            f"{run_dir.path} has a run already; give another --run_dir."
        )
    if bool(config.caffemodel) == bool(config.safetensors):
        raise UserError(
            "give either --caffemodel=FILE, a network of Caffe's, or "
            "--safetensors=FILE, torchvision's AlexNet."
        )
    if config.mean == "image":
        raise UserError(
            "--mean=image would have to be measured; give color, or the "
            "FILE.binaryproto of a mean image."
        )
    file = Path(config.caffemodel or config.safetensors)
    read = imported_weights.read_torchvision
    if config.caffemodel:
        read = imported_weights.read_caffe
    weights = read(file, config, config.crop_size)
    info = _describe_dataset(config, file, weights)
    model = build_network(config, info)
    imported_weights.assign(weights, model)
    sha1 = hashlib.sha1(file.read_bytes()).hexdigest()
    with run_dir.locked():
        _write(config, run_dir, info, model, imported_from=str(file), sha1=sha1)
    print(
        f"{file}: {model.count_params():,} parameters, "
        f"{len(info.class_names):,} classes\n"
        f"{_compare_with_published(sha1, config)}\n"
        f"Imported into {run_dir.path}. Measure it: evaluate {run_dir.path}; "
        f"train on from it: --init_from={run_dir.path}"
    )
    return 0


def _describe_dataset(config, file, weights):
    """Returns the info of the images that the network was trained on."""
    if config.labels:
        names = sources.unique_names(read_lines(config.labels))
    else:
        names = sources.class_names(config.dataset, data_dir=config.data_dir)
    blobs = weights.blobs.get("fc8")
    if blobs and len(blobs[0]) != len(names):
        source = config.labels or f"--dataset={config.dataset}"
        raise UserError(
            f"fc8 of {file} has {len(blobs[0]):,} classes, "
            f"{source} has {len(names):,}; give --labels=FILE with a name a "
            "line, or the --dataset that has them."
        )
    return dataclasses.replace(
        placeholder_info(names),
        mean_rgb=weights.mean_rgb,
        mean_image=splits.read_mean(config),
    )


def _write(config, run_dir, info, model, **result):
    """Writes the run; dataset.json, which makes it one, comes last."""
    # Its errors were not measured; it is the only checkpoint.
    errors = {"val_top1_error": math.inf, "val_loss": math.inf}
    state = {"step": 0, "epochs_done": 0, **errors}
    values = checkpoints.values_of(model.variables)
    checkpoints.save(run_dir.checkpoints, values, state)
    write_whole(run_dir.flags, to_flagfile(config))
    result["parameters"] = model.count_params()
    write_json(run_dir.result, result)
    write_dataset_info(run_dir, info)


def _compare_with_published(sha1, config):
    if config.safetensors:  # Made by the user, from a .pth file.
        return f"SHA-1 {sha1}."
    if sha1 not in _PUBLISHED:
        names = " or ".join(name for name, _ in _PUBLISHED.values())
        return f"SHA-1 {sha1}, not that of the published {names}."
    name, accuracy = _PUBLISHED[sha1]
    return (
        f"SHA-1 {sha1}, that of the published {name}.\n"
        f"Its readme: ILSVRC-2012 validation, center crop, {accuracy}."
    )
