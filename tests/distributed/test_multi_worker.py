"""Several processes train as one: the same weights, every image once, one folder, and an end for all."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.recipe_batches import recipe_batches, recipe_preprocessing

from resnet_keras.cli import workers as program
from resnet_keras.data.opening import open_split
from resnet_keras.data.sampling import shard
from resnet_keras.distributed import multi_worker
from resnet_keras.distributed.cluster import Cluster, cluster
from resnet_keras.distributed.local_workers import run_workers, worker_environments
from resnet_keras.distributed.sharding import replica_batch
from resnet_keras.recipes.catalog import Recipe

ROOT = Path(__file__).parents[2]
LOST_SECONDS = multi_worker.LOST_SECONDS

WORKER = """
import json, logging, sys
from pathlib import Path
import numpy as np
import keras
from resnet_keras.training import classification, data
from resnet_keras.training import trainer as training
from resnet_keras.distributed import sharding as worker_batches
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.distributed.cluster import cluster
from resnet_keras.recipes.catalog import RECIPES

out, work, epochs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
machines = cluster()
name = machines.index if machines else "one"
ARCHITECTURES["little"] = Architecture(stem="cifar", block="basic", repeats=(1, 1), widths=(4, 8), shortcut="B")
recipe = RECIPES["digits"].replace(model="little", epochs=epochs, batch_size=256, flip=True, mixup=0.2)
recipe = recipe.replace(freeze_batch_norms=True, peak_lr=0.02)

seen, evaluated, models = [], [], []
cut = worker_batches.training_part
whole = worker_batches.validation_part
build = classification.compile_network
logging.basicConfig(level=logging.INFO, format="%(message)s")

def compile_network(*args, **kwargs):
    models.append(build(*args, **kwargs))
    return models[-1]

def training_part(strategy, batches, size):
    parts = cut(strategy, batches, size)
    rows = iter(parts)
    for _ in range(3):
        seen.append([np.asarray(strategy.experimental_local_results(x)[0] if strategy else x) for x in next(rows)])
    return parts

def validation_part(strategy, split, batches_of, size):
    parts = whole(strategy, split, batches_of, size)
    for images, _ in parts:
        evaluated.append(np.asarray(strategy.experimental_local_results(images)[0] if strategy else images))
    return parts

