"""A report on runs: one HTML page with its pictures inside, which needs no network and no script."""

from __future__ import annotations

import base64
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from ..callbacks.curves import compared_curves
from ..datasets import ProgressHook
from ..devices.free_memory import readable
from ..errors import ArgumentError, FileError, printable
from ..files import write_atomically
from ..metrics.report import count_confusions, scores_of
from ..models.shapes import ladder
from ..models.summary import flops_per_image
from . import drawing
from .report_page import PAGE
from .run import Run
from .settings import RunSettings
from .trained_run import TrainedRun, probabilities_of

if TYPE_CHECKING:
    from ..callbacks.curves import Picture

_OPTIONS = {
    "recipe": "--recipe",
    "model": "--model",
    "filters": "--filters",
    "epochs": "--epochs",
    "batch_size": "--batch-size",
    "optimizer": "--optimizer",
    "learning_rate": "--lr",
    "schedule": "--schedule",
    "weight_decay": "--weight-decay",
    "augment": "--augment",
    "validation_split": "--validation-split",
    "early_stopping": "--early-stopping",
    "image_shape": "--image-shape",
    "data_dir": "--data-dir",
    "seed": "--seed",
    "device": "--device",
    "precision": "--precision",
    "tune": "--tune",
    "parts": "--parts",
}
"""Settings and the options of `gpucnn train` that set them."""

_UNSAID = {"validation_split": 0, "precision": "float32", "tune": "off"}
"""Settings that need no option."""

_CAPTIONS = {
    "learning_curves": "Loss and accuracy after each epoch.",
    "confusion_matrix": "Rows are true classes, columns predictions.",
    "predictions": "Test images; mistakes come first, the surest of them at the top.",
    "filters": "The weights of the first convolution.",
    "feature_maps": "What each convolution makes of the first test image.",
    "explanations": "What predictions rest on. Saliency: how much each pixel changes the score of the predicted "
    "class. Grad-CAM: where the last convolution speaks for a class.",
    "augmented": "Training images, and what data augmentation makes of them.",
}


@dataclass(frozen=True)
class _Part:
    """What the page says of one run."""

    name: str
    record: dict[str, Any]
    history: dict[str, list[float]]
    flops: int
    body: str


def write(
    folders: Sequence[str | Path],
    out: str | Path | None = None,
    data_dir: str | None = None,
    *,
    progress: ProgressHook | None = None,
) -> Path:
    """Write a report on one trained run, or on several that are compared; returns its path.

    out       an .html file; None for `report.html` in the folder of a single run, else in the
              current folder
    data_dir  where to look first for published data sets: the pictures show test images

    Raises `ArgumentError` or `FileError` for names and runs that cannot be used, before anything is
    written.
    """
    paths = [Path(os.path.expanduser(folder)) for folder in folders]
    for number, path in enumerate(paths):
        if path.resolve() in [other.resolve() for other in paths[:number]]:
            raise ArgumentError(f"{path} is given twice: give each run once")
    target = Path(os.path.expanduser(out)) if out is not None else Path("report.html")
    if out is None and len(paths) == 1:
        target = paths[0] / "report.html"
    if target.suffix.lower() not in (".html", ".htm"):
        raise ArgumentError(f"{target}: a report is an HTML page; give a name that ends in .html")
    runs = [_trained(path) for path in paths]
    parts = [_part(run, settings, data_dir, progress) for run, settings in runs]
    if len(parts) == 1:
        title, body = f"{parts[0].record['model']} on {parts[0].record['dataset']}", parts[0].body
    else:
        title, body = f"{len(parts)} runs compared", _comparison(parts)
    page = Template(PAGE).substitute(title=_text(title), body=body)
    write_atomically(target, page.encode("utf-8", "replace"))
    return target


def command(record: dict[str, Any]) -> str:
    """The command that repeats the run of this record, as a shell takes it."""
    return " ".join(_words(record))


