"""Fine-tuning another run's weights on a folder, with frozen layers."""

import json
import re
import shutil
from pathlib import Path

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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_network_with_conv6_is_pretrained_and_fine_tuned(
    photos, data_dir, tmp_path, capsys
):
    """The two steps of flags/cnn_star, on twelve classes and on two of them."""
    files = ("paper", "code_2012", "cnn_star/{}")
    flags = [*(f"--flagfile={file}" for file in files), *TINY]
    flags += [f"--data_dir={data_dir}", f"--run_dir={tmp_path}/{{}}"]
    first = [*flags, "--epochs=1"]
    assert main([flag.format("pretrain") for flag in first]) == 0
    before = weights_of(checkpoints.best(tmp_path / "pretrain/checkpoints"))
    assert "--order=fixed leaves" not in capsys.readouterr().out  # 15 x 16.
    second = [*flags, f"--dataset=folder:{photos}", "--batch_size=8"]
    second += ["--epochs=2", f"--init_from={tmp_path}/pretrain"]
    assert main([flag.format("finetune") for flag in second]) == 0
    printed = capsys.readouterr().out
    assert "New random weights: fc8" in printed
    assert "conv6_tower1, fc6_tower0" in printed.split("Weights from")[1]
    left_out = "--order=fixed leaves the same 4 training images out of every ep"
    assert left_out in printed  # Of 36.
    after = weights_of(checkpoints.newest(tmp_path / "finetune/checkpoints"))
    assert any(name.startswith("conv6") for name in after)
    for name, value in after.items():
        if not name.startswith("fc8"):
            assert np.any(value != before[name]), name
    assert main([flag.format("finetune") for flag in second]) == 0
    assert "is finished" in capsys.readouterr().out


def test_the_rates_of_fine_tuning_are_those_of_the_2012_source():
    """Read from the line without the program, for each of the 54 epochs."""
    text = Path("flags/cnn_star/finetune.cfg").read_text()
    (line,) = re.findall("^--schedule=(.*)$", text, re.M)
    changes = {}
    for part in line.split(";"):
        date, _, pairs = part.partition(":")
        pairs = [pair.split("=") for pair in pairs.replace(" ", "").split(",")]
        changes[float(date)] = dict(pairs)
    assert list(changes) == sorted(changes)

    def values(name):
        """Returns a layer's rates, the general ones before it has its own."""
        found = []
        for epoch in range(54):
            past = [c for date, c in changes.items() if date <= epoch]
            own = [c[name] for c in past if name in c]
            general = [c["weights"] for c in past if "weights" in c]
            found.append(float((own or general)[-1]))
        return found

    assert values("conv1.weights") == 5 * [1e-4] + 2 * [1e-5] + 47 * [0.0]
    rest = 22 * [1e-3] + 20 * [1e-4] + 12 * [1e-5]
    for number in (2, 3, 4, 5, 6):
        assert values(f"conv{number}.weights") == rest
    assert values("fc8.weights") == [1e-3, *(8 * [1e-2]), *rest[9:]]
    assert 0.03 * 1_281_167 / 128 == pytest.approx(300, abs=1)
    assert changes[0.03] == {"fc8.weights": "1e-2"}
    assert changes[38.0] == {"color_noise": "off"}
    assert "--epochs=54\n" in text and "--freeze" not in text


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
