"""Flags that have no effect beside others are named."""

import dataclasses

import pytest

from alexnet_tf.config import unused
from alexnet_tf.config.flags import Config, parse
from alexnet_tf.main import main


def sentences(*arguments):
    config, words = parse(arguments)
    return unused.unused_flags(arguments, config, words[0])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--lrn=off --lrn_size=3 --nolrn_divide_alpha", "lrn_divide_alpha"),
        ("--towers=1 --link_precision=float16", "with --towers=1."),
        ("--kernels=96,0,384,384,256 --factorized_conv2", "of conv2"),
        ("--dropout_layers= --dropout_rate=0.3", "dropout_rate has no effect"),
        ("--color_noise=off --color_noise_std=0.3", "with --color_noise=off."),
        ("--norandom_crop --nohorizontal_flip --augment_chunk=8", "chunk has"),
        ("--schedule=0:weights=1 --plateau_patience=3", "with --schedule."),
        ("--plateau_drops=0 --plateau_factor=3", "with --plateau_drops=0."),
        ("--lars_trust=0.1", "without --optimizer=lars."),
        ("--max_rollbacks=8", "without --on_nonfinite=rollback."),
    ],
)
def test_beside_other_settings(arguments, expected):
    (sentence,) = sentences("train", *arguments.split())
    assert expected in sentence


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("predict --gpus=none", "--gpus has no effect on predict."),
        ("export --precision=bfloat16 --virtual_devices=2", "on export."),
        ("figures --batch_size=7 --seed=3", "--batch_size has no effect"),
        ("evaluate --batch_size=7 --epochs=3", "--epochs has no effect"),
        ("compare --towers=1 --link_precision=float16", "on compare."),
        ("inspect --network_gbps=3", "without --scale."),
    ],
)
def test_for_a_command(words, expected):
    (sentence,) = sentences(*words.split())
    assert expected in sentence


@pytest.mark.parametrize(
    "words",
    [
        "train --flagfile=code_2012 --flagfile ablations/no_lrn",
        "train --flagfile=paper --flagfile=one_gpu --batch_size=8",
        "train --on_nonfinite=rollback --max_rollbacks=2 --lrn_size=3",
        "evaluate --virtual_devices=2 --batch_size=8 --precision=bfloat16",
        "inspect --scale --network_gbps=3 --batch_size=8",
    ],
)
def test_what_has_an_effect_or_is_in_a_file(words):
    assert sentences(*words.split()) == []


def test_the_tables_name_settings():
    names = {field.name for field in dataclasses.fields(Config)}
    for flags, _, _ in unused._CONDITIONS:
        assert set(flags.split()) <= names
    assert set().union(*unused._USED.values()) <= names


def test_the_line_is_not_among_the_results(capsys):
    words = ["inspect", "--lrn=off", "--lrn_k=3", "--schedule_table"]
    main([*words, "--schedule=0: weights=0.01"])
    out, err = capsys.readouterr()
    assert "--lrn_k has no effect with --lrn=off." in err
    assert "lrn_k" not in out
