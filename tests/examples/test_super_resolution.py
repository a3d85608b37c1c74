"""examples/super_resolution: the network, its images, its measures, and a run from photographs to an export."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from resnet_keras.runs.folder import RunFolder

EXAMPLE = Path(__file__).parents[2] / "examples" / "super_resolution"

if not hasattr(keras.ops, "depth_to_space"):
    pytest.skip(f"Keras {keras.__version__} has no `depth_to_space` yet", allow_module_level=True)

NAMES = ("export", "images", "network", "quality", "settings", "train")

# The programs import each other by their bare names, as programs in one folder do; outside of these tests, the names
# are free.
sys.path.insert(0, str(EXAMPLE))
try:
    import images
    import network
    import quality
    import settings

    import export
    import train
finally:
    sys.path.remove(str(EXAMPLE))
    MODULES = {name: sys.modules.pop(name) for name in NAMES if name in sys.modules}


@pytest.fixture(scope="module", autouse=True)
def modules() -> Iterator[None]:
    """The programs under their names, by which flags are made of their annotations."""
    with pytest.MonkeyPatch.context() as context:
        for name, module in MODULES.items():
            context.setitem(sys.modules, name, module)
        yield


TINY = ("--blocks", "1", "--channels", "4", "--patch-size", "12", "--batch-size", "4", "--warmup-steps", "1")


def texture(seed: int, height: int, width: int) -> np.ndarray:
    """A smooth colored pattern, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (height // 8 + 2, width // 8 + 2, 3))
    return tf.cast(tf.clip_by_value(tf.image.resize(coarse, (height, width), "bicubic"), 0, 255), tf.uint8).numpy()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "deeper").mkdir()
    for seed, place in enumerate(("a.png", "b.png", "deeper/c.png")):
        Image.fromarray(texture(seed, 60, 72)).save(folder / place)
    return folder


@pytest.fixture(scope="module")
def test_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "Set2"
    folder.mkdir()
    Image.fromarray(texture(7, 41, 50)).save(folder / "color.png")
    Image.fromarray(texture(8, 48, 37)[..., 0]).save(folder / "gray.png")
    return folder


