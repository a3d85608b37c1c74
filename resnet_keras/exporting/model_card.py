"""The model card of an export, made from its report."""

from __future__ import annotations

from collections import Counter
from typing import Any

from resnet_keras.exporting.formats import FORMATS
from resnet_keras.exporting.unlabeled import NOISE
from resnet_keras.tables import markdown_table


def model_card(report: dict[str, Any]) -> str:
    """Returns a model card in Markdown, from the report of an export alone."""
    artifacts = report["artifacts"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items() if version)
    sections = [
        f"# {report['model']}" + (f" on {report['dataset']}" if report["dataset"] else ""),
        _source(report),
        _input(report),
        _verification(report),
        _measurements(artifacts),
        *_latencies(artifacts),
        *_signatures(report),
        *_onnx(artifacts),
        "Classes, in the order of the probabilities: " + _classes(report["class_names"]) + ".",
        *_operators(artifacts),
        *_layers(artifacts),
        f"Made with {versions}.",
    ]
    return "\n\n".join(sections) + "\n"


def _source(report: dict[str, Any]) -> str:
    recipe, initial = report["recipe"], report["initial_weights"]
    trained = _trained(recipe) if recipe else ""
    if initial["source"]:
        trained += f", from the weights `{initial['source']}`"
    quantized = " with quantization-aware training" if report["quantization_aware"] else ""
    license_ = (
        f" License of the {'initial ' if recipe else ''}weights: {initial['license']}." if initial["license"] else ""
    )
    made = f"Made from `{report['source']}` (SHA-256 `{report['weights_sha256'][:16]}...`){trained}{quantized}."
    return made + license_


def _trained(recipe: dict[str, Any]) -> str:
    return f", trained by a recipe of {recipe['schedule']['epochs']} epochs on {recipe['data']['dataset']}"


def _input(report: dict[str, Any]) -> str:
    preprocessing = report["preprocessing"]
    height, width = preprocessing["image_size"]
    return (
        f"Input: RGB or gray pixels 0–255, N x {height} x {width} x {preprocessing['channels']}. Output: the "
        f"probabilities of {len(report['class_names'])} classes. The graph normalizes the pixels. Other image sizes "
        f"are resized so that their shorter side has {preprocessing['shorter_side'] or max(height, width)} pixels "
        f"({preprocessing['interpolation']}, antialiased), and cropped at the center, before they enter the network."
        f"{_unchecked(report)}"
    )


def _unchecked(report: dict[str, Any]) -> str:
    """Returns what a caller has to check, because a file cannot."""
    runtimes = {FORMATS[each["format"]].runtime for each in report["artifacts"] if each["format"] != "saved_model"}
    if not runtimes:
        return ""
    resized = " A LiteRT input is resized with `strict=True`, which refuses another height, width, or rank."
    return (
        " Float pixels that are NaN or infinite are an error of a SavedModel's request; LiteRT and ONNX files classify "
        f"them, so check them before.{resized if 'litert' in runtimes else ''}"
    )


def _verification(report: dict[str, Any]) -> str:
    first, differ = report["artifacts"][0], _differ(report["artifacts"])
    number = "the number in the table of" if differ else first["images"]
    calibrated = ""
    if any(FORMATS[each["format"]].integer for each in report["artifacts"]) and report["calibration_images"]:
        kind = "training images" if report["images"] is None else "other images of that folder"
        calibrated = f" {report['calibration_images']} {kind} calibrated the integer formats."
    if report["images"] is None:
        shown = f"{number} test images"
        accuracy = "in the table, too" if differ else f"{first['classifier_accuracy']:.2%}"
        known = f", whose accuracy on them is {accuracy}"
    elif report["images"] == NOISE:
        shown, known = f"{number} images of noise", ". That says nothing of photographs, and of the accuracy"
    else:
        shown, known = (
            f"{number} images without labels, of `{report['images']}`",
            ". Its accuracy is not known",
        )
    return (
        f"Each artifact ran in a process of its own on {shown} and was compared with the classifier{known}."
        f"{calibrated} Memory is the peak of that process, libraries included. {_tolerances(report['artifacts'])}"
    )


def _tolerances(artifacts: list[dict[str, Any]]) -> str:
    """Returns the deviations that were allowed, in a sentence."""
    files: dict[str, list[str]] = {}
    for each in artifacts:
        difference = each["tolerance"]["difference"]
        allowed = "by any amount" if difference is None else f"by {difference:g}"
        files.setdefault(allowed, []).append(f"`{_file(each)}`")
    listed = ", ".join(f"{allowed} in {' and '.join(names)}" for allowed, names in files.items())
    return (
        f"Allowed were another most probable class for {1 - artifacts[0]['tolerance']['agreement']:.2%} of the images "
        f"(of a few, for one), and probabilities that differ {listed}."
    )


def _differ(artifacts: list[dict[str, Any]]) -> bool:
    """Returns whether artifacts were compared on different numbers of images, as slow ones are on fewer."""
    return len({each["images"] for each in artifacts}) > 1


