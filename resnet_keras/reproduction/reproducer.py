"""Experiments of the paper, run step by step: missing runs are trained and measured, then the document is written."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.evaluation_input import evaluation_batches
from resnet_keras.data.opening import open_split
from resnet_keras.data.sampling import stratified_sample
from resnet_keras.data.splits import Split
from resnet_keras.detection.coco_files import is_coco
from resnet_keras.evaluation.layer_responses import response_deviations
from resnet_keras.evaluation.protocols import ProtocolResult, evaluate_protocols
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.reproduction.catalog import ANY_DATA, COCO, VOC, find_experiment
from resnet_keras.reproduction.detection_runs import measure_detectors
from resnet_keras.reproduction.digit_scenes import write_digit_scenes
from resnet_keras.reproduction.document import write_document
from resnet_keras.reproduction.experiment import BUDGETS, VALIDATE_EPOCHS, Budget, Experiment, Kind
from resnet_keras.reproduction.folder import GIVEN, ReproductionFolder, file_stamp
from resnet_keras.reproduction.peak_memory import train_in_new_process
from resnet_keras.runs.folder import dataset_of, name_of_source
from resnet_keras.runs.post_training import measure_run
from resnet_keras.training.trainer import train

_log = logging.getLogger(__name__)

RESPONSE_IMAGES = 1_000
"""Test images on which responses are measured."""
PROTOCOL_IMAGES = {"small": 2_000}
"""Test images of the protocols, by budget, where it is not all of them: five scales cost as much as 36 crops."""

_WITH_WEIGHTS: tuple[Kind, ...] = ("responses", "protocols", "detection")


@dataclass(frozen=True, kw_only=True)
class _Job:
    """An experiment with its budget, folder and data."""

    name: str
    experiment: Experiment
    budget: Budget
    folder: ReproductionFolder
    data_dir: str | Path | None
    download: bool
    dataset: str | None
    weights: tuple[Path, ...]

    @property
    def subfolder(self) -> str:
        """Subfolder of the measurements."""
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
) -> Path:
    """Runs one of `EXPERIMENTS`; returns the document with its results and those of all experiments so far.

    The folders of the runs are in `workdir`; experiments of one budget share them. Finished runs are reused, and
    interrupted ones are resumed, so the same call again resumes the experiment. Progress is logged.

    Args:
        name: A key of `EXPERIMENTS`.
        workdir: Folder of all experiments.
        budget: "smoke" checks in a minute or two that everything works, on the digits of the package; "small" shows
            the effect on two CPU cores within two hours, on a part of CIFAR-10; "full" uses the paper's recipes.
        data_dir: Folder of the data; see `open_split`, and for "detection" `open_boxes`.
        download: Whether TFDS may download a missing data set.
        dataset: For "responses" and "protocols" with `weights`: the data set whose test images are used. If `None`,
            each run's own; `.keras` files need one.
        weights: For "responses", "protocols", and "detection": finished runs or `.keras` files to measure instead of
            training.

    Raises:
        ValueError: The experiment or the budget is unknown; weights are given for an experiment that trains;
            "protocols" without `dataset` gets runs of several data sets. See `train` for others.
        FileNotFoundError: Data or weights are missing; the message says where to put them.
    """
    if budget not in BUDGETS:
        raise ValueError(f"Expected `budget` to be one of {BUDGETS}. Received: {budget!r}")
    experiment = find_experiment(name)
    if (weights or dataset) and experiment.kind not in _WITH_WEIGHTS:
        raise ValueError(f"Expected no `weights` or `dataset` for {name}. Received: {list(weights)}, {dataset}")
    if dataset and not weights:
        raise ValueError(f"Expected `weights` to show images of `dataset` to. Received: none, and {dataset!r}")
    job = _Job(
        name=name,
        experiment=experiment,
        budget=budget,
        folder=ReproductionFolder(workdir),
        data_dir=data_dir,
        download=download,
        dataset=dataset,
        weights=tuple(map(Path, weights)),
    )
    _RUN[experiment.kind](job)
    write_document(job.folder)
    return job.folder.document


def _count_networks(job: _Job) -> None:
    """Does nothing: `write_document`, which needs the counts for every experiment, counts the networks."""


def _train_all(job: _Job) -> None:
    """Trains and measures the missing runs of an experiment, one after another."""
    recipes = job.experiment.recipes(job.budget)
    every = VALIDATE_EPOCHS[job.budget]
    for i, recipe in enumerate(recipes, start=1):
        path = job.folder.run(job.budget, recipe)
        _log.info(f"run {i} of {len(recipes)}: {path.name}")
        reading: dict[str, Any] = {"data_dir": job.data_dir, "download": job.download}
        if job.experiment.kind == "memory":
            # Curves of a few steps say nothing, and tracing such a deep network for validation takes long.
            seldom = every if job.budget == "full" else recipe.schedule.epochs + 1
            train_in_new_process(
                recipe,
                path,
                **reading,
                validate_epochs=seldom,
            )
        else:
            train(recipe, path, **reading, validate_epochs=min(every, recipe.schedule.epochs))
            measure_run(path, ten_crop=recipe.data.dataset == "imagenet2012")
        keras.utils.clear_session()  # frees the graphs: a process may train a dozen networks


def _sources(job: _Job) -> dict[str, tuple[Path, ...]]:
    """Returns what to measure, by name: the given files, or the runs of each variant, trained where missing."""
    if job.weights:
        names = [_network_name(path) for path in job.weights]
        if len(set(names)) < len(names):
            names = [f"{name} ({name_of_source(path)})" for name, path in zip(names, job.weights, strict=True)]
        return {name: (path,) for name, path in zip(_distinct(names), job.weights, strict=True)}
    _train_all(job)
    return {
        variant.name: tuple(job.folder.run(job.budget, recipe) for recipe in variant.recipes)
        for variant in job.experiment.variants[job.budget]
    }


def _network_name(path: Path) -> str:
    """Returns the name of a network of the catalog; of another one, that of its run or file."""
    name = Classifier.load(path).model.name
    return name if name in ARCHITECTURES else name_of_source(path)


def _distinct(names: Sequence[str]) -> list[str]:
    """Returns the names, those that are there several times with a number."""
    counts, seen = Counter(names), Counter[str]()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if counts[name] == 1 else f"{name} {seen[name]}")
    return found


def _test_images(job: _Job, source: Path) -> tuple[str, Split]:
    dataset, place = dataset_of(source, job.dataset, job.data_dir)
    return dataset, open_split(dataset, "test", data_dir=place)


def _measure_responses(job: _Job) -> None:
    """Measures the responses of each network's layers to test images of its data set."""
    networks: list[dict[str, Any]] = []
    panels = {variant.name: variant.panel for variant in job.experiment.variants[job.budget]}
    for name, paths in _sources(job).items():
        runs = []
        for path in paths:
            _log.info(f"responses: {path}")
            classifier = Classifier.load(path)
            dataset, split = _test_images(job, path)
            split = stratified_sample(split, RESPONSE_IMAGES)
            runs.append(response_deviations(classifier, evaluation_batches(split, classifier.preprocessing, 125)))
            keras.utils.clear_session()
        images = {"dataset": dataset, "images": len(split)}  # of one variant, all runs have the same
        networks.append({"name": name, "panel": panels.get(name, "given networks"), **images, "deviations": runs})
    job.folder.write(job.subfolder, job.name, {"networks": networks})


