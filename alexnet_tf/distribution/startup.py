"""TensorFlow's start, without its harmless rows on standard error.

TensorFlow itself is not imported here.
"""

import contextlib
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

# TensorFlow 2.21 prints these at any TF_CPP_MIN_LOG_LEVEL: the first three
# before it reads that, the last, that there is no NVIDIA driver, as an error.
_HARMLESS = (
    r"WARNING: All log messages before \w+::InitializeLog\(\) is called are "
    r"written to STDERR\n|"
    r"I\d{4} .*\bport\.cc:\d+\] oneDNN custom operations are on\.|"
    r"I\d{4} .*\bcudart_stub\.cc:\d+\] Could not find cuda drivers|"
    r"E\d{4} .*\bcuda_platform\.cc:\d+\] failed call to cuInit: .*\(303\)\n"
)
_FILTER = """\
import re, sys
for line in sys.stdin.buffer:
    if not re.match(sys.argv[1].encode(), line):
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
"""
_PATIENCE_SECONDS = 5.0


def import_quietly(name: str, *, debug: bool = False) -> ModuleType:
    """Imports a module and finds TensorFlow's devices if it needs them.

    Of what both print on standard error, only rows that are known and harmless
    are left out; none with `debug`.
    """
    has_started = debug or "tensorflow" in sys.modules
    with contextlib.nullcontext() if has_started else _without_harmless_rows():
        module = importlib.import_module(name)
        if tensorflow := sys.modules.get("tensorflow"):
            tensorflow.config.list_physical_devices()
    return module


@contextlib.contextmanager
def _without_harmless_rows() -> Iterator[None]:
    """Passes standard error through a process that leaves rows out.

    As a process of its own, it prints what has arrived even if this one aborts
    or is killed; in a session of its own, Ctrl-C does not reach it.
    """
    if sys.__stderr__ is None:  # It was closed at the start.
        yield
        return
    error = os.dup(2)
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _FILTER, _HARMLESS],
        stdin=reader,
        stdout=error,
        start_new_session=True,
    )
    os.dup2(writer, 2)
    os.close(reader)
    os.close(writer)
    try:
        yield
    finally:
        sys.__stderr__.flush()
        os.dup2(error, 2)
        os.close(error)
        # Longer only if a process that inherited standard error goes on.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_SECONDS)
