"""The page of the demo: what it answers, to whom, and, where a browser is installed, how it works there."""

import http.client
import io
import json
import threading

import needs
import numpy as np
import pytest
from command import gpucnn, shell
from PIL import Image

from gpucnn.errors import ArgumentError
from gpucnn.runs import commands, demo
from gpucnn.runs.settings import RunSettings
from gpucnn.runs.trained_run import load_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on the embedded digits that is right about most of them."""
    settings = RunSettings(dataset="digits", model="keras-intro", epochs=3, device="cpu")
    return commands.train(settings, tmp_path_factory.mktemp("demo") / "run", pictures=False).folder


@pytest.fixture
def server(trained):
    with demo.Demo(load_run(trained)) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def asked(server, method, path, body=None, **headers):
    """Status, headers and content of an answer."""
    connection = http.client.HTTPConnection(*server.server_address, timeout=60)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, response.headers, content


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def decoded(address):
    import base64

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


def one():
    """A 1, light on dark, in a corner of a large image."""
    pixels = np.zeros((280, 280), np.uint8)
    pixels[20:150, 30:50] = 255
    return pixels


def test_it_listens_on_this_machine_alone_and_says_where(server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.address == f"http://127.0.0.1:{server.server_address[1]}/"
    status, headers, page = asked(server, "GET", "/")
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    text = page.decode()
    assert "http://" not in text and "https://" not in text and 'src="' not in text


def test_it_describes_the_model(server):
    described = json.loads(asked(server, "GET", "/model")[2])
    assert described["classes"] == list("0123456789")
    assert (described["digits"], described["shape"], described["model"]) == (True, [28, 28, 1], "keras-intro")
    assert described["note"] == "digits: not comparable with MNIST"


def test_an_answer_is_what_predict_says_of_the_same_image(server, trained):
    status, _, content = asked(server, "POST", "/predict?centre=1", png(one()))
    assert status == 200
    answer = json.loads(content)
    expected = load_run(trained).predict(io.BytesIO(png(one())), centre=True)
    assert answer["probabilities"][0] == [expected.class_name, pytest.approx(expected.probability, abs=1e-5)]
    assert expected.class_name == "1"
    shares = [share for _, share in answer["probabilities"]]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1, abs=1e-5)
    seen = decoded(answer["seen"])
    assert seen.shape == (28, 28) and seen[:, 12:16].mean() > 100 > 10 > seen[:, :6].mean()
    assert [seen[row].any() for row in (1, 2, 25, 26)] == [False, True, True, False]  # as the embedded digits


def test_maps_are_those_of_the_convolutions(server, trained):
    answer = json.loads(asked(server, "POST", "/predict?centre=1", png(one()))[2])
    sizes = [(layer["layer"], layer["count"], layer["size"]) for layer in answer["maps"]]
    assert sizes == [("conv2d", 32, [26, 26]), ("conv2d_1", 64, [11, 11])]
    sheet = decoded(answer["maps"][0]["image"])
    assert sheet.shape == (2 * 27 - 1, 8 * 27 - 1, 4)
    assert (sheet[26] == 0).all() and (sheet[0, :26, 3] == 255).all()


def test_invert_turns_dark_on_light(server):
    dark = asked(server, "POST", "/predict?invert=1&centre=1", png(255 - one()))[2]
    light = asked(server, "POST", "/predict?invert=0&centre=1", png(one()))[2]
    assert json.loads(dark)["seen"] == json.loads(light)["seen"]


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "said"),
    [
        ("POST", "/predict", b"no image", {}, 400, "not a PNG"),
        ("POST", "/predict", b"", {}, 400, "not a PNG"),
        ("POST", "/predict", png(one())[:80], {}, 400, "image"),
        ("POST", "/elsewhere", b"", {}, 404, "no page /elsewhere"),
        ("GET", "/../../etc/passwd", None, {}, 404, "no page"),
        ("GET", "/", None, {"Host": "evil.example"}, 403, "alone"),
        ("POST", "/predict", b"", {"Origin": "http://evil.example"}, 403, "alone"),
        ("POST", "/predict", b"", {"Content_Length": "99999999999"}, 413, "larger than 32 MB"),
        ("POST", "/predict", b"", {"Content_Length": "many"}, 411, "length"),
    ],
)
def test_what_it_refuses(server, method, path, body, headers, status, said):
    answer = asked(server, method, path, body, **headers)
    assert answer[0] == status and said in json.loads(answer[2])["error"]
    assert asked(server, "GET", "/model")[0] == 200  # it still answers


def test_a_port_in_use_is_named(server, trained):
    port = server.server_address[1]
    with pytest.raises(ArgumentError, match=f"port {port} cannot be used"):
        demo.Demo(load_run(trained), port)


def test_the_command_prints_the_address_and_ends_at_ctrl_c(trained):
    import signal

    process = shell("demo", trained)
    try:
        address = process.stdout.readline().strip()
        connection = http.client.HTTPConnection(address.removeprefix("http://").strip("/"), timeout=60)
        connection.request("GET", "/model")
        assert connection.getresponse().status == 200
        connection.close()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, said


def test_a_folder_without_a_run_is_refused(tmp_path):
    result = gpucnn("demo", tmp_path)
    assert result.exit_code == 1 and "is not a run folder" in result.stderr


@needs.browser_here
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_in_a_browser_a_drawn_digit_is_recognised(server, tmp_path, width, scheme):
    from playwright.sync_api import sync_playwright

    file = tmp_path / "seven.png"
    file.write_bytes(png(255 - one()))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=needs.browser(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(server.address)
        page.get_by_text("keras-intro on digits").wait_for()
        box = page.locator("canvas").bounding_box()
        page.mouse.move(box["x"] + 100, box["y"] + 40)
        page.mouse.down()
        page.mouse.move(box["x"] + 100, box["y"] + 230, steps=20)
        page.mouse.up()
        page.locator("#answer", has_text="1").wait_for()
        assert page.locator("#maps img").count() == 2
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.set_input_files("#file", file)
        page.locator("#answer", has_text="1").wait_for()
        assert page.locator("#invert").is_checked()
        (tmp_path / "bad.png").write_bytes(b"nothing")
        page.set_input_files("#file", tmp_path / "bad.png")
        page.get_by_text("the image is not a PNG").wait_for()
        page.get_by_text("Clear").click()
        assert page.locator("#error").is_hidden() and page.locator("#answer").inner_text() == "–"
        assert [error for error in errors if "400" not in error] == []
        browser.close()
