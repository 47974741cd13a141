"""Random command lines and flag files: success, or a short error.

`pytest -n 0 -s tests/end_to_end/test_fuzz.py` prints how many command lines
there were, and how they ended.
"""

import collections
import contextlib
import dataclasses
import itertools
import shutil
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from alexnet_tf.config.commands import takes
from alexnet_tf.config.flags import GROUPS
from alexnet_tf.main import main
from tests.support import TINY

FIELDS = [
    field
    for group in GROUPS
    for field in dataclasses.fields(group)
    if field.name != "debug"  # Which asks for the trace.
]
FLAG_FILES = sorted(Path("flags").resolve().rglob("*.cfg"))
# Each with what it needs; RUN, IMAGE and FILE are there, NEW and NOWHERE not.
# `benchmark` is left out: it takes long when nothing is wrong.
COMMANDS = (
    *(
        "train --run_dir=NEW",
        "train --run_dir=RUN",
        "prepare --prepared_dir=NEW",
    ),
    *("inspect", "evaluate RUN", "predict IMAGE FILE --run_dir=RUN"),
    *("export --run_dir=RUN", "figures RUN --figures_dir=NEW", "trian"),
)
TEXTS = (
    *("", "x", "-1", "0", "1", "3", "1e400", "nan", "-inf", "None", "true"),
    *("99999999999999999999", "1,2,3", "0,0,0,0,0", "ä€", "--", "-", "a b"),
    *("RUN", "FILE", "NEW", "NOWHERE", "folder:RUN", "folder:NOWHERE"),
    *("imagenet2012", "shapes:9.9.9", "shapes/huge", "validation", "cub[3"),
)
# After all others: what a run needs is little, and less than a batch.
TOO_LITTLE = ("--train_split=train[:8]", "--batch_size=16")
SHORT = ("--train_split=train[:20]", "--epochs=1", "--statistics_images=20")


@st.composite
def flags(draw, command, odd_values=TEXTS):
    """Returns --name=value, mostly with a value that may be right.

    Flags of other commands, which are refused, are one in ten.
    """
    taken = [field for field in FIELDS if takes(command, field.name)]
    any_field = draw(st.integers(0, 9)) == 0
    field = draw(st.sampled_from(FIELDS if any_field else taken))
    declared = field.metadata["setting"]
    bounds = {declared.lower, declared.upper} - {None}
    right = [*bounds, field.default, *declared.choices]
    if field.type is bool:
        return f"--{draw(st.sampled_from(('', 'no')))}{field.name}"
    if field.type in (int, float):
        right += [field.default * 2, field.default + 1]
        wrong = [n + d for n in bounds for d in (-1, 1)]
    else:
        right += ["RUN", "FILE", "NEW"] * (not declared.choices)
        wrong = [f"{right[0]}s"]
    values = st.sampled_from(right)
    if odd_values:
        odd = st.sampled_from([*wrong, *odd_values])
        values = st.one_of(values, values, values, values, odd)
    return f"--{field.name}={draw(values)}"


@pytest.fixture(scope="module")
def places(tmp_path_factory, finished_run, data_dir, image_files):
    """Substitutes for the placeholders of a command line, and a count."""
    directory = tmp_path_factory.mktemp("fuzz")
    run = directory / "run"
    shutil.copytree(finished_run, run)
    (directory / "file").write_bytes(bytes(range(256)))
    names = {
        "RUN": run,
        "IMAGE": image_files[0],
        "FILE": directory / "file",
        "NOWHERE": directory / "no" / "where",
    }
    ends = collections.Counter()
    fresh = (directory / f"new{n}" for n in itertools.count())
    with contextlib.chdir(directory):  # Where `--figures_dir=s` may write.
        yield names, fresh, ends, f"--data_dir={data_dir}"
    print(f"\n{ends.total()} command lines:")
    for (command, code), count in sorted(ends.items()):
        print(f"{count:4d} x {command}: exit code {code}")


def try_out(capfd, places, arguments):
    """Runs a command line; it must end well, or with a short error."""
    names, fresh, ends, data_dir = places
    new = next(fresh)
    for name, path in {**names, "NEW": new}.items():
        arguments = [a.replace(name, str(path)) for a in arguments]
    # The whole data set takes a minute to make.
    arguments = [
        f"{a}/tiny" if a == "--dataset=shapes" else a for a in arguments
    ]
    capfd.readouterr()
    code = main([*arguments, data_dir])
    errors = capfd.readouterr().err
    ends[arguments[0], code] += 1
    assert code in (0, 1, 2)
    assert "Traceback" not in errors
    if code == 2:
        output = errors[errors.index("error: ") :].strip()
        assert len(output.splitlines()) <= 5, output
    shutil.rmtree(new, ignore_errors=True)


def settings(count):
    return hypothesis.settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


@st.composite
def command_lines(draw):
    words = draw(st.sampled_from(COMMANDS)).split()
    some = draw(st.lists(flags(words[0]), min_size=1, max_size=4))
    return [*words, *TINY, *some, *TOO_LITTLE]


@pytest.mark.slow
@settings(300)
@hypothesis.given(command_lines())
def test_flags_at_random(capfd, places, arguments):
    try_out(capfd, places, arguments)


@pytest.mark.slow
@settings(60)
@hypothesis.given(
    st.lists(flags("train", odd_values=()), min_size=1, max_size=4)
)
def test_training_with_flags_at_random(capfd, places, some):
    try_out(capfd, places, ["train", "--run_dir=NEW", *TINY, *some, *SHORT])


@st.composite
def mangled(draw):
    """Returns the bytes of a flag file, some of them changed."""
    content = draw(st.sampled_from(FLAG_FILES)).read_bytes()
    odd = (
        *(b"\n", b"=", b"--", b"\0", b"\xff\xfe", b"\r\n", b"'"),
        *(b"\n--flagfile=FILE\n", b"\n--flagfile=SELF\n"),
        *(b"\n--undefok=x\n", b"\n--help\n", b"\n--=\n"),
    )
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        stop = start + draw(st.sampled_from([0, 1, 1, 8, 100, 10_000]))
        new = draw(st.one_of(st.binary(max_size=4), st.sampled_from(odd)))
        content = content[:start] + new + content[stop:]
    return content


@pytest.mark.slow
@settings(100)
@hypothesis.given(mangled())
def test_mangled_flag_files(capfd, places, content):
    file = places[0]["RUN"].parent / "mangled.cfg"
    content = content.replace(b"SELF", bytes(file))
    file.write_bytes(content.replace(b"FILE", bytes(places[0]["FILE"])))
    few = [*TINY, *TOO_LITTLE]
    try_out(
        capfd, places, ["train", f"--flagfile={file}", "--run_dir=NEW", *few]
    )
