"""TensorFlow's start-up rows are left out, and nothing else, in processes."""

import re
import signal
import subprocess
import sys

import pytest

# As TensorFlow 2.21 prints them on a machine without an NVIDIA driver.
HARMLESS = """\
WARNING: All log messages before absl::InitializeLog() is called are written \
to STDERR
I0000 00:00:1795735330.002622   10680 port.cc:153] oneDNN custom operations are\
 on. You may see slightly different numerical results due to floating-point \
round-off errors from different computation orders. To turn them off, set the \
environment variable `TF_ENABLE_ONEDNN_OPTS=0`.
I0000 00:00:1795735330.005210   10680 cudart_stub.cc:31] Could not find cuda \
drivers on your machine, GPU will not be used.
E0000 00:00:1795735337.719918   10680 cuda_platform.cc:52] failed call to \
cuInit: INTERNAL: CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)
"""
# Similar ones that say more.
OTHERS = """\
E0000 00:00:1795735337.719918   10680 cuda_platform.cc:52] failed call to \
cuInit: INTERNAL: CUDA error: Failed call to cuInit: CUDA_ERROR_NO_DEVICE
F0000 00:00:1795735337.719918   10680 port.cc:153] Check failed: oneDNN
E0000 00:00:1795735337.719918   10680 port.cc:153] oneDNN supports DT_UINT8
\x1b[1mcaf\xe9\x00
  I0000 port.cc:1] oneDNN custom operations are on.
"""
# `end` is Python code.
MODULE = """\
import os, signal, subprocess, sys
if {text!r}: os.write(2, {text!r})
{end}
"""
# Processes in the background ignore it unless they change that.
CTRL_C = "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
CTRL_C += "os.kill(0, signal.SIGINT)"
START = """\
import sys
from alexnet_tf.distribution.startup import import_quietly
import_quietly("starting", debug=bool(sys.argv[1:]))
print("Started.", file=sys.stderr)
"""


@pytest.fixture
def start(tmp_path):
    """Returns a function that imports a module that prints and then ends."""

    def run(text, end="", *arguments, shell="{}", **options):
        code = MODULE.format(text=text.encode("latin-1"), end=end)
        (tmp_path / "starting.py").write_text(code)
        command = [sys.executable, "-c", START, *arguments]
        options = {"stderr": subprocess.PIPE, "timeout": 60} | options
        path = {"PYTHONPATH": f"{tmp_path}:."}
        done = subprocess.run(
            ["sh", "-c", 'exec "$@"' + shell.format(""), "sh", *command],
            stdout=subprocess.PIPE,
            env=path,
            **options,
        )
        return done.returncode, (done.stderr or done.stdout).decode("latin-1")

    return run


def test_only_harmless_rows_are_left_out(start):
    text = OTHERS + HARMLESS + OTHERS + HARMLESS
    assert start(text) == (0, f"{OTHERS}{OTHERS}Started.\n")


def test_debug_leaves_none_out(start):
    assert start(HARMLESS, "", "debug") == (0, f"{HARMLESS}Started.\n")


@pytest.mark.parametrize(
    ("end", "code", "last"),
    [
        ("os.abort()", -signal.SIGABRT, ""),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
        ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV, ""),
        (CTRL_C, -signal.SIGINT, "KeyboardInterrupt\n"),
        ("os._exit(3)", 3, ""),
        ("sys.exit('Goodbye.')", 1, "Goodbye.\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("raise ImportError('libcudart')", 1, "ImportError: libcudart\n"),
        ("sys.stderr.write('Half a row')", 0, "Half a rowStarted.\n"),
        ("subprocess.run(['sh', '-c', 'echo A >&2'])", 0, "A\nStarted.\n"),
    ],
)
def test_what_is_printed_before_an_end_comes_out_whole(start, end, code, last):
    """More than a pipe holds, and the last row without its end."""
    trace = "".join(f"#{n} 0x{n:016x} frame\n" for n in range(3000))
    text = f"{trace}{HARMLESS}{trace}*** Aborted, core dumped"
    found_code, found = start(text, end, start_new_session=True)
    assert found_code == code
    start_of_it = f"{trace}{trace}*** Aborted, core dumped"
    assert found.startswith(start_of_it) and found.endswith(last)
    if "1 / 0" in end:
        assert "Traceback (most recent call last)" in found


def test_both_outputs_in_one_file_are_in_order(start, tmp_path):
    file = tmp_path / "log"
    with file.open("wb") as log:
        end = "print('during', flush=True)"
        start(f"before\n{HARMLESS}", end, shell=" 1>&2{}", stderr=log)
    lines = file.read_text().splitlines()
    assert sorted(lines) == ["Started.", "before", "during"]
    assert lines[-1] == "Started."


def test_a_closed_standard_error_is_no_error(start):
    # What is for it then goes to standard output.
    assert start("", "", shell=" 2>&-{}") == (0, "Started.\n")


@pytest.mark.slow
def test_a_process_that_is_left_behind_does_not_hold_up_the_start(start):
    """And what it prints later is not lost."""
    end = "subprocess.Popen(['sh', '-c', 'sleep 6; echo Late. >&2'])"
    code, found = start("", end)
    assert (code, found) == (0, "Started.\nLate.\n")


@pytest.mark.slow
def test_the_rows_are_tensorflows():
    """On a machine without a GPU; if TensorFlow's change, so must ours."""
    code = "from alexnet_tf.distribution.startup import import_quietly\n"
    code += "import sys; import_quietly('tensorflow', debug=bool(sys.argv[1:]))"
    loud, quiet = (
        subprocess.run(
            [sys.executable, "-c", code, *debug], capture_output=True, text=True
        ).stderr
        for debug in (["debug"], [])
    )
    pattern = r"\d\d:\d\d:\d+\.\d+ +\d+"
    rows = {re.sub(pattern, "", row) for row in loud.splitlines()}
    known = {re.sub(pattern, "", row) for row in HARMLESS.splitlines()}
    assert quiet == "" and known <= rows
