"""The documentation: its code, commands, flags, links and example scripts.

Python code is executed as a reader would, but on small data.
"""

import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from alexnet_tf.benchmarks import timing
from alexnet_tf.config.commands import EXPORT_FORMATS, find_command
from alexnet_tf.config.flags import (
    FORMER_NAMES,
    Config,
    check_flags,
    parse,
)
from alexnet_tf.main import main


def read(*paths):
    return {path: path.read_text() for path in paths if path.is_file()}


PAGES = read(*sorted(Path().glob("*.md")), *sorted(Path("docs").glob("*.md")))
EXAMPLES = read(*sorted(Path("examples").iterdir()))
FLAG_FILES = read(*sorted(Path("flags").rglob("*.cfg")))
PIECES = [
    piece
    for text in PAGES.values()
    for piece in re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
]
# Flags of other programs than ours.
FOREIGN_FLAGS = {
    *("logdir", "ignore", "check", "kill-on-bad-exit", "wait"),
    *("require-hashes", "no-deps", "upgrade", "upgrade-package"),
    *("from", "pyproject", "rm", "build-arg", "xla_cpu_use_onednn"),
    "xla_cpu_prefer_vector_width",
}
# Files of a run, which are not part of the repository.
RUN_FILES = {"flags.cfg", "model_card.md"}


def piece_with(text):
    (piece,) = [piece for piece in PIECES if text in piece]
    return piece


@pytest.fixture
def at_home(tmp_path, monkeypatch, finished_run, image_files):
    """A directory in which the quickstart has been run."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quickstart").symlink_to(finished_run)
    shutil.copy(image_files[0], tmp_path / "image.jpg")
    monkeypatch.chdir(tmp_path)


def on_small_data(piece, data_dir):
    assert '("shapes", ' in piece
    piece = piece.replace("range(100)", "range(2)")
    return re.sub(
        r'\("shapes", (.*?)\)',
        rf'("shapes/tiny", \1, data_dir={data_dir!r})',
        piece,
    )


def test_all_python_code_is_executed_here():
    assert len(PIECES) == 9
    scripts = [path.name for path in EXAMPLES if path.suffix == ".py"]
    # test_ray.py runs ray_train.py, test_experiments.py experiments.py,
    # test_torch.py the last two.
    assert scripts == [
        *("experiments.py", "inference_speed.py", "ray_train.py"),
        *("sort_by_outline.py", "torch_alexnet.py", "torch_speed.py"),
    ]


def test_a_folder_sorted_by_outline(at_home, data_dir):
    script = EXAMPLES[Path("examples/sort_by_outline.py")]
    exec(on_small_data(script, data_dir), {})
    folders = sorted(folder.name for folder in Path("photos").iterdir())
    assert folders == ["cross", "disc", "star", "triangle"]
    assert main(["inspect", "--dataset=folder:photos", "--paper_facts"]) == 0


def test_a_notebook_that_trains(at_home, data_dir):
    names = {}
    exec(on_small_data(piece_with("model.fit"), data_dir), names)
    assert names["model"].optimizer.iterations == 2


def test_a_notebook_that_predicts(at_home, capsys):
    exec(piece_with("load_run"), {})
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_images_that_are_compressed_again(tmp_path, monkeypatch):
    """They have the same size and lose a little."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    image = PIL.Image.fromarray(pixels).resize((32, 32))
    Path("cifar10/test/cat").mkdir(parents=True)
    image.save("cifar10/test/cat/1.jpg", quality=75)
    exec(piece_with('"JPEG", quality=75'), {})
    with PIL.Image.open("again/test/cat/1.png") as found:
        found = np.asarray(found).astype(int)
    with PIL.Image.open("cifar10/test/cat/1.jpg") as before:
        lost = np.abs(found - np.asarray(before))
    assert found.shape == (32, 32, 3) and 0 < lost.mean() < 5


def notebook_code():
    """Returns the source of the notebook's cells of code."""
    cells = json.loads(EXAMPLES[Path("examples/alexnet.ipynb")])["cells"]
    return ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]


def test_what_the_notebook_imports():
    exec(notebook_code()[0], {})


@pytest.mark.slow
def test_the_notebook(at_home, data_dir, capsys):
    names = {}
    exec(on_small_data("\n".join(notebook_code()), data_dir), names)
    assert names["model"].optimizer.iterations == 12
    assert names["features"].output_shape == (None, 29, 29, 32)
    assert len(names["figure"].axes) == 2
    assert "val_top1_error" in capsys.readouterr().out


def test_a_saved_model(at_home, capsys):
    exec(piece_with("saved_model.load"), {})
    assert "disc" in capsys.readouterr().out


