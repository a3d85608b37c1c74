"""Markdown tables of the results of experiments, beside those of the paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean
from typing import Any

from resnet_keras.evaluation.protocols import MULTI_SCALE, TEN_CROP, ProtocolResult
from resnet_keras.reproduction.experiment import (
    ACCELERATOR_IMAGES,
    ACCELERATOR_MULTIPLY_ADDS,
    Experiment,
    Variant,
    training_images,
)
from resnet_keras.reproduction.outcomes import Outcome, mean_and_deviation
from resnet_keras.reproduction.paper_results import (
    PAPER_DETECTION,
    PAPER_ENSEMBLE,
    PAPER_MULTI_SCALE,
    PAPER_MULTIPLY_ADDS,
    PAPER_PARAMETERS,
    PAPER_TEN_CROP,
)
from resnet_keras.tables import markdown_table

_COMPUTE_BOUND = ("imagenet2012",)
"""Data sets whose networks keep an accelerator's arithmetic busy; those of small images wait for memory."""


def network_table(networks: Iterable[dict[str, Any]]) -> str:
    """Returns layers, parameters and multiply-adds beside the paper's (Tables 1 and 6).

    Args:
        networks: Dictionaries with `name`, `layers`, `parameters` and `multiply_adds`; see `Complexity`.
    """
    rows = []
    for network in networks:
        name = network["name"]
        parameters, multiply_adds = PAPER_PARAMETERS.get(name), PAPER_MULTIPLY_ADDS.get(name)
        rows.append(
            (
                name,
                network["layers"],
                f"{network['parameters']:,}",
                parameters or "–",
                f"{network['multiply_adds'] / 1e9:.3f}",
                f"{multiply_adds / 1e9:.1f}" if multiply_adds else "–",
            )
        )
    head = ("network", "layers", "parameters", "paper", "multiply-adds, 10^9", "paper, 10^9")
    return markdown_table(head, rows)


def error_table(outcomes: Sequence[Outcome]) -> str:
    """Returns the errors of finished runs, mean ± standard deviation over seeds."""
    of_ten_crops = any(outcome.errors("ten_crop") for outcome in outcomes)
    rows = []
    for outcome in outcomes:
        recipe = outcome.variant.recipe
        rate = outcome.images_per_second
        rows.append(
            (
                outcome.variant.name,
                f"{len(outcome.runs)} of {outcome.variant.seeds}",
                *(mean_and_deviation(list(outcome.errors(of).values())) for of in ("training", "test")),
                *([mean_and_deviation(list(outcome.errors("ten_crop").values()))] if of_ten_crops else ()),
                outcome.variant.paper or "–",
                f"{recipe.schedule.epochs} x {training_images(recipe):,}",
                "–" if rate is None else f"{rate:,.0f}",
            )
        )
    head = ("network", "seeds", "training error, %", "test error, %", *(["10-crop error, %"] if of_ten_crops else ()))
    return markdown_table((*head, "paper, whole recipe, %", "epochs x images", "images/s"), rows)


def contrast_table(experiment: Experiment, outcomes: Sequence[Outcome]) -> str:
    """Returns differences of errors between pairs of networks, seed by seed; "" if no pair has a common seed."""
    by_name = {outcome.variant.name: outcome for outcome in outcomes}
    rows = []
    for more, less in experiment.contrasts:
        if more not in by_name or less not in by_name:
            continue
        cells, seeds = [], 0
        for of in ("training", "test"):
            first, second = by_name[more].errors(of), by_name[less].errors(of)
            differences = [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]
            cells.append(mean_and_deviation(differences, signed=True))
            seeds = max(seeds, len(differences))
        if seeds:
            rows.append((f"{more} against {less}", seeds, *cells))
    head = ("difference, percentage points", "seeds", "training error", "test error")
    return markdown_table(head, rows) if rows else ""


def response_table(measured: dict[str, Any]) -> str:
    """Returns mean and range of the standard deviations of each network's layers (Fig. 7), means over seeds."""
    rows = []
    for network in measured["networks"]:
        runs = network["deviations"]
        layers = [mean(values) for values in zip(*(run.values() for run in runs), strict=True)]
        means = [mean(run.values()) for run in runs]
        spread = f"{min(layers):.3f} to {max(layers):.3f}"
        rows.append((network["name"], len(runs), len(layers), mean_and_deviation(means, 3), spread))
    return markdown_table(("network", "runs", "3x3 layers", "mean over the layers", "layers from and to"), rows)