@pytest.fixture(scope="module")
def finished(photographs: Path, test_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run: x2, 200 steps."""
    folder = tmp_path_factory.mktemp("runs") / "x2"
    assert train.main([*command(photographs, test_set, folder), "--steps", "200", "--peak-lr", "0.01"]) == 0
    return folder


def command(photographs: Path, test_set: Path, workdir: Path) -> list[str]:
    return ["--photographs", str(photographs), "--test", str(test_set), "--workdir", str(workdir), *TINY]


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# The network


@pytest.mark.parametrize(("scale", "parameters"), [(2, 1_369_859), (3, 1_554_499), (4, 1_517_571)])
def test_the_baseline_has_the_published_parameters(scale: int, parameters: int) -> None:
    # 1.37, 1.55 and 1.52 million, without the subtraction of the mean, which does not learn.
    model = network.edsr(scale)
    assert model.count_params() == parameters
    assert model.compute_output_shape((1, 5, 7, 3)) == (1, 5 * scale, 7 * scale, 3)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)


def test_a_block_adds_without_a_relu() -> None:
    x = keras.Input((6, 6, 4))
    model = keras.Model(x, network.block(x, 4, name="block1"))
    given = np.random.default_rng(0).normal(size=(1, 6, 6, 4)).astype(np.float32)
    model.get_layer("block1_conv2").kernel.assign(np.zeros((3, 3, 4, 4)))
    np.testing.assert_array_equal(model(given), given)
    bias = np.array([-3.0, 0.0, 1.0, 2.0], np.float32)
    model.get_layer("block1_conv2").bias.assign(bias)
    np.testing.assert_array_equal(model(given), given + bias)


def test_a_shifted_image_is_enlarged_alike() -> None:
    model = network.edsr(3, blocks=1, channels=4)
    image = texture(0, 24, 24)[None].astype(np.float32)
    # 5 convolutions at the small size and one at the large one see 6 pixels to each side.
    whole, shifted = model(image)[0], model(image[:, 2:, 1:])[0]
    np.testing.assert_allclose(shifted[18:-18, 18:-18], whole[24:-18, 21:-18], atol=1e-3)


def test_the_variance_stays_through_the_blocks() -> None:
    keras.utils.set_random_seed(0)
    model = network.edsr(2, blocks=16, channels=16)
    ends = keras.Model(model.input, [model.get_layer(name).output for name in ("stem", "block16_add")])
    first, last = ends(texture(0, 48, 48)[None].astype(np.float32))
    assert np.var(last) < 10 * np.var(first)  # with He's variance it would be millions


def test_another_scale_begins_with_what_both_have() -> None:
    small, large = network.edsr(2, blocks=2, channels=4), network.edsr(4, blocks=2, channels=4)
    assert network.transfer_weights(large, small) == ["upsample2"]
    for layer in small.layers:
        for ours, theirs in zip(
            large.get_layer(layer.name).weights if layer.weights else [], layer.weights, strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match=r"Expected stem with weights of shapes \[\(3, 3, 3, 8\), \(8,\)\]\. Received"):
        network.transfer_weights(network.edsr(4, blocks=2, channels=8), small)
    with pytest.raises(ValueError, match="Expected a network with layers as of edsr_x2. Received: other"):
        network.transfer_weights(small, keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)], name="other"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"scale": 5}, "Expected `scale` to be one of (2, 3, 4). Received: 5"),
        ({"scale": 2, "blocks": 0}, "Expected `blocks` of at least 1. Received: 0"),
        ({"scale": 2, "channels": -1}, "Expected `channels` of at least 1. Received: -1"),
    ],
)
def test_what_no_network_can_have_is_an_error(arguments: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError) as raised:
        network.edsr(**arguments)
    assert str(raised.value) == said


# Images


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_images_are_made_small_and_large_as_by_pillow(scale: int) -> None:
    image = texture(3, 62, 75)
    small, large = (each.numpy() for each in images.pair(tf.constant(image), scale))
    height, width = 62 // scale, 75 // scale
    np.testing.assert_array_equal(large, image[: height * scale, : width * scale])
    assert small.shape == (height, width, 3)
    reduced = np.asarray(Image.fromarray(large).resize((width, height), Image.Resampling.BICUBIC))
    enlarged = Image.fromarray(small).resize((width * scale, height * scale), Image.Resampling.BICUBIC)
    found = images.bicubic(tf.constant(small), scale).numpy()
    for ours, theirs in ((small, reduced), (found, np.asarray(enlarged))):
        differences = np.abs(ours.astype(int) - theirs)
        assert differences.max() <= 1
        assert differences.mean() < 0.005


def batches(paths: list[Path], **options: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    asked = {"scale": 2, "side": 12, "batch_size": 8, "seed": 0, "first_step": 0, "last_step": 4, **options}
    return list(images.patches(paths, **asked).as_numpy_iterator())


def test_a_small_patch_lies_in_its_large_one(photographs: Path) -> None:
    for small, large in batches(images.find_images(photographs)):
        assert small.shape == (8, 12, 12, 3)
        assert large.shape == (8, 24, 24, 3)
        for one, other in zip(small, large, strict=True):
            expected = images.pair(tf.constant(other), 2)[0].numpy().astype(float)
            inside = np.abs(one - expected)[2:-2, 2:-2].max()  # at its border a patch lacks what is beyond
            turned = [np.abs(one - way(expected))[2:-2, 2:-2].max() for way in (np.flipud, np.fliplr, np.rot90)]
            assert inside <= 1 < min(turned)


@pytest.mark.slow
def test_patches_are_a_function_of_seed_and_step(photographs: Path) -> None:
    paths = images.find_images(photographs)
    whole, rest, other = batches(paths), batches(paths, first_step=2), batches(paths, seed=1)
    for one, same in zip(whole[2:], rest, strict=True):
        np.testing.assert_array_equal(one[1], same[1])
    assert not np.array_equal(whole[0][1], other[0][1])
    assert len({patch.tobytes() for _, large in whole for patch in large}) > 28  # of 32, two may be the same by chance


def test_patches_lie_in_all_eight_ways(tmp_path: Path) -> None:
    corner = np.zeros((24, 24, 3), np.uint8)
    corner[:8, :16] = 255
    Image.fromarray(corner).save(tmp_path / "corner.png")
    found = batches([tmp_path / "corner.png"], last_step=8)
    assert len({patch.tobytes() for _, large in found for patch in large}) == 8


def test_broken_and_missing_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match="Expected a folder of images. Received: .*absent, which does not exist"
    ):
        images.find_images(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"Expected images \(.jpg, .jpeg, .*.avif\) in the folder. Received: "):
        images.find_images(tmp_path)
    Image.fromarray(texture(0, 30, 40)).save(tmp_path / "good.PNG")
    whole = (tmp_path / "good.PNG").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"Expected whole images. Received: \S+cut.png, \S+text.jpg$"):
        images.open_images(tmp_path, 8)
    for name in ("cut.png", "text.jpg"):
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=r"at least 31 x 31 pixels. Received: \S+good.PNG, of 40 x 30"):
        images.open_images(tmp_path, 31)
    with pytest.raises(ValueError, match="Expected photographs of at least 31 x 31 pixels. Received: none in"):
        images.photographs_of(tmp_path, 31)


def test_photographs_smaller_than_a_patch_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, side in (("large.png", 40), ("small.png", 20)):
        Image.fromarray(texture(0, side, 40)).save(tmp_path / name)
    assert images.photographs_of(tmp_path, 24) == [tmp_path / "large.png"]
    assert "1 of 2 photographs are smaller than a patch and skipped" in capsys.readouterr().out


# Measures


@pytest.mark.parametrize(
    ("color", "expected"),
    [
        ((255, 255, 255), 235.0),
        ((0, 0, 0), 16.0),
        ((255, 0, 0), 81.481),
        ((0, 255, 0), 144.553),
        ((0, 0, 255), 40.966),
    ],
)
def test_luma_is_that_of_bt601(color: tuple[int, int, int], expected: float) -> None:
    np.testing.assert_allclose(quality.luma(np.full((1, 1, 3), color, np.uint8)), expected, atol=1e-9)


def test_psnr_is_of_the_luma_inside() -> None:
    truth = texture(0, 32, 40) // 2
    off = truth + 10
    found = quality.quality(off, truth, shave=2).psnr
    assert found == pytest.approx(20 * np.log10(255 / (10 * 219 / 255)), abs=1e-9)
    off[:2] = off[-2:] = off[:, :2] = off[:, -2:] = 0
    assert quality.quality(off, truth, shave=2).psnr == found > quality.quality(off, truth, shave=1).psnr
    assert quality.quality(truth, truth, shave=0) == quality.Quality(float("inf"), 1.0)


def test_ssim_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    truth = texture(1, 30, 26)
    image = np.clip(truth + rng.normal(0, 12, truth.shape), 0, 255).astype(np.uint8)
    one, other = (quality.luma(each)[2:-2, 2:-2] for each in (image, truth))
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2

    def mean(values: np.ndarray) -> np.ndarray:
        return (np.lib.stride_tricks.sliding_window_view(values, (11, 11)) * window).sum((-2, -1))

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # Wang et al. 2004, Eqn. (13)
    a, b = mean(one), mean(other)
    variances, covariance = mean(one**2) - a**2 + mean(other**2) - b**2, mean(one * other) - a * b
    expected = ((2 * a * b + c1) * (2 * covariance + c2) / ((a**2 + b**2 + c1) * (variances + c2))).mean()
    assert expected < 0.95
    assert quality.quality(image, truth, shave=2).ssim == pytest.approx(expected, abs=1e-5)


def test_images_that_cannot_be_compared_are_an_error() -> None:
    image = texture(0, 20, 20)
    with pytest.raises(ValueError, match=r"at least 15 pixels a side. Received: \(20, 20, 3\) and \(20, 19, 3\)"):
        quality.quality(image, image[:, 1:], shave=2)
    with pytest.raises(ValueError, match=r"at least 21 pixels a side"):
        quality.quality(image, image, shave=5)


@pytest.mark.parametrize(
    ("scale", "psnr", "ssim"),
    [
        pytest.param(2, 33.66, 0.9299, marks=pytest.mark.slow),
        pytest.param(3, 30.39, 0.8682, marks=pytest.mark.slow),
        pytest.param(4, 28.42, 0.8104, marks=pytest.mark.slow),
    ],
)
def test_bicubic_on_set5_is_as_published(test_data: Path, scale: int, psnr: float, ssim: float) -> None:
    folder = test_data / "superres" / "CSet5"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    found = quality.compare(
        lambda small: images.bicubic(tf.constant(small), scale).numpy(), "Set5", images.open_images(folder, 32), scale
    )
    assert found.network == found.bicubic
    assert found.bicubic.psnr == pytest.approx(psnr, abs=0.02)  # published with MATLAB's filter, which rounds once
    assert found.bicubic.ssim == pytest.approx(ssim, abs=0.001)


# Runs


@pytest.mark.slow
def test_a_run_learns_and_prints_its_result(finished: Path, test_set: Path) -> None:
    first, last = (float(row["loss"]) for row in history(finished))
    assert last < first / 2
    (found,) = json.loads((finished / "evaluation.json").read_text())["comparisons"]
    assert found["folder"] == "Set2"
    model = keras.saving.load_model(finished / "model.keras")
    for name, image in images.open_images(test_set, 1).items():
        small, large = (each.numpy() for each in images.pair(tf.constant(image), 2))
        answer = np.floor(np.clip(model(small[None].astype(np.float32))[0], 0, 255) + 0.5).astype(np.uint8)
        expected = quality.quality(answer, large, shave=2)
        assert found["images"][name][0] == {"psnr": expected.psnr, "ssim": pytest.approx(expected.ssim, abs=1e-6)}
    with Image.open(finished / "details.png") as picture:
        assert picture.size == (750, 520)
    assert not (finished / "checkpoints").exists()


@pytest.mark.slow
def test_the_same_command_again_only_compares(
    finished: Path, photographs: Path, test_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "model.keras").read_bytes()
    asked = [*command(photographs, test_set, finished), "--steps", "200"]
    assert train.main([*asked, "--peak-lr", "0.01"]) == 0
    said = capsys.readouterr().out
    assert "Set2 (2 images): PSNR " in said
    assert "step" not in said
    assert train.main([*asked, "--peak-lr", "0.02"]) == 2
    assert "peak_lr=0.02 (begun with 0.01)" in capsys.readouterr().err
    assert (finished / "model.keras").read_bytes() == before


@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_same_result(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (train, settings):
        monkeypatch.setattr(module, "REPORT_STEPS", 4)
    chosen = settings.Settings(
        blocks=1, channels=4, patch_size=12, batch_size=4, steps=8, warmup_steps=1, precision="mixed_bfloat16"
    )

    def learn(name: str) -> keras.Model:
        return train.fit(chosen, images.find_images(photographs), RunFolder(tmp_path / name))

    write = train.RunRecorder.on_epoch_end

    def write_and_stop(self: Any, epoch: int, logs: Any = None) -> None:
        write(self, epoch, logs)
        raise KeyboardInterrupt

    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(train.RunRecorder, "on_epoch_end", write_and_stop)
        learn("cut")
    assert len(history(tmp_path / "cut")) == 1
    with pytest.raises(FileNotFoundError, match="Expected the folder of a finished run. .*without model.keras"):
        settings.open_run(tmp_path / "cut")
    cut_short, whole = learn("cut"), learn("whole")
    assert capsys.readouterr().out.count("resumed after step 4") == 1
    losses = [[row["loss"] for row in history(tmp_path / name)] for name in ("cut", "whole")]
    assert losses[0] == losses[1]
    assert {layer.compute_dtype for layer in whole.layers} == {"float32"}
    for ours, theirs in zip(cut_short.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--steps", "150"], "Expected --steps to be a multiple of 100. Received: 150"),
        (["--batch-size", "6"], "Expected --batch-size to be a multiple of 4. Received: 6"),
        (["--patch-size", "0"], "Expected --patch-size of at least 1. Received: 0"),
        (["--peak-lr", "0"], "Expected --peak-lr above 0"),
        (["--weights", "nowhere"], "Expected the folder of a finished run. Received: nowhere, without model.keras"),
        (["--patch-size", "64"], "Expected photographs of at least 128 x 128 pixels. Received: none in"),
        (["--test", "nowhere"], "Expected a folder of images. Received: nowhere, which does not exist"),
    ],
)
def test_bad_input_is_an_error_before_anything_is_trained(
    flags: list[str],
    said: str,
    photographs: Path,
    test_set: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept = command(photographs, test_set, tmp_path / "run")
    for flag in flags[::2]:
        if flag in kept:
            del kept[kept.index(flag) : kept.index(flag) + 2]
    with pytest.MonkeyPatch.context() as context:
        context.setattr(train.RunRecorder, "on_epoch_end", pytest.fail)
        try:
            status = train.main([*kept, *flags])
        except SystemExit as stopped:  # what the flags' own check refuses
            status = stopped.code
    assert status == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "run" / "model.keras").exists()


# Exports


@pytest.mark.slow
def test_an_export_computes_what_the_network_does(finished: Path, test_set: Path, tmp_path: Path) -> None:
    to = tmp_path / "x2" / "1"
    asked = [str(finished), "--to", str(to), "--test", str(test_set), "--formats", "saved_model", "float32", "int8"]
    assert export.main(asked) == 0
    found = {each["format"]: each for each in json.loads((to / "export.json").read_text())["artifacts"]}
    assert list(found) == ["saved_model", "float32", "int8"]
    for form in ("saved_model", "float32"):
        assert found[form]["largest"] <= 1
        assert found[form]["mean"] < 1e-3
    assert 0 < found["int8"]["mean"] < 2
    model = settings.open_run(finished)
    served = tf.saved_model.load(str(to)).signatures["serving_default"]
    given = np.stack([texture(seed, 17, 23) for seed in range(3)])
    answer = served(images=tf.constant(given))["images"]
    assert answer.dtype == tf.uint8
    expected = np.clip(model(given.astype(np.float32)), 0, 255)
    assert np.abs(answer.numpy() - expected).max() <= 0.501


@pytest.mark.slow
def test_an_artifact_that_is_worse_is_refused(
    finished: Path, test_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = network.edsr(2, blocks=1, channels=4)
    right = export.within_range
    monkeypatch.setattr(export, "within_range", lambda model: right(other))
    asked = [str(finished), "--to", str(tmp_path / "1"), "--test", str(test_set), "--formats", "float32"]
    assert export.main(asked) == 2
    said = capsys.readouterr()
    assert "REFUSED: a value differs by" in said.out
    assert "its PSNR is lower by more than 0.02 dB" in said.out
    assert "nothing is written. Received: ['float32']" in said.err
    assert not list(tmp_path.iterdir())


def test_there_must_be_something_to_export_and_a_place_for_it(
    finished: Path, test_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--to", str(tmp_path), "--test", str(test_set)]
    assert export.main([str(tmp_path), *asked]) == 2
    assert "Expected the folder of a finished run. Received: " in capsys.readouterr().err
    assert export.main([str(finished), *asked]) == 2
    assert "Expected a folder that does not exist yet. Received: " in capsys.readouterr().err
