"""The layout shows the architecture: modules import from lower rows only."""

import ast
from pathlib import Path

import pytest

ROWS = [
    {"errors"},
    {
        "caffe",
        "cluster",
        "examples",
        "geometry",
        "input_clock",
        "layer_times",
        "metrics",
        "optimizer",
        "picture_plots",
        "plateau",
        "plots",
        "progress",
        "run_dir",
        "scaling",
        "setting",
        "stopping",
        "traffic",
        "variables",
    },
    {"bad_examples", "command_settings", "data_settings", "datasets"}
    | {"folders", "meeting", "network", "preprocessing", "prepared"}
    | {"history", "scaling_plot", "shuffling", "towers"},
    {
        "caffe_weights",
        "checkpoints",
        "claims",
        "comparison",
        "dataset_facts",
        "environment",
        "inference",
    }
    | {"multi_worker", "settings", "sources", "tower_layers"},
    {
        "borders",
        "commands",
        "comparison_plot",
        "config",
        "convolution",
        "data",
        "gallery",
        "iterators",
        "layers",
        "normalisation",
    }
    | {"weights"},
    {"evaluation", "pixel_statistics", "tower_builder"},
    {"callbacks", "model", "reports", "saving", "shards", "step_benchmark"}
    | {"tensorboard_pages", "watchdogs"},
    {"assembly", "building", "input_benchmark", "loop"}
    | {"resuming", "splits"},
    {"job", "pictures", "scaling_report"},
    {
        "benchmark",
        "compare",
        "evaluate",
        "export",
        "figures",
        "inspect",
        "predict",
    }
    | {"import_caffe", "launch", "prepare", "train"},
    {"main"},
]
SEES_CONFIG = {
    "assembly",
    "building",
    "job",
    "pictures",
    "resuming",
    "scaling_report",
    "splits",
    "main",
} | ROWS[-2]
PACKAGE = Path("alexnet_tf")
MODULES = sorted(path.stem for path in PACKAGE.glob("[a-z]*.py"))


def row_of(module):
    (row,) = [number for number, row in enumerate(ROWS) if module in row]
    return row


def imports_of(module):
    """Returns the modules of the package that a module imports."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            path = node.module.split(".")
            if path == ["alexnet_tf"]:
                names = (alias.name for alias in node.names)
                yield from (name for name in names if name.islower())
            elif path[0] == "alexnet_tf":
                yield path[1]


def test_every_module_has_a_row():
    assert set(MODULES) | {"datasets"} == set().union(*ROWS)


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_from_lower_rows_only(module):
    for imported in imports_of(module):
        assert row_of(imported) < row_of(module), imported
        if imported == "config":
            assert module in SEES_CONFIG


def test_only_config_knows_absl_flags():
    for path in PACKAGE.rglob("*.py"):
        if path.name != "config.py":
            assert "absl" not in path.read_text(), path


def test_modules_are_small_enough_to_read():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 300, path
