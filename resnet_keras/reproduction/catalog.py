"""The paper's experiments by name, with the networks of each budget (arXiv:1512.03385)."""

from __future__ import annotations

from typing import Any

from resnet_keras.networks.architecture import Shortcut
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.reproduction.experiment import BUDGETS, Budget, Experiment, Variant
from resnet_keras.reproduction.paper_results import PAPER_CIFAR10, PAPER_TEN_CROP

_PLAIN, _RESIDUAL = "plain networks", "residual networks"


def _model(name: str) -> str:
    """Returns the network's name in the table of architectures, e.g. of "plain-20" or "ResNet-34 B"."""
    return name.split()[0].replace("plain-", "plainnet").replace("ResNet-", "resnet")


def _cifar(
    name: str, budget: Budget, panel: str = _RESIDUAL, *, seeds: int = 1, shortcut: Shortcut | None = None
) -> Variant:
    """Returns a network of the CIFAR family."""
    model = _model(name)
    paper = RECIPES["cifar10"].replace(model=model)
    recipe = {
        # The digits of the package, six epochs of eight steps. Each step renews a tenth of the moving statistics; after
        # fewer steps they would still be the initial ones, an error that compounds from layer to layer.
        "smoke": RECIPES["digits"].replace(model=model, train_images=256, epochs=6, warmup_steps=8),
        # A tenth of the images, a twentieth of the epochs: 312 of 64,000 steps. With the paper's learning rate of 0.1,
        # so few steps do not suffice for deep residual networks: after 780 steps, training errors were 44 and 74 % for
        # 20 and 56 plain layers, and 41 and 57 % for residual ones (one seed). For 110 layers the paper, too, warms up
        # at 0.01, for more steps than these. CPUs with bfloat16 instructions are about 1.5 times as fast with it.
        "small": paper.replace(train_images=5_000, epochs=8, peak_lr=0.02, warmup_steps=0, precision="mixed_bfloat16"),
        "full": paper,
    }[budget]
    figure = PAPER_CIFAR10.get(name.split()[0]) if shortcut is None and budget != "smoke" else None
    return Variant(name=name, recipe=recipe.replace(shortcut=shortcut), panel=panel, seeds=seeds, paper=figure)


def _imagenet(name: str, panel: str = _RESIDUAL, *, shortcut: Shortcut | None = None) -> Variant:
    """Returns a network of Table 1, by the paper's recipe."""
    recipe = RECIPES["imagenet"].replace(model=_model(name), shortcut=shortcut)
    return Variant(name=name, recipe=recipe, panel=panel, paper=PAPER_TEN_CROP[name])


def _plain_and_residual(budget: Budget, depths: tuple[int, ...], seeds: int = 1) -> tuple[Variant, ...]:
    kinds = (("plain", _PLAIN), ("ResNet", _RESIDUAL))
    return tuple(_cifar(f"{kind}-{depth}", budget, panel, seeds=seeds) for kind, panel in kinds for depth in depths)


def _options(budget: Budget, seeds: int = 1) -> tuple[Variant, ...]:
    """Returns ResNet-20 with each option of shortcuts, of which A is its own, and with none."""
    chosen: dict[str, Shortcut | None] = {"A": None, "B": "B", "C": "C"}
    panel = "options of shortcuts"
    return (
        _cifar("plain-20", budget, panel, seeds=seeds),
        *(_cifar(f"ResNet-20 {o}", budget, panel, seeds=seeds, shortcut=s) for o, s in chosen.items()),
    )


VOC, COCO, ANY_DATA = "PASCAL VOC", "COCO", "images of any kind"
"""Panels of detectors: the layout of the data that they are trained on."""


