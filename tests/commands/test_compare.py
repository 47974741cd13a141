"""Runs compared over their seeds: numbers that are counted by hand."""

import json
import math

import pytest

from alexnet_tf.config.flags import parse, to_flagfile
from alexnet_tf.main import main
from tests.support import TINY, write_run


@pytest.fixture
def make_run(tmp_path):
    """Returns a function that writes finished runs."""

    def make(name, *flags, top1, training_errors, speed=100.0):
        epochs = len(training_errors)
        run = write_run(
            tmp_path / name,
            rates=[0.01] * epochs,
            top1_error=training_errors,
            images_per_second=[speed] * epochs,
        )
        config, _ = parse([*TINY, *flags])
        (run / "flags.cfg").write_text(to_flagfile(config))
        numbers = ("loss", "num_examples", "best_epoch", "steps", "parameters")
        errors = {"top1_error": top1, "top5_error": top1 / 10}
        result = dict.fromkeys(numbers, 0) | errors | {"epochs": epochs}
        (run / "result.json").write_text(json.dumps(result))
        return str(run)

    return make


def test_runs_that_differ_in_the_seed_make_a_row(make_run, tmp_path, capsys):
    runs = [
        make_run("a-10", top1=0.1, training_errors=[0.5, 0.25, 0.1]),
        make_run("a-11", "--seed=2", top1=0.2, training_errors=[0.2]),
        make_run(
            "b-1",
            "--lrn=off",
            "--norandom_crop",
            top1=0.35,
            training_errors=[0.6, 0.5, 0.3],
            speed=125.0,
        ),
    ]
    report = tmp_path / "compared.json"
    flags = [f"--figures_dir={tmp_path / 'figures'}", f"--json={report}"]
    assert main(["compare", *runs, runs[1], *flags]) == 0  # One twice.
    printed = capsys.readouterr().out
    *_, header, line, first, second = [
        row for row in printed.splitlines() if row.startswith("|")
    ]
    common, _ = printed.split("\n", 1)
    assert common.startswith("All runs: --dataset=shapes/tiny --image_size=72 ")
    assert "--seed" not in common and "dir" not in common
    assert "epochs to 25% training error" in header and set(line) == set("| -")
    assert first == (
        "| a |  | 2 | 15.0 (10.0 to 20.0) | 1.5 (1.0 to 2.0) "
        "|  |  | 1.5 (1 to 2) | 1.00 |"
    )
    assert second == (
        "| b-1 | `--norandom_crop --lrn=off` | 1 | 35.0 | 3.5 "
        "| +0.0 | +20.0 | not reached by 1 | 1.25 |"
    )
    content = json.loads(report.read_text())
    assert content["a"]["epochs"] == [2, 1]
    assert content["a"]["top1_error"] == [0.1, 0.2]
    assert content["b-1"]["epochs"] == [None]
    assert content["b-1"]["settings"] == ["--norandom_crop", "--lrn=off"]
    for name in ("compared_errors", "compared_curves", "compared_training"):
        for suffix in (".png", ".svg"):
            assert (tmp_path / "figures" / f"{name}{suffix}").stat().st_size


def test_a_folder_that_has_moved_is_the_same(make_run, tmp_path, capsys):
    """By the names of its images; others differ, or are not known."""
    error = {"top1": 0.1, "training_errors": [0.5]}
    names = ("a", "a"), ("a", "a"), ("a", "b"), ("", "")
    runs = []
    for number, digests in enumerate(names):
        flag = f"--dataset=folder:/{number}"
        runs.append(make_run(f"{number}", flag, **error))
        file = tmp_path / str(number) / "dataset.json"
        info = json.loads(file.read_text()) | {"names_sha256": digests}
        file.write_text(json.dumps(info))
    assert main(["compare", *runs, f"--figures_dir={tmp_path}"]) == 0
    rows = capsys.readouterr().out.splitlines()
    cells = [row.split("|")[2:4] for row in rows if row.startswith("|")][2:]
    assert cells == [
        ["  ", " 2 "],
        [" `--dataset=folder:/2` ", " 1 "],
        [" `--dataset=folder:/3` ", " 1 "],
    ]


