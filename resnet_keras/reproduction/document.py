"""The document of all experiments, written from the files of their runs and measurements alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import keras

from resnet_keras import files
from resnet_keras.evaluation.protocols import ProtocolResult
from resnet_keras.networks.complexity import complexity
from resnet_keras.reproduction.catalog import EXPERIMENTS
from resnet_keras.reproduction.experiment import ACCELERATOR, ACCELERATOR_IMAGES, BUDGETS, Experiment
from resnet_keras.reproduction.folder import GIVEN, ReproductionFolder
from resnet_keras.reproduction.outcomes import Outcome, outcomes
from resnet_keras.reproduction.paper_results import PAPER_NETWORKS
from resnet_keras.reproduction.plots import error_curves, response_curves, save_figure
from resnet_keras.reproduction.tables import (
    contrast_table,
    detection_table,
    error_table,
    memory_table,
    network_table,
    paper_detection_table,
    plan_table,
    protocol_table,
    response_table,
)

_NETWORKS = "networks"
_BUDGET_TITLES = {
    "smoke": "Smoke: a check that everything works, on digits",
    "small": "Small: on two CPU cores",
    "full": "Full: the paper's recipes",
    GIVEN: "Given networks",
}
_MEASURED = "https://github.com/NVIDIA/DeepLearningExamples/tree/master/PyTorch/Classification/ConvNets"
_HEAD = f"""# Reproduction of "Deep Residual Learning for Image Recognition" (arXiv:1512.03385)

Written by `resnet reproduce` from the files of its runs; `resnet reproduce document` writes it again. Errors are top-1,
in percent, mean ± standard deviation (n - 1) over seeds; a difference is taken seed by seed. The *training error* is
that of the finished network on the images that it was trained on, without augmentation; the test error is that of the
last epoch. Each run's folder has its recipe, versions, history and curves; experiments of one budget share their runs.

GPU hours are estimated from a published measurement: an {ACCELERATOR} trains ResNet-50 at {ACCELERATOR_IMAGES:,.0f}
images a second in TF32 ([NVIDIA]({_MEASURED}), a whole epoch on 8 GPUs); other networks take time in proportion to
their multiply-adds. Networks for images as small as CIFAR-10's do not keep a GPU busy, so they have no estimate.
"""


def write_document(folder: ReproductionFolder) -> None:
    """Writes the document of all experiments and its plots.

    The first call builds and counts the networks, which takes half a minute, and stores the counts.

    Raises:
        ValueError: A file of a run cannot be read.
    """
    networks = _networks(folder)
    parts = [_HEAD]
    for name, experiment in EXPERIMENTS.items():
        where = f"`resnet reproduce {name}`; {experiment.where}."
        parts.append(f"## {experiment.title}\n\n{where} The paper finds: {experiment.claim}")
        if experiment.kind == "networks":
            parts.append(network_table(networks))
            continue
        for budget in (*BUDGETS, GIVEN):
            shown = _SHOWN[experiment.kind](folder, name, experiment, budget)
            if shown:
                parts += [f"### {_BUDGET_TITLES[budget]}", *shown]
        parts += _plan(folder, name, experiment, networks)
    files.write_text(folder.document, "\n\n".join(part.strip() for part in parts) + "\n")


def _networks(folder: ReproductionFolder) -> list[dict[str, Any]]:
    """Returns parameters and multiply-adds of the paper's networks; they are counted once."""
    kept = folder.read("full", _NETWORKS)
    if kept is None or [network["name"] for network in kept["networks"]] != list(PAPER_NETWORKS):
        kept = {"networks": []}
        for name in PAPER_NETWORKS:
            kept["networks"].append(asdict(complexity(name)))
            keras.utils.clear_session()
        folder.write("full", _NETWORKS, kept)
    return kept["networks"]


def _training(folder: ReproductionFolder, name: str, experiment: Experiment, budget: str) -> list[str]:
    if budget == GIVEN:
        return []
    found = outcomes(folder, experiment, budget)  # type: ignore[arg-type]
    if not any(outcome.runs for outcome in found):
        return []
    figure = error_curves(found)
    parts = [_run_line(found), error_table(found), contrast_table(experiment, found)]
    if figure is not None:
        parts.append(_figure(folder, budget, name, figure))
    return [part for part in (*parts, _missing_line(found)) if part]


def _memory(folder: ReproductionFolder, name: str, experiment: Experiment, budget: str) -> list[str]:
    if budget == GIVEN:
        return []
    found = outcomes(folder, experiment, budget)  # type: ignore[arg-type]
    return [_run_line(found), memory_table(found)] if any(outcome.runs for outcome in found) else []


def _responses(folder: ReproductionFolder, name: str, experiment: Experiment, budget: str) -> list[str]:
    measured = folder.read(budget, name)
    if measured is None:
        return []
    figure = _figure(folder, budget, name, response_curves(measured))
    return [_response_images(measured["networks"]), response_table(measured), figure]


