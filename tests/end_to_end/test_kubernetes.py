"""`examples/kubernetes.yaml`: its schemas, its policies and its shell."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import parse
from alexnet_tf.distribution.cluster import find_cluster

FILE = Path("examples/kubernetes.yaml")
TEXT = FILE.read_text()


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_kubernetes_schemas(version):
    """podFailurePolicy is stable since 1.31."""
    pytest.importorskip("kubernetes_validate")  # Also brings PyYAML.
    command = [Path(sys.executable).with_name("kubernetes-validate")]
    command += ["--strict", f"--kubernetes-version={version}", FILE]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    for kind in ("service", "networkpolicy", "job"):
        assert f"passed for resource {kind}/alexnet" in done.stdout


def test_which_ends_restart():
    """What schemas do not know: the API server demands the combination."""
    assert "restartPolicy: Never" in TEXT
    assert "podReplacementPolicy: Failed" in TEXT
    (rule,) = re.findall(r"- action: FailJob.*?(?=- action)", TEXT, re.DOTALL)
    assert re.findall(r"values: (.*)", rule) == [f"[{UserError.exit_code}]"]
    assert "operator: In\n" in rule


@pytest.mark.parametrize("index", [0, 1])
def test_the_shell_starts_a_worker(index, tmp_path, monkeypatch):
    """With a program `python` that writes down how it was called."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$TF_CONFIG" "" "$@"\n')
    python.chmod(0o755)
    script = re.search(r"args:\n +- \|\n((?: {14}.*\n)+)", TEXT)[1]
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "JOB_COMPLETION_INDEX": str(index),
    }
    done = subprocess.run(
        ["/bin/bash", "-c", textwrap.dedent(script)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    tf_config, _, arguments = done.stdout.partition("\n\n")
    module, name, *flags = arguments.splitlines()
    assert (module, name) == ("-m", "alexnet_tf.main")
    config, words = parse(flags)
    monkeypatch.setenv("TF_CONFIG", tf_config)
    cluster = find_cluster(config.cluster)
    assert (config.batch_size, words) == (8192, [])
    assert cluster.index == index
    assert cluster.addresses == tuple(
        f"alexnet-{n}.alexnet:9000" for n in range(2)
    )
    for field in ("completions", "parallelism"):
        assert f"  {field}: {len(cluster.addresses)}\n" in TEXT
    assert "  name: alexnet\n" in TEXT and "  subdomain: alexnet\n" in TEXT
