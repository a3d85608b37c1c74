"""The network that is trained: both stages of a detector, with sampled regions between them, and their losses."""

from __future__ import annotations

import keras

from resnet_keras.detection.losses import LOSSES, PartOfLoss
from resnet_keras.detection.parts import detector_parts
from resnet_keras.detection.targets import SamplingRules
from resnet_keras.detection.training_layers import AnchorLosses, LossTable, ProposalMask, RegionLosses, RegionSampler


def training_network(
    model: keras.Model,
    image_size: tuple[int, int],
    *,
    most_boxes: int,
    rules: SamplingRules | None = None,
    seed: int = 0,
) -> keras.Model:
    """Returns a network of losses that shares all layers and weights with a detector.

    It is compiled with `DetectorLoss` and trained by `fit` on the batches of `box_batches`, as (inputs, labels):

        batches = detection.box_batches(train, preprocessing, batch_size=2, epochs=3, most_boxes=50)
        pairs = batches.map(lambda images, found: ({"images": images, **found}, found["labels"]))
        network = detection.training_network(model, preprocessing.image_size, most_boxes=50)
        network.compile("sgd", detection.DetectorLoss(), metrics=detection.parts_of_loss())
        network.fit(pairs, epochs=3, steps_per_epoch=len(train) // 2)

    Args:
        model: A model from `FasterRCNN`, or from a file of one.
        image_size: Height and width of the batches in pixels.
        most_boxes: Number of boxes of each image, with padding.
        rules: Which anchors and proposals are trained on; torchvision's if `None`.
        seed: Seed of the draws.

    Returns:
        A model of a dictionary: `images` (N, *image_size, C), `boxes` (N, most_boxes, 4), `labels` (N, most_boxes), and
        `sizes` (N, 2); it returns the sums and numbers that `DetectorLoss` takes, float32 (N, 6).
    """
    rules = rules or SamplingRules()
    parts = detector_parts(model)
    channels = parts.network.input_shape[-1]
    images = keras.Input((*image_size, channels), name="images")
    boxes = keras.Input((most_boxes, 4), name="boxes", dtype="float32")
    labels = keras.Input((most_boxes,), name="labels", dtype="int32")
    sizes = keras.Input((2,), name="sizes", dtype="int32")
    # In the mode of training, frozen normalization still runs by its statistics.
    first = parts.network(images, training=True)
    proposal_sums = AnchorLosses(rules, parts.anchors(image_size), seed, name="anchor_losses")(
        first["objectness"], first["deltas"], boxes, labels
    )
    proposals, number = parts.proposals(first["objectness"], first["deltas"], images, sizes, training=True)
    valid = ProposalMask(name="proposal_mask")(proposals, number)
    sampled, classes, counted, targets = RegionSampler(rules, parts.box_weights, seed + 1, name="region_sampler")(
        proposals, valid, boxes, labels
    )
    found = parts.box_head(parts.regions(first["maps"], sampled, sizes), training=True)
    region_sums = RegionLosses(name="region_losses")(found["logits"], found["deltas"], classes, counted, targets)
    table = LossTable(name="loss_table")(proposal_sums, region_sums)
    inputs = {"images": images, "boxes": boxes, "labels": labels, "sizes": sizes}
    return keras.Model(inputs, table, name=f"{model.name}_training")


def parts_of_loss() -> list[keras.metrics.Metric]:
    """Returns a metric for each of the four losses of Faster R-CNN."""
    return [PartOfLoss(name) for name in LOSSES]
