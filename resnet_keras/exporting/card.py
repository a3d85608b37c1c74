"""The readable side of an export's report."""

from __future__ import annotations

from typing import Any


def card(report: dict[str, Any]) -> str:
    """Returns a model card in Markdown, made of an export's report alone."""
    preprocessing = report["preprocessing"]
    height, width = preprocessing["image_size"]
    shape = f"N x {height} x {width} x {preprocessing['channels']}"
    rows = [
        f"| `{_place(artefact)}` | {artefact['input']} | {artefact['size_bytes'] / 1e6:.2f} | "
        f"{artefact['latency_ms']:.2f} | {artefact['difference']:.1e} | {artefact['agreement']:.2%} | "
        f"{artefact['accuracy']:.2%} |"
        for artefact in report["artefacts"]
    ]
    first = report["artefacts"][0]
    operators = [
        f"- `{_place(artefact)}`: " + ", ".join(f"{name} {count}" for name, count in artefact["operators"].items())
        for artefact in report["artefacts"]
        if artefact["form"] != "saved_model"
    ]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items() if version)
    return "\n".join(
        [
            f"# {report['model']} on {report['dataset']}",
            "",
            f"Images as raw pixels 0–255, {shape}; out come the probabilities of {len(report['class_names'])} classes. "
            "Normalisation is inside. Larger images are resized so that their shorter side is "
            f"{preprocessing['shorter_side'] or max(height, width)} pixels ({preprocessing['interpolation']}, "
            "antialiased) and cropped in the centre before they come in.",
            "",
            f"Compared with the classifier that they were made from, on {first['images']} test images, of which it "
            f"has {first['classifier_accuracy']:.2%} right; int8 calibrated on {report['calibration_images']} training "
            "images. Latency is the median over single images on all cores of the machine that exported.",
            "",
            "| artefact | pixels | MB | ms | largest difference of a probability | top-1 agreement | accuracy |",
            "|---|---|---:|---:|---:|---:|---:|",
            *rows,
            "",
            "Classes, in the order of the probabilities: " + _classes(report["class_names"]) + ".",
            "",
            "Operators:",
            *operators,
            "",
            f"Made with {versions}.",
            "",
        ]
    )


def _place(artefact: dict[str, Any]) -> str:
    return "saved_model.pb" if artefact["form"] == "saved_model" else artefact["file"]


def _classes(names: list[str]) -> str:
    shown = ", ".join(names[:20])
    return shown if len(names) <= 20 else f"{shown}, ... ({len(names)} in all)"
