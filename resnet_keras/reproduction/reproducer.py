"""Carrying out the paper's experiments: what is missing is trained and measured, and all is told in one document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.broken_images import open_whole
from resnet_keras.data.evaluation_batches import evaluation_batches
from resnet_keras.data.sampling import stratified_sample
from resnet_keras.data.splits import Split
from resnet_keras.evaluation.layer_responses import response_deviations
from resnet_keras.evaluation.protocols import ProtocolResult, evaluate_protocols
from resnet_keras.reproduction.catalog import find_experiment
from resnet_keras.reproduction.document import write_document
from resnet_keras.reproduction.experiment import BUDGETS, VALIDATE_EPOCHS, Budget, Experiment, Kind
from resnet_keras.reproduction.folder import GIVEN, ReproductionFolder
from resnet_keras.reproduction.peak_memory import train_apart
from resnet_keras.runs.folder import dataset_of
from resnet_keras.runs.post_training import measure_run
from resnet_keras.training.trainer import train

RESPONSE_IMAGES = 1_000
"""Test images whose responses are measured."""
PROTOCOL_IMAGES = {"small": 2_000}
"""Test images that the protocols show, where it is not all of them: five scales cost two cores the time of 36 crops."""

_TAKING_WEIGHTS: tuple[Kind, ...] = ("responses", "protocols")


@dataclass(frozen=True, kw_only=True)
class _Order:
    """What is to be carried out, where, and on which data."""

    name: str
    experiment: Experiment
    budget: Budget
    folder: ReproductionFolder
    data_dir: str | Path | None
    download: bool
    dataset: str | None
    weights: tuple[Path, ...]
    log: Callable[[str], None]

    @property
    def place(self) -> str:
        """Under what the measurements are kept."""
        return GIVEN if self.weights else self.budget


def reproduce(
    name: str,
    workdir: str | Path = "reproduction",
    *,
    budget: Budget = "small",
    data_dir: str | Path | None = None,
    download: bool = False,
    dataset: str | None = None,
    weights: Sequence[str | Path] = (),
    log: Callable[[str], None] = print,
) -> Path:
    """Carries out one of `EXPERIMENTS` and returns the document with its result and those of all others so far.

    Runs lie in `workdir`, where experiments of one budget share them. A run that is there is taken as it is, one that
    was interrupted goes on: so the same call again continues the experiment, however it ended.

    Args:
        name: A key of `EXPERIMENTS`.
        workdir: Folder of all experiments.
        budget: "smoke" shows in a minute or two that everything works, on the digits in the package; "small" shows
            the effect on two CPU cores within two hours, on a part of CIFAR-10; "full" is the paper's own recipes.
        data_dir: Where the data lie; see `open_split`.
        download: Whether TFDS may fetch a data set that is missing.
        dataset: Of "responses" and "protocols" with `weights`: whose test images to show. The first run's own if
            `None`.
        weights: For "responses" and "protocols": finished runs or `.keras` files to measure, in place of training.
        log: Takes the lines of progress.

    Raises:
        ValueError: An unknown experiment or budget; weights for an experiment that trains; or as of `train`.
        FileNotFoundError: The data or the weights are missing; the message says where to put them.
    """
    if budget not in BUDGETS:
        raise ValueError(f"Expected `budget` to be one of {BUDGETS}. Received: {budget!r}")
    chosen = find_experiment(name)
    if (weights or dataset) and chosen.kind not in _TAKING_WEIGHTS:
        raise ValueError(f"Expected no `weights` or `dataset` for {name}. Received: {list(weights)}, {dataset}")
    if dataset and not weights:
        raise ValueError(f"Expected `weights` to show images of `dataset` to. Received: none, and {dataset!r}")
    order = _Order(
        name=name,
        experiment=chosen,
        budget=budget,
        folder=ReproductionFolder(workdir),
        data_dir=data_dir,
        download=download,
        dataset=dataset,
        weights=tuple(map(Path, weights)),
        log=log,
    )
    _CARRIED_OUT[chosen.kind](order)
    write_document(order.folder)
    return order.folder.document


def _count_networks(order: _Order) -> None:
    """Networks are counted when the document is written, which needs them for every experiment."""


def _train_all(order: _Order) -> None:
    """Trains and measures the runs of an experiment that are not there yet, one after another."""
    recipes = order.experiment.recipes(order.budget)
    every = VALIDATE_EPOCHS[order.budget]
    for i, recipe in enumerate(recipes, start=1):
        path = order.folder.run(order.budget, recipe)
        order.log(f"run {i} of {len(recipes)}: {path.name}")
        reading: dict[str, Any] = {"data_dir": order.data_dir, "download": order.download}
        if order.experiment.kind == "memory":
            # Of a few steps no curve is wanted, and so deep a network is long in tracing.
            seldom = every if order.budget == "full" else recipe.schedule.epochs + 1
            train_apart(
                recipe,
                path,
                **reading,
                validate_epochs=seldom,
            )
        else:
            train(recipe, path, **reading, validate_epochs=min(every, recipe.schedule.epochs))
            measure_run(path, ten_crop=recipe.data.dataset == "imagenet2012")
        keras.utils.clear_session()  # a process that trains a dozen networks need not hold all their graphs


def _sources(order: _Order) -> dict[str, tuple[Path, ...]]:
    """Returns what to measure: the finished runs of each variant, which are trained if need be, or what was given."""
    if order.weights:
        names = [path.stem for path in order.weights]
        unique = len(set(names)) == len(names)
        return {path.stem if unique else str(path): (path,) for path in order.weights}
    _train_all(order)
    return {
        variant.name: tuple(order.folder.run(order.budget, recipe) for recipe in variant.recipes)
        for variant in order.experiment.variants[order.budget]
    }


def _test_images(order: _Order, source: Path) -> tuple[str, Split]:
    dataset, place = dataset_of(source, order.dataset, order.data_dir)
    return dataset, open_whole(dataset, "test", data_dir=place)


def _measure_responses(order: _Order) -> None:
    """Measures the responses of each network's layers to the same test images."""
    networks: list[dict[str, Any]] = []
    panels = {variant.name: variant.panel for variant in order.experiment.variants[order.budget]}
    for name, paths in _sources(order).items():
        runs = []
        for path in paths:
            order.log(f"responses: {path}")
            classifier = Classifier.load(path)
            dataset, split = _test_images(order, path)
            shown = stratified_sample(split, RESPONSE_IMAGES)
            runs.append(response_deviations(classifier, evaluation_batches(shown, classifier.preprocessing, 125)))
            keras.utils.clear_session()
        networks.append({"name": name, "panel": panels.get(name, "given"), "deviations": runs})
    content = {"dataset": dataset, "images": len(shown), "networks": networks}
    order.folder.write(order.place, order.name, content)


