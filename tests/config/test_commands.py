"""Command lines to copy, with the program as it was called."""

import os
import shlex
import subprocess
import sys

CODE = """
import sys
from alexnet_tf.config.commands import call
print(call("predict", "it's a.jpg", "--run_dir=runs/x"))
"""
WORDS = shlex.join(["predict", "it's a.jpg", "--run_dir=runs/x"])


def test_the_program_of_a_command_line_to_copy(tmp_path):
    """The interpreter as it was typed, or the installed program."""
    (tmp_path / "a venv").mkdir()
    python = tmp_path / "a venv" / "python"
    python.symlink_to(sys.executable)
    alexnet = tmp_path / "alexnet"
    alexnet.write_text(f"#!{sys.executable}\n{CODE}")
    alexnet.chmod(0o755)

    def run(*command, path=os.environ["PATH"]):
        env = os.environ | {"PATH": path, "PYTHONPATH": os.getcwd()}
        return subprocess.check_output(
            command, env=env, cwd=tmp_path, text=True
        ).strip()

    module = "-m alexnet_tf.main"
    found = run("a venv/python", "-c", CODE)
    assert found == f"'a venv/python' {module} {WORDS}"
    assert run(sys.executable, "-c", CODE) == (
        f"{sys.executable} {module} {WORDS}"
    )
    assert run("./alexnet") == f"./alexnet {WORDS}"
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert run("alexnet", path=path) == f"alexnet {WORDS}"
