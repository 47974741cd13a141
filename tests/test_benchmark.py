"""What is measured is complete; how fast it is, is not tested."""

import json

import pytest

from alexnet_tf import input_benchmark
from alexnet_tf.main import main


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    monkeypatch.setattr(input_benchmark, "_FILES", 32)
    monkeypatch.setattr(input_benchmark, "_IMAGES", 64)


def test_the_table_of_input(tmp_path, capsys):
    flags = ["--what=input", "--rounds=2", "--batch_size=16"]
    assert main(["benchmark", *flags, f"--json={tmp_path}/rows.json"]) == 0
    told = capsys.readouterr().out
    rows = json.loads((tmp_path / "rows.json").read_text())["input"]
    assert [row["what"] for row in rows][:5] == [
        input_benchmark.DECODING,
        input_benchmark.PLAIN,
        input_benchmark.FILES,
        input_benchmark.PREPARED,
        input_benchmark.RAW,
    ]
    for row in rows:
        assert row["what"] in told
        assert 0 < row["lowest"] <= row["images_per_second"] <= row["highest"]
    ours = rows[2]
    assert ours["of_plain"] == pytest.approx(rows[1]["cpu_ms"] / ours["cpu_ms"])
    assert ours["of_decoding"] == pytest.approx(
        ours["images_per_second"] / rows[0]["images_per_second"]
    )
