"""Files that would fill the memory: refused or read within 256 MB."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.data.bombs import BOMBS, HARMLESS, write_bombs
from tests.data.image_kinds import GOOD
from tests.support import ONE_TOWER

_ALLOWED = 256  # Above what good files take [MB].


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("bombs")
    write_bombs(root)
    return root


def test_bombs_take_no_memory_and_good_files_beside_them_are_read(folder):
    """By all decoders, in a process of its own."""
    assert len(BOMBS) > 40
    # Memory that is freed goes back to the system, and is seen to.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-m", "tests.data.bombs", str(folder)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    names = sorted(line["name"] for line in lines)
    assert names == sorted([*BOMBS, *HARMLESS] * 2)
    for line in lines:
        assert line["grown"] < _ALLOWED, line
        is_good = line["name"] in HARMLESS
        assert line["ok"] == [True, is_good, True], line
        assert bool(line["reason"]) == (not is_good), line
    reasons = [line["reason"] for line in lines]
    named = [r for r in reasons if "more than --max_image_pixels=1000" in r]
    assert len(named) > 50
    assert "20000x20000 pixels, more than --max_image_pixels=100000000" in named


@pytest.mark.slow
def test_commands_take_no_more_memory_with_bombs(folder, tmp_path):
    """Than on the good files alone: training, evaluation, exported model."""
    peaks = {}
    for name in ("good", "all"):
        home = tmp_path / name
        for label in "ab":
            images = home / "set" / label
            images.mkdir(parents=True)
            if name == "all":
                shutil.copytree(folder, images, dirs_exist_ok=True)
            for number in range(20):
                file = images / f"good {number}.jpg"
                file.write_bytes(GOOD["jpeg RGB"])
        root, run = home / "set", home / "run"
        saved = run / "saved_model"
        data = [f"--dataset=folder:{root}", "--max_bad_fraction=1"]
        small = [*ONE_TOWER, "--width=0.04", "--epochs=1", "--batch_size=4"]
        commands = {
            "train": [*small, *data, f"--run_dir={run}"],
            "prepare": ["prepare", *data, f"--prepared_dir={home}/prepared"],
            "evaluate": ["evaluate", str(run), *data],
            "predict": ["predict", str(root), f"--run_dir={run}"],
            "exported": ["predict", str(root), f"--saved_model={saved}"],
        }
        for command, arguments in commands.items():
            code, peak, printed = run_command(arguments, home / "printed.txt")
            refuses = "predict" in arguments and name == "all"
            assert code == refuses, printed
            peaks[name, command] = peak
            if "predict" in arguments:
                assert printed.count("/good ") == 40
                found = printed.count("more than --max_image_pixels=1000")
                assert found > 50 or name == "good"
    for command in commands:
        grown = peaks["all", command] - peaks["good", command]
        print(f"{command}: {grown:.0f} MB above {peaks['good', command]:.0f}")
        assert grown < _ALLOWED


def run_command(arguments, output):
    """Returns a command's exit code, peak memory [MB] and output."""
    command = [sys.executable, "-m", "alexnet_tf.main", *arguments]
    with output.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
    code = process.returncode = os.waitstatus_to_exitcode(status)
    return code, usage.ru_maxrss / 1024, output.read_text()
