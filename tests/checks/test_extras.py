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
            extras.MissingExtra, match=r"Expected the package no_such, for magic: pip install no_such \(the extra m\)\."
        ),
        extras.required("m", "magic"),
    ):
        import no_such.thing  # noqa: F401


def test_other_errors_pass() -> None:
    with pytest.raises(ValueError, match="three"), extras.required("m", "magic"):
        raise ValueError("three")


def test_a_feature_without_its_package_names_the_extra() -> None:
    # One process, because it takes seconds to import TensorFlow.
    lines = ["import sys, traceback", f"sys.modules.update(dict.fromkeys({list(NEEDED)!r}))"]
    for _, code in NEEDED.values():
        lines += ["try:", f"    {code}", "except ImportError as error:", "    traceback.print_exception(error)"]
        lines += ["    print('== end of an error', file=sys.stderr)"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    errors = done.stderr.split("== end of an error\n")
    assert len(errors) == len(NEEDED) + 1
    for (package, (extra, _)), error in zip(NEEDED.items(), errors, strict=False):
        last = error.splitlines()[-1]
        assert last.startswith(f"resnet_keras.checks.extras.MissingExtra: Expected the package {package}, for "), (
            package
        )
        assert f"pip install {' '.join(extras.packages_of(extra))} (the extra {extra})" in last, package


def test_packages_of_an_extra_are_named_as_the_index_has_them() -> None:
    assert extras.packages_of("hub") == ("huggingface_hub",)
    assert extras.packages_of("export") == ("ai-edge-litert", "tensorflow-serving-api")
    assert extras.packages_of("none") == ()
