"""Exported files, as other programs use them."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from alexnet_tf.config.commands import EXPORT_FORMATS
from alexnet_tf.config.flags import parse, to_flagfile
from alexnet_tf.data import tfds_source
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.data.decoding import decode_patch
from alexnet_tf.data.pipeline import evaluation_batches
from alexnet_tf.evaluation.classifier import load_signatures
from alexnet_tf.main import main
from alexnet_tf.models.build import build_network, load_trained
from alexnet_tf.storage import checkpoints
from alexnet_tf.storage.dataset_info import write_dataset_info
from alexnet_tf.storage.run_dir import RunDir
from tests.support import INFO, TINY

# Arguments: a SavedModel, a Keras file, patches (.npy), image files.
STRANGER = """
import contextlib, json, sys
sys.modules["alexnet_tf"] = None  # Importing it now fails.
import numpy as np
import tensorflow as tf
from tensorflow.python.tools import saved_model_cli
tf.config.set_soft_device_placement(False)  # As strict as it gets.
saved_model, keras_file, patches, *files = sys.argv[1:]

model = tf.saved_model.load(saved_model)
serve = model.signatures["serving_default"]
_, arguments = serve.structured_input_signature
assert list(arguments) == ["image_bytes"], arguments
contents = [open(name, "rb").read() for name in files]
answers = {
    **serve(image_bytes=tf.constant(contents)),
    **model.signatures["class_names"](),
}
images = np.load(patches)
for name in ("probabilities", "features"):
    answers |= model.signatures[name](images=tf.constant(images))

base = ["--dir", saved_model, "--tag_set", "serve"]
sys.argv[1:] = ["show", *base]
with contextlib.suppress(SystemExit):
    saved_model_cli.main()
sys.argv[1:] = ["run", *base, "--signature_def", "probabilities"]
sys.argv += ["--inputs", f"images={patches}", "--outdir", "."]
with contextlib.suppress(SystemExit):
    saved_model_cli.main()
answers["cli"] = tf.constant(np.load("probabilities.npy"))

del sys.modules["alexnet_tf"]
import keras
import alexnet_tf.models.alexnet  # Its layers are registered.
network = keras.saving.load_model(keras_file)
answers["logits"] = tf.constant(network.predict(images, verbose=0))
with open("answers.json", "w") as file:
    json.dump({
        name: [x.decode() for x in value.numpy().flat]
        if value.dtype == tf.string else value.numpy().tolist()
        for name, value in answers.items()
    }, file)
