"""The command line as a user sees it, in separate processes."""

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


def errors_of(process):
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
def test_each_command_has_its_own_help(command, capsys):
    assert main([command, "--help"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("usage: python -m alexnet_tf.main " + command)
    assert "--[no]debug" in output
    for field in dataclasses.fields(CommandOptions):
        shown = re.search(rf"^  --(\[no\])?{field.name}:", output, re.MULTILINE)
        assert bool(shown) == takes(command, field.name)
    # Its examples are command lines that can be read.
    for line in output.splitlines():
        if line.startswith("  python -m alexnet_tf.main "):
            _, words = parse(line.split()[3:])
            check_flags(line.split()[3:], command)
            assert words[:1] == ([] if command == "train" else [command])


def test_a_closed_pipe_is_no_error():
    """As in `--help | head`."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        process = call("--help", stdout=pipe)
    assert process.returncode == 1 and not errors_of(process)


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
def test_user_errors_take_three_lines_and_no_tensorflow(arguments, message):
    process = call(*arguments)
    assert process.returncode == 2
    lines = errors_of(process)
    assert 1 <= len(lines) <= 3
    assert lines[0].startswith("error: ")
    assert message in " ".join(lines)
    assert process.stdout == ""
    assert "tensorflow" not in process.stderr


def test_debug_shows_the_stack_trace():
    lines = errors_of(call("--crop_size=300", "--debug"))
    assert "Traceback" in lines[0]
    assert lines[-1].startswith("error: ")
