"""Deep residual networks for Keras 3 and TensorFlow, from the paper (arXiv:1512.03385) to a served, verified model.

Names load their modules, and with them Keras and TensorFlow, when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "architecture": ("Architecture",),
    "architectures": ("ARCHITECTURES", "FAMILY"),
    "datasets": ("DATASETS", "Dataset"),
    "recipe": ("Recipe",),
    "recipes": ("RECIPES",),
    "experiment": ("Experiment", "Variant"),
    "experiments": ("EXPERIMENTS",),
    "results": ("PUBLISHED", "Published", "recipe_table"),
    "preprocessing": ("Preprocessing",),
    "splits": ("open_split",),
    "subsets": ("sample",),
    "broken_images": ("open_whole",),
    "normalization": ("BatchNormalization", "fuse"),
    "folding": ("folded",),
    "quantization": ("calibrate", "quantized"),
    "ode_block": ("ODEBlock",),
    "models": (
        "build",
        *(f"ResNet{depth}" for depth in (18, 34, 50, 101, 152, 20, 32, 44, 56, 110, 1202)),
        *(f"PlainNet{depth}" for depth in (18, 34, 20, 32, 44, 56, 110)),
    ),
    "weights.checkpoint": ("Checkpoint",),
    "weights.shapes": ("architecture_of",),
    "weights.loading": ("Report", "load_weights"),
    "weights.sources": ("open_checkpoint",),
    "complexity": ("complexity_table", "multiply_adds"),
    "classifier": ("Classifier",),
    "conversion": ("convert", "largest_difference"),
    "backbone": ("features", "with_head"),
    "freezing": ("Freezing", "freeze"),
    "recalibration": ("recalibrate",),
    "rematerialisation": ("rematerialising",),
    "views": ("Views",),
    "evaluation": ("Answers", "Evaluation", "answer", "evaluate"),
    "confusion": ("class_table", "confusion_matrix", "write_details"),
    "input_pipeline": ("evaluation_batches",),
    "layer_responses": ("response_deviations",),
    "prediction": ("Prediction", "predict"),
    "run_folder": ("RunFolder", "dataset_of"),
    "run_table": ("RunTable", "table_of_runs"),
    "plan": ("Plan", "dry_run"),
    "training": ("train",),
    "reproduction": ("reproduce",),
    "exporting.options": ("ExportOptions",),
    "exporting.saved_model": ("write_saved_model",),
    "exporting.publish": ("Export", "ExportRefused", "export"),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
