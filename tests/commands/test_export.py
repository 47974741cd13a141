"""The exported SavedModel and Keras file, as other programs use them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from alexnet_tf.config.flags import parse
from alexnet_tf.data.decoding import decode_patch
from alexnet_tf.main import main
from alexnet_tf.models.build import load_best
from alexnet_tf.storage.run_dir import RunDir

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
    return load_best(config, RunDir(Path(config.run_dir)))[0]


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
