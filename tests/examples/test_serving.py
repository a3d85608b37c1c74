"""examples/serving: both clients against servers that follow TensorFlow Serving's rules, and the file for Docker."""

import base64
import importlib.util
import inspect
import json
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.prediction import predict
from resnet_keras.data.opening import open_split
from resnet_keras.exporting.exporter import export
from resnet_keras.exporting.saved_model import write_saved_model

grpc = pytest.importorskip("grpc")
predict_pb2 = pytest.importorskip("tensorflow_serving.apis.predict_pb2")
prediction_service = pytest.importorskip("tensorflow_serving.apis.prediction_service_pb2_grpc")

EXAMPLES = Path(__file__).parents[2] / "examples" / "serving"
NAME = "digits run"  # whose space the address must not have
CLASS_NAMES = ("nil", "one", "two, a pair", "trois", "четыре", "five", "six", "sept", "huit", "neuf")


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rest_client, grpc_client = example("rest_client"), example("grpc_client")


class Refused(Exception):
    """The response of a server instead: an HTTP status and a reason."""


class Served:
    """The latest version of a model, found and run as TensorFlow Serving does."""

    def __init__(self, folder: Path) -> None:
        version = max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        self.name = folder.name
        self.signatures = tf.saved_model.load(str(folder / str(version))).signatures

    def inputs(self, name: str, signature: str) -> dict[str, tf.TensorSpec]:
        """The inputs of a signature, if it is one of the model of that name."""
        if name != self.name:
            raise Refused(404, f"Servable not found for request: Latest({name})")
        if signature not in self.signatures:
            raise Refused(400, f'Serving signature name: "{signature}" not found in signature def')
        return self.signatures[signature].structured_input_signature[1]

    def run(self, signature: str, tensors: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The outputs of a signature."""
        try:
            return self.signatures[signature](**tensors)
        except tf.errors.InvalidArgumentError as error:
            raise Refused(400, error.message) from error


def row(value: object, dtype: tf.DType) -> object:
    """A value of JSON as one of a tensor: Base64 in an object of that one key, numbers, text, or lists of them."""
    if isinstance(value, list):
        return [row(one, dtype) for one in value]
    if isinstance(value, dict):
        if dtype != tf.string or list(value) != ["b64"]:
            raise Refused(400, f"JSON Value: {value} is not of expected type: {dtype.name}")
        return base64.b64decode(value["b64"], validate=True)
    if isinstance(value, str) != (dtype == tf.string):
        raise Refused(400, f"JSON Value: {value} is not of expected type: {dtype.name}")
    return value


def predicted(model: Served, name: str, body: bytes) -> dict[str, object]:
    """The response to a predict request in rows, by the rules of TensorFlow Serving's REST API."""
    request = json.loads(body)
    signature = request.get("signature_name", "serving_default")
    inputs = model.inputs(name, signature)
    rows = request.get("instances")
    if not isinstance(rows, list) or not rows:
        raise Refused(400, "Missing 'inputs' or 'instances' key, or no values in it")
    if not (isinstance(rows[0], dict) and list(rows[0]) != ["b64"]):
        (only,) = inputs
        rows = [{only: one} for one in rows]
    for one in rows:
        if set(one) != set(inputs):
            raise Refused(400, f"JSON object: {one} keys must be equal to: {','.join(inputs)}")
    tensors = {
        key: tf.constant([row(one[key], spec.dtype) for one in rows], spec.dtype) for key, spec in inputs.items()
    }
    outputs = {key: written(key, value) for key, value in model.run(signature, tensors).items()}
    if len(outputs) == 1:
        return {"predictions": next(iter(outputs.values()))}
    return {"predictions": [dict(zip(outputs, values, strict=True)) for values in zip(*outputs.values(), strict=True)]}


def written(name: str, tensor: tf.Tensor) -> list:
    def text(value: object) -> object:
        if isinstance(value, list):
            return [text(one) for one in value]
        return {"b64": base64.b64encode(value).decode()} if name.endswith("_bytes") else value.decode()

    values = tensor.numpy().tolist()
    return text(values) if tensor.dtype == tf.string else values


@pytest.fixture(scope="module")
def classifier(digits_run: Path) -> Classifier:
    return replace(Classifier.load(digits_run), class_names=CLASS_NAMES)


@pytest.fixture(scope="module")
def model(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("saved_models") / NAME
    write_saved_model(classifier, folder / "2")
    (folder / "refused-3.json").write_text("{}")
    return Served(folder)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture(scope="module")
def rest(model: Served) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, content: object) -> None:
            body = json.dumps(content, indent=1).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if self.path == "/v1/models/digits":
                status = {"error_code": "OK", "error_message": ""}
                version = {"version": "2", "state": "AVAILABLE", "status": status}
                self.answer(200, {"model_version_status": [version]})
            else:
                self.answer(404, {"error": "Could not find any versions of model"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found = re.fullmatch(r"/v1/models/([^/:]+)(?:/versions/\d+)?:predict", self.path)
            try:
                if not found:
                    raise Refused(404, "Malformed request: POST " + self.path)
                self.answer(200, predicted(model, found[1].replace("%20", " "), body))
            except Refused as refused:
                self.answer(refused.args[0], {"error": refused.args[1]})

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def remote(model: Served) -> Iterator[str]:
    class Service(prediction_service.PredictionServiceServicer):
        def Predict(
            self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
        ) -> predict_pb2.PredictResponse:
            signature = request.model_spec.signature_name or "serving_default"
            try:
                model.inputs(request.model_spec.name, signature)
                tensors = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
                outputs = model.run(signature, tensors)
            except Refused as refused:
                codes = {400: grpc.StatusCode.INVALID_ARGUMENT, 404: grpc.StatusCode.NOT_FOUND}
                context.abort(codes[refused.args[0]], refused.args[1])
            response = predict_pb2.PredictResponse(model_spec=request.model_spec)
            for name, value in outputs.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return response

    # As TensorFlow Serving, it takes requests of any size.
    options = [("grpc.max_receive_message_length", -1)]
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, options=options)
        prediction_service.add_PredictionServiceServicer_to_server(Service(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()


@pytest.fixture(params=["rest", "grpc"])
def client_and_server(request: pytest.FixtureRequest) -> tuple[ModuleType, str]:
    if request.param == "rest":
        return rest_client, request.getfixturevalue("rest")
    return grpc_client, request.getfixturevalue("remote")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    digits = open_split("digits", "test").images
    files = {f"{i}.png": tf.io.encode_png(digits[i]) for i in range(4)}
    files["four.jpg"] = tf.io.encode_jpeg(digits[4], quality=95)
    large = tf.cast(tf.image.resize(digits[5], (61, 43), "bicubic"), tf.uint8)
    files["large.jpg"] = tf.io.encode_jpeg(tf.image.grayscale_to_rgb(large))
    # More than the four megabytes that gRPC takes where nothing else is said.
    files["huge.png"] = tf.io.encode_png(np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8))
    for name, content in files.items():
        (folder / name).write_bytes(content.numpy())
    about = Image.Exif()
    about[0x0112] = 6  # held upright, with the sensor lying
    Image.fromarray(large.numpy()[..., 0]).save(folder / "turned.jpg", exif=about)
    return sorted(folder.iterdir())


def test_both_clients_predict_as_predict_does(
    client_and_server: tuple[ModuleType, str], classifier: Classifier, images: list[Path]
) -> None:
    client, server = client_and_server
    found = client.classify(server, NAME, [path.read_bytes() for path in images])
    expected = list(predict(classifier, images))
    assert len(found) == len(expected) == 8
    for classes, prediction in zip(found, expected, strict=True):
        assert [name for name, _ in classes] == [name for name, _ in prediction.classes], prediction.path
        for (_, probability), (_, wanted) in zip(classes, prediction.classes, strict=True):
            assert probability == pytest.approx(wanted, abs=1e-4)
    assert len({classes[0][0] for classes in found}) >= 3


def test_the_programs_print_a_line_for_each_image(
    client_and_server: tuple[ModuleType, str], images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    client, server = client_and_server
    assert client.main([NAME, *map(str, images), "--server", server]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.rsplit(": ", 1)[0] for line in lines] == list(map(str, images))
    assert all(re.search(r": \S.* \d+\.\d\d%, ", line) for line in lines)


def test_a_broken_image_is_an_error_and_the_next_request_succeeds(
    client_and_server: tuple[ModuleType, str], images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client, server = client_and_server
    good = images[0].read_bytes()
    reason = "Expected a JPEG or PNG image. Received something else, as image number"
    for content, expected in ((b"no image", reason), (good[: len(good) // 2], "Invalid PNG"), (b"", reason)):
        (tmp_path / "broken.png").write_bytes(content)
        files = [str(images[0]), str(tmp_path / "broken.png"), str(images[1])]
        assert client.main([NAME, *files, "--server", server]) == 1
        printed = capsys.readouterr()
        assert expected in printed.err
        assert "INVALID_ARGUMENT" in printed.err or "answered 400" in printed.err
        assert "Traceback" not in printed.err
        assert printed.out == ""
    assert len(client.classify(server, NAME, [good])) == 1


def test_an_error_names_a_model_that_is_not_served(
    client_and_server: tuple[ModuleType, str], images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    client, server = client_and_server
    assert client.main(["other", str(images[0]), "--server", server]) == 1
    assert re.search(r"answered (404|NOT_FOUND): Servable not found.*Latest\(other\)", capsys.readouterr().err)


@pytest.mark.parametrize("client", [rest_client, grpc_client], ids=["rest", "grpc"])
def test_an_error_names_a_server_that_does_not_run(
    client: ModuleType, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        address = f"127.0.0.1:{closed.server_port}"
    server = f"http://{address}" if client is rest_client else address
    assert client.main([NAME, str(images[0]), "--server", server]) == 1
    assert re.search(
        rf"Expected TensorFlow Serving's (REST|gRPC) at {server}. Received: .*refused", capsys.readouterr().err
    )


def test_an_error_names_the_port_of_the_other_protocol(
    rest: str, remote: str, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert rest_client.main([NAME, str(images[0]), "--server", f"http://{remote}"]) == 1
    assert f"Expected TensorFlow Serving's REST at http://{remote}. Received: " in capsys.readouterr().err
    address = rest.removeprefix("http://")
    assert grpc_client.main([NAME, str(images[0]), "--server", address]) == 1
    assert f"Expected TensorFlow Serving's gRPC at {address}. Received: " in capsys.readouterr().err


def test_files_travel_byte_for_byte() -> None:
    files = [b"", b"\0", b"a\0\0", b"\xff\xfe\n", bytes(range(256))]
    (tensor,) = grpc_client.request_body(NAME, files).inputs.values()
    assert list(tensor.string_val) == files
    rows = json.loads(rest_client.request_body(files))["instances"]
    assert [base64.b64decode(one["image_bytes"]["b64"]) for one in rows] == files


@pytest.mark.parametrize("client", [rest_client, grpc_client], ids=["rest", "grpc"])
def test_a_missing_file_is_an_error_before_any_request(
    client: ModuleType, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        client.main([NAME, str(images[0]), str(tmp_path / "none.png")])
    assert ended.value.code == 2
    assert re.search(r"Expected image files. Received: .*none\.png \(No such file", capsys.readouterr().err)


def test_a_response_that_is_no_json_is_printed_as_it_is(images: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(502, "no such thing")

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert rest_client.main([NAME, str(images[0]), "--server", f"http://127.0.0.1:{server.server_port}"]) == 1
        thread.join()
    assert re.search("answered 502: .*no such thing", capsys.readouterr().err, re.DOTALL)


def test_the_servers_here_take_what_the_documentation_says(model: Served, images: list[Path]) -> None:
    file = {"b64": base64.b64encode(images[0].read_bytes()).decode()}
    named, plain = (
        predicted(model, NAME, json.dumps({"signature_name": "serve_bytes", "instances": rows}).encode())
        for rows in ([{"image_bytes": file}] * 2, [file] * 2)
    )
    assert named == plain
    assert set(named["predictions"][0]) == {"classes", "names", "scores", "probabilities"}
    pixels = tf.io.decode_png(images[0].read_bytes()).numpy().tolist()
    (only,) = predicted(model, NAME, json.dumps({"instances": [pixels]}).encode())["predictions"]
    assert np.sort(only)[::-1][:5] == pytest.approx(named["predictions"][0]["probabilities"], abs=1e-6)


def compose(name: str) -> dict:
    """The service of docker-compose.yaml as Docker sees it, with NAME set."""
    yaml = pytest.importorskip("yaml")
    content = (EXAMPLES / "docker-compose.yaml").read_text(encoding="utf-8")
    content = re.sub(r"(?<!\$)\$\{NAME(:\?[^}]*)?\}", name, content).replace("$$", "$")
    return yaml.safe_load(content)["services"]["serving"]


def test_docker_mounts_what_an_export_writes() -> None:
    service = compose("digits")
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", service["image"])
    assert [port.rsplit(":", 2)[1:] for port in service["ports"]] == [["8500", "8500"], ["8501", "8501"]]
    exported, batching = service["volumes"]
    # `export` writes to/name/version, and TensorFlow Serving reads /models/MODEL_NAME/VERSION.
    to = inspect.signature(export).parameters["to"].default
    assert (EXAMPLES / exported["source"]).resolve() == EXAMPLES.parents[1] / to / "digits"
    assert exported["target"] == "/models/" + service["environment"]["MODEL_NAME"]
    assert exported["read_only"] and batching["read_only"]
    assert (EXAMPLES / batching["source"]).is_file()
    assert f"--batching_parameters_file={batching['target']}" in (EXAMPLES / "docker-compose.yaml").read_text()


def test_the_batching_file_has_a_value_for_each_setting() -> None:
    lines = (EXAMPLES / "batching.txt").read_text().splitlines()
    settings = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"\w+ \{ value: \d+ \}", line) for line in settings)
    names = {"max_batch_size", "batch_timeout_micros", "num_batch_threads", "max_enqueued_batches"}
    assert {line.split()[0] for line in settings} == names


def test_the_health_check_asks_for_the_state_of_the_model(rest: str) -> None:
    if not shutil.which("bash"):
        pytest.skip("the health check is for bash, which is not here")
    command, *arguments = compose("digits")["healthcheck"]["test"]
    assert command == "CMD"
    port = rest.rsplit(":", 1)[1]
    here = [argument.replace("8501", port) for argument in arguments]
    for name, status in (("digits", 0), ("other", 1)):
        environment = {"MODEL_NAME": name, "PATH": "/usr/bin:/bin"}
        assert subprocess.run(here, env=environment, timeout=20, check=False).returncode == status


def test_the_server_in_python_gives_the_classes_of_the_package(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_saved_model(classifier, tmp_path / "1")
    image = tf.io.encode_png(open_split("digits", "test").images[0]).numpy()
    expected = classifier.predict(image)[0].classes
    plain_server = example("plain_server")
    monkeypatch.setattr(plain_server.Handler, "log_message", lambda *parts: None)
    with plain_server.serve(tmp_path / "1", port=0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"

        def posted(body: bytes) -> tuple[int, dict]:
            try:
                with urllib.request.urlopen(url, body, timeout=60) as response:
                    return response.status, json.loads(response.read())
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, json.loads(error.read())

        try:
            status, found = posted(image)
            broken, reason = posted(b"no image")
            empty, _ = posted(b"")
        finally:
            server.shutdown()
            thread.join()
    assert status == 200
    assert list(found) == [name for name, _ in expected]
    np.testing.assert_allclose(list(found.values()), [value for _, value in expected], atol=1e-5)
    assert (broken, empty) == (400, 413)
    assert "Expected a JPEG or PNG image" in reason["error"]
