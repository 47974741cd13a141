"""The command line as a user sees it, in separate processes."""

import dataclasses
import os
import re
import subprocess
import sys

import pytest

from alexnet_tf import __version__
from alexnet_tf.config.commands import COMMANDS, CommandOptions, takes
from alexnet_tf.config.flags import Config, check_flags, parse
from alexnet_tf.main import main

SLOW_IMPORTS = {"absl.logging", "keras", "matplotlib", "numpy", "tensorflow"}


def imported(process):
    """Returns the modules that a process imported."""
    return set(re.findall(r"^import time:.*\| +(\S+)$", process.stderr, re.M))


def call(*arguments, stdout=subprocess.PIPE, cwd="."):
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "alexnet_tf.main"]
        + list(arguments),
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
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
    assert "alexnet_tf.config.flags" in imported(process)
    assert not imported(process) & SLOW_IMPORTS


def flags_in(text):
    return re.findall(r"^  --(?:\[no\])?(\w+):", text, re.MULTILINE)


def test_help_begins_with_ten_flags_and_helpfull_has_all(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert len(flags_in(text)) == 10
    assert {"dataset", "run_dir", "learning_rate"} <= set(flags_in(text))
    assert main(["--helpfull"]) == 0
    fields = {field.name for field in dataclasses.fields(Config)}
    assert set(flags_in(capsys.readouterr().out)) == fields
    for spelling in ("help", "-h", "-help"):
        assert main([spelling]) == 0
        assert capsys.readouterr().out == text


def test_help_as_a_word_is_about_a_command(capsys):
    texts = []
    for words in (["help", "evaluate"], ["evaluate", "--help"]):
        assert main(words) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert flags_in(texts[0])[:2] == ["checkpoint", "split"]
    assert {"dataset", "gpus"} < set(flags_in(texts[0]))
    assert "learning_rate" not in flags_in(texts[0])
    assert main(["help", "import_caffe"]) == 0
    assert "import_weights [--flag" in capsys.readouterr().out
    assert main(["help", "evalute"]) == 2
    assert "Did you mean evaluate?" in capsys.readouterr().err


def test_the_version(capsys):
    for words in (["--version"], ["train", "--version"]):
        assert main(words) == 0
        assert capsys.readouterr().out == f"alexnet_tf {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_its_own_help(command, capsys):
    assert main([command, "--helpfull"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("usage: python -m alexnet_tf.main " + command)
    assert "--[no]debug" in output
    for field in dataclasses.fields(CommandOptions):
        assert (field.name in flags_in(output)) == takes(command, field.name)
    # Its examples are command lines that can be read.
    for line in output.splitlines():
        if line.startswith("  python -m alexnet_tf.main "):
            _, words = parse(line.split()[3:])
            check_flags(line.split()[3:], command)
            assert words[:1] == ([] if command == "train" else [command])


def test_what_commands_write_is_checked():
    for command in COMMANDS.values():
        outputs = {"json", "keras_file", "figures_dir"} & {*command.flags}
        assert outputs <= {*command.writes}


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
        (["--lr=0.1"], "unknown flag --lr; did you mean --learning_rate?"),
        # Before a data set is made.
        (["--run_dir=/proc/x"], "--run_dir=/proc/x cannot be written: No such"),
        (["--data_dir=/proc/x"], "--data_dir=/proc/x cannot be written"),
        (["prepare", "--prepared_dir={}/file/x"], "file/x cannot be written"),
        (
            ["launch", "--run_dir={}/file"],
            "file cannot be written: it is",
        ),
        (["export", "--keras_file={}"], "it is not a regular file"),
        (["inspect", "--json={}"], "it is not a regular file"),
        (["predict", "a.jpg", "--json=/proc/x/y"], "--json=/proc/x/y cannot"),
        (["benchmark", "--json={}/file/x"], "file/x cannot be written"),
        (["compare", "{}", "--figures_dir=/proc/x"], "/proc/x cannot be"),
        (["import_weights", "--run_dir=/proc/x"], "/proc/x cannot be written"),
        # Before TensorFlow is imported.
        (["--dataset=folder:{}/none"], "no such folder"),
        (["launch", "--dataset=folder:{}/file"], "is a file; give the folder"),
        (["prepare", "--dataset=folder:{}/other"], "only 1 .txt (not read)"),
        (["inspect", "--dataset=folder:{}/flat"], "1 outside class folders"),
        (["evaluate", "{}", "--dataset=folder:{}/single"], "a single class, a"),
    ],
)
def test_user_errors_take_three_lines_and_no_tensorflow(
    arguments, message, tmp_path
):
    for file in ("file", "flat/1.jpg", "other/a/1.txt", "single/a/1.jpg"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    # Where there is no runs/, whose newest run some commands would take.
    process = call(*(a.format(tmp_path) for a in arguments), cwd=tmp_path)
    assert process.returncode == 2
    lines = errors_of(process)
    assert 1 <= len(lines) <= 3
    assert lines[0].startswith("error: ")
    assert message in " ".join(lines)
    assert process.stdout == ""
    assert not imported(process) & SLOW_IMPORTS
    assert len(list(tmp_path.rglob("*"))) == 9  # Nothing was written.


def test_debug_shows_the_stack_trace():
    lines = errors_of(call("--crop_size=300", "--debug"))
    assert "Traceback" in lines[0]
    assert lines[-1].startswith("error: ")
