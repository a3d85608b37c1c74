"""The package: import order of folders and modules, and quick import."""

import ast
import subprocess
import sys
from pathlib import Path

import resnet_keras

PACKAGE = Path(resnet_keras.__file__).parent

# A folder imports only folders that stand above it, and a module only modules of its folder that stand before it.
ORDER = {
    "": ("files", "tables"),
    "checks": ("fields", "extras", "public_names", "tensorflow_errors"),
    "layers": ("keras_internals", "traversal", "grouped_conv", "fake_quant", "batch_norm"),
    "data": (
        *(
            "class_names",
            "datasets",
            "preprocessing",
            "settings",
            "mapping",
            "exif_bytes",
            "exif",
            "image_files",
            "image_limits",
            "pillow_files",
            "array_images",
            "image_ops",
        ),
        *("image_folders", "image_sizes", "input_images", "record_files", "splits", "sampling"),
        *("fingerprint", "image_checks", "opening", "augmentation", "mixup", "auto_augment"),
        *("evaluation_input", "run_order", "training_input", "input_speed"),
    ),
    "networks": (
        *("conventions", "architecture", "catalog", "published_sizes", "blocks", "builder", "ode_solvers", "ode_block"),
        "complexity",
    ),
    "weights": (
        *(
            "bounded_pickle",
            "archive_member",
            "torch_file",
            "torch_checkpoint",
            "safetensors_file",
            "network_size",
            "keras_archive",
        ),
        *("keras_file", "weights_file"),
        *("pretrained_files", "usual_preprocessing", "layout", "layouts", "leftovers"),
        *("dense_heads", "imported", "recognition"),
        *("published", "hub_settings", "model_conventions", "sources", "finite", "loading"),
        *("equivalents", "library_networks", "exported"),
    ),
    "surgery": (*("folding", "quantization", "cloning", "feature_maps", "linear_probe", "freezing", "recalibration"),),
    "recipes": ("settings", "recipe", "catalog", "published_errors"),
    "distributed": (
        *("processor", "child_command", "local_workers", "scaling", "cluster", "multi_worker", "sharding", "strategy"),
    ),
    "applications": (
        *(
            "pixel_warning",
            "named_networks",
            "outputs",
            "top_classes",
            "class_map",
            "loaded_network",
            "classifier",
            "model_files",
            "torch_files",
        ),
        *("conversion", "prediction", "keras_functions"),
    ),
    "evaluation": (
        *("views", "view_batches", "class_places", "predictions", "scoring", "evaluator", "layer_responses"),
        *("protocols", "confusion"),
    ),
    "segmentation": (
        *(
            "heads",
            "builders",
            "full_size",
            "measures",
            "mask_files",
            "mask_sets",
            "mask_input",
            "segmenter",
            "objective",
        ),
    ),
    "detection": (
        *("anchors", "boxes", "matching", "suppression", "pooling", "coco_classes"),
        *("catalog", "region_layers", "context_layers", "region_heads", "faster_rcnn", "parts"),
        *("box_split", "image_reading", "voc_files", "coco_files", "box_files", "canvas", "tfds_boxes", "box_input"),
        *("sampling", "losses", "targets", "training_layers", "loss_network", "average_precision", "results"),
        *("refinements", "refined"),
        "detector",
        *("localization_network", "localization_input", "localization_objective", "localization_measures", "localizer"),
        "drawing",
    ),
    "runs": (
        *(
            "results",
            "process_memory",
            "lock",
            "file_hashes",
            "checkpoints",
            "machine",
            "curves",
            "image_grid",
            "folder",
        ),
        *("data_record", "saved_run", "summary"),
        *("results_page", "post_training", "trained_weights"),
    ),
    "training": (
        *("preemption", "image_size_phases", "schedules", "optimizers", "rematerialization", "callbacks", "progress"),
        *("ema", "user_callbacks", "train_step", "whitening", "errors", "data", "own_batches", "own_data"),
        *("distillation", "model", "teacher", "continuation", "inputs", "task", "classification"),
        *("mask_data", "mask_training", "box_data", "detection"),
        *("localization_data", "localization"),
        *("tasks", "epoch_measures", "tensorboard_log", "run_warnings", "run_plan"),
        *("state", "loop", "origin", "trainer"),
    ),
    "exporting": (
        *("formats", "options", "constant_weights", "serving", "image_bytes", "saved_model", "child_process"),
        *(
            "artifact_worker",
            "artifact_process",
            "litert_classifier",
            "litert_evaluation",
            "export_speed",
            "unlabeled",
            "litert_converter",
            "litert",
            "litert_metadata",
        ),
        *("onnx_converter", "onnx_file", "layer_errors", "warmup_requests", "reference", "verification", "report"),
        *("model_card", "reuse", "artifacts", "dense_formats", "mask_export", "mask_exporter", "exporter"),
        *("detector_graphs", "detection_agreement", "int8_detector", "detector_export", "detector_exporter"),
    ),
    "reproduction": (
        *("paper_results", "experiment", "catalog", "folder", "peak_memory", "digit_scenes", "detection_runs"),
        *("outcomes", "tables", "plots", "document"),
        "reproducer",
    ),
    "cli": (
        *(
            "values",
            "flags",
            "help_text",
            "progress",
            "program",
            "train",
            "evaluate",
            "predict",
            "explain",
            "convert",
            "recalibrate",
            "export",
            "networks",
            "workers",
        ),
        *("recipes", "runs", "reproduce", "bench"),
    ),
}
MODULES = tuple(f"{folder}.{name}".lstrip(".") for folder, names in ORDER.items() for name in names)
WITHOUT_KERAS = (
    "files",
    "checks.fields",
    "tables",
    "checks.extras",
    "checks.public_names",
    "networks.conventions",
    "networks.architecture",
    "networks.catalog",
    "networks.published_sizes",
    "data.datasets",
    "data.preprocessing",
    "data.class_names",
    "data.settings",
    "data.exif_bytes",
    "data.image_files",
    "data.pillow_files",
    "data.array_images",
    "data.image_folders",
    "evaluation.class_places",
    "evaluation.predictions",
    "exporting.litert_classifier",
    "exporting.litert_evaluation",
    "recipes.settings",
    "recipes.recipe",
    "recipes.catalog",
    "recipes.published_errors",
    "distributed.processor",
    "distributed.child_command",
    "distributed.local_workers",
    "distributed.scaling",
    "runs.lock",
    "runs.file_hashes",
    "training.preemption",
    "training.image_size_phases",
    "reproduction.paper_results",
    "reproduction.experiment",
    "reproduction.catalog",
    "reproduction.folder",
)
WITHOUT_TENSORFLOW = (
    *WITHOUT_KERAS,
    *(name for name in MODULES if name.startswith("weights.")),
    "networks.blocks",
    "networks.builder",
    "networks.complexity",
    "applications.pixel_warning",
    "applications.named_networks",
    "applications.outputs",
    "applications.top_classes",
    "applications.loaded_network",
    "applications.classifier",
    "applications.torch_files",
    "applications.conversion",
    "surgery.cloning",
    "surgery.feature_maps",
    "surgery.freezing",
    "surgery.recalibration",
    "runs.checkpoints",
    "runs.machine",
    "runs.curves",
    "runs.image_grid",
    "runs.folder",
    "runs.saved_run",
    "runs.summary",
    "runs.results_page",
    "evaluation.layer_responses",
    "training.schedules",
    "training.callbacks",
    "training.whitening",
)


