"""Each worker's part of the images."""

from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from resnet_keras.distributed import sharding


def test_batches_with_rows_of_other_workers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "spans_workers", lambda strategy: True)
    monkeypatch.setattr(sharding, "worker_rank", lambda strategy: (0, 2))
    strategy: Any = SimpleNamespace(num_replicas_in_sync=2)
    whole = tf.data.Dataset.range(8).batch(8, drop_remainder=True)
    with pytest.raises(ValueError, match=r"Expected the 4 rows of this worker in each batch. Received: 8"):
        sharding.training_part(strategy, whole, 8)
