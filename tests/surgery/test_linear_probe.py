"""The classifier fitted to features, beside scikit-learn's logistic regression."""

import keras
import numpy as np
import pytest
from helpers.small_networks import FOUR_STAGES, drawn, images

from resnet_keras.networks.blocks import HEAD
from resnet_keras.networks.builder import build
from resnet_keras.surgery.linear_probe import fit_head

CLASSES = 3


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return drawn(build(FOUR_STAGES, input_shape=(32, 32, 3), classes=CLASSES, classifier_activation=None))


def batches() -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(24) % CLASSES
    return images(24, 32, 32, 3) + labels[:, None, None, None], labels


def test_it_is_the_logistic_regression_on_features_of_unit_length(network: keras.Model) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = batches()
    before = {weight.path: weight.numpy() for weight in network.weights}
    assert fit_head(network, [(x[:10], y[:10]), (x[10:], y[10:])], mirrored=True) == 24
    changed = [weight.path for weight in network.weights if (weight.numpy() != before[weight.path]).any()]
    assert changed == [f"{HEAD}/kernel", f"{HEAD}/bias"]

    layer = network.get_layer(HEAD)
    pooled = keras.Model(network.input, layer.input)
    features = np.concatenate([pooled.predict(x, verbose=0), pooled.predict(x[:, :, ::-1], verbose=0)]).astype(float)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    inputs = features / lengths
    scale = np.sqrt(((inputs - inputs.mean(0)) ** 2).sum(1).mean())
    # scikit-learn sums the losses of the images, and halves the penalty.
    peer = linear_model.LogisticRegression(C=1 / (1e-3 * len(inputs)), tol=1e-8, max_iter=5000)
    peer.fit(inputs / scale, np.tile(y, 2))
    wanted = peer.predict_proba(inputs / scale)
    logits = inputs * lengths.mean() @ layer.kernel.numpy() + layer.bias.numpy()
    found = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    np.testing.assert_allclose(found, wanted, atol=0.02)
    assert (found.argmax(1) == np.tile(y, 2)).all()


def test_probabilities_are_labels_too(network: keras.Model) -> None:
    x, y = batches()
    fit_head(network, [(x, y)])
    kernel = network.get_layer(HEAD).kernel.numpy()
    fit_head(network, [(x, np.eye(CLASSES, dtype="float32")[y])])
    np.testing.assert_array_equal(network.get_layer(HEAD).kernel.numpy(), kernel)


def test_no_batches_are_refused(network: keras.Model) -> None:
    with pytest.raises(ValueError, match="at least one batch of images. Received: none"):
        fit_head(network, [])
