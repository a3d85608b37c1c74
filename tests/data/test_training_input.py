"""Images that stand in a batch several times, are mirrored in turn, or changed by a policy; and where batches end."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from helpers.recipe_batches import recipe_batches
from PIL import Image

from resnet_keras.data.datasets import Dataset
from resnet_keras.data.opening import open_split
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.run_order import RunOrder, row_positions
from resnet_keras.data.splits import ArraySplit, FileSplit, Split
from resnet_keras.recipes.catalog import Recipe

IMAGES = 12
KINDS = ("array", "files", "records")
SLOW_FILES = ("array", pytest.param("files", marks=pytest.mark.slow), "records")
SLOW_FILES_AND_RECORDS = ("array", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("files", "records")))
UNIT = Preprocessing(image_size=(8, 8), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
PLAIN = Recipe.from_flat(model="resnet20", dataset="folder", image_size=8, batch_size=6, epochs=4)
"""Four epochs of two batches."""


def drawn(i: int) -> np.ndarray:
    """Returns image `i`: its mean tells which it is, its left half is darker than its right."""
    y, x = np.mgrid[:16, :16]
    pixels = 20.0 * i + 8 + np.stack([x, x + y / 4, x], -1) - np.array([7.5, 9.375, 7.5])
    return np.clip(pixels, 0, 255).round().astype(np.uint8)


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Split]:
    root = tmp_path_factory.mktemp("splits")
    names, info, labels = ("cat", "dog"), Dataset(source="folder", classes=2), np.arange(IMAGES) % 2
    paths = [root / f"{i:02d}.png" for i in range(IMAGES)]
    for i, path in enumerate(paths):
        Image.fromarray(drawn(i)).save(path)
    examples = tf.data.Dataset.from_generator(
        lambda: ({"image": drawn(i), "label": i % 2} for i in range(IMAGES)),
        output_signature={"image": tf.TensorSpec((None, None, 3), tf.uint8), "label": tf.TensorSpec((), tf.int64)},
    )
    tfds.dataset_builders.store_as_tfds_dataset(
        name="twelve",
        version="1.0.0",
        data_dir=root,
        features=tfds.features.FeaturesDict(
            {"image": tfds.features.Image(encoding_format="png"), "label": tfds.features.ClassLabel(names=names)}
        ),
        split_datasets={"train": examples},
        disable_shuffling=True,
    )
    return {
        "array": ArraySplit(np.stack([drawn(i) for i in range(IMAGES)]), labels, names, info),
        "files": FileSplit(tuple(map(str, paths)), labels, names, info),
        "records": open_split("twelve", "train[:100%]", data_dir=root),
    }


def batches_of(split: Split, recipe: Recipe, chosen: Preprocessing = UNIT, **options: Any) -> list[Any]:
    return list(recipe_batches(split, recipe, chosen, **options).as_numpy_iterator())


@pytest.fixture(scope="module")
def plain_runs(splits: dict[str, Split]) -> dict[str, list[Any]]:
    """All batches of a run without augmentation, for each kind of split."""
    return {kind: batches_of(splits[kind], PLAIN) for kind in KINDS}


def which(images: np.ndarray) -> list[int]:
    """Returns which images they are, by their means."""
    return [round((float(image.mean()) - 8) / 20) for image in images]


def mirrored(images: np.ndarray) -> list[bool]:
    """Returns which of them are darker on the right."""
    return [bool(image[:, :4].mean() > image[:, 4:].mean()) for image in images]


def assert_same(found: list[Any], wanted: list[Any]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        for part, wanted_part in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, wanted_part)


# Several times ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SLOW_FILES)
def test_an_image_stands_three_times_side_by_side(splits: dict[str, Split], kind: str) -> None:
    batches = batches_of(splits[kind], PLAIN.replace(repeated_augmentation=3))
    assert len(batches) == 8
    epochs = []
    for epoch in (batches[i : i + 2] for i in range(0, 8, 2)):
        seen = [image for pixels, _ in epoch for image in which(pixels)]
        assert seen == [image for image in seen[::3] for _ in range(3)]
        assert len(set(seen)) == 4
        epochs.append(tuple(seen[::3]))
        for pixels, labels in epoch:
            assert labels.tolist() == [image % 2 for image in which(pixels)]
    assert len(set(epochs)) == 4
    assert len({image for epoch in epochs for image in epoch}) > 4  # others in other epochs


@pytest.mark.parametrize("kind", SLOW_FILES)
def test_an_image_that_does_not_fit_into_a_batch_goes_on_in_the_next(splits: dict[str, Split], kind: str) -> None:
    batches = batches_of(splits[kind], PLAIN.replace(repeated_augmentation=4, epochs=1))
    seen = [image for pixels, _ in batches for image in which(pixels)]
    assert seen == [image for image in seen[::4] for _ in range(4)]
    assert len(set(seen)) == 3


@pytest.mark.parametrize("kind", SLOW_FILES)
def test_each_time_an_image_is_varied_anew(splits: dict[str, Split], kind: str) -> None:
    recipe = PLAIN.replace(repeated_augmentation=3, epochs=1, shorter_side=(8, 14), erase=0.5)
    for pixels, _ in batches_of(splits[kind], recipe):
        for i in (0, 3):
            one, two, three = pixels[i : i + 3]
            assert (one != two).any() and (two != three).any() and (one != three).any()


@pytest.mark.parametrize("kind", SLOW_FILES)
def test_once_is_what_it_was(splits: dict[str, Split], plain_runs: dict[str, list[Any]], kind: str) -> None:
    assert_same(batches_of(splits[kind], PLAIN.replace(repeated_augmentation=1)), plain_runs[kind])


# In turn ------------------------------------------------------------------------------------------------------------

TURNS = PLAIN.replace(flip=True, alternate_flip=True)


@pytest.mark.parametrize("kind", SLOW_FILES)
@pytest.mark.parametrize("seed", [0, 1])
def test_images_are_mirrored_in_every_other_epoch(splits: dict[str, Split], kind: str, seed: int) -> None:
    batches = batches_of(splits[kind], TURNS.replace(seed=seed))
    epochs = []
    for epoch in (batches[i : i + 2] for i in range(0, 8, 2)):
        images = np.concatenate([pixels for pixels, _ in epoch])
        epochs.append({image for image, turned in zip(which(images), mirrored(images), strict=True) if turned})
        assert sorted(which(images)) == list(range(IMAGES))
    first, second, third, fourth = epochs
    assert len(first) == IMAGES // 2
    assert second == set(range(IMAGES)) - first
    assert (third, fourth) == (first, second)


@pytest.mark.slow
def test_a_seed_decides_which_half_is_first(splits: dict[str, Split]) -> None:
    halves = set()
    for seed in range(8):
        images = np.concatenate(
            [pixels for pixels, _ in batches_of(splits["array"], TURNS.replace(seed=seed, epochs=1))]
        )
        halves.add(frozenset(image for image, turn in zip(which(images), mirrored(images), strict=True) if turn))
    assert len(halves) > 4


def test_mirrored_at_random_an_image_may_be_so_twice(splits: dict[str, Split]) -> None:
    batches = batches_of(splits["array"], TURNS.replace(alternate_flip=False))
    epochs = []
    for epoch in (batches[i : i + 2] for i in range(0, 8, 2)):
        images = np.concatenate([pixels for pixels, _ in epoch])
        epochs.append({image for image, turned in zip(which(images), mirrored(images), strict=True) if turned})
    assert epochs[1] != set(range(IMAGES)) - epochs[0]


# Policies -----------------------------------------------------------------------------------------------------------

POLICIES = {
    "rand": PLAIN.replace(auto_augment="rand", auto_augment_magnitude=9.0, auto_augment_layers=2),
    "trivial": PLAIN.replace(auto_augment="trivial"),
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param("array", "rand", marks=pytest.mark.slow),
        pytest.param("array", "trivial", marks=pytest.mark.slow),
        pytest.param("files", "trivial", marks=pytest.mark.slow),
        pytest.param("records", "rand", marks=pytest.mark.slow),
    ],
)
def test_a_policy_changes_images_by_the_seed_and_their_position(
    splits: dict[str, Split], plain_runs: dict[str, list[Any]], kind: str, name: str
) -> None:
    recipe = POLICIES[name]
    plain, found = plain_runs[kind], batches_of(splits[kind], recipe)
    pixels, changed = (np.concatenate([images for images, _ in batches]) for batches in (plain, found))
    assert changed.shape == pixels.shape
    assert changed.dtype == np.float32
    assert (changed.min(), changed.max()) >= (0, 0)
    assert changed.max() <= 255
    assert (changed != pixels).any((1, 2, 3)).mean() > 0.5
    np.testing.assert_array_equal(*(np.concatenate([labels for _, labels in batches]) for batches in (plain, found)))
    assert_same(batches_of(splits[kind], recipe, first_step=3), found[3:])
    if kind == "array":
        other = np.concatenate([images for images, _ in batches_of(splits[kind], recipe.replace(seed=1))])
        assert (other != changed).any()


def test_repeated_images_are_changed_each_time_anew(splits: dict[str, Split]) -> None:
    recipe = POLICIES["trivial"].replace(repeated_augmentation=6, epochs=4)
    batches = batches_of(splits["files"], recipe)
    assert all(len({image.tobytes() for image in pixels}) > 1 for pixels, _ in batches)


@pytest.mark.slow
def test_gray_images_can_be_changed_too(splits: dict[str, Split]) -> None:
    gray = Preprocessing(image_size=(8, 8), channels=1, mean=(0.0,), std=(1.0,))
    for recipe in POLICIES.values():
        ((pixels, _),) = batches_of(splits["array"], recipe, gray, last_step=1)
        assert pixels.shape == (6, 8, 8, 1)
        assert np.isfinite(pixels).all()


# Beginning and end --------------------------------------------------------------------------------------------------

ALL = PLAIN.replace(
    batch_size=5, repeated_augmentation=3, flip=True, alternate_flip=True, shorter_side=(12, 16), erase=0.3,
    mixup=0.2, cutmix=1.0, pca_lighting=0.1,
)  # fmt: skip


@pytest.mark.parametrize("kind", SLOW_FILES_AND_RECORDS)
def test_with_everything_a_run_continued_sees_what_is_left_and_one_that_stops_what_was_before(
    splits: dict[str, Split], kind: str
) -> None:
    whole = batches_of(splits[kind], ALL)
    assert len(whole) == 8
    for first, last in ((1, None), (5, 8), (0, 3), (2, 2)):
        assert_same(batches_of(splits[kind], ALL, first_step=first, last_step=last), whole[first:last])


@pytest.mark.slow
@pytest.mark.parametrize("kind", SLOW_FILES)
@pytest.mark.parametrize("change", [{}, {"shorter_side": (12, 16)}, {"pad_pixels": 1}])
def test_a_size_for_training_is_the_size_of_its_batches(
    splits: dict[str, Split], kind: str, change: dict[str, Any]
) -> None:
    recipe = PLAIN.replace(train_sizes=(6, 12), **change)
    order: list[list[int]] = []
    for size in recipe.data.train_sizes:
        ((pixels, labels),) = batches_of(splits[kind], recipe, UNIT.at(size), last_step=1)
        assert pixels.shape == (6, size, size, 3)
        order.append(labels.tolist())
    assert order[0] == order[1]


@pytest.mark.parametrize(
    ("kind", "recipe"),
    [
        pytest.param("array", ALL, marks=pytest.mark.slow),
        pytest.param("files", ALL, marks=pytest.mark.slow),
        pytest.param("records", ALL, marks=pytest.mark.slow),
        ("array", PLAIN.replace(pad_pixels=2, flip=True)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_rows_of_workers_are_the_batches_of_one_process(
    splits: dict[str, Split], kind: str, recipe: Recipe
) -> None:
    recipe = recipe.replace(batch_size=6)
    whole = batches_of(splits[kind], recipe, last_step=3)
    workers = [batches_of(splits[kind], recipe, last_step=3, rows=range(2 * i, 2 * i + 2)) for i in range(3)]
    steps = zip(*workers, strict=True)
    assert_same([[np.concatenate(parts) for parts in zip(*step, strict=True)] for step in steps], whole)


@pytest.mark.parametrize(("mixup", "images"), [(0.0, 2 * 2), (0.2, 2 * 4)])
def test_rows_of_others_are_not_read(
    splits: dict[str, Split], mixup: float, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def counted(order: RunOrder) -> tf.data.Dataset:
        found = row_positions(order.batch_size, order.rows, order.first_step, order.last_step)
        read.extend(int(position) for position in found.as_numpy_iterator())
        return found

    monkeypatch.setattr(RunOrder, "positions", counted)
    recipe = PLAIN.replace(mixup=mixup)  # row 0 is mixed with row 5, and row 1 with row 4
    batches = batches_of(splits["files"], recipe, rows=range(2), first_step=1, last_step=3)
    assert [pixels.shape for pixels, _ in batches] == [(2, 8, 8, 3)] * 2
    assert len(read) == images
    assert min(read) == 6


def which_of_all(batches: list[Any]) -> list[int]:
    return [image for pixels, _ in batches for image in which(pixels)]


def test_arrays_files_and_records_have_one_order(splits: dict[str, Split], plain_runs: dict[str, list[Any]]) -> None:
    assert which_of_all(plain_runs["array"]) == which_of_all(plain_runs["files"]) == which_of_all(plain_runs["records"])
    for recipe in (PLAIN.replace(repeated_augmentation=3), PLAIN.replace(batch_size=5, repeated_augmentation=2)):
        array, files = (which_of_all(batches_of(splits[kind], recipe)) for kind in ("array", "files"))
        assert array == files


# Leftovers ----------------------------------------------------------------------------------------------------------

OVER = PLAIN.replace(batch_size=5, carry_over=True)
"""Twelve images in batches of five: an epoch has three batches, 2.5 of which are one permutation."""


@pytest.mark.parametrize("kind", SLOW_FILES)
def test_images_that_fill_no_batch_are_carried_over_to_the_next_epoch(splits: dict[str, Split], kind: str) -> None:
    batches = batches_of(splits[kind], OVER, carry_over=True)
    assert len(batches) == 4 * 3
    seen = [image for pixels, _ in batches for image in which(pixels)]
    passes = [seen[i : i + IMAGES] for i in range(0, len(seen), IMAGES)]
    assert [sorted(each) for each in passes] == [list(range(IMAGES))] * 5
    assert len({tuple(each) for each in passes}) == 5
    for pixels, labels in batches:
        assert labels.tolist() == [image % 2 for image in which(pixels)]


@pytest.mark.parametrize("kind", SLOW_FILES_AND_RECORDS)
def test_a_run_that_carries_images_over_resumes_at_any_step(splits: dict[str, Split], kind: str) -> None:
    batches = batches_of(splits[kind], OVER, carry_over=True)
    assert_same(batches_of(splits[kind], OVER, carry_over=True, first_step=4), batches[4:])
    assert_same(batches_of(splits[kind], OVER, carry_over=True, last_step=4), batches[:4])


@pytest.mark.parametrize("kind", SLOW_FILES)
def test_an_epoch_without_leftovers_is_the_same(
    splits: dict[str, Split], plain_runs: dict[str, list[Any]], kind: str
) -> None:
    assert_same(batches_of(splits[kind], PLAIN, carry_over=True), plain_runs[kind])


def test_a_batch_larger_than_the_split_has_images_several_times(splits: dict[str, Split]) -> None:
    (first, _), *_ = batches_of(splits["array"], PLAIN.replace(batch_size=30), carry_over=True)
    assert sorted(which(first)[:24]) == sorted([*range(IMAGES)] * 2)
    assert len(set(which(first)[24:])) == 6
