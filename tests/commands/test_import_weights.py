"""Networks of Caffe and torchvision, against those programs' arithmetic."""

import functools
import hashlib
import json

import h5py
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from alexnet_tf.benchmarks import traffic
from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import parse
from alexnet_tf.data import tfds_source as sources
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.data.pipeline import evaluation_batches
from alexnet_tf.distribution.devices import connect
from alexnet_tf.main import main
from alexnet_tf.models.build import (
    best_checkpoint,
    build_network,
    load_trained,
)
from alexnet_tf.storage import caffe_format as caffe
from alexnet_tf.storage.dataset_info import (
    placeholder_info,
    read_dataset_info,
)
from alexnet_tf.storage.run_dir import RunDir
from alexnet_tf.training.trainer import build_trainer, initialize_from
from tests.commands.caffe_nets import (
    ALEXNET,
    CAFFENET,
    MIXED,
    caffe_logits,
    convolve,
    fill,
    make_weights,
    messages,
    pool,
    write_caffemodel,
)
from tests.support import zero_weights

SMALL = ("--width=0.1", "--gpus=none")
# The smallest patches that Caffe divides into the same maps: 15, 7, 3, 1.
TINY = (*SMALL, "--image_size=72", "--crop_size=67", "--batch_size=20")


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """A file with seven names."""
    file = tmp_path_factory.mktemp("labels") / "labels.txt"
    file.write_text("".join(f"n{n:03d} thing, number {n}\n" for n in range(7)))
    return file


def open_run(run, *flags):
    """Returns a run's network, and its settings."""
    config, _ = parse([f"--flagfile={run}/flags.cfg", *flags])
    return load_trained(config, RunDir(run))[0], config


def import_net(run, file, *flags):
    arguments = [*flags, f"--caffemodel={file}", f"--run_dir={run}"]
    return main(["import_weights", *arguments])


def images_of(side, count=3):
    """Returns images of large patches, for responses that differ widely."""
    coarse = np.random.default_rng(1).integers(0, 256, (count, 8, 8, 3))
    images = [PIL.Image.fromarray(i.astype(np.uint8)) for i in coarse]
    return np.stack([np.asarray(i.resize((side, side))) for i in images])


@functools.cache
def expected_logits(order, groups):
    """Returns the weights of a network, and its logits by Caffe."""
    net = make_weights(227, classes=7, width=0.1, groups=groups)
    return net, caffe_logits(images_of(227), net, order, groups)


@pytest.mark.parametrize(
    ("order", "groups", "v1", "flags"),
    [
        (ALEXNET, 2, True, []),
        (ALEXNET, 2, False, []),
        (CAFFENET, 2, True, ["--flagfile=flags/caffenet.cfg"]),
        (MIXED, 2, False, ["--lrn=after_pool1"]),
        (ALEXNET, 4, False, ["--towers=4"]),
        (ALEXNET, 1, False, ["--towers=1"]),
    ],
    ids=[
        "alexnet-v1",
        "alexnet",
        "caffenet-v1",
        "mixed",
        "four-groups",
        "one-group",
    ],
)
def test_logits_are_those_of_caffe(tmp_path, labels, order, groups, v1, flags):
    net, expected = expected_logits(order, groups)
    assert expected.std() > 5  # Not all alike.
    file = write_caffemodel(tmp_path / "net.caffemodel", net, order, v1=v1)
    flags = [*flags, *SMALL, f"--labels={labels}"]
    assert import_net(tmp_path / "run", file, *flags) == 0
    model, _ = open_run(tmp_path / "run")
    images = images_of(227)
    found = model(images, training=False)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    if groups > 1:
        model, _ = open_run(tmp_path / "run", "--nolrn_across_towers")
        apart = np.abs(model(images, training=False) - expected).max()
        assert apart > 0.01  # The border between the towers matters.


def test_the_mean_image_is_caffes(tmp_path, labels):
    net = make_weights(227, classes=7, width=0.1)
    file = write_caffemodel(tmp_path / "net.caffemodel", net, ALEXNET, v1=False)
    mean = np.random.default_rng(2).uniform(80, 150, (3, 256, 256))
    mean = mean.astype(np.float32)
    blob = messages()["BlobProto"]()
    fill(blob, mean, v1=True)
    mean_file = tmp_path / "mean.binaryproto"
    mean_file.write_bytes(blob.SerializeToString())
    flags = [f"--labels={labels}", f"--mean={mean_file}", *SMALL]
    assert import_net(tmp_path / "run", file, *flags) == 0
    mean_file.unlink()  # The run has a copy.
    model, _ = open_run(tmp_path / "run")
    images = images_of(227)
    start = (256 - 227) // 2  # As in Caffe's data_transformer.
    cut = mean[:, start : start + 227, start : start + 227]
    np.testing.assert_allclose(
        model(images, training=False),
        caffe_logits(images, net, ALEXNET, mean=cut),
        rtol=0,
        atol=1e-4,
    )


@pytest.mark.parametrize("v1", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("double", [False, True])
def test_all_ways_to_write_numbers_are_read(tmp_path, v1, packed, double):
    net = make_weights(67, classes=3, width=0.02)
    how = dict(v1=v1, packed=packed, double=double)
    file = write_caffemodel(tmp_path / "net.caffemodel", net, ALEXNET, **how)
    found = caffe.read_network(file)
    assert [layer.name for layer in found] == list(ALEXNET)
    for layer in found:
        arrays = net.get(layer.name, ())
        for array, expected in zip(layer.blobs, arrays, strict=True):
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, expected.astype(np.float32))


