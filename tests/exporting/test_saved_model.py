"""The SavedModel: its four signatures, precisions, sizes of images, and warm-up requests."""

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.hostile_images import flat_png, jpeg_of_scans, png_of_claimed_size, png_of_hidden_size
from helpers.small_networks import TWO_STAGES, drawn
from tensorflow_serving.apis import prediction_log_pb2

from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.outputs import softmax
from resnet_keras.applications.prediction import predict
from resnet_keras.data.image_ops import crop, normalize
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.exporting.saved_model import write_saved_model
from resnet_keras.exporting.serving import probability_network, serving_network
from resnet_keras.exporting.warmup_requests import WARM_UP, write_warmup_requests
from resnet_keras.networks import builder as models
from resnet_keras.networks.architecture import Architecture
from resnet_keras.runs.process_memory import peak_memory
from resnet_keras.surgery.quantization import calibrate, quantize

SMALL = Architecture(stem="imagenet", block="basic", repeats=(1, 1), widths=(8, 16))
RGB = Preprocessing(
    image_size=(32, 40), channels=3, mean=(125.0, 123.0, 114.0), std=(63.0, 62.0, 67.0), shorter_side=48
)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    keras.utils.set_random_seed(3)
    model = models.build(SMALL, input_shape=(32, 40, 3), classes=7, classifier_activation=None)
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.endswith(("moving_mean", "beta", "bias")):
            variable.assign(rng.normal(0, 0.2, variable.shape))
    return Classifier(model, RGB, ("ant", "bee", "cat", "dog", "elk", "fox", "ähre"))


