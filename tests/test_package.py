"""The package: import order, quick import, public names."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import resnet_keras

PACKAGE = Path(resnet_keras.__file__).parent

# A module imports only modules that stand before it. `exporting` and `cli` are last, in an order of their own.
ORDER = (
    "atomic",
    "local_workers",
    "locking",
    "stopping",
    "choices",
    "architecture",
    "architectures",
    "sizes",
    "datasets",
    "recipe",
    "recipes",
    "results",
    "paper",
    "experiment",
    "experiments",
    "reproduction_folder",
    "phases",
    "schedules",
    "preprocessing",
    "images",
    "orientation",
    "image_files",
    "splits",
    "subsets",
    "broken_images",
    "augmentation",
    "mixing",
    "policies",
    "input_pipeline",
    "training_batches",
    "input_meter",
    "class_names",
    "grouped_convolution",
    "normalization",
    "folding",
    "int8_layers",
    "quantization",
    "weights.torch_file",
    "weights.keras_file",
    "weights.layouts",
    "weights.traits",
    "weights.checkpoint",
    "weights.shapes",
    "weights.published",
    "weights.settings",
    "weights.sources",
    "weights.loading",
    "blocks",
    "ode_solvers",
    "ode_block",
    "models",
    "complexity",
    "classifier",
    "conversion",
    "copies",
    "backbone",
    "freezing",
    "recalibration",
    "views",
    "view_batches",
    "evaluation",
    "layer_responses",
    "protocols",
    "confusion",
    "prediction",
    "optimizers",
    "cluster",
    "overriding",
    "rematerialisation",
    "multi_worker",
    "worker_batches",
    "distribution",
    "checkpoints",
    "run_folder",
    "runs",
    "run_table",
    "run_measures",
    "progress",
    "averaging",
    "training_step",
    "whitening",
    "failures",
    "compilation",
    "start",
    "plan",
    "run",
    "training",
    "peak_memory",
    "outcomes",
    "reproduction_tables",
    "reproduction_plots",
    "reproduction_document",
    "reproduction",
    "exporting.constant_weights",
    "exporting.litert_converter",
    "exporting.runner",
    "exporting.running",
    "exporting.export_meter",
    "exporting.image_bytes",
    "exporting.pixel_model",
    "exporting.saved_model",
    "exporting.litert",
    "exporting.options",
    "exporting.layer_errors",
    "exporting.litert_metadata",
    "exporting.warm_up",
    "exporting.proof",
    "exporting.report",
    "exporting.card",
    "exporting.publish",
    "cli.program",
    "cli.train",
    "cli.evaluate",
    "cli.predict",
    "cli.convert",
    "cli.recalibrate",
    "cli.export",
    "cli.networks",
    "cli.workers",
    "cli.recipes",
    "cli.runs",
    "cli.reproduce",
    "cli.bench",
)
WITHOUT_KERAS = (
    "atomic",
    "local_workers",
    "locking",
    "stopping",
    "choices",
    "architecture",
    "architectures",
    "sizes",
    "datasets",
    "recipe",
    "recipes",
    "results",
    "paper",
    "experiment",
    "experiments",
    "reproduction_folder",
    "phases",
    "preprocessing",
    "class_names",
)
WITHOUT_TENSORFLOW = (
    *WITHOUT_KERAS,
    "schedules",
    "preprocessing",
    "class_names",
    "weights.torch_file",
    "weights.keras_file",
    "weights.layouts",
    "weights.traits",
    "weights.checkpoint",
    "weights.shapes",
    "weights.published",
    "weights.settings",
    "weights.sources",
    "weights.loading",
    "blocks",
    "models",
    "complexity",
    "classifier",
    "conversion",
    "copies",
    "backbone",
    "freezing",
    "recalibration",
    "checkpoints",
    "run_folder",
    "runs",
    "run_table",
    "layer_responses",
    "progress",
    "whitening",
)


def module_names() -> list[str]:
    files = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
    return sorted(".".join(path.parts) for path in files)


def imports_of(module: str) -> set[str]:
    """The absolute names of everything that a module imports, anywhere in it."""
    tree = ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_the_order_names_every_module() -> None:
    assert sorted(ORDER) == module_names()


@pytest.mark.parametrize("module", ORDER)
def test_a_module_imports_only_those_above_it(module: str) -> None:
    above = ORDER[: ORDER.index(module)]
    for name in imports_of(module):
        if name.startswith("resnet_keras."):
            target = name.removeprefix("resnet_keras.")
            assert any(target == known or target.startswith(f"{known}.") for known in above), f"{module} imports {name}"


@pytest.mark.parametrize("module", WITHOUT_TENSORFLOW)
def test_the_networks_are_keras_alone(module: str) -> None:
    assert not any(name.split(".")[0] == "tensorflow" for name in imports_of(module))


@pytest.mark.parametrize("module", WITHOUT_KERAS)
def test_the_tables_need_no_keras(module: str) -> None:
    assert not any(name.split(".")[0] == "keras" for name in imports_of(module))


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, resnet_keras; resnet_keras.RECIPES; dir(resnet_keras)\n"
        "heavy = {'keras', 'tensorflow', 'tensorflow_datasets', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", resnet_keras.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(resnet_keras, name)
    if callable(value):
        assert len((inspect.getdoc(value) or "").split()) >= 5


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'ResNet51'"):
        resnet_keras.ResNet51  # noqa: B018
