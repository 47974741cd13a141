"""Tables of files stay outside of graphs, whatever the size of a data set."""

import pytest
import tensorflow as tf

from alexnet_tf.data import tfds_source
from tests.data import growth
from tests.data.test_prepared import open_prepared, prepare


def graph_bytes(examples):
    """Returns the size of the graph that looks examples up."""
    fetch = tf.function(examples.fetch)
    indices = tf.TensorSpec([None], tf.int64)
    graph = fetch.get_concrete_function(indices).graph
    return graph.as_graph_def().ByteSize()


def test_graphs_do_not_grow_with_the_files(tmp_path):
    """The names alone have 6,000 bytes."""
    folder, prepared = tmp_path / "files", tmp_path / "prepared"
    growth.write_links(folder, 300, classes=2)
    dataset = f"folder:{folder}"
    assert prepare(prepared, dataset) == 0
    for examples in (
        tfds_source.open_split(dataset, "train"),
        open_prepared(prepared, dataset, "train"),
    ):
        assert graph_bytes(examples) < 3000


@pytest.mark.slow
@pytest.mark.parametrize("is_prepared", [False, True])
def test_the_memory_of_a_start(is_prepared, tmp_path):
    grown = {}
    for files in (10_000, 200_000):
        root, flags = tmp_path / str(files), []
        growth.write_links(root, 10_000 if is_prepared else files)
        if is_prepared:
            growth.write_prepared(root, tmp_path / f"p{files}", files)
            flags = [f"--prepared_dir={tmp_path}/p{files}"]
        costs = growth.costs_of(root, *flags)
        print(files, costs)
        grown[files] = costs["resumed batch [GB]"] - costs["listing [GB]"]
    # Copies of the names in graphs took more than 0.3 GB.
    assert grown[200_000] < grown[10_000] + 0.05