def _measure_protocols(job: _Job) -> None:
    """Evaluates each network by each protocol; results of an earlier call for the same files are kept."""
    files = {name: paths[0] for name, paths in _sources(job).items()}
    datasets = {name: dataset_of(path, job.dataset, job.data_dir)[0] for name, path in files.items()}
    if len(set(datasets.values())) > 1:
        raise ValueError(
            "Expected networks of one data set, which are also evaluated together, or `dataset`. Received: "
            + ", ".join(f"{name} of {dataset}" for name, dataset in datasets.items())
        )
    classifiers = {name: Classifier.load(path) for name, path in files.items()}
    dataset, split = _test_images(job, next(iter(files.values())))
    split = stratified_sample(split, PROTOCOL_IMAGES.get(job.subfolder, len(split)))
    about = {
        "dataset": dataset,
        "images": len(split),
        "files": {name: file_stamp(path) for name, path in files.items()},
    }
    before = job.folder.read(job.subfolder, job.name) or {}
    same = {key: before.get(key) for key in about} == about
    known = tuple(
        ProtocolResult(**{**row, "networks": tuple(row["networks"])}) for row in before.get("results", []) if same
    )
    found: list[ProtocolResult] = []
    for result in evaluate_protocols(classifiers, split, known=known):
        found.append(result)
        kept = [*found, *(row for row in known if row not in found)]
        job.folder.write(job.subfolder, job.name, {**about, "results": [asdict(row) for row in kept]})


def _measure_detection(job: _Job) -> None:
    """Trains detectors where they are missing, and evaluates each with the steps of Table 9."""
    if job.dataset:
        raise ValueError(f"Expected no `dataset` for {job.name}, but `data_dir`. Received: {job.dataset}")
    if job.weights:
        sources = {}
        for name, path in zip(_distinct([name_of_source(path) for path in job.weights]), job.weights, strict=True):
            dataset, place = dataset_of(path, None if path.is_dir() else "folder", job.data_dir)
            sources[name] = (path, dataset, _expect_folder(place) if dataset == "folder" else place)
        measure_detectors(job.folder, job.subfolder, job.name, sources)
        return
    data = write_digit_scenes(job.folder.path / "data" / "digit_scenes") if job.budget == "smoke" else None
    data = data or _expect_folder(job.data_dir)
    layout = COCO if is_coco(data) else VOC
    variants = [each for each in job.experiment.variants[job.budget] if each.panel in (layout, ANY_DATA)]
    sources = {}
    for variant in variants:
        path = job.folder.run(job.budget, variant.recipe)
        _log.info(f"{variant.name}: {path.name}")
        every = min(VALIDATE_EPOCHS[job.budget], variant.recipe.schedule.epochs)
        train(variant.recipe, path, data_dir=data, skip_broken=True, validate_epochs=every)
        keras.utils.clear_session()
        sources[variant.name] = (path, "folder", data)
    measure_detectors(job.folder, job.subfolder, job.name, sources)


def _expect_folder(data: str | Path | None) -> Path:
    if data is None:
        raise FileNotFoundError("Expected `data_dir`, a folder of images with boxes. Received: none")
    return Path(data)


_RUN: dict[Kind, Callable[[_Job], None]] = {
    "networks": _count_networks,
    "training": _train_all,
    "responses": _measure_responses,
    "protocols": _measure_protocols,
    "memory": _train_all,
    "detection": _measure_detection,
}