def _detectors(budget: Budget) -> tuple[Variant, ...]:
    """Returns detectors without and with global context."""
    few: dict[str, Any] = {"weights": None, "freeze": None, "canvas": (64, 64), "pyramid_channels": 16, "box_units": 32}
    few |= {"anchor_sizes": (8, 16, 24, 32, 48), "train_proposals": 60, "test_proposals": 40}
    few |= {"sampled_anchors": 64, "sampled_regions": 32, "warmup_steps": 0, "epochs": 2}
    # §B of the appendix, for COCO: 240k steps at 0.001 and 80k at 0.0001; 8 images of the region proposal network, over
    # 82,783 images. It trains both stages together, not one after the other.
    on_coco = {"batch_size": 8, "epochs": 31, "lr_drops": (0.75,)}
    plain = {
        "smoke": {ANY_DATA: RECIPES["finetune_detector"].replace(**few)},
        "small": {ANY_DATA: RECIPES["finetune_detector"]},
        "full": {VOC: RECIPES["voc_frcnn_c4"], COCO: RECIPES["voc_frcnn_c4"].replace(**on_coco)},
    }[budget]
    return tuple(
        Variant(name=f"{recipe.network.model.replace('resnet', 'ResNet-')}{added}, {panel}", recipe=each, panel=panel)
        for panel, recipe in plain.items()
        for added, each in (("", recipe), (" + context", recipe.replace(global_context=True)))
    )


_OF_TABLE_4 = (
    _imagenet("ResNet-34 B"),
    _imagenet("ResNet-34 C", shortcut="C"),
    *(_imagenet(f"ResNet-{depth}") for depth in (50, 101, 152)),
)
_PLAIN_AND_RESIDUAL_CIFAR: dict[Budget, tuple[Variant, ...]] = {
    "smoke": _plain_and_residual("smoke", (20, 56)),
    "small": _plain_and_residual("small", (20, 56), seeds=3),
    "full": _plain_and_residual("full", (20, 32, 44, 56, 110)),
}


def _few_steps(dataset: str, images: int, batch_size: int) -> tuple[Variant, ...]:
    """Returns ResNet-1202 on images of CIFAR-10's size, for one epoch of a few steps, as it is and to save memory."""
    paper = RECIPES["cifar10"].replace(model="resnet1202")
    few = paper.replace(dataset=dataset, image_size=32, train_images=images, batch_size=batch_size, epochs=1)
    saving = few.replace(rematerialize=True)
    names = ("ResNet-1202", "ResNet-1202, rematerialized")
    return tuple(
        Variant(name=name, recipe=recipe, panel=_RESIDUAL) for name, recipe in zip(names, (few, saving), strict=True)
    )


