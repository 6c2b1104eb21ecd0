"""Imports flow one way, and the package's top level is what it says."""

import ast
import re
from pathlib import Path

import disback_plugin

PACKAGE = Path(disback_plugin.__file__).parent
# left may not import right; what stands in one group may import each other
ORDER = [
    {"errors", "counting"},
    {"config_base"},
    {"distributed", "optimizer_state", "path", "diffusion", "networks", "metrics", "data"},
    {"adaptive", "schedule"},
    {"edm", "consistency"},
    {"config", "real_score"},
    {"judge", "turn"},
    {"recorder"},
    {"adapter", "reuse", "session_checks"},
    {"session_state", "session"},
    {"adapters", "testing"},
    {"trainer", "pretrained"},
    {"report"},
    {"compare"},
    {"patching"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, group in enumerate(ORDER) for name in group}


def imports_of(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: write imports in full"
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        for module in modules:
            parts = module.split(".")
            if parts[0] == "disback_plugin" and len(parts) > 1:
                found.add(parts[1])
    return found


def test_every_module_has_its_place_and_imports_only_what_comes_before_it():
    wrong = []
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if name == "__init__":
            continue
        assert name in LEVEL, f"{file} has no place in the order of imports"
        wrong += [
            f"{file.relative_to(PACKAGE)} imports {other}"
            for other in imports_of(file)
            if LEVEL.get(other, -1) > LEVEL[name]
        ]
    assert wrong == []


def test_the_report_reads_run_folders_only():
    for file in (PACKAGE / "report").rglob("*.py"):
        assert "trainer" not in imports_of(file), file


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
