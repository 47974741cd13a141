"""What is built from the repository: wheel, source distribution, container."""

import email
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import alexnet_tf
from alexnet_tf.config.flags import parse

# What a build may leave behind, and what is no part of the project.
OTHERS = (".*_cache", ".git", ".venv", "__pycache__", "build", "*.egg-info")
LOCKS = sorted(Path().glob("requirements*.txt"))
DOCKERFILE = Path("Dockerfile").read_text().replace("\\\n", " ")


def files_in(directory):
    """Returns the files below a directory, following links, but no caches."""
    return {
        str(Path(folder, name).relative_to(directory))
        for folder, _, names in os.walk(directory, followlinks=True)
        for name in names
        if "__pycache__" not in folder
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the source distribution, built without a network."""
    directory = tmp_path_factory.mktemp("packaging")
    source, output = directory / "source", directory / "dist"
    ignored = shutil.ignore_patterns(*OTHERS, "runs", "dist")
    shutil.copytree(".", source, symlinks=True, ignore=ignored)
    command = [sys.executable, "-m", "build", "--no-isolation"]
    subprocess.run(
        [*command, f"--outdir={output}", str(source)],
        check=True,
        capture_output=True,
    )
    (wheel,) = output.glob("*.whl")
    (archive,) = output.glob("*.tar.gz")
    return wheel, archive


def test_the_wheel_has_every_file_of_the_package(built):
    wheel, _ = built
    files = set(zipfile.ZipFile(wheel).namelist())
    info = f"alexnet_tf-{alexnet_tf.__version__}.dist-info"
    assert {f"alexnet_tf/{name}" for name in files_in("alexnet_tf")} == {
        name for name in files if not name.startswith(info)
    }
    assert "alexnet_tf/flags/ablations/no_lrn.cfg" in files
    assert f"{info}/licenses/LICENSE" in files


def test_the_metadata_of_the_wheel(built):
    wheel, _ = built
    info = f"alexnet_tf-{alexnet_tf.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as files:
        text = files.read(f"{info}/METADATA").decode()
        programs = files.read(f"{info}/entry_points.txt").decode()
    metadata = email.message_from_string(text)
    assert metadata["Version"] == alexnet_tf.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_payload() == Path("README.md").read_text()
    requirements = Path("requirements.in").read_text().splitlines()
    assert [
        re.sub("[<>=].*", "", line) for line in requirements if line[0] != "#"
    ] == [
        re.sub("[<>=].*", "", name)
        for name in metadata.get_all("Requires-Dist")
        if "extra" not in name
    ]
    assert "alexnet = alexnet_tf.main:command_line" in programs


def test_the_source_distribution_has_the_tests_and_documents(built):
    _, archive = built
    with tarfile.open(archive) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    for folder in ("alexnet_tf", "docs", "examples", "flags", "tests"):
        assert {f"{folder}/{name}" for name in files_in(folder)} <= names
    for pattern in ("*.md", "LICENSE", "CITATION.cff", "requirements*"):
        assert {str(path) for path in Path().glob(pattern)} <= names


def test_flag_files_come_from_the_wheel(built, tmp_path):
    """An unpacked wheel, in a directory without the repository."""
    wheel, _ = built
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    # Patches of 224 pixels in paper.cfg, 227 in caffe_alexnet.cfg, which
    # import_weights reads by itself.
    for arguments, size in (
        (["--flagfile=flags/paper.cfg", "--image_size=223"], 224),
        (["--flagfile=caffe_alexnet", "--image_size=225"], 227),
        (["import_weights", "--caffemodel=x", "--image_size=225"], 227),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "alexnet_tf.main", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert f"crop_size={size} does not fit" in done.stderr
        assert done.returncode == 2


@pytest.mark.slow
def test_the_quickstart_of_an_installed_wheel(built, tmp_path):
    """In a new environment, inside the repository of something else.

    Downloads the locked packages.
    """
    wheel, _ = built
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(["git", "init", "-q", home], check=True)
    commit = "-c user.name=x -c user.email=x commit -qm x --allow-empty".split()
    subprocess.run(["git", "-C", home, *commit], check=True)
    venv.create(home / ".venv", with_pip=True)
    programs = home / ".venv" / "bin"
    pip = [programs / "pip", "install", "-q"]
    lock = Path("requirements.txt").resolve()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    for command in (
        [*pip, "--require-hashes", "-r", lock],
        [*pip, "--no-deps", wheel],
        [programs / "pip", "check"],
        [programs / "alexnet", "--flagfile=quickstart", "--epochs=1"],
        [programs / "alexnet", "predict", "image.jpg"]
        + ["--run_dir=runs/quickstart"],
        [programs / "python", "-m", "alexnet_tf.main", "inspect"]
        + ["--flagfile=flags/paper.cfg", "--paper_facts"],
    ):
        if "predict" in command:
            photo = "tests/golden/images/train/plain_star_grey/00.jpg"
            shutil.copy(photo, home / "image.jpg")
        print("$", *command, flush=True)
        subprocess.run(command, cwd=home, env=environment, check=True)
    run = home / "runs" / "quickstart"
    result = json.loads((run / "result.json").read_text())
    assert result["num_examples"] == 1200
    recorded = json.loads((run / "environment.json").read_text())
    assert recorded["alexnet_tf"] == alexnet_tf.__version__
    assert recorded["git_commit"] is None


@pytest.mark.parametrize("lock", LOCKS, ids=str)
def test_locks_have_hashes_and_one_version_of_each_package(lock):
    text = lock.read_text()
    assert "://" not in text
    packages = dict(re.findall(r"^([\w.-]+)==([^ \\]+)", text, re.M))
    assert len(packages) == len(re.findall(r"^[^ #\n]", text, re.M))
    for entry in re.findall(r"^[^ #\n].*(?:\n .*)*", text, re.M):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
    # The same versions in all, and what each .in file asks for.
    assert LOCKS[-1] == Path("requirements.txt")
    first = re.findall(r"^([\w.-]+)==([^ \\]+)", LOCKS[-1].read_text(), re.M)
    shared = [(name, v) for name, v in first if name in packages]
    assert len(shared) > 4
    assert all(packages[name] == version for name, version in shared)
    for line in lock.with_suffix(".in").read_text().splitlines():
        name = re.match(r"[\w-]*", line)[0].lower().replace("_", "-")
        assert not name or name.startswith("-") or name in packages


def test_the_changelog_has_this_version():
    text = Path("CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(\d.*)\]", text, re.M)
    assert versions[0] == alexnet_tf.__version__


def test_the_citation_names_the_license_of_the_package():
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    citation = Path("CITATION.cff").read_text()
    assert f"\nlicense: {project['license']}\n" in citation
    assert "Apache License" in Path("LICENSE").read_text()


def instructions(name):
    """Returns the arguments of each instruction of the Dockerfile."""
    return re.findall(rf"^{name} (.*)$", DOCKERFILE, re.M)


def test_what_the_container_copies_exists_and_is_not_ignored():
    shown = [
        line[1:]
        for line in Path(".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    sources = [
        source
        for line in instructions("COPY")
        if "--from" not in line
        for source in line.split()[:-1]
    ]
    assert len(sources) == 8
    for source in sources:
        assert Path(source).exists()
        assert any(fnmatch.fnmatch(source, pattern) for pattern in shown)


def test_the_commands_of_the_container_are_well_formed():
    for command in instructions("RUN"):
        subprocess.run(["bash", "-n"], input=command, text=True, check=True)
        for file in re.findall(r"-r /tmp/(\S+)", command):
            assert f"COPY {file} /tmp/" in DOCKERFILE
    assert instructions("FROM")[-1] == "base AS cpu"  # Without --target.
    assert set(instructions("USER")) == {"1000"}
    (base,) = instructions("ARG")
    assert re.fullmatch(r"BASE=python:3\.\d+\.\d+-\w+-\w+", base)
    assert instructions("ENTRYPOINT") == [
        json.dumps(["python", "-m", "alexnet_tf.main"])
    ]
    documents = Path("docs/packaging.md").read_text()
    runs = re.findall(r"^docker run .*? alexnet_tf\S* (.*)", documents, re.M)
    assert len(runs) == 2
    for arguments in runs:
        parse(shlex.split(arguments))