def imported(file: Path) -> set[str]:
    """The absolute names of everything that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imports_of(module: str) -> set[str]:
    return imported(PACKAGE / f"{module.replace('.', '/')}.py")


def test_the_order_names_every_module() -> None:
    files = (
        path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")
    )
    assert sorted(MODULES) == sorted(".".join(path.parts) for path in files)


def test_a_listing_of_the_package_fits_a_screen() -> None:
    assert len([path for path in PACKAGE.iterdir() if path.name != "__pycache__"]) <= 22


def test_modules_import_only_those_above_them() -> None:
    wrong = []
    for position, module in enumerate(MODULES):
        above = MODULES[:position]
        for name in imports_of(module):
            target = name.removeprefix("resnet_keras.")
            if target == name:
                continue
            if not any(target == known or target.startswith(f"{known}.") for known in above):
                wrong.append(f"{module} imports {name}")
    assert not wrong


def test_networks_are_keras_alone() -> None:
    assert not [name for name in WITHOUT_TENSORFLOW if any(n.split(".")[0] == "tensorflow" for n in imports_of(name))]


def test_tables_need_no_keras() -> None:
    assert not [name for name in WITHOUT_KERAS if any(n.split(".")[0] == "keras" for n in imports_of(name))]


def test_importing_the_package_loads_nothing_heavy() -> None:
    folders = ", ".join(f"resnet_keras.{folder}" for folder in ORDER if folder)
    code = (
        f"import sys, resnet_keras, {folders}; resnet_keras.RECIPES; dir(resnet_keras)\n"
        "heavy = {'keras', 'tensorflow', 'tensorflow_datasets', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
