"""Recipes of a few steps on digits."""

from resnet_keras.recipes.catalog import RECIPES

PLAIN = RECIPES["digits"].replace(
    model="resnet8", epochs=2, batch_size=64, warmup_steps=2, train_images=512, pad_pixels=0
)  # fmt: skip
"""Two epochs of 8 steps."""

EVERYTHING = PLAIN.replace(
    epochs=3, train_images=320, train_sizes=(6, 10), ema=0.9, accumulate=2, repeated_augmentation=2,
    lr_schedule="one_cycle", nesterov=True, clip_norm=5.0, zero_init_residual=True,
    auto_augment="rand", auto_augment_layers=1, flip=True, alternate_flip=True,
    mixup=0.2, cutmix=1.0, erase=0.2, stochastic_depth=0.2, whiten_stem=True, pad_pixels=1, label_smoothing=0.1,
)  # fmt: skip
"""Three epochs of 5 steps, with all that can make a step depend on those before or on its place."""
