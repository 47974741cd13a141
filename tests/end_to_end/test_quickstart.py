"""README's quickstart, as a user runs it. Minutes long."""

import csv
import json
import subprocess
import sys
import time

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_quickstart_ends_below_ten_percent_error(seed, precision, tmp_path):
    start = time.monotonic()
    subprocess.run(
        [
            sys.executable,
            "-m",
            "alexnet_tf.main",
            "--flagfile=flags/quickstart.cfg",
            f"--seed={seed}",
            f"--precision={precision}",
            f"--run_dir={tmp_path}/run",
            f"--data_dir={tmp_path}/data",  # Generated anew.
        ],
        check=True,
    )
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    minutes = (time.monotonic() - start) / 60
    print(f"{precision}, seed {seed}: {minutes:.1f} minutes, {result}")
    assert result["num_examples"] == 1200
    assert result["top1_error"] <= 0.10
    with (tmp_path / "run" / "history.csv").open() as file:
        rates = {row["learning_rate"] for row in csv.DictReader(file)}
    assert len(rates) > 1  # The plateau rule was at work.
