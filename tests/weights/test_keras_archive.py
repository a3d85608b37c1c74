"""A `.keras` archive is looked at before Keras opens it: what no classifier has is refused, and nothing is built."""

from __future__ import annotations

import base64
import copy
import json
import marshal
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from helpers.small_detectors import C4, FPN, small_detector
from helpers.small_networks import TWO_STAGES, drawn

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.builder import build
from resnet_keras.networks.catalog import architecture
from resnet_keras.surgery import quantize
from resnet_keras.training.distillation import DistillationLoss
from resnet_keras.training.optimizers import MomentumSGD
from resnet_keras.weights.archive_member import open_member
from resnet_keras.weights.keras_archive import check_archive, open_archive, save_archive
from resnet_keras.weights.network_size import NetworkSize

INPUT = Preprocessing(image_size=(8, 8), channels=3, mean=(0, 0, 0), std=(1, 1, 1))
Content = dict[str, Any]


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The members of a small classifier's file."""
    path = tmp_path_factory.mktemp("keras") / "x.keras"
    model = build(TWO_STAGES, input_shape=(8, 8, 3), classes=3, classifier_activation=None)
    Classifier(model, INPUT, ("a", "b", "c")).save(path)
    check_archive(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, members: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def refused(path: Path, reason: str) -> None:
    """Checks that a file is refused with one sentence, in little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"Expected a whole .keras file. Received: .*{reason}") as raised:
            Classifier.load(path)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 700


def layers_of(config: Content) -> Iterator[Content]:
    for layer in config["config"]["layers"]:
        yield layer
        if "layers" in layer["config"]:
            yield from layers_of(layer)


def first(config: Content, kind: str) -> Content:
    return next(layer for layer in layers_of(config) if layer["class_name"] == kind)


def wide(config: Content) -> None:
    for layer in layers_of(config):
        if layer["class_name"] == "Conv2D":
            layer["config"]["filters"] = 65_000


def a_lambda(config: Content) -> None:
    first(config, "ReLU").update(class_name="Lambda")


def from_another_package(config: Content) -> None:
    first(config, "ReLU").update(module="os", class_name="system", registered_name="os>system")


def a_hidden_initializer(config: Content) -> None:
    first(config, "Conv2D")["config"]["kernel_initializer"].update(module="builtins", class_name="function")


def a_layer_of_a_saved_model(config: Content) -> None:
    first(config, "ReLU").update(class_name="TFSMLayer")


def a_huge_number(config: Content) -> None:
    first(config, "Conv2D")["config"]["filters"] = 10**9


def many_classes(config: Content) -> None:
    first(config, "Dense")["config"]["units"] = 1_000_000


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (wide, "its network needs [0-9,]{10,} numbers, and its arrays hold [0-9,]+"),
        (many_classes, "its network needs [0-9,]+ numbers"),
        (a_huge_number, "its network has the number 1000000000"),
        (a_lambda, "class keras.layers.Lambda, which is not known"),
        (a_layer_of_a_saved_model, "class keras.layers.TFSMLayer, which is not known"),
        (from_another_package, "class os.system, which is not known"),
        (a_hidden_initializer, "class builtins.function, which is not known"),
    ],
)
def test_a_network_that_is_not_of_the_arrays_is_refused(
    tmp_path: Path, members: dict[str, bytes], change: Callable[[Content], None], reason: str
) -> None:
    config = json.loads(members["config.json"])
    change(config)
    refused(write(tmp_path / "x.keras", {**members, "config.json": json.dumps(config).encode()}), reason)


def spliced(config: Content, kind: str, **fields: Any) -> None:
    """Puts a layer behind the second one."""
    layers = config["config"]["layers"]
    before, after = layers[1]["config"]["name"], json.dumps(layers[2:])
    node = copy.deepcopy(layers[2]["inbound_nodes"][0]["args"][0])
    layer = {"module": "keras.layers", "class_name": kind, "registered_name": None, "name": "more"}
    layer |= {"config": {"name": "more", **fields}, "inbound_nodes": [{"args": [node], "kwargs": {}}]}
    config["config"]["layers"] = [
        *layers[:2],
        layer,
        *json.loads(after.replace(json.dumps([before, 0, 0]), json.dumps(["more", 0, 0]))),
    ]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("UpSampling2D", {"size": [1000, 1000]}),
        ("UpSampling2D", {"size": 100_000}),
        ("ZeroPadding2D", {"padding": [[20_000, 0], [20_000, 0]]}),
        ("ZeroPadding2D", {"padding": 1_000_000}),
        ("Resizing", {"height": 1_000_000, "width": 1_000_000}),
    ],
)
def test_feature_maps_of_many_times_an_image_are_refused(
    tmp_path: Path, members: dict[str, bytes], kind: str, fields: dict[str, Any]
) -> None:
    config = json.loads(members["config.json"])
    spliced(config, kind, **fields)
    path = write(tmp_path / "x.keras", {**members, "config.json": json.dumps(config).encode()})
    refused(path, "its network has a feature map of [0-9,]+ numbers, more than 16,777,216 for images of 64 pixels")


def test_feature_maps_are_counted_with_their_sides() -> None:
    def layer(kind: str, **config: Any) -> Content:
        return {"class_name": kind, "config": {"name": "", **config}}

    image = layer("InputLayer", batch_shape=[None, None, None, 3])
    stem = [layer("ZeroPadding2D", padding=3), layer("Conv2D", filters=64, kernel_size=7, strides=2)]
    size = NetworkSize({"layers": [image, *stem]})
    assert (size.pixels, size.weights) == (256 * 256, 49 * 3 * 64 + 3 * 64)
    assert (size.largest.channels, size.largest.height, size.largest.width) == (64, 131, 131)
    size.check()
    larger = [layer("Conv2D", filters=16, kernel_size=1), layer("UpSampling2D", size=2)]
    many = NetworkSize({"layers": [image, *larger, *[layer("ReLU")] * 4_200]})
    with pytest.raises(ValueError, match=r"feature maps of 17,6[0-9,]+ numbers together, more than 17,179,869,184"):
        many.check()


def hostile_objects(command: str) -> dict[str, Content]:
    """Objects of a configuration that would run a command, or read a file, in a reader that trusts them."""
    code = base64.b64encode(marshal.dumps(compile(f"__import__('os').system({command!r})", "x", "eval"))).decode()

    def made(module: str | None, name: str, config: Any, registered: str | None = None) -> Content:
        return {"module": module, "class_name": name, "config": config, "registered_name": registered}

    function = {"class_name": "__lambda__", "config": {"value": [code, None, None]}}
    path = command.rpartition(" ")[2]
    inner = made("keras.layers", "Lambda", {"name": "x", "function": function})
    return {
        "a call of the system": made("os", "system", command),
        "a registered call of the system": made(None, "system", command, "os>system"),
        "a process": made("subprocess", "Popen", {"args": command, "shell": True}),
        "eval": made("builtins", "eval", f"__import__('os').system({command!r})"),
        "exec": made("builtins", "exec", command),
        "a function of a module": made("builtins", "function", "system", "os"),
        "a bound function": made("os", "function", "system", "function"),
        "a lambda": function,
        "a layer of a lambda": inner,
        "a wrapper of one": made("keras.layers", "Wrapper", {"layer": inner}),
        "a wrapper over time": made("keras.layers", "TimeDistributed", {"layer": inner}),
        "a recurrent wrapper": made("keras.layers", "Bidirectional", {"layer": inner}),
        "a recurrent layer": made("keras.layers", "RNN", {"cell": inner}),
        "a saved model": made("keras.layers", "TFSMLayer", {"filepath": path}),
        "a module of PyTorch": made("keras.layers", "TorchModuleWrapper", {"module": code}),
        "a function of JAX": made("keras.layers", "JaxLayer", {"call_fn": function}),
        "a module of Flax": made("keras.layers", "FlaxLayer", {"module": function}),
        "a table of text": made("keras.layers", "TextVectorization", {"vocabulary": path}),
        "a table of strings": made("keras.layers", "StringLookup", {"vocabulary": path}),
        "a download": made("keras.utils", "get_file", {"fname": path, "origin": "file:///etc/passwd"}),
        "a module of Keras": made("keras.src.saving.saving_lib", "load_model", {"filepath": path}),
        "a module that looks like Keras": made("keras_os", "system", command, "keras>system"),
        "an import of another package": made("resnet_keras.files", "parse_json", command),
        "an import of a file": made(path.replace("/", "."), "x", {}),
    }


@pytest.mark.parametrize("kind", [pytest.param("ReLU", marks=pytest.mark.slow), "Conv2D"])
def test_hostile_configurations_run_nothing(tmp_path: Path, members: dict[str, bytes], kind: str) -> None:
    """Each stands for a layer, for a part of one, and where a compiled model would be told."""
    marker = tmp_path / "executed"
    objects = hostile_objects(f"touch {marker}")
    assert len(objects) == 24
    for name, hostile in objects.items():
        for place in ("layer", "part", "inputs") if kind == "ReLU" else ("part",):
            config = json.loads(members["config.json"])
            layer = first(config, kind)
            if place == "layer":
                layer.update(hostile)
            elif place == "part":
                layer["config"]["kernel_initializer"] = hostile
            else:
                layer["inbound_nodes"][0]["kwargs"] = {"mask": hostile}
            path = write(tmp_path / "x.keras", {**members, "config.json": json.dumps(config).encode()})
            with pytest.raises(ValueError, match="Expected a whole .keras file") as raised:
                Classifier.load(path)
            assert "\n" not in str(raised.value), name
        if kind == "ReLU":
            config = json.loads(members["config.json"]) | {"compile_config": {"loss": hostile, "optimizer": hostile}}
            Classifier.load(write(tmp_path / "x.keras", {**members, "config.json": json.dumps(config).encode()}))
    assert not marker.exists()


def linked(file: h5py.File) -> None:
    for i in range(1000):
        file[f"copy{i}"] = file["layers"]


def external(file: h5py.File) -> None:
    file.create_dataset("x", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def filled(file: h5py.File) -> None:
    file.create_dataset("x", (2**30,), "f4", chunks=(2**20,))


def packed(file: h5py.File) -> None:
    file.create_dataset("x", data=np.zeros(10**6, "f4"), compression="gzip")


def soft(file: h5py.File) -> None:
    file["x"] = h5py.SoftLink("/layers")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (linked, "is in the file twice"),
        (external, "is outside the file"),
        (filled, "is smaller in the file than its shape"),
        (packed, "is smaller in the file than its shape"),
        (soft, "is outside the file"),
    ],
)
def test_arrays_that_are_not_in_the_file_once_are_refused(
    tmp_path: Path, members: dict[str, bytes], change: Callable[[h5py.File], None], reason: str
) -> None:
    (tmp_path / "x.h5").write_bytes(members["model.weights.h5"])
    with h5py.File(tmp_path / "x.h5", "a") as file:
        change(file)
    changed = {**members, "model.weights.h5": (tmp_path / "x.h5").read_bytes()}
    refused(write(tmp_path / "x.keras", changed), reason)


def test_members_that_unpack_to_gigabytes_are_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    large = b" " * 17_000_000
    for name, reason in (
        ("config.json", "config.json has 17,000,000 bytes, more than"),
        ("classifier.json", "classifier.json has 17,000,000 bytes, more than"),
        ("model.weights.h5", "model.weights.h5 has 17,000,000 bytes, 16 times the archive's"),
    ):
        refused(write(tmp_path / "x.keras", {**members, name: large}, zipfile.ZIP_DEFLATED), reason)


def test_members_that_keras_would_unpack_beside_its_own_are_bounded(tmp_path: Path, members: dict[str, bytes]) -> None:
    more = {**members, "assets/a": b" " * 30_000_000}
    refused(write(tmp_path / "x.keras", more, zipfile.ZIP_DEFLATED), "its members have 30,[0-9,]+ bytes, 16 times the")
    refused(write(tmp_path / "x.keras", {**members, "../a": b"a"}), "it has a member of the name '../a'")
    many = {**members, **{f"assets/{i}": b"" for i in range(2000)}}
    refused(write(tmp_path / "x.keras", many), "its directory has [0-9,]+ bytes, more than 65,536")
    assert not (tmp_path.parent / "a").exists()


def test_members_over_the_same_bytes_are_bounded_whatever_python_does(
    tmp_path: Path, members: dict[str, bytes]
) -> None:
    """Of 1,000 entries for the bytes of one member, each counts; `zipfile` of some versions refuses them itself."""
    path = write(tmp_path / "x.keras", {**members, "assets/0": b"x" * 200_000})
    with zipfile.ZipFile(path, "a") as archive:
        one = archive.getinfo("assets/0")
        for i in range(1, 1000):
            again = copy.copy(one)
            again.filename = f"{i}"
            archive.filelist.append(again)
        archive._didModify = True  # type: ignore[attr-defined]
    refused(path, "its members have 200,[0-9,]+ bytes, 16 times the archive's")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"image_size": [10**6, 10**6]}, "Expected `image_size` of at most 4,096"),
        ({"image_size": "8x8"}, ""),
        ({"mean": [None, 0, 0]}, ""),
        ({"shorter_side": 10**9}, "Expected `shorter_side` of at most 8,192"),
        ({"more": 1}, "unexpected keyword argument"),
    ],
)
def test_preprocessing_out_of_its_range_is_refused(
    tmp_path: Path, members: dict[str, bytes], fields: dict[str, Any], reason: str
) -> None:
    content = json.loads(members["classifier.json"])
    content["preprocessing"] |= fields
    refused(write(tmp_path / "x.keras", {**members, "classifier.json": json.dumps(content).encode()}), reason)


@pytest.mark.parametrize("content", [[], 3, "x", {}, {"preprocessing": 3, "class_names": 3}, {"class_names": []}])
def test_a_description_of_another_shape_is_refused(tmp_path: Path, members: dict[str, bytes], content: Any) -> None:
    refused(write(tmp_path / "x.keras", {**members, "classifier.json": json.dumps(content).encode()}), "")


@pytest.mark.parametrize("name", ["a\nb", 3, None, "", "\x1b[31m", "a\u2028b", "\ud800", " ", "x" * 1001])
def test_a_class_name_that_is_no_line_of_text_is_refused(tmp_path: Path, members: dict[str, bytes], name: Any) -> None:
    content = json.loads(members["classifier.json"])
    content["class_names"][1] = name
    path = write(tmp_path / "x.keras", {**members, "classifier.json": json.dumps(content).encode()})
    refused(path, "Expected class names of printable text in one line")


_SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("seresnet50", "resnext50_32x4d", "resnetrs50")]


@pytest.mark.parametrize("row", [FPN, C4], ids=["fpn", "c4"])
def test_the_numbers_of_a_detector_are_counted_through_its_regions(row: Any) -> None:
    model = small_detector(row)
    config = json.loads(model.to_json())
    counted = NetworkSize(config["config"]).weights
    assert model.count_params() <= counted <= 1.1 * model.count_params()
    for layer in layers_of(config):
        if layer["class_name"] == "Reshape":
            layer["config"]["target_shape"] = [-1]
            with pytest.raises(ValueError, match=r"a Reshape to the shape \[-1\], which does not say its size"):
                NetworkSize(config["config"])
    config = json.loads(model.to_json())
    for layer in layers_of(config):
        layer["config"] |= {"Proposals": {"after": [9, 20_000]}, "RoIAlign": {"size": 50}}.get(layer["class_name"], {})
    with pytest.raises(ValueError, match="a feature map of [0-9]{3},000,000 numbers, more than 268,435,456"):
        NetworkSize(config["config"]).check()


@pytest.mark.parametrize("name", ["resnet20", "resnet8", *_SLOW])
def test_the_numbers_of_a_network_are_counted_without_building_it(name: str) -> None:
    # Within 2 percent: scales and biases are counted generously.
    model = build(architecture(name))
    config = json.loads(model.to_json())
    counted = NetworkSize(config["config"]).weights
    assert model.count_params() <= counted <= 1.02 * model.count_params()


def test_a_quantized_classifier_is_loaded(tmp_path: Path) -> None:
    model = quantize(build(TWO_STAGES, input_shape=(8, 8, 3), classes=3, classifier_activation=None))
    Classifier(model, INPUT, ("a", "b", "c")).save(tmp_path / "x.keras")
    assert isinstance(Classifier.load(tmp_path / "x.keras").model, keras.Model)


def mutated(whole: bytes, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    content = bytearray(whole)
    for _ in range(rng.integers(1, 8)):
        # Half of the changes in the last 40 %, where the JSON and the directory are.
        place = rng.integers(len(content)) if rng.integers(2) else rng.integers(len(content) * 6 // 10, len(content))
        content[place] = rng.integers(256)
    if rng.integers(5) == 0:
        del content[rng.integers(len(content)) :]
    return bytes(content)


@pytest.mark.parametrize("count", [30, pytest.param(600, marks=pytest.mark.slow)])
def test_a_damaged_file_is_one_sentence_or_another_classifier(
    tmp_path: Path, members: dict[str, bytes], count: int
) -> None:
    path = write(tmp_path / "x.keras", members)
    whole, outcomes = path.read_bytes(), Counter[str]()
    for seed in range(count):
        path.write_bytes(mutated(whole, seed))
        try:
            Classifier.load(path)
            outcomes["loaded"] += 1
        except ValueError as error:
            assert str(error).startswith("Expected ")
            assert "\n" not in str(error)
            outcomes["refused"] += 1
    print(outcomes)
    assert outcomes["refused"] > count // 2


def test_a_file_has_nothing_of_the_training_and_keras_opens_it(tmp_path: Path) -> None:
    model = drawn(build(TWO_STAGES, input_shape=(8, 8, 3), classes=2))
    preprocessing = Preprocessing(image_size=(8, 8), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    classifier = Classifier(model, preprocessing, ("no", "yes"))
    classifier.save(tmp_path / "before.keras")
    optimizer = MomentumSGD(learning_rate=0.1, momentum=0.9)
    model.compile(optimizer, DistillationLoss(4.0, 1.0))
    model.optimizer.build(model.trainable_variables)
    classifier.save(tmp_path / "after.keras")
    assert model.compiled and model.optimizer is optimizer
    before, after = (tmp_path / f"{name}.keras" for name in ("before", "after"))
    assert after.stat().st_size == before.stat().st_size
    opened = keras.saving.load_model(after)
    assert not opened.compiled
    pixels = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(opened(pixels), model(pixels), atol=1e-6)


def test_a_file_of_ours_is_opened_with_the_layers_that_it_was_made_of(tmp_path: Path) -> None:
    model = drawn(build(TWO_STAGES, input_shape=(8, 8, 3), classes=4))
    save_archive(model, tmp_path / "x.keras", "x.json", {})
    opened = open_archive(tmp_path / "x.keras")
    kinds = [type(layer) for layer in opened.layers]
    assert kinds == [type(layer) for layer in model.layers]
    for found, expected in zip(opened.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    fresh = opened.layers[-1].__class__.from_config(opened.layers[-1].get_config())
    fresh.build((None, 8))
    assert np.asarray(fresh.kernel).any()  # its initializer draws, although the file was read without


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_is_read_at_any_place(method: int, tmp_path: Path) -> None:
    content = np.random.default_rng(0).integers(0, 9, 10_000).astype(np.uint8).tobytes()
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
        archive.writestr("before", b"x" * 77)
        archive.writestr("member", content)
    archive = zipfile.ZipFile(tmp_path / "x.zip")
    with archive, open_member(archive, archive.getinfo("member"), tmp_path / "x.zip") as file:
        for start, count in ((9000, 500), (3, 7), (9990, 100), (0, 10_000)):
            assert file.seek(start) == start
            assert file.read(count) == content[start : start + count]
        assert file.seek(-5, 2) == 9995
        assert file.tell() == 9995


def test_a_member_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("member", b"x" * 100)
        member = archive.getinfo("member")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        member.file_size = member.compress_size = 10_000
        with pytest.raises(zipfile.BadZipFile), open_member(archive, member, tmp_path / "x.zip"):
            pass
