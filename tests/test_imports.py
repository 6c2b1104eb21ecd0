"""Imports flow one way, module by module, and the package's top level is what it says."""

import ast
import re
from pathlib import Path

import disback_plugin

PACKAGE = Path(disback_plugin.__file__).parent
# Levels: what stands left may not import what stands right; names on one level do not import each
# other. A folder is one name here; within it the test for circles holds.
LEVELS = """
errors lazy_names
reading
plain_yaml version
distributed config_base
files tensors
foreign_weights aside sealed
shards
path diffusion
schedule
config real_score
measure
adapter recorded
recorder progress
session
adapters testing
pretrained
lab/data lab/networks lab/noise lab/grid
lab/metrics
lab/problems lab/results
lab/config
lab/report lab/tables
lab/trainer
lab/compare lab/sampling
lab/evaluation lab/export
lab/smoke
cli
"""
LEVEL = {
    name: level for level, line in enumerate(LEVELS.strip().splitlines()) for name in line.split()
}
LEVEL |= {"patching": LEVEL["files"], "__main__": LEVEL["cli"] + 1}


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def imports_of(module: str) -> set[str]:
    """Modules of ours that a file names in its imports, those inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module}: write imports in full"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in FILES else node.module)
    return {name for name in found if name in FILES} - {module, "disback_plugin"}


IMPORTS = {module: imports_of(module) for module in FILES}


def place_of(module: str) -> str:
    """The name in LEVELS: a file or folder of the package, of `lab` the folder within it."""
    parts = module.split(".")[1:]
    return "/".join(parts[:2] if parts[:1] == ["lab"] else parts[:1])


def test_every_module_has_its_place_and_imports_only_what_comes_before_it():
    places = {module: place_of(module) for module in FILES}
    assert set(places.values()) - {"", "lab"} == set(LEVEL)
    wrong = [
        f"{module} imports {other}"
        for module, imported in IMPORTS.items()
        for other in sorted(imported)
        if places[module] not in ("", "lab", places[other])
        and LEVEL[places[other]] >= LEVEL[places[module]]
    ]
    assert wrong == []


def test_no_module_imports_itself_by_way_of_others():
    circles, done = set(), set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        if module in way:
            circle = way[way.index(module) :]
            first = circle.index(min(circle))
            circles.add(" -> ".join([*circle[first:], *circle[:first], min(circle)]))
        elif module not in done:
            for other in sorted(IMPORTS[module]):
                visit(other, (*way, module))
            done.add(module)

    for module in sorted(IMPORTS):
        visit(module, ())
    assert circles == set()


def test_patching_knows_errors_and_settings_only():
    for module in FILES:
        if place_of(module) == "patching":
            places = {place_of(other) for other in IMPORTS[module]}
            assert places <= {"patching", "errors", "config_base"}, module


def test_the_report_reads_results_only():
    for module in FILES:
        if place_of(module) == "lab/report":
            assert "lab/trainer" not in {place_of(other) for other in IMPORTS[module]}, module


def test_the_public_names_are_there():
    assert set(disback_plugin.__all__) >= {
        *("DisBack", "DisBackConfig", "DegradationPath", "RealScore", "FixedTeacher"),
        *("PathNodeScheduler", "register_adapter", "get_adapter", "list_adapters"),
    }
    for name in disback_plugin.__all__:
        assert getattr(disback_plugin, name) is not None


def test_nothing_unpickles():
    for file in PACKAGE.rglob("*.py"):
        source = file.read_text()
        for word in ("pickle.load", "allow_pickle=True"):
            assert word not in source, f"{file}: {word}"
        # others' formats only, and only as weights
        loads = re.findall(r"torch\.load\(.*\)", source)
        assert source.count("torch.load(") == len(loads)
        assert all("weights_only=True" in load for load in loads), file
