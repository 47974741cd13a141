"""The networks for CIFAR-10, of each flag file and from end to end."""

import importlib.util
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config.commands import EXPORT_FORMATS
from alexnet_tf.config.flags import parse
from alexnet_tf.config.network import Network
from alexnet_tf.main import main
from alexnet_tf.models.build import build_network
from alexnet_tf.models.cifar import cifar_network
from tests.end_to_end import golden_runs
from tests.support import INFO

IMAGES = golden_runs.GOLDEN / "images"
SMALL = ["--architecture=conv_small", "--kernels=32,32,64"]
# Outputs of the layers of each flag file's network, and its parameters, by
# hand: kernels and biases of conv1, conv2, local3, local4 and fc10.
GOLDEN = {
    "conv_local_13pct": (
        {"conv1": (24, 24, 64), "pool1": (12, 12, 64), "conv2": (12, 12, 64)}
        | {"pool2": (6, 6, 64), "local3": (6, 6, 32), "local4": (6, 6, 32)}
        | {"flat4": (1152,), "fc10": (10,)},
        (75 + 1) * 64 + (1600 + 1) * 64
        + 36 * (576 + 1) * 32 + 36 * (288 + 1) * 32 + (1152 + 1) * 10,
    ),
    "conv_local_11pct": (
        {"conv1": (24, 24, 64), "pool1": (12, 12, 64), "norm1": (12, 12, 64)}
        | {"conv2": (12, 12, 64), "norm2": (12, 12, 64), "pool2": (6, 6, 64)}
        | {"local3": (6, 6, 64), "local4": (6, 6, 32)}
        | {"flat4": (1152,), "fc10": (10,)},
        (75 + 1) * 64 + (1600 + 1) * 64
        + 36 * (576 + 1) * 64 + 36 * (576 + 1) * 32 + (1152 + 1) * 10,
    ),
    "figure1_relu": (
        {"conv1": (32, 32, 64), "pool1": (16, 16, 64), "conv2": (16, 16, 64)}
        | {"pool2": (8, 8, 64), "local3": (8, 8, 32), "local4": (8, 8, 32)}
        | {"flat4": (2048,), "fc10": (10,)},
        (75 + 1) * 64 + (1600 + 1) * 64
        + 64 * (576 + 1) * 32 + 64 * (288 + 1) * 32 + (2048 + 1) * 10,
    ),
}  # fmt: skip
GOLDEN["figure1_tanh"] = GOLDEN["figure1_relu"]


def settings(name, *flags):
    return parse([f"--flagfile=flags/cifar10/{name}.cfg", *flags])[0]


def layers_of(net):
    """Returns the layers after the input by name, in order."""
    return {
        layer.figure_name: layer
        for layer in net.layers[1:]
        if layer.figure_name != "pixels"
    }


def test_all_flag_files_are_in_the_table():
    files = Path("flags/cifar10").iterdir()
    assert {file.stem for file in files} == GOLDEN.keys()


@pytest.mark.parametrize("name", GOLDEN)
def test_the_network_of_a_flag_file(name):
    shapes, parameters = GOLDEN[name]
    net = build_network(settings(name), INFO)
    layers = layers_of(net)
    found = {name: layer.output.shape[1:] for name, layer in layers.items()}
    assert list(found.items()) == list(shapes.items())
    assert net.count_params() == parameters
    activation = {"figure1_tanh": "tanh"}.get(name, "relu")
    for hidden in ("conv1", "conv2", "local3", "local4"):
        assert layers[hidden].activation.__name__ == activation


def test_conv_small_is_the_19_percent_network():
    net = build_network(settings("figure1_relu", *SMALL), INFO)
    layers = layers_of(net)
    kinds = {n: type(x).__name__ for n, x in layers.items() if "pool" in n}
    assert kinds == {
        "pool1": "MaxPooling2D",
        "pool2": "AveragePooling2D",
        "pool3": "AveragePooling2D",
    }
    assert layers["conv3"].output.shape[1:] == (8, 8, 64)
    assert layers["pool3"].output.shape[1:] == (4, 4, 64)
    by_hand = (75 + 1) * 32 + (800 + 1) * 32 + (800 + 1) * 64 + 1025 * 10
    assert net.count_params() == by_hand


@pytest.mark.parametrize(
    ("name", "stddevs"),
    [
        ("conv_local_11pct", (0.0001, 0.01, 0.04, 0.04, 0.01)),
        ("figure1_tanh", (0.0001, 0.01, 0.04, 0.04, 0.01)),
        ("conv_small", (0.0001, 0.01, 0.01, 0.01)),
    ],
)
def test_initial_values_are_those_of_cuda_convnet(name, stddevs):
    if name == "conv_small":
        config = settings("figure1_relu", *SMALL)
    else:
        config = settings(name)
    net = build_network(config, INFO)
    kernels = [v.numpy() for v in net.weights if v.name == "kernel"]
    for kernel, stddev in zip(kernels, stddevs, strict=True):
        error = stddev / np.sqrt(kernel.size)
        assert abs(kernel.mean()) < 5 * error
        assert abs(kernel.std() - stddev) < 5 * error
    assert not any(v.numpy().any() for v in net.weights if v.name == "bias")


