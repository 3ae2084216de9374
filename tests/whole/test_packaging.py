"""The wheel holds all files of the checkout, and works without it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from places import ROOT


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the tracked files, with the build tools of this environment."""
    import shutil

    source = tmp_path_factory.mktemp("source")
    for name in ("gpucnn", "kernels"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source / name)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


def test_wheel_holds_every_file_of_the_engine_and_of_kernels(wheel):
    packed = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    tracked = {f"gpucnn/{p.relative_to(ROOT)}" for p in (ROOT / "kernels").rglob("*") if _counts(p)}
    tracked |= {str(p.relative_to(ROOT)) for p in (ROOT / "gpucnn").rglob("*") if _counts(p)}
    assert packed == tracked


def test_wheel_carries_licence_and_notice(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert any(n.endswith("LICENSE") for n in names)
    assert any(n.endswith("NOTICE") for n in names)


def test_unpacked_wheel_trains_outside_the_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import gpucnn\n"
        "from gpucnn import places\n"
        "from gpucnn import layers, datasets\n"
        "(x, y), _ = datasets.digits.load_data(size=8)\n"
        "stack = [gpucnn.Input((8, 8, 1)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(10)]\n"
        "model = gpucnn.Sequential(stack)\n"
        "model.compile('adam', gpucnn.losses.SparseCategoricalCrossentropy(from_logits=True))\n"
        "model.fit(x[:64, :, :, None] / 255, y[:64], verbose=0)\n"
        "print(gpucnn.__file__); print(places.folder_of_kernels())"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n{code}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    package, kernels = done.stdout.split()
    assert package.startswith(str(tmp_path)) and kernels.startswith(str(tmp_path))


def test_kernels_refuses_to_be_imported_under_its_bare_name():
    done = subprocess.run([sys.executable, "-c", "import kernels"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode != 0
    assert "import gpucnn" in done.stderr


def _counts(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and path.name != "README.md"
