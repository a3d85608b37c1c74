"""Loss, accuracy and step of distillation, beside the formula in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from resnet_keras.applications.outputs import log_softmax, softmax
from resnet_keras.training.distillation import DistillationLoss, distill_from, label_accuracy

CLASSES = 5
RNG = np.random.default_rng(3)
LABELS = np.eye(CLASSES, dtype="float32")[RNG.integers(0, CLASSES, 8)]
TEACHER, STUDENT = (RNG.normal(scale=3, size=(8, CLASSES)).astype("float32") for _ in range(2))


def cross_entropy(probabilities: np.ndarray, logits: np.ndarray) -> np.ndarray:
    return -(probabilities * log_softmax(logits)).sum(-1)


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 1.0), (4.0, 1.0), (4.0, 0.7), (0.5, 0.1)])
def test_loss_is_that_of_the_paper(temperature: float, share: float) -> None:
    loss = DistillationLoss(temperature, share)
    soft = cross_entropy(softmax(TEACHER / temperature), STUDENT / temperature)
    wanted = share * temperature**2 * soft + (1 - share) * cross_entropy(LABELS, STUDENT)
    found = loss(np.concatenate([LABELS, TEACHER], -1), STUDENT)
    assert float(found) == pytest.approx(wanted.mean(), rel=1e-5)


def test_at_a_high_temperature_the_gradient_is_that_of_the_differences_of_logits() -> None:
    """Section 2.1: of logits of zero mean, 1/N of their difference, whatever the temperature."""
    teacher, student = (logits - logits.mean(-1, keepdims=True) for logits in (TEACHER, STUDENT))
    logits = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = DistillationLoss(1000.0, 1.0)(tf.concat([LABELS, teacher], -1), logits)
    np.testing.assert_allclose(len(LABELS) * tape.gradient(loss, logits), (student - teacher) / CLASSES, atol=0.02)


def test_of_labels_alone_it_is_the_cross_entropy() -> None:
    found = DistillationLoss(4.0, 0.7)(LABELS, STUDENT)
    assert float(found) == pytest.approx(cross_entropy(LABELS, STUDENT).mean(), rel=1e-6)


def test_accuracy_is_of_the_labels() -> None:
    wanted = LABELS.argmax(-1) == STUDENT.argmax(-1)
    assert 0 < wanted.sum() < len(wanted)
    for labels in (LABELS, np.concatenate([LABELS, TEACHER], -1)):
        np.testing.assert_array_equal(label_accuracy(tf.constant(labels), tf.constant(STUDENT)), wanted)


def test_a_step_gets_the_labels_and_the_logits_of_the_teacher() -> None:
    images = keras.Input((CLASSES,))
    teacher = keras.Model(images, keras.layers.Dropout(0.9)(images * 2))
    x = tf.constant(RNG.normal(size=(8, CLASSES)).astype("float32"))
    step = distill_from(teacher, lambda data: dict(zip("xy", data, strict=True)))
    seen = step((x, tf.constant(LABELS)))
    np.testing.assert_array_equal(seen["x"], x)
    np.testing.assert_array_equal(seen["y"], tf.concat([LABELS, 2 * x], -1))


@pytest.mark.parametrize("width", [CLASSES, None])
def test_labels_whose_number_of_classes_is_unknown_have_the_loss_of_the_teacher(width: int | None) -> None:
    """As `tf.data.Dataset.from_generator` gives them; in validation, labels come alone."""
    images = keras.Input((CLASSES,))
    loss = DistillationLoss(4.0, 0.7)
    step = distill_from(keras.Model(images, images * 1), lambda data: {"loss": loss(data[1], STUDENT)})
    shape = tf.TensorSpec((None, width))
    trained = tf.function(lambda labels: step((tf.constant(TEACHER), labels)), input_signature=[shape])
    validated = tf.function(lambda labels: loss(labels, STUDENT), input_signature=[shape])
    wanted = loss(np.concatenate([LABELS, TEACHER], -1), STUDENT)
    assert float(trained(LABELS)["loss"]) == pytest.approx(float(wanted), rel=1e-6)
    assert float(validated(LABELS)) == pytest.approx(cross_entropy(LABELS, STUDENT).mean(), rel=1e-6)
