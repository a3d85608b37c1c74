"""Published weights: fetched, verified and kept, over real HTTP from a server on this machine."""

import hashlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import resnet_keras
from resnet_keras.networks.catalog import ARCHITECTURES, FAMILY
from resnet_keras.weights import published
from resnet_keras.weights.sources import open_weights


class Server:
    """Serves files by their paths, the way a plain server and the hub do, and counts what is asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self, with_body: bool) -> None:
                path = self.path.partition("?")[0]
                outer.asked.append(f"{self.command} {path}")
                content = outer.files.get(path)
                self.send_response(404 if content is None else 200)
                body = b"" if content is None else content
                if content is None:
                    self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", f'"{hashlib.sha256(outer.promised.get(path, body)).hexdigest()}"')
                self.send_header("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567")
                self.end_headers()
                if with_body and outer.seconds_per_byte:
                    for i in range(len(body)):
                        time.sleep(outer.seconds_per_byte)
                        self.wfile.write(body[i : i + 1])
                elif with_body:
                    self.wfile.write(body)

            def do_GET(self) -> None:
                self.answer(True)

            def do_HEAD(self) -> None:
                self.answer(False)

            def log_message(self, *args: object) -> None:
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                pass  # of a client that has left; its traceback would be printed in a later test

        self.promised: dict[str, bytes] = {}
        self.seconds_per_byte = 0.0
        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    serving = Server()
    yield serving
    serving.http.shutdown()
    serving.http.server_close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home for Keras's files."""
    folder = tmp_path / "keras"
    folder.mkdir()
    monkeypatch.setenv("KERAS_HOME", str(folder))
    return folder


NAME = "resnet50_weights_tf_dim_ordering_tf_kernels.h5"


@pytest.fixture(scope="module")
def authors(tmp_path_factory: pytest.TempPathFactory) -> tuple[keras.Model, bytes]:
    """`keras.applications`' ResNet-50 with random weights, and their file in the layout of the published one."""
    model = keras.applications.ResNet50(weights=None)
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.2, 0.4, weight.shape).astype("float32") for weight in model.weights])
    path = tmp_path_factory.mktemp("authors") / NAME
    with h5py.File(path, "w") as file:
        layers = [layer for layer in model.layers if layer.weights]
        file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
        for layer in layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.weights, strict=True):
                group[name] = weight.numpy()
    return model, path.read_bytes()


@pytest.fixture
def publisher(server: Server, authors: tuple[keras.Model, bytes], monkeypatch: pytest.MonkeyPatch) -> Server:
    content = authors[1]
    server.files[f"/{NAME}"] = content
    monkeypatch.setattr(published, "_KERAS_URL", f"{server.url}/")
    file = published.KerasFile(NAME, hashlib.md5(content).hexdigest())
    monkeypatch.setitem(published.PUBLISHED["resnet50"], "imagenet", file)
    return server


def test_hashes_and_place_are_those_that_keras_applications_has() -> None:
    from keras.src.applications import resnet

    assert published._KERAS_URL == resnet.BASE_WEIGHTS_PATH
    files = {name: sources["imagenet"] for name, sources in published.PUBLISHED.items()}
    assert {
        f"{name}{v2}": published.KerasFile(
            f"{name}{v2}_weights_tf_dim_ordering_tf_kernels.h5", resnet.WEIGHTS_HASHES[f"{name}{v2}"][0]
        )
        for v2 in ("", "v2")
        for name in ("resnet50", "resnet101", "resnet152")
    } == {name: file for name, file in files.items() if isinstance(file, published.KerasFile)}


