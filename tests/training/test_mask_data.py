"""Images with masks as the data of a run: what they pass on of a recipe."""

from pathlib import Path
from typing import Any

import pytest
from helpers.mask_folders import mask_recipe

from resnet_keras.data.opening import DataSource
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.segmentation.mask_sets import open_parts
from resnet_keras.training import mask_data as module
from resnet_keras.training.image_size_phases import Phase

COLOR = Preprocessing(image_size=(32, 48), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)


@pytest.mark.parametrize(
    ("random_scale", "scale", "flip"), [((0.75, 1.5), (0.75, 1.5), False), (None, (1.0, 1.0), True)]
)
def test_training_batches_have_the_recipes_scale_flip_and_seed(
    mask_data: Path, monkeypatch: pytest.MonkeyPatch, random_scale: Any, scale: tuple, flip: bool
) -> None:
    recipe = mask_recipe(model="resnet18", random_scale=random_scale, flip=flip, seed=3, epochs=5)
    data, seen = module.MaskData(open_parts("folder", DataSource(data_dir=mask_data), ignored=255)), []
    monkeypatch.setattr(module, "mask_batches", lambda *args, **options: seen.append((args, options)))
    data.batches(recipe, COLOR, Phase(4, 15, 3, None), None, deterministic=False)
    assert seen == [
        (
            (data.parts.train, COLOR),
            {
                "batch_size": 2,
                "epochs": 5,
                "seed": 3,
                "first_step": 4,
                "scale": scale,
                "flip": flip,
                "deterministic": False,
                "rows": range(2),
            },
        )
    ]