"""
NOT_AN_IMAGE = 2  # Its place among the files.
PACKAGES = {p for _, packages in EXPORT_FORMATS.values() for p in packages}
needs_packages = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, PACKAGES)),
    reason="pip install -r requirements-export.txt",
)


@pytest.fixture(scope="module")
def config(finished_run):
    return parse([f"--flagfile={finished_run}/flags.cfg"])[0]


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory):
    """A copy of the run, exported again, and a Keras file."""
    run_dir = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(finished_run, run_dir)
    shutil.rmtree(run_dir / "saved_model")
    keras_file = run_dir / "new" / "alexnet.keras"
    flags = [f"--run_dir={run_dir}", f"--keras_file={keras_file}"]
    assert main(["export", *flags]) == 0
    return run_dir / "saved_model", keras_file


@pytest.fixture(scope="module")
def patches(config, image_files):
    return np.array(
        [
            decode_patch(
                file.read_bytes(), config.geometry.center, config.geometry
            )
            for file in image_files
        ]
    )


@pytest.fixture(scope="module")
def network(config):
    return load_trained(config, RunDir(Path(config.run_dir)))[0]


@pytest.fixture(scope="module")
def logits(network, patches):
    return network(patches).numpy().astype(np.float64)


@pytest.fixture(scope="module")
def probabilities(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def stranger(finished_run, exported, patches, image_files, tmp_path_factory):
    """What a process without the package gets, and its output.

    It uses the SavedModel that training wrote.
    """
    directory = tmp_path_factory.mktemp("stranger")
    np.save(directory / "patches.npy", patches)
    bad_file = directory / "bad.jpg"
    bad_file.write_text("not an image")
    files = list(image_files)
    files.insert(NOT_AN_IMAGE, bad_file)
    _, keras_file = exported
    process = subprocess.run(
        [sys.executable, "-c", STRANGER, finished_run / "saved_model"]
        + [keras_file, directory / "patches.npy", *files],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    answers = json.loads((directory / "answers.json").read_text())
    return answers, process.stdout


def test_images_have_their_probabilities(stranger, probabilities):
    answers, _ = stranger
    found = answers["probabilities"]
    np.testing.assert_allclose(found, probabilities, atol=1e-5)


def test_files_have_their_best_classes(stranger, probabilities):
    """One file is not an image, which does not affect the others."""
    answers, _ = stranger
    names = np.array(answers["class_names"])
    assert len(set(names)) == 12
    labels = np.reshape(answers["labels"], (6, 5))
    scores = np.array(answers["scores"])
    assert not any(labels[NOT_AN_IMAGE]) and not scores[NOT_AN_IMAGE].any()
    order = np.argsort(-probabilities, axis=1)[:, :5]
    good = [place for place in range(6) if place != NOT_AN_IMAGE]
    np.testing.assert_array_equal(labels[good], names[order])
    np.testing.assert_allclose(
        scores[good], np.take_along_axis(probabilities, order, 1), atol=1e-5
    )


def test_features_are_what_fc8_takes(stranger, network, logits):
    answers, _ = stranger
    features = np.array(answers["features"])
    fc8 = [network.get_layer(f"fc8_tower{tower}") for tower in range(2)]
    kernel = np.concatenate([layer.kernel.numpy() for layer in fc8])
    np.testing.assert_allclose(  # At test time half of each counts.
        0.5 * features @ kernel + fc8[0].bias.numpy(), logits, atol=1e-4
    )


def test_saved_model_cli_shows_and_runs_it(stranger, probabilities):
    answers, shown = stranger
    for name in ("serving_default", "probabilities", "features"):
        assert f'"{name}"' in shown
    np.testing.assert_allclose(answers["cli"], probabilities, atol=1e-5)


def test_a_keras_file_is_the_network(stranger, logits):
    answers, _ = stranger
    np.testing.assert_allclose(answers["logits"], logits, atol=1e-4)


def test_export_writes_the_saved_model_again(exported):
    saved_model, _ = exported
    assert (saved_model / "saved_model.pb").exists()


def test_the_saved_model_has_no_devices_and_each_weight_once(finished_run):
    saved = finished_run / "saved_model"
    assert b"device:" not in (saved / "saved_model.pb").read_bytes()
    result = json.loads((finished_run / "result.json").read_text())
    (weights,) = (saved / "variables").glob("*.data-*")
    assert weights.stat().st_size < 1.05 * 4 * result["parameters"]


def test_a_keras_file_of_another_name_is_refused(finished_run, capsys):
    flags = [f"--run_dir={finished_run}", "--keras_file=alexnet.h5"]
    assert main(["export", *flags]) == 2
    assert "ends in .keras" in capsys.readouterr().err


# --- Formats of programs without TensorFlow.


def run_onnx(run_dir, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(run_dir / "alexnet.onnx")
    return session.run(["probabilities"], {"images": images})[0]


def run_tflite(run_dir, images, name="alexnet.tflite"):
    from ai_edge_litert.interpreter import Interpreter

    model = Interpreter(str(run_dir / name))
    return model.get_signature_runner()(images=images)["probabilities"]


@needs_packages
@pytest.mark.parametrize("run_file", [run_onnx, run_tflite])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_batches_of_any_size(
    exported_run, patches, probabilities, run_file, count
):
    found = run_file(exported_run[0], patches[:count])
    np.testing.assert_allclose(found, probabilities[:count], atol=1e-5)


@needs_packages
def test_each_file_is_reported(exported_run):
    run_dir, printed = exported_run
    for name, (file_name, _) in EXPORT_FORMATS.items():
        (line,) = [x for x in printed.splitlines() if f"{file_name}: " in x]
        assert " MB, " in line
        if name not in ("safetensors", "tflite_int8", "saved_model_bfloat16"):
            difference = float(
                re.search(r"at most (\S+) on 50 images", line)[1]
            )
            assert difference < 1e-5
    size = (run_dir / "alexnet.onnx").stat().st_size / 1e6
    assert f"alexnet.onnx: {size:.1f} MB" in printed
    assert "weights differ by at most 0e+00" in printed


@needs_packages
@pytest.mark.parametrize(
    ("narrow", "exact", "share"),
    [
        ("alexnet_int8.tflite", "alexnet.tflite", 0.4),
        ("saved_model_bfloat16/variables", "saved_model/variables", 0.55),
    ],
)
def test_the_errors_in_fewer_bits(
    exported_run, config, data_dir, network, narrow, exact, share
):
    """They are near the run's, on fewer bytes."""
    run_dir, printed = exported_run
    split = tfds_source.open_split(
        "shapes/tiny", "validation", data_dir=data_dir
    )
    ((images, labels),) = evaluation_batches(
        split, batch_size=60, geometry=config.geometry, bad=BadExamples()
    ).as_numpy_iterator()
    if narrow.endswith(".tflite"):
        found = run_tflite(run_dir, images, narrow)
    else:
        signatures = load_signatures((run_dir / narrow).parent)
        found = signatures["probabilities"](images=images)["probabilities"]
    answers = {"narrow": found, "float32": network.predict(images, verbose=0)}
    errors = {
        name: [
            (labels[:, None] != np.argsort(-np.array(x), kind="stable")[:, :k])
            .all(axis=1)
            .mean()
            for k in (1, 5)
        ]
        for name, x in answers.items()
    }
    (top1, top5), (exact1, exact5) = errors["narrow"], errors["float32"]
    assert (
        f"top-1 error {top1:.4f} (float32: {exact1:.4f}), top-5 error "
        f"{top5:.4f} ({exact5:.4f}) on 60 validation images"
    ) in printed
    sizes = []
    for path in (run_dir / narrow, run_dir / exact):
        files = path.iterdir() if path.is_dir() else [path]
        sizes.append(sum(file.stat().st_size for file in files))
    assert sizes[0] < share * sizes[1]


