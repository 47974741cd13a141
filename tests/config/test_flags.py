"""Flags, flag files, and rejected command lines."""

import contextlib
import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from alexnet_tf.config import flags as config_lib
from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import (
    GROUPS,
    Config,
    describes_network,
    parse,
    run_name,
    to_flagfile,
)
from alexnet_tf.main import main

FLAG_FILES = sorted(Path("flags").rglob("*.cfg"))
# Flag files that are not meant to be given after paper.cfg.
WHOLE = [
    *(
        Path(f"flags/{name}.cfg")
        for name in (
            *("caffe_alexnet", "paper", "photos", "experiments", "quickstart"),
            *("imagenette", "torchvision"),
        )
    ),
    *Path("flags/cifar10").iterdir(),
]
CIFAR = ("--architecture=conv_local", "--towers=1", "--kernels=64,64,32,32")


def test_defaults_are_the_papers_numbers():
    config, words = parse([])
    assert config == Config()
    assert words == []
    assert (config.batch_size, config.epochs) == (128, 90)
    assert (config.learning_rate, config.momentum) == (0.01, 0.9)
    assert config.weight_decay == 0.0005
    assert (config.lrn_size, config.lrn_k) == (5, 2.0)
    assert (config.lrn_alpha, config.lrn_beta) == (1e-4, 0.75)
    assert (config.plateau_factor, config.plateau_drops) == (10.0, 3)
    assert (config.image_size, config.crop_size) == (256, 224)


def test_every_setting_is_in_the_help_under_its_group():
    text = config_lib.flag_help()
    for group in GROUPS:
        assert group.__doc__.rstrip(".") + ":" in text
        for field in dataclasses.fields(group):
            assert f"{field.name}:" in text


def test_flags_and_words_come_in_any_order_and_the_last_flag_counts():
    config, words = parse(["a", "--width=0.5", "b", "--width=0.25"])
    assert words == ["a", "b"]
    assert config.width == 0.25


@pytest.mark.parametrize(
    ("former", "setting", "value"),
    [
        ("--initialisation=glorot", "initialization", "glorot"),
        ("--colour_noise=off", "color_noise", "off"),
        ("--colour_noise_std=0.2", "color_noise_std", 0.2),
        ("--colour_noise_shrink", "color_noise_shrink", True),
        ("--factorised_conv2", "factorized_conv2", True),
        ("--nofactorised_conv2", "factorized_conv2", False),
        ("--what=all", "target", "all"),
        ("--facts", "paper_facts", True),
        ("--link=1.5", "network_gbps", 1.5),
        ("--device_link=7", "device_gbps", 7.0),
    ],
)
def test_former_names_are_read(former, setting, value):
    config, _ = parse([former])
    assert getattr(config, setting) == value
    name = former.split("=")[0][2:].removeprefix("no")
    text = config_lib.flag_help()
    assert f"--{name}:" not in text and f"--[no]{name}:" not in text


def test_former_values_are_read():
    assert parse(["--mean=colour"])[0] == parse(["--mean=color"])[0]
    for former, now in [
        ("True", "conv3,conv6,fc6,fc7"),
        ("False", ""),
    ]:
        config, _ = parse([f"--tower_communication={former}"])
        assert config.tower_communication == now
    for former, now in [("mirrored", "none"), ("multi_worker", "tf_config")]:
        assert parse([f"--distribution={former}"])[0].cluster == now
        assert parse(["--distribution", former])[0].cluster == now


def test_former_names_of_other_commands_flags_are_refused():
    with pytest.raises(UserError, match="paper_facts is a flag of inspect"):
        config_lib.check_flags(["--facts"], "train")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        *(("lr", "learning_rate"), ("bs", "batch_size"), ("gpu", "gpus")),
        *(("output_dir", "run_dir"), ("data", "dataset"), ("d", "dataset")),
        *(("batch-size", "batch_size"), ("learningrate", "learning_rate")),
        *(("wd", "weight_decay"), ("log-dir", "run_dir")),
    ],
)
def test_unknown_flags_have_a_suggestion(given, meant):
    message = f"unknown flag --{given}; did you mean --{meant}[?]"
    for flag in (f"--{given}=1", f"-{given}=1"):
        with pytest.raises(UserError, match=message):
            parse([flag])


