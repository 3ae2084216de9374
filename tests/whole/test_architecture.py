"""The arrows of import and the house rules, read from the syntax trees."""

import ast
import re
import subprocess
import sys
from functools import cache
from itertools import pairwise

import pytest
from places import ROOT

ENGINE = sorted((ROOT / "gpucnn").rglob("*.py"))
KERNELS = sorted((ROOT / "kernels").rglob("*.py"))

ROOMS = (
    ("__main__",),
    ("cli",),
    ("runs",),
    ("exchange",),
    ("datasets", "plots"),
    ("models",),
    ("callbacks",),
    ("optimizers",),
    ("metrics",),
    ("losses",),
    ("layers",),
    ("activations", "constraints", "initializers", "regularizers", "utils"),
    ("profiling",),
    ("kernels",),
    ("ops",),
    ("dispatch",),
    ("distributed",),
    ("devices",),
    ("places", "progress"),
    ("files", "config", "random"),
    ("arguments",),
    ("retired",),
    ("errors", "version"),
)
"""From the roof down. A file imports from its folder and from lower rooms, not from its row."""

FLOOR = {room: number for number, row in enumerate(ROOMS) for room in row}
LINES = 450
"""The budget of a file."""

TOTAL = 49_900  # recipes, sweeps, notebooks, exchange, shared compilation, ranks, fused pooling and volumes, profiles
"""The budget of gpucnn/ without kernels and emulator: raise it only in a commit that says what for."""

LONGER: dict[str, str] = {}
"""Files above the budget, and why."""


def sources(root=ROOT):
    """Every Python file of gpucnn and kernels, by its name in the package."""
    found = {}
    for folder, package in ((root / "gpucnn", ("gpucnn",)), (root / "kernels", ("gpucnn", "kernels"))):
        for path in sorted(folder.rglob("*.py")):
            parts = (*package, *path.relative_to(folder).with_suffix("").parts)
            found[".".join(parts)] = path
    return found


@cache
def imports(module, path):
    """(line, module or package, name) of each import of gpucnn's in a file, in functions and for types as well."""
    package = module.split(".")[:-1]
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            found += [(node.lineno, origin, alias.name) for alias in node.names]
    return [entry for entry in found if entry[1].split(".")[0] == "gpucnn"]


def arrows(files):
    """(importing file, imported file) for each import."""
    found = set()
    for module, path in files.items():
        for line, origin, name in imports(module, path):
            choices = (f"{origin}.{name}", f"{origin}.{name}.__init__", origin, f"{origin}.__init__")
            target = next((choice for choice in choices if choice in files), None)
            assert target, f"{path}:{line} imports {origin}.{name}, which is not a file of gpucnn"
            if target != module:
                found.add((module, target))
    return found


def room(module):
    """The folder or file directly in gpucnn to which a module belongs."""
    return module.split(".")[1]


def wrong_arrows(files):
    """Imports that go up, or sideways between rooms of one row."""
    return sorted(
        f"{importing} imports {imported}"
        for importing, imported in arrows(files)
        if importing != "gpucnn.__init__"
        and room(importing) != room(imported)
        and FLOOR[room(importing)] >= FLOOR.get(room(imported), -1)
    )


def circle(files):
    """Files that import each other in a circle; empty if there are none."""
    imports = {module: set() for module in files}
    for importing, imported in arrows(files):
        imports[importing].add(imported)
    while True:
        leaves = [module for module, targets in imports.items() if not targets]
        if not leaves:
            return sorted(imports)
        for module in leaves:
            del imports[module]
        for targets in imports.values():
            targets.difference_update(leaves)


def test_every_file_and_folder_of_the_package_is_a_room():
    assert {room(module) for module in sources()} - {"__init__"} == set(FLOOR)


def test_imports_go_down_only():
    assert wrong_arrows(sources()) == []


def test_nothing_in_the_engine_names_a_kernel():
    assert not {arrow for arrow in arrows(sources()) if room(arrow[1]) == "kernels" != room(arrow[0])}


def test_kernels_import_no_other_kernel_and_no_layer():
    below = {room for number, row in enumerate(ROOMS) for room in row if number > FLOOR["kernels"]}
    for importing, imported in arrows(sources()):
        if room(importing) == "kernels":
            assert room(imported) in below or imported.startswith("gpucnn.kernels.shared."), (importing, imported)


def test_no_files_import_each_other_in_a_circle():
    assert circle(sources()) == []


@pytest.mark.parametrize(
    ("module", "line", "arrow"),
    [
        ("ops/conv2d.py", "from ..layers.dense import Dense", "gpucnn.ops.conv2d imports gpucnn.layers.dense"),
        ("devices/cpu.py", "from .. import dispatch", "gpucnn.devices.cpu imports gpucnn.dispatch.__init__"),
        ("losses/loss.py", "import gpucnn.metrics", "gpucnn.losses.loss imports gpucnn.metrics"),
        (
            "kernels/bias/rows_cuda.py",
            "def f():\n    from gpucnn.layers.dense import Dense",
            "gpucnn.kernels.bias.rows_cuda imports gpucnn.layers.dense",
        ),
        ("activations.py", "from .constraints import NonNeg", "gpucnn.activations imports gpucnn.constraints"),
    ],
)
def test_a_planted_import_that_goes_up_is_seen(tmp_path, module, line, arrow):
    files = sources()
    name = "gpucnn." + module.removesuffix(".py").replace("/", ".")
    planted = tmp_path / "planted.py"
    planted.write_text(f"{files[name].read_text()}\n\n{line}\n")
    files[name] = planted
    assert any(arrow in found for found in wrong_arrows(files))


