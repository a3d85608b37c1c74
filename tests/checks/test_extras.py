"""Optional packages: the error that names the extra, for each place that needs one."""

import subprocess
import sys

import pytest

from resnet_keras.checks import extras

NEEDED = {
    "ai_edge_litert": ("export", "import resnet_keras; resnet_keras.export"),
    "huggingface_hub": ("hub", "import resnet_keras; resnet_keras.ResNet18(weights='hf://timm/resnet18.tv_in1k')"),
}
"""For each package, its extra, and the code that needs it."""


def test_the_error_names_package_feature_and_extra() -> None:
    with (
        pytest.raises(
            extras.MissingExtra, match=r"Expected the package no_such, for magic: pip install 'resnet_keras\[m\]'"
        ),
        extras.required("m", "magic"),
    ):
        import no_such.thing  # noqa: F401


def test_other_errors_pass() -> None:
    with pytest.raises(ValueError, match="three"), extras.required("m", "magic"):
        raise ValueError("three")


@pytest.mark.parametrize("package", NEEDED)
def test_a_feature_without_its_package_names_the_extra(package: str) -> None:
    extra, code = NEEDED[package]
    hidden = f"import sys; sys.modules[{package!r}] = None"
    done = subprocess.run([sys.executable, "-c", f"{hidden}\n{code}"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("resnet_keras.checks.extras.MissingExtra: Expected the package ")
    assert f"pip install 'resnet_keras[{extra}]'" in last
