"""A stem that decorrelates the images' patches (arXiv:2404.00498, section 3.1)."""

import keras
import numpy as np
import pytest

from resnet_keras.training.whitening import whiten


def stem(filters: int = 24, channels: int = 3, kernel: int = 2) -> keras.Model:
    convolution = keras.layers.Conv2D(filters, kernel, use_bias=False, name="stem_conv")
    return keras.Sequential([keras.Input((None, None, channels)), convolution])


def kernel_of(model: keras.Model) -> np.ndarray:
    return model.get_layer("stem_conv").kernel.numpy()


def correlated(count: int = 300, side: int = 10, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Images whose neighboring pixels and whose channels are alike, as those of photographs."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(count, side + 1, side + 1, channels))
    images = images[:, 1:] + 0.7 * images[:, :-1]
    images = images[:, :, 1:] + 0.7 * images[:, :, :-1]
    return (images + 0.8 * images.mean(-1, keepdims=True)).astype(np.float32)


def responses(model: keras.Model, images: np.ndarray) -> np.ndarray:
    outputs = keras.ops.convert_to_numpy(model(images))
    return outputs.reshape(-1, outputs.shape[-1])


@pytest.mark.parametrize(("channels", "filters"), [(3, 24), (1, 8)])
def test_filters_are_uncorrelated_and_of_variance_one(channels: int, filters: int) -> None:
    model, images = stem(filters, channels), correlated(channels=channels)
    before = np.cov(responses(model, images)[:, : filters // 2].T)
    whiten(model, images)
    found = np.cov(responses(model, images)[:, : filters // 2].T)
    np.testing.assert_allclose(found, np.eye(filters // 2), atol=0.05)
    assert np.abs(before - np.eye(filters // 2)).max() > 0.3


def test_each_filter_has_its_negative_and_the_rest_stay() -> None:
    model = stem(30)
    before = kernel_of(model)
    whiten(model, correlated())
    after = kernel_of(model)
    np.testing.assert_array_equal(after[..., 12:24], -after[..., :12])
    np.testing.assert_array_equal(after[..., 24:], before[..., 24:])
    assert (after[..., :24] != before[..., :24]).all()


def test_of_more_components_than_filters_those_of_the_largest_variance_are_taken() -> None:
    images = correlated()
    whole, fewer = stem(24), stem(11)
    last = kernel_of(fewer)[..., 10:]
    for model in (whole, fewer):
        whiten(model, images)
    np.testing.assert_array_equal(kernel_of(fewer)[..., :5], kernel_of(whole)[..., :5])
    np.testing.assert_array_equal(kernel_of(fewer)[..., 5:10], -kernel_of(whole)[..., :5])
    np.testing.assert_array_equal(kernel_of(fewer)[..., 10:], last)
    # The larger a component's variance, the smaller the filter that makes it 1.
    lengths = np.linalg.norm(kernel_of(whole)[..., :12].reshape(-1, 12), axis=0)
    assert (np.diff(lengths) > 0).all()


def test_images_that_hardly_vary_give_filters_of_a_bounded_size() -> None:
    model = stem()
    whiten(model, np.zeros((4, 6, 6, 3), np.float32))
    lengths = np.linalg.norm(kernel_of(model).reshape(-1, 24), axis=0)
    np.testing.assert_allclose(lengths, 5e-4**-0.5, rtol=1e-4)


def test_a_seed_decides_the_patches() -> None:
    kernels = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        model = stem()
        whiten(model, correlated(), seed)
        kernels[name] = kernel_of(model)
    np.testing.assert_array_equal(kernels["a"], kernels["b"])
    assert (kernels["a"] != kernels["c"]).any()


@pytest.mark.parametrize("shape", [(5, 8, 8, 1), (5, 1, 8, 3), (5, 8, 1, 3), (8, 8, 3)])
def test_images_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    model = stem()
    before = kernel_of(model)
    with pytest.raises(ValueError, match=r"3 channels and at least 2x2 pixels\. Received: \("):
        whiten(model, np.zeros(shape, np.float32))
    np.testing.assert_array_equal(kernel_of(model), before)
