"""The paper's evaluation protocols, of single networks and of all together (arXiv:1512.03385, §3.4, Tables 3 to 5)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.splits import Split
from resnet_keras.evaluation.evaluator import evaluate
from resnet_keras.evaluation.views import TEN_CROP_RATIO, Views

_log = logging.getLogger(__name__)

ONE_CROP, TEN_CROP, MULTI_SCALE = "1-crop", "10-crop", "multi-scale"


@dataclass(frozen=True)
class ProtocolResult:
    """Errors of a network or an ensemble by one protocol.

    Attributes:
        protocol: `ONE_CROP`, `TEN_CROP` or `MULTI_SCALE`.
        networks: Name of one network, or the names of an ensemble.
        images: Number of images.
        top1_error: Top-1 error as a fraction.
        top5_error: Top-5 error as a fraction; `None` with five classes or fewer.
    """

    protocol: str
    networks: tuple[str, ...]
    images: int
    top1_error: float
    top5_error: float | None


def protocol_views(protocol: str, preprocessing: Preprocessing) -> Views:
    """Returns the views of a protocol.

    Ten crops are taken from an image of the classifier's own shorter side. Where that equals the crop, the shorter side
    is 8/7 of the crop, as 256 is of 224. The multi-scale protocol uses the full image and its mirror image.

    Raises:
        ValueError: The name is none of the three protocols; the message lists them.
    """
    if protocol == ONE_CROP:
        return Views()
    if protocol == TEN_CROP:
        side = max(preprocessing.image_size)
        bare = (preprocessing.shorter_side or side) <= side
        return Views(crops="ten", scales=(round(TEN_CROP_RATIO * side),) if bare else ())
    if protocol == MULTI_SCALE:
        return Views(crops="full", flip=True)
    raise ValueError(f"Expected one of {ONE_CROP}, {TEN_CROP}, {MULTI_SCALE}. Received: {protocol!r}")


def evaluate_protocols(
    classifiers: Mapping[str, Classifier],
    split: Split,
    *,
    known: tuple[ProtocolResult, ...] = (),
    batch_size: int = 128,
) -> Iterator[ProtocolResult]:
    """Evaluates each network by each protocol, and their ensemble by one crop and at several scales.

    Args:
        classifiers: Classifiers by name, with the same classes.
        split: Labeled images of these classes.
        known: Results of an earlier call; they are returned again instead of being computed.
        batch_size: Views in a batch.

    Yields:
        Each result as soon as it is computed.

    Raises:
        ValueError: There is no classifier. See `evaluate` for others.
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
        _log.info(f"{protocol}: {' + '.join(names)}")
        members = [classifiers[name] for name in names]
        views = protocol_views(protocol, members[0].preprocessing)
        found = evaluate(members, split, views=views, batch_size=batch_size)
        yield ProtocolResult(protocol, names, found.images, found.top1_error, found.top5_error)