classification.compile_network = compile_network
data.training_part, data.validation_part = training_part, validation_part
evaluation = training.train(recipe, work)
np.savez(
    out / f"{name}.npz",
    **{f"w{i}": w for i, w in enumerate(models[-1].get_weights())},
    **{f"o{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(models[-1].optimizer.variables)},
    images=np.concatenate([images for images, _ in seen]).reshape(3, -1, 8, 8, 1),
    labels=np.stack([labels for _, labels in seen]),
    test=np.concatenate(evaluated),
    batches=len(evaluated),
)
(out / f"{name}.json").write_text(json.dumps([evaluation.images, evaluation.top1_error, evaluation.loss]))
assert not [n for n in ("train_step", "test_step", "_maybe_symbolic_build") if n in vars(models[-1])]
"""


def python(script: Path, *arguments: object) -> list[str]:
    return [sys.executable, str(script), *map(str, arguments)]


def alone(command: Sequence[str]) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if k != "TF_CONFIG"} | {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def check_as_one(tmp_path: Path, count: int) -> None:
    """Trains with `count` workers and with one process, and compares."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    said = io.StringIO()
    one, together = tmp_path / "one", tmp_path / "together"
    with alone(python(script, tmp_path, one, 2)) as single_process:
        assert run_workers(python(script, tmp_path, together, 2), count, out=said) == 0, said.getvalue()
        single_said, _ = single_process.communicate()
    assert single_process.returncode == 0, single_said

    single = arrays(tmp_path / "one.npz")
    found = [arrays(tmp_path / f"{i}.npz") for i in range(count)]
    names = [name for name in single if re.fullmatch(r"[wo]\d+", name)]
    for name in names:
        for other in found[1:]:
            np.testing.assert_array_equal(other[name], found[0][name])
        np.testing.assert_allclose(found[0][name], single[name], rtol=1e-3, atol=2e-5)
    assert len(names) > 20

    # The workers' rows, in their order, are the batch of one process: images, augmentation and labels.
    for kind in ("images", "labels"):
        assert all(worker[kind].shape[1] == 256 // count for worker in found)
        np.testing.assert_array_equal(np.concatenate([worker[kind] for worker in found], axis=1), single[kind])

    tests = [{image.tobytes() for image in worker["test"]} for worker in found]
    assert sum(len(worker["test"]) for worker in found) == len(single["test"]) == 359
    assert set.union(*tests) == {image.tobytes() for image in single["test"]}
    assert len({int(worker["batches"]) for worker in found}) == 1

    # Only the chief writes, and all know the result.
    results = [json.loads((tmp_path / f"{i}.json").read_text()) for i in range(count)]
    assert all(result == results[0] for result in results)
    assert results[0][0] == 359
    np.testing.assert_allclose(results[0], json.loads((tmp_path / "one.json").read_text()), rtol=1e-2)
    assert sorted(p.name for p in together.iterdir()) == sorted(p.name for p in one.iterdir())
    assert len(list((together / "tensorboard" / "train").iterdir())) == 1
    for column in ("loss", "val_loss", "val_accuracy"):
        np.testing.assert_allclose(last_row(together)[column], last_row(one)[column], rtol=1e-3)
    assert "[0] epoch 2/2" in said.getvalue()
    assert "[1] epoch" not in said.getvalue()


def arrays(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as content:
        return dict(content)


def last_row(run: Path) -> dict[str, float]:
    """Returns the last line of a run's history."""
    lines = (run / "history.csv").read_text().splitlines()
    return dict(zip(lines[0].split(","), map(float, lines[-1].split(",")), strict=True))


def test_two_workers_train_as_one(tmp_path: Path) -> None:
    check_as_one(tmp_path, 2)


@pytest.mark.slow
def test_four_workers_train_as_one(tmp_path: Path) -> None:
    check_as_one(tmp_path, 4)


TRAIN = [sys.executable, str(ROOT / "train.py"), "digits", "--batch-size", "128"]


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "signal_"), [(1, signal.SIGKILL), (0, signal.SIGKILL), (1, signal.SIGSTOP)])
def test_a_lost_worker_ends_the_others_and_the_run_continues(
    tmp_path: Path, victim: int, signal_: signal.Signals
) -> None:
    run, files = tmp_path / "run", [tmp_path / f"{i}.log" for i in range(2)]
    command = [*TRAIN, "--epochs", "200", "--workdir", str(run)]

    def started() -> list[subprocess.Popen]:
        workers = []
        for file, environment in zip(files, worker_environments(2), strict=True):
            with file.open("w") as out:
                workers.append(subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT))
        return workers

    def wait_for(line: str) -> None:
        end = time.monotonic() + 120
        while line not in files[0].read_text():
            assert time.monotonic() < end, files[0].read_text()
            time.sleep(0.1)

    workers = started()
    try:
        wait_for("epoch 2/200")
        workers[victim].send_signal(signal_)
        begun = time.monotonic()
        assert workers[1 - victim].wait(LOST_SECONDS) == 3
        print(f"ended after {time.monotonic() - begun:.1f} s")
        said = files[1 - victim].read_text()
        assert f"resnet train: Expected all 2 workers to continue; worker {1 - victim} ends, too" in said
        assert f"Received: worker {victim} (127.0.0.1:" in said
        assert "Traceback" not in said
        assert len(said.splitlines()) < 40
        workers[victim].kill()
        workers[victim].wait()
        done = len((run / "history.csv").read_text().splitlines()) - 1
        workers = started()
        wait_for("resumed after epoch")
        wait_for(f"epoch {done + 2}/200")
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def test_the_launcher_numbers_lines_and_gives_each_worker_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import json, os; print(os.environ['TF_CONFIG'])"
    assert program.main(["3", "--", sys.executable, "-c", code]) == 0
    lines = sorted(capsys.readouterr().out.splitlines())
    configs = [json.loads(line.partition("] ")[2]) for line in lines]
    assert [line[:4] for line in lines] == ["[0] ", "[1] ", "[2] "]
    assert [config["task"] for config in configs] == [{"type": "worker", "index": i} for i in range(3)]
    assert len(set(configs[0]["cluster"]["worker"])) == 3
    assert all(config["cluster"] == configs[0]["cluster"] for config in configs)


FAILS = """
import json, os, sys, time
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
if index == 1:
    sys.exit(7)
time.sleep(60)
"""