def test_exported_files(at_home, exported_run, capsys, monkeypatch):
    packages = {p for _, needed in EXPORT_FORMATS.values() for p in needed}
    for package in packages:
        pytest.importorskip(package)
    Path("runs/quickstart").unlink()
    Path("runs/quickstart").symlink_to(exported_run[0])
    small = piece_with("ImageOps").replace("146, 146", "72, 72")
    names, best = {}, set()
    exec(small.replace("(9, 9, 137, 137)", "(4, 4, 68, 68)"), names)
    for text in ("onnxruntime", "ai_edge_litert"):
        capsys.readouterr()
        exec(piece_with(text), names)
        best.add(capsys.readouterr().out.split()[0])
        assert names["patches"].shape == (1, 64, 64, 3)
    assert len(best) == 1
    exec(piece_with("safe_open"), names)
    assert best < set(names["names"])
    assert len(names["names"]) == 12
    exec(piece_with("load_model"), names)
    assert names["network"].name == "alexnet"
    monkeypatch.setattr(timing, "_MIN_SECONDS", 0.0)
    monkeypatch.setattr("sys.argv", ["", "runs/quickstart"])
    script = EXAMPLES[Path("examples/inference_speed.py")]
    script = script.replace("ROUNDS = 5", "ROUNDS = 1")
    exec(script, {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert "tflite_int8" in printed and "batch 128, JPEG files" in printed


@pytest.mark.parametrize(
    "path", [path for path in EXAMPLES if path.suffix == ".sh"], ids=str
)
def test_shell_scripts_have_no_syntax_errors(path):
    subprocess.run(["bash", "-n", path], check=True)


def command_lines():
    """Yields (file, arguments) of each command line of the program."""
    for path, text in PAGES.items():
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M):
            yield from arguments_in(path, block)
    for name in ("slurm.sh", "kubernetes.yaml"):
        path = Path("examples", name)
        yield from arguments_in(path, EXAMPLES[path])
    for path, text in FLAG_FILES.items():
        yield from arguments_in(path, text.replace("\n#     --", " --"))


def arguments_in(path, text):
    lines = text.replace("\\\n", " ").splitlines()
    for line in lines:
        found = re.match(r"(?:.*python -m alexnet_tf\.main|alexnet) (.*)", line)
        if found:
            # S is a seed.
            arguments = re.sub(r"--seed=S\b", "--seed=1", found[1])
            yield path, shlex.split(arguments, comments=True)


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        pytest.param(path, arguments, id=f"{path}-{number}")
        for number, (path, arguments) in enumerate(command_lines())
    ],
)
def test_command_lines_are_valid(path, arguments):
    _, words = parse(arguments)
    name, *words = words or ["train"]
    find_command(name, words)
    check_flags(arguments, name)


def known_flags():
    names = {"help", "helpfull", "version", "flagfile", *FOREIGN_FLAGS}
    for field in dataclasses.fields(Config):
        former = {old for old, n in FORMER_NAMES.items() if n == field.name}
        spellings = {field.name, *former}
        names |= spellings
        if field.type is bool:
            names |= {f"no{spelling}" for spelling in spellings}
    return names


@pytest.mark.parametrize("path", [*PAGES, *EXAMPLES, *FLAG_FILES], ids=str)
def test_flags_exist(path):
    text = (PAGES | EXAMPLES | FLAG_FILES)[path]
    text = re.sub(r"^#SBATCH.*", "", text, flags=re.M)
    found = re.findall(r"(?<![\w-])--([a-z][\w-]*)", text)
    scripts = "".join(EXAMPLES.values())
    own = re.findall(r'add_argument\("--(\w+)"', scripts)
    assert set(found) <= known_flags() | set(own)


def prose(page):
    """Returns a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", PAGES[page], flags=re.S | re.M)


def anchors(page):
    """Returns the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)", prose(page), re.M)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_have_targets(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = Path(os.path.normpath(page.parent / file)) if file else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def exists(name):
    """Returns whether a file is in the repository, wherever it may be."""
    roots = [Path(), Path("alexnet_tf")]
    if "/" not in name:
        roots = map(Path, ("alexnet_tf", "tests", "flags", "examples", "docs"))
        return any(any(root.rglob(name)) for root in roots)
    return any(any(root.glob(name)) for root in roots)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_files_that_are_named_exist(page):
    names = re.findall(r"`([\w./*]+\.(?:py|cfg|sh|yaml|md))`", PAGES[page])
    assert [n for n in {*names} - RUN_FILES if not exists(n)] == []


def test_pages_stay_short():
    lengths = {path.name: text.count("\n") for path, text in PAGES.items()}
    assert lengths["README.md"] <= 250
    assert lengths["BUILD.md"] <= 450


def test_two_commands_set_up_the_project():
    readme = PAGES[Path("README.md")]
    setup = re.findall(r"^python3\.11 .*", readme, re.M)
    assert [command.split()[-1] for command in setup] == [
        "--flagfile=flags/quickstart.cfg",
        "pytest",
    ]
