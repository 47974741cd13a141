"""Packages import from lower packages only, and without cycles inside.

`python tests/test_layering.py` prints the imports between packages.
"""

import ast
import collections
import graphlib
from pathlib import Path

# A package may import those before it.
PACKAGES = (
    *("config", "storage", "distribution", "data", "models", "evaluation"),
    *("training", "benchmarks", "commands", "train", "main", "__init__"),
)
# Neighbors that do not know each other.
APART = {("models", "data"), ("distribution", "storage")}


def imports():
    """Yields (module, imported module) as dotted names without alexnet_tf."""
    root = Path("alexnet_tf")
    modules = {
        ".".join(path.relative_to(root).with_suffix("").parts)
        for path in root.rglob("*.py")
    }
    for module in modules:
        path = root / (module.replace(".", "/") + ".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    name = f"{node.module}.{alias.name}"
                    name = name.removeprefix("alexnet_tf.")
                    found = {name, name.rpartition(".")[0]} & modules
                    if node.module.startswith("alexnet_tf") and found:
                        yield module, found.pop()


def test_packages_import_downward_only():
    for module, imported in imports():
        above, below = module.split(".")[0], imported.split(".")[0]
        assert (above, below) not in APART
        assert PACKAGES.index(below) <= PACKAGES.index(above), (
            f"{module} imports {imported}"
        )


def test_modules_have_no_cycles():
    graph = collections.defaultdict(set)
    for module, imported in imports():
        graph[module].add(imported)
    graphlib.TopologicalSorter(graph).prepare()


def test_commands_do_not_import_each_other():
    for module, imported in imports():
        both = {module.split(".")[0], imported.split(".")[0]}
        assert both != {"commands"}, f"{module} imports {imported}"


def test_only_flags_imports_absl():
    for path in Path("alexnet_tf").rglob("*.py"):
        if path != Path("alexnet_tf/config/flags.py"):
            assert "absl" not in path.read_text(), path


if __name__ == "__main__":
    arrows = collections.Counter(
        (a.split(".")[0], b.split(".")[0]) for a, b in imports()
    )
    for (above, below), count in sorted(arrows.items()):
        if above != below:
            print(f"{above:13} -> {below:13} {count:3}")