# --- An imported run is like any other.


@pytest.fixture(scope="module")
def imported(tmp_path_factory, data_dir):
    """A run with the classes of the tiny data set; read-only."""
    directory = tmp_path_factory.mktemp("imported")
    net = make_weights(67, classes=12, width=0.1)
    file = write_caffemodel(directory / "net.caffemodel", net, ALEXNET, v1=True)
    flags = ["--dataset=shapes/tiny", f"--data_dir={data_dir}", *TINY]
    assert import_net(directory / "run", file, *flags) == 0
    return directory / "run"


@pytest.mark.slow
def test_an_imported_run_is_evaluated(imported, tmp_path, data_dir, capsys):
    file = tmp_path / "errors.json"
    flags = ["--virtual_devices=2", f"--json={file}"]
    flags.append(f"--figures_dir={tmp_path}")
    assert main(["evaluate", str(imported), *flags]) == 0
    assert f"{imported}, imported, 60 images" in capsys.readouterr().out
    model, config = open_run(imported)
    split = sources.open_split("shapes/tiny", "validation", data_dir=data_dir)
    batches = evaluation_batches(
        split,
        batch_size=60,
        geometry=config.geometry,
        bad=BadExamples(),
    )
    ((images, numbers),) = batches.as_numpy_iterator()
    wrong = np.argmax(model(images), axis=1) != numbers
    errors = json.loads(file.read_text())
    assert errors["center"]["top1_error"] == pytest.approx(wrong.mean())


@pytest.mark.slow
def test_an_imported_run_is_drawn(imported, tmp_path):
    flags = [f"--figures_dir={tmp_path}"]
    assert main(["figures", str(imported), *flags]) == 0
    assert {file.name for file in tmp_path.glob("*.png")} == {
        "kernels.png",
        "answers.png",
        "neighbors.png",
        "towers.png",
        "wrong_answers.png",
    }


@pytest.mark.slow
def test_an_imported_run_predicts_and_is_exported(
    imported, image_files, tmp_path
):
    answers = []
    assert main(["export", f"--run_dir={imported}"]) == 0
    card = (imported / "model_card.md").read_text()
    assert "the weights come from " in card and "Not measured." in card
    for model in ("run_dir", "saved_model"):
        path = imported / ("saved_model" if model == "saved_model" else "")
        file = tmp_path / "best.json"
        photos = map(str, image_files)
        flags = [f"--{model}={path}", f"--json={file}"]
        assert main(["predict", *photos, *flags]) == 0
        answers.append(json.loads(file.read_text()))
    ours, theirs = answers
    assert ours.keys() == theirs.keys() and len(ours) == 5
    for best, other in zip(ours.values(), theirs.values(), strict=True):
        names, scores = zip(*best, strict=True)
        other_names, other_scores = zip(*other, strict=True)
        assert names == other_names
        np.testing.assert_allclose(scores, other_scores, atol=1e-5)


