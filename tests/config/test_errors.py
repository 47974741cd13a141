"""Messages and names with anything in them."""

import re

import pytest

from alexnet_tf.config.errors import UserError, printable
from alexnet_tf.main import main

# What each would do to a terminal, and how it is shown.
NAMES = [
    ("\x1b[2J", r"\x1b[2J"),  # Clears it.
    ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
    ("safe\r\bx", r"safe\x0d\x08x"),
    ("\x9b31m", r"\x9b31m"),  # The same in one character.
    ("a\nb\tc", r"a\x0ab\x09c"),
    ("gpj.\u202eexe", r"gpj.\u202eexe"),  # Reversed.
    ("\u2066x\u2029", r"\u2066x\u2029"),
    ("ma\udcf1ana", r"ma\xf1ana"),
    ("\ud800", r"\ud800"),
    ("\0\x7f", r"\x00\x7f"),
    ("日本　café 👩‍🔬 می‌خواهم", "日本　café 👩‍🔬 می‌خواهم"),
    (b"\xff\x1b", r"\xff\x1b"),
]


@pytest.mark.parametrize(("name", "expected"), NAMES)
def test_names_are_printed_with_escapes(name, expected):
    assert printable(name) == expected
    if isinstance(name, str) and "\n" not in name:
        assert str(UserError(f"{name}: a\nb")) == f"{expected}: a\nb"


def test_long_values_and_messages_are_shortened():
    error = UserError(f"--kernels={'96,' * 3000}; give 5 whole numbers.")
    assert len(str(error)) < 500
    assert re.match(r"--kernels=96,96.* \[\.\.\.\] .*96,; give 5", str(error))
    error = UserError(f"--labels={'a word ' * 3000}; give another.")
    assert len(str(error)) < 3000 and str(error).endswith("; give another.")
    plain = f"{'x' * 400}/{'y' * 80} does not exist"
    assert str(UserError(plain)) == plain


@pytest.mark.parametrize(
    "arguments",
    [
        ["\x1b[2Jtrain"],
        ["train", "\x1b[2J"],
        ["--\x1b[2J=1"],
        ["--width=\x1b[2J"],
        ["--run_dir=runs/\x1b[2J"],
        ["--run_dir=runs/\r\t"],
        ["--dataset=folder:\x1b[2J"],
        ["--flagfile=\x1b[2J"],
        ["evaluate", "runs/\x1b[2J"],
        ["evaluate", "runs/\u202e", "runs/x"],
        ["predict", "--saved_model=\x9b"],
        [f"--kernels={'96,' * 4000}"],
        [f"--{'x' * 20000}=1"],
        ["--flagfile=" + 20000 * "x"],
        ["x" * 20000],
    ],
    ids=lambda arguments: ascii(arguments)[:40],
)
def test_no_message_has_control_characters_or_is_long(arguments, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert re.sub("[ -~\n]", "", error) == ""
    assert len(error) < 3000 and len(error.splitlines()) <= 3
