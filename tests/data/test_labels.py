"""Names of classes: of ImageNet's ids, of --labels, and in every command."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import parse
from alexnet_tf.data import tfds_source
from alexnet_tf.data.labels import are_imagenets, class_labels, without_ids
from alexnet_tf.evaluation import gallery
from alexnet_tf.evaluation.classifier import load_signatures
from alexnet_tf.main import main
from alexnet_tf.models.build import load_trained
from alexnet_tf.storage.run_dir import RunDir
from tests.end_to_end import golden_runs

IDS = ["n01440764", "n02102040", "n02979186", "n03000684"]
LABELED = [
    "n01440764 tench",
    "n02102040 English springer",
    "n02979186 cassette player",
    "n03000684 chain saw",
]


def test_imagenet_has_a_thousand_labels_that_differ():
    """Its ids are those of TFDS's list."""
    folder = Path(tfds.__file__).parent / "image_classification"
    ids = (folder / "imagenet_resized_labels.txt").read_text().split()
    labels = class_labels(ids)
    assert len(labels) == 1000
    assert [label.split()[0] for label in labels] == ids
    names = {label.split(" ", 1)[1].lower() for label in labels}
    assert len(names) == 1000
    assert {"crane (bird)", "crane (machine)", "maillot (tights)"} <= names
    assert are_imagenets(ids[::-1]) and are_imagenets(labels)
    assert without_ids(labels)[ids.index("n01440764")] == "tench"
    for others in (ids[:999], [*ids[:999], "n00000000"], names, ids * 2):
        assert not are_imagenets(others)
    assert not are_imagenets(list(map(str, range(1000))))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["n01440764 tench", "a b"], ["tench", "a b"]),
        (["n01440764", "n02102040 dog"], ["n01440764", "dog"]),
        (2 * ["n01440764 tench"], 2 * ["n01440764 tench"]),
    ],
)
def test_labels_without_ids_stay_unique(labels, expected):
    assert without_ids(labels) == expected


def test_a_tfds_data_set_of_ids_has_labels(tmp_path):
    names = tfds_source.class_names("imagenette", data_dir=str(tmp_path))
    assert names[:2] == ("n01440764", "n02102040")
    assert class_labels(names)[:4] == LABELED
    assert class_labels(names)[-1] == "n03888257 parachute"


@pytest.mark.parametrize(
    "names",
    [
        ["cat", "dog"],
        ["n0144076", "n014407641", "xn01440764"],
        ["n99999999"],  # Not among the 1,000.
        ["n02123045 tabby, tabby cat"],  # As import_caffe leaves them.
        ["n01440764_tench"],
    ],
)
def test_other_names_stay(names):
    assert class_labels(names) == names


def test_some_names_may_be_ids():
    names = ["background", "n01440764", "n99999999"]
    expected = ["background", "n01440764 tench", "n99999999"]
    assert class_labels(names) == expected


@pytest.mark.parametrize(
    ("names", "lines", "expected"),
    [
        ("0 1", "plane\ncar\n", ["0 plane", "1 car"]),
        ("0 1", "same\nsame", ["0 same", "1 same"]),
        ("0 1", "1 car\n0 big plane\n\n", ["0 big plane", "1 car"]),
        ("0 1", "\ufeff1\tcar\r\n0\tplane\r\n", ["0 plane", "1 car"]),
        ("b a", "a Ärmel\nb", ["b", "a Ärmel"]),
        ("a a_b", "a_b x\na y", ["a y", "a_b x"]),
        ("a b", "a \x1b[2J\nb \u202e", [r"a \x1b[2J", r"b \u202e"]),
        (
            "n01440764 n03000684",
            "n03000684 saw\nn01440764 Schleie",
            ["n01440764 Schleie", "n03000684 saw"],
        ),
    ],
)
def test_a_file_has_labels(tmp_path, names, lines, expected):
    file = tmp_path / "labels.txt"
    file.write_bytes(lines.encode())
    assert class_labels(names.split(), str(file)) == expected


def test_names_may_have_spaces_and_other_labels(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("big cat lion\nbig hare\nn01440764 Schleie")
    names = ["n01440764 tench", "big", "big cat"]
    expected = ["n01440764 Schleie", "big hare", "big cat lion"]
    assert class_labels(names, str(file)) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: .*No such file"),
        (b"\xff\xfe\0\x80", "cannot be read: .*decode"),
        (b"", "line 1 of .* is empty"),
        (b"x\n\ny\nz", "line 2 of .* is empty"),
        (b"x\ny\n  \nz\n", "line 3 of .* is empty"),
        (b"x\ny", "has 2 lines; expected one for each of the 3 classes"),
        (b"w\nx\ny\nz", "has 4 lines; expected one for each of the 3"),
        (b"a x\nb y\nd z", "'d z' in .* is none of the classes, such as 'c'"),
        (b"a x\nb y\ncz", "'cz' in .* is none of the classes, such as 'c'"),
        (b"a x\nb y\na z", "has 2 lines for the class 'a'"),
    ],
)
def test_files_that_do_not_fit(tmp_path, content, message):
    file = tmp_path / "labels.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        class_labels(["a", "b", "c"], str(file))
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture(scope="module")
def old_run(tmp_path_factory):
    """A run of an earlier version, on images in folders named by ids."""
    root = tmp_path_factory.mktemp("old")
    run = shutil.copytree(golden_runs.OLD_RUN, root / "run")
    info = json.loads((run / "dataset.json").read_text())
    for split in ("train", "validation"):
        for name, wordnet_id in zip(info["class_names"], IDS, strict=True):
            source = golden_runs.GOLDEN / "images" / split / name
            shutil.copytree(source, root / "images" / split / wordnet_id)
    info["class_names"] = IDS
    (run / "dataset.json").write_text(json.dumps(info))
    with (run / "flags.cfg").open("a") as flags:
        flags.write(f"--dataset=folder:{root}/images\n")
    return run