def test_training_starts_from_an_imported_run(imported, data_dir, capsys):
    """One step; tests/training/test_finetune.py runs whole jobs."""
    flags = ["--flagfile=flags/caffe_alexnet.cfg", *TINY]
    flags += ["--dataset=shapes/tiny", f"--data_dir={data_dir}"]
    flags += ["--flagfile=flags/finetune.cfg", f"--init_from={imported}"]
    config, _ = parse([*flags, "--virtual_devices=2"])
    run_dir = RunDir(imported)
    info = read_dataset_info(run_dir)
    model = build_trainer(config, info, connect(config))
    initialize_from(best_checkpoint(run_dir), model)
    assert "New random weights: none" in capsys.readouterr().out
    before, _ = open_run(imported)
    for one, other in zip(before.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    batch = (images_of(67), np.arange(3))
    dataset = tf.data.Dataset.from_tensors(batch)
    model.fit(dataset, shuffle=False, verbose=0)
    for name in ("conv1_tower0", "conv2_tower1"):  # Frozen.
        np.testing.assert_array_equal(
            before.get_layer(name).kernel, model.get_layer(name).kernel
        )
    for name in ("conv3_tower0", "fc8_tower1"):
        change = before.get_layer(name).kernel - model.get_layer(name).kernel
        assert np.abs(change).max() > 0


def test_an_imported_run_is_finished(imported, capsys):
    assert main([f"--flagfile={imported}/flags.cfg"]) == 0
    assert "Its weights are imported" in capsys.readouterr().out


def test_labels_may_be_longer_than_the_class_names(
    imported, data_dir, tmp_path
):
    """As synset_words.txt does."""
    names = sources.class_names("shapes/tiny", data_dir=data_dir)
    longer = tmp_path / "labels.txt"
    longer.write_text("\n".join(f"{name} and more" for name in names))
    file = imported.parent / "net.caffemodel"
    flags = ["--dataset=shapes/tiny", f"--data_dir={data_dir}", *TINY]
    flags += [f"--labels={longer}", f"--run_dir={tmp_path / 'run'}"]
    assert import_net(tmp_path / "run", file, *flags) == 0
    words = ["evaluate", str(tmp_path / "run"), "--noten_crops"]
    assert main([*words, "--gpus=none"]) == 0
    other = longer.read_text().replace(names[3], names[3][1:], 1)
    longer.write_text(other)
    assert import_net(tmp_path / "other", file, *flags[:-1]) == 0
    assert main(["evaluate", str(tmp_path / "other"), "--gpus=none"]) == 2


def test_the_checksum_is_reported_and_recorded(
    imported, tmp_path, data_dir, capsys
):
    file = imported.parent / "net.caffemodel"
    sha1 = hashlib.sha1(file.read_bytes()).hexdigest()
    flags = ["--dataset=shapes/tiny", f"--data_dir={data_dir}", *TINY]
    assert import_net(tmp_path / "run", file, *flags) == 0
    assert f"SHA-1 {sha1}, not that of the published" in capsys.readouterr().out
    result = json.loads((imported / "result.json").read_text())
    assert result["sha1"] == sha1 and result["imported_from"] == str(file)


def test_a_network_without_normalization_does_not_fit(
    imported, tmp_path, capsys
):
    net = make_weights(67, classes=12, width=0.1)
    order = [name for name in ALEXNET if name != "norm2"]
    file = write_caffemodel(tmp_path / "net.caffemodel", net, order, v1=False)
    flags = ["--dataset=shapes/tiny", *TINY]
    assert import_net(tmp_path / "run", file, *flags) == 2
    message = "pool2 (Pooling) follows relu2, in this network LRN; check --lrn"
    assert message in capsys.readouterr().err


# --- Two towers on two devices.


def test_only_the_maps_at_the_border_cross():
    config, _ = parse(
        ["--flagfile=flags/caffe_alexnet.cfg", "--virtual_devices=2"]
    )
    devices = connect(config)
    info = placeholder_info(map(str, range(1000)))
    with zero_weights():
        model = build_trainer(config, info, devices)
    transfers = traffic.find_transfers(traffic.trace_training_step(model, 1))
    # Two maps of each normalization and the gradient of the other's two.
    borders = 2 * 2 * (55 * 55 + 27 * 27)
    for source in ("CPU:0", "CPU:1"):
        crossing = [t.numbers for t in transfers if t.source == source]
        assert sum(crossing) == 57_576 + borders


# --- What cannot be imported.


def damaged_files():
    """Yields a name, a change of a good file's bytes, and the message."""
    broken = "is damaged, incomplete or not a file of Caffe's"
    yield "cut", lambda good: good[: len(good) // 2], broken
    yield "one byte less", lambda good: good[:-1], broken
    text = "is a text, such as a .prototxt: a description without weights;"
    for name, content in {
        "train_val": b'name: "AlexNet"\nlayer {\n  type: "Data"\n',
        "comment": b"# \xe7\xbd\x91\r\n\r\nlayers { bottom: 'data'\r\n }\r\n",
        "long": b"layer { }\n" * 9000,
        "solver": b'net: "train_val.prototxt"\nbase_lr: 0.01\n',
    }.items():
        yield name, lambda good, content=content: content, text
    yield "nothing", lambda good: b"", "no layers with weights"
    noise = np.random.default_rng(3).bytes(100_000)
    yield "noise", lambda good: noise, broken
    classes = messages()
    solver = classes["SolverState"](iter=450_000, learned_net="a.caffemodel")
    solver.history.add().data.extend([0.5] * 3)
    yield (
        *("solver_state", lambda good: solver.SerializeToString()),
        "after 450000 iterations, without weights; give the network that was "
        "written with it, a.caffemodel.",
    )
    v0 = classes["NetParameter"](name="CaffeNet")
    v0.layers.add().layer.data.extend([0.5] * 3)
    v0 = v0.SerializeToString()
    yield "v0", lambda good: v0, "convert it with Caffe's upgrade_net_proto_bi"
    mean = classes["BlobProto"]()
    fill(mean, np.ones((3, 2, 2)), v1=True)
    mean = mean.SerializeToString()
    yield "mean", lambda good: mean, "is for --mean.)"
    png = b"\x89PNG\r\n\x1a\n" + noise
    yield "picture", lambda good: png, broken


@pytest.mark.parametrize(
    ("change", "message"),
    [pytest.param(*case, id=name) for name, *case in damaged_files()],
)
def test_damaged_and_foreign_files(
    imported, tmp_path, labels, capsys, change, message
):
    good = (imported.parent / "net.caffemodel").read_bytes()
    bad = tmp_path / "bad.caffemodel"
    bad.write_bytes(change(good))
    assert import_net(tmp_path / "run", bad, *TINY, f"--labels={labels}") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {bad} ") and message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("net.caffemodel.h5", "Caffe is installed, make a .caffemodel of it:"),
        ("net.caffemodel", "Caffe is installed, make a .caffemodel of it:"),
        ("net.solverstate.h5", "the state of a solver, in HDF5, without"),
    ],
)
def test_snapshots_in_hdf5(tmp_path, labels, capsys, name, message):
    file = tmp_path / name
    with h5py.File(file, "w") as content:
        content["data/conv1/0"] = np.ones((96, 3, 11, 11))
    flags = [*TINY, f"--labels={labels}"]
    assert import_net(tmp_path / "run", file, *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {file} is ") and message in error
    assert len(error.splitlines()) <= 3
    assert not (tmp_path / "run").exists()


def test_a_file_cut_anywhere_is_an_error(imported, tmp_path):
    good = (imported.parent / "net.caffemodel").read_bytes()
    file = tmp_path / "cut.caffemodel"
    whole = len(caffe.read_network(imported.parent / "net.caffemodel"))
    random = np.random.default_rng(4)
    for length in [*range(40), *random.integers(0, len(good), 40)]:
        file.write_bytes(good[:length])
        try:
            layers = caffe.read_network(file)
        except UserError:
            continue
        # Cut between two layers; a later check finds what is missing.
        assert len(layers) < whole


def without(name):
    return lambda net: net.pop(name)


def reshaped(net):
    net["conv2"][0] = np.repeat(net["conv2"][0], 2, axis=1)


def with_nan(net):
    net["conv3"][1][5] = np.nan


@pytest.mark.parametrize(
    ("change", "flags", "message"),
    [
        (without("conv4"), [], "no layer conv4 with weights; its layers are"),
        (reshaped, [], "conv2 (Convolution) has group: 1, this network 2; ch"),
        (with_nan, [], "conv3 has numbers that are not finite"),
        (None, ["--width=0.2"], "this network needs 20x3x11x11 and 20;"),
        (None, ["--lrn_k=2"], "norm1 (LRN) has k: 1, this network 2; check -"),
        (
            None,
            ["--lrn=off"],
            "norm1 (LRN) follows relu1, in this network Pool",
        ),
        (None, ["--lrn_size=3"], "has local_size: 5, this network 3; check --"),
        (None, ["--lrn_alpha=1e-3"], "has alpha: 0.0001, this network 0.001"),
        (None, ["--nolrn_across_towers"], "have --lrn_across_towers=False"),
        (None, ["--dropout_form=paper"], "with --dropout_form=inverted, the"),
        (None, ["--spatial_norm2"], "with --spatial_norm2=False, the settings"),
        (
            None,
            ["--activation=tanh"],
            "relu1 (ReLU) follows conv1, in this net",
        ),
        (None, ["--pool_size=2"], "pool1 (Pooling) has kernel_size: 3, this"),
        (
            None,
            ["--towers=1"],
            "conv2 (Convolution) has group: 2, this network",
        ),
        (
            None,
            ["--conv6"],
            "fc6 (InnerProduct) follows pool5, in this network",
        ),
        (
            None,
            ["--padding=2,2,1,1,1"],
            "conv1 (Convolution) has pad: 0, this net",
        ),
        (None, ["--crop_size=68"], "has 15x15 outputs there, that of this net"),
        (
            None,
            ["--dropout_rate=0.4"],
            "has dropout_ratio: 0.5, this network 0",
        ),
        (
            None,
            ["--dropout_rate=0"],
            "drop6 (Dropout) follows relu6, in this n",
        ),
        (None, ["--labels=none.txt"], "--labels=none.txt cannot be read"),
        (None, ["--dataset=shapes"], None),
        (None, ["--dataset=mnist"], "has 12 classes, --dataset=mnist has 10;"),
        (None, ["--mean=none.binaryproto"], "none.binaryproto cannot be read"),
        (None, ["--mean=grey"], "--mean=grey; give image, color, or"),
        (None, ["--mean=image"], "would have to be measured"),
    ],
)
def test_networks_and_settings_that_do_not_fit(
    imported, tmp_path, data_dir, capsys, change, flags, message
):
    file = imported.parent / "net.caffemodel"
    if change:
        net = make_weights(67, classes=12, width=0.1)
        change(net)
        file = tmp_path / "other.caffemodel"
        write_caffemodel(file, net, ALEXNET, v1=False)
    flags = ["--dataset=shapes/tiny", f"--data_dir={data_dir}", *TINY, *flags]
    code = import_net(tmp_path / "run", file, *flags)
    error = capsys.readouterr().err
    if message is None:
        assert code == 0  # The same classes.
        return
    assert code == 2 and message in error
    assert len(error.splitlines()) <= 2
    assert not (tmp_path / "run" / "dataset.json").exists()


def find(layers, name):
    (layer,) = [layer for layer in layers if layer.name == name]
    return layer


def parameter(name, parameter, **values):
    """Sets parameters of a layer."""

    def change(layers):
        message = getattr(find(layers, name), f"{parameter}_param")
        for field, value in values.items():
            if isinstance(value, list):
                message.ClearField(field)
                getattr(message, field).extend(value)
            else:
                setattr(message, field, value)

    return change


def retyped(name, number, new_type):
    """Changes the type of a layer, given its number in V1."""

    def change(layers):
        layer = find(layers, name)
        layer.type = number if isinstance(layer.type, int) else new_type

    return change


def removed(name):
    """Removes a layer; the next ones take what it took."""

    def change(layers):
        layer = find(layers, name)
        names = dict(zip(layer.top, layer.bottom, strict=True))
        layers.remove(layer)
        for other in layers:
            for blobs in (other.bottom, other.top):
                blobs[:] = [names.get(blob, blob) for blob in blobs]

    return change


def inserted(before, number, new_type, name="extra"):
    """Inserts a layer that replaces its input."""

    def change(layers):
        layer = find(layers, before)
        place = list(layers).index(layer)
        new = type(layer)(name=name, bottom=layer.bottom, top=layer.bottom)
        new.type = number if isinstance(layer.type, int) else new_type
        layers.insert(place, new)

    return change


def rewired(name, blob):
    """Lets a layer take another blob."""

    def change(layers):
        find(layers, name).bottom[:] = [blob]

    return change


def with_data(**values):
    """Adds a layer that reads images."""

    def change(layers):
        new = type(layers[0])(name="data", top=["data", "label"])
        new.type = 5 if isinstance(layers[0].type, int) else "Data"
        layers.insert(0, new)
        for place, settings in values.items():
            parameter("data", place, **settings)(layers)

    return change


def with_outputs(layers):
    """Ends a network as in training: two copies of fc8, for two layers."""
    of_v1 = isinstance(layers[0].type, int)
    copies = ["fc8_0", "fc8_1"]
    split = layers.add(name="split", bottom=["fc8"], top=copies)
    split.type = 22 if of_v1 else "Split"
    loss = layers.add(name="loss", bottom=["fc8_0", "label"], top=["loss"])
    loss.type = 21 if of_v1 else "SoftmaxWithLoss"
    accuracy = layers.add(name="accuracy", bottom=["fc8_1", "label"])
    accuracy.type = 1 if of_v1 else "Accuracy"


# A change of a network, and what the message contains.
OTHER_NETWORKS = [
    (parameter("pool1", "pooling", pool=1), "pool1 (Pooling) has pool: AVE, "),
    (parameter("pool5", "pooling", pool=2), "has pool: STOCHASTIC, this netw"),
    (parameter("pool2", "pooling", pool=7), "pool2 (Pooling) has pool: 7, th"),
    (parameter("pool2", "pooling", kernel_size=2), "kernel_size: 2, this net"),
    (parameter("pool1", "pooling", stride=1), "stride: 1, this network 2; a "),
    (parameter("pool1", "pooling", pad=1), "pool1 (Pooling) has pad: 1, this"),
    (parameter("pool1", "pooling", pad_h=1), "pool1 (Pooling) has pad: 1x0, "),
    (parameter("pool5", "pooling", kernel_h=3, kernel_w=2), "size: 3x2, this"),
    (parameter("pool5", "pooling", stride_h=1, stride_w=1), "stride: 1, this"),
    (parameter("pool5", "pooling", global_pooling=True), "global_pooling: tr"),
    (parameter("conv1", "convolution", stride=[2]), "conv1 (Convolution) has "),
    (parameter("conv1", "convolution", pad=[2]), "2, this network 0; check --"),
    (parameter("conv2", "convolution", pad=[1]), "conv2 (Convolution) has pa"),
    (parameter("conv2", "convolution", pad=[2, 1]), "has pad: 2x1, this netw"),
    (parameter("conv3", "convolution", pad_h=0, pad_w=1), "has pad: 0x1, thi"),
    (parameter("conv3", "convolution", kernel_size=[5]), "kernel_size: 5, thi"),
    (parameter("conv4", "convolution", dilation=[2]), "dilation: 2, this net"),
    (parameter("conv4", "convolution", group=1), "1, this network 2; check --"),
    (parameter("conv5", "convolution", stride_h=2, stride_w=1), "stride: 2x1"),
    (parameter("conv5", "convolution", bias_term=False), "bias_term: false, "),
    (parameter("norm1", "lrn", norm_region=1), "norm1 (LRN) has norm_region: "),
    (parameter("norm2", "lrn", norm_region=1), "WITHIN_CHANNEL, this network"),
    (parameter("norm1", "lrn", k=2), "norm1 (LRN) has k: 2, this network 1; "),
    (parameter("norm2", "lrn", local_size=3), "local_size: 3, this network 5"),
    (parameter("norm2", "lrn", alpha=1e-3), "norm2 (LRN) has alpha: 0.001, t"),
    (parameter("norm1", "lrn", beta=0.5), "beta: 0.5, this network 0.75; che"),
    (parameter("relu3", "relu", negative_slope=0.1), "negative_slope: 0.1, t"),
    (parameter("fc6", "inner_product", bias_term=False), "fc6 (InnerProduct) "),
    (parameter("fc7", "inner_product", axis=2), "axis: 2, this network 1; a "),
    (parameter("fc8", "inner_product", transpose=True), "transpose: true, th"),
    (parameter("drop6", "dropout", dropout_ratio=0.3), "dropout_ratio: 0.3, "),
    (retyped("relu1", 23, "TanH"), "relu1 (TanH) follows conv1, in this netw"),
    (retyped("relu5", 19, "Sigmoid"), "relu5 (Sigmoid) follows conv5, in thi"),
    (retyped("relu7", 2, "BNLL"), "relu7 (BNLL) follows fc7, in this network"),
    (retyped("conv3", 39, "Deconvolution"), "conv3 (Deconvolution) follows p"),
    (retyped("drop7", 99, "type 99"), "drop7 (type 99) follows relu7, in thi"),
    (removed("relu4"), "conv5 (Convolution) follows conv4, in this network R"),
    (removed("drop7"), "fc8 (InnerProduct) follows relu7, in this network D"),
    (removed("norm1"), "pool1 (Pooling) follows relu1, in this network LRN; "),
    (removed("pool5"), "fc6 (InnerProduct) follows relu5, in this network P"),
    (removed("conv4"), "relu4 (ReLU) follows relu3, in this network conv4; c"),
    (removed("fc8"), "nothing follows drop7, in this network fc8; a network "),
    (inserted("conv1", 26, "Power"), "extra (Power) follows the images, in t"),
    (inserted("conv4", 34, "MVN"), "extra (MVN) follows relu3, in this netwo"),
    (inserted("norm2", 18, "ReLU"), "extra (ReLU) follows relu2, in this net"),
    (inserted("fc6", 8, "Flatten"), "extra (Flatten) follows pool5, in this "),
    (inserted("prob", 18, "ReLU"), "extra (ReLU) follows fc8, in this networ"),
    (rewired("conv4", "pool2"), "conv4 (Convolution) takes pool2, in this ne"),
    (rewired("fc8", "fc6"), "fc8 (InnerProduct) takes fc6, in this network "),
    (with_data(transform={"scale": 1 / 256}), "has scale: 0.00390625; only "),
    (with_data(data={"scale": 0.5}), "data has scale: 0.5; only networks of"),
    (with_data(transform={"crop_size": 224}), "data has crop_size: 224, this"),
    (with_data(data={"crop_size": 64}), "64, this network --crop_size=67; gi"),
]


@pytest.mark.parametrize("v1", [False, True])
@pytest.mark.parametrize(("change", "message"), OTHER_NETWORKS)
def test_a_network_that_computes_something_else_is_refused(
    tmp_path, capsys, change, message, v1
):
    net = make_weights(67, classes=7, width=0.02)
    file = tmp_path / "net.caffemodel"
    write_caffemodel(file, net, ALEXNET, v1=v1, change=change)
    flags = ["--width=0.02", "--crop_size=67", "--image_size=72"]
    assert import_net(tmp_path / "run", file, *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {file}: ") and message in error
    assert len(error.splitlines()) <= 3
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("order", "flags", "message"),
    [
        (
            ALEXNET,
            ["--flagfile=caffenet"],
            "norm1 (LRN) follows relu1, in this",
        ),
        (CAFFENET, [], "pool1 (Pooling) follows relu1, in this network LRN; "),
    ],
    ids=["alexnet", "caffenet"],
)
def test_the_order_of_pooling_and_normalization(
    tmp_path, capsys, order, flags, message
):
    net = make_weights(67, classes=7, width=0.02)
    file = tmp_path / "net.caffemodel"
    write_caffemodel(file, net, order, v1=True)
    flags += ["--width=0.02", "--crop_size=67", "--image_size=72"]
    assert import_net(tmp_path / "run", file, *flags) == 2
    error = capsys.readouterr().err
    assert f"{file}: {message}" in error
    assert "or give --flagfile=flags/caffenet.cfg." in error


@pytest.mark.parametrize("v1", [False, True])
def test_a_network_as_it_was_trained(tmp_path, labels, v1):
    """With data, loss and accuracy, the mean in the file, and another fc8."""

    def change(layers):
        with_data(transform=dict(crop_size=67, mean_value=[90, 100, 110]))(
            layers
        )
        with_outputs(layers)
        find(layers, "fc8").name = "fc8_flowers"
        # Both ways to write the same.
        parameter("conv2", "convolution", kernel_h=5, kernel_w=5)(layers)
        parameter("conv3", "convolution", pad=[1, 1], dilation=[1])(layers)

    net = make_weights(67, classes=7, width=0.1)
    file = tmp_path / "net.caffemodel"
    order = [name for name in ALEXNET if name != "prob"]
    write_caffemodel(file, net, order, v1=v1, change=change)
    flags = [*TINY, f"--labels={labels}"]
    assert import_net(tmp_path / "run", file, *flags) == 0
    model, _ = open_run(tmp_path / "run")
    images = images_of(67)
    expected = caffe_logits(images, net, ALEXNET, mean=(90, 100, 110))
    found = model(images, training=False)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_weights_alone_are_imported_with_a_notice(tmp_path, labels, capsys):
    net = make_weights(67, classes=7, width=0.1)
    file = tmp_path / "net.caffemodel"
    write_caffemodel(file, net, list(net), v1=False)
    flags = [*TINY, f"--labels={labels}"]
    assert import_net(tmp_path / "run", file, *flags) == 0
    assert f"{file} has weights only: nothing" in capsys.readouterr().out


def test_mean_images_that_do_not_fit(imported, tmp_path, capsys):
    file = tmp_path / "mean.binaryproto"
    for shape, message in (
        ((3, 80, 90), "has 90x80 pixels; it needs the sides of"),
        ((2, 72, 72), "not a mean image: it has shape (2, 72, 72)"),
    ):
        blob = messages()["BlobProto"]()
        fill(blob, np.ones(shape), v1=True)
        file.write_bytes(blob.SerializeToString())
        net = imported.parent / "net.caffemodel"
        flags = [*TINY, f"--mean={file}", "--dataset=shapes/tiny"]
        assert import_net(tmp_path / "run", net, *flags) == 2
        assert message in capsys.readouterr().err
    network = (imported.parent / "net.caffemodel").read_bytes()
    file.write_bytes(network)
    assert import_net(tmp_path / "run", net, *flags) == 2
    assert "has 0 numbers for shape" in capsys.readouterr().err


def test_numbers_that_are_missing_take_no_memory(tmp_path):
    network = messages()["NetParameter"]()
    blob = network.layer.add(name="conv1").blobs.add()
    blob.shape.dim.extend([2**40, 2**40])
    blob.data.append(1.0)
    file = tmp_path / "huge.caffemodel"
    file.write_bytes(network.SerializeToString())
    with pytest.raises(UserError, match="has 1 numbers for shape"):
        caffe.read_network(file)


def test_a_run_is_never_overwritten(imported, capsys):
    before = (imported / "dataset.json").read_bytes()
    file = imported.parent / "net.caffemodel"
    assert import_net(imported, file, *TINY) == 2
    assert "has a run already; give another" in capsys.readouterr().err
    assert (imported / "dataset.json").read_bytes() == before


# --- torchvision's AlexNet.

# Module, size, stride and padding of each convolution; some pools follow.
TORCHVISION = [
    ("features.0", 11, 4, 2),
    "pool",
    ("features.3", 5, 1, 2),
    "pool",
    ("features.6", 3, 1, 1),
    ("features.8", 3, 1, 1),
    ("features.10", 3, 1, 1),
    "pool",
]


def make_torchvision_weights(classes, width):
    """Returns random arrays with the names in a state_dict, float32."""
    random, arrays, inputs = np.random.default_rng(5), {}, 3

    def add(module, outputs, *shape):
        spread = np.sqrt(2 / np.prod(shape))
        arrays[f"{module}.weight"] = random.normal(0, spread, (outputs, *shape))
        arrays[f"{module}.bias"] = random.normal(0, 1, outputs)

    layers = [layer for layer in TORCHVISION if layer != "pool"]
    for (module, size, *_), kernels in zip(
        layers, (64, 192, 384, 256, 256), strict=True
    ):
        add(module, round(kernels * width), inputs, size, size)
        inputs = round(kernels * width)
    neurons = round(4096 * width)
    add("classifier.1", neurons, 36 * inputs)
    add("classifier.4", neurons, neurons)
    add("classifier.6", classes, neurons)
    return {name: a.astype(np.float32) for name, a in arrays.items()}


def torchvision_logits(images, arrays):
    """Returns torchvision's logits of RGB images (batch, h, w, 3), float64."""

    def parameters(module):
        pair = arrays[f"{module}.weight"], arrays[f"{module}.bias"]
        return [array.astype(np.float64) for array in pair]

    x = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    x = x.transpose(0, 3, 1, 2)
    for layer in TORCHVISION:
        if layer == "pool":
            x = pool(x)
        else:
            module, _, stride, padding = layer
            x = convolve(x, *parameters(module), stride, padding, 1)
            x = np.maximum(x, 0)
    x = x.reshape(len(x), -1)  # The average pool of 6x6 to 6x6 does nothing.
    for module in ("classifier.1", "classifier.4", "classifier.6"):
        kernel, bias = parameters(module)
        x = np.maximum(x, 0) @ kernel.T + bias
    return x


def import_safetensors(run, file, *flags):
    flags = [*flags, f"--safetensors={file}", f"--run_dir={run}"]
    return main(["import_weights", *flags])


@pytest.fixture(scope="module")
def tensors(tmp_path_factory):
    """A file with a small network of torchvision's form, and its arrays."""
    numpy_format = pytest.importorskip("safetensors.numpy")
    arrays = make_torchvision_weights(7, 0.1)
    file = tmp_path_factory.mktemp("tensors") / "alexnet.safetensors"
    numpy_format.save_file(arrays, file)
    return file, arrays


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_logits_are_those_of_torchvision(tmp_path, labels, tensors, precision):
    """float64 takes the convolution by blocks."""
    file, arrays = tensors
    flags = [*SMALL, f"--labels={labels}"]
    assert import_safetensors(tmp_path / "run", file, *flags) == 0
    images = images_of(224)
    model, config = open_run(tmp_path / "run")
    if precision == "float64":
        info = read_dataset_info(RunDir(tmp_path / "run"))
        exact = build_network(config, info, dtype="float64")
        exact.set_weights(model.get_weights())
        model = exact
    found = model(images, training=False)
    expected = torchvision_logits(images, arrays)
    assert expected.std() > 5  # Not all alike.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_zeros_on_other_sides_matter(tmp_path, labels, tensors):
    file, arrays = tensors
    flags = [*SMALL, f"--labels={labels}"]
    assert import_safetensors(tmp_path / "run", file, *flags) == 0
    model, _ = open_run(tmp_path / "run", "--padding=0,2,1,1,1")
    images = images_of(224)
    found = model(images, training=False)
    assert np.abs(found - torchvision_logits(images, arrays)).max() > 0.01


@pytest.mark.slow
def test_logits_are_those_of_torch_itself(tmp_path, labels):
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("torchvision.models")
    from safetensors.torch import save_file

    torch.manual_seed(6)
    theirs = models.alexnet(num_classes=7).eval()
    with torch.no_grad():  # Larger ones, for logits that differ.
        for parameter in theirs.parameters():
            parameter *= 2
    file = tmp_path / "alexnet.safetensors"
    save_file(theirs.state_dict(), file)
    assert import_safetensors(tmp_path / "run", file, f"--labels={labels}") == 0
    model, _ = open_run(tmp_path / "run")
    images = images_of(224)
    std = np.array([0.229, 0.224, 0.225])
    inputs = (images / 255 - [0.485, 0.456, 0.406]) / std
    with torch.no_grad():
        inputs = torch.tensor(inputs.transpose(0, 3, 1, 2), dtype=torch.float32)
        expected = theirs(inputs).numpy()
    found = model(images, training=False).numpy()
    difference = np.abs(found - expected).max()
    print(
        f"logits up to {np.abs(expected).max():.3g}, differ by {difference:.2g}"
    )
    assert difference < 1e-5 * np.abs(expected).max()


def with_header(header, numbers=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + numbers


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"a": dict(dtype=dtype, shape=shape, data_offsets=offsets)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04" + bytes(100),  # A .pth file is a ZIP archive.
        (2**62).to_bytes(8, "little") + b"{}",
        with_header(b"[1]"),
        with_header(b"\xff{}"),
        with_header(entry(shape=(2**40, 2**40)), bytes(4)),
        with_header(entry(shape=(-1,)), bytes(4)),
        with_header(entry(offsets=(4, 8)), bytes(8)),
        with_header(entry(offsets=(0, 2**60)), bytes(4)),
        with_header(entry(dtype="F99"), bytes(4)),
    ],
    ids="empty zip size list text shape negative gap end type".split(),
)
def test_files_that_are_not_safetensors(tmp_path, capsys, content):
    pytest.importorskip("safetensors")
    file = tmp_path / "alexnet.pth"
    file.write_bytes(content)
    assert import_safetensors(tmp_path / "run", file) == 2
    error = capsys.readouterr().err
    assert f"{file} is not a safetensors file" in error
    assert f"torch.load('{file}', weights_only=True)" in error
    assert len(error.splitlines()) == 3
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "flags", "message"),
    [
        (lambda a: a.pop("features.3.bias"), [], "is not torchvision's"),
        (lambda a: a.update(extra=a["features.0.bias"]), [], "has extra."),
        (
            lambda a: a.update({"features.0.bias": np.full(6, np.nan, "f")}),
            [],
            "features.0.bias has numbers that are not finite",
        ),
        (  # Infinite in 32 bits.
            lambda a: a.update({"features.0.bias": np.full(6, 1e300)}),
            [],
            "features.0.bias has numbers that are not finite",
        ),
        (
            lambda a: a.update({"features.0.bias": np.zeros(6, np.int32)}),
            [],
            "features.0.bias has numbers of type I32; give",
        ),
        (None, ["--lrn=before_pool"], "a network with --lrn=off, the settings"),
        (None, ["--padding=0,2,1,1,1"], "with --padding=2,2,1,1,1, the"),
        (None, ["--crop_size=192"], "check --towers, --width, --kernels and"),
        (
            None,
            ["--crop_size=222"],
            "has 54x54 outputs there, that of this net",
        ),
        (None, ["--activation=tanh"], "a network with --activation=relu, the"),
        (None, ["--pool_overhang"], "with --pool_overhang=False, the set"),
        (None, ["--pool_size=2"], "a network with --pool_size=3, the settings"),
        (None, ["--dropout_form=paper"], "with --dropout_form=inverted, the"),
        (None, ["--towers=2"], "check --towers, --width, --kernels and"),
        (None, ["--caffemodel=net.caffemodel"], "give either --caffemodel="),
    ],
)
def test_tensors_and_settings_that_do_not_fit(
    tmp_path, labels, tensors, capsys, change, flags, message
):
    from safetensors.numpy import save_file

    file, arrays = tensors
    if change:
        arrays, file = dict(arrays), tmp_path / "other.safetensors"
        change(arrays)
        save_file(arrays, file)
    flags = [*SMALL, f"--labels={labels}", *flags]
    assert import_safetensors(tmp_path / "run", file, *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) <= 2
    assert not (tmp_path / "run" / "dataset.json").exists()


