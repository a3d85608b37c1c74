"""Recipes by name: the paper's procedures, published ones of others, and our own (arXiv:1512.03385, §3.4 and §4.2)."""

from __future__ import annotations

from resnet_keras.recipes.recipe import Recipe
from resnet_keras.recipes.settings import INITIAL

_IMAGENET = Recipe.from_flat(
    model="resnet50",
    dataset="imagenet2012",
    # §3.4: up to 60 x 10^4 iterations of 256 images, 120 epochs. The rate falls "when the error plateaus"; here it
    # falls at fixed quarters of the run, similar to the common 30-60-90 schedule.
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
    # For ten to a few thousand images. Small sets have batches of a quarter of their images, so that an epoch has
    # several steps, and rates in proportion. Batch normalization is frozen: a few images have no reliable statistics.
    # Without it, gradients must be clipped: at batches of 2 and a rate of 0.0002, training diverges otherwise. Crops
    # are fractions of the image, so that they fit any image size.
    fit_head=True,
    freeze_batch_norms=True,
    epochs=10,
    batch_size=32,
    batch_fraction=0.25,
    carry_over=True,
    clip_norm=1.0,
    lr_schedule="cosine",
    peak_lr=0.003,
    lr_batch_size=32,
    warmup_epochs=1,
    warmup_lr=0.0003,
    crop_area=(0.35, 1.0),
    flip=True,
)
# Later practice for small images: a cosine schedule, Nesterov's momentum and five times the weight decay, with the same
# crops and flips. Open code of others has published 92.6, 93.5, 94.0 and 94.4 % accuracy for 20, 32, 44 and 56 layers.
_MODERN = _CIFAR10.replace(epochs=200, lr_schedule="cosine", warmup_epochs=5, warmup_lr=0.01, nesterov=True, l2=5e-4)
# Few epochs: the one-cycle schedule of cifar10-fast; from cifar10-airbench (arXiv:2404.00498) a whitened stem,
# alternating flips, mirrored test images, and Muon, by which kernels turn by up to 3 % in a step; half precision.
# Measured with ResNet-20, one seed each. By SGD at a rate of 0.2 instead of Muon, 10 epochs: 11.72 % error; 12.27 %
# without whitening and alternating flips; 12.42 % with a rate of 0.3 and 2 pixels of padding in addition. Four epochs
# at 24x24 pixels: 20.4 % by SGD (22.3 % at 0.08; 25.9 % with zero-initialized branches and label smoothing); 16.9 % by
# Muon, where kernels turn by up to 3 %, 17.4 % by 5 %, 19.5 % by 10 %.
_FAST = _CIFAR10.replace(
    epochs=20,
    optimizer="muon",
    kernel_rate=0.3,
    lr_schedule="one_cycle",
    peak_lr=0.1,
    warmup_epochs=2,
    warmup_lr=0.01,
    nesterov=True,
    l2=5e-4,
    alternate_flip=True,
    test_flip=True,
    whiten_stem=True,
    precision="mixed_bfloat16",
)
# arXiv:1605.07146, section 3, without dropout. Crops beyond the image see zeros here, its reflection there.
_WIDE = _CIFAR10.replace(
    model="wide_resnet28_10", epochs=200, lr_drops=(0.3, 0.6, 0.8), lr_factor=0.2, nesterov=True, l2=5e-4
)
# torchvision's references/classification: its first published weights (V1), 90 epochs.
_TORCHVISION = _IMAGENET.replace(
    bottleneck_stride="3x3",
    epochs=90,
    lr_batch_size=256,
    lr_drops=(1 / 3, 2 / 3),
    crop_area=(0.08, 1.0),
    shorter_side=None,
    pca_lighting=0.0,
)
# Its second weights (V2). There, the average takes 1024 x 32 x (1 - 0.99998) / 600 of the weights every 32 steps, which
# is a decay of 0.99996585 per step. Biases, one vector, decay there and not here.
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
# ResNet strikes back (arXiv:2110.00476, Table 2 and section 2), procedure A2; A1 and A3 differ as below. Gradients are
# clipped to a norm of 1, as by the optimizer used there. Labels of mixed images become 1 before A1 smooths them.
_A2 = _IMAGENET.replace(
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
_A1 = _A2.replace(epochs=600, weight_decay=0.01, mixup=0.2, label_smoothing=0.1)
_A3 = _A2.replace(
    epochs=100,
    peak_lr=8e-3,
    auto_augment_magnitude=6.0,
    repeated_augmentation=1,
    stochastic_depth=0.0,
    train_sizes=(160,),
)
# Handwritten digits of 8x8 pixels, part of the package: trained in minutes on any machine.
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
# The schedule of arXiv:1606.00915 and arXiv:1706.05587, section 4.1, with the crops, scales, and rate of torchvision's
# references/segmentation, and the weight of the second loss of arXiv:1612.01105, section 3.3.
_SEGMENTATION = Recipe.from_flat(
    model="resnet50",
    head="deeplabv3",
    dataset="folder",
    weights="imagenet",
    epochs=30,
    batch_size=16,
    lr_schedule="poly",
    lr_power=0.9,
    peak_lr=0.01,
    lr_batch_size=16,
    crop_size=(480, 480),
    random_scale=(0.5, 2.0),
    flip=True,
    auxiliary_loss=0.4,
)

# arXiv:1512.03385, appendix A: conv1 to conv4 shared, conv5 on each region, batch normalization fixed, and "the same
# hyper-parameters as in" arXiv:1506.01497. Those are in its published code: sides of 600 and at most 1,000, two images
# of 64 regions, background from an overlap of 0.1, 300 proposals in the test, a rate of 0.001, decay of 0.0005. The
# number of steps is that of a later code of the same (tf-faster-rcnn): 110,000, the rate falls after 80,000. Normalizes
# as torchvision's weights do; regions are cut out by RoIAlign instead of RoI pooling.
_VOC_C4 = Recipe.from_flat(
    model="resnet101",
    dataset="folder",
    weights="imagenet",
    detector="c4",
    canvas=(1008, 1008),
    fit=(600, 1000),
    sampled_regions=64,
    background_overlap=0.1,
    freeze="stem",
    freeze_batch_norms=True,
    epochs=13,
    batch_size=2,
    peak_lr=0.001,
    lr_drops=(8 / 11,),
    l2=5e-4,
    flip=True,
)
# torchvision's references/detection for fasterrcnn_resnet50_fpn: 16 images in a step, 26 epochs, the rate falls after
# 16 and 22. There it rises for 1,000 steps; here it is a third for 500, as in detectron.
_COCO_FPN = Recipe.from_flat(
    model="resnet50",
    dataset="folder",
    weights="imagenet",
    detector="fpn",
    canvas=(1344, 1344),
    fit=(800, 1333),
    freeze="stage1",
    freeze_batch_norms=True,
    epochs=26,
    batch_size=16,
    peak_lr=0.02,
    lr_batch_size=16,
    lr_drops=(16 / 26, 22 / 26),
    warmup_steps=500,
    warmup_lr=0.02 / 3,
    flip=True,
)
# For a few hundred images of one's own on a CPU: a narrow pyramid, small images, and few regions take a tenth of the
# time of `coco_frcnn_fpn`.
_FINETUNE_DETECTOR = Recipe.from_flat(
    model="resnet18",
    dataset="folder",
    weights="imagenet",
    detector="fpn",
    canvas=(320, 320),
    pyramid_channels=128,
    box_units=512,
    anchor_sizes=(16, 32, 64, 128, 256),
    train_proposals=300,
    test_proposals=300,
    sampled_anchors=128,
    sampled_regions=64,
    freeze="stage1",
    freeze_batch_norms=True,
    epochs=12,
    batch_size=4,
    clip_norm=10.0,
    lr_schedule="cosine",
    peak_lr=0.01,
    lr_batch_size=4,
    warmup_steps=50,
    warmup_lr=0.001,
    flip=True,
)

# For images of one object each; see `_FINETUNE`, whose batches, rates, and frozen normalization it has.
_LOCALIZATION = Recipe.from_flat(
    model="resnet18",
    head="box",
    dataset="folder",
    weights="imagenet",
    freeze_batch_norms=True,
    epochs=20,
    batch_size=32,
    batch_fraction=0.25,
    clip_norm=5.0,
    lr_schedule="cosine",
    peak_lr=0.01,
    lr_batch_size=32,
    warmup_epochs=1,
    warmup_lr=0.001,
    flip=True,
)


def _quantization_aware(recipe: Recipe, peak_lr: float = 1e-3) -> Recipe:
    """Returns a recipe of quantization-aware training for int8 that distills from the trained network, `weights`."""
    return recipe.replace(
        quantization_aware=True,
        teacher=INITIAL,
        epochs=5,
        lr_schedule="cosine",
        peak_lr=peak_lr,
        warmup_steps=0,
        l2=0.0,
    )


RECIPES: dict[str, Recipe] = {
    "digits": _DIGITS,
    "digits_qat": _quantization_aware(_DIGITS),
    "coco_frcnn_fpn": _COCO_FPN,
    "finetune": _FINETUNE,
    "finetune_detector": _FINETUNE_DETECTOR,
    "imagenet": _IMAGENET,
    "imagenet_torchvision": _TORCHVISION,
    "imagenet_torchvision_v2": _TORCHVISION_V2,
    "imagenet_a1": _A1,
    "imagenet_a2": _A2,
    "imagenet_a3": _A3,
    # Measured with ResNet-18 on 125 photographs: a rate of 1e-3 loses accuracy.
    "imagenet_qat": _quantization_aware(_IMAGENET, 1e-4),
    # §4.2, for 110 layers: "about 400 iterations" of warm-up. arXiv:1603.05027, appendix, has it, too.
    "cifar10": _CIFAR10.replace(warmup_steps=400, warmup_lr=0.01, warmup_from_depth=110),
    "cifar10_fast": _FAST,
    "cifar10_modern": _MODERN,
    "cifar10_qat": _quantization_aware(_CIFAR10),
    "cifar10_wide": _WIDE,
    "localization": _LOCALIZATION,
    "segmentation": _SEGMENTATION,
    "voc_frcnn_c4": _VOC_C4,
}
"""Procedures of training by name, each with a default network; `RECIPES[name].replace(model=...)` has another one."""
