"""Each flag file's network at full size, and one training step."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from alexnet_tf.config.flags import parse
from alexnet_tf.data import splits
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.data.pipeline import training_batches
from alexnet_tf.distribution.devices import connect
from alexnet_tf.models.alexnet import alexnet
from alexnet_tf.training.trainer import build_trainer
from tests.support import INFO, zero_weights

PAPER = {
    "conv1": (55, 55, 48),
    "norm1": (55, 55, 48),
    "pool1": (27, 27, 48),
    "conv2": (27, 27, 128),
    "norm2": (27, 27, 128),
    "pool2": (13, 13, 128),
    "conv3": (13, 13, 192),
    "conv4": (13, 13, 192),
    "conv5": (13, 13, 128),
    "pool5": (6, 6, 128),
    "fc6": (2048,),
    "fc7": (2048,),
}
# What the 2012 source adds to layers 1 and 2.
CODE_2012 = {"relu1": (27, 27, 48), "spatial_norm2": (27, 27, 128)}
CONV4 = 2 * (3 * 3 * 192 * 192 + 192)
# The network of each flag file: its parameters, and the outputs of tower 0 that
# differ from paper.cfg's; None for a layer left out.
GOLDEN = {
    "paper": (60_965_224, {}),
    "code_2012": (60_965_224, CODE_2012),
    "code_2010": (60_965_224, CODE_2012),
    "163": (60_965_224, CODE_2012),
    "170": (60_965_224, CODE_2012),
    "170-256": (60_965_224, CODE_2012),
    # one_gpu with the source's layers 1 and 2.
    "145-half": (
        59_798_312,
        CODE_2012
        | {"conv5": (13, 13, 256), "pool5": (6, 6, 256)}
        | {"fc6": (4096,), "fc7": (4096,)},
    ),
    "one_gpu": (
        59_798_312,
        {"conv5": (13, 13, 256), "pool5": (6, 6, 256)}
        | {"fc6": (4096,), "fc7": (4096,)},
    ),
    "large_batch": (60_965_224, {}),
    # Two kernel maps of tower 1 are normalized as well, and removed again.
    "caffe_alexnet": (
        60_965_224,
        {"last_norm1": (55, 55, 2), "norm1": (55, 55, 50)}
        | {"own_norm1": (55, 55, 48), "last_norm2": (27, 27, 2)}
        | {"norm2": (27, 27, 130), "own_norm2": (27, 27, 128)},
    ),
    "caffenet": (
        60_965_224,
        {"last_norm1": (27, 27, 2), "norm1": (27, 27, 50)}
        | {"own_norm1": (27, 27, 48), "last_norm2": (13, 13, 2)}
        | {"norm2": (13, 13, 130), "own_norm2": (13, 13, 128)},
    ),
    # The number is that of torchvision's documentation.
    "torchvision": (
        61_100_840,
        {"conv1": (55, 55, 64), "norm1": None, "pool1": (27, 27, 64)}
        | {"conv2": (27, 27, 192), "norm2": None, "pool2": (13, 13, 192)}
        | {"conv3": (13, 13, 384), "conv4": (13, 13, 256)}
        | {"conv5": (13, 13, 256), "pool5": (6, 6, 256)}
        | {"fc6": (4096,), "fc7": (4096,)},
    ),
    "pretrain": (
        60_965_224 + 2 * (3 * 3 * 256 * 128 + 128),
        CODE_2012 | {"conv6": (6, 6, 128)},
    ),
    "glorot": (60_965_224, {}),
    "no_augmentation": (60_965_224, {}),
    "no_color_noise": (60_965_224, {}),
    "no_dropout": (60_965_224, {}),
    "no_weight_decay": (60_965_224, {}),
    "tanh": (60_965_224, {}),
    "non_overlapping_pooling": (60_965_224, {}),
    "no_lrn": (60_965_224, {"norm1": None, "norm2": None}),
    "pool_before_lrn": (
        60_965_224,
        {"norm1": (27, 27, 48), "norm2": (13, 13, 128)},
    ),
    # conv3, fc6 and fc7 have half the inputs.
    "no_communication": (
        60_965_224
        - 2 * (3 * 3 * 128 * 192 + 4608 * 2048 + 2048 * 2048),
        {},
    ),
    # conv3 sees its own tower.
    "127": (60_965_224 - 2 * 3 * 3 * 128 * 192, CODE_2012),
    "130": (
        60_258_664,
        {"conv1": (55, 55, 24), "norm1": (55, 55, 24), "pool1": (27, 27, 24)}
        | {"relu1": (27, 27, 24), "conv2": (27, 27, 64)}
        | {"norm2": (27, 27, 64), "spatial_norm2": (27, 27, 64)}
        | {"pool2": (13, 13, 64), "conv3": (13, 13, 96), "conv4": (13, 13, 96)}
        | {"conv5": (13, 13, 64), "pool5": (6, 6, 64)}
        | {"fc6": (1024,), "fc7": (1024,)},
    ),
    "131": (60_965_224, {"relu1": (27, 27, 48)}),
    # conv4 sees both towers instead.
    "132": (
        60_965_224 + 2 * 3 * 3 * 192 * (192 - 128),
        CODE_2012,
    ),
    "135": (60_965_224, {}),
    "137": (60_965_224, {"spatial_norm2": (27, 27, 128)}),
    "147": (
        60_965_224,
        {"pool1": (28, 28, 48), "relu1": (28, 28, 48)}
        | {"pad_conv2": (30, 30, 48), "conv2": (26, 26, 128)}
        | {"norm2": (26, 26, 128), "spatial_norm2": (26, 26, 128)}
        | {"conv5": (11, 11, 128)},
    ),
    "150": (
        2 * (11 * 11 * 3 * 48 + 48 + 5 * 5 * 48 * 160 + 160)
        + 2 * (3 * 3 * 160 * 192 + 192 + 3 * 3 * 192 * 192 + 192)
        + 2 * (3 * 3 * 192 * 128 + 128 + 4608 * 4096 + 4096)
        + 2 * (4096 * 2048 + 2048) + 4096 * 1000 + 1000,
        CODE_2012
        | {"conv2": (27, 27, 160), "norm2": (27, 27, 160)}
        | {"spatial_norm2": (27, 27, 160), "pool2": (13, 13, 160)}
        | {"fc6": (4096,)},
    ),
    "166": (60_965_224, CODE_2012 | {"relu2": (27, 27, 128)}),
    "167": (60_965_224, CODE_2012 | {"norm2": None}),
    "170-quant": (60_965_224, CODE_2012),
    "177": (60_965_224, CODE_2012),
    # 5x5x48 weights a kernel become 3x3x48 and 3x3x128.
    "two_3x3_for_5x5": (
        60_965_224 + 256 * (3 * 3 * 48 + 1 + 3 * 3 * 128 - 5 * 5 * 48),
        {"conv2b": (27, 27, 128)},
    ),
    # conv4 takes over conv3's 256 inputs, which saves as much as one conv4.
    "without_conv3": (60_965_224 - CONV4, {"conv3": None}),
    "without_conv4": (60_965_224 - CONV4, {"conv4": None}),
    # fc6 has 6x6x384 inputs.
    "without_conv5": (
        60_965_224
        - 2 * (3 * 3 * 192 * 128 + 128)
        + 6 * 6 * (384 - 256) * 4096,
        {"conv5": None, "pool5": (6, 6, 192)},
    ),
}  # fmt: skip
FILES = {
    file.stem: file
    for file in Path("flags").rglob("*.cfg")
    if file.stem
    not in ("experiments", "finetune", "imagenette", "photos", "quickstart")
    and file.parent.name != "cifar10"  # tests/models/test_cifar.py
}


# Flag files that extend others after paper.cfg.
UNDER = {
    **{f.stem: ["code_2012"] for f in Path("flags/notebook").iterdir()},
    "caffenet": ["caffe_alexnet"],
    "code_2010": ["code_2012"],
    "pretrain": ["code_2012"],
    "145-half": ["code_2012", "code_2010"],
    "170-256": ["code_2012", "170"],
    "170-quant": ["code_2012", "170"],
}


def settings(name, *flags):
    files = ["paper", *UNDER.get(name, []), name]
    flagfiles = [f"--flagfile={FILES[file]}" for file in files]
    return parse([*flagfiles, *flags])[0]


def shapes_of_tower_0(net):
    """Returns the output shapes of layers that compute something."""
    plumbing = ("pixels", "flat", "fork", "send", "shared", "dropout", "fc8")
    return {
        layer.name.removesuffix("_tower0"): layer.output.shape[1:]
        for layer in net.layers
        if layer.name.endswith("_tower0")
        and not layer.name.startswith(plumbing)
    }


def test_all_flag_files_are_in_the_table():
    assert FILES.keys() == GOLDEN.keys()


@pytest.mark.parametrize("name", GOLDEN)
def test_the_network_at_full_size(name):
    parameters, changes = GOLDEN[name]
    with zero_weights():
        net = alexnet(1000, settings(name))
    expected = {k: v for k, v in (PAPER | changes).items() if v}
    assert shapes_of_tower_0(net) == expected
    assert net.count_params() == parameters


@pytest.mark.parametrize(
    ("flags", "conv6", "parameters"),
    [
        ([], 590_080, 61_555_304),
        # As in version 0.1: conv6 sees its own tower.
        (["--tower_communication=conv3,fc6,fc7"], 295_168, 61_260_392),
    ],
)
def test_the_sixth_convolution_at_full_size(flags, conv6, parameters):
    with zero_weights():
        net = alexnet(1000, settings("paper", "--conv6", *flags))
    assert shapes_of_tower_0(net) == PAPER | {"conv6": (6, 6, 128)}
    parts = [net.get_layer(f"conv6_tower{tower}") for tower in (0, 1)]
    assert sum(part.count_params() for part in parts) == conv6
    assert net.count_params() == parameters


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*GOLDEN, "conv6", "bfloat16", "float16", "inverted"]
)
def test_a_step_of_training(name, data_dir, tmp_path):
    """On real images: every kernel gets a gradient, and the loss is finite."""
    extra = {
        "conv6": "--conv6",
        "bfloat16": "--precision=bfloat16",
        "float16": "--precision=float16",
        "inverted": "--dropout_form=inverted",
    }
    config = settings(
        "paper" if name in extra else name,
        "--dataset=shapes/tiny",
        f"--data_dir={data_dir}",
        "--width=0.1",
        "--image_size=80",
        "--crop_size=67",
        "--batch_size=16",
        "--virtual_devices=2",
        *([extra[name]] if name in extra else []),
    )
    examples = splits.open_split(config, "train")
    info = dataclasses.replace(INFO, class_names=list(examples.class_names))
    model = build_trainer(config, info, connect(config))
    bad = BadExamples(tmp_path / "bad.csv", limit=0)
    batches = training_batches(
        examples,
        config,
        batch_size=config.batch_size,
        steps=range(1),
        seed=config.seed,
        bad=bad,
    )
    fitted = model.fit(batches, shuffle=False, verbose=0)
    assert np.isfinite(fitted.history["loss"]).all()
    momenta = [
        v for v in model.optimizer.variables if "kernel_momentum" in v.path
    ]
    kernels = [v for v in model.variables if v.name == "kernel"]
    assert len(momenta) == len(kernels) >= 8
    for momentum, kernel in zip(momenta, kernels, strict=True):
        # Without a gradient the first step would be the decay alone.
        step, before = momentum.numpy(), kernel.numpy() - momentum.numpy()
        decay = config.learning_rate * config.weight_decay * before
        assert np.abs(step + decay).max() > 1e-12, kernel.path
        assert kernel.dtype == "float32"
