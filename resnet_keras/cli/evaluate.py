"""Evaluates runs or files, e.g. `resnet evaluate runs/cifar10_resnet20 --crops ten`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

import resnet_keras
from resnet_keras import files
from resnet_keras.cli.program import run, start_tensorflow

if TYPE_CHECKING:  # to import them takes the time of Keras
    from resnet_keras.data.image_files import OnCorrupt
    from resnet_keras.detection.box_split import BoxSplit
    from resnet_keras.detection.localization_measures import LocalizationResult
    from resnet_keras.detection.refinements import Refinements
    from resnet_keras.detection.results import DetectionResult
    from resnet_keras.segmentation.measures import SegmentationResult

SECTIONS = {
    "Images": ("dataset", "data-dir", "split", "skip-broken"),
    "Views": ("crops", "scales", "flip", "refine-boxes", "average"),
    "Output": ("details", "json"),
}


def evaluate(
    sources: tyro.conf.Positional[tuple[str, ...]],
    *,
    split: str = "test",
    dataset: str | None = None,
    data_dir: Path | None = None,
    crops: Literal["center", "ten", "full"] = "center",
    scales: tuple[int, ...] = (),
    flip: bool = False,
    refine_boxes: bool = False,
    average: Literal["probabilities", "logits"] = "probabilities",
    batch_size: int = 128,
    details: Path | None = None,
    skip_broken: bool = False,
    ignored_label: int | None = None,
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Prints the top-1 and top-5 error of a classifier or of an averaged ensemble.

    Of a segmentation network, it prints IoU and pixel accuracy; of a detector, average precision; of a localizer, the
    errors of classes and boxes.

    Args:
        sources: Folders of finished runs, files, or names of weights in the package; or one export or .tflite file.
        split: train, val, or test; all for a folder of images; any split of a TensorFlow data set.
        dataset: Name of the data set, if it is not the run's.
        data_dir: Folder of TensorFlow Datasets, or of images by class, with masks, or with boxes, if it is not the
            run's.
        crops: The center of each image, ten crops (corners and center, mirrored too), or the full image.
        scales: Shorter sides in pixels to resize images to; the paper's five for full images. A detector classifies
            each region at the two that suit its size.
        flip: Add the mirrored image of each view; a detector averages over both.
        refine_boxes: Classify and refine a detector's boxes twice, and let those of one object vote.
        average: Average probabilities or logits over views and classifiers.
        batch_size: Views per step.
        details: Write measures of each class to this folder, and a classifier's confusion matrix (CSV, PNG).
        skip_broken: Skip and count broken images, labels outside the classes, and empty classes.
        ignored_label: Label of pixels in masks that do not count; that of the run, or 255, if it is not given.
        json_output: Print JSON.
    """
    if not sources:
        raise ValueError("Expected a run folder or a .keras file. Received: none")
    views = {"crops": crops, "scales": scales, "flip": flip, "refine_boxes": refine_boxes, "average": average}
    if any(map(resnet_keras.exporting.is_litert, sources)):
        _check_litert(sources, dataset, views)
        exported = resnet_keras.exporting.LiteRTClassifier.open(sources[0])
        on_corrupt: OnCorrupt = "skip" if skip_broken else "raise"
        predictions = resnet_keras.exporting.evaluate_litert(exported, data_dir, split, on_corrupt)
        _report(predictions, sources, f"{data_dir}/{split}", details, json_output)
        return
    start_tensorflow(single_images=crops == "full" or refine_boxes)
    of_classifiers = {"crops": crops != "center", "scales": bool(scales), "flip": flip}
    of_detectors = {"refine_boxes": refine_boxes}
    source = sources[0]
    if resnet_keras.detection.is_detector(source):
        others = {"crops": crops != "center", "ignored_label": ignored_label is not None}
        _expect_none(others, f"a detector. Received: {source}")
        refinements = resnet_keras.detection.Refinements(boxes=refine_boxes, flip=flip, scales=scales)
        boxes = _detection_result(sources, split, dataset, data_dir, skip_broken, refinements)
        _report_classes(boxes, "AP", boxes.class_ap, f"{source} on {split}", details, json_output)
        return
    if resnet_keras.detection.is_localizer(source):
        others = of_classifiers | of_detectors | {"ignored_label": ignored_label is not None}
        _expect_none(others, f"a localizer. Received: {source}")
        located = _localization_result(sources, split, dataset, data_dir, skip_broken)
        if details is not None:
            files.write_json(details / "evaluation.json", asdict(located))
        print(json.dumps(asdict(located)) if json_output else f"{source} on {split}: {located}")
        return
    if resnet_keras.segmentation.is_segmenter(source):
        _expect_none(
            of_classifiers | of_detectors | {"skip_broken": skip_broken}, f"a segmentation network. Received: {source}"
        )
        masks = _segmentation_result(sources, split, dataset, data_dir, ignored_label)
        _report_classes(masks, "IoU", masks.class_iou, f"{source} on {split}", details, json_output)
        return
    if ignored_label is not None:
        raise ValueError(f"Expected no `ignored_label` with a classifier. Received: {ignored_label}")
    _expect_none(of_detectors, f"a classifier. Received: {source}")
    classifiers = [resnet_keras.Classifier.from_pretrained(source) for source in sources]
    dataset, place = resnet_keras.runs.dataset_of(sources[0], dataset, data_dir)
    data = resnet_keras.open_split(dataset, split, data_dir=place, on_corrupt="skip" if skip_broken else "raise")
    chosen = resnet_keras.evaluation.Views(crops=crops, scales=scales, flip=flip, average=average)
    predictions = resnet_keras.evaluation.predict_split(classifiers, data, views=chosen, batch_size=batch_size)
    _report(predictions, sources, f"{dataset}/{split}", details, json_output)