def test_synonyms_stand_for_flags_and_are_none():
    names = {*Config.__dataclass_fields__, "flagfile"}
    assert {*config_lib._SYNONYMS.values()} < names
    assert not config_lib._SYNONYMS.keys() & names
    with pytest.raises(UserError, match="unknown flag --zzz.\nSee --help"):
        parse(["--zzz"])


def test_parsing_has_no_side_effects():
    assert parse(["--width=0.5"])[0].width == 0.5
    assert parse([])[0].width == 1.0


def test_a_config_survives_its_flag_file(tmp_path):
    config, _ = parse(["--width=0.3", "--nohorizontal_flip", "--seed=7"])
    file = tmp_path / "flags.cfg"
    file.write_text(config_lib.to_flagfile(config))
    assert parse([f"--flagfile={file}"])[0] == config


PATHS = {
    name
    for name in Config.__dataclass_fields__
    if name.endswith(("_dir", "_file", "_json", "_from", "_model"))
} | {"json", "caffemodel", "labels"}


@pytest.mark.parametrize("name", sorted(PATHS))
def test_a_tilde_is_expanded_in_paths(name, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/me")
    scale = ["--scale"] if name == "benchmark_json" else []
    file = tmp_path / "flags.cfg"
    file.write_text(f"--{name}=~/x y\n")
    for flag in (f"--{name}=~/x y", f"--flagfile={file}"):
        config, words = parse([flag, "~/a", *scale, "~", "-"])
        assert getattr(config, name) == "/home/me/x y"
        assert words == ["/home/me/a", "/home/me", "-"]


@pytest.mark.parametrize(
    ("flag", "expanded", "absolute"),
    [
        ("--dataset=folder:~/x/", "folder:/home/me/x/", "folder:/home/me/x"),
        ("--dataset=folder:x", "folder:x", "folder:/cwd/x"),
        ("--dataset=shapes/tiny", "shapes/tiny", "shapes/tiny"),
        ("--mean=~/a.binaryproto", "/home/me/a.binaryproto", None),
        ("--mean=a.binaryproto", "a.binaryproto", "/cwd/a.binaryproto"),
        ("--mean=color", "color", "color"),
        ("--run_dir=runs/~", "runs/~", "/cwd/runs/~"),
        ("--prepared_dir=", "", ""),
        ("--freeze=conv1", "conv1", "conv1"),
    ],
)
def test_flag_files_have_absolute_paths(
    flag, expanded, absolute, monkeypatch, tmp_path
):
    """So that a run can be resumed in any directory."""
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    name = flag[2:].split("=")[0]
    config, _ = parse([flag])
    assert getattr(config, name) == expanded
    absolute = (absolute or expanded).replace("/cwd", str(tmp_path))
    assert f"--{name}={absolute}\n" in config_lib.to_flagfile(config)


def test_a_flag_file_has_no_command_options():
    config, _ = parse(["--json=x.json", "--split=test", "--debug"])
    text = config_lib.to_flagfile(config)
    assert "json" not in text and "split=test" not in text


@pytest.mark.parametrize("file", FLAG_FILES, ids=str)
def test_flag_files_of_the_project_are_valid(file):
    config, words = parse([f"--flagfile={file}"])
    assert words == []
    bases = {
        "finetune": "quickstart",
        "caffenet": "caffe_alexnet",
        "code_2010": "code_2012",
        "145-half": "code_2010",
        "170-256": "notebook/170",
        "170-quant": "notebook/170",
    }
    folder, name = file.parent.name, file.stem
    default = "code_2012" if folder in ("cnn_star", "notebook") else "paper"
    if folder == "cnn_star":
        base, name = default, f"cnn_star_{name}"
    else:
        base = bases.get(name, default)
    assert config.run_dir == f"runs/{name}"
    on_top = "" if file in WHOLE else f"--flagfile=flags/{base}.cfg "
    command = f"{on_top}--flagfile={file}"
    assert command in file.read_text()


@pytest.mark.parametrize("file", FLAG_FILES, ids=str)
def test_flag_files_of_the_project_are_found_from_any_directory(
    file, tmp_path, monkeypatch
):
    config, _ = parse([f"--flagfile={file}"])
    monkeypatch.chdir(tmp_path)
    short = file.relative_to("flags")
    nested = tmp_path / "nested.cfg"
    nested.write_text(f"--flagfile={file}")
    for name in (file, short, short.with_suffix(""), nested):
        assert parse([f"--flagfile={name}"])[0] == config
        assert parse(["--flagfile", str(name)])[0] == config


@pytest.mark.parametrize("name", ["paper", "paper.cfg", "flags/paper.cfg"])
def test_a_local_flag_file_wins(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("paper").mkdir()  # A directory does not.
    assert parse([f"--flagfile={name}"])[0].run_dir == "runs/paper"
    Path("flags").mkdir()
    file = "paper.cfg" if name == "paper" else name
    Path(file).write_text("--run_dir=mine")
    assert parse([f"--flagfile={name}"])[0].run_dir == "mine"


@pytest.mark.parametrize("name", ["papre", "flags", "no_lrn.cfg", ""])
@pytest.mark.parametrize("nested", [False, True])
def test_an_unknown_flag_file_lists_those_of_the_project(
    name, nested, tmp_path
):
    file = tmp_path / "nested.cfg"
    file.write_text(f"--flagfile={name}")
    with pytest.raises(UserError, match=f"--flagfile={name} ") as caught:
        parse([f"--flagfile={file if nested else name}"])
    listed = str(caught.value).splitlines()[0].split("one of ")[1][:-1]
    assert sorted(f"flags/{name}.cfg" for name in listed.split(", ")) == [
        str(path) for path in FLAG_FILES
    ]


@contextlib.contextmanager
def pipe_with(text):
    """Yields the name of a pipe, as `<(...)` of a shell makes it."""
    reader, writer = os.pipe()
    with open(reader), open(writer, "w") as file:
        file.write(text)
        file.close()
        yield f"/dev/fd/{reader}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        # The flags of the command are checked after all flags are read,
        (["train"], "split is a flag of evaluate"),
        # those of a run are read again with its flags.cfg,
        (["evaluate", "--run_dir={run}"], "crop_size=100 does not fit"),
        (["evaluate", "{run}"], "crop_size=100 does not fit"),
        (["export", "--run_dir={run}"], "split is a flag of evaluate"),
        # and all flags with the flag file of a command.
        (["import_weights", "--caffemodel=x"], "split is a flag of evaluate"),
    ],
)
def test_a_pipe_is_read_once_for_all(arguments, message, tmp_path, capsys):
    config, _ = parse(["--image_size=72", "--crop_size=64"])
    (tmp_path / "flags.cfg").write_text(to_flagfile(config))
    words = [word.format(run=tmp_path) for word in arguments]
    with pipe_with("--split=train\n--crop_size=100\n") as name:
        assert main([*words, f"--flagfile={name}"]) == 2
    assert message in capsys.readouterr().err


