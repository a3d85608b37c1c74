"""The web page in `examples/browser`: in a real browser, a model predicts as it does in Python."""

import functools
import json
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from helpers.small_detectors import small_detector
from helpers.small_networks import TWO_STAGES, drawn

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.image_ops import crop, decode
from resnet_keras.data.opening import open_split
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.detection.detector import Detector
from resnet_keras.exporting.detector_exporter import export_detections
from resnet_keras.exporting.exporter import export
from resnet_keras.networks import builder as models

EXAMPLE = Path(__file__).parents[2] / "examples" / "browser"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe")
OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ECONN", "ETIMEDOUT", "ENETUNREACH", "EHOSTUNREACH", "ENOTCACHED")
PATIENCE_S = 30

COLOUR = Preprocessing(
    image_size=(24, 32), channels=3, mean=(120, 110, 100), std=(60, 70, 80), shorter_side=40, interpolation="bicubic"
)


class Browser:
    """Headless Chromium with one page, spoken to in its DevTools protocol over two pipes."""

    def __init__(self, program: str, profile: Path) -> None:
        theirs_to_read, self._to = os.pipe()
        self._from, theirs_to_write = os.pipe()
        launch = "import os, sys; r, w, *c = sys.argv[1:]; os.dup2(int(r), 3); os.dup2(int(w), 4); os.execvp(c[0], c)"
        command = [program, *FLAGS, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", launch, str(theirs_to_read), str(theirs_to_write), *command],
            pass_fds=(theirs_to_read, theirs_to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_to_read)
        os.close(theirs_to_write)
        self._received = b""
        self._calls = 0
        self._session: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Sends a command; returns its result."""
        self._calls += 1
        message = {"id": self._calls, "method": method, "params": parameters, **self._session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._calls:
            pass
        assert "result" in answer, answer
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._from], [], [], PATIENCE_S)
            more = os.read(self._from, 2**16) if ready else b""
            assert more, "Chromium is silent"
            self._received += more
        message, self._received = self._received.split(b"\0", 1)
        return json.loads(message)

    def wait_for(self, expression: str) -> Any:
        """Returns what a JavaScript expression gives as soon as it gives something."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
            assert "exceptionDetails" not in answer, answer
            if value := answer["result"].get("value"):
                return value
            time.sleep(0.02)
        raise AssertionError(f"{expression} gives nothing")

    def open(self, url: str) -> str:
        """Opens the page; returns what state it gets into."""
        self.call("Page.navigate", url=url)
        return self.wait_for("['ready', 'failed'].find((state) => state === document.body?.dataset.state)")

    def drop(self, path: Path) -> dict[str, Any]:
        """Drops a file onto the page; returns its result."""
        self.call("Runtime.evaluate", expression="document.getElementById('result').textContent = ''")
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for event in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=event, x=100, y=100, data=data)
        return json.loads(self.wait_for("document.getElementById('result').textContent"))

    def seen(self, height: int, width: int) -> np.ndarray:
        """Returns the pixels of the preview, uint8 (height, width, 3)."""
        pixels = f"document.getElementById('seen').getContext('2d').getImageData(0, 0, {width}, {height}).data"
        return np.array(self.wait_for(f"[...{pixels}]"), np.uint8).reshape(height, width, 4)[..., :3]

    def close(self) -> None:
        """Ends Chromium."""
        with suppress(AssertionError, OSError):
            self.call("Browser.close")
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(CHROMIUM)} is installed")
    browser = Browser(program, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with the runtime installed."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    folder = copy_of_example(tmp_path_factory.mktemp("example") / "browser")
    command = ["npm", "install", "--prefer-offline", "--no-audit", "--no-fund", "--fetch-retries=0"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if any(code in done.stderr for code in OFFLINE):
        pytest.skip("npm reaches no registry for the runtime")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def color(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of a color network whose weights are drawn."""
    folder = tmp_path_factory.mktemp("color")
    for place in (f"{split}/{name}" for split in ("train", "test") for name in "abcdef"):
        (folder / place).mkdir(parents=True)
        png(photo(60, 50, 3), folder / place / "photo.png")
    network = drawn(models.build(TWO_STAGES, input_shape=(24, 32, 3), classes=6))
    Classifier(network, COLOUR, tuple("abcdef")).save(folder / "drawn.keras")
    options = {"dataset": "folder", "data_dir": folder, "formats": ("float32",)}
    return export(folder / "drawn.keras", folder / "saved_models", **options).path


@pytest.fixture(scope="module")
def digits(browser: Browser, installed: Path, request: pytest.FixtureRequest) -> Path:
    """The export of the digits, made only if the browser and the runtime are here."""
    return request.getfixturevalue("digits_export")


def copy_of_example(to: Path) -> Path:
    ignored = shutil.ignore_patterns("node_modules", "dist", "package-lock.json")
    return Path(shutil.copytree(EXAMPLE, to, ignore=ignored))


def build(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["node", str(folder / "build.mjs"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@contextmanager
def served(installed: Path, exported: Path, model: str) -> Iterator[str]:
    """Builds the page and serves it; gives its address."""
    done = build(installed, exported, "--model", model)
    assert done.returncode == 0, done.stderr
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *words: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(installed / "dist"))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def photo(height: int, width: int, channels: int) -> np.ndarray:
    """Patches of ten pixels with some noise."""
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (-(-height // 10), -(-width // 10), channels)).repeat(10, 0).repeat(10, 1)
    noisy = patches[:height, :width] + rng.integers(-20, 21, (height, width, channels))
    return noisy.clip(0, 255).astype(np.uint8)


def png(image: np.ndarray, path: Path) -> Path:
    path.write_bytes(tf.io.encode_png(image).numpy())
    return path


def in_python(path: Path, image: np.ndarray) -> np.ndarray:
    """Returns the probabilities that a model gives an image (H, W, C)."""
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    (given,) = interpreter.get_output_details()
    interpreter.set_tensor(taken["index"], image[None].astype(taken["dtype"]))
    interpreter.invoke()
    return interpreter.get_tensor(given["index"])[0]


@pytest.mark.parametrize(("model", "tolerance"), [("float32.tflite", 1e-4), ("int8.tflite", 2 / 256)])
def test_a_digit_gets_the_probabilities_that_it_gets_in_python(
    installed: Path, browser: Browser, digits: Path, tmp_path: Path, model: str, tolerance: float
) -> None:
    images = open_split("digits", "test").images[:3]
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    with served(installed, digits, model) as url:
        assert browser.open(url) == "ready"
        for number, image in enumerate(images):
            result = browser.drop(png(image, tmp_path / f"{number}.png"))
            assert result["image"] == f"{number}.png"
            assert result["milliseconds"] > 0
            np.testing.assert_array_equal(browser.seen(8, 8), image.repeat(3, -1))
            np.testing.assert_allclose(result["probabilities"], in_python(digits / model, image), atol=tolerance)
            # The page lives on after a file that is no image.
            assert browser.drop(text) == {"error": "Expected an image that this browser can read. Received: notes.txt"}
            assert "notes.txt" in browser.wait_for("document.getElementById('message').textContent")


@pytest.mark.parametrize("size", [(150, 230), (5, 4)])
def test_an_image_of_another_size_is_resized_as_in_python(
    installed: Path, browser: Browser, digits: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    gray = Preprocessing(**json.loads((digits / "export.json").read_text())["preprocessing"])
    compare_with_python(installed, browser, digits, png(photo(*size, 1), tmp_path / "photo.png"), gray)


@pytest.mark.parametrize("size", [(150, 230), (151, 77), (21, 30)])
def test_colors_are_resized_and_cropped_as_in_python(
    browser: Browser, installed: Path, color: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    compare_with_python(installed, browser, color, png(photo(*size, 3), tmp_path / "photo.png"), COLOUR)


def compare_with_python(
    installed: Path, browser: Browser, exported: Path, path: Path, preprocessing: Preprocessing
) -> None:
    expected = crop(decode(tf.io.read_file(str(path)), preprocessing.channels), preprocessing).numpy()
    with served(installed, exported, "float32.tflite") as url:
        assert browser.open(url) == "ready"
        result = browser.drop(path)
        seen = browser.seen(*preprocessing.image_size)[..., : preprocessing.channels]
    difference = np.abs(seen - expected)  # a half in float32 may lie a little to its other side in float64
    assert difference.max() <= 1
    assert difference.mean() <= 0.01
    model = exported / "float32.tflite"
    np.testing.assert_allclose(result["probabilities"], in_python(model, seen), atol=1e-4)
    np.testing.assert_allclose(result["probabilities"], in_python(model, expected), atol=1e-2)


@pytest.mark.slow
def test_a_detector_draws_the_boxes_that_it_finds_in_python(browser: Browser, installed: Path, tmp_path: Path) -> None:
    canvas = Preprocessing(image_size=(64, 96), channels=3, mean=(124, 116, 104), std=(58, 57, 57))
    detector = Detector(small_detector(), canvas, ("cat", "dog", "bird"), (48, 80))
    detector.save(tmp_path / "pets.keras")
    path = png(photo(120, 90, 3), tmp_path / "photo.png")
    exported = export_detections(tmp_path / "pets.keras", tmp_path / "to", images=path, formats=["float32"]).path
    (expected,) = detector.predict(path)
    with served(installed, exported, "float32.tflite") as url:
        assert browser.open(url) == "ready"
        result = browser.drop(path)
        drawn_over = browser.seen(120, 90)
    assert "error" not in result
    found = result["objects"]
    assert [each["label"] for each in found] == expected.labels.tolist()
    np.testing.assert_allclose([each["score"] for each in found], expected.scores, atol=1e-4)
    np.testing.assert_allclose([each["box"] for each in found], expected.boxes, atol=1e-2)
    changed = (drawn_over != photo(120, 90, 3)).any(-1)
    assert changed.any() == bool((expected.scores >= 0.5).any())


def test_the_page_does_not_warn_where_there_is_no_webgpu(installed: Path, browser: Browser, digits: Path) -> None:
    kept = "window.warned = []; console.warn = (...parts) => warned.push(String(parts[0]))"
    browser.call("Page.enable")
    script = browser.call("Page.addScriptToEvaluateOnNewDocument", source=kept)
    with served(installed, digits, "int8.tflite") as url:
        assert browser.open(url) == "ready"
    browser.call("Page.removeScriptToEvaluateOnNewDocument", **script)
    assert json.loads(browser.wait_for("JSON.stringify(warned)")) == []
    browser.call("Runtime.evaluate", expression="console.warn('others')")
    assert browser.wait_for("warned[0]") == "others"


def test_a_page_without_its_model_says_so(installed: Path, browser: Browser, digits: Path) -> None:
    with served(installed, digits, "int8.tflite") as url:
        (installed / "dist" / "int8.tflite").unlink()
        assert browser.open(url) == "failed"
        message = browser.wait_for("document.getElementById('message').textContent")
    assert message == "Expected int8.tflite beside the page. Received: status 404"


def test_what_cannot_be_built_is_refused(tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    example = copy_of_example(tmp_path / "browser")
    exported = tmp_path / "exported"
    exported.mkdir()

    def refusal(*arguments: str | Path) -> str:
        done = build(example, *arguments)
        assert done.returncode == 1
        assert not (example / "dist").exists()
        return done.stderr

    assert "Expected one folder: node build.mjs EXPORT [--model FILE]. Received: none" in refusal()
    assert f"Expected the folder of an export, with an export.json. Received: {exported}" in refusal(exported)
    artifacts = [{"format": "int8", "file": "int8.tflite", "input": "uint8"}]
    about = {"model": "m", "class_names": [], "preprocessing": {}, "artifacts": artifacts}
    (exported / "export.json").write_text(json.dumps(about))
    assert f"Expected a .tflite file in {exported}. Received: none" in refusal(exported)
    (exported / "int8.tflite").write_bytes(b"")
    wrong = refusal(exported, "--model", "float32.tflite")
    assert f"Expected int8.tflite in {exported}. Received: float32.tflite" in wrong
    assert "in node_modules: run npm install" in refusal(exported)
