"""Segmentation, detection, and localization on two machines: the same weights on both, and one folder."""

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.little_detector_runs import write_shapes
from helpers.mask_folders import write_masks

from resnet_keras.detection.results import DetectionResult
from resnet_keras.distributed.local_workers import run_workers
from resnet_keras.runs.saved_run import read_run

TESTS = Path(__file__).parents[1]

WORKER = """
import json, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from helpers import little_detector_runs, mask_folders
from resnet_keras.distributed.cluster import cluster
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.training import trainer, loop

kind, data, work, out = sys.argv[2], *map(Path, sys.argv[3:])
ARCHITECTURES["little"] = mask_folders.LITTLE
# A U-Net has no dropout, whose masks each worker draws for itself.
unet = {"head": "unet", "crop_size": (32, 64), "output_stride": None, "freeze_batch_norms": True}
recipe = little_detector_runs.RECIPE if kind == "detection" else mask_folders.mask_recipe(**unet)
states, create = [], loop.create_state

def create_state(*args, **kwargs):
    states.append(create(*args, **kwargs))
    return states[-1]

loop.create_state = create_state
trainer.train(recipe, work, data_dir=data)
name = machines.index if (machines := cluster()) else "one"
np.savez(out / f"{name}.npz", *states[0].model.get_weights())
"""


def trained(kind: str, data: Path, tmp_path: Path, workers: int) -> tuple[list[list[np.ndarray]], Path]:
    """Returns the weights of each worker, and the folder of the run."""
    script, out, work = tmp_path / "worker.py", tmp_path / f"of_{workers}", tmp_path / f"run_{workers}"
    script.write_text(WORKER)
    out.mkdir()
    said = io.StringIO()
    command = [sys.executable, *map(str, (script, TESTS, kind, data, work, out))]
    assert run_workers(command, workers, out=said) == 0, said.getvalue()
    return [list(np.load(file).values()) for file in sorted(out.iterdir())], work


@pytest.mark.slow
def test_two_workers_segment_as_one(tmp_path: Path) -> None:
    data = write_masks(tmp_path / "data")
    (one,), alone = trained("segmentation", data, tmp_path, 1)
    (first, second), together = trained("segmentation", data, tmp_path, 2)
    for a, b, c in zip(first, second, one, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-3, atol=2e-5)
    rows, single = (list(csv.DictReader((run / "history.csv").read_text().splitlines())) for run in (together, alone))
    for name in ("loss", "val_loss", "val_mean_iou", "val_pixel_accuracy"):
        assert [float(row[name]) for row in rows] == pytest.approx([float(row[name]) for row in single], rel=1e-3)


@pytest.mark.slow
def test_two_workers_train_one_detector_and_one_measures_it(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "data")
    (first, second), together = trained("detection", data, tmp_path, 2)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    run = read_run(together)
    assert isinstance(run.evaluation, DetectionResult)
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    assert run.history[-1]["val_ap50"] == pytest.approx(run.evaluation.ap50, abs=1e-6)
    assert json.loads((together / "run.json").read_text())["replicas"] == 2