@pytest.fixture(scope="module")
def served(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "1"
    write_saved_model(classifier, folder, top_k=3)
    return folder


@pytest.fixture(scope="module")
def loaded(served: Path) -> Any:
    return tf.saved_model.load(str(served))


def pixels(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def logits(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    return classifier.model.predict_on_batch(normalize(crop(tf.constant(images), RGB), RGB))


def test_pixels_of_any_size_are_classified(loaded: Any, classifier: Classifier) -> None:
    serve = loaded.signatures["serving_default"]
    for shape in ((2, 60, 50), (1, 20, 90), (3, 33, 41)):
        images = pixels(*shape)
        found = serve(images=tf.constant(images))["probabilities"]
        np.testing.assert_allclose(found, softmax(logits(classifier, images)), atol=1e-5)
    images = pixels(2, 32, 40)  # of the network's size: as they are
    expected = classifier.probabilities_of_inputs(normalize(images, RGB))
    np.testing.assert_allclose(serve(images=tf.constant(images))["probabilities"], expected, atol=1e-5)


def test_files_give_the_most_probable_classes(
    loaded: Any, served: Path, classifier: Classifier, tmp_path: Path
) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.jpg"]
    paths[0].write_bytes(tf.io.encode_png(pixels(1, 60, 50)[0]).numpy())
    paths[1].write_bytes(tf.io.encode_jpeg(pixels(1, 45, 70)[0]).numpy())
    serve = loaded.signatures["serve_bytes"]
    found = {
        key: value.numpy() for key, value in serve(image_bytes=tf.constant([p.read_bytes() for p in paths])).items()
    }
    assert found["names"].shape == (2, 3)
    for row, prediction in enumerate(predict(classifier, paths, top_k=3)):
        names, probabilities = zip(*prediction.classes, strict=True)
        assert tuple(name.decode() for name in found["names"][row]) == names
        assert [classifier.class_names[i] for i in found["classes"][row]] == list(names)
        np.testing.assert_allclose(found["probabilities"][row], probabilities, atol=1e-5)
    ratios = np.exp(found["scores"][:, :1] - found["scores"])
    np.testing.assert_allclose(ratios, found["probabilities"][:, :1] / found["probabilities"], rtol=1e-4)
    assert (served / "assets" / "class_names.txt").read_text(encoding="utf-8").splitlines()[-1] == "ähre"


def test_features_are_what_the_head_sees(loaded: Any, classifier: Classifier) -> None:
    images = pixels(2, 60, 50)
    found = loaded.signatures["features"](images=tf.constant(images))
    np.testing.assert_allclose(found["logits"], logits(classifier, images), atol=1e-4)
    kernel, bias = (np.asarray(value) for value in classifier.model.get_layer("logits").get_weights())
    np.testing.assert_allclose(found["features"] @ kernel + bias, found["logits"], atol=1e-4)


def test_a_network_that_ends_in_softmax_is_served_alike(classifier: Classifier, loaded: Any) -> None:
    ending = keras.Model(classifier.model.input, keras.layers.Softmax()(classifier.model.output))
    images = pixels(2, 32, 40)
    one = loaded.signatures["features"](images=tf.constant(images))
    other = serving_network(replace(classifier, model=ending))(images.astype("float32"))
    for name in ("features", "logits"):
        np.testing.assert_allclose(one[name], other[name], atol=1e-6)


def test_a_softmax_inside_the_last_layer_is_taken_apart(classifier: Classifier, tmp_path: Path) -> None:
    pooled = classifier.model.get_layer("logits").input
    inside = keras.layers.Dense(7, activation="softmax")
    model = keras.Model(classifier.model.input, inside(pooled))
    inside.set_weights(classifier.model.get_layer("logits").get_weights())
    image = pixels(2, 32, 40).astype("float32")
    expected = classifier.model.predict_on_batch(normalize(image, RGB))
    np.testing.assert_allclose(serving_network(replace(classifier, model=model))(image)["logits"], expected, atol=1e-4)
    other = keras.Model(classifier.model.input, keras.layers.Dense(7, activation="tanh", name="last")(pooled))
    with pytest.raises(ValueError, match="Expected a network that ends in logits, their softmax.*last, a Dense with"):
        write_saved_model(replace(classifier, model=other), tmp_path / "2")


@pytest.mark.slow
def test_bfloat16_is_half_as_large_and_close(classifier: Classifier, tmp_path: Path) -> None:
    for version, precision in (("1", "bfloat16"), ("2", "float32")):
        write_saved_model(
            classifier,
            tmp_path / version,
            precision=precision,
            pixels="float32",
            sizes="fixed",  # type: ignore[arg-type]
        )
    signatures = tf.saved_model.load(str(tmp_path / "1")).signatures
    (spec,) = signatures["serving_default"].structured_input_signature[1].values()
    assert (spec.dtype, spec.shape.as_list()) == (tf.float32, [None, 32, 40, 3])
    images = pixels(4, 32, 40).astype(np.float32)
    expected = classifier.model.predict_on_batch(normalize(images, RGB))
    found = signatures["features"](images=tf.constant(images))
    assert found["logits"].dtype == tf.float32
    difference = np.abs(found["logits"] - expected).max()
    assert 1e-5 < difference < 0.05 * np.abs(expected).max()
    half, whole = ((tmp_path / version / "saved_model.pb").stat().st_size for version in ("1", "2"))
    kernels = sum(w.size for w in classifier.model.get_weights() if w.ndim == 4)
    assert whole - half == pytest.approx(2 * kernels, rel=0.2)


def test_the_weights_are_constants_without_batch_normalization(loaded: Any) -> None:
    assert len(getattr(loaded, "variables", ())) == 0
    graph = loaded.signatures["serving_default"].graph.as_graph_def()
    used = {node.op for function in graph.library.function for node in function.node_def}
    assert "Conv2D" in used
    assert not {"ReadVariableOp", "FusedBatchNormV3", "Rsqrt", "PyFunc", "EagerPyFunc"} & used


def test_the_features_of_a_quantized_network_are_those_before_its_head() -> None:
    model = drawn(models.build(TWO_STAGES, input_shape=(8, 8, 3), classes=4, classifier_activation=None))
    rgb = replace(RGB, image_size=(8, 8), shorter_side=None)
    image = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 3)).astype("float32")
    rounded = quantize(model, rgb.std)
    calibrate(rounded, [normalize(image, rgb)])
    network = serving_network(Classifier(rounded, rgb, tuple("abcd")))
    found, logits = network(image), rounded(normalize(image, rgb))
    assert found["features"].shape == (4, 8)
    np.testing.assert_allclose(found["logits"], logits, atol=0.02 * np.abs(logits).max())
    np.testing.assert_allclose(probability_network(network)(image), softmax(np.asarray(found["logits"])), atol=1e-6)


def test_warm_up_requests_run_by_their_signatures(loaded: Any, classifier: Classifier, tmp_path: Path) -> None:
    write_warmup_requests(tmp_path, "animals", classifier.preprocessing, "uint8")
    signatures = loaded.signatures
    asked = []
    for record in tf.data.TFRecordDataset(str(tmp_path / WARM_UP)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.name == "animals"
        asked.append(request.model_spec.signature_name)
        inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
        found = signatures[asked[-1]](**inputs)
        assert all(value.shape[0] == 1 for value in found.values())
    assert asked == ["serving_default", "serve_bytes", "features"]


def fixed_size(loaded: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns images of the network's size, and the outputs of the signature for them."""
    signature = loaded.signatures["fixed_size"]
    images = pixels(3, 32, 40)
    return images, {name: value.numpy() for name, value in signature(images=tf.constant(images)).items()}


@pytest.mark.slow
def test_the_signature_of_a_fixed_size_computes_the_same_and_converts_to_openvino(loaded: Any) -> None:
    images, expected = fixed_size(loaded)
    of_any_size = loaded.signatures["serving_default"](images=tf.constant(images))["probabilities"]
    np.testing.assert_array_equal(expected["probabilities"], of_any_size)
    openvino = pytest.importorskip("openvino")
    converted = openvino.convert_model(loaded.signatures["fixed_size"])
    outputs = openvino.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images)
    for name, value in expected.items():
        np.testing.assert_allclose(outputs[name], value, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_signature_of_a_fixed_size_converts_to_onnx(loaded: Any, served: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    images, expected = fixed_size(loaded)
    file = tmp_path / "model.onnx"
    command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(served), "--output", str(file)]
    subprocess.run([*command, "--signature_def", "fixed_size", "--opset", "17"], check=True, capture_output=True)
    session = onnxruntime.InferenceSession(file)
    for name, value in zip(sorted(expected), session.run(sorted(expected), {"images": images}), strict=True):
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_ten_thousand_concurrent_requests_with_hostile_ones_among_them_are_answered_right(loaded: Any) -> None:
    rng = np.random.default_rng(16)
    serve = loaded.signatures["serve_bytes"]
    good = [tf.io.encode_jpeg(rng.integers(0, 256, (*size, 3), np.uint8)).numpy() for size in ((40, 50), (90, 33))]
    good.append(flat_png(40, 30))
    expected = [serve(image_bytes=tf.constant([file]))["scores"].numpy() for file in good]
    hostile = [
        png_of_hidden_size(9_000, 9_000),
        png_of_claimed_size(9_000, 9_000),
        jpeg_of_scans(101),
        *(good[0][: len(good[0]) // 2], b"", b"\0" * 100),
    ]

    def request(number: int) -> str:
        if number % 3 == 0:
            with pytest.raises(tf.errors.InvalidArgumentError):
                serve(image_bytes=tf.constant([good[0], hostile[number // 3 % len(hostile)]]))
            return "refused"
        which = number % len(good)
        np.testing.assert_array_equal(serve(image_bytes=tf.constant([good[which]]))["scores"], expected[which])
        return "right"

    before = peak_memory()
    with ThreadPoolExecutor(8) as pool:
        outcomes = Counter(pool.map(request, range(10_788)))
    assert outcomes == {"refused": 3_596, "right": 7_192}
    assert peak_memory() - before < 1 << 30
