"""README's pieces of Python, as a reader runs them but on small data."""

import re
import shutil
from pathlib import Path

import pytest

from alexnet_tf.main import main

README = Path("README.md").read_text()
PIECES = re.findall(
    r"(?:```python|^python - <<'END')\n(.*?)^(?:```|END)", README, re.S | re.M
)


def piece_with(text):
    (piece,) = [piece for piece in PIECES if text in piece]
    return piece


@pytest.fixture
def at_home(tmp_path, monkeypatch, finished_run, image_files):
    """A directory where the quickstart was run, as far as README goes."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quickstart").symlink_to(finished_run)
    shutil.copy(image_files[0], tmp_path / "image.jpg")
    monkeypatch.chdir(tmp_path)


def on_small_data(piece, data_dir):
    assert '("shapes", ' in piece
    piece = piece.replace("range(100)", "range(2)")
    return re.sub(
        r'\("shapes", ("[^"]*")\)',
        rf'("shapes/tiny", \1, data_dir={data_dir!r})',
        piece,
    )


def test_all_are_tried_here():
    assert len(PIECES) == 5


def test_a_folder_sorted_by_outline(at_home, data_dir):
    exec(on_small_data(piece_with("outline"), data_dir), {})
    folders = sorted(folder.name for folder in Path("photos").iterdir())
    assert folders == ["cross", "disc", "star", "triangle"]
    assert main(["inspect", "--dataset=folder:photos", "--paper_facts"]) == 0


def test_a_notebook_that_trains(at_home, data_dir):
    names = {}
    exec(on_small_data(piece_with("model.fit"), data_dir), names)
    assert names["model"].optimizer.iterations == 2


def test_response_normalization_in_another_model():
    names = {}
    exec(piece_with("Sequential"), names)
    assert names["features"].output_shape == (None, 60, 60, 32)


def test_a_saved_model(at_home, capsys):
    exec(piece_with("saved_model.load"), {})
    assert "disc" in capsys.readouterr().out


def test_a_keras_file(at_home):
    flags = ["--run_dir=runs/quickstart", "--keras_file=alexnet.keras"]
    assert main(["export", *flags]) == 0
    names = {}
    exec(piece_with("load_model"), names)
    assert names["network"].name == "alexnet"
