"""Damaged files of a run: each is recovered with a line, or named."""

import shutil

import pytest

from alexnet_tf.main import main
from tests.end_to_end import golden_runs
from tests.support import TINY

DAMAGES = {
    "deleted": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "halved": lambda file: file.write_bytes(
        file.read_bytes()[: file.stat().st_size // 2]
    ),
    "nul": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "foreign": lambda file: file.write_bytes(b'{"a": [1]}\n'),
    "latin-1": lambda file: file.write_bytes(b"\xff" + file.read_bytes()),
    "directory": lambda file: (file.unlink(), file.mkdir()),
}
IMAGE = "tests/golden/images/validation/plain_star_grey/00.jpg"
COMMANDS = {
    "train": [*golden_runs.FLAGS, "--virtual_devices=1", "--run_dir=RUN"],
    "evaluate": ["evaluate", "RUN"],
    "predict": ["predict", IMAGE, "--run_dir=RUN"],
    "export": ["export", "--run_dir=RUN"],
    "figures": ["figures", "RUN"],
    "compare": ["compare", "RUN", "--figures_dir=RUN/figures"],
    "inspect": ["inspect", "--run_dir=RUN"],
}
# Commands that end with code 2, before a network is built, for each damage.
REFUSED = {
    "flags.cfg": COMMANDS.keys(),
    "dataset.json": COMMANDS.keys() - {"compare", "inspect"},
    "mean_image.npy": COMMANDS.keys() - {"compare", "inspect"},
    "history.csv": {"compare", "figures"},
    "result.json": {"compare", "export", "figures"},
}
CASES = [
    (file, damage, command)
    for file, commands in REFUSED.items()
    for damage in DAMAGES
    for command in sorted(commands)
    # Without it a run is not finished.
    if (file, damage) != ("result.json", "deleted") or command == "compare"
]


@pytest.mark.parametrize(
    "damage",
    [
        "deleted",
        *(
            pytest.param(damage, marks=pytest.mark.slow)
            for damage in DAMAGES.keys() - {"deleted", "directory"}
        ),
    ],
)
def test_what_a_run_does_not_need_is_written_again(
    finished_run, data_dir, tmp_path, capsys, damage
):
    """Its history is that of its checkpoints."""
    run = shutil.copytree(finished_run, tmp_path / "run")
    for name in ("history.csv", "environment.json"):
        DAMAGES[damage](run / name)
    (run / "result.json").unlink()
    flags = [*TINY, "--epochs=3", f"--data_dir={data_dir}"]
    assert main([*flags, f"--run_dir={run}"]) == 0
    assert "history.csv" in capsys.readouterr().out
    for name in ("history.csv", "result.json"):
        assert (run / name).read_text() == (finished_run / name).read_text()
    environment = (run / "environment.json").read_text()
    assert environment == (finished_run / "environment.json").read_text()


@pytest.mark.parametrize(("file", "damage", "command"), CASES)
def test_a_damaged_file_is_named(tmp_path, capsys, file, damage, command):
    run = shutil.copytree(golden_runs.OLD_RUN, tmp_path / "run")
    if command == "train":
        (run / "result.json").unlink()
    DAMAGES[damage](run / file)
    arguments = [word.replace("RUN", str(run)) for word in COMMANDS[command]]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and file in error and str(run) in error
    assert len(error.splitlines()) <= 3