def _words(record: dict[str, Any]) -> list[str]:
    settings = record["settings"]
    words = ["gpucnn", "train"]
    words += ["--data", settings["data"]] if settings.get("data") else [settings.get("dataset")]
    for name, option in _OPTIONS.items():
        value = settings.get(name)
        overriding = name == "validation_split" and settings.get("recipe")
        if value is not None and (value != _UNSAID.get(name) or overriding):
            words += [option, value]
    words += ["--backend", record["backend"]] if record.get("backend") else []
    for name in ("best", "flip"):
        if settings.get(name):
            words.append(f"--{name}")
        elif settings.get("recipe") and settings.get(name) is False:
            words.append(f"--no-{name}")
    words += ["--strict"] if settings.get("strict") else []
    for op, algorithm in (settings.get("algorithms") or {}).items():
        words += ["--algorithm", f"{op}={algorithm}"]
    for entry in settings.get("load") or []:
        words += ["--load", entry["name"]]
    return [shlex.quote(str(word)) for word in words]


def _trained(path: Path) -> tuple[Run, RunSettings]:
    run = Run.open(path)
    settings = RunSettings.of(run)
    if run.record.get("status") != "finished" or run.record.get("test_accuracy") is None:
        raise FileError(f"{path} has not finished training: resume it with gpucnn train --resume {path}")
    return run, settings


def _part(run: Run, settings: RunSettings, data_dir: str | None, progress: ProgressHook | None) -> _Part:
    settings.apply()
    used = TrainedRun(run, settings)
    data = settings.with_data_dir(data_dir).load_data(progress)
    x_test = used.signature.scaled(data.x_test)
    probabilities = probabilities_of(used.model, x_test)
    pictures = drawing.pictures(run, used.model, data, x_test, probabilities)
    rungs = ladder(used.model)
    flops = flops_per_image(used.model)
    record = run.record
    explained = {name: pictures.pop(name) for name in ("filters", "feature_maps", "explanations") if name in pictures}
    body = [
        _heading(run, flops),
        _section("Curves and mistakes", "".join(_figure(name, picture) for name, picture in pictures.items())),
        _section("Classes", _scores(count_confusions(data.y_test, probabilities, len(data.classes)), data.classes)),
        _section("What the model sees", "".join(_figure(name, picture) for name, picture in explained.items())),
        _section("Layers", _layers(rungs)),
        _section(
            "Speed",
            _pairs(
                {
                    "training": f"{record['seconds']:,.1f} s, {record['images_per_second'] or 0:,.0f} images/s",
                    "on": f"{record['device']}, {record['backend']} kernels{_threads(record)}",
                    "FLOPs per image": f"{flops:,} forward",
                }
            ),
        ),
        _section(
            "How to repeat it",
            f"<pre>{' '.join(f'<span>{_text(word)}</span>' for word in _words(record))}</pre>"
            + _pairs({"weights (SHA-256)": record["weights_sha256"], **(record["versions"] or {})}),
        ),
        _section(
            "Settings",
            _pairs({key: _said(value) for key, value in run.settings.items() if _is_set(value)}),
        ),
    ]
    return _Part(str(run.folder), record, run.read_history(), flops, "".join(body))


def _threads(record: dict[str, Any]) -> str:
    threads = record.get("threads")
    return f", {threads} CPU {'threads' if threads > 1 else 'thread'}" if threads else ""


def _is_set(value: Any) -> bool:
    return value is not None and value is not False and value != []


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _heading(run: Run, flops: int) -> str:
    record = run.record
    note = f"<p>{_text(record['note'])}</p>" if record.get("note") else ""
    figures = {
        "test accuracy": f"{100 * record['test_accuracy']:.2f} %",
        "test loss": _loss(record["test_loss"]),
        "parameters": f"{record['parameters'] or 0:,}",
        "epochs": f"{record['epochs_trained'] or 0} of {record['epochs'] or 0}",
    }
    cards = "".join(f"<div><b>{_text(value)}</b><span>{_text(name)}</span></div>" for name, value in figures.items())
    return f'<p class="where">{_text(run.folder)}</p>{note}<div class="cards">{cards}</div>'