def protocol_table(results: Iterable[ProtocolResult], *, on_imagenet: bool) -> str:
    """Returns errors by protocol, on ImageNet beside those of Tables 3, 4 and 5."""
    rows = []
    for result in results:
        name, several = " + ".join(result.networks), len(result.networks) > 1
        known = {TEN_CROP: PAPER_TEN_CROP, MULTI_SCALE: PAPER_MULTI_SCALE}.get(result.protocol, {}).get(name)
        if several and result.protocol == MULTI_SCALE:
            known = PAPER_ENSEMBLE
        top5 = "–" if result.top5_error is None else f"{100 * result.top5_error:.2f}"
        cells = (name, result.protocol, f"{result.images:,}", f"{100 * result.top1_error:.2f}", top5)
        rows.append((*cells, known or "–") if on_imagenet else cells)
    head = ("networks", "protocol", "images", "top-1 error, %", "top-5 error, %")
    return markdown_table((*head, "paper, %") if on_imagenet else head, rows)


def detection_table(rows: Iterable[dict[str, Any]]) -> str:
    """Returns the average precision of detectors, with the refinements of each step.

    Args:
        rows: Dictionaries with `network`, `step`, and `result`; see `measure_detectors`.
    """
    cells = []
    for row in rows:
        result = row["result"]
        measures = ("ap50", "ap", "ap75", "voc2007_ap", "voc2010_ap")
        numbers = ["–" if result[name] is None else f"{100 * result[name]:.1f}" for name in measures]
        cells.append((row["network"], row["step"], f"{result['images']:,}", *numbers))
    head = ("network", "evaluation", "images", "AP50, %", "AP, %", "AP75, %", "VOC 2007 AP, %", "VOC 2010 AP, %")
    return markdown_table(head, cells)


def paper_detection_table() -> str:
    """Returns the average precision that the paper reports (Tables 7 to 9)."""
    rows = [
        (
            each.table,
            each.network,
            each.train,
            each.test,
            f"{each.ap50:.1f}",
            "–" if each.ap is None else f"{each.ap:.1f}",
        )
        for each in PAPER_DETECTION
    ]
    return markdown_table(("table", "network", "trained on", "tested on", "AP50, %", "AP, %"), rows)


def memory_table(outcomes: Sequence[Outcome]) -> str:
    """Returns steps, seconds and peak memory of trainings."""
    rows = []
    for outcome in outcomes:
        for seed, each in outcome.runs.items():
            recipe = outcome.variant.recipe
            rows.append(
                (
                    outcome.variant.name,
                    seed,
                    recipe.data.batch_size,
                    recipe.schedule.epochs * (training_images(recipe) // recipe.data.batch_size),
                    "–" if each.run.seconds is None else f"{each.run.seconds:,.0f}",
                    f"{each.run.column('loss')[-1]:.3f}" if each.run.column("loss") else "–",
                    "–" if each.peak_bytes is None else f"{each.peak_bytes / 2**30:.2f} GiB",
                )
            )
    head = ("network", "seed", "batch", "steps", "seconds, tracing included", "loss, mean of the last epoch")
    return markdown_table((*head, "peak memory of the process"), rows)


def plan_table(variants: Sequence[Variant], multiply_adds: dict[str, int], rates: dict[str, float]) -> str:
    """Returns expected errors and costs of runs at the full budget.

    Args:
        variants: Variants of the full budget.
        multiply_adds: Multiply-adds of a forward pass of one image, by network.
        rates: Measured training speeds in images per second, by data set and network.
    """
    rows = []
    total = 0.0
    for variant in variants:
        recipe = variant.recipe
        images = recipe.schedule.epochs * training_images(recipe) * variant.seeds
        estimated = recipe.data.dataset in _COMPUTE_BOUND
        hours = full_hours(images, multiply_adds[recipe.network.model]) if estimated else 0.0
        total += hours
        rate = rates.get(f"{recipe.data.dataset}_{recipe.network.model}")
        measured = "–" if rate is None else f"{images / rate / 3600:,.0f} at {rate:,.0f} images/s"
        size = f"{recipe.schedule.epochs} x {training_images(recipe):,}"
        rows.append(
            (variant.name, variant.paper or "–", variant.seeds, size, f"{hours:,.2f}" if estimated else "–", measured)
        )
    rows.append(("all", "", sum(variant.seeds for variant in variants), "", f"{total:,.2f}" if total else "–", ""))
    head = ("network", "expected: paper, %", "runs", "epochs x images", "GPU hours, estimated")
    return markdown_table((*head, "CPU hours, at the measured speed"), rows)


def full_hours(images: int, multiply_adds: int) -> float:
    """Returns the estimated hours of an accelerator for training on `images` images, all epochs together."""
    return images / ACCELERATOR_IMAGES * multiply_adds / ACCELERATOR_MULTIPLY_ADDS / 3600
