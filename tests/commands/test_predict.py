"""Labels of image files: which files, which model, and what is printed."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest

from alexnet_tf.commands import predict
from alexnet_tf.evaluation import classifier
from alexnet_tf.main import main
from tests.support import write_special_files

NO_IMAGE = "not an image"


@pytest.fixture
def saved_model(finished_run):
    """Loads faster than a run."""
    return f"--saved_model={finished_run}/saved_model"


@pytest.fixture
def bad_file(tmp_path):
    file = tmp_path / "bad.jpg"
    file.write_text(NO_IMAGE)
    return file


def test_bad_files_are_named_and_the_others_classified(
    saved_model, image_files, bad_file, tmp_path, capsys
):
    file = tmp_path / "predictions.json"
    words = [str(image_files[0]), str(bad_file), "none.jpg"]
    words.append(str(image_files[1]))
    assert main(["predict", *words, saved_model, f"--json={file}"]) == 1
    errors = capsys.readouterr().err
    assert "bad.jpg: cannot be read: Unknown image file format" in errors
    assert "none.jpg: cannot be read: No such file or directory" in errors
    predictions = json.loads(file.read_text())
    assert list(predictions) == [words[0], words[3]]
    for best in predictions.values():
        assert len(best) == 5
        scores = [score for _, score in best]
        assert scores == sorted(scores, reverse=True)


def test_run_and_saved_model_predict_the_same(
    finished_run, saved_model, image_files, tmp_path
):
    answers = []
    for model in (f"--run_dir={finished_run}", saved_model):
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
    saved_model, image_files, bad_file, monkeypatch, capsys
):
    """As JSON lines; a folder leaves out what training leaves out, too."""
    folder = bad_file.parent / "folder"
    (folder / "deeper").mkdir(parents=True)
    for number, file in enumerate(image_files):
        shutil.copy(file, folder / ("deeper" if number % 2 else "."))
    names = sorted(str(file) for file in folder.rglob("*.jpg"))
    (folder / "@eaDir").mkdir()
    for hidden in (".hidden", "._0.jpg", "Thumbs.db", "@eaDir/0.jpg"):
        (folder / hidden).write_text(NO_IMAGE)
    shutil.copy(bad_file, folder / "notes.txt")
    lists = "\n".join([*names, "", str(folder / "notes.txt"), ""])
    monkeypatch.setattr("sys.stdin", io.StringIO(lists))
    printed = []
    left_out = "5 files left out: 4 hidden, 1 .txt (not read)"
    for word, code, error in (
        (str(folder), 0, f"{folder}: {left_out}\n"),
        ("-", 1, "notes.txt: cannot be read: Unknown image file format"),
    ):
        assert main(["predict", word, saved_model, "--json_lines"]) == code
        captured = capsys.readouterr()
        assert error in captured.err and len(captured.err.splitlines()) == 1
        printed.append([json.loads(line) for line in captured.out.splitlines()])
    assert printed[0] == printed[1]
    assert [row["file"] for row in printed[0]] == names
    assert all(len(row["best"]) == 5 for row in printed[0])


def test_more_files_than_a_batch(
    saved_model, image_files, tmp_path, monkeypatch
):
    """One of them is given twice."""
    monkeypatch.setattr(classifier, "_BATCH", 3)
    for number in range(8):
        shutil.copy(image_files[number % 5], tmp_path / f"{number}.jpg")
    file = tmp_path / "predictions.json"
    words = [str(tmp_path), str(tmp_path / "0.jpg")]
    assert main(["predict", *words, saved_model, f"--json={file}"]) == 0
    best = list(json.loads(file.read_text()).values())
    assert len(best) == 8
    for number, answer in enumerate(best):
        assert answer[0][0] == best[number % 5][0][0]
        assert answer[0][1] == pytest.approx(best[number % 5][0][1], abs=1e-5)


def test_names_that_are_not_utf_8_or_control_a_terminal(
    saved_model, image_files, tmp_path, monkeypatch, capsys
):
    names = [
        f"{tmp_path}/photo{end}.jpg" for end in ("\x1b[2J", "\udce0", "\udce1")
    ]
    for name in names:
        shutil.copy(image_files[0], name)
    file = tmp_path / "predictions.json"
    for word in (str(tmp_path), "-"):
        lines = io.BytesIO(os.fsencode("\n".join(names)))
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(lines))
        assert main(["predict", word, saved_model, f"--json={file}"]) == 0
        shown = capsys.readouterr().out
        assert r"/photo\xe0" in shown and r"/photo\xe1" in shown
        assert r"/photo\x1b[2J" in shown and "\x1b[2J" not in shown
        assert list(json.loads(file.read_text())) == names
        file.unlink()


def test_special_and_huge_files_are_named_and_not_opened(
    saved_model, image_files, tmp_path, monkeypatch, capsys
):
    """As arguments, in a folder, and in a list."""
    monkeypatch.chdir(tmp_path)  # Names of sockets are short.
    folder = Path("folder")
    folder.mkdir()
    shutil.copy(image_files[0], folder / "good.jpg")
    reasons = write_special_files(folder)
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "again").symlink_to(tmp_path)
    reasons["loop.jpg"] = "Too many levels of symbolic links"
    counted = "8 files left out: 2 FIFO (not a regular file), 2 device"
    reasons["again"] = "Is a directory"
    names = [str(folder / name) for name in [*reasons, "good.jpg"]]
    lines = "\n".join([*names, "a\0name", "a" * 5000])
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    assert main(["predict", str(folder), saved_model]) == 0
    printed, errors = capsys.readouterr()
    assert printed.startswith(f"{folder}/good.jpg\n")
    assert f"{folder}: {counted}" in errors and "cannot be read" not in errors
    for words in ([*names[:-2], names[-1]], ["-"]):
        assert main(["predict", *words, saved_model]) == 1
        printed, errors = capsys.readouterr()
        assert printed.startswith(f"{folder}/good.jpg\n")
        for name, reason in reasons.items():
            if name != "again" or len(words) == 1:
                assert f"{folder}/{name}: cannot be read: {reason}" in errors
    assert "embedded null byte" in errors and "File name too long" in errors


def test_the_limit_of_pixels_is_that_of_the_flag(
    finished_run, saved_model, image_files, tmp_path, capsys
):
    """And that of its run for an exported model."""
    PIL.Image.new("RGB", (500, 400)).save(tmp_path / "a.png")
    words = ["predict", str(tmp_path / "a.png"), str(image_files[0])]
    run = f"--run_dir={finished_run}"
    for number, code in (200_000, 0), (199_999, 1):
        flag = f"--max_image_pixels={number}"
        assert main([*words, run, flag]) == code
    reason = "500x400 pixels, more than --max_image_pixels=199999"
    assert reason in capsys.readouterr().err
    assert main([*words, saved_model]) == 0


def test_a_folder_without_images_is_refused(saved_model, tmp_path, capsys):
    (tmp_path / "notes.txt").touch()
    assert main(["predict", str(tmp_path), saved_model]) == 2
    left_out, error = capsys.readouterr().err.splitlines()
    assert left_out == f"{tmp_path}: 1 files left out: 1 .txt (not read)"
    assert "give at least one image file" in error


@pytest.mark.parametrize(
    ("scores", "is_uncertain"),
    [
        ([0.51, 0.25, 0.1], False),
        ([0.49, 0.10, 0.1], True),
        ([0.60, 0.31], True),
        ([0.70, 0.30], False),
        ([0.99, 0.005], False),
    ],
)
def test_low_and_close_scores_are_uncertain(scores, is_uncertain):
    best = [(f"class {n}", score) for n, score in enumerate(scores)]
    assert len(list(predict._warn(best))) == is_uncertain


def test_uncertain_answers_are_reported(saved_model, image_files, capsys):
    """Three epochs leave all answers of the finished run uncertain."""
    words = ["predict", *map(str, image_files), saved_model]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert text.count("uncertain; perhaps another label") == len(image_files)


def test_an_exported_model_needs_neither_keras_nor_matplotlib(
    finished_run, image_files
):
    """TensorFlow imports them if it can."""
    arguments = ["predict", str(image_files[0])]
    arguments.append(f"--saved_model={finished_run}/saved_model")
    program = "import sys; from alexnet_tf.main import main; "
    program += f"assert main({arguments}) == 0; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    modules = set(done.stdout.splitlines()[-1].split())
    assert "tensorflow" in modules
    assert not modules & {"keras", "matplotlib", "tensorflow_datasets", "PIL"}