@pytest.mark.slow
def test_imagenet_means_the_authors_weights_which_are_fetched_once(
    publisher: Server, authors: tuple[keras.Model, bytes], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = resnet_keras.ResNet50(weights="imagenet")
    assert (home / "models" / NAME).read_bytes() == authors[1]
    assert publisher.asked == [f"GET /{NAME}"]
    theirs = authors[0]
    np.testing.assert_array_equal(
        ours.get_layer("stage4_block3_conv2").kernel, theirs.get_layer("conv5_block3_2_conv").kernel
    )
    again = open_weights("imagenet", "resnet50")
    assert publisher.asked == [f"GET /{NAME}"]
    assert again.preprocessing is not None and again.preprocessing.channel_order == "bgr"
    assert again.class_names is not None and again.class_names[1] == "goldfish"


def test_another_file_than_the_published_one_is_refused(publisher: Server, home: Path) -> None:
    publisher.files[f"/{NAME}"] = b"another file"
    with pytest.raises(
        ValueError, match=r"Expected http://.*kernels\.h5 with the MD5 [0-9a-f]{32}\. Received: another"
    ):
        open_weights("imagenet", "resnet50")


def test_a_damaged_file_in_the_cache_is_fetched_again(
    publisher: Server, authors: tuple[keras.Model, bytes], home: Path
) -> None:
    (home / "models").mkdir()
    (home / "models" / NAME).write_bytes(authors[1][:1000])
    assert open_weights("imagenet", "resnet50").classes == 1000
    assert (home / "models" / NAME).read_bytes() == authors[1]


@pytest.mark.parametrize("seconds", [0.02, 30.0])
def test_a_server_that_is_silent_or_sends_single_bytes_is_given_up(
    publisher: Server, home: Path, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "SILENCE_SECONDS", 0.2)
    publisher.seconds_per_byte = seconds
    begun = time.monotonic()
    with pytest.raises(
        FileNotFoundError, match=r"Get http://.*and put it there. Received: (timed out|\d+ bytes in 0 s)"
    ):
        open_weights("imagenet", "resnet50")
    assert time.monotonic() - begun < 5
    assert not list((home / "models").rglob("*"))


def test_a_home_that_is_no_folder_is_named_and_no_other_place_is_taken(
    publisher: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    with pytest.raises(FileNotFoundError, match=rf"Expected {tmp_path}/file/models/.*Received: .*Not a directory"):
        open_weights("imagenet", "resnet50")


def test_a_file_under_git_s_hash_is_compared_with_it(tmp_path: Path) -> None:
    content = b"weights"
    stated = hashlib.sha1(b"blob 7\0weights").hexdigest()
    for name in (stated, "model.safetensors", hashlib.sha256(content).hexdigest()):
        (tmp_path / name).write_bytes(content)
        published._verify(tmp_path / name, "hf://a/b")
    (tmp_path / stated).write_bytes(b"wei?hts")
    with pytest.raises(ValueError, match=f"of Git's hash {stated} from hf://a/b. Received: another file"):
        published._verify(tmp_path / stated, "hf://a/b")
    assert not (tmp_path / stated).exists()


def test_any_error_of_the_hub_s_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")

    class ConnectTimeout(Exception):
        """As httpx has it, which is no OSError."""

    def failing(*_: str, **__: bool) -> str:
        raise ConnectTimeout("timed out")

    monkeypatch.setattr(library, "hf_hub_download", failing)
    with pytest.raises(FileNotFoundError, match=rf"{MISSING}.*Received: timed out"):
        published.fetch("hf://a/b")


def test_without_a_network_the_error_says_which_file_to_put_where(
    publisher: Server, authors: tuple[keras.Model, bytes], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.http.shutdown()
    publisher.http.server_close()
    place = home / "models" / NAME
    with pytest.raises(FileNotFoundError) as raised:
        resnet_keras.ResNet50(weights="imagenet")
    assert f"Expected {place}" in str(raised.value)
    assert f"Get {publisher.url}/{NAME} and put it there" in str(raised.value)
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(authors[1])
    assert open_weights("imagenet", "resnet50").classes == 1000


@pytest.mark.parametrize("network", ["resnet20", "plainnet18", None])
@pytest.mark.parametrize("source", ["imagenet", "torchvision"])
def test_an_error_names_networks_with_published_weights(source: str, network: str | None) -> None:
    with pytest.raises(ValueError, match=rf"one of resnet18, .*wide_resnet101_2\. Received: {network}") as raised:
        published.fetch(source, network)
    assert ("resnet50v2, " in str(raised.value)) == (source == "imagenet")


def test_the_message_has_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"Received: resnet50v3\. Did you mean resnet50v2\?"):
        published.fetch("imagenet", "resnet50v3")
    with pytest.raises(ValueError, match=r"called 'torchvision'.*Received: resnet50v2\. Did you mean resnet50\?"):
        published.fetch("torchvision", "resnet50v2")


def test_every_network_with_published_weights_is_one_of_the_family() -> None:
    assert set(published.PUBLISHED) <= set(ARCHITECTURES | FAMILY)
    assert {source for sources in published.PUBLISHED.values() for source in sources} == {"imagenet", "torchvision"}


@pytest.mark.parametrize(
    ("source", "network", "repository"),
    [
        ("imagenet", "resnet18", "timm/resnet18.tv_in1k"),
        ("imagenet", "resnet34", "timm/resnet34.tv_in1k"),
        ("torchvision", "resnet50", "timm/resnet50.tv_in1k"),
        ("torchvision", "resnet152", "timm/resnet152.tv_in1k"),
        ("hf://microsoft/resnet-50", None, "microsoft/resnet-50"),
    ],
)
def test_names_lead_to_repositories(
    source: str, network: str | None, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(published, "_from_hub", lambda name: asked.append(name) or Path())
    published.fetch(source, network)
    assert asked == [f"hf://{repository}"]


@pytest.mark.parametrize("source", ["hf://resnet18", "hf://a/b/c", "hf://../etc", "hf://"])
def test_a_name_that_is_no_repository_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="Expected hf://OWNER/NAME. Received: hf://"):
        published.fetch(source)


def test_without_the_hubs_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", None)
    with pytest.raises(ImportError, match=r"pip install huggingface_hub \(the extra hub\)"):
        published.fetch("hf://timm/resnet18.tv_in1k")


@pytest.fixture
def hub(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The hub's library, asking the server on this machine and keeping files in an empty folder."""
    library = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    original = library.hf_hub_download
    folder = tmp_path / "hub"

    def download(repository: str, name: str, local_files_only: bool = False) -> str:
        places = {"cache_dir": folder, "endpoint": server.url}
        return original(repository, name, local_files_only=local_files_only, **places)

    monkeypatch.setattr(library, "hf_hub_download", download)
    return server


def torch_weights() -> bytes:
    """ResNet-18's weights under torchvision's names, random, as safetensors."""
    import safetensors.numpy

    model = resnet_keras.ResNet18()
    rng = np.random.default_rng(1)
    names = {"kernel": "weight", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean",
             "moving_variance": "running_var", "bias": "bias"}  # fmt: skip
    arrays = {}
    for layer in model.layers:
        for weight in layer.weights:
            where = layer.name.replace("stem_conv_bn", "bn1").replace("stem_conv", "conv1").replace("logits", "fc")
            if where.startswith("stage"):
                stage, block, part, *norm = where.split("_")
                inner = {"projection": "downsample.1" if norm else "downsample.0"}.get(part) or (
                    part.replace("conv", "bn") if norm else part
                )
                where = f"layer{stage[5:]}.{int(block[5:]) - 1}.{inner}"
            array = rng.uniform(0.2, 0.4, weight.shape).astype("float32")
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
            arrays[f"{where}.{names[weight.name]}"] = np.ascontiguousarray(array)
    return safetensors.numpy.save(arrays)


CONFIG = {
    "architecture": "resnet18",
    "num_classes": 1000,
    "pretrained_cfg": {
        "input_size": [3, 224, 224],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "crop_pct": 0.95,
        "interpolation": "bicubic",
    },
}


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the hub's library know that there is no network, as HF_HUB_OFFLINE=1 does when it starts."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="huggingface_hub is not installed")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_repository_of_the_hub_is_fetched_with_its_settings_verified_and_kept(
    hub: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "/timm/resnet18.tv_in1k/resolve/main"
    hub.files[f"{place}/model.safetensors"] = torch_weights()
    hub.files[f"{place}/config.json"] = json.dumps(CONFIG).encode()
    model = resnet_keras.ResNet18(weights="imagenet")
    assert model.count_params() == 11_699_112
    found = open_weights("hf://timm/resnet18.tv_in1k")
    assert found.classes == 1000
    assert found.preprocessing is not None
    assert (found.preprocessing.interpolation, found.preprocessing.shorter_side) == ("bicubic", 235)
    assert hub.asked.count(f"GET {place}/model.safetensors") == 1
    offline(monkeypatch)
    assert open_weights("hf://timm/resnet18.tv_in1k").classes == 1000
    assert hub.asked.count(f"GET {place}/model.safetensors") == 1


def test_shards_of_the_hub_are_fetched_by_their_index(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.numpy

    place = "/a/b/resolve/main"
    tensors = safetensors.numpy.load(torch_weights())
    parts = {
        "model-00001-of-00002.safetensors": list(tensors)[:60],
        "model-00002-of-00002.safetensors": list(tensors)[60:],
    }
    for file, names in parts.items():
        hub.files[f"{place}/{file}"] = safetensors.numpy.save({name: tensors[name] for name in names})
    index = {"weight_map": {name: file for file, names in parts.items() for name in names}}
    hub.files[f"{place}/model.safetensors.index.json"] = json.dumps(index).encode()
    found = open_weights("hf://a/b")
    np.testing.assert_array_equal(found.tensors["logits/bias"], tensors["fc.bias"])
    np.testing.assert_array_equal(found.tensors["stem_conv_bn/gamma"], tensors["bn1.weight"])
    offline(monkeypatch)
    assert open_weights("hf://a/b").classes == 1000
    assert [hub.asked.count(f"GET {place}/{file}") for file in parts] == [1, 1]


def test_a_file_of_the_hub_that_is_not_what_it_promised_is_refused_and_removed(hub: Server, tmp_path: Path) -> None:
    place = "/timm/resnet18.tv_in1k/resolve/main"
    content = torch_weights()
    hub.files[f"{place}/model.safetensors"] = content[:-1] + b"?"
    hub.promised[f"{place}/model.safetensors"] = content
    with pytest.raises(
        ValueError, match=r"of SHA-256 [0-9a-f]{64} from hf://timm/resnet18\.tv_in1k\. Received: another"
    ):
        open_weights("hf://timm/resnet18.tv_in1k")
    assert not [blob for blob in (tmp_path / "hub").rglob("blobs/*") if blob.stat().st_size == len(content)]


MISSING = r"Get model\.safetensors and config\.json of https://huggingface\.co/a/b"


def test_offline_the_error_says_what_to_get(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)
    with pytest.raises(FileNotFoundError, match=MISSING):
        published.fetch("hf://a/b")
    assert hub.asked == []


def test_a_hub_that_cannot_be_reached_is_tried_for_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    asked: list[tuple[str, bool]] = []

    def unreachable(name: str, file: str, local_files_only: bool = False) -> str:
        asked.append((file, local_files_only))
        raise library.errors.LocalEntryNotFoundError("not in the cache" if local_files_only else "no connection")

    monkeypatch.setattr(library, "hf_hub_download", unreachable)
    with pytest.raises(FileNotFoundError, match=f"{MISSING}.*Received: no connection"):
        published.fetch("hf://a/b")
    files = ["model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"]
    assert asked == [(file, file != files[0]) for file in files]


@pytest.mark.slow  # the hub's library tries for 20 seconds
def test_an_error_names_the_file_of_a_repository_that_cannot_be_reached(hub: Server) -> None:
    hub.http.shutdown()
    hub.http.server_close()
    with pytest.raises(FileNotFoundError, match=MISSING):
        published.fetch("hf://a/b")


def test_a_repository_without_weights_raises(hub: Server) -> None:
    names = r"model\.safetensors, pytorch_model\.bin, model\.safetensors\.index\.json"
    with pytest.raises(FileNotFoundError, match=f"none of {names} is in it"):
        published.fetch("hf://a/b")


@pytest.mark.parametrize(
    ("source", "network", "license_"),
    [
        ("imagenet", "resnet50", "MIT License (Kaiming He)"),
        ("imagenet", "resnet50v2", "Apache License 2.0 (TF-slim)"),
        ("imagenet", "resnet18", "BSD 3-Clause License (torchvision)"),
        ("torchvision", "resnet50", "BSD 3-Clause License (torchvision)"),
        ("hf://timm/resnet50.a1_in1k", "resnet50", "that of https://huggingface.co/timm/resnet50.a1_in1k"),
        ("resnet20_digits", None, "Apache License 2.0, that of resnet_keras"),
        ("weights.h5", "resnet50", None),
    ],
)
def test_the_license_of_weights_is_known_where_they_are_published(
    source: str, network: str | None, license_: str | None
) -> None:
    assert published.license_of(source, network) == license_
