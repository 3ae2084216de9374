"""The arrows of import and the house rules, read from the syntax trees."""

import ast
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENGINE = sorted((ROOT / "gpucnn").rglob("*.py"))
KERNELS = sorted((ROOT / "kernels").rglob("*.py"))

FORBIDDEN = {
    "ops": {"layers", "model", "training", "cli", "kernels", "optimizers", "losses", "callbacks"},
    "layers": {"model", "training", "cli", "kernels", "optimizers", "losses", "callbacks", "registry"},
    "op.py": {"ops", "layers", "model", "cli", "kernels"},
    "registry.py": {"ops", "layers", "model", "cli"},
    "device.py": {"ops", "layers", "model", "cli", "registry", "op", "kernels"},
    "model.py": {"cli", "kernels", "plots", "doctor"},
    "compiled.py": {"cli", "kernels", "plots", "doctor", "model", "training"},
    "training.py": {"cli", "kernels", "plots", "doctor", "model"},
    "check.py": {"layers", "model", "cli", "kernels"},
}


def imported(path: Path) -> set[str]:
    """The modules of gpucnn that a file imports, by their first name below `gpucnn`."""
    depth = len(path.relative_to(ROOT).parts) - 1
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("gpucnn.")}
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".")
            if node.level == depth and depth:
                names |= {module[0]} if module != [""] else {a.name for a in node.names}
            elif node.level == 0 and module[0] == "gpucnn":
                names |= {module[1]} if len(module) > 1 else {a.name for a in node.names}
    return names


@pytest.mark.parametrize("place", FORBIDDEN)
def test_imports_point_downwards(place):
    path = ROOT / "gpucnn" / place
    files = [path] if path.suffix else sorted(path.rglob("*.py"))
    assert files
    for file in files:
        assert not imported(file) & FORBIDDEN[place], f"{file.name} imports {imported(file) & FORBIDDEN[place]}"


def test_nothing_in_the_engine_names_a_kernel():
    for file in ENGINE:
        assert "kernels" not in imported(file), f"{file} imports a kernel by name"


def test_kernels_import_no_other_kernel_and_no_layer():
    for file in KERNELS:
        wrong = imported(file) & {"kernels", "layers", "model", "training", "cli"}
        assert not wrong, f"{file} imports {wrong}"


def test_importing_gpucnn_loads_no_heavy_library():
    heavy = "{'numba', 'cupy', 'matplotlib', 'PIL', 'rich', 'pooch', 'torch'}"
    code = f"import sys, gpucnn; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_cupy_is_imported_where_arrays_of_a_gpu_are_made_alone():
    for file in ENGINE + KERNELS:
        if file.name not in ("device.py", "gpu.py") and "cupy" in file.read_text():
            for node in ast.walk(ast.parse(file.read_text())):
                names = [a.name for a in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
                module = getattr(node, "module", None) or ""
                assert not any(n.split(".")[0] == "cupy" for n in [*names, module]), f"{file} imports cupy"


def test_no_exclusion_marks_and_no_unfinished_places():
    for file in ENGINE + KERNELS:
        text = file.read_text()
        assert "pragma: no cover" not in text, file
        assert "TODO" not in text and "FIXME" not in text, file


def test_nothing_unpickles_or_evaluates():
    for file in ENGINE:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                root = (
                    node.func.value.id
                    if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
                    else ""
                )
                assert name not in {"eval", "exec", "__import__"}, f"{file}:{node.lineno} calls {name}"
                assert root not in {"pickle", "marshal", "shelve", "dill"}, f"{file}:{node.lineno} uses {root}"
                for keyword in node.keywords:
                    allowed = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                    assert keyword.arg != "allow_pickle" or allowed, f"{file}:{node.lineno} allows pickle"


def test_the_arrow_test_sees_an_arrow(tmp_path, monkeypatch):
    planted = ROOT / "gpucnn" / "ops" / "conv2d.py"
    assert "op" in imported(planted)


def test_a_comment_above_each_include_names_what_the_file_uses_of_the_header():
    headers = {path.name: path.read_text() for path in (ROOT / "kernels" / "include").glob("*.cuh")}
    for file in sorted([*(ROOT / "kernels").rglob("*.cu"), *(ROOT / "kernels").rglob("*.cuh")]):
        lines = file.read_text().splitlines()
        for above, line in pairwise(lines):
            if match := re.match(r'\s*#\s*include "(.+)"', line):
                assert above.startswith("// defines: "), f"{file}: {line}"
                code = re.sub(r"//[^\n]*", "", headers[match[1]])
                for name in above.removeprefix("// defines: ").split(", "):
                    definition = rf"(?:struct|enum|class)\b[^;{{]*\b{name}\b|\b{name}\s*[(=,}}]"
                    assert re.search(definition, code), f"{file}: {match[1]} does not define {name}"