def test_the_launcher_ends_all_when_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnet_keras.distributed.local_workers.END_SECONDS", 0.5)
    begun = time.monotonic()
    assert run_workers([sys.executable, "-c", FAILS], 3, out=io.StringIO()) == 7
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_launcher_passes_signals_on(number: signal.Signals) -> None:
    code = "import time; print('up', flush=True); time.sleep(60)"
    command = [sys.executable, "-m", "resnet_keras.cli.workers", "2", "--", sys.executable, "-c", code]

    def heed() -> None:
        signal.signal(number, signal.SIG_DFL)  # which a shell's background ignores, and the launcher then, too

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=heed) as launcher:
        assert launcher.stdout is not None
        assert sorted(launcher.stdout.readline() for _ in range(2)) == ["[0] up\n", "[1] up\n"]
        launcher.send_signal(number)
        launcher.stdout.read()
        status = launcher.wait(20)
    assert status == 128 + number


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["0", "--", "true"], "Expected at least 1 worker and a command. Received: 0, true"),
        (["2"], "Received: 2, none"),
        (["2", "--", "no-such-program"], "Expected a command that can be run. Received: no-such-program"),
    ],
)
def test_the_launcher_refuses(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(arguments) == 2
    assert said in capsys.readouterr().err


def config(jobs: dict[str, list[str]], kind: str, index: int) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})}


SLURM = {
    "SLURM_JOB_ID": "4321",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "n[9-10]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}
PODS = {"RESNET_WORKER_COUNT": "2", "RESNET_WORKER_ADDRESS": "resnet-{index}.resnet:2222"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (config({"worker": ["a:1"]}, "worker", 0), None),
        (config({"worker": ["a:1", "b:2"]}, "worker", 1), Cluster(("a:1", "b:2"), 1)),
        (config({"chief": ["c:1"], "worker": ["a:1", "b:2"]}, "worker", 1), Cluster(("c:1", "a:1", "b:2"), 2)),
        (config({"chief": ["c:1"], "worker": ["a:1", "b:2"]}, "chief", 0), Cluster(("c:1", "a:1", "b:2"), 0)),
        (
            {**SLURM, "SLURM_PROCID": "2", "SLURMD_NODENAME": "n10"},
            Cluster(("n9:20321", "n9:20322", "n10:20321", "n10:20322"), 2),
        ),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),
        ({**PODS, "JOB_COMPLETION_INDEX": "1"}, Cluster(("resnet-0.resnet:2222", "resnet-1.resnet:2222"), 1)),
    ],
)
def test_the_cluster_is_read_from_the_environment(
    environment: dict[str, str], expected: Cluster | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cluster() == expected


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"TF_CONFIG": "{"}, "Expected TF_CONFIG to be JSON of a cluster. Received: {"),
        (config({"worker": ["a:1"], "ps": ["b:1"]}, "worker", 0), "Expected TF_CONFIG with a `cluster` of tasks"),
        (config({"worker": ["a:1", "b:1"]}, "evaluator", 0), "a `task` that is one of them"),
        (config({"worker": ["a:1", "b:1"]}, "worker", 2), "Expected a worker's index from 0 to 1. Received: 2"),
        ({**SLURM, "SLURM_PROCID": "1", "SLURMD_NODENAME": "n10"}, "Expected task 1 of Slurm on n9"),
        (PODS, "Expected RESNET_WORKER_COUNT=N"),
        ({**PODS, "JOB_COMPLETION_INDEX": "0", "RESNET_WORKER_COUNT": "two"}, "Received: 'two'"),
    ],
)
def test_an_environment_that_describes_no_cluster_is_refused(
    environment: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=re.escape(said)):
        cluster()


def test_keras_still_has_the_faults_that_are_mended() -> None:
    # If this fails, Keras has changed: see whether `multi_worker.patched_fit` can go.
    assert multi_worker.faults() == (True, True)


def test_what_keras_has_mended_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def _maybe_symbolic_build(self: object, iterator: object = None, data_batch: object = None) -> None:
        """Mended."""

    monkeypatch.setattr(keras.Model, "_maybe_symbolic_build", _maybe_symbolic_build)
    assert multi_worker.faults() == (False, True)


def test_a_trainer_that_is_not_the_known_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.Model, "_maybe_symbolic_build", lambda self, batch: None)
    with pytest.raises(RuntimeError, match="Expected Keras's TensorFlow trainer to have"):
        multi_worker.faults()