def _comparison(parts: list[_Part]) -> str:
    rows = [
        (
            part.name,
            part.record["dataset"],
            part.record["model"],
            f"{100 * part.record['test_accuracy']:.2f} %",
            _loss(part.record["test_loss"]),
            f"{part.record['parameters'] or 0:,}",
            f"{part.flops:,}",
            f"{part.record['epochs_trained'] or 0}",
            f"{part.record['seconds'] or 0:,.1f} s",
            f"{part.record['images_per_second'] or 0:,.0f}",
            f"{part.record['device']}, {part.record['backend']}",
            part.record["seed"],
        )
        for part in sorted(parts, key=lambda part: -part.record["test_accuracy"])
    ]
    numbers = ("test accuracy", "test loss", "parameters", "FLOPs/image", "epochs", "training", "images/s", "seed")
    header = ("run", "data set", "model", *numbers[:-1], "device", "seed")
    curves = compared_curves({part.name: part.history for part in parts})
    caption = "Solid: training; dashed: validation."
    each = "".join(f"<details><summary>{_text(part.name)}</summary>{part.body}</details>" for part in parts)
    notes = dict.fromkeys(part.record["note"] for part in parts if part.record.get("note"))
    said = "".join(f"<p>{_text(note)}</p>" for note in notes)
    figure = _figure("learning_curves_of_all_runs", curves, caption)
    return f"{_table(header, rows, numbers)}{said}{figure}<h2>Each run</h2>{each}"


def _scores(counts: np.ndarray, classes: Sequence[str]) -> str:
    scores = scores_of(counts, zero_division=np.nan)
    columns = (scores.precision, scores.recall, scores.f1)
    rows = [
        (name, *(_share(column[i]) for column in columns), f"{int(counts[i].sum()):,}")
        for i, name in enumerate(classes)
    ]
    numbers = ("precision", "recall", "F1", "images")
    return _table(("class", *numbers), rows, numbers)


def _layers(rungs: Iterable[Any]) -> str:
    rows = [
        (
            f"{rung.name} ({rung.type})",
            "×".join(map(str, rung.output_shape)),
            "; ".join(rung.size),
            "–" if rung.receptive_field is None else "×".join(map(str, rung.receptive_field)),
            rung.parameters_formula or "0",
            f"{rung.flops:,}",
            readable(rung.activation_bytes),
        )
        for rung in rungs
    ]
    header = ("layer", "output", "size", "receptive field", "parameters", "FLOPs", "memory")
    return _table(header, rows, header[-2:])


def _section(title: str, body: str) -> str:
    return f"<section><h2>{_text(title)}</h2>{body}</section>" if body else ""


def _figure(name: str, picture: Picture, caption: str = "") -> str:
    """A picture inside the page, with its key to names that no font could draw."""
    width, height = (round(side * picture.dpi) for side in picture.get_size_inches())
    source = base64.b64encode(picture.png()).decode()
    label = _text(name.replace("_", " "))
    key = f"<p>{_text(', '.join(picture.key))}</p>" if picture.key else ""
    image = f'<img alt="{label}" width="{width}" height="{height}" src="data:image/png;base64,{source}">'
    said = _text(caption or _CAPTIONS.get(name, ""))
    return f'<figure><div class="wide" tabindex="0">{image}</div><figcaption>{said}</figcaption>{key}</figure>'


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[str]) -> str:
    """A table, of which the columns with these names are aligned on the right."""
    kinds = [' class="number"' if name in numbers else "" for name in header]
    head = "".join(f"<th{kind}>{_text(cell)}</th>" for kind, cell in zip(kinds, header))
    lines = ("".join(f"<td{kind}>{_text(cell)}</td>" for kind, cell in zip(kinds, row)) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _pairs(values: dict[str, Any]) -> str:
    rows = "".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in values.items())
    return f'<div class="wide"><table class="pairs"><tbody>{rows}</tbody></table></div>'


def _text(value: Any) -> str:
    """A value as text that a page shows as it is."""
    return escape(printable(str(value)))


def _share(score: float) -> str:
    return "–" if np.isnan(score) else f"{100 * score:.2f} %"


def _loss(loss: float | None) -> str:
    return "nan" if loss is None else f"{loss:.4f}"