EXPERIMENTS: dict[str, Experiment] = {
    "table1": Experiment(
        title="The networks",
        where="§3.3 and §4.2, Tables 1 and 6",
        claim="A residual network of 34 layers takes 18 % of the multiply-adds of VGG-19, and even that of 152 layers "
        "fewer than VGG-16.",
        kind="networks",
        variants={budget: () for budget in BUDGETS},
    ),
    "degradation": Experiment(
        title="Deeper plain networks train worse; deeper residual networks do not",
        where="§1, §4.1 and §4.2, Fig. 1, 4 and 6, Table 2",
        claim="Of plain networks the deeper one has the higher training error, throughout the training, and hence the "
        "higher test error. Residual networks do not degrade so; they gain from depth.",
        kind="training",
        variants={
            **_PLAIN_AND_RESIDUAL_CIFAR,
            "full": (
                *_PLAIN_AND_RESIDUAL_CIFAR["full"],
                *(_imagenet(name, f"{_PLAIN}, ImageNet") for name in ("plain-18", "plain-34")),
                *(_imagenet(f"ResNet-{depth} A", f"{_RESIDUAL}, ImageNet", shortcut="A") for depth in (18, 34)),
            ),
        },
        contrasts=(
            ("plain-56", "plain-20"),
            ("ResNet-56", "ResNet-20"),
            ("plain-34", "plain-18"),
            ("ResNet-34 A", "ResNet-18 A"),
        ),
    ),
    "shortcuts": Experiment(
        title="Identity and projection shortcuts",
        where="§3.3 and §4.1, Table 3",
        claim="All three options are considerably better than the plain network. B is slightly better than A, C "
        "marginally better than B: projections are not essential.",
        kind="training",
        variants={
            "smoke": _options("smoke"),
            "small": _options("small", seeds=3),
            "full": (
                _imagenet("plain-34", _PLAIN),
                _imagenet("ResNet-34 A", shortcut="A"),
                *_OF_TABLE_4,
            ),
        },
        contrasts=(
            ("ResNet-20 A", "plain-20"),
            ("ResNet-20 B", "ResNet-20 A"),
            ("ResNet-20 C", "ResNet-20 B"),
            ("ResNet-34 A", "plain-34"),
            ("ResNet-34 B", "ResNet-34 A"),
            ("ResNet-34 C", "ResNet-34 B"),
        ),
    ),
    "depth": Experiment(
        title="Residual networks gain from depth",
        where="§4.2, Table 6 and Fig. 6",
        claim="The test error falls from 20 to 110 layers. The network of 1202 layers trains as well, to a training "
        "error below 0.1 %, but tests worse than that of 110: it overfits.",
        kind="training",
        variants={
            "smoke": tuple(_cifar(f"ResNet-{depth}", "smoke") for depth in (20, 32, 56)),
            "small": tuple(_cifar(f"ResNet-{depth}", "small", seeds=3) for depth in (20, 32, 44, 56, 110)),
            "full": (
                *(_cifar(f"ResNet-{depth}", "full") for depth in (20, 32, 44, 56)),
                _cifar("ResNet-110", "full", seeds=5),
                _cifar("ResNet-1202", "full"),
            ),
        },
        contrasts=(("ResNet-56", "ResNet-20"), ("ResNet-110", "ResNet-20"), ("ResNet-1202", "ResNet-110")),
    ),
    "responses": Experiment(
        title="Residual functions respond less than plain layers, and less the deeper the network",
        where="§4.2, Fig. 7",
        claim="The layers of residual networks have generally smaller responses than those of plain ones, and those of "
        "deeper networks smaller ones than those of shallower: each modifies the signal less.",
        kind="responses",
        variants=_PLAIN_AND_RESIDUAL_CIFAR,
    ),
    "protocols": Experiment(
        title="One crop, ten crops, several scales, several networks",
        where="§3.4 and §4.1, Tables 3, 4 and 5",
        claim="Ten crops lower the error, the full image at five scales lowers it more, and six networks together "
        "reach 3.57 % top-5. So it is on ImageNet, whose networks have learned from images of many scales; those of "
        "CIFAR-10 know one.",
        kind="protocols",
        variants={
            "smoke": tuple(_cifar(f"ResNet-{depth}", "smoke") for depth in (20, 32)),
            "small": tuple(_cifar(f"ResNet-{depth}", "small") for depth in (20, 56)),
            "full": _OF_TABLE_4,
        },
    ),
    "layers1202": Experiment(
        title="Over a thousand layers",
        where="§4.2",
        claim="A network of 1202 layers shows no difficulty of optimization.",
        kind="memory",
        variants={
            "smoke": _few_steps("digits", images=64, batch_size=16),
            "small": _few_steps("cifar10", images=512, batch_size=32),
            "full": (_cifar("ResNet-1202", "full"),),
        },
    ),
    "detection": Experiment(
        title="Object detection",
        where="appendices A and B, Tables 7, 8 and 9",
        claim="With ResNet-101 instead of VGG-16, Faster R-CNN gains 3 points on PASCAL VOC and 6 on COCO, where box "
        "refinement, global context, and several scales add 5.",
        kind="detection",
        variants={budget: _detectors(budget) for budget in BUDGETS},
    ),
}
"""Experiments by name, in the paper's order."""


def find_experiment(name: str) -> Experiment:
    """Returns the entry of `EXPERIMENTS` called `name`.

    Raises:
        ValueError: There is none of that name; the message lists those there are.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"Expected one of {', '.join(EXPERIMENTS)}. Received: {name!r}")
    return EXPERIMENTS[name]
