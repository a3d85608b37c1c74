"""Training by a recipe, from the start or the last checkpoint of a run, to its result."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from resnet_keras.checks.fields import check_counts
from resnet_keras.data.image_files import OnCorrupt
from resnet_keras.data.opening import DataSource
from resnet_keras.distributed import multi_worker
from resnet_keras.distributed import strategy as distribution
from resnet_keras.distributed.cluster import cluster
from resnet_keras.distributed.strategy import Strategy
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.checkpoints import Checkpoints
from resnet_keras.runs.data_record import CHANGES, changed_data, record_data
from resnet_keras.runs.folder import RunFolder
from resnet_keras.runs.lock import lock_run
from resnet_keras.runs.results import Result
from resnet_keras.training.errors import explain_failures
from resnet_keras.training.inputs import TrainingInputs, check_batch, with_absolute_paths
from resnet_keras.training.loop import LoopOptions, broadcast_evaluation, run_training
from resnet_keras.training.origin import origin_of
from resnet_keras.training.own_data import OwnData, identity
from resnet_keras.training.preemption import PreemptionHandler
from resnet_keras.training.tasks import task_of

_log = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    workdir: str | Path,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    skip_broken: bool = False,
    train_data: Any = None,
    test_data: Any = None,
    class_names: Sequence[str] | int | None = None,
    steps_per_epoch: int | None = None,
    test_steps: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    validate_epochs: int = 1,
    checkpoint_steps: int | None = 1000,
    skip_broken_steps: bool = False,
    accept_changed_data: bool = False,
    steps_per_execution: int = 1,
    deterministic: bool = True,
    cpu_replicas: int | None = None,
) -> Result:
    """Trains one network by a recipe and returns its result on the test images, after the last epoch.

    Everything that the run writes is in `workdir` (see `RunFolder`). The same call again resumes a run that was
    interrupted, however it ended, from its last checkpoint, and returns the result of a run that is finished. More
    epochs after that are a run in another folder, whose recipe has the finished one as `continue_from`.
    `batch_size` is the number of images in a step over all devices: one device, several GPUs or logical CPUs. On
    several machines (see `cluster`) each makes the same call; only the first writes to and reads from `workdir`, and
    all return its result.

    Instead of the recipe's data set, `train_data` and `test_data` can bring images:

    - As arrays, (images, labels): images (N, H, W, C) of uint8, or of floats from 0 to 255, and integer labels (N,) or
      (N, 1). They go through the recipe's pipeline; mean and standard deviation are theirs. A run resumes bit for bit,
      and only with the same arrays: their checksum is in `run.json`.
    - As `tf.data.Dataset`s of batches (images, labels): floats (N, H, W, C), and integer labels (N,) or probabilities
      (N, classes). They are used as they are: without the recipe's augmentation, label smoothing and normalization. So
      the saved classifier does not normalize either. A run that resumes mid-epoch skips the batches of the epoch that
      it has seen, and starts each other epoch at the start of the data set. It is the same as a run that never stopped
      only if the data set gives the same batches each time.

    Progress is logged to `logging.getLogger("resnet_keras")` at level INFO.

    Example:
        >>> (x, y), test = keras.datasets.cifar10.load_data()
        >>> recipe = resnet_keras.RECIPES["cifar10"].replace(model="resnet56", epochs=20)
        >>> stop = keras.callbacks.EarlyStopping("val_loss", patience=5)
        >>> resnet_keras.train(recipe, "runs/mine", train_data=(x, y), test_data=test, callbacks=[stop])

    Args:
        recipe: Everything that the result depends on.
        workdir: Folder of the run, new or started with the same recipe.
        data_dir: Folder of the data; see `open_split`.
        download: Whether TensorFlow Datasets may download a data set that is missing.
        skip_broken: Skip, with a warning, images that do not decode, labels outside the classes and classes without
            images, instead of stopping at them.
        train_data: Images to train on, instead of the recipe's data set; see above.
        test_data: Images to validate and evaluate on, of the same kind as `train_data`.
        class_names: Names of the classes of `train_data`, in the order of the labels, or their number. `None` numbers
            them by the labels of arrays, or takes the attribute `class_names` of a `tf.data.Dataset`.
        steps_per_epoch: Batches in an epoch, for a `tf.data.Dataset` that is endless or whose number of batches is not
            known.
        test_steps: Likewise for `test_data`.
        callbacks: Callbacks that run beside those of the run. They see one training of all epochs, also if it resumes
            in the middle; the logs of an epoch have the learning rate, too. Their own state is not in the checkpoints:
            in a run that resumes, they start again. One that sets `model.stop_training` ends the run, which is then
            finished.
        validate_epochs: Epochs between two validations, for the curves. Validation does not change the result.
        checkpoint_steps: Steps between two checkpoints mid-epoch; `None` writes none there. There always is one at the
            end of an epoch.
        skip_broken_steps: Skip and count steps whose loss or result is not finite, instead of stopping.
        accept_changed_data: Resume the run although the images of its data set have changed since it began, and note
            that in `run.json`. The number of classes must be the same.
        steps_per_execution: Steps in one call of TensorFlow, at most: fewer, if the number does not divide an epoch.
        deterministic: Keep the order of the images that the seed determines, even if that means waiting for one.
        cpu_replicas: Train on this many logical CPUs; see `distributed.strategy.create_strategy`.

    Raises:
        ValueError: `workdir` holds a run of another recipe or on other images, or checkpoints of another run; the data
            are broken, too few, or do not fit the recipe; the batch does not divide among the replicas.
        FileNotFoundError: The data are missing.
        BlockingIOError: Another process trains in `workdir`.
        FloatingPointError: The loss is not finite; the last checkpoint is from before.
        Preempted: SIGTERM, SIGHUP, SIGUSR1, SIGXCPU, or Ctrl-C has arrived; the run is saved. The second time it
            ends at once.
        MemoryError: The batch does not fit the device's memory.
        OSError: The disk is full or not writable, `workdir` was moved or removed, or images cannot be read any more;
            the last checkpoint is complete.
        ConnectionError: Another of several machines has ended or cannot be reached.
    """
    if Path(workdir).exists() and not Path(workdir).is_dir():
        raise ValueError(f"Expected a folder as workdir. Received: {workdir}, a file")
    check_counts(
        checkpoint_steps=checkpoint_steps, steps_per_execution=steps_per_execution, validate_epochs=validate_epochs
    )
    recipe = with_absolute_paths(recipe)
    own = None
    if any(value is not None for value in (train_data, test_data, class_names, steps_per_epoch, test_steps)):
        own = OwnData(train_data, test_data, class_names, steps_per_epoch, test_steps)
        recipe = own.recipe(recipe)
    strategy = _create_strategy(cpu_replicas)
    options = LoopOptions(
        validate_epochs=validate_epochs,
        checkpoint_steps=checkpoint_steps,
        steps_per_execution=steps_per_execution,
        skip_broken_steps=skip_broken_steps,
        accept_changed_data=accept_changed_data,
        # The workers' rows of a batch fit together only if all have the same batches.
        deterministic=deterministic or multi_worker.worker_rank(strategy)[1] > 1,
        callbacks=tuple(callbacks),
    )
    on_corrupt: OnCorrupt = "skip" if skip_broken else "raise"
    source = DataSource(data_dir=data_dir, download=download, on_corrupt=on_corrupt)
    preemption = PreemptionHandler()
    with (
        preemption.install(),
        explain_failures(recipe, distribution.replicas(strategy)),
        multi_worker.log_on_chief(strategy),
        multi_worker.naming_lost_workers(strategy),
        multi_worker.own_folder(strategy, workdir) as path,
    ):
        return _train(recipe, RunFolder(path), strategy, source, own, options, preemption)


def _create_strategy(cpu_replicas: int | None) -> Strategy:
    if machines := cluster():
        level = logging.DEBUG if machines.index else logging.INFO
        count = len(machines.workers)
        _log.log(level, f"worker {machines.index} of {count} at {machines.address} waits until all have started")
    return distribution.create_strategy(cpu_replicas)


def _train(
    recipe: Recipe,
    folder: RunFolder,
    strategy: Strategy,
    source: DataSource,
    own: OwnData | None,
    options: LoopOptions,
    preemption: PreemptionHandler,
) -> Result:
    """Trains in a folder, unless it holds the result already."""
    _check_devices(recipe, strategy, options)
    if own and own.in_batches and multi_worker.spans_workers(strategy):
        raise ValueError(
            "Expected arrays or a named data set on several machines, so that all have the same batches. "
            "Received: a tf.data.Dataset"
        )
    own_data = own.open(recipe) if own else None
    own_identity = identity(own_data) if own_data else None
    folder.check(recipe, own_identity)
    if (result := broadcast_evaluation(strategy, folder.evaluation())) is not None:
        folder.check_finished()
        folder.tidy()
        _log.info(f"{folder.path} is finished")
        return result
    inputs = task_of(recipe).open_inputs(recipe, source, own_data, replicas=distribution.replicas(strategy))
    with lock_run(folder.path), folder.held():
        if (result := broadcast_evaluation(strategy, folder.evaluation())) is not None:  # by another process, meanwhile
            return result
        # An absolute path, because a run is also evaluated and exported from other folders.
        data_dir = source.data_dir
        about = {
            "data_dir": str(Path(data_dir).expanduser().resolve()) if data_dir else None,
            "replicas": distribution.replicas(strategy),
            "gpus": distribution.gpus(),
            **({"own_data": own_identity} if own_identity else {}),
        }
        checkpoints = _begin(recipe, inputs, folder, strategy, about, accept=options.accept_changed_data)
        return run_training(inputs, folder, strategy, options, preemption, checkpoints)


def _begin(
    recipe: Recipe,
    inputs: TrainingInputs,
    folder: RunFolder,
    strategy: Strategy,
    about: dict[str, Any],
    *,
    accept: bool,
) -> Checkpoints:
    """Writes what the run is, after a check that what the folder holds is of this run; returns its checkpoints."""
    own = about.get("own_data")
    found = None if own else inputs.data.fingerprint()
    noted = (folder.path / "run.json").is_file() and folder.data().get(CHANGES)
    checkpoints = Checkpoints(
        folder.checkpoints,
        distribution.replica_values(strategy),
        origin_of(recipe, inputs, own or found or {}),
        changeable=("images",) if accept or noted else (),
        check_place=folder.check_place,
    )
    last = checkpoints.last()
    accepted = changed_data(folder, found, accept=accept, last_step=last) if found else []
    checkpoints.check()
    folder.begin(recipe, about)
    if found:
        record_data(folder, found, accepted, last)
    return checkpoints


def _check_devices(recipe: Recipe, strategy: Strategy, options: LoopOptions) -> None:
    check_batch(recipe, distribution.replicas(strategy))
    tensorflow_only = {
        "accumulate": recipe.optimization.accumulate > 1,
        "ema": bool(recipe.optimization.ema),
        "skip": options.skip_broken_steps,
        "quantization_aware": recipe.network.quantization_aware,
        "teacher": recipe.optimization.teacher is not None,
        "head": recipe.task in ("segmentation", "localization"),
    }
    if keras.backend.backend() != "tensorflow" and any(tensorflow_only.values()):
        names = ", ".join(name for name, wanted in tensorflow_only.items() if wanted)
        raise ValueError(f"Expected KERAS_BACKEND=tensorflow for {names}. Received: {keras.backend.backend()}")
    if multi_worker.spans_workers(strategy) and options.steps_per_execution > 1:
        raise ValueError(
            f"Expected 1 step per execution with several machines. Received: {options.steps_per_execution}"
        )
