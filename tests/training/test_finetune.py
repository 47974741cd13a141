"""Fine-tuning another run's weights on a folder, with frozen layers."""

import json
import shutil

import numpy as np
import pytest

from alexnet_tf.data import tfds_source as sources
from alexnet_tf.main import main
from alexnet_tf.storage import checkpoints
from tests.support import TINY


@pytest.fixture(scope="module")
def photos(tmp_path_factory, data_dir):
    """A folder with two classes of the data set's JPEG files."""
    folder = tmp_path_factory.mktemp("photos")
    split = sources.open_split("shapes/tiny", "train", data_dir=data_dir)
    for number, example in enumerate(split.in_order(1).unbatch()):
        if example["label"] < 2:
            name = split.class_names[int(example["label"])]
            (folder / name).mkdir(exist_ok=True)
            file = folder / name / f"{number}.jpg"
            file.write_bytes(example["image"].numpy())
    return folder


def weights_of(checkpoint):
    with np.load(checkpoint / "variables.npz") as saved:
        return {
            name: saved[name]
            for name in saved
            if name.endswith(("/kernel", "/bias"))
        }


def test_frozen_layers_stay_and_the_others_learn(
    finished_run, photos, tmp_path
):
    flags = [
        *TINY,
        "--flagfile=flags/finetune.cfg",
        f"--dataset=folder:{photos}",
        f"--init_from={finished_run}",
        f"--run_dir={tmp_path}",
        "--batch_size=8",
        "--epochs=1",
    ]
    assert main(flags) == 0
    before = weights_of(checkpoints.best(finished_run / "checkpoints"))
    after = weights_of(checkpoints.newest(tmp_path / "checkpoints"))
    for name, value in after.items():
        if name.startswith("fc8"):
            assert value.shape[-1] == 2
        elif name.startswith(("conv1", "conv2")):
            np.testing.assert_array_equal(value, before[name], err_msg=name)
        else:
            assert np.any(value != before[name]), name
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["num_examples"] == sum(
        len(list(folder.iterdir())) // 10 for folder in photos.iterdir()
    )
    # It resumes as it is, but not with other frozen layers.
    (tmp_path / "result.json").unlink()
    assert main([*flags, "--epochs=2"]) == 0
    shutil.rmtree(tmp_path / "saved_model")
    (tmp_path / "result.json").unlink()
    assert main([*flags, "--epochs=3", "--freeze=conv1"]) == 2


@pytest.mark.parametrize(
    "names, message",
    [
        ("conv1,conv9", "no layer 'conv9' with weights"),
        ("pool1", "no layer 'pool1' with weights"),
        (
            "conv1,conv2,conv3,conv4,conv5,fc6,fc7,fc8",
            "leaves nothing to train",
        ),
    ],
)
def test_layers_that_cannot_be_frozen(
    names, message, data_dir, finished_run, tmp_path, capsys
):
    flags = [f"--data_dir={data_dir}", f"--run_dir={tmp_path}"]
    flags.append(f"--init_from={finished_run}")
    assert main([*TINY, *flags, f"--freeze={names}"]) == 2
    assert message in capsys.readouterr().err


def test_random_weights_are_not_frozen(tmp_path, capsys):
    assert main([*TINY, f"--run_dir={tmp_path}", "--freeze=conv1"]) == 2
    assert "--freeze=conv1 without --init_from" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
