"""A run's splits: the prepared set or its source, and their classes."""

import shutil

import pytest

from alexnet_tf.config.flags import parse
from alexnet_tf.data import splits
from alexnet_tf.main import main
from tests.data.image_files import GOOD
from tests.support import TINY


@pytest.mark.parametrize("now", [3, 5])
def test_a_run_on_other_classes_is_an_error(tmp_path, capsys, now):
    images, run = tmp_path / "images", tmp_path / "run"
    shutil.copytree("tests/golden/images", images)
    shutil.copytree("tests/golden/run", run)
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
