"""Recipes by name: the paper's, published ones of others, and our own (arXiv:1512.03385, §3.4 and §4.2)."""

from __future__ import annotations

from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.recipes.recipe import Recipe

_IMAGENET = Recipe.from_flat(
    model="resnet50",
    dataset="imagenet2012",
    # §3.4: up to 60 x 10^4 iterations of 256 images, 120 epochs. The rate falls "when the error plateaus"; the fixed
    # thirds of the widespread 30-60-90 schedule stand for the authors' eye.
    epochs=120,
    batch_size=256,
    peak_lr=0.1,
    lr_drops=(0.25, 0.5, 0.75),
    shorter_side=(256, 480),
    test_shorter_side=256,
    flip=True,
    pca_lighting=0.1,
)
_CIFAR10 = Recipe.from_flat(
    model="resnet20",
    dataset="cifar10",
    # §4.2: 64k iterations of 128 images, 164 epochs; the rate falls at 32k and 48k.
    epochs=164,
    batch_size=128,
    peak_lr=0.1,
    lr_drops=(0.5, 0.75),
    pad_pixels=4,
    flip=True,
)
_FINETUNE = Recipe.from_flat(
    model="resnet18",
    dataset="folder",
    weights="imagenet",
    # A few hundred or thousand images of one's own. Measured with ResNet-18 on 500 images of CIFAR-10 at 96 pixels:
    # at a peak rate of 0.003 the loss falls steadily, at 0.01 it does not.
    epochs=20,
    batch_size=32,
    lr_schedule="cosine",
    peak_lr=0.003,
    warmup_steps=20,
    warmup_lr=0.0003,
    shorter_side=(256, 320),
    flip=True,
)
# 200 epochs of what a decade of practice has added for small images: a cosine, Nesterov's momentum and five times the
# decay, on the same crops and flips. Published elsewhere with these: 92.6, 93.5, 94.0 and 94.4 % for 20, 32, 44, 56.
_MODERN = _CIFAR10.replace(epochs=200, lr_schedule="cosine", warmup_epochs=5, warmup_lr=0.01, nesterov=True, l2=5e-4)
# Few epochs: the one cycle of cifar10-fast, and of cifar10-airbench (arXiv:2404.00498) a stem that begins whitened,
# flips in turn and mirrored test images; half precision, twice the paper's rate and five times its decay. Measured with
# ResNet-20 on 10 epochs, one seed each: 11.72 % error so; 12.27 % with neither whitening nor these flips; 12.42 % with
# a rate of 0.3 and 2 pixels of padding besides.
_FAST = _CIFAR10.replace(
    epochs=20,
    lr_schedule="one_cycle",
    peak_lr=0.2,
    warmup_epochs=5,
    warmup_lr=0.01,
    nesterov=True,
    l2=5e-4,
    alternate_flip=True,
    test_flip=True,
    whiten_stem=True,
    precision="mixed_bfloat16",
)
# torchvision's references/classification: the first weights that it published (V1), 90 epochs.
_TORCHVISION = _IMAGENET.replace(
    bottleneck_stride="3x3",
    epochs=90,
    lr_batch_size=256,
    lr_drops=(1 / 3, 2 / 3),
    crop_area=(0.08, 1.0),
    shorter_side=None,
    pca_lighting=0.0,
)
# Its second (V2). The average there takes a part of 1024 x 32 x (1 - 0.99998) / 600 every 32 steps, which is 0.99996585
# kept at each. Its biases, one vector, decay there and do not here.
_TORCHVISION_V2 = _TORCHVISION.replace(
    epochs=600,
    batch_size=1024,
    lr_batch_size=1024,
    lr_schedule="cosine",
    peak_lr=0.5,
    warmup_epochs=5,
    warmup_lr=0.005,
    l2=2e-5,
    decay_on="kernels",
    ema=0.99996585,
    label_smoothing=0.1,
    mixup=0.2,
    cutmix=1.0,
    auto_augment="trivial",
    erase=0.1,
    repeated_augmentation=4,
    train_sizes=(176,),
    test_shorter_side=232,
)
# ResNet strikes back (arXiv:2110.00476, Table 2 and section 2), procedure A2; A1 and A3 differ from it as below.
# Gradients are clipped to 1, as by the optimizer that it used. Where A1 smooths, labels are made whole first.
_STRIKES_BACK = _IMAGENET.replace(
    bottleneck_stride="3x3",
    epochs=300,
    batch_size=2048,
    optimizer="lamb",
    lr_schedule="cosine",
    peak_lr=5e-3,
    warmup_epochs=5,
    warmup_lr=1e-4,
    l2=0.0,
    weight_decay=0.02,
    decay_on="kernels",
    clip_norm=1.0,
    loss="binary",
    mixed_labels="whole",
    mixup=0.1,
    cutmix=1.0,
    auto_augment="rand",
    repeated_augmentation=3,
    stochastic_depth=0.05,
    crop_area=(0.08, 1.0),
    shorter_side=None,
    pca_lighting=0.0,
    interpolation="bicubic",
    test_shorter_side=235,
    precision="mixed_float16",
)
_PROCEDURES = {
    "a1": _STRIKES_BACK.replace(epochs=600, weight_decay=0.01, mixup=0.2, label_smoothing=0.1),
    "a2": _STRIKES_BACK,
    "a3": _STRIKES_BACK.replace(
        epochs=100,
        peak_lr=8e-3,
        auto_augment_magnitude=6.0,
        repeated_augmentation=1,
        stochastic_depth=0.0,
        train_sizes=(160,),
    ),
}
# arXiv:1605.07146, section 3 (without dropout); where crops leave the image they see zeros here, its reflection there.
_WIDE = _CIFAR10.replace(epochs=200, lr_drops=(0.3, 0.6, 0.8), lr_factor=0.2, nesterov=True, l2=5e-4)
_WARM = {"warmup_steps": 400, "warmup_lr": 0.01}  # §4.2, for 110 layers: "about 400 iterations"
# Handwritten digits of 8x8 pixels, in the package: the whole path in minutes on any machine.
_DIGITS = Recipe.from_flat(
    model="resnet20",
    dataset="digits",
    epochs=40,
    batch_size=32,
    lr_schedule="cosine",
    peak_lr=0.05,
    warmup_steps=40,
    pad_pixels=1,
    l2=5e-4,
)