@pytest.mark.slow
@pytest.mark.parametrize("is_given", [False, True])
def test_commands_show_labels(old_run, tmp_path, capsys, is_given):
    flags, expected = [], LABELED
    if is_given:
        file = tmp_path / "labels.txt"
        file.write_text("eins\nzwei\ndrei\nvier\n")
        flags = [f"--labels={file}"]
        expected = ["n01440764 eins", "n02102040 zwei"]
        expected += ["n02979186 drei", "n03000684 vier"]

    report = tmp_path / "report.json"
    words = ["evaluate", str(old_run), "--noten_crops", f"--json={report}"]
    assert main([*words, *flags]) == 0
    errors = json.loads(report.read_text())
    assert sorted(row["class"] for row in errors["classes"]) == expected
    assert {row["taken_for"] for row in errors["confused"]} <= {*expected}
    assert expected[0] in capsys.readouterr().out

    image = next((old_run.parent / "images/train" / IDS[0]).iterdir())
    words = ["predict", str(image), "--json_lines"]
    assert main([*words, f"--run_dir={old_run}", *flags]) == 0
    best = json.loads(capsys.readouterr().out)["best"]
    assert sorted(label for label, _ in best) == expected

    of_run = [f"--flagfile={old_run}/flags.cfg", f"--run_dir={old_run}"]
    config, _ = parse([*of_run, *flags])
    model, _ = load_trained(config, RunDir(old_run))
    answers = gallery.draw_images(config, model)["answers"]
    shown = {t.get_text() for axes in answers.axes for t in axes.texts}
    names = {label.split(" ", 1)[1] for label in expected}
    assert {text for text in shown if not text.endswith("%")} == names

    assert main(["export", f"--run_dir={old_run}", *flags]) == 0
    signatures = load_signatures(old_run / "saved_model")
    names = signatures["class_names"]()["class_names"].numpy().tolist()
    assert [name.decode() for name in names] == expected
    content = tf.constant([image.read_bytes()])
    labels = signatures["classify"](image_bytes=content)["labels"]
    assert sorted(np.char.decode(labels.numpy()[0].astype(bytes))) == expected
    assert main([*words, f"--saved_model={old_run}/saved_model"]) == 0
    capsys.readouterr()


@pytest.mark.slow
def test_a_run_keeps_its_labels(tmp_path, capsys):
    """A later start may replace them; the data set's own names remain."""
    run, file = tmp_path / "run", tmp_path / "labels.txt"
    names = sorted(p.name for p in Path("tests/golden/images/train").iterdir())
    arguments, _ = golden_runs.commands(run, "1x1")
    for label in ("one", "two"):
        file.write_text("".join(f"{n} {label}\n" for n in reversed(names)))
        flags = [f"--labels={file}", "--epochs=1"]
        assert main([*arguments, *flags]) == 0
        info = json.loads((run / "dataset.json").read_text())
        assert info["class_names"] == names
        assert info["labels"] == [f"{name} {label}" for name in names]
        model = tf.saved_model.load(str(run / "saved_model"))
        found = model.signatures["class_names"]()["class_names"].numpy()
        assert [n.decode() for n in found] == info["labels"]
        (run / "result.json").unlink()
    file.unlink()
    image = next(Path("tests/golden/images/train", names[0]).iterdir())
    assert main(["predict", str(image), f"--run_dir={run}"]) == 0
    assert f"{names[0]} two" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["evaluate", "predict", "figures", "train"])
def test_labels_that_do_not_fit_are_one_line(tmp_path, capsys, command):
    file = tmp_path / "labels.txt"
    file.write_text("one\ntwo\nthree\n")
    run = golden_runs.OLD_RUN
    arguments = {
        "evaluate": ["evaluate", str(run)],
        "figures": ["figures", str(run), f"--figures_dir={tmp_path}"],
        "predict": ["predict", __file__, f"--run_dir={run}"],
        "train": golden_runs.commands(tmp_path / "run", "1x1")[0],
    }
    assert main([*arguments[command], f"--labels={file}"]) == 2
    error = capsys.readouterr().err
    assert error.endswith(
        f"error: --labels={file} has 3 lines; expected one for each of the 4 "
        "classes.\n"
    )


def test_a_saved_model_has_its_labels(capsys):
    flags = ["--saved_model=saved_model", "--labels=labels.txt"]
    assert main(["predict", "a.jpg", *flags]) == 2
    assert "saved_model contains labels" in capsys.readouterr().err
