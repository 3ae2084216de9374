"""The report is one page that needs nothing else, says what the run folder says, and runs nothing."""

import base64
import io
import json
import shlex
import shutil
from html.parser import HTMLParser

import needs
import numpy as np
import pytest
from command import gpucnn
from PIL import Image

from gpucnn.errors import ArgumentError, FileError
from gpucnn.runs import commands, report
from gpucnn.runs.settings import RunSettings

HOSTILE = "<script>alert(1)</script>\"' &amp; $page"
VOID = {"meta", "img", "br"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two epochs with classes whose names are HTML, and its data."""
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    y = np.arange(36) % 2
    x = rng.integers(0, 60, (36, 28, 28)).astype(np.uint8)
    x[y == 1, 8:20, 8:20] += 150
    names = np.array([HOSTILE, "full"])
    np.savez(folder / "d.npz", x_train=x, y_train=y, x_test=x[:12], y_test=y[:12], classes=names)
    settings = RunSettings(data=str(folder / "d.npz"), model="slides", optimizer="adam", epochs=2, batch_size=12)
    return commands.train(settings, folder / "run", pictures=False).folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(trained, tmp_path / "run")


class Page(HTMLParser):
    """A page in parts; every element must be closed by its own tag."""

    def __init__(self, text):
        super().__init__()
        self.text, self.tags, self.images, self.addresses, self.open, self.styles, self.commands = (
            "",
            [],
            [],
            [],
            [],
            [],
            [],
        )
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append(tag)
        assert not [name for name in values if name.startswith("on")]
        self.addresses += [values[name] for name in ("src", "href") if name in values]
        if tag == "img":
            assert values["alt"] and int(values["width"]) > 0 and int(values["height"]) > 0
            self.images.append((values["alt"], values["src"]))
        if tag == "pre":
            self.commands.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["style"]:
            self.styles.append(data)
        else:
            self.text += data
            if "pre" in self.open:
                self.commands[-1] += data


def page_of(path):
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_holds_all_pictures_and_loads_nothing(run):
    path = report.write([run])
    assert path == run / "report.html"
    page = page_of(path)
    assert [alt for alt, _ in page.images] == [
        "learning curves", "confusion matrix", "predictions", "filters", "feature maps", "explanations",
    ]  # fmt: skip
    for _, source in page.images:
        image = Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,"))))
        image.load()
        assert image.size[0] > 300
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in page.addresses)
    assert {"script", "link", "iframe", "object"}.isdisjoint(page.tags)
    (style,) = page.styles
    assert "prefers-color-scheme: dark" in style and "url(" not in style and "@import" not in style
    assert "default-src 'none'" in path.read_text()


def test_the_page_says_what_the_run_says(run):
    record = json.loads((run / "run.json").read_text())
    page = page_of(report.write([run]))
    assert f"{100 * record['test_accuracy']:.2f} %" in page.text
    assert f"{record['test_loss']:.4f}" in page.text and record["weights_sha256"] in page.text
    assert "(5·5·10 + 1)·20 = 5,020" in page.text
    assert HOSTILE in page.text
    assert record["versions"]["numpy"] in page.text and "seed0" in page.text
    (run / "run.json").write_text(json.dumps(record | {"threads": 1}))
    assert "cpu, njit kernels, 1 CPU thread" + "FLOPs" in page_of(report.write([run])).text


def test_the_command_on_the_page_repeats_the_run(run):
    record = json.loads((run / "run.json").read_text())
    (line,) = page_of(report.write([run])).commands
    program, *arguments = shlex.split(line)
    again = gpucnn(*arguments, "--no-pictures", "--out", "again", "--json")
    assert program == "gpucnn" and again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["weights_sha256"] == record["weights_sha256"]


def test_options_of_the_command_are_all_that_were_set(run):
    record = json.loads((run / "run.json").read_text())
    settings = record["settings"] | {
        "data": None, "dataset": "mnist", "recipe": "a recipe", "model": "my $model.py:f", "learning_rate": 0.001,
        "best": True, "flip": False, "early_stopping": 3, "validation_split": 0.1, "augment": "light",
        "weight_decay": 0.0, "algorithms": {"conv2d": "direct"}, "load": [{"name": "k.py", "sha256": "0"}],
        "precision": "tf32", "tune": "fast", "parts": 4,
    }  # fmt: skip
    command = report.command({**record, "settings": settings})
    assert command.startswith("gpucnn train mnist --recipe 'a recipe' --model 'my $model.py:f' ")
    for option in ("--lr 0.001", "--best", "--no-flip", "--early-stopping 3", "--validation-split 0.1"):
        assert f" {option}" in command
    assert " --seed 0 --device cpu" in command and " --weight-decay 0.0" in command
    assert " --precision tf32 --tune fast --parts 4" in command
    assert not {"--validation-split", "--precision", "--tune", "--parts"} & set(report.command(record).split())
    assert " --augment light" in command and " --algorithm conv2d=direct" in command and " --load k.py" in command


def test_text_of_a_hostile_run_is_text_on_the_page(run):
    path = run / "run.json"
    record = json.loads(path.read_text())
    record["note"] = record["settings"]["note"] = HOSTILE
    record["settings"]["augment"] = None
    record["versions"][HOSTILE] = HOSTILE
    record["weights_sha256"] = HOSTILE
    path.write_text(json.dumps(record))
    moved = run.rename(run.parent / "<i>run")
    page = page_of(report.write([moved]))
    assert page.text.count(HOSTILE) >= 4 and {"script", "i"}.isdisjoint(page.tags)


def test_several_runs_are_compared_in_one_table_with_their_curves(run, trained):
    second = shutil.copytree(run, run.parent / "second")
    path = report.write([run, second])
    assert path.name == "report.html" and path.parent == path.parent.__class__(".")
    page = page_of(path)
    assert page.images[0][0] == "learning curves of all runs"
    assert len(page.images) == 1 + 2 * 6 and page.tags.count("details") == 2
    for name in (str(run), str(second)):
        assert name in page.text
    assert report.write([run, second], "a.html").name == "a.html"


def test_a_comparison_says_what_the_data_sets_are(run):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"note": "not comparable with anything"}))
    text = report.write([run, shutil.copytree(run, run.parent / "second")]).read_text()
    assert text.partition("<figure>")[0].count("<p>not comparable with anything</p>") == 1


@needs.browser_here
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_in_a_browser_every_picture_is_seen_whole_and_on_a_phone_enlarged_by_a_tap(run, width, scheme):
    from playwright.sync_api import sync_playwright

    path = report.write([run, shutil.copytree(run, run.parent / "second")])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=needs.browser(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        said = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(path.resolve().as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for image in page.locator("img").all():
            box = image.bounding_box()
            assert box["x"] > 0 and box["x"] + box["width"] < width and box["width"] > width / 3
        first = page.locator("img").first
        before = first.bounding_box()["width"]
        first.click()
        assert (first.bounding_box()["width"] > 2 * before) == (width == 390)
        assert page.evaluate("document.documentElement.scrollWidth") <= width and said == []
        browser.close()


def test_what_cannot_be_reported_is_refused_before_anything_is_written(run):
    with pytest.raises(ArgumentError, match=r"a\.pdf: a report is an HTML page; give a name that ends in \.html"):
        report.write([run], "a.pdf")
    with pytest.raises(FileError, match="gone is not a run folder"):
        report.write([run, "gone"])
    with pytest.raises(ArgumentError, match="is given twice"):
        report.write([run, run])
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"status": "running", "test_accuracy": None, "test_loss": None}))
    with pytest.raises(FileError, match="has not finished training"):
        report.write([run])
    assert not (run / "report.html").exists()


def test_the_command_prints_the_path(run):
    result = gpucnn("report", run)
    assert (result.exit_code, result.stdout) == (0, f"{run / 'report.html'}\n")
