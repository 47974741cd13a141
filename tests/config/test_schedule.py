"""The syntax of --schedule, and which rate applies to which layer."""

import pytest

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import parse
from alexnet_tf.config.schedule import Schedule


def test_values_at_each_date():
    schedule = Schedule.parse(
        "0: weights=1e-2,biases = 2e-2; 0.5:conv1.weights=0 ;"
        "2: weights=.001, color_noise=off; 3: conv1.biases=3, color_noise=on"
    )
    assert schedule.dates == (0, 0.5, 2, 3)
    assert schedule.layers == ["conv1"]
    for name, values in {
        "weights": [0.01, 0.01, 0.001, 0.001],
        "biases": [0.02] * 4,
        "conv1.weights": [0.01, 0, 0, 0],
        "conv1.biases": [0.02, 0.02, 0.02, 3],
        "fc8.weights": [0.01, 0.01, 0.001, 0.001],
        "color_noise": [True, True, False, True],
    }.items():
        assert schedule.values(name) == values, name
    for epochs, rate in [(0, 0.01), (1.99, 0.01), (2, 0.001), (9, 0.001)]:
        assert schedule.value("weights", epochs) == rate


def test_biases_without_a_rate_have_that_of_their_weights():
    schedule = Schedule.parse(
        "0: weights=1; 1: conv1.weights=2; 2: weights=3; 3: biases=4"
    )
    assert schedule.values("conv1.biases") == [1, 2, 2, 4]
    assert schedule.values("conv2.biases") == [1, 1, 3, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weights=1", "'weights=1' is not EPOCHS: NAME=VALUE"),
        ("0: weights=1;", "'' is not EPOCHS"),
        ("0: weights=1; 25:", "'25:' is not EPOCHS"),
        ("1: weights=1", "weights have no rate at date 0"),
        ("0: biases=1; 2: weights=1", "weights have no rate at date 0"),
        ("0: weights=1; 5: biases=2; 5: biases=3", "date 5 is not after 5"),
        ("0: weights=1; 5: biases=2; 3: biases=3", "date 3 is not after 5"),
        ("x: weights=1", "'x' is not a number from 0"),
        ("0: weights=fast", "'fast' is not a number from 0"),
        ("0: weights=-1", "'-1' is not a number from 0"),
        ("0: weights=nan", "'nan' is not a number from 0"),
        ("0: weights=1; inf: weights=2", "'inf' is not a number from 0"),
        ("0: weights", "'weights' is not NAME=VALUE"),
        ("0: weights=1,", "'' is not NAME=VALUE"),
        ("0: weights=1, weights=2", "'weights=2' is given twice"),
        (
            "0: weights=1, momentum=0",
            "'momentum' is not weights, biases, LAYER",
        ),
        ("0: weights=1, conv1.kernel=0", "'conv1.kernel' is not weights"),
        ("0: weights=1, .biases=0", "'.biases' is not weights"),
        ("0: weights=1, color_noise=0", "color_noise=0 at 0; it is on or off"),
        ("0: weights=1; 1.5: color_noise=off", "color_noise=off at 1.5; it"),
    ],
)
def test_schedules_that_cannot_be_read(text, message):
    with pytest.raises(UserError) as caught:
        parse([f"--schedule={text}"])
    assert f"--schedule: {message}" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--optimizer=lars"], "--optimizer=lars with --schedule"),
        (["--warmup_epochs=2"], "--warmup_epochs=2.0 with --schedule"),
        (["--base_batch_size=64"], "--base_batch_size=64 with --schedule"),
        (["--override_learning_rate"], "leave out --override_learning_rate"),
        (["--flagfile=flags/large_batch.cfg"], r"give --schedule= \(empty\)"),
        (["--color_noise=off"], "sets color_noise=on, but --color_noise=off"),
    ],
)
def test_settings_that_a_schedule_excludes(flags, message):
    schedule = "--schedule=0: weights=1; 2: color_noise=on"
    with pytest.raises(UserError, match=message) as caught:
        parse([schedule, *flags])
    assert len(str(caught.value).splitlines()) <= 3
    parse([schedule, *flags, "--schedule="])


@pytest.mark.parametrize("name", ["finetune", "ablations/no_color_noise"])
def test_flag_files_that_may_follow_a_schedule(name):
    parse(["--flagfile=flags/code_2012.cfg", f"--flagfile=flags/{name}.cfg"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fc6", "'fc6' is not NAME=VALUE"),
        ("fc6=1,fc6=2", "'fc6=2' is given twice"),
        ("fc6=-1", "'-1' is not a number"),
    ],
)
def test_decays_of_layers_that_cannot_be_read(text, message):
    with pytest.raises(UserError, match=f"--layer_weight_decay: {message}"):
        parse([f"--layer_weight_decay={text}"])


def test_decays_of_layers():
    config, _ = parse(["--layer_weight_decay=fc6=0.001, conv1=0"])
    assert config.layer_decays() == {"fc6": 0.001, "conv1": 0}