def _measurements(artifacts: list[dict[str, Any]]) -> str:
    labeled, differ = artifacts[0]["accuracy"] is not None, _differ(artifacts)
    columns = ["artifact", "pixels", "MB", "largest difference: probability", "logit", "top-1 agreement"]
    rows = [
        [
            f"`{_file(each)}`",
            each["input"],
            f"{each['size_bytes'] / 1e6:.2f}",
            f"{each['difference']:.1e}",
            "" if each["logit_difference"] is None else f"{each['logit_difference']:.1e}",
            f"{each['agreement']:.2%}",
            *([f"{each['images']:,}"] if differ else []),
            *([f"{each['accuracy']:.2%}"] if labeled else []),
            *([f"{each['classifier_accuracy']:.2%}"] if labeled and differ else []),
            f"{each['peak_memory_bytes'] / 1e6:.0f}",
        ]
        for each in artifacts
    ]
    columns += [
        *(["images"] if differ else []),
        *(["accuracy"] if labeled else []),
        *(["the classifier's"] if labeled and differ else []),
    ]
    return markdown_table([*columns, "memory, MB"], rows)


def _latencies(artifacts: list[dict[str, Any]]) -> list[str]:
    columns = sorted({(each["threads"], each["batch"]) for artifact in artifacts for each in artifact["latencies"]})
    if not columns:
        return []
    rows = []
    for artifact in artifacts:
        found = {(each["threads"], each["batch"]): each for each in artifact["latencies"]}
        cells = [f"{found[k]['p50_ms']:.2f} / {found[k]['p95_ms']:.2f}" if k in found else "" for k in columns]
        rows.append([f"`{_file(artifact)}`", *cells])
    heads = [f"{batch} image{'s' * (batch > 1)}, {threads} thread{'s' * (threads > 1)}" for threads, batch in columns]
    return ["Latency of a call in milliseconds, median / 95th percentile:", markdown_table(["artifact", *heads], rows)]


def _signatures(report: dict[str, Any]) -> list[str]:
    if not any(each["format"] == "saved_model" for each in report["artifacts"]):
        return []
    options = report["options"]
    sizes = "any height and width" if options["sizes"] == "any" else "the network's size"
    k = min(options["top_k"], len(report["class_names"]))
    return [
        f"The SavedModel computes in {options['precision']} and takes any number of images:",
        markdown_table(
            ["signature", "input", "output"],
            [
                ["`serving_default`", f"`images`: {options['pixels']} pixels, {sizes}", "`probabilities`"],
                [
                    "`serve_bytes`",
                    "`image_bytes`: JPEG or PNG files",
                    f"`classes`, `names`, `scores` (logits) and `probabilities` of the {k} most probable classes",
                ],
                ["`features`", "`images`: as for `serving_default`", "`features` (input of the head) and `logits`"],
                [
                    "`fixed_size`",
                    f"`images`: {options['pixels']} pixels, the network's size",
                    "`probabilities`, `features` and `logits`",
                ],
            ],
            text=("input", "output"),
        ),
        "Converters read `fixed_size`, which resizes nothing: `python -m tf2onnx.convert --saved-model . "
        "--signature_def fixed_size --output model.onnx`, or "
        '`openvino.convert_model(tf.saved_model.load(".").signatures["fixed_size"])`.',
    ]


def _onnx(artifacts: list[dict[str, Any]]) -> list[str]:
    if not any(each["format"] == "onnx" for each in artifacts):
        return []
    return [
        "The ONNX file takes `images` and returns `probabilities`, `logits` and `features` (input of the head). Its "
        "metadata have the class names and the preprocessing in JSON (`class_names`, `preprocessing`)."
    ]


def _operators(artifacts: list[dict[str, Any]]) -> list[str]:
    lines = []
    for artifact in artifacts:
        if artifact["format"] != "saved_model":
            used = ", ".join(f"{name} {count}" for name, count in artifact["operators"].items())
            left = Counter(artifact["undelegated"])
            others = ", ".join(f"{name} {count}" for name, count in sorted(left.items()))
            xnnpack = f"; not in XNNPACK: {others}" if left else "; all in XNNPACK"
            where = "" if artifact["format"] == "onnx" else xnnpack
            lines.append(f"- `{_file(artifact)}`: {used}{where}")
    return ["Operators:\n\n" + "\n".join(lines)] if lines else []


def _layers(artifacts: list[dict[str, Any]]) -> list[str]:
    return [
        f"Quantization errors of `{_file(artifact)}`: the root mean square of each layer's error, divided by that of "
        "its output.\n\n"
        + markdown_table(["layer", "error"], [[each["layer"], f"{each['error']:.1%}"] for each in artifact["layers"]])
        for artifact in artifacts
        if artifact["layers"]
    ]


def _file(artifact: dict[str, Any]) -> str:
    return "saved_model.pb" if artifact["format"] == "saved_model" else artifact["file"]


def _classes(names: list[str]) -> str:
    listed = ", ".join(names[:20])
    return listed if len(names) <= 20 else f"{listed}, ... ({len(names)} in all)"