def test_a_planted_circle_is_seen(tmp_path):
    files = sources()
    planted = tmp_path / "planted.py"
    planted.write_text(f"{files['gpucnn.errors'].read_text()}\n\nfrom . import retired\n")
    files["gpucnn.errors"] = planted
    assert {"gpucnn.errors", "gpucnn.retired"} <= set(circle(files))


def test_the_folder_list_fits_on_one_screen():
    entries = [path for path in (ROOT / "gpucnn").iterdir() if path.name != "__pycache__"]
    assert sum(path.is_dir() for path in entries) <= 15
    assert sum(path.suffix == ".py" for path in entries) <= 17


def test_no_file_is_longer_than_its_budget():
    lines = {module: len(path.read_text().splitlines()) for module, path in sources().items()}
    assert {module for module, count in lines.items() if count > LINES} == set(LONGER)


def test_the_engine_stays_within_its_budget():
    elsewhere = ("gpucnn.kernels.", "gpucnn.devices.emulator.")
    counted = [path for module, path in sources().items() if not module.startswith(elsewhere)]
    assert sum(len(path.read_text().splitlines()) for path in counted) <= TOTAL


@pytest.mark.parametrize("module", ["gpucnn", "gpucnn.cli"])
def test_importing_gpucnn_loads_no_heavy_library(module):
    heavy = "{'numba', 'cupy', 'matplotlib', 'PIL', 'rich', 'pooch', 'torch', 'onnx', 'h5py', 'mpi4py'}"
    code = f"import sys, {module}; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_cupy_is_imported_where_arrays_of_a_gpu_are_made_alone():
    for file in ENGINE + KERNELS:
        if (
            file.name
            not in ("choose.py", "gpu.py", "gpu_branch.py", "gpu_clock.py", "gpu_feed.py", "gpu_fetch.py", "nccl.py")
            and "cupy" in file.read_text()
        ):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [a.name for a in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
                module = getattr(node, "module", None) or ""
                assert not any(n.split(".")[0] == "cupy" for n in [*names, module]), f"{file} imports cupy"


def test_no_exclusion_marks_and_no_unfinished_places():
    for file in ENGINE + KERNELS:
        text = file.read_text()
        assert "pragma: no cover" not in text, file
        assert "TODO" not in text and "FIXME" not in text, file


def opened_without_encoding(path):
    """Lines that read or write text in whatever encoding the user's locale has."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        builtin = isinstance(node.func, ast.Name)
        name = node.func.id if builtin else getattr(node.func, "attr", "")
        keywords = {keyword.arg for keyword in node.keywords}
        binary = any("b" in str(a.value) for a in node.args[1:2] if isinstance(a, ast.Constant))
        text = name in ("read_text", "write_text") or (builtin and name == "open" and not binary) or "text" in keywords
        if text and "encoding" not in keywords:
            found.append(node.lineno)
    return found


def test_text_files_are_utf_8_whatever_the_locale():
    for file in ENGINE + KERNELS:
        assert not opened_without_encoding(file), f"{file} reads or writes text without encoding="


def test_a_planted_file_without_encoding_is_seen(tmp_path):
    planted = tmp_path / "planted.py"
    planted.write_text("open(p)\nopen(p, 'rb')\np.read_text()\nrun(c, text=True)\nopen(p, encoding='utf-8')\n")
    assert opened_without_encoding(planted) == [1, 3, 4]


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


def test_a_comment_above_each_include_names_what_the_file_uses_of_the_header():
    """It calls a function of the header, or its launcher runs a kernel in the header."""

    def without_comments(text):
        return re.sub(r"//[^\n]*", "", text)

    headers = {path.name: without_comments(path.read_text()) for path in (ROOT / "kernels" / "include").glob("*.cuh")}
    for file in sorted([*(ROOT / "kernels").rglob("*.cu"), *(ROOT / "kernels").rglob("*.cuh")]):
        text = file.read_text()
        own_code = without_comments(text)
        for above, line in pairwise(text.splitlines()):
            if match := re.match(r'\s*#\s*include "(.+)"', line):
                assert above.startswith("// defines: "), f"{file}: {line}"
                for name in above.removeprefix("// defines: ").split(", "):
                    definition = rf"(?:struct|enum|class)\b[^;{{]*\b{name}\b|\b{name}\s*[(=,}}]"
                    assert re.search(definition, headers[match[1]]), f"{file}: {match[1]} does not define {name}"
                    launched = re.search(rf'extern "C" __global__ \w+ {name}\(', headers[match[1]])
                    assert launched or re.search(rf"\b{name}\b", own_code), f"{file} does not use {name}"