def test_a_slow_pipe_is_waited_for_and_one_without_end_refused(
    tmp_path, monkeypatch
):
    file = tmp_path / "pipe"
    os.mkfifo(file)
    with ThreadPoolExecutor() as threads:
        parsed = threads.submit(parse, [f"--flagfile={file}"])
        with file.open("w") as writer:
            writer.write("--width=0.5\n--se")
            writer.flush()
            with pytest.raises(TimeoutError):
                parsed.result(0.3)
            writer.write("ed=7")
        config, _ = parsed.result(30)
    assert (config.width, config.seed) == (0.5, 7)
    monkeypatch.setattr(config_lib, "_PIPE_SECONDS", 0.2)
    refused = pytest.raises(UserError, match="is a pipe that did not end")
    with refused:  # Nobody writes.
        parse([f"--flagfile={file}"])
    with os.fdopen(os.open(file, os.O_RDWR), "wb", 0) as writer, refused:
        writer.write(b"--width=0.5\n")  # Somebody may write more.
        parse([f"--flagfile={file}"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (["--flagfile={0}"], "0.cfg is read by itself"),
        (["--flagfile {0}"], "unknown flag --flagfile {0}"),
        (["--flagfile", "--seed=1"], "--flagfile=--seed=1 is not a file"),
        (["--flagfile={1}", "--seed=1"], "0.cfg > .*1.cfg > .*0.cfg"),
        (["  --flagfile={1}"], "0.cfg is read by itself"),
        (["x" * 1_000_001], "more than 1,000,000 bytes"),
        (["--flagfile={2}"] * 30, "2.cfg makes more than 1,000,000 bytes"),
        (["--flagfile=/dev/zero"], "more than 1,000,000 bytes"),
        (["\udcff"], "cannot be read: 'utf-8'"),
        (["--run_dir=a\0b"], "NUL characters"),
    ],
)
def test_flag_files_without_an_end_or_a_text_are_refused(
    content, message, tmp_path
):
    files = [tmp_path / f"{number}.cfg" for number in range(3)]
    lines = [line.format(*files) for line in content]
    text = "\n".join(lines).encode(errors="surrogateescape")
    files[0].write_bytes(text)
    files[1].write_text(f"--flagfile={files[0]}\n")
    files[2].write_text("# As often as wanted.\n" * 2000)
    with pytest.raises(UserError, match=message.format(*files)) as caught:
        parse([f"--flagfile={files[0]}"])
    assert len(str(caught.value).splitlines()) <= 3