def _in_int8(recipe: Recipe, peak_lr: float = 1e-3) -> Recipe:
    """Returns a recipe by which a trained network, `--weights`, learns to compute in int8 what it did in floats."""
    return recipe.replace(
        quantization_aware=True,
        distill=True,
        epochs=5,
        lr_schedule="cosine",
        peak_lr=peak_lr,
        warmup_steps=0,
        l2=0.0,
    )


IMAGENET_NETWORKS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
"""Residual networks for ImageNet, which most recipes are for."""

RECIPES: dict[str, Recipe] = {
    "digits_resnet20": _DIGITS,
    "digits_qat_resnet20": _in_int8(_DIGITS),
    # From weights of ImageNet to images of one's own: --data-dir, and --weights FILE if not by the network.
    **{f"finetune_{name}": _FINETUNE.replace(model=name) for name in IMAGENET_NETWORKS},
    **{
        f"imagenet_{name}": _IMAGENET.replace(model=name)
        for name, row in ARCHITECTURES.items()
        if row.stem == "imagenet"
    },
    **{f"imagenet_torchvision_{name}": _TORCHVISION.replace(model=name) for name in IMAGENET_NETWORKS},
    **{
        f"imagenet_torchvision_{name}": _TORCHVISION.replace(model=name)
        for name in ("resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2")
    },
    **{f"imagenet_torchvision_v2_{name}": _TORCHVISION_V2.replace(model=name) for name in IMAGENET_NETWORKS},
    **{
        f"imagenet_{procedure}_{name}": recipe.replace(model=name)
        for procedure, recipe in _PROCEDURES.items()
        for name in IMAGENET_NETWORKS
    },
    **{
        f"cifar10_qat_{name}": _in_int8(_CIFAR10.replace(model=name))
        for name in ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
    },
    # Measured with ResNet-18 on 125 photographs: at 1e-3 it forgets.
    **{f"imagenet_qat_{name}": _in_int8(_IMAGENET.replace(model=name), 1e-4) for name in IMAGENET_NETWORKS},
    **{f"cifar10_fast_{name}": _FAST.replace(model=name) for name in ("resnet20", "resnet32", "resnet44", "resnet56")},
    **{
        f"cifar10_modern_{name}": _MODERN.replace(model=name)
        for name in ("resnet20", "resnet32", "resnet44", "resnet56")
    },
    **{
        f"cifar10_{name}": _CIFAR10.replace(model=name, **(_WARM if row.depth >= 110 else {}))
        for name, row in ARCHITECTURES.items()
        if row.stem == "cifar"
    },
    # arXiv:1603.05027, appendix: as before, with the warm-up.
    **{
        f"cifar10_{name}": _CIFAR10.replace(model=name, **_WARM)
        for name in ("resnet110v2", "resnet164v2", "resnet1001v2")
    },
    **{f"cifar10_{name}": _WIDE.replace(model=name) for name in ("wide_resnet16_8", "wide_resnet28_10")},
}
"""Recipes by name. A variant is `dataclasses.replace(RECIPES[name], field=value)`, or a flag of `resnet train`."""