def test_what_all_others_have_is_stated_once(make_run, tmp_path, capsys):
    """And runs of equal names have those of their parents, too."""
    error = {"top1": 0.1, "training_errors": [0.5]}
    runs = [
        make_run("x/run", **error),
        make_run("y/run", "--lrn=off", "--width=0.2", **error),
        make_run("z/run", "--lrn=off", "--crop_size=67", **error),
    ]
    assert main(["compare", *runs, f"--figures_dir={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    assert "\nAll but x/run: --lrn=off\n" in printed
    assert "| x/run |  |" in printed
    assert "| y/run | `--width=0.2` |" in printed
    assert "| z/run | `--crop_size=67` |" in printed
    runs += [make_run(f"{n}/z/run", f"--width=0.{n}", **error) for n in "34"]
    assert main(["compare", *runs, f"--figures_dir={tmp_path}"]) == 0
    assert "| z/run (5) | `--width=0.4`" in capsys.readouterr().out


def test_the_mean_difference_has_an_interval(make_run, tmp_path, capsys):
    def make(name, seed, error):
        flags = f"--seed={seed}", *(["--lrn=off"] if name == "none" else [])
        errors = [0.5, error]
        return make_run(
            f"{name}{seed}", *flags, top1=0.1, training_errors=errors
        )

    runs = [make("base", 1, 0.25), make("base", 2, 0.25)]
    runs += [make("none", 1, 0.3), make("none", 2, 0.35)]
    report = tmp_path / "compared.json"
    flags = [f"--figures_dir={tmp_path}", f"--json={report}"]
    assert main(["compare", *runs, *flags]) == 0
    # 5 and 10 points: 7.5, and 12.706 * 3.5355 / sqrt(2).
    assert "| +0.0 ± 0.0 | +7.5 ± 31.8 |" in capsys.readouterr().out
    assert json.loads(report.read_text())["none"]["differences"] == {
        "validation": [0, 0],
        "training": pytest.approx([0.05, 0.1]),
    }
    assert (tmp_path / "compared_differences.png").stat().st_size


def test_another_training_error(make_run, tmp_path, capsys):
    run = make_run("a", top1=0.1, training_errors=[0.5, 0.3, 0.1])
    flags = ["--training_error=0.3", f"--figures_dir={tmp_path / 'figures'}"]
    assert main(["compare", run, *flags]) == 0
    assert "| 2 | 1.00 |" in capsys.readouterr().out
    errors = [0.5] * 139 + [0.004]
    run = make_run("b", top1=0.1, training_errors=errors)
    flags[0] = "--training_error=0.005"
    assert main(["compare", run, *flags]) == 0
    output = capsys.readouterr().out
    assert "epochs to 0.5% training error" in output
    assert "| 140 | 1.00 |" in output


def test_seeds_may_begin_with_seeds_of_another_run(make_run, tmp_path, capsys):
    error = {"top1": 0.1, "training_errors": [0.5]}
    runs = [make_run("nothing-1", **error)]
    for start in ("one", "two"):
        for seed in (1, 2):
            flags = f"--seed={seed}", f"--init_from={tmp_path}/{start}-{seed}"
            runs.append(make_run(f"from_{start}-{seed}", *flags, **error))
    assert main(["compare", *runs, f"--figures_dir={tmp_path}"]) == 0
    output = capsys.readouterr().out
    for start in ("one", "two"):
        assert (
            f"| from_{start} | `--init_from={tmp_path}/{start}` | 2 " in output
        )


def test_epochs_of_one_step_have_no_speed(make_run, tmp_path, capsys):
    error = {"top1": 0.1, "training_errors": [0.5]}
    runs = [
        make_run("a", speed=math.nan, **error),
        make_run("b", "--lrn=off", **error),
    ]
    report = tmp_path / "compared.json"
    flags = [f"--figures_dir={tmp_path}", f"--json={report}"]
    assert main(["compare", *runs, *flags]) == 0
    assert capsys.readouterr().out.count("|  |\n") == 2
    content = json.loads(report.read_text())
    assert content["a"]["images_per_second"] is None
    assert content["b"]["images_per_second"] == 100


def test_imported_runs_are_refused(make_run, tmp_path, capsys):
    run = make_run("a", top1=0.1, training_errors=[])
    (tmp_path / "a" / "result.json").write_text(
        '{"imported_from": "b", "parameters": 1}'
    )
    assert main(["compare", run]) == 2
    assert "is imported, so that it has no epochs" in capsys.readouterr().err


def test_what_cannot_be_compared(make_run, tmp_path, capsys):
    run = make_run("a", top1=0.1, training_errors=[0.5])
    (tmp_path / "a" / "result.json").unlink()
    assert main(["compare", run]) == 2
    assert "is not finished: it has no result.json" in capsys.readouterr().err
    (tmp_path / "a" / "history.csv").unlink()
    assert main(["compare", run]) == 2
    assert "history.csv has no rows yet" in capsys.readouterr().err
    assert main(["compare"]) == 2
    assert "give at least one run directory" in capsys.readouterr().err
