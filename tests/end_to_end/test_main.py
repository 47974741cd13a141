"""The command line as a user meets it, in processes of its own."""

import dataclasses
import os
import re
import subprocess
import sys

import pytest

from alexnet_tf.config.commands import COMMANDS, CommandOptions, takes
from alexnet_tf.config.flags import check_flags, parse
from alexnet_tf.main import main


def call(*arguments, stdout=subprocess.PIPE):
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "alexnet_tf.main"]
        + list(arguments),
        stdout=stdout,
        stderr=subprocess.PIPE,
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


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_stands_alone(command, capsys):
    assert main([command, "--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("usage: python -m alexnet_tf.main " + command)
    assert "--[no]debug" in told
    for field in dataclasses.fields(CommandOptions):
        shown = re.search(rf"^  --(\[no\])?{field.name}:", told, re.MULTILINE)
        assert bool(shown) == takes(command, field.name)
    # Its examples are command lines that can be read.
    for line in told.splitlines():
        if line.startswith("  python -m alexnet_tf.main "):
            _, words = parse(line.split()[3:])
            check_flags(line.split()[3:], command)
            assert words[:1] == ([] if command == "train" else [command])


def test_a_reader_that_leaves_is_no_error():
    """As in `--help | head`: the rest of 9,000 letters has no reader."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        process = call("--help", stdout=pipe)
    assert process.returncode == 1 and not said(process)


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
