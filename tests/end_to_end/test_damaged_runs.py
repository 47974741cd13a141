"""Damaged files of runs and prepared sets: recovered with a line, or named."""

import json
import shutil
from pathlib import Path

import keras
import pytest

from alexnet_tf.main import main
from alexnet_tf.storage import checkpoints
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
    # A failing disk: reading it is an error, EIO.
    "unreadable": lambda file: (
        file.unlink(),
        file.symlink_to("/proc/self/mem"),
    ),
}
IMAGE = "tests/golden/images/validation/plain_star_grey/00.jpg"
TRAIN = [*golden_runs.FLAGS, golden_runs.LAYOUTS["1x1"]]
COMMANDS = {
    "train": [*TRAIN, "--run_dir=RUN"],
    "evaluate": ["evaluate", "RUN"],
    "predict": ["predict", IMAGE, "--run_dir=RUN"],
    "export": ["export", "--run_dir=RUN"],
    "figures": ["figures", "RUN"],
    "compare": ["compare", "RUN", "--figures_dir=RUN/figures"],
    "inspect": ["inspect", "--run_dir=RUN"],
    "init_from": [*TRAIN, "--run_dir=NEW", "--init_from=RUN"],
}
# Commands that end with code 2, before a network is built, for each damage. The
# run has a single checkpoint.
RUN = golden_runs.RELEASES["0.2.0"] / "run"
BUILDING = {"evaluate", "predict", "export", "figures"}
REFUSED = {
    "flags.cfg": COMMANDS.keys() - {"init_from"},
    "dataset.json": {"train", *BUILDING},
    "mean_image.npy": {"train", *BUILDING},
    "history.csv": {"compare", "figures"},
    "result.json": {"compare", "export", "figures"},
    # figures draws the learning curves first.
    **{
        f"step-00000012/{name}": {"init_from", *BUILDING} - {"figures"}
        for name in ("variables.npz", "state.json", "manifest.json")
    },
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


def run_main(command, root):
    """Runs a command on root/run."""
    places = {"RUN": f"{root}/run", "NEW": f"{root}/new", "ROOT": str(root)}
    for name, place in places.items():
        command = [word.replace(name, place) for word in command]
    return main(command)


@pytest.mark.parametrize(("file", "damage", "command"), CASES)
def test_a_damaged_file_is_named(tmp_path, capsys, file, damage, command):
    run = shutil.copytree(RUN, tmp_path / "run")
    if command == "train":
        (run / "result.json").unlink()
    (path,) = run.glob(f"**/{file}")
    DAMAGES[damage](path)
    assert run_main(COMMANDS[command], tmp_path) == 2
    printed = capsys.readouterr().err
    assert file.split("/")[0] in printed
    # After lines about damaged checkpoints.
    _, found, error = f"\n{printed}".rpartition("\nerror: ")
    assert found and str(run) in error
    assert len(error.splitlines()) <= 3


@pytest.mark.parametrize(
    ("file", "entry", "command"),
    [
        ("dataset.json", {"labels": 5}, "predict"),
        ("dataset.json", {"labels": [1, 2]}, "evaluate"),
        ("dataset.json", {"labels": ["one"]}, "export"),
        ("dataset.json", {"labels": 0}, "evaluate"),
        ("dataset.json", {"labels": ""}, "predict"),
        ("dataset.json", {"mean_rgb": [1, 2]}, "evaluate"),
        ("dataset.json", {"covariance_rgb": [1, 2, 3]}, "evaluate"),
        ("dataset.json", {"later": 3}, "evaluate"),
        ("dataset.json", {"names_sha256": 3}, "evaluate"),
        ("dataset.json", {"names_sha256": ["", 3]}, "figures"),
        ("result.json", {"first_epoch": "1"}, "compare"),
    ],
)
def test_an_entry_of_another_type_is_named(
    tmp_path, capsys, file, entry, command
):
    run = shutil.copytree(RUN, tmp_path / "run")
    content = json.loads((run / file).read_text())
    (run / file).write_text(json.dumps(content | entry))
    assert run_main(COMMANDS[command], tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and str(run / file) in error
    assert " ".join(entry) in error
    assert len(error.splitlines()) <= 3


def test_rows_of_another_run_are_found(tmp_path, capsys):
    run = shutil.copytree(RUN, tmp_path / "run")
    shutil.copy(golden_runs.OLD_RUN / "history.csv", run)
    assert run_main(COMMANDS["compare"], tmp_path) == 2
    assert "history.csv has other rows than" in capsys.readouterr().err


# Files that each command reads, by the ends of their names.
_RUN = "flags.cfg dataset.json mean_image.npy labels.txt"
_CHECKPOINT = "state.json manifest.json variables.npz"
READ = {
    "train": "flags.cfg dataset.json result.json history.csv state.json "
    "manifest.json",
    "resume": f"{_RUN} {_CHECKPOINT} bad_examples.csv history.csv "
    "environment.json",
    "evaluate": f"{_RUN} {_CHECKPOINT} bad_examples.csv",
    "predict": f"{_RUN} {_CHECKPOINT}",
    "export": f"{_RUN} {_CHECKPOINT} result.json environment.json",
    "figures": f"{_RUN} {_CHECKPOINT} result.json history.csv",
    "compare": "flags.cfg result.json history.csv state.json manifest.json",
    "inspect": "flags.cfg",
    "init_from": _CHECKPOINT,
    "saved_model": "saved_model.pb variables.index "
    "variables.data-00000-of-00001 fingerprint.pb",
    "prepare": "manifest.json .npy .csv",
    "train on a prepared set": "manifest.json .npy .csv",
    "evaluate on a prepared set": "manifest.json validation-00000.npy "
    "validation-00000.csv",
}
# What a command makes, by its place; other commands have --json.
RESULTS = {
    "train": ["run/result.json"],
    "resume": ["run/result.json"],
    "export": ["run/alexnet.safetensors"],
    "figures": ["run/figures/*.png"],
    "init_from": ["new/result.json"],
    "prepare": ["set/*.json", "set/*-*", "set/*.npy"],
    "train on a prepared set": ["new/result.json"],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A data set with a bad image, labels, a finished run, a prepared set.

    And commands by name.
    """
    root = tmp_path_factory.mktemp("whole")
    shutil.copytree(golden_runs.GOLDEN / "images", root / "images")
    next(root.glob("images/train/*/00.jpg")).write_text("no image")
    names = sorted(path.name for path in root.glob("images/train/*"))
    (root / "labels.txt").write_text("".join(f"{n} {n}\n" for n in names))
    # Of four epochs, the first is the best.
    train = [*TRAIN, "--epochs=4", "--towers=1"]
    train += [f"--dataset=folder:{root}/images"]
    labels, json = "--labels=ROOT/labels.txt", "--json=ROOT/json"
    new = [*train, "--run_dir=NEW", "--epochs=1"]
    prepared = "--prepared_dir=ROOT/set"
    commands = {
        name: [*words, *([json] if name not in RESULTS else [])]
        for name, words in {
            "train": [*train, labels, "--run_dir=RUN"],
            "resume": [*train, labels, "--run_dir=RUN"],
            "evaluate": [*COMMANDS["evaluate"], labels],
            "predict": [*COMMANDS["predict"], labels],
            "export": [*COMMANDS["export"], labels, "--format=safetensors"],
            "figures": [*COMMANDS["figures"], labels],
            "compare": COMMANDS["compare"],
            "inspect": COMMANDS["inspect"],
            "init_from": [*new, "--init_from=RUN"],
            "saved_model": ["predict", IMAGE, "--saved_model=RUN/saved_model"],
            "prepare": ["prepare", train[-1], prepared, *train[2:4]],
            "train on a prepared set": [*new, prepared],
            "evaluate on a prepared set": ["evaluate", "RUN", prepared],
        }.items()
    }
    for command in ("train", "prepare"):
        assert run_main(commands[command], root) == 0
    return root, commands


def damages_of(file, command):
    """Returns the damages to try by name: one if the file is not read."""
    if not file.as_posix().endswith(tuple(READ[command].split())):
        return {"halved": DAMAGES["halved"]}
    others = [*RUN.glob(f"**/{file.name}")]
    if file.parent.name == "set":
        others = [*file.parent.glob(f"[!{file.name[0]}]*-00000{file.suffix}")]
    if not others or command == "inspect":  # It shows those settings.
        return DAMAGES
    return DAMAGES | {"another's": lambda path: shutil.copy(others[0], path)}


@pytest.mark.slow
@pytest.mark.parametrize("command", READ)
def test_all_files_and_damages(whole, tmp_path, capsys, command):
    """The same results, or a line and code 2.

    Without the best checkpoint, a line and those of another one.
    """
    source, commands = whole
    root = tmp_path / "root"

    def results():
        patterns = RESULTS.get(command, ["json"])
        files = [file for p in patterns for file in sorted(root.glob(p))]
        found = {file: file.read_bytes() for file in files}
        if command in ("resume", "init_from"):
            found["run"], _ = golden_runs.outcome(files[0].parent)
        return found

    def outcome(harm, path):
        """Returns the code, the results, and what is printed."""
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(source, root, ignore=shutil.ignore_patterns("images"))
        if command == "resume":
            (root / "run" / "result.json").unlink()
        harm(root / path)
        keras.utils.clear_session()  # Names of layers have its numbers.
        code = run_main(commands[command], root)
        found = results() if code == 0 else None
        return code, found, *capsys.readouterr()

    def what_is_wrong(path, damage, harm):
        in_checkpoint = path.parent.name.startswith("step-")
        name = path.parent.name if in_checkpoint else path.name
        if command == "saved_model":  # TensorFlow does not name the file.
            name = command
        try:
            code, found, output, error = outcome(harm, path)
        except Exception as exception:
            return repr(exception)
        if code == 2:
            is_named = name in output + error or damage == "another's"
            _, found, error = f"\n{error}".rpartition("\nerror: ")
            good = found and str(root) in error
            is_short = error.count("\n") <= 3
            return "" if good and is_named and is_short else error
        is_told = name == best.name and f"{name} is damaged and" in error
        if found == expected or is_told:
            return "" if code == 0 else f"code {code}"
        return "other results without a line"

    best = checkpoints.best(source / "run" / "checkpoints")
    _, expected, *_ = outcome(lambda file: None, "")
    assert expected
    patterns = ["run/[!.]*", "run/checkpoints/*/*", "labels.txt"]
    if command == "saved_model":
        patterns = ["run/saved_model/**/*"]
    elif "prepare" in command:
        patterns = ["set/*"]
    files = {file for p in patterns for file in source.glob(p)}
    tried = wrong = 0
    for file in sorted(filter(Path.is_file, files)):
        path = file.relative_to(source)
        if command == "resume" and path.name == "result.json":
            continue  # A finished run is left alone.
        for damage, harm in damages_of(file, command).items():
            reason = what_is_wrong(path, damage, harm)
            tried += 1
            wrong += bool(reason)
            if reason:
                with capsys.disabled():
                    print(f"\n{command}, {path} {damage}: {reason}")
    with capsys.disabled():
        print(f"\n{command}: {tried} tried, {tried - wrong} right")
    assert not wrong
