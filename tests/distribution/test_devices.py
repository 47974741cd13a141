"""Settings with which workers cannot connect."""

import pytest

from alexnet_tf.main import main
from tests.support import TINY, free_addresses, tf_config


@pytest.mark.parametrize(
    ("workers", "flags", "message"),
    [
        (0, (), "does not name"),
        (2, ("--startup_timeout=1",), "did not connect in time: 1"),
        (1, ("--virtual_devices=4",), "on CPUs it can have only one"),
        (1, ("--virtual_devices=0", "--gpus=0"), "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_multi_worker_errors_come_before_any_work(
    workers, flags, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if workers:
        monkeypatch.setenv("TF_CONFIG", tf_config(free_addresses(workers), 0))
    run_dir = tmp_path / "run"
    arguments = [*TINY, "--cluster=tf_config", f"--run_dir={run_dir}"]
    assert main([*arguments, *flags]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and message in errors
    assert errors.count("error: ") == 1
    assert not run_dir.exists()