def _measure_protocols(order: _Order) -> None:
    """Evaluates each network by each protocol; what is known of the same files stays."""
    files = {name: paths[0] for name, paths in _sources(order).items()}
    classifiers = {name: Classifier.load(path) for name, path in files.items()}
    dataset, split = _test_images(order, next(iter(files.values())))
    split = stratified_sample(split, PROTOCOL_IMAGES.get(order.place, len(split)))
    about = {"dataset": dataset, "images": len(split), "files": {name: _stamp(path) for name, path in files.items()}}
    before = order.folder.read(order.place, order.name) or {}
    same = {key: before.get(key) for key in about} == about
    known = tuple(
        ProtocolResult(**{**row, "networks": tuple(row["networks"])}) for row in before.get("results", []) if same
    )
    found: list[ProtocolResult] = []
    for result in evaluate_protocols(classifiers, split, known=known, log=order.log):
        found.append(result)
        kept = [*found, *(row for row in known if row not in found)]
        order.folder.write(order.place, order.name, {**about, "results": [asdict(row) for row in kept]})


def _stamp(path: Path) -> list[Any]:
    """Returns what tells one file from another that takes its place."""
    file = path / "model.keras" if path.is_dir() else path
    state = file.stat()
    return [str(file), state.st_size, state.st_mtime_ns]


_CARRIED_OUT: dict[Kind, Callable[[_Order], None]] = {
    "networks": _count_networks,
    "training": _train_all,
    "responses": _measure_responses,
    "protocols": _measure_protocols,
    "memory": _train_all,
}
