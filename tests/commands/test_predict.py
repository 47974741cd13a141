"""Prediction and the exported model, asked by those who use them."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from alexnet_tf.config.data import Geometry
from alexnet_tf.config.flags import parse
from alexnet_tf.data.decoding import decode_patch
from alexnet_tf.main import main
from alexnet_tf.models.build import load_best
from alexnet_tf.storage.run_dir import open_run

NO_PICTURE = "this is no picture"


@pytest.fixture
def bad_file(tmp_path):
    file = tmp_path / "bad.jpg"
    file.write_text(NO_PICTURE)
    return file


def test_predict_names_bad_files_and_goes_on(
    finished_run, image_files, bad_file, tmp_path, capsys
):
    file = tmp_path / "predictions.json"
    words = [str(image_files[0]), str(bad_file), "none.jpg"]
    words.append(str(image_files[1]))
    code = main(
        ["predict", *words, f"--run_dir={finished_run}", f"--json={file}"]
    )
    assert code == 1
    told = capsys.readouterr().err
    assert "bad.jpg: cannot be read: Unknown image file format" in told
    assert "none.jpg: cannot be read: No such file or directory" in told
    predictions = json.loads(file.read_text())
    assert list(predictions) == [words[0], words[3]]
    for best in predictions.values():
        assert len(best) == 5
        scores = [score for _, score in best]
        assert scores == sorted(scores, reverse=True)


def test_run_and_saved_model_predict_the_same(
    finished_run, image_files, tmp_path
):
    answers = []
    for model in (
        f"--run_dir={finished_run}",
        f"--saved_model={finished_run}/saved_model",
    ):
        file = tmp_path / "predictions.json"
        words = [str(f) for f in image_files]
        assert main(["predict", *words, model, f"--json={file}"]) == 0
        answers.append(json.loads(file.read_text()))
    for name, best in answers[0].items():
        for (label, score), (label_2, score_2) in zip(
            best, answers[1][name], strict=True
        ):
            assert label == label_2
            assert score == pytest.approx(score_2, abs=1e-5)


def test_files_folders_and_lists_are_the_same(
    finished_run, image_files, bad_file, monkeypatch, capsys
):
    """As JSON lines; a folder's other files are named and passed over."""
    folder = bad_file.parent / "folder"
    (folder / "deeper").mkdir(parents=True)
    for number, file in enumerate(image_files):
        shutil.copy(file, folder / ("deeper" if number % 2 else "."))
    names = sorted(str(file) for file in folder.rglob("*.jpg"))
    (folder / ".hidden").write_text(NO_PICTURE)
    shutil.copy(bad_file, folder / "notes.txt")
    lists = "\n".join([*names, "", str(folder / "notes.txt"), ""])
    monkeypatch.setattr("sys.stdin", io.StringIO(lists))
    told = []
    for word in (str(folder), "-"):
        flags = [f"--run_dir={finished_run}", "--json_lines"]
        assert main(["predict", word, *flags]) == 1
        captured = capsys.readouterr()
        assert "notes.txt: cannot be read" in captured.err
        assert ".hidden" not in captured.err
        told.append([json.loads(line) for line in captured.out.splitlines()])
    assert told[0] == told[1]
    assert [row["file"] for row in told[0]] == names
    assert all(len(row["best"]) == 5 for row in told[0])


def test_more_files_than_a_batch(finished_run, image_files, tmp_path):
    for number in range(70):
        shutil.copy(image_files[number % 5], tmp_path / f"{number:02d}.jpg")
    file = tmp_path / "predictions.json"
    flags = [f"--run_dir={finished_run}", f"--json={file}"]
    assert main(["predict", str(tmp_path), *flags]) == 0
    best = list(json.loads(file.read_text()).values())
    assert len(best) == 70
    for number, answer in enumerate(best):
        assert answer[0][0] == best[number % 5][0][0]
        assert answer[0][1] == pytest.approx(best[number % 5][0][1], abs=1e-5)


def test_nothing_to_predict_is_told(finished_run, tmp_path, capsys):
    flags = [f"--run_dir={finished_run}"]
    assert main(["predict", str(tmp_path), *flags]) == 2
    assert "give at least one image file" in capsys.readouterr().err


STRANGER = """
import json, sys
sys.modules["alexnet_tf"] = None  # Importing it now fails.
import numpy as np
import tensorflow as tf
tf.config.set_soft_device_placement(False)  # As strict as it gets.
model = tf.saved_model.load(sys.argv[1])
serve = model.signatures["serving_default"]
_, arguments = serve.structured_input_signature
assert list(arguments) == ["image_bytes"], arguments
files = [open(name, "rb").read() for name in sys.argv[3:]]
answers = {
    **serve(image_bytes=tf.constant(files)),
    **model.signatures["class_names"](),
}
images = tf.constant(np.load(sys.argv[2]))
for name in ("probabilities", "features"):
    answers |= model.signatures[name](images=images)
print(json.dumps({
    name: [x.decode() for x in value.numpy().flat]
    if value.dtype == tf.string else value.numpy().tolist()
    for name, value in answers.items()
}))
"""


