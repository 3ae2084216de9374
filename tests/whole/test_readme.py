"""What README.md, kernels/README.md and CONTRIBUTING.md show works as shown, and the translation shows the same."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from itertools import product

import needs
import numpy as np
import pytest
from PIL import Image
from places import ROOT

from gpucnn.profiling import compilers, static_analysis, trials

TRANSLATION = "README.zh-CN.md"
DOCUMENTS = ("README.md", "kernels/README.md", "CONTRIBUTING.md", TRANSLATION)
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS}
ENGLISH = [text for name, text in TEXTS.items() if name != TRANSLATION]
TEXT = TEXTS["README.md"]
KERNELS = TEXTS["kernels/README.md"]


def blocks(language, *texts):
    """The code blocks of one language."""
    return [block for text in texts or ENGLISH for block in re.findall(rf"```{language}\n(.*?)```", text, re.S)]


def commands(*texts):
    """The words of each line of the shell blocks, without comments."""
    return [
        words for block in blocks("sh", *texts) for line in block.splitlines() if (words := line.split("#")[0].split())
    ]


PYTHON, CUDA, SHELL = blocks("python"), blocks("cuda"), commands()


def run(code, folder):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)


def test_the_documents_are_read():
    assert len(PYTHON) == 7 and len(CUDA) == 1 and len(SHELL) > 30


def test_training_in_python_reaches_what_the_model_can(tmp_path):
    code = next(block for block in PYTHON if "datasets.digits" in block)
    assert len(code.strip().splitlines()) <= 13
    done = run(code.replace("epochs=15", "epochs=4, verbose=0"), tmp_path)
    assert done.returncode == 0, done.stderr
    loss, accuracy = map(float, re.search(r"\[([\d.]+), ([\d.]+)\]", done.stdout).groups())
    assert accuracy >= 0.8 and loss < 1


def test_the_custom_layer_loss_and_metric_train(tmp_path):
    code = next(block for block in PYTHON if "class Scale" in block)
    code += "\n(x, y), _ = gpucnn.datasets.digits.load_data(size=8)"
    code += "\nprint(model.fit(x[..., None] / 255, y, epochs=20, verbose=0).history['hits'][-1])"
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) >= 0.8


@pytest.fixture
def pets(tmp_path):
    """A run folder of that name and photos, as the programs of the README use them."""
    for place, (name, shade) in product(("pets-images", "photos"), (("cat", 40), ("dog", 200))):
        for i in range(6):
            path = tmp_path / place / (f"{name}/{i}.png" if place != "photos" else f"{name}{i}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (24, 24), (shade, i, 0)).save(path)
    Image.new("RGB", (60, 40), (200, 0, 0)).save(tmp_path / "photo.png")
    options = ["--model", "slides", "--optimizer", "adam", "--epochs", 8, "--batch-size", 2, "--no-pictures"]
    done = gpucnn("train", "--data", "pets-images", *options, "--out", "pets", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_the_program_with_a_trained_run_prints_what_is_in_the_images(pets):
    done = run(next(block for block in PYTHON if 'run.predict("photo.png")' in block), pets)
    assert done.returncode == 0, done.stderr
    first, photo, *photos = done.stdout.splitlines()
    assert first == "['cat', 'dog'] 1.0"
    assert re.fullmatch(r"dog \(\d+\.\d %\)", photo)
    assert [line.split()[1] for line in photos] == ["cat"] * 6 + ["dog"] * 6


def test_the_web_server_answers_for_images_and_refuses_what_is_none(pets):
    code = next(block for block in PYTHON if "ThreadingHTTPServer" in block)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-c", code.replace("8000", str(port))], cwd=pets)
    try:
        address = f"http://localhost:{port}"
        answer = json.loads(posted(address, (pets / "photo.png").read_bytes(), server))
        assert answer.keys() == {"cat", "dog"} and answer["dog"] > answer["cat"]
        with pytest.raises(urllib.error.HTTPError) as refused:
            posted(address, b"no image", server)
        assert refused.value.code == 400
        assert "the image is not a PNG" in json.loads(refused.value.read())["error"]
    finally:
        server.terminate()
        server.wait()


def posted(address, body, server):
    """What a server answers, once it is ready."""
    while True:
        try:
            return urllib.request.urlopen(address, data=body, timeout=60).read()
        except urllib.error.HTTPError:
            raise
        except OSError:
            assert server.poll() is None, "the server ended"
            time.sleep(0.1)


def gpucnn(*arguments, cwd=None, **settings):
    command = [sys.executable, "-m", "gpucnn", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **settings})


def write_custom_kernels(folder, damage=lambda text: text):
    """Write the custom kernels of the documents to files: numba.cuda, and CUDA C++ with its three lines."""
    (source,) = CUDA
    (folder / "mine_numba.py").write_text(damage(next(block for block in PYTHON if "def convolve" in block)))
    (folder / "mine.py").write_text(next(block for block in PYTHON if "cuda_function" in block))
    (folder / "mine.cu").write_text(damage(source))


def few_images(path):
    """A data set of eight training and eight test images."""
    rng = np.random.default_rng(0)
    arrays = {
        f"{name}_{half}": rng.integers(0, 4, (8, 20, 20) if name == "x" else 8)
        for name in "xy"
        for half in ("train", "test")
    }
    np.savez(path, **{n: a.astype("uint8") for n, a in arrays.items()})
    return path


@needs.emulator_here
@pytest.mark.parametrize("file", ["mine_numba.py", "mine.py"])
def test_custom_kernels_pass_the_check_and_are_listed_with_ours(tmp_path, file):
    write_custom_kernels(tmp_path)
    done = gpucnn("check", "--load", tmp_path / file, "--mode", "check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of 1 kernel: 0 wrong" in done.stdout
    done = gpucnn("bench", "--load", tmp_path / file, "--case", "slides_1", "--list")
    assert f"/{file.removesuffix('.py')}, " in done.stdout


@needs.emulator_here
def test_a_custom_kernel_trains(tmp_path):
    write_custom_kernels(tmp_path)
    options = next(line for line in SHELL if "conv2d=mine" in line)[2:]
    options = [tmp_path / word if word == "mine_numba.py" else word for word in options]
    more = ["--data", few_images(tmp_path / "few.npz"), "--model", "slides", "--no-pictures", "--out", tmp_path / "run"]
    done = gpucnn("train", *options, *more, GPUCNN_DEBUG="2")
    assert done.returncode == 0, done.stderr
    assert "mine_numba convolve: float32" in done.stderr


@needs.emulator_here
def test_faults_of_custom_kernels_are_named_with_their_line(tmp_path):
    write_custom_kernels(
        tmp_path, lambda text: text.replace("i < size", "i <= size").replace("i >= y.size", "i > y.size")
    )
    done = gpucnn("check", "--load", tmp_path / "mine.py", "--mode", "check")
    assert done.returncode == 1
    report = re.search(r"reports: `add: (.*?)\(…\) \(mine.cu:4\)`", " ".join(KERNELS.split()))[1]
    assert f"add: {report}" in done.stdout and "(mine.cu:4)" in done.stdout
    done = gpucnn("check", "--load", tmp_path / "mine_numba.py", "--mode", "check")
    assert done.returncode == 1
    assert re.search(r"outside of every array.*\(mine_numba.py:\d+\)", done.stdout)


@needs.emulator_here
def test_the_check_in_python_finds_what_the_command_finds(tmp_path):
    checking = next(block for block in PYTHON if "check.disagreement" in block)
    write_custom_kernels(tmp_path)
    assert run(checking, tmp_path).returncode == 0
    write_custom_kernels(tmp_path, lambda text: text.replace("x[i] + b", "x[i] - b"))
    assert "AssertionError" in run(checking, tmp_path).stderr


def test_the_ladder_of_the_readme_is_what_the_compilers_say():
    if static_analysis.unavailable() or compilers.disassembler() is None:
        pytest.skip("no compiler for GPUs here")
    rows = re.findall(r"^\| `(matmul|conv2d)/(\w+)` \|[^|]*\| (\S+) \| (\S+) \| (\d+) % \|$", KERNELS, re.MULTILINE)
    assert len(rows) == 9
    for op, algorithm, by_global, by_shared, share in rows:
        (kernel,) = [k for k in trials.every_kernel(f"{op}/{algorithm}_cuda") if k.op.name == op]
        name = {"matmul": "cifar_dense_1", "conv2d": "mlearning_2"}[op]
        case = next(c for c in kernel.op.cases if c.name == name)
        main = max(static_analysis.of_kernel(kernel, case, "sm_90"), key=lambda f: f.ffma_share or 0.0)
        for stated, measured in ((by_global, main.flops_per_global_byte), (by_shared, main.flops_per_shared_byte)):
            assert measured is None if stated == "–" else measured == pytest.approx(float(stated), rel=0.15)
        assert main.ffma_share == pytest.approx(int(share) / 100, abs=0.05)


def without_settings(words):
    """A command without the environment variables in front of it."""
    return words[next((i for i, word in enumerate(words) if "=" not in word), len(words)) :]


GPUCNN = [words for line in SHELL if (words := without_settings(line))[:1] == ["gpucnn"]]


@pytest.mark.parametrize("words", GPUCNN, ids=" ".join)
def test_commands_of_the_readme_know_their_options(words):
    group = words[1:3] if words[1] in ("kernels", "data") else words[1:2]
    done = subprocess.run([sys.executable, "-m", "gpucnn", *group, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for word in words:
        if word.startswith("--"):
            assert word in done.stdout, f"{' '.join(words)}: {word} is not in --help"


def test_commands_of_the_readme_run_one_after_the_other(tmp_path):
    """On the embedded digits in the place of data sets to download, and on pictures that are made here."""
    for folder, name, shade in product(("my-images", "more-images"), ("cats", "dogs"), range(0, 250, 25)):
        (tmp_path / folder / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (shade, 0, 0)).save(tmp_path / folder / name / f"{shade}.png")
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (50, 40)).save(tmp_path / "photos" / "a.webp")
    photo = np.full((60, 40), 230, np.uint8)
    photo[15:45, 18:23] = 20  # a dark 1 on light paper
    Image.fromarray(photo).save(tmp_path / "photo.png")
    ran = []
    for words in commands(TEXT):
        needs_gpu = "--backend" in words
        if words[0] != "gpucnn" or words[1] == "doctor" or needs_gpu:
            continue
        words = ["digits" if word in ("mnist", "fashion_mnist", "cifar10") else word for word in words[1:]]
        if words[0] == "train" and "--epochs" not in words:
            words += ["--epochs", "1", "--no-pictures"]
        done = gpucnn(*words, cwd=tmp_path, GPUCNN_OFFLINE="1")
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        ran.append(words[0])
    assert {"train", "evaluate", "predict", "models"} <= set(ran)


@needs.emulator_here
def test_commands_of_the_kernels_readme_run(tmp_path):
    """Those on built-in kernels, each cut down to a part that takes seconds."""
    shorter = {
        "list": ["--arch", "none"],
        "show": ["--arch", "none"],
        "check": ["--largest", "0.001"],
        "bench": ["--list"],
        "tune": ["--batch-size", "2", "--device", "cpu"],
        "train": ["--data", few_images(tmp_path / "few.npz"), "--no-pictures", "--out", tmp_path / "run"],
    }
    ran = set()
    for line in commands(KERNELS):
        words = without_settings(line)
        if words[0] == "gpucnn" and "--load" not in words:
            settings = dict(word.split("=") for word in line[: len(line) - len(words)])
            name = words[2] if words[1] == "kernels" else words[1]
            done = gpucnn(*words[1:], *shorter[name], **settings)
            assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
            ran.add(name)
    assert ran == set(shorter)


def test_targets_of_make_that_the_documents_name_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = [words[1] for words in SHELL if words[:1] == ["make"]]
    assert named and set(named) <= set(targets)


def without_comments(block):
    """The lines of code of a block; a # inside of quotes is not met in these."""
    return [line.split("  #")[0].rstrip() for line in block.splitlines()]