@pytest.mark.parametrize("side", [8, 9, 12, 15])
@pytest.mark.parametrize("number", [1, 2])
def test_windows_of_pooling_extend_beyond_the_edge(side, number):
    """Sizes are rounded up; averages are those of the pixels that exist."""
    network = Network(
        architecture="conv_small",
        towers=1,
        kernels="4,4,4",
        lrn="off",
        pool_overhang=True,
    )
    crop = side if number == 1 else 2 * side
    noise = dict(noise_basis=None, seed=0)
    net = cifar_network(3, network, crop_size=crop, mean=(0, 0, 0), **noise)
    pool = net.get_layer(f"pool{number}_tower0")
    images = np.random.default_rng(side).normal(size=(2, side, side, 4))
    starts = range(0, 2 * -(-(side - 3) // 2) + 1, 2)
    function = np.max if number == 1 else np.mean
    expected = [
        [function(images[:, y : y + 3, x : x + 3], axis=(1, 2)) for x in starts]
        for y in starts
    ]
    expected = np.transpose(expected, (2, 0, 1, 3))
    np.testing.assert_allclose(pool(images), expected, rtol=1e-5, atol=1e-6)


def test_a_saved_network_has_the_same_outputs(tmp_path):
    config = settings("conv_local_11pct", "--kernels=4,8,8,4")
    net = build_network(config, INFO)
    net.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras")
    images = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3))
    images = images.astype("uint8")
    np.testing.assert_array_equal(again(images), net(images))


def train(name, run_dir, *flags):
    """Trains two epochs of a narrow network on 48 images of four classes."""
    tiny = [f"--dataset=folder:{IMAGES}", f"--run_dir={run_dir}"]
    tiny += ["--kernels=4,4,4,4", "--batch_size=12", "--epochs=2"]
    flag_file = f"--flagfile=flags/cifar10/{name}.cfg"
    return main([flag_file, *tiny, "--virtual_devices=1", *flags])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("cifar") / "run"
    assert train("conv_local_11pct", run_dir) == 0
    return run_dir


@pytest.mark.slow
def test_a_tiny_run_is_exported(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    assert main(["inspect", f"--run_dir={copy}"]) == 0
    image = next(IMAGES.rglob("*.jpg"))
    assert main(["predict", str(image), f"--run_dir={copy}"]) == 0
    packages = EXPORT_FORMATS["onnx"][1]
    if all(map(importlib.util.find_spec, packages)):
        assert main(["export", f"--run_dir={copy}", "--format=onnx"]) == 0
        card = (copy / "model_card.md").read_text()
        assert card.startswith("# AlexNet's authors' network for CIFAR-10")
    model = tf.saved_model.load(str(copy / "saved_model"))
    images = tf.zeros((2, 24, 24, 3), tf.uint8)
    features = model.signatures["features"](images=images)["features"]
    assert features.shape == (2, 6 * 6 * 4)


@pytest.mark.slow
def test_a_tiny_run_resumes_exactly(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(max(copy.glob("checkpoints/step-*")))
    (copy / "result.json").unlink()
    assert train("conv_local_11pct", copy) == 0
    assert "Resum" in capsys.readouterr().out
    assert golden_runs.outcome(copy)[0] == golden_runs.outcome(run)[0]


@pytest.mark.slow
def test_a_tiny_run_is_evaluated_and_drawn(run, tmp_path):
    file = tmp_path / "errors.json"
    assert main(["evaluate", str(run), f"--json={file}"]) == 0
    errors = json.loads(file.read_text())
    assert errors["ten_crop"]["num_examples"] == 12
    assert main(["figures", str(run), f"--figures_dir={tmp_path}"]) == 0
    names = {"curves", "kernels", "answers", "neighbors"}
    drawn = {file.stem for file in tmp_path.glob("*.svg")}
    assert drawn - {"wrong_answers"} == names


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("conv_local_13pct", []),
        ("conv_local_13pct", ["--precision=float16"]),
        ("figure1_relu", []),
        ("figure1_relu", ["--virtual_devices=2"]),
        ("figure1_tanh", ["--precision=bfloat16"]),
        ("figure1_tanh", [*SMALL, "--kernels=4,4,4"]),
    ],
)
def test_a_tiny_run(name, flags, tmp_path):
    assert train(name, tmp_path, *flags) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert np.isfinite(result["loss"]) and result["epochs"] == 2