def test_on_one_machine_nothing_is_mended_shared_or_renamed(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    with multi_worker.patched_fit(model, None), multi_worker.own_folder(None, tmp_path) as folder:
        assert folder == tmp_path
        assert "train_step" not in vars(model)
    assert multi_worker.broadcast(None, {"as": ["it", 1, "s"]}) == {"as": ["it", 1, "s"]}
    assert multi_worker.worker_rank(None) == (0, 1)
    with pytest.raises(tf.errors.UnavailableError), multi_worker.naming_lost_workers(None):
        raise tf.errors.UnavailableError(None, None, "of one machine")


@pytest.mark.parametrize("images", [2, 3, 7, 359, 360, 361, 10_000])
@pytest.mark.parametrize("batch_size", [1, 2, 4, 32, 256])
@pytest.mark.parametrize("replicas", [1, 2])
def test_replicas_have_equally_many_batches_none_of_them_empty(images: int, batch_size: int, replicas: int) -> None:
    size = replica_batch(images, batch_size, replicas)
    parts = [len(range(i, images, replicas)) for i in range(replicas)]
    assert sum(parts) == images
    assert len({-(-count // size) for count in parts}) == 1
    assert min(parts) > 0


def test_fewer_test_images_than_replicas_are_refused() -> None:
    with pytest.raises(ValueError, match="Expected a test image for each of the 4 replicas. Received: 3"):
        replica_batch(3, 8, 4)


def test_rows_of_others_are_left_out_and_ones_own_are_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(8):
        image = rng.integers(0, 256, (20 + i, 24, 3), np.uint8)
        path = tmp_path / f"{i % 2}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tf.io.encode_png(image).numpy())
    split = open_split("folder", "all", data_dir=tmp_path)
    recipe = Recipe.from_flat(
        model="resnet20", dataset="folder", image_size=8, batch_size=4, epochs=1, shorter_side=(8, 12)
    )
    recipe = recipe.replace(flip=True, pad_pixels=1)
    preprocessing = recipe_preprocessing(recipe, split)
    whole = list(recipe_batches(split, recipe, preprocessing).as_numpy_iterator())
    shard = list(recipe_batches(split, recipe, preprocessing, rows=range(1, 3)).as_numpy_iterator())
    mixed = recipe.replace(mixup=0.2)
    mixed_whole, mixed_part = (
        next(iter(recipe_batches(split, mixed, preprocessing, rows=rows).as_numpy_iterator()))
        for rows in (None, range(1, 3))
    )
    for (images, labels), (own, own_labels) in zip(whole, shard, strict=True):
        np.testing.assert_array_equal(own, images[1:3])
        np.testing.assert_array_equal(own_labels, labels[1:3])
        assert np.ptp(own, axis=(1, 2)).min() > 0
    np.testing.assert_array_equal(mixed_part[0], mixed_whole[0][1:3])
    np.testing.assert_array_equal(mixed_part[1], mixed_whole[1][1:3])


def test_parts_of_a_split_are_all_of_it() -> None:
    split = open_split("digits", "test")
    parts = [shard(split, i, 3) for i in range(3)]
    assert sum(map(len, parts)) == len(split)
    assert sorted(image.tobytes() for p in parts for image in p.images) == sorted(i.tobytes() for i in split.images)


def test_the_example_for_kubernetes_describes_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    yaml = pytest.importorskip("yaml")
    service, job = yaml.safe_load_all((ROOT / "examples" / "kubernetes_job.yaml").read_text())
    pod, name = job["spec"]["template"]["spec"], job["metadata"]["name"]
    assert (service["kind"], service["spec"]["clusterIP"], job["spec"]["completionMode"]) == (
        "Service", "None", "Indexed"
    )  # fmt: skip
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": name}
    for variable in pod["containers"][0]["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    port = service["spec"]["ports"][0]["port"]
    found = cluster()
    assert found is not None
    assert found.workers == tuple(f"{name}-{i}.{pod['subdomain']}:{port}" for i in range(job["spec"]["completions"]))
    assert job["spec"]["parallelism"] == job["spec"]["completions"]


def test_the_image_of_the_example_for_kubernetes_has_what_the_package_is_built_of() -> None:
    folder = ROOT / "examples"
    dockerfile = (folder / "Dockerfile").read_text()
    (tag,) = re.findall(r"--tag (\S+)", dockerfile)
    assert f"image: {tag} " in (folder / "kubernetes_job.yaml").read_text()
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE) for name in line.split()]
    metadata = (ROOT / "pyproject.toml").read_text()
    named = re.findall(r'"([^"]+)"', " ".join(re.findall(r"^license-files = .*$", metadata, re.MULTILINE)))
    assert sorted(copied) == sorted(["pyproject.toml", "setup.py", "README.md", "resnet_keras", *named])
    assert all((ROOT / name).exists() for name in copied)
    ignored = (folder / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    assert sorted(line[1:] for line in ignored if line.startswith("!")) == sorted(copied)


def test_the_example_for_slurm_is_a_script() -> None:
    subprocess.run(["bash", "-n", ROOT / "examples" / "slurm.sh"], check=True)