@needs_packages
def test_class_names_go_along(exported_run, stranger):
    import onnx
    from safetensors import safe_open

    run_dir, _ = exported_run
    answers, _ = stranger
    names = answers["class_names"]
    model = onnx.load(run_dir / "alexnet.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["class_names"]) == names
    assert (run_dir / "labels.txt").read_text().splitlines() == names
    with safe_open(run_dir / "alexnet.safetensors", "numpy") as tensors:
        assert json.loads(tensors.metadata()["class_names"]) == names


@needs_packages
def test_all_weights_are_in_a_safetensors_file(exported_run, network):
    from safetensors.numpy import load_file

    found = load_file(exported_run[0] / "alexnet.safetensors")
    np.testing.assert_array_equal(
        found.pop("mean"), network.get_layer("pixels_tower0").mean
    )
    for layer in network.layers:
        for weight in layer.weights:
            array = found.pop(f"{layer.name}/{weight.name}")
            np.testing.assert_array_equal(array, weight)
    assert not found


@needs_packages
@pytest.mark.parametrize(
    "flags",
    [
        ["--towers=1", "--lrn=off", "--padding=2,2,0,2,1", "--pool_size=2"]
        + ["--kernels=96,256,0,384,256", "--factorized_conv2"]
        + ["--pool_overhang", "--dropout_layers=conv4,fc6"],
        pytest.param(
            ["--towers=4", "--lrn_across_towers", "--lrn=after_pool"]
            + ["--precision=bfloat16", "--dropout_form=inverted"],
            marks=pytest.mark.slow,
        ),
        ["--activation=tanh", "--conv1_activation=after_pool", "--conv6"]
        + ["--link_precision=float16", "--conv2_activation=after_norm"]
        + ["--spatial_norm2", "--lrn_alpha=0.1", "--lrn_beta=0.6"],
    ],
    ids=["one tower", "across towers", "tanh"],
)
def test_other_networks(tmp_path, flags, capfd):
    """With random weights, on noise."""
    arguments = [*TINY, "--width=0.25", "--virtual_devices=0", *flags]
    config, _ = parse([*arguments, "--initialization=glorot"])
    run_dir = RunDir(tmp_path)
    model = build_network(config, INFO)
    random = np.random.default_rng(8)
    for variable in model.trainable_variables:  # Biases, too.
        variable.assign_add(random.normal(0, 0.05, variable.shape))
    values = checkpoints.values_of(model.variables)
    state = {"epochs_done": 0, "val_top1_error": 1.0, "val_loss": 1.0}
    checkpoints.save(run_dir.checkpoints, values, {"step": 0, **state})
    run_dir.flags.write_text(to_flagfile(config))
    write_dataset_info(run_dir, INFO)
    flags = [f"--run_dir={tmp_path}", "--dataset=folder:none"]
    assert main(["export", *flags, "--format=onnx,tflite"]) == 0
    assert "on 50 images of noise" in capfd.readouterr().out


# A package that reads every file as the same probabilities.
WRONG = """
import numpy as np
class InferenceSession:
    def __init__(self, file): pass
    def run(self, names, inputs):
        return [np.full((len(inputs["images"]), 12), {value}, np.float32)]
"""


@needs_packages
@pytest.mark.parametrize("value", ["1 / 12", "np.nan"])
def test_a_file_that_differs(
    finished_run, tmp_path, monkeypatch, capsys, value
):
    (tmp_path / "onnxruntime.py").write_text(WRONG.format(value=value))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    run_dir = tmp_path / "run"
    shutil.copytree(finished_run, run_dir)
    assert main(["export", f"--run_dir={run_dir}", "--format=onnx"]) == 1
    assert "alexnet.onnx is not the run's network" in capsys.readouterr().out


@needs_packages
def test_a_file_that_cannot_be_read_again(
    finished_run, tmp_path, monkeypatch, capsys
):
    (tmp_path / "onnxruntime.py").write_text("raise ValueError('no such op')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    run_dir = tmp_path / "run"
    shutil.copytree(finished_run, run_dir)
    assert main(["export", f"--run_dir={run_dir}", "--format=onnx"]) == 2
    error = capsys.readouterr().err
    assert "cannot be read again: ValueError: no such op" in error


@pytest.mark.parametrize(
    ("name", "package"),
    [("onnx", "tf2onnx"), ("tflite", "ai_edge_litert")]
    + [("safetensors", "safetensors")],
)
def test_packages_that_are_missing(
    finished_run, tmp_path, monkeypatch, capsys, name, package
):
    monkeypatch.setitem(sys.modules, package, None)
    run_dir = tmp_path / "run"
    shutil.copytree(finished_run, run_dir)
    assert main(["export", f"--run_dir={run_dir}", f"--format={name}"]) == 2
    error = capsys.readouterr().err
    assert f"error: --format={name} needs " in error and package in error
    assert len(error.splitlines()) == 1
    assert not (run_dir / "labels.txt").exists()


# --- The model card.


def test_the_model_card_of_a_run(exported, finished_run):
    run_dir = exported[0].parent
    card = (run_dir / "model_card.md").read_text()
    result = json.loads((finished_run / "result.json").read_text())
    assert f"Top-1 {result['top1_error']:.2%}, top-5" in card
    assert "240 training and 60 validation images" in card
    assert "The same images chose the epoch" in card
    assert "    --width=0.1\n" in card and "tensorflow 2.21" in card
    names = (run_dir / "labels.txt").read_text().splitlines()
    listed = [line for line in card.splitlines() if re.match(r"\d+\. ", line)]
    assert listed == [f"{i}. {name}" for i, name in enumerate(names)]
