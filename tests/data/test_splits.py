"""A run's splits: the prepared set or its source, and their classes."""

import shutil

import pytest

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import parse
from alexnet_tf.data import splits
from alexnet_tf.main import main
from tests.data.image_files import GOOD, write_folder
from tests.end_to_end import golden_runs
from tests.support import TINY


@pytest.mark.parametrize("now", [3, 5])
def test_a_run_on_other_classes_is_an_error(tmp_path, capsys, now):
    images, run = tmp_path / "images", tmp_path / "run"
    shutil.copytree(golden_runs.GOLDEN / "images", images)
    shutil.copytree(golden_runs.OLD_RUN, run)
    (run / "result.json").unlink()
    flags = (run / "flags.cfg").read_text()
    (run / "flags.cfg").write_text(
        flags.replace("folder:tests/golden/images", f"folder:{images}")
    )
    if now == 3:
        for folder in images.glob("*/plain_disc_similar"):
            shutil.rmtree(folder)
    else:
        (images / "train" / "z").mkdir()
        (images / "train" / "z" / "rgb.jpg").write_bytes(GOOD["rgb"])
    assert main([f"--flagfile={run}/flags.cfg", f"--run_dir={run}"]) == 2
    assert main(["evaluate", str(run)]) == 2
    error = capsys.readouterr().err
    assert error.count(f"trained on 4 classes, its data set now has {now}") == 2
    assert len(error.splitlines()) <= 4


def test_a_prepared_set_belongs_to_a_folder_in_any_spelling(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "photos", {"rgb": GOOD["rgb"]}, copies=4)
    shutil.copytree("photos/train", "photos/val")
    sizes = ["--image_size=72", "--crop_size=64", "--prepared_dir=set"]
    assert main(["prepare", "--dataset=folder:photos", *sizes]) == 0
    manifest = tmp_path / "set" / "manifest.json"
    text = manifest.read_text()
    assert text.count(f"folder:{tmp_path}/photos") == 1
    # The second manifest is one of an earlier version.
    for content in (text, text.replace(f"folder:{tmp_path}", "folder:.")):
        manifest.write_text(content)
        for path in ("photos", "photos/", f"{tmp_path}/photos"):
            config, _ = parse([f"--dataset=folder:{path}", *sizes])
            assert splits.open_split(config, "train").squares
        config, _ = parse([f"--dataset=folder:{tmp_path}/other", *sizes])
        with pytest.raises(UserError, match="was made with --dataset"):
            splits.open_split(config, "train")


@pytest.mark.slow
def test_a_run_does_not_need_its_prepared_set(data_dir, tmp_path, capsys):
    config, _ = parse(
        [
            "--dataset=shapes/tiny",
            f"--prepared_dir={tmp_path}/nothing",
            f"--data_dir={data_dir}",
        ]
    )
    assert not splits.open_split(config, "train").squares
    flags = [*TINY, f"--data_dir={data_dir}", f"--run_dir={tmp_path}/run"]
    flags += [f"--prepared_dir={tmp_path}/nothing", "--epochs=1"]
    assert main(flags) == 0
    assert (
        f"--prepared_dir={tmp_path}/nothing has no" in capsys.readouterr().out
    )