def _check_litert(sources: Sequence[str], dataset: str | None, views: dict[str, Any]) -> None:
    """Checks that what is asked of a `.tflite` file is what one can do without TensorFlow."""
    if len(sources) > 1:
        raise ValueError(f"Expected one .tflite file, or none. Received: {', '.join(sources)}")
    if dataset not in (None, "folder"):
        raise ValueError(
            f"Expected `data_dir`, a folder of images by class, for a .tflite file, and no `dataset`. Received: "
            f"{dataset}"
        )
    usual = {"crops": "center", "scales": (), "flip": False, "refine_boxes": False, "average": "probabilities"}
    if asked := ", ".join(f"{name} {value}" for name, value in views.items() if value != usual[name]):
        raise ValueError(f"Expected the center crop for a .tflite file; others need a run. Received: {asked}")


def _report(
    predictions: resnet_keras.evaluation.SplitPredictions,
    sources: Sequence[str],
    data: str,
    details: Path | None,
    json_output: bool,
) -> None:
    if details is not None:
        resnet_keras.evaluation.write_details(predictions, details)
    result = predictions.evaluation
    print(json.dumps(asdict(result)) if json_output else f"{' + '.join(sources)} on {data}: {result}")


def _segmentation_result(
    sources: tuple[str, ...], split: str, dataset: str | None, data_dir: Path | None, ignored: int | None
) -> SegmentationResult:
    source = _only(sources, "segmentation network")
    segmentation = resnet_keras.segmentation
    segmenter = segmentation.Segmenter.load(source)
    is_run = (Path(source) / "recipe.json").is_file()
    place: str | Path | None = data_dir
    if is_run:
        ignored = resnet_keras.runs.RunFolder(source).recipe().data.ignored_label if ignored is None else ignored
        dataset, place = resnet_keras.runs.dataset_of(source, dataset, data_dir)
    part = segmentation.open_part(
        dataset or "folder",
        split,
        resnet_keras.data.DataSource(data_dir=place),
        ignored=segmentation.IGNORED if ignored is None else ignored,
        class_names=segmenter.class_names,
    )
    pairs = segmentation.whole_images(part, segmenter.preprocessing)
    return segmentation.evaluate_masks(segmenter.model, pairs, part.class_names, ignored=part.ignored)


def _detection_result(
    sources: tuple[str, ...],
    split: str,
    dataset: str | None,
    data_dir: Path | None,
    skip_broken: bool,
    refinements: Refinements,
) -> DetectionResult:
    detection = resnet_keras.detection
    detector = detection.Detector.load(_only(sources, "detector"))
    part = _boxes(sources[0], split, dataset, data_dir, skip_broken, detector.class_names)
    return detector.evaluate(part, refinements=refinements)


def _localization_result(
    sources: tuple[str, ...], split: str, dataset: str | None, data_dir: Path | None, skip_broken: bool
) -> LocalizationResult:
    detection = resnet_keras.detection
    localizer = detection.Localizer.load(_only(sources, "localizer"))
    part = _boxes(sources[0], split, dataset, data_dir, skip_broken, localizer.class_names)
    return localizer.evaluate(detection.one_class_images(part, on_corrupt="skip" if skip_broken else "raise"))


def _only(sources: tuple[str, ...], what: str) -> str:
    if len(sources) > 1:
        raise ValueError(f"Expected one {what}. Received: {', '.join(sources)}")
    return sources[0]


def _boxes(
    source: str,
    split: str,
    dataset: str | None,
    data_dir: Path | None,
    skip_broken: bool,
    class_names: tuple[str, ...],
) -> BoxSplit:
    """Returns images with boxes of the classes, from the given data set or from that of a run."""
    place: str | Path | None = data_dir
    if (Path(source) / "recipe.json").is_file():
        dataset, place = resnet_keras.runs.dataset_of(source, dataset, data_dir)
    if place is None and dataset in (None, "folder"):
        raise FileNotFoundError("Expected a folder of images with boxes (--data-dir). Received: none")
    found = resnet_keras.data.DataSource(data_dir=place, on_corrupt="skip" if skip_broken else "raise")
    return resnet_keras.detection.open_part_of_boxes(dataset or "folder", split, found, class_names=class_names)


def _expect_none(given: dict[str, bool], what: str) -> None:
    """Raises an error if an option is given that is not of such a network."""
    if wrong := [name for name, is_given in given.items() if is_given]:
        raise ValueError(f"Expected no `{wrong[0]}` with {what}")


def _report_classes(
    result: SegmentationResult | DetectionResult,
    measure: str,
    values: Mapping[str, float | None],
    what: str,
    details: Path | None,
    json_output: bool,
) -> None:
    """Prints the measures of a network that finds masks or boxes, and a line for each class."""
    if details is not None:
        files.write_json(details / "evaluation.json", asdict(result))
    width = max(map(len, values))
    classes = [f"  {name:<{width}}  {'–' if value is None else f'{value:.2%}':>8}" for name, value in values.items()]
    lines = "\n".join([f"{what}: {result}", f"{measure} of each class:", *classes])
    print(json.dumps(asdict(result)) if json_output else lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet evaluate`."""
    return run(evaluate, "resnet evaluate", argv, sections=SECTIONS, tensorflow=False)
