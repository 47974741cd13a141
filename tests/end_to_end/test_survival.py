"""Killed and stopped runs end like uninterrupted ones."""

import json
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config.commands import EXPORT_FORMATS
from alexnet_tf.evaluation.reload import OPENERS
from alexnet_tf.main import main
from alexnet_tf.storage.files import checksum
from tests.data.image_files import GOOD, NO_IMAGE, write_folder
from tests.end_to_end import golden_runs
from tests.support import TINY, outcome

# 15 steps an epoch, with dropout, noise and decay; the checkpoint of step 15
# comes before validation, another one after it.
FLAGS = (
    *TINY,
    "--epochs=2",
    "--checkpoint_every_steps=5",
    "--learning_rate=.02",
    "--summary_steps=4",
)
LAYOUTS = {"1 x 1": "--virtual_devices=1", "2 x 2": "--virtual_devices=4"}


def start(run_dir, data_dir, *flags, settings=FLAGS, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "alexnet_tf.main", *settings, *flags]
        + [f"--run_dir={run_dir}", f"--data_dir={data_dir}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def end(process, code=0):
    """Waits for a process; returns its output and errors."""
    output, errors = process.communicate(timeout=900)
    assert process.returncode == code, output + errors
    assert "Traceback" not in errors
    return output, errors


def kill_when(found, process):
    """Kills a process as soon as `found()` is true."""
    wait_until(found, process)
    process.kill()
    process.communicate()


def wait_until(found, process):
    while not found():
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)


def saved(run_dir, step):
    """Returns a function that checks for the checkpoint of a step."""
    return (run_dir / "checkpoints" / f"step-{step:08d}").exists


@pytest.fixture(
    scope="module",
    params=["1 x 1", pytest.param("2 x 2", marks=pytest.mark.slow)],
)
def whole(request, tmp_path_factory, data_dir):
    """The outcome of an uninterrupted run, and its layout flag."""
    run_dir = tmp_path_factory.mktemp("whole")
    places = [f"--run_dir={run_dir}", f"--data_dir={data_dir}"]
    assert main([*FLAGS, LAYOUTS[request.param], *places]) == 0
    result = outcome(run_dir)
    assert result[2]["step"] == 30 and ("loss/training", 1) in result[3]
    steps = {n for tag, n in result[3] if tag == "within_epochs/loss"}
    assert steps == {4, 8, 12, 16, 20, 24, 28}
    return result, LAYOUTS[request.param]


@pytest.mark.parametrize(
    "is_stopped", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_a_killed_and_stopped_run(is_stopped, whole, tmp_path, data_dir):
    """While writing a checkpoint within an epoch, and in validation."""
    expected, layout = whole
    writing = tmp_path / "checkpoints" / ".writing" / "variables.npz"

    def is_writing_the_second():
        return saved(tmp_path, 5)() and writing.exists()

    while not writing.exists():  # The write may end before the kill.
        shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
        kill_when(is_writing_the_second, start(tmp_path, data_dir, layout))

    resume: list = []  # The directory alone names the run.
    if is_stopped:
        process = start(tmp_path, data_dir, layout)
        wait_until(saved(tmp_path, 15), process)
        process.terminate()
        output, _ = end(process, 143)
        assert "Resuming after step 5" in output
        python = shlex.quote(sys.executable)
        assert (
            f"Stopped after step 15. To resume: {python} -m alexnet_tf.main "
            f"--run_dir={tmp_path}\n" in output
        )
        assert not (tmp_path / "history.csv").exists()
        _, _, *command = output.split("To resume: ")[1].splitlines()[0].split()
        resume = command[1:]
    output, errors = end(start(tmp_path, data_dir, settings=resume))
    assert is_stopped or "Resuming after step 5" in output
    assert errors == ""  # None of TensorFlow's start-up rows.
    assert outcome(tmp_path) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)],
)
def test_a_signal_stops_the_run(whole, tmp_path, data_dir, number, code):
    expected, layout = whole
    process = start(tmp_path, data_dir, layout)
    wait_until(saved(tmp_path, 5), process)
    process.send_signal(number)
    sent = time.monotonic()
    output, _ = end(process, code)
    print(f"{time.monotonic() - sent:.1f} s from {number.name} to the end")
    assert "Stopped after step" in output
    end(start(tmp_path, data_dir, layout))
    assert outcome(tmp_path) == expected


@pytest.mark.slow
def test_tensorboards_pages_come_after_a_kill_before_them(tmp_path, data_dir):
    directory = tmp_path / "tensorboard"
    kill_when(directory.exists, start(tmp_path, data_dir))
    end(start(tmp_path, data_dir))
    files = map(str, directory.glob("events.*"))
    events = [e for f in files for e in tf.compat.v1.train.summary_iterator(f)]
    tags = {value.tag for event in events for value in event.summary.value}
    assert any(event.HasField("graph_def") for event in events)
    assert "training_images" in tags
    assert any("hparams" in tag for tag in tags)


