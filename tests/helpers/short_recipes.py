"""Recipes of a few steps on digits."""

from dataclasses import replace

from resnet_keras.recipes.catalog import RECIPES

PLAIN = replace(
    RECIPES["digits_resnet20"], epochs=2, batch_size=64, warmup_steps=2, train_images=512, pad_pixels=0
)  # fmt: skip
"""Two epochs of 8 steps."""

EVERYTHING = replace(
    PLAIN, epochs=3, train_images=320, train_sizes=(6, 10), ema=0.9, accumulate=2, repeats=2, policy="rand",
    policy_layers=1, flip=True, alternate_flip=True, mixup=0.2, cutmix=1.0, erase=0.2, stochastic_depth=0.2,
    whiten=True, pad_pixels=1, label_smoothing=0.1,
)  # fmt: skip
"""Three epochs of 5 steps, with all that can make a step depend on those before or on its place."""
