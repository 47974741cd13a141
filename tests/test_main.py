"""The command line as a user meets it, in processes of its own."""

import subprocess
import sys

import pytest


def call(*arguments):
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "alexnet_tf.main"]
        + list(arguments),
        capture_output=True,
        text=True,
    )


def said(process):
    """Returns what was printed on stderr, without the import times."""
    lines = process.stderr.splitlines()
    return [line for line in lines if not line.startswith("import time:")]


def test_help_shows_commands_and_flags_without_importing_tensorflow():
    process = call("--help")
    assert process.returncode == 0
    for word in ("evaluate RUN_DIR", "--batch_size", "Sec. 5", "[images]"):
        assert word in process.stdout
    assert "tensorflow" not in process.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batchsize=3"], "batch_size"),
        (["tarin"], "Did you mean train?"),
        (["train", "now"], "train does not take 'now'"),
        (["--crop_size=300"], "make the crop smaller"),
        (["export", "a", "b"], "does not take"),
    ],
)
def test_a_mistake_is_told_in_three_lines_before_tensorflow(arguments, message):
    process = call(*arguments)
    assert process.returncode == 2
    lines = said(process)
    assert 1 <= len(lines) <= 3
    assert lines[0].startswith("error: ")
    assert message in " ".join(lines)
    assert process.stdout == ""
    assert "tensorflow" not in process.stderr


def test_debug_shows_the_trace_of_a_mistake():
    lines = said(call("--crop_size=300", "--debug"))
    assert "Traceback" in lines[0]
    assert lines[-1].startswith("error: ")
