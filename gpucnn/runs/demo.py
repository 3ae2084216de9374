"""A page on this machine to draw a digit or drop an image, and to see what the model of a run says.

The server listens on 127.0.0.1 alone and answers only requests that name it, so that pages of other
sites cannot use it. The page needs no network.
"""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from .. import datasets
from ..datasets import images
from ..devices import choose
from ..errors import ArgumentError, GpucnnError, in_one_line
from ..layers import Conv2D
from ..layers.layer import every
from ..layers.parallel import outputs
from .trained_run import TrainedRun

HOST = "127.0.0.1"
LARGEST = 32 << 20
"""Bytes of the largest image that is taken."""

_PAGE = Path(__file__).parent / "pages" / "demo.html"
_MAPS, _COLUMNS = 16, 8
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:; connect-src 'self'"
)


class Demo(ThreadingHTTPServer):
    """The server of the page for one trained run; `serve_forever` answers until `shutdown`.

    port  0 takes a free one; `address` says which

    Raises `ArgumentError` if the port cannot be used.
    """

    daemon_threads = True

    def __init__(self, used: TrainedRun, port: int = 0) -> None:
        try:
            super().__init__((HOST, port), _Requests)
        except (OSError, OverflowError) as error:
            raise ArgumentError(f"port {port} cannot be used ({error}): leave it out to take a free one") from error
        self.used = used
        self.address = f"http://{HOST}:{self.server_address[1]}/"
        self._computing = threading.Lock()
        self._outputs(np.zeros(used.signature.image_shape, np.float32))  # compiles, so that nobody waits later

    def describe(self) -> dict[str, Any]:
        """The model and how it takes images, as JSON values."""
        used, signature = self.used, self.used.signature
        named = used.settings.data is None and used.settings.dataset is not None
        return {
            "model": used.settings.model,
            "dataset": used.settings.dataset,
            "note": used.settings.note,
            "accuracy": used.run.record.get("test_accuracy"),
            "device": choose.current().name,
            "classes": used.classes,
            "shape": list(signature.image_shape),
            "digits": named and datasets.centring(str(used.settings.dataset)) is not None,
            "invert": signature.invert,
            "centre": signature.centre,
        }

    def predict(self, body: bytes, invert: bool, centre: bool) -> dict[str, Any]:
        """The probabilities of all classes, the image as the model sees it, and the maps of each
        convolution and of each layer that holds some, as PNG files in data URLs. Raises `DataError` for
        what is not an image."""
        signature = self.used.signature
        centred = self.used.centring(centre)
        pixels = images.read(io.BytesIO(body), signature.image_shape, invert=invert, centre=centred)
        with self._computing:
            x, maps = self._outputs(signature.scaled(pixels))
        order = np.argsort(-x, kind="stable")
        return {
            "probabilities": [[self.used.classes[i], float(x[i])] for i in order],
            "seen": _png(pixels if pixels.shape[2] == 3 else pixels[..., 0]),
            "maps": maps,
        }

    def _outputs(self, image: np.ndarray) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """The probabilities of the classes for a prepared image (H, W, C), and the maps on the way."""
        scores, maps = image[None], []
        for name, layer, scores in outputs(self.used.model.layers, image[None]):
            if any(isinstance(part, Conv2D) for part in every([layer])):
                maps.append({"layer": name, **_sheet(scores[0])})
        return scores[0], maps


class _Requests(BaseHTTPRequestHandler):
    """GET / is the page, GET /model describes the model, POST /predict takes an image."""

    server: Demo
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """The page, or what it has to know of the model."""
        if self._is_from_another_site():
            return
        path = urlsplit(self.path).path
        if path == "/":
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", _PAGE.read_bytes())
        elif path == "/model":
            self._json(HTTPStatus.OK, self.server.describe())
        else:
            self._json(HTTPStatus.NOT_FOUND, {"error": f"there is no page {path}"})

    def do_POST(self) -> None:
        """What the model says of the image in the body."""
        if self._is_from_another_site():
            return
        address = urlsplit(self.path)
        length = self.headers.get("Content-Length", "")
        if address.path != "/predict":
            return self._refuse(HTTPStatus.NOT_FOUND, f"there is no page {address.path}")
        if not length.isdigit():
            return self._refuse(HTTPStatus.LENGTH_REQUIRED, "the length of the image is missing")
        if int(length) > LARGEST:
            return self._refuse(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the image is larger than {LARGEST >> 20} MB: give a smaller one"
            )
        body = self.rfile.read(int(length))
        options = parse_qs(address.query)
        invert, centre = (options.get(name) == ["1"] for name in ("invert", "centre"))
        try:
            self._json(HTTPStatus.OK, self.server.predict(body, invert, centre))
        except (GpucnnError, MemoryError) as error:
            self._json(HTTPStatus.BAD_REQUEST, {"error": in_one_line(error)})

    def _is_from_another_site(self) -> bool:
        """Refuse a request under another name, as of a site whose name has come to mean this machine."""
        port = self.server.server_address[1]
        names = {f"{name}:{port}" for name in (HOST, "localhost")}
        origin = self.headers.get("Origin")
        if self.headers.get("Host") in names and origin in (None, *(f"http://{name}" for name in names)):
            return False
        self._refuse(HTTPStatus.FORBIDDEN, f"this page answers at {self.server.address} alone")
        return True

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Answer without having read the body, after which the connection is of no more use."""
        self.close_connection = True
        self._json(status, {"error": message})

    def _json(self, status: HTTPStatus, value: dict[str, Any]) -> None:
        self._answer(status, "application/json", json.dumps(value).encode())

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep the terminal free."""


def _sheet(maps: np.ndarray) -> dict[str, Any]:
    """The first maps of a convolution (H, W, filters) as one picture, each on its own scale."""
    from matplotlib import colormaps

    rows, columns, count = maps.shape
    shown = min(_MAPS, count)
    across = min(_COLUMNS, shown)
    lines = -(-shown // across)
    sheet = np.zeros((lines * (rows + 1) - 1, across * (columns + 1) - 1, 4), np.uint8)
    for (line, place), tile in zip(np.ndindex(lines, across), _scaled(maps[..., :shown])):
        top, left = line * (rows + 1), place * (columns + 1)
        sheet[top : top + rows, left : left + columns] = colormaps["viridis"](tile, bytes=True)
    return {"count": count, "shown": shown, "size": [rows, columns], "image": _png(sheet)}


def _scaled(maps: np.ndarray) -> Iterator[np.ndarray]:
    """Each map on a scale from 0 to 1."""
    for tile in np.moveaxis(maps, -1, 0):
        low, high = float(tile.min()), float(tile.max())
        yield (tile - low) / (high - low if high > low else 1.0)


def _png(pixels: np.ndarray) -> str:
    from PIL import Image

    pixels = pixels if pixels.dtype == np.uint8 else np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
