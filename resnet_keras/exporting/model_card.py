"""The readable side of an export's report."""

from __future__ import annotations

from collections import Counter
from typing import Any


def model_card(report: dict[str, Any]) -> str:
    """Returns a model card in Markdown, made of an export's report alone."""
    artifacts = report["artifacts"]
    first = artifacts[0]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items() if version)
    recipe = report["recipe"]
    trained = f", trained by a recipe of {recipe['epochs']} epochs on {recipe['dataset']}" if recipe else ""
    int8 = " and to compute in int8" if report["trained_for_int8"] else ""
    sections = [
        f"# {report['model']} on {report['dataset']}",
        f"Made from `{report['source']}` (SHA-256 `{report['weights_sha256'][:16]}...`){trained}{int8}.",
        _input(report),
        f"Compared with the classifier that they were made from, on {first['images']} test images, of which it has "
        f"{first['classifier_accuracy']:.2%} right; integers calibrated on {report['calibration_images']} training "
        "images. Each artifact ran in a process of its own, whose largest memory, libraries included, is given.",
        _table(
            [
                "artifact",
                "pixels",
                "MB",
                "largest difference: probability",
                "logit",
                "top-1 agreement",
                "accuracy",
                "memory, MB",
            ],
            [
                [
                    f"`{_place(each)}`",
                    each["input"],
                    f"{each['size_bytes'] / 1e6:.2f}",
                    f"{each['difference']:.1e}",
                    "" if each["logit_difference"] is None else f"{each['logit_difference']:.1e}",
                    f"{each['agreement']:.2%}",
                    f"{each['accuracy']:.2%}",
                    f"{each['peak_memory_bytes'] / 1e6:.0f}",
                ]
                for each in artifacts
            ],
        ),
        "Milliseconds of a call, the median and what 95 % of the calls do not exceed:",
        _latencies(artifacts),
        *_serving(report),
        "Classes, in the order of the probabilities: " + _classes(report["class_names"]) + ".",
        *_operators(artifacts),
        *_layers(artifacts),
        f"Made with {versions}.",
    ]
    return "\n\n".join(sections) + "\n"


def _input(report: dict[str, Any]) -> str:
    preprocessing = report["preprocessing"]
    height, width = preprocessing["image_size"]
    return (
        f"Images as raw pixels 0–255, N x {height} x {width} x {preprocessing['channels']}; out come the probabilities "
        f"of {len(report['class_names'])} classes. Normalization is inside. Larger images are resized so that their "
        f"shorter side is {preprocessing['shorter_side'] or max(height, width)} pixels "
        f"({preprocessing['interpolation']}, antialiased) and cropped in the center before they come in."
    )


def _serving(report: dict[str, Any]) -> list[str]:
    if not any(each["form"] == "saved_model" for each in report["artifacts"]):
        return []
    options = report["options"]
    sizes = "any height and width, resized and cropped inside" if options["sizes"] == "any" else "one size"
    k = min(options["top_k"], len(report["class_names"]))
    return [
        f"The SavedModel computes in {options['precision']} and takes any number of images:",
        _table(
            ["signature", "takes", "returns"],
            [
                ["`serving_default`", f"`images` {options['pixels']}, of {sizes}", "`probabilities`"],
                [
                    "`serve_bytes`",
                    "`image_bytes`: JPEG or PNG files",
                    f"of the {k} most probable `classes`, `names`, `scores` (logits) and `probabilities`",
                ],
                ["`features`", "`images`, likewise", "`features`, which the head sees, and `logits`"],
            ],
        ),
    ]


def _latencies(artifacts: list[dict[str, Any]]) -> str:
    kinds = sorted({(each["threads"], each["batch"]) for artifact in artifacts for each in artifact["latencies"]})
    rows = []
    for artifact in artifacts:
        found = {(each["threads"], each["batch"]): each for each in artifact["latencies"]}
        cells = [f"{found[k]['p50_ms']:.2f} / {found[k]['p95_ms']:.2f}" if k in found else "" for k in kinds]
        rows.append([f"`{_place(artifact)}`", *cells])
    heads = [f"{batch} image{'s' * (batch > 1)}, {threads} thread{'s' * (threads > 1)}" for threads, batch in kinds]
    return _table(["artifact", *heads], rows)


def _operators(artifacts: list[dict[str, Any]]) -> list[str]:
    lines = []
    for artifact in artifacts:
        if artifact["form"] != "saved_model":
            used = ", ".join(f"{name} {count}" for name, count in artifact["operators"].items())
            left = Counter(artifact["undelegated"])
            alone = ", ".join(f"{name} {count}" for name, count in sorted(left.items()))
            where = f"; not by XNNPACK: {alone}" if left else "; all by XNNPACK"
            lines.append(f"- `{_place(artifact)}`: {used}{where}")
    return ["Operators:\n\n" + "\n".join(lines)] if lines else []


def _layers(artifacts: list[dict[str, Any]]) -> list[str]:
    return [
        f"What `{_place(artifact)}` loses, layer by layer: the root mean square error of each output, as a part of the "
        "output's own.\n\n"
        + _table(["layer", "error"], [[each["layer"], f"{each['error']:.1%}"] for each in artifact["layers"]])
        for artifact in artifacts
        if artifact["layers"]
    ]


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _place(artifact: dict[str, Any]) -> str:
    return "saved_model.pb" if artifact["form"] == "saved_model" else artifact["file"]


def _classes(names: list[str]) -> str:
    shown = ", ".join(names[:20])
    return shown if len(names) <= 20 else f"{shown}, ... ({len(names)} in all)"
