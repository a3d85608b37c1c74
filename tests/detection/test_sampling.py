"""Samples of fixed size: their numbers, their randomness, and their padding."""

import json

import keras
import numpy as np
import pytest
from helpers.two_devices import run_on_two_devices
from keras import ops

from resnet_keras.detection.sampling import Sample, balanced_sample, random_keys


def sampled(labels: list, count: int, fraction: float, seed: int = 0) -> Sample:
    found = np.array(labels, np.int32)
    keys = np.random.default_rng(seed).random(found.shape).astype(np.float32)
    return Sample(*(ops.convert_to_numpy(part) for part in balanced_sample(found, count, fraction, keys)))


@pytest.mark.parametrize(
    ("labels", "positives", "background"),
    [
        ([1] * 6 + [0] * 6, 2, 6),  # a quarter of 8 has objects, background fills the rest
        ([3] + [0] * 11, 1, 7),
        ([0] * 12, 0, 8),
        ([1] * 12, 2, 0),
        ([1, -1, -1, 0, 0, -1, -1, -1, -1, -1, -1, -1], 1, 2),
        ([-1] * 12, 0, 0),
    ],
)
def test_numbers_of_a_sample(labels: list[int], positives: int, background: int) -> None:
    sample = sampled([labels, labels], 8, 0.25)
    assert sample.indices.shape == (2, 8)
    for indices, positive, valid in zip(*sample, strict=True):
        assert positive.sum() == positives
        assert valid.sum() == positives + background
        np.testing.assert_array_equal(valid, [1] * (positives + background) + [0] * (8 - positives - background))
        chosen = indices[valid > 0]
        assert len(set(chosen.tolist())) == len(chosen)
        np.testing.assert_array_equal(np.array(labels)[chosen] > 0, positive[valid > 0])
        assert not (np.array(labels)[chosen] < 0).any()


def test_fewer_candidates_than_places() -> None:
    sample = sampled([[1, 0, 0]], 8, 0.5)
    assert sorted(sample.indices[0, :3].tolist()) == [0, 1, 2]
    assert sample.valid.sum() == 3


def test_a_sample_is_drawn_evenly() -> None:
    sample = sampled([[1] * 8 + [0] * 8] * 400, 4, 0.5)
    counts = np.bincount(sample.indices.ravel(), minlength=16)
    assert counts.sum() == 1600
    assert (np.abs(counts - 100) < 40).all()  # 100 expected, standard deviation 8.7


def test_keys_are_another_draw_each_time_and_reproducible() -> None:
    seeds = [keras.random.SeedGenerator(3) for _ in range(2)]
    first, second = ([ops.convert_to_numpy(random_keys((2, 5), seed)) for _ in range(2)] for seed in seeds)
    np.testing.assert_array_equal(first, second)
    assert (first[0] != first[1]).all()


TWO_DEVICES = """
import json
import keras
import numpy as np
import tensorflow as tf
from resnet_keras.detection.losses import DetectorLoss
from resnet_keras.detection.sampling import random_keys
from resnet_keras.distributed.strategy import create_strategy

strategy = create_strategy(2)
with strategy.scope():
    seed = keras.random.SeedGenerator(3)

@tf.function
def drawn():
    def step():
        own = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.float32) + 1
        return random_keys((tf.constant(2), 5), seed), DetectorLoss()(tf.zeros(2), tf.fill((2, 6), own))
    return strategy.run(step)

found = [strategy.experimental_local_results(part) for _ in range(2) for part in drawn()]
print(json.dumps([[np.asarray(each).tolist() for each in part] for part in found]))
"""


def test_two_replicas_draw_and_divide_as_one_device_does() -> None:
    found = json.loads(run_on_two_devices(TWO_DEVICES))
    seed = keras.random.SeedGenerator(3)
    for keys in (found[0], found[2]):
        np.testing.assert_array_equal(np.concatenate(keys), ops.convert_to_numpy(random_keys((4, 5), seed)))
    # The sums are 2 and 4, the numbers 6: four losses of 1 in all.
    np.testing.assert_allclose(found[1], [4 * 2 / 6, 4 * 4 / 6])