def test_the_saved_model_works_without_the_package(
    finished_run, image_files, bad_file, tmp_path
):
    """One file is no image, and harms none of the others."""
    config, _ = parse([f"--flagfile={finished_run}/flags.cfg"])
    geometry = Geometry(config.image_size, config.crop_size)
    patches = np.array(
        [
            decode_patch(file.read_bytes(), geometry.center, geometry)
            for file in image_files
        ]
    )
    np.save(tmp_path / "patches.npy", patches)
    files = [*image_files[:2], bad_file, *image_files[2:]]
    saved = finished_run / "saved_model"
    process = subprocess.run(
        [sys.executable, "-c", STRANGER, saved, tmp_path / "patches.npy"]
        + files,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    answers = json.loads(process.stdout)
    names = answers["class_names"]
    assert len(set(names)) == 12

    model, _ = load_best(config, open_run(config.run_dir))
    logits = model(patches).numpy().astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(answers["probabilities"], expected, atol=1e-5)

    labels = np.reshape(answers["labels"], (6, 5))
    scores = np.array(answers["scores"])
    assert not any(labels[2]) and not scores[2].any()
    order = np.argsort(-expected, axis=1)[:, :5]
    good = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(labels[good], np.array(names)[order])
    np.testing.assert_allclose(
        scores[good], np.take_along_axis(expected, order, 1), atol=1e-5
    )

    features = np.array(answers["features"])
    fc8 = [model.get_layer(f"fc8_tower{tower}") for tower in range(2)]
    kernel = np.concatenate([layer.kernel.numpy() for layer in fc8])
    np.testing.assert_allclose(  # At test time half of each counts.
        0.5 * features @ kernel + fc8[0].bias.numpy(), logits, atol=1e-4
    )


def test_saved_model_cli_shows_and_runs_it(finished_run, tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((2, 64, 64, 3), np.uint8))
    cli = Path(sys.executable).parent / "saved_model_cli"
    base = ["--dir", finished_run / "saved_model", "--tag_set", "serve"]
    shown = subprocess.run(
        [cli, "show", *base], capture_output=True, text=True, check=True
    ).stdout
    for name in ("serving_default", "probabilities", "features"):
        assert f'"{name}"' in shown
    ran = subprocess.run(
        [cli, "run", *base, "--signature_def", "probabilities"]
        + ["--inputs", f"images={tmp_path}/images.npy"]
        + ["--outdir", tmp_path],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    sums = np.load(tmp_path / "probabilities.npy").sum(axis=1)
    np.testing.assert_allclose(sums, [1, 1], rtol=1e-5)


def test_the_saved_model_has_no_devices_and_each_weight_once(finished_run):
    saved = finished_run / "saved_model"
    assert b"device:" not in (saved / "saved_model.pb").read_bytes()
    result = json.loads((finished_run / "result.json").read_text())
    (weights,) = (saved / "variables").glob("*.data-*")
    assert weights.stat().st_size < 1.05 * 4 * result["parameters"]


KERAS_USER = """
import sys
import keras
import numpy as np
import alexnet_tf.models.alexnet  # Its layers are registered.
model = keras.saving.load_model(sys.argv[1])
np.save(sys.argv[3], model.predict(np.load(sys.argv[2]), verbose=0))
"""


def test_export_writes_the_model_again_and_compares(finished_run, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(finished_run, run_dir)
    shutil.rmtree(run_dir / "saved_model")
    file = tmp_path / "there" / "alexnet.keras"
    flags = [f"--run_dir={run_dir}", f"--keras_file={file}"]
    assert main(["export", *flags]) == 0
    assert (run_dir / "saved_model" / "saved_model.pb").exists()

    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3))
    np.save(tmp_path / "images.npy", images.astype(np.uint8))
    arguments = [file, tmp_path / "images.npy", tmp_path / "logits.npy"]
    subprocess.run([sys.executable, "-c", KERAS_USER, *arguments], check=True)
    config, _ = parse([f"--flagfile={run_dir}/flags.cfg"])
    model, _ = load_best(config, open_run(config.run_dir))
    np.testing.assert_allclose(
        np.load(tmp_path / "logits.npy"),
        model.predict(images.astype(np.uint8), verbose=0),
        atol=1e-4,
    )


def test_a_keras_file_of_another_name_is_refused(finished_run, capsys):
    flags = [f"--run_dir={finished_run}", "--keras_file=alexnet.h5"]
    assert main(["export", *flags]) == 2
    assert "ends in .keras" in capsys.readouterr().err