def kill_twenty_times(launch, check, seconds):
    """Kills a command that takes `seconds` at random moments, and repeats it.

    After 0.4 of that time, when the work has begun.

    Args:
        launch: Starts the command with a name of what it makes.
        check: Is given that name, and whether the command has ended by itself.
        seconds: How long it takes.
    """
    seed = random.randrange(1000)
    moments, kills, name = random.Random(seed), 0, 0
    while kills < 20:
        process = launch(str(name))
        try:
            process.wait(timeout=moments.uniform(0.4, 1.1) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            check(str(name), False)
        else:
            end(process)
            check(str(name), True)
            name += 1
    end(launch(str(name)))
    check(str(name), True)
    print(f"seed {seed}: {kills} kills, {name + 1} times to the end")


@pytest.mark.slow
def test_killed_at_twenty_random_moments(whole, tmp_path, data_dir):
    expected, layout = whole
    newest = []

    def check(name, is_done):
        found = (tmp_path / name / "checkpoints").glob("step-*")
        newest.append(max((c.name for c in found), default="no checkpoint"))
        if is_done:
            assert outcome(tmp_path / name) == expected

    started = time.monotonic()
    end(start(tmp_path / "timed", data_dir, layout))
    kill_twenty_times(
        lambda name: start(tmp_path / name, data_dir, layout),
        check,
        time.monotonic() - started,
    )
    print(f"{layout}, newest:", *newest)
    print(f"digest {expected[0]} each time")


def start_python(*arguments):
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def contents(directory):
    """Returns the bytes of files by name; bad_examples.csv has any order."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {
        path.relative_to(directory).as_posix(): (
            sorted(path.read_text().splitlines())
            if path.name == "bad_examples.csv"
            else path.read_bytes()
        )
        for path in files
    }


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_prepare_killed_at_twenty_random_moments(tmp_path, encoding):
    images = {"rgb": GOOD["rgb"], "text": NO_IMAGE["text"]}
    root = write_folder(tmp_path / "files", images, copies=1500)
    write_folder(root, {"x": GOOD["rgb"]}, split="validation", copies=600)
    flags = [f"--dataset=folder:{root}", f"--prepared_format={encoding}"]
    flags += ["--image_size=72", "--crop_size=64"]
    shards = []

    def launch(name):
        command = ["-m", "alexnet_tf.main", "prepare", *flags]
        return start_python(*command, f"--prepared_dir={tmp_path / name}")

    def check(name, is_done):
        directory = tmp_path / name
        if is_done:
            assert contents(directory) == expected
            return
        file = directory / "manifest.json"
        manifest = json.loads(file.read_text()) if file.exists() else {}
        if manifest.get("finished"):
            assert contents(directory) == expected
        listed = [
            s for found in manifest.get("splits", {}).values() for s in found
        ]
        for shard in listed:
            for name, sha256 in shard["sha256"].items():
                assert checksum(directory / name) == sha256
        shards.append(len(listed))

    started = time.monotonic()
    end(launch("whole"))
    expected = contents(tmp_path / "whole")
    kill_twenty_times(launch, check, time.monotonic() - started)
    print(f"{encoding}, shards after a kill:", *shards)


@pytest.mark.slow
def test_export_killed_at_twenty_random_moments(tmp_path):
    """Every file is whole at all times: the former one or the new one."""
    release = golden_runs.RELEASES["0.2.0"]
    run = shutil.copytree(release / "run", tmp_path / "run")
    formats = ["safetensors", "tflite", "saved_model"]
    names = {name: EXPORT_FORMATS[name][0] for name in formats}
    replaced = []

    def read():
        found = {}
        for kind, name in names.items():
            file = run / name
            if not file.exists():  # Killed between the two renamings.
                file = run / f".former-{name}"
            times[kind] = file.stat().st_mtime_ns
            found[kind] = OPENERS[kind](str(file))(golden_runs.images())
        return found

    def launch(name):
        command = ["-m", "alexnet_tf.main", "export", f"--run_dir={run}"]
        return start_python(*command, f"--format={','.join(formats)}")

    def check(name, is_done):
        before = dict(times)
        for kind, arrays in read().items():
            for key, array in arrays.items():
                np.testing.assert_array_equal(array, expected[kind][key])
        replaced.append(sum(times[kind] != before[kind] for kind in formats))
        assert not (is_done and list(run.glob(".[wf]*-*")))

    times: dict[str, int] = {}
    end(launch("first"))
    expected = read()
    started = time.monotonic()
    end(launch("second"))
    kill_twenty_times(launch, check, time.monotonic() - started)
    print("files replaced before a kill:", *replaced)


@pytest.mark.slow
def test_generation_killed_at_twenty_random_moments(tmp_path):
    """The same examples; protocol buffers write features in any order."""
    code = (
        "import sys; from alexnet_tf.data.tfds_source import open_split\n"
        "open_split('shapes', 'train', data_dir=sys.argv[1])"
    )
    leftovers = []

    def read_one(file):
        if "tfrecord" not in file.name:
            return file.read_bytes()
        records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
        examples = map(tf.train.Example.FromString, records)
        return [dict(example.features.feature) for example in examples]

    def read(path):
        return {file.name: read_one(file) for file in path.iterdir()}

    def launch(name):
        return start_python("-c", code, tmp_path / name)

    def check(name, is_done):
        found = tmp_path / name / "shapes" / "full"
        whole = [
            path for path in found.glob("*") if "incomplete" not in path.name
        ]
        assert len(whole) == 1 if is_done else len(whole) <= 1
        for path in whole:
            assert read(path) == expected
        leftovers.append(len(list(found.glob("*incomplete*"))))

    started = time.monotonic()
    end(launch("whole"))
    expected = read(tmp_path / "whole" / "shapes" / "full" / "1.0.0")
    kill_twenty_times(launch, check, time.monotonic() - started)
    print("incomplete folders:", *leftovers)


def test_a_signal_while_data_are_generated(tmp_path):
    process = start(tmp_path / "run", tmp_path / "data", "--dataset=shapes")
    wait_until((tmp_path / "data" / "shapes").exists, process)
    time.sleep(1)
    process.terminate()
    sent = time.monotonic()
    output, _ = end(process, 143)
    print(f"{time.monotonic() - sent:.1f} s from SIGTERM to the end")
    assert "Stopped by SIGTERM" in output
    assert not list((tmp_path / "data" / "shapes").glob("full/*"))


def test_one_process_at_a_time(tmp_path, data_dir, capsys):
    process = start(tmp_path, data_dir, "--epochs=99")
    wait_until((tmp_path / "flags.cfg").exists, process)
    paths = [f"--run_dir={tmp_path}", f"--data_dir={data_dir}"]
    assert main([*FLAGS, *paths]) == 2
    told = capsys.readouterr().err
    assert f"another process ({process.pid} on " in told
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_a_full_disk_ends_the_run_but_keeps_its_checkpoints(
    whole, tmp_path, data_dir
):
    expected, layout = whole
    kill_when(saved(tmp_path, 5), start(tmp_path, data_dir, layout))

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    process = start(tmp_path, data_dir, layout, preexec_fn=limit)
    _, errors = end(process, 2)
    assert "step-00000010 cannot be written: File too large." in errors
    names = [c.name for c in (tmp_path / "checkpoints").iterdir()]
    assert names == ["step-00000005"]
    end(start(tmp_path, data_dir, layout))
    assert outcome(tmp_path) == expected


@pytest.mark.slow
def test_other_devices(whole, tmp_path, data_dir):
    """The same data, no error, other bits."""
    expected, layout = whole
    kill_when(saved(tmp_path, 15), start(tmp_path, data_dir, layout))
    output, _ = end(start(tmp_path, data_dir, "--virtual_devices=2"))
    assert "replicas was [['" in output and "last bits of numbers" in output
    rows = outcome(tmp_path)[1]
    for before, now in zip(expected[1], rows, strict=True):
        for name in ("loss", "val_loss", "top1_error"):
            assert float(now[name]) == pytest.approx(
                float(before[name]), rel=0.05
            )


def resident_megabytes(process):
    """Returns the resident memory of a process."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) // 1024


@pytest.mark.slow
def test_memory_stays_flat_over_two_thousand_steps(tmp_path, data_dir):
    """With an evaluation and checkpoints each epoch of 15 steps."""
    process = start(
        tmp_path, data_dir, "--epochs=150", "--plateau_patience=999"
    )
    curve = []
    while process.poll() is None:
        history = tmp_path / "history.csv"
        steps = 15 * (
            len(history.read_text().splitlines()) - 1 if history.exists() else 0
        )
        if steps and (not curve or steps >= curve[-1][0] + 150):
            curve.append((steps, resident_megabytes(process)))
        time.sleep(0.05)
    end(process)
    print("step: MB,", ", ".join(f"{step}: {size}" for step, size in curve))
    sizes = dict(curve)
    assert max(sizes) >= 2000
    late = [size for step, size in curve if step >= 1500]
    before = [size for step, size in curve if 750 <= step < 1500]
    assert np.mean(late) < 1.03 * np.mean(before)
