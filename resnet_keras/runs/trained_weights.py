"""The weights of a finished run in one safetensors file, with their training and their errors."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.loaded_network import load_network
from resnet_keras.data.opening import open_split
from resnet_keras.evaluation.evaluator import evaluate
from resnet_keras.evaluation.views import Views
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.folder import RunFolder, dataset_of
from resnet_keras.runs.saved_run import nearest, read_run
from resnet_keras.surgery.quantization import is_quantized
from resnet_keras.weights.imported import import_arrays
from resnet_keras.weights.keras_file import arrays_of_model
from resnet_keras.weights.model_conventions import conventions_of_model
from resnet_keras.weights.recognition import recognize_architecture
from resnet_keras.weights.weights_file import SUFFIX, TrainedWeights, rounded, tensor_hash, write_trained

_DIGITS = 6
_PRIVATE = ("data_dir", "own_data", "sha256")  # places on the machine of the training, and hashes of other files


def write_run_weights(run: str | Path, to: str | Path, *, data_dir: str | Path | None = None) -> TrainedWeights:
    """Writes the weights of a finished run, kernels in float16, with what is known of them.

    The weights are evaluated as the file has them, on all test images of the run's data set, alone and averaged with
    the mirrored images. `resnet_keras.weights.open_weights` reads the file and checks its hash.

    Args:
        run: Folder of the run.
        to: The `.safetensors` file to write.
        data_dir: Folder of the run's data set; that of the training if `None`.

    Returns:
        The facts in the file.

    Raises:
        FileNotFoundError: The run is not finished, or its data are missing.
        ValueError: The file has another suffix; the run was on its caller's own images or quantization-aware; or a
            weight is not finite.
    """
    if Path(to).suffix != SUFFIX:
        raise ValueError(f"Expected a file ending in {SUFFIX}. Received: {to}")
    classifier, saved = Classifier.load(run), read_run(run)
    dataset, data_dir = dataset_of(run, None, data_dir)
    if is_quantized(classifier.model):
        raise ValueError(f"Expected a run without quantization-aware training. Received: {run}")
    model = classifier.model
    tensors = rounded(arrays_of_model(model))
    found = import_arrays(
        tensors,
        str(run),
        conventions=conventions_of_model(model),
        preprocessing=classifier.preprocessing,
        class_names=classifier.class_names,
    )
    loaded = load_network(found)
    served = Classifier(loaded.model, loaded.preprocessing, loaded.class_names)
    split = open_split(dataset, "test", data_dir=data_dir)
    plain, mirrored = (
        evaluate(served, split, views=views, batch_size=saved.recipe.data.batch_size)
        for views in (Views(), Views(flip=True))
    )
    facts = TrainedWeights(
        architecture=recognize_architecture(found),
        preprocessing=classifier.preprocessing,
        class_names=classifier.class_names,
        dataset=dataset,
        recipe=json.loads(json.dumps(asdict(saved.recipe))),  # lists, as the file has them
        command=training_command(saved.recipe),
        seed=saved.recipe.seed,
        machine={key: value for key, value in RunFolder(run).data().items() if key not in _PRIVATE},
        history=tuple({key: _short(value) for key, value in row.items()} for row in saved.history),
        evaluation=asdict(plain),
        mirrored_evaluation=asdict(mirrored),
        sha256=tensor_hash(tensors),
    )
    write_trained(to, tensors, facts)
    return facts


def training_command(recipe: Recipe) -> str:
    """Returns the command that trains by a recipe: the nearest of `RECIPES`, and a flag for each other value."""
    name, differing = nearest(recipe)
    flags = {"model": recipe.network.model, **differing, "seed": recipe.seed}
    return shlex.join(["resnet", "train", name, *(word for key, value in flags.items() for word in _flag(key, value))])


def _flag(name: str, value: Any) -> Iterator[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        yield f"--{flag}" if value else f"--no-{flag}"
    else:
        yield f"--{flag}"
        yield from map(str, value if isinstance(value, (tuple, list)) else [value])


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
