"""Parameter counts that papers, torchvision, timm and MLPerf Tiny publish."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """A published count of trainable parameters.

    Attributes:
        parameters: The count.
        source: Paper or library that published it.
        rounded_to: Unit that it is rounded to; 1 if it is exact.
    """

    parameters: int
    source: str
    rounded_to: int = 1

    def __str__(self) -> str:
        """Returns the count as published: exact, or in millions."""
        if self.rounded_to == 1:
            return f"{self.parameters:,}"
        return f"{self.parameters / 1e6:.{2 if self.rounded_to < 100_000 else 1}f} M"

    def is_of(self, parameters: int) -> bool:
        """Returns whether a network's count agrees with the published one, rounded alike."""
        return round(parameters / self.rounded_to) * self.rounded_to == self.parameters


def _exact(source: str, **parameters: int) -> dict[str, Size]:
    return {name: Size(count, source) for name, count in parameters.items()}


SIZES: dict[str, Size] = {
    **_exact(
        "torchvision",
        resnet18=11_689_512,
        resnet34=21_797_672,
        resnet50=25_557_032,
        resnet101=44_549_160,
        resnet152=60_192_808,
        wide_resnet50_2=68_883_240,
        wide_resnet101_2=126_886_696,
        resnext50_32x4d=25_028_904,
        resnext101_32x8d=88_791_336,
        resnext101_64x4d=83_455_272,
    ),
    **_exact(
        "timm",
        resnet18v2=11_687_720,
        resnet34v2=21_795_880,
        resnet50v2=25_549_352,
        resnet101v2=44_541_480,
        resnet152v2=60_185_128,
        resnet50vd=25_576_264,
        resnet101vd=44_568_392,
        resnet152vd=60_212_040,
        resnet200vd=64_693_064,
        se_resnet50=28_088_024,
        se_resnet101=49_326_872,
        se_resnet152=66_821_848,
        se_resnext50_32x4d=27_559_896,
        resnet_rs50=35_691_912,
        resnet_rs101=63_618_696,
        resnet_rs152=86_621_576,
        resnet_rs200=93_209_992,
        resnet_rs270=129_861_448,
        resnet_rs350=163_956_168,
        resnet_rs420=191_891_656,
    ),
    **{
        f"resnet{depth}": Size(count, "arXiv:1512.03385, Table 6", unit)
        for depth, count, unit in (
            (20, 270_000, 10_000),
            (32, 460_000, 10_000),
            (44, 660_000, 10_000),
            (56, 850_000, 10_000),
            (110, 1_700_000, 100_000),
            (1202, 19_400_000, 100_000),
        )
    },
    "resnet164v2": Size(1_700_000, "arXiv:1603.05027, Table 4", 100_000),
    "wide_resnet28_10": Size(36_500_000, "arXiv:1605.07146, Table 5", 100_000),
    "wide_resnet16_8": Size(11_000_000, "arXiv:1605.07146, Table 5", 100_000),
}
"""Published counts by network. MLPerf Tiny's 78,666 for ResNet-8 include moving statistics and unused biases."""
