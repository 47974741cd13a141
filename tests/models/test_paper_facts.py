"""The paper's counts, and the network's."""

import json

import pytest

from alexnet_tf.main import main


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    file = tmp_path_factory.mktemp("facts") / "facts.json"
    arguments = ["inspect", "--paper_facts", "--flagfile=flags/paper.cfg"]
    assert main([*arguments, f"--json={file}"]) == 0
    facts = json.loads(file.read_text())["facts"]
    return {fact["what"]: fact for fact in facts}


@pytest.mark.parametrize(
    ("what", "counted"),
    [
        ("convolutional layers", "5"),
        ("fully connected layers", "3"),
        ("parameters", "60,965,224"),
        ("input numbers", "150,528"),
        ("patches of an image", "2,178 = 33 x 33 x 2"),
        ("bits of a label", "9.97"),
        # 55x55x96, 27x27x256, 13x13x384 twice, 13x13x256, 4096 twice, 1000.
        ("conv1 neurons", "290,400"),
        ("conv2 neurons", "186,624"),
        ("conv3 neurons", "64,896"),
        ("conv4 neurons", "64,896"),
        ("conv5 neurons", "43,264"),
        ("fc6 neurons", "4,096"),
        ("fc7 neurons", "4,096"),
        ("fc8 neurons", "1,000"),
        ("neurons", "659,272"),
        ("conv1 kernels", "96 of 11x11x3"),
        ("conv2 kernels", "256 of 5x5x48"),
        ("conv3 kernels", "384 of 3x3x256"),
        ("conv4 kernels", "384 of 3x3x192"),
        ("conv5 kernels", "256 of 3x3x192"),
        # 55x55x11x11x3x96 + 27x27x5x5x48x256 + 13x13x3x3x(256x384 + 192x384
        # + 192x256) + 9216x4096 + 4096x4096 + 4096x1000.
        ("multiply-adds an image", "724,406,816"),
        ("conv1 share of parameters", "0.06%"),
        ("conv2 share of parameters", "0.50%"),
        ("conv3 share of parameters", "1.45%"),
        ("conv4 share of parameters", "1.09%"),
        ("conv5 share of parameters", "0.73%"),
    ],
)
def test_the_paper_network_has_these_counts(facts, what, counted):
    assert facts[what]["counted"] == counted


@pytest.mark.parametrize(
    ("flags", "classes"),
    [
        # At a tiny width, which only the classes do not depend on.
        ([], "1,000"),
        (["--dataset=shapes/tiny"], "12"),
        (["--run_dir=new"], "12"),
    ],
)
def test_the_classes_are_the_papers_by_default(flags, classes, capsys):
    assert main(["inspect", "--paper_facts", "--width=0.02", *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.startswith("fc8 neurons")]
    assert row.split()[-1] == classes
    assert max(map(len, lines)) <= 80


def test_differences_from_the_paper_are_explained(facts):
    differing = {
        what
        for what, fact in facts.items()
        if fact["paper"] and fact["paper"] != fact["counted"]
    }
    about_right = {"parameters", "bits of a label"}
    small = {f"conv{n} share of parameters" for n in (1, 2, 5)}
    for what in differing - about_right - small:
        assert facts[what]["note"], what
    assert "conv1 neurons" in differing


def test_the_neurons_of_figure_2_add_up_as_the_note_says(facts):
    figure_2 = [
        int(fact["paper"].replace(",", ""))
        for what, fact in facts.items()
        if what.endswith(" neurons")
    ]
    assert sum(figure_2) == 622_312
    assert sum(figure_2) - 55 * 48 * 96 + 55 * 55 * 96 == 659_272
