"""The paper's evaluation protocols, of single networks and of all together (arXiv:1512.03385, §3.4, Tables 3 to 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.splits import Split
from resnet_keras.evaluation.evaluator import evaluate
from resnet_keras.evaluation.views import Views

ONE_CROP, TEN_CROP, MULTI_SCALE = "1-crop", "10-crop", "multi-scale"

_TEN_CROP_SIDE = 256 / 224
"""Shorter side of an image of which ten crops are taken, per side of the crop (AlexNet, §4.1)."""


@dataclass(frozen=True)
class ProtocolResult:
    """What networks gave by one protocol.

    Attributes:
        protocol: One of `ONE_CROP`, `TEN_CROP` and `MULTI_SCALE`.
        networks: One, or those whose scores were averaged.
        images: How many were shown.
        top1_error: A fraction.
        top5_error: A fraction; `None` with five classes or fewer.
    """

    protocol: str
    networks: tuple[str, ...]
    images: int
    top1_error: float
    top5_error: float | None


def protocol_views(protocol: str, preprocessing: Preprocessing) -> Views:
    """Returns what a protocol shows of each image.

    Ten crops are taken of an image of the classifier's own shorter side, or where that leaves no border of 8/7 of the
    crop, as 256 is of 224. At several scales the whole image and its mirror image are shown.

    Raises:
        ValueError: There is no protocol of that name; the message lists those there are.
    """
    if protocol == ONE_CROP:
        return Views()
    if protocol == TEN_CROP:
        side = max(preprocessing.image_size)
        bare = (preprocessing.shorter_side or side) <= side
        return Views(crops="ten", scales=(round(_TEN_CROP_SIDE * side),) if bare else ())
    if protocol == MULTI_SCALE:
        return Views(crops="full", flip=True)
    raise ValueError(f"Expected one of {ONE_CROP}, {TEN_CROP}, {MULTI_SCALE}. Received: {protocol!r}")


def evaluate_protocols(
    classifiers: Mapping[str, Classifier],
    split: Split,
    *,
    known: tuple[ProtocolResult, ...] = (),
    batch_size: int = 128,
    log: Callable[[str], None] = print,
) -> Iterator[ProtocolResult]:
    """Evaluates each network by each protocol, and all together by one crop and at several scales.

    Args:
        classifiers: By name, of one number of classes.
        split: Images of their classes.
        known: Results that are there already; they come out again as they are.
        batch_size: Views in a step.
        log: Takes lines of progress.

    Yields:
        Results, as soon as there is one.

    Raises:
        ValueError: There is no classifier, or as of `evaluate`.
    """
    if not classifiers:
        raise ValueError("Expected at least one classifier. Received: none")
    everyone = tuple(classifiers)
    wanted: list[tuple[str, tuple[str, ...]]] = []
    for name in everyone:
        wanted += [(protocol, (name,)) for protocol in (ONE_CROP, TEN_CROP, MULTI_SCALE)]
    if len(everyone) > 1:
        wanted += [(protocol, everyone) for protocol in (ONE_CROP, MULTI_SCALE)]
    there = {(result.protocol, result.networks): result for result in known}
    for protocol, names in wanted:
        if (protocol, names) in there:
            yield there[protocol, names]
            continue
        log(f"{protocol}: {' + '.join(names)}")
        members = [classifiers[name] for name in names]
        views = protocol_views(protocol, members[0].preprocessing)
        found = evaluate(members, split, views=views, batch_size=batch_size, log=log)
        yield ProtocolResult(protocol, names, found.images, found.top1_error, found.top5_error)
