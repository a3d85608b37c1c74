"""Layers that only training has: they draw anchors and proposals, and compute the losses of both stages.

They are in no saved file. Their random numbers come from generators that are made in the constructors, so that their
states are variables of the model, and a checkpoint holds them.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from resnet_keras.detection.boxes import Weights
from resnet_keras.detection.losses import proposal_losses, region_losses
from resnet_keras.detection.sampling import random_keys
from resnet_keras.detection.targets import SamplingRules, sampled_anchors, sampled_regions


class AnchorLosses(keras.layers.Layer):
    """Losses of the region proposal network, over anchors that are drawn.

    Args:
        rules: Numbers and thresholds.
        anchors: Anchors of an image, float32 (A, 4).
        seed: Seed of the draw.
    """

    def __init__(self, rules: SamplingRules, anchors: np.ndarray, seed: int, **kwargs: Any) -> None:
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.rules, self.anchors, self.seed = rules, anchors, keras.random.SeedGenerator(seed)

    def call(self, logits: list[Any], deltas: list[Any], boxes: Any, labels: Any) -> tuple[Any, Any, Any]:
        """Returns two sums of losses, and the number of sampled anchors, of each image: (N,).

        Args:
            logits: Objectness of the anchors of each map (N, h, w, anchors).
            deltas: Their encoded boxes (N, h, w, 4 * anchors).
            boxes: Objects of each image (N, G, 4).
            labels: Their classes, 0 for padding (N, G).
        """
        logits = ops.concatenate([ops.reshape(each, (-1, math.prod(each.shape[1:]))) for each in logits], 1)
        deltas = ops.concatenate([ops.reshape(each, (-1, math.prod(each.shape[1:]) // 4, 4)) for each in deltas], 1)
        keys = random_keys((ops.shape(labels)[0], len(self.anchors)), self.seed)
        sample, targets = sampled_anchors(self.anchors, boxes, labels, keys, self.rules)
        return *proposal_losses(logits, deltas, targets, sample), ops.sum(sample.valid, axis=1)


class ProposalMask(keras.layers.Layer):
    """Whether each of the proposals is one, and not padding: bool (N, R)."""

    def call(self, proposals: Any, number: Any) -> Any:
        """Returns the mask of proposals (N, R, 4), of which the first `number` (N,) count."""
        return ops.expand_dims(ops.arange(proposals.shape[1]), 0) < ops.expand_dims(number, 1)


class RegionSampler(keras.layers.Layer):
    """Proposals that the second stage is trained on, of fixed number.

    Args:
        rules: Numbers and thresholds.
        box_weights: Weights of the encoded boxes of the second stage.
        seed: Seed of the draw.
    """

    def __init__(self, rules: SamplingRules, box_weights: Weights, seed: int, **kwargs: Any) -> None:
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.rules, self.box_weights, self.seed = rules, box_weights, keras.random.SeedGenerator(seed)

    def call(self, proposals: Any, valid: Any, boxes: Any, labels: Any) -> tuple[Any, Any, Any, Any]:
        """Returns boxes (N, sampled, 4), classes and whether each counts (N, sampled), and targets (N, sampled, 4).

        Args:
            proposals: Proposals of each image (N, R, 4).
            valid: Whether a proposal is one, and not padding (N, R).
            boxes: Objects of each image (N, G, 4).
            labels: Their classes, 0 for padding (N, G).
        """
        keys = random_keys((ops.shape(labels)[0], proposals.shape[1] + boxes.shape[1]), self.seed)
        sample, chosen, classes, targets = sampled_regions(
            proposals, valid, boxes, labels, keys, self.rules, self.box_weights
        )
        return chosen, classes, sample.valid, targets


class RegionLosses(keras.layers.Layer):
    """Losses of the second stage, over the proposals that were drawn."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(dtype="float32", autocast=False, **kwargs)

    def call(self, scores: Any, deltas: Any, classes: Any, valid: Any, targets: Any) -> tuple[Any, Any, Any]:
        """Returns two sums of losses, and the number of sampled proposals, of each image: (N,).

        Args:
            scores: Logits of the classes, background first (N * sampled, 1 + classes).
            deltas: Encoded boxes of each class (N * sampled, 4 * (1 + classes)).
            classes: True classes, from `RegionSampler`.
            valid: Likewise.
            targets: Likewise.
        """
        sampled, kinds = classes.shape[1], scores.shape[-1]
        scores = ops.reshape(scores, (-1, sampled, kinds))
        deltas = ops.reshape(deltas, (-1, sampled, kinds, 4))
        return *region_losses(scores, deltas, classes, targets, valid), ops.sum(valid, axis=1)


class LossTable(keras.layers.Layer):
    """The sums and numbers of both stages as columns, as `DetectorLoss` takes them: float32 (N, 6)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(dtype="float32", autocast=False, **kwargs)

    def call(self, first: tuple[Any, Any, Any], second: tuple[Any, Any, Any]) -> Any:
        """Returns the columns of `AnchorLosses` and `RegionLosses`."""
        return ops.stack([*first[:2], *second[:2], first[2], second[2]], axis=1)
