"""Deep residual networks for Keras 3 and TensorFlow, from the paper (arXiv:1512.03385) to a served, verified model.

Names load their modules, and with them Keras and TensorFlow, when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "networks.architecture": ("Architecture",),
    "networks.catalog": ("ARCHITECTURES", "FAMILY"),
    "data.datasets": ("DATASETS", "Dataset"),
    "recipes.recipe": ("Recipe",),
    "recipes.catalog": ("RECIPES",),
    "reproduction.experiment": ("Experiment", "Variant"),
    "reproduction.catalog": ("EXPERIMENTS",),
    "recipes.published_errors": ("PUBLISHED", "Published", "recipe_table"),
    "data.preprocessing": ("Preprocessing",),
    "data.splits": ("open_split",),
    "data.sampling": ("stratified_sample",),
    "data.broken_images": ("open_whole",),
    "layers.batch_norm": ("BatchNormalization", "fuse"),
    "surgery.folding": ("fold",),
    "surgery.quantization": ("calibrate", "quantize"),
    "networks.ode_block": ("ODEBlock",),
    "networks.builder": ("build",),
    "applications.named_networks": (
        "build_with_weights",
        *(f"ResNet{depth}" for depth in (18, 34, 50, 101, 152, 20, 32, 44, 56, 110, 1202)),
        *(f"PlainNet{depth}" for depth in (18, 34, 20, 32, 44, 56, 110)),
    ),
    "weights.imported": ("ImportedWeights",),
    "weights.recognition": ("recognize_architecture",),
    "weights.loading": ("LoadReport", "load_weights"),
    "weights.sources": ("open_weights",),
    "networks.complexity": ("complexity_table", "multiply_adds"),
    "applications.classifier": ("Classifier",),
    "applications.conversion": ("convert", "largest_difference"),
    "surgery.feature_maps": ("features", "with_head"),
    "surgery.freezing": ("Freezing", "freeze"),
    "surgery.recalibration": ("recalibrate",),
    "training.rematerialization": ("rematerialize",),
    "evaluation.views": ("Views",),
    "evaluation.evaluator": ("SplitPredictions", "Evaluation", "predict_split", "evaluate"),
    "evaluation.confusion": ("class_table", "confusion_matrix", "write_details"),
    "data.evaluation_batches": ("evaluation_batches",),
    "evaluation.layer_responses": ("response_deviations",),
    "applications.prediction": ("Prediction", "predict"),
    "runs.folder": ("RunFolder", "dataset_of"),
    "runs.summary": ("RunSummary", "summarize_runs"),
    "training.run_plan": ("RunPlan", "dry_run"),
    "training.trainer": ("train",),
    "reproduction.reproducer": ("reproduce",),
    "exporting.options": ("ExportOptions",),
    "exporting.saved_model": ("write_saved_model",),
    "exporting.exporter": ("Export", "ExportRefused", "export"),
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