def _response_images(networks: list[dict[str, Any]]) -> str:
    """Returns a line on the test images; with several data sets, on the networks of each."""
    groups: dict[str, list[str]] = {}
    for network in networks:
        groups.setdefault(f"{network['images']:,} test images of {network['dataset']}", []).append(network["name"])
    if len(groups) == 1:
        return f"Responses to {next(iter(groups))}."
    parts = [f"{images} ({', '.join(names)})" for images, names in groups.items()]
    return f"Responses to {'; '.join(parts)}."


def _protocols(folder: ReproductionFolder, name: str, experiment: Experiment, budget: str) -> list[str]:
    measured = folder.read(budget, name)
    if measured is None:
        return []
    results = [ProtocolResult(**{**row, "networks": tuple(row["networks"])}) for row in measured["results"]]
    return [
        f"On {measured['dataset']}.",
        protocol_table(results, on_imagenet=measured["dataset"] == "imagenet2012"),
    ]


def _detection(folder: ReproductionFolder, name: str, experiment: Experiment, budget: str) -> list[str]:
    measured = folder.read(budget, name)
    if not measured or not measured["rows"]:
        return []
    places = sorted({Path(row["stamp"][-1]).name for row in measured["rows"]})
    line = (
        f"Test parts of {', '.join(places)}. These are neither the paper's images nor its network: compare the rows "
        "with each other, not with the paper."
    )
    if budget == "full":
        line = f"Test parts of {', '.join(places)}."
    line += " Each row of a network adds to the one before."
    return [line, detection_table(measured["rows"])]


_SHOWN: dict[str, Callable[[ReproductionFolder, str, Experiment, str], list[str]]] = {
    "training": _training,
    "memory": _memory,
    "responses": _responses,
    "protocols": _protocols,
    "detection": _detection,
}


def _plan(folder: ReproductionFolder, name: str, experiment: Experiment, networks: list[dict[str, Any]]) -> list[str]:
    """Returns the expected cost of the full budget, unless all its runs are finished."""
    if experiment.kind == "detection":
        return _detection_plan(folder, name)
    found = outcomes(folder, experiment, "full")
    left = tuple(outcome.variant for outcome in found if len(outcome.runs) < outcome.variant.seeds)
    if not left:
        return []
    multiply_adds = {network["name"]: network["multiply_adds"] for network in networks}
    return [
        f"### Not run here: the paper's recipes\n\n`resnet reproduce {name} --budget full --data-dir DIR`",
        plan_table(left, multiply_adds, _rates(folder)),
    ]


def _detection_plan(folder: ReproductionFolder, name: str) -> list[str]:
    """Returns the paper's numbers, and the command of what was not run."""
    title = "The paper's numbers" if folder.read("full", name) else "Not run here: the paper's recipes"
    command = (
        f"`resnet reproduce {name} --budget full --data-dir DIR`\n\nWith VOCdevkit as DIR, it trains and measures the "
        "rows of ResNet-101 on VOC 07+12; with COCO's folder, those on COCO train and val. VGG-16, the test server of "
        "VOC 12, test-dev, and the three networks together are not among them."
    )
    return [f"### {title}\n\n{command}", paper_detection_table()]


def _rates(folder: ReproductionFolder) -> dict[str, float]:
    """Returns the training speeds measured at any budget, by data set and network."""
    rates = {}
    for experiment in EXPERIMENTS.values():
        for budget in BUDGETS:
            for outcome in outcomes(folder, experiment, budget):
                recipe, rate = outcome.variant.recipe, outcome.images_per_second
                if rate is not None and recipe.network.shortcut is None and experiment.kind != "memory":
                    rates[f"{recipe.data.dataset}_{recipe.network.model}"] = rate
    return rates


def _run_line(found: tuple[Outcome, ...]) -> str:
    """Returns a line about the finished runs: recipe, versions and duration."""
    runs = [each.run for outcome in found for each in outcome.runs.values()]
    first, name = next((o.runs[min(o.runs)].run, o.variant.name) for o in found if o.runs)
    versions = " and ".join(
        sorted({f"TensorFlow {run.about.get('tensorflow')}, Keras {run.about.get('keras')}" for run in runs})
    )
    seconds = [run.seconds for run in runs if run.seconds is not None]
    took = f"; all epochs of all runs took {timedelta(seconds=round(sum(seconds)))}" if seconds else ""
    return f"Recipe of {name}: `{first.name}`. {versions}{took}."


def _missing_line(found: tuple[Outcome, ...]) -> str:
    """Returns a line about unfinished runs; "" if there are none."""
    wanted = sum(outcome.variant.seeds for outcome in found)
    finished = sum(len(outcome.runs) for outcome in found)
    begun = [f"{run.path.name} ({run.progress})" for outcome in found for run in outcome.begun]
    if finished == wanted:
        return ""
    also = f"; unfinished: {', '.join(begun)}" if begun else ""
    return f"**{finished} of {wanted} runs are finished**{also}. The same command resumes them."


def _figure(folder: ReproductionFolder, budget: str, name: str, figure: Any) -> str:
    file = folder.plot(budget, name)
    save_figure(figure, file)
    return f"![{name}, {budget}]({file.relative_to(folder.path).as_posix()})"
