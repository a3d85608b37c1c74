"""Weights files with wrong bytes, with a fixed seed: each is opened or refused, in bounded time and memory."""

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.foreign_weights import foreign, network, write_safetensors, write_torch

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.runs.process_memory import peak_memory
from resnet_keras.weights.sources import open_weights

MUTATIONS = 510
PIXELS = Preprocessing(image_size=(8, 8), channels=3, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Weights of one small network in seven formats."""
    folder, model = tmp_path_factory.mktemp("whole"), network(0)
    arrays = foreign(model, "torchvision")
    files = [
        write_torch(arrays, folder / "zip.pth"),
        write_torch({"state_dict": arrays, "epoch": 3}, folder / "legacy.pth", zipped=False),
        write_safetensors(arrays, folder / "weights.safetensors"),
    ]
    for name in ("net.keras", "net.weights.h5", "net.h5"):
        files.append(folder / name)
        (model.save_weights if name.endswith(".weights.h5") else model.save)(files[-1])
    files.append(folder / "classifier.keras")
    Classifier(model, PIXELS, tuple("abcde")).save(files[-1])
    return files


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Returns the bytes with some replaced, and perhaps a part cut off, doubled, or zero."""
    changed = bytearray(content)
    # Half of the changes are where the structure is: at the ends.
    for _ in range(rng.integers(1, 12)):
        near = int(rng.integers(min(len(changed), 512)))
        changed[rng.choice([near, -1 - near, int(rng.integers(len(changed)))])] = rng.integers(256)
    begin, end = sorted(rng.integers(0, len(changed) + 1, 2))
    match rng.integers(8):
        case 0:
            del changed[begin:]
        case 1:
            changed[begin:begin] = changed[begin:end]
        case 2:
            changed[begin:end] = bytes(end - begin)
    return bytes(changed)


@pytest.mark.slow
def test_thousands_of_mutated_files_are_opened_or_refused(whole: list[Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(16)
    before, slowest, outcomes = peak_memory(), 0.0, {}
    for file in whole:
        assert open_weights(file).tensors
        content, outcomes[file.name] = file.read_bytes(), Counter()
        for _ in range(MUTATIONS):
            path = tmp_path / file.name
            path.write_bytes(mutated(content, rng))
            begun = time.process_time()
            try:
                open_weights(path)
                outcomes[file.name]["opened"] += 1
            except ValueError as error:
                assert "Expected" in str(error)
                outcomes[file.name]["refused"] += 1
            slowest = max(slowest, time.process_time() - begun)
    print(outcomes, slowest, (peak_memory() - before) >> 20)
    assert sum(sum(counts.values()) for counts in outcomes.values()) == 3_570
    assert all(counts["refused"] > MUTATIONS // 10 for counts in outcomes.values())
    assert slowest < 5
    assert peak_memory() - before < 512 << 20
