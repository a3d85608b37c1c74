"""A run resumes on its own images and from its own checkpoints alone."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.little_runs import MODELS, RESULT, killed_after, little_runs
from helpers.short_recipes import PLAIN
from PIL import Image

from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.runs.saved_run import read_run
from resnet_keras.runs.summary import summarize_runs
from resnet_keras.training.trainer import train

FOLDER = RECIPES["digits"].replace(
    dataset="folder", epochs=3, batch_size=8, warmup_steps=2, pad_pixels=0, image_size=8
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quick_runs() -> Iterator[None]:
    """Makes runs of a little network."""
    with little_runs():
        yield


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of 48 training images of two classes: 6 steps in an epoch."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 24), ("test", 4)):
        for low, name in ((0, "dark"), (128, "light")):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(low, low + 128, (8, 8, 3)).astype(np.uint8)).save(folder / f"{i:02}.png")
    return tmp_path / "images"


@pytest.mark.slow
def test_changed_images_are_refused_and_said_or_accepted_and_noted(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    killed_after(4, FOLDER, run, data_dir=images, checkpoint_steps=4)  # checkpoints at 4, 6, 10, 12
    before = sorted((path.name, path.read_bytes()) for path in run.glob("*.json"))
    moved = images.rename(tmp_path / "elsewhere")
    killed_after(1, FOLDER, run, data_dir=moved, checkpoint_steps=4)  # at 16, on the same images in another folder
    for image in sorted((moved / "train").rglob("*.png"))[::2]:
        image.unlink()

    changed = r"12 training images of dark \(begun with 24\); 12 training images of light \(begun with 24\)$"
    with pytest.raises(ValueError, match=rf"begun with; `accept_changed_data` resumes on others\. Received: {changed}"):
        train(FOLDER, run, data_dir=moved)
    assert sorted((path.name, path.read_bytes()) for path in run.glob("*.json")) == before

    kept = shutil.copytree(run / "checkpoints" / "step_000000016", tmp_path / "kept")
    caplog.clear()
    killed_after(1, FOLDER, run, data_dir=moved, accept_changed_data=True, checkpoint_steps=None)
    assert "an epoch has 3 steps now, instead of 6: epoch 3 begins again" in caplog.text
    assert "resumed after epoch 2" in caplog.text
    assert int(MODELS[-1].optimizer.iterations) == 9
    shutil.rmtree(run / "checkpoints" / "step_000000009")
    kept.rename(run / "checkpoints" / "step_000000016")
    assert train(FOLDER, run, data_dir=moved) == RESULT  # from a checkpoint on the images of before, once accepted

    saved = read_run(run)
    assert [row["epoch"] for row in saved.history] == [1, 2, 3]
    assert saved.about["data_changes"] == [
        {
            "after_step": 16,
            "changes": ["12 training images of dark (begun with 24)", "12 training images of light (begun with 24)"],
        }
    ]
    assert any("images changed after step 16" in warning for warning in summarize_runs([run]).warnings)


@pytest.mark.slow
def test_checkpoints_of_another_run_are_refused_by_name(tmp_path: Path) -> None:
    other = PLAIN.replace(seed=1)
    for recipe, name in ((PLAIN, "one"), (other, "other")):
        killed_after(1, recipe, tmp_path / name)
    one, recipe = tmp_path / "one", tmp_path / "one" / "recipe.json"
    shutil.copytree(tmp_path / "other" / "checkpoints" / "step_000000008", one / "checkpoints" / "step_000000009")
    with pytest.raises(ValueError, match=r"Received: step_000000009, of another: seed=1 \(here 0\); move it away"):
        train(PLAIN, one)
    shutil.rmtree(one / "checkpoints" / "step_000000009")

    recipe.unlink()
    with pytest.raises(ValueError, match=r"Received: step_000000008, of another: seed=0 \(here 1\)"):
        train(other, one)
    assert not recipe.exists()  # nothing is written that the next command would take for the run
    assert train(PLAIN, one) == RESULT
    assert json.loads(recipe.read_text())["seed"] == 0