def test_flag_files_are_as_deep_as_wanted_up_to_twenty(tmp_path):
    for number in range(30):
        file = tmp_path / str(number)
        file.write_text(f"--flagfile={tmp_path}/{number + 1}\n--seed={number}")
    (tmp_path / "30").write_text("\n  # Nothing\n// to read\r\n")
    assert parse([f"--flagfile={tmp_path}/11"])[0].seed == 11
    with pytest.raises(UserError, match="inside 20 others: .*/28 > .*/29"):
        parse([f"--flagfile={tmp_path}/9"])


def test_a_file_may_be_read_twice_and_words_are_no_flags(tmp_path):
    file = tmp_path / "x.cfg"
    file.write_text("--seed=3\nword\n")
    flag = f"-flagfile={file}"
    config, words = parse([flag, "--seed=4", flag, "--", flag])
    assert config.seed == 3
    assert words == ["word", "word", flag]


def test_the_paper_flag_file_states_what_the_defaults_are():
    config, _ = parse(["--flagfile=flags/paper.cfg"])
    changed = dataclasses.replace(
        config, dataset="shapes", run_dir="", color_noise="paper"
    )
    assert changed == Config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--wdith=1"], "did you mean --width[?]"),
        (["--width=-1"], r"width=-1.*range \[0.01, 4.0\]"),
        (["--width=wide"], "width=wide"),
        (["--width=nan"], "width=nan.*finite"),
        (["--seed"], "Missing value for flag --seed"),
        (["--nodebug=1"], "nodebug=1"),
        (["--color_noise=pink"], "paper|code_2012|off"),
        (["--flagfile=/nowhere.cfg"], "/nowhere.cfg"),
        (["--crop_size=63"], "crop_size=63.*64"),
        (["--crop_size=300"], "crop_size=300.*image_size=256"),
        (["--kernels=96,256"], "kernels=96,256; give 5 whole"),
        (["--format=onnx,pdf"], "'pdf' is not a format; give some of"),
        (["--format="], "'' is not a format; give some of"),
        (["--kernels=96,256,x,384,256"], "give 5 whole numbers"),
        (["--architecture=conv_local"], "towers=2, but .* add --towers=1"),
        ([*CIFAR, "--kernels=96,256,384,384,256"], "give 4 .* 64,64,32,32"),
        ([*CIFAR, "--kernels=0,64,32,32"], "conv1 without kernels"),
        ([*CIFAR, "--crop_size=3"], "crop_size=3.*4"),
        (
            [*CIFAR, "--architecture=conv_small", "--kernels=1,1,1"]
            + ["--crop_size=7"],
            "too small for .*conv_small; give at least 8",
        ),
        ([*CIFAR, "--conv6"], "conv6=True has no effect"),
        ([*CIFAR, "--width=0.5"], "width=0.5 has no effect"),
        ([*CIFAR, "--dropout_rate=0"], "dropout_rate=0.0 has no effect"),
        ([*CIFAR, "--initialization=glorot"], "glorot has no effect"),
        ([*CIFAR, "--paper_facts"], "about AlexNet, not .*conv_local"),
        (["--weights=best"], "weights=best; give search, or a number from 0"),
        (["--weights=0.5,0.6"], "weights=0.5,0.6; give .* which add up to 1"),
        (["--weights=1.5,-0.5"], "weights=1.5,-0.5; give search"),
        (["--weights=0.5,nan"], "weights=0.5,nan; give search"),
        (["--weights=1,"], "weights=1,; give search"),
        (["--augment_chunk=0"], "augment_chunk=0"),
        (["--order=sorted"], "shuffled|fixed"),
        (["--kernels=0,256,384,384,256"], "conv1 without kernels"),
        (["--kernels=96,256,384,384,0", "--conv6"], "conv6 without kernels"),
        (["--towers=3"], "towers=3 does not divide 256"),
        (["--neurons=4097,4096"], "towers=2 does not divide 4097"),
        (["--neurons=0,4096"], "neurons=0,4096; give 2 .* from 1 to"),
        (["--neurons=4096"], "neurons=4096; give 2 whole numbers"),
        (["--neurons=4096,9999999"], "from 1 to 1000000"),
        (["--padding=2"], "padding=2; give 5 whole numbers from 0 to 10"),
        (["--padding=0,2,1,1,11"], "padding=0,2,1,1,11; .* from 0 to 10"),
        (["--padding=0,2,1,-1,1"], "padding=0,2,1,-1,1; give 5 whole"),
        (["--padding=0,1,1,1,1", "--factorized_conv2"], "give 2, the default"),
        (["--tower_communication=conv1"], "'conv1' is not among conv2, conv3"),
        (["--tower_communication=conv3,"], "'' is not among conv2"),
        (["--tower_communication=maybe"], "'maybe' is not among conv2"),
        (["--notower_communication"], "notower_communication"),
        (["--lrn_layers=1,3"], "lrn_layers=1,3: '3' is not among 1, 2"),
        (["--dropout_layers=conv2"], "'conv2' is not among conv3"),
        (["--dropout_layers=fc6,conv6"], "no conv6; .* add it with --conv6"),
        (
            ["--dropout_layers=conv4", "--kernels=96,256,384,0,256"],
            "no conv4; .* add it with --kernels",
        ),
        (["--conv2_activation=after_norm", "--lrn=off"], "has no norm2"),
        (
            ["--conv2_activation=after_norm", "--lrn_layers=1"],
            "lrn_layers=1 has no norm2; leave out one",
        ),
        (["--dataset=folder:"], "has no path; give folder:PATH"),
        (["--spatial_norm2", "--lrn=off"], "add --nospatial_norm2, or"),
        (["--flagfile=code_2012", "--lrn=off"], "add --nospatial_norm2, or"),
        (["--link_precision=half"], "float32|float16"),
        (["--lrn_size=4"], "lrn_size=4.*odd"),
        (["--towers=4", "--devices_per_replica=2"], "use 1 .* or 4"),
        (["--gpus=0", "--virtual_devices=2"], "leave out --gpus"),
        (["--saved_model=a", "--run_dir=b"], "give one"),
        (["--run_dir=a\udce9"], r"run_dir=a\\xe9 .* not UTF-8; rename"),
        (["--dataset=folder:a\nb"], r"folder:a\\x0ab has control characters"),
    ],
)
def test_user_errors_name_the_flag(arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        parse(arguments)
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--flagfile=flags/paper.cfg"], "paper"),
        (
            ["--flagfile", "experiments", "--flagfile=ablations/no_lrn"],
            "experiments-no_lrn",
        ),
        (["--dataset=shapes/tiny"], "shapes-tiny"),
        (["--dataset=folder:/home/me/My photos (new)/"], "My-photos-new"),
        (["--dataset=folder:."], "folder"),
        (["--dataset=folder:../mañana"], "mañana"),
        ([], Config.dataset),
    ],
)
def test_a_run_is_named_by_its_flag_files_or_its_data(arguments, name):
    config, _ = parse(arguments)
    assert run_name(arguments, config) == name


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--run_dir=x", "--epochs=9", "--seed=2", "--data_dir=y"], False),
        (["--run_dir=x", "--dataset=folder:y", "--prepared_dir="], False),
        (["--run_dir=x", "--width=0.5"], True),
        (["--run_dir=x", "--nohorizontal_flip"], True),
        (["--flagfile=photos"], True),
    ],
)
def test_which_command_lines_describe_a_network(arguments, expected):
    assert describes_network(arguments) == expected
