"""Subsets of a split: samples and shards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from resnet_keras.data.splits import ArraySplit, FileSplit, RecordSplit, Split


def subset(split: ArraySplit | FileSplit, indices: np.ndarray) -> ArraySplit | FileSplit:
    """Returns the images of a split at `indices`, in that order."""
    if isinstance(split, ArraySplit):
        return replace(split, images=split.images[indices], labels=split.labels[indices])
    return replace(split, paths=tuple(split.paths[i] for i in indices), labels=split.labels[indices])


def evenly_spaced(length: int, count: int) -> np.ndarray:
    """Returns `count` indices of a sequence, equally far apart, from the first to the last; all if it has fewer."""
    return np.linspace(0, length - 1, min(count, length)).round().astype(int)


def stratified_sample(split: Split, count: int) -> Split:
    """Returns at most `count` images of a split with its class proportions; the first records of a stream."""
    if isinstance(split, RecordSplit):
        return replace(split, limit=min(count, len(split)))
    if count >= len(split):
        return split
    by_class = np.argsort(split.labels, kind="stable")
    return subset(split, np.sort(by_class[evenly_spaced(len(split), count)]))


def class_balanced_sample(split: Split, count: int) -> Split:
    """Returns at most `count` images of a split, balanced over classes; the first records of a stream."""
    if isinstance(split, RecordSplit) or count >= len(split):
        return stratified_sample(split, count)
    classes = np.unique(split.labels)
    # The rank of each image within its class, so that the classes take turns.
    order = np.argsort(split.labels, kind="stable")
    first = np.searchsorted(split.labels[order], classes)
    ranks = np.empty(len(split), np.int64)
    ranks[order] = np.arange(len(split)) - np.repeat(first, np.diff([*first, len(split)]))
    return subset(split, np.sort(np.lexsort((split.labels, ranks))[:count]))


def shard(split: Split, index: int, count: int) -> Split:
    """Returns the images `index`, `index + count`, `index + 2 count` ... of a split."""
    if isinstance(split, RecordSplit):
        return replace(split, shard=(index, count))
    return subset(split, np.arange(index, len(split), count))