@pytest.mark.parametrize("dtype", ["BF16", "F4", "F8_E5M2", "BOOL"])
def test_other_types_of_numbers(tmp_path, capsys, dtype):
    pytest.importorskip("safetensors")
    file = tmp_path / "alexnet.safetensors"
    count = {"BF16": 2, "F4": 8}.get(dtype, 4)
    file.write_bytes(with_header(entry(dtype, (count,)), bytes(4)))
    assert import_safetensors(tmp_path / "run", file) == 2
    message = f"{file}: a has numbers of type {dtype}; give a file with"
    assert message in capsys.readouterr().err


def test_a_file_of_tensors_that_is_missing(tmp_path, capsys):
    pytest.importorskip("safetensors")
    file = tmp_path / "none.safetensors"
    assert import_safetensors(tmp_path / "run", file) == 2
    assert f"{file} cannot be read" in capsys.readouterr().err


def test_no_file_to_import(tmp_path, capsys):
    assert main(["import_weights", f"--run_dir={tmp_path}"]) == 2
    assert "give either --caffemodel=FILE" in capsys.readouterr().err


def test_the_former_name_of_the_command(tmp_path, capsys):
    flags = [f"--run_dir={tmp_path}", f"--caffemodel={tmp_path}/none"]
    assert main(["import_caffe", *flags]) == 2
    assert f"{tmp_path}/none cannot be read" in capsys.readouterr().err
    assert main(["import_caffe", "--help"]) == 0
    assert "import_weights" in capsys.readouterr().out
