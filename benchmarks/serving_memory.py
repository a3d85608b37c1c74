"""Memory of a SavedModel while it serves: `python benchmarks/serving_memory.py [--network resnet50]`.

Writes a network with random weights as a SavedModel three times: with the weights as this package stores them, with
constants alone, and as `model.export` of Keras does. Each is loaded and called in a process of its own, in turns. The
table is printed and written to `serving_memory.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SERVE = """
import json, resource, sys
sys.modules["keras"] = None
import numpy as np
import tensorflow as tf

tf.config.threading.set_inter_op_parallelism_threads(1)


def memory():
    # Not `ru_maxrss`, which begins with the peak of the process that started this one.
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e3


def seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


found = {"TensorFlow, MB": memory()}
start = seconds()
loaded = tf.saved_model.load(sys.argv[1])
function = loaded.signatures["serving_default"]
((name, spec),) = function.structured_input_signature[1].items()
pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3)).astype(spec.dtype.as_numpy_dtype)
images = {name: tf.constant(pixels)}
found["loaded, MB"] = memory()
answer = function(**images)
found["first answer, CPU s"] = seconds() - start
found["serving, MB"] = memory()
times = []
for _ in range(int(sys.argv[2])):
    start = seconds()
    function(**images)
    times.append(1000 * (seconds() - start))
found["image, CPU ms"] = sorted(times)[len(times) // 2]
for other in loaded.signatures:
    (name,) = loaded.signatures[other].structured_input_signature[1]
    file = tf.io.encode_jpeg(tf.constant(pixels[0].astype(np.uint8)))[None]
    loaded.signatures[other](**{name: file if other == "serve_bytes" else images[next(iter(images))]})
found["all signatures, MB"] = memory()
numbers = {name: value.numpy().tolist() for name, value in answer.items() if value.dtype == tf.float32}
print(json.dumps([found, numbers]))
"""


def write(network: str, folder: Path) -> dict[str, Path]:
    """Returns the SavedModels by their names in the table."""
    import numpy as np

    import resnet_keras
    from resnet_keras.exporting import write_saved_model

    model = resnet_keras.build(network, classifier_activation=None)
    rng = np.random.default_rng(0)
    for variable in model.variables:  # with means of 0, TensorFlow would drop all biases
        if variable.path.endswith(("moving_mean", "beta", "bias")):
            variable.assign(rng.normal(0, 0.1, variable.shape))
    preprocessing = resnet_keras.Preprocessing(
        image_size=(224, 224), channels=3, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4), shorter_side=256
    )
    classifier = resnet_keras.Classifier(model, preprocessing, tuple(map(str, range(model.output_shape[1]))))
    write_saved_model(classifier, folder / "variables")
    write_saved_model(classifier, folder / "constants", constant_bytes=2**62)
    model.export(folder / "keras", verbose=False)
    return {
        "large weights as variables": folder / "variables",
        "constants alone": folder / "constants",
        "`model.export`": folder / "keras",
    }


def main() -> None:
    """Prints the table and writes it."""
    from resnet_keras.tables import markdown_table

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=10)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = write(args.network, Path(folder))
        found: dict[str, list[dict[str, float]]] = {name: [] for name in models}
        answers = {}
        for turn in range(args.rounds):
            for name in list(models)[:: 1 if turn % 2 else -1]:
                command = [sys.executable, "-c", SERVE, str(models[name]), str(args.calls)]
                printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
                measured, answers[name] = json.loads(printed.splitlines()[-1])
                found[name].append(measured)
    heads = list(next(iter(found.values()))[0])
    rows = [
        [name, *(f"{statistics.median(each[head] for each in turns):.{1 + ('CPU s' in head)}f}" for head in heads)]
        for name, turns in found.items()
    ]
    table = markdown_table([args.network, *heads], rows)
    print(table)
    first, second = (answers[name] for name in list(models)[:2])
    same = "equal bit for bit" if first == second else "not equal"
    told = (
        "Written by `python benchmarks/serving_memory.py`. Peaks, medians over the turns "
        f"({args.rounds}), one image a call. Outputs of the first two are {same}."
    )
    page = f"# Memory of a SavedModel while it serves\n\n{told}\n\n{table}\n"
    Path(__file__).with_suffix(".md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