def contents(text):
    """What a translation keeps: code with its comments left out, links, the shape, names in code, and numbers."""
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    code = {" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)}
    return {
        "python": [without_comments(block) for block in blocks("python", text)],
        "sh": commands(text),
        "text": blocks("text", text),
        "links": re.findall(r"\]\(([^)]+)\)", prose),
        "headings": [heading.count("#") for heading in re.findall(r"^#+ ", text, re.MULTILINE)],
        "rows": len(re.findall(r"^\|", text, re.MULTILINE)),
        "names": code,
        "numbers": sorted(re.findall(r"(?<![A-Za-z.\d])\d[\d.]*\d", re.sub(r"`[^`]+`", "", prose))),
    }


@pytest.mark.parametrize("part", contents(TEXT))
def test_the_translation_says_the_same(part):
    """Whoever changes README.md changes README.zh-CN.md too."""
    expected, actual = contents(TEXT)[part], contents(TEXTS[TRANSLATION])[part]
    if part == "links":  # in the order of another grammar, and each to the other language
        expected, actual = sorted({*expected} - {TRANSLATION}), sorted({*actual} - {"README.md"})
    if part == "names":  # a remark on fonts for Chinese
        actual = actual - {".txt"}
    assert actual == expected


def test_the_translation_is_in_chinese_and_each_page_links_the_other():
    prose = re.sub(r"```.*?```|`[^`]*`|\([^)]*\)", "", TEXTS[TRANSLATION], flags=re.S)
    assert len(re.findall(r"[\u4e00-\u9fff]", prose)) > 1200
    assert f"]({TRANSLATION})" in TEXT and "](README.md)" in TEXTS[TRANSLATION]


def test_the_gpus_that_have_records_are_named_where_the_documents_say_what_is_shown():
    cards = {folder.name.split("-")[1].upper() for folder in (ROOT / "bench" / "results").glob("nvidia-*")}
    assert cards
    for text in (TEXT, TEXTS[TRANSLATION], KERNELS):
        introduction = text.split("\n## ")[0]
        assert all(card in introduction for card in cards)


def test_no_placeholder_is_left():
    for name, text in TEXTS.items():
        assert "@@" not in text, name


def test_the_readme_is_short():
    assert len(TEXT.splitlines()) <= 200


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_line_of_prose_is_long(name):
    prose = re.sub(r"```.*?```", lambda block: "\n" * block[0].count("\n"), TEXTS[name], flags=re.S)
    long = [n for n, line in enumerate(prose.splitlines(), 1) if len(line) > 100 and not line.startswith("|")]
    assert not long, f"{name}: lines {long} have more than 100 characters"


TOP = {path.name for path in ROOT.iterdir()} - {"runs"}
PLACEHOLDER = re.compile(r"<\w+>")


def paths(name):
    """The paths that a document names: targets of links, and code that begins with a file or folder of the checkout."""
    prose = re.sub(r"```.*?```", "", TEXTS[name], flags=re.S)
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", prose) if "://" not in link]
    found = {(ROOT / name).parent / link for link in links}
    for code in re.findall(r"`([^`\s]+)`", prose):
        if code.split("/")[0] in TOP and ("/" in code or "." in code):
            found.add(ROOT / PLACEHOLDER.sub("*", code))
    return sorted(found)


@pytest.mark.parametrize(("name", "path"), [(n, p) for n in DOCUMENTS for p in paths(n)], ids=str)
def test_every_path_that_a_document_names_exists(name, path):
    place = os.path.relpath(path, ROOT)
    assert any(ROOT.glob(place)), f"{name} names {place}, which is not there"


def test_paths_are_seen():
    assert ROOT / "kernels/README.md" in paths("README.md")
    assert ROOT / "gpucnn/ops" in paths("CONTRIBUTING.md")
    assert ROOT / "kernels/*/*_*.py" in paths("CONTRIBUTING.md")
