"""Kinds of data: each trains as the same NumPy arrays do."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import fastbat_tf as fb
from fastbat_tf.data.indexing import split_index
from fastbat_tf.errors import InputError
from fastbat_tf.methods.batch import unpack
from tests.support import testing

IMAGES, LABELS = testing.images_and_labels(8)
# Exact in float16 and bfloat16.
IMAGES = (np.round(IMAGES * 128) / 128).astype("float32")
ONE_HOT = np.eye(4, dtype="float32")[LABELS]
SMOOTHED = 0.9 * ONE_HOT + 0.1 / 4
INDEX = np.arange(8)


class Sequence(keras.utils.PyDataset):
    def __init__(self, x=IMAGES):
        super().__init__()
        self.x = x

    def __len__(self):
        return 2

    def __getitem__(self, number):
        part = slice(4 * number, 4 * number + 4)
        x = keras.tree.map_structure(lambda leaf: leaf[part], self.x)
        return x, LABELS[part]


def generate(x=IMAGES, times=1):
    for _ in range(times):
        yield from (Sequence(x)[number] for number in range(2))


def batches(*parts):
    return tf.data.Dataset.from_tensor_slices(parts).batch(4)


def dicts(**more):
    parts = {"image": IMAGES, "label": LABELS, **more}
    return tf.data.Dataset.from_tensor_slices(parts).batch(4)


KINDS = {
    "tensors": lambda: (tf.constant(IMAGES), tf.constant(LABELS)),
    "column": lambda: (IMAGES, LABELS[:, None]),
    "int64": lambda: (IMAGES, LABELS.astype("int64")),
    "uint8_labels": lambda: (IMAGES, LABELS.astype("uint8")),
    "float_labels": lambda: (IMAGES, LABELS.astype("float32")),
    "float16": lambda: (IMAGES.astype("float16"), LABELS),
    "float64": lambda: (IMAGES.astype("float64"), LABELS),
    "bfloat16": lambda: (tf.cast(IMAGES, "bfloat16"), LABELS),
    "dataset": lambda: (batches(IMAGES, LABELS),),
    "dataset_float16": lambda: (batches(IMAGES.astype("float16"), LABELS),),
    "dataset_bfloat16": lambda: (
        batches(tf.cast(IMAGES, tf.bfloat16), LABELS),
    ),
    "dicts": lambda: (dicts(),),
    "dicts_with_more": lambda: (dicts(id=[str(i) for i in range(8)]),),
    "py_dataset": lambda: (Sequence(),),
    "generator": lambda: (generate(),),
}
KINDS["generator_of_dicts"] = lambda: (
    ({"image": x, "label": y} for x, y in generate()),
)


def build(method=None, loss=None, **kwargs):
    robust = fb.RobustClassifier(
        testing.small_network(width=2), method or fb.FastAT(), **kwargs
    )
    return robust.compile(
        keras.optimizers.SGD(0.1), loss, metrics=["accuracy"], run_eagerly=True
    )


def train(robust, *data, **kwargs):
    return robust.fit(
        *data, batch_size=4, shuffle=False, verbose=0, **kwargs
    ).history


def values(robust):
    return [v.numpy() for v in robust.classifier.weights]


class KindsTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        robust = build()
        train(robust, IMAGES, LABELS)
        cls.expected = values(robust)
        evaluated = robust.evaluate(IMAGES, LABELS, batch_size=4, verbose=0)
        predicted = robust.predict(IMAGES, verbose=0)
        cls.results = evaluated, predicted

    @parameterized.named_parameters(*KINDS.items())
    def test_trains_as_arrays_do(self, make):
        robust = build()
        train(robust, *make())
        for found, expected in zip(values(robust), self.expected, strict=True):
            self.assertAllEqual(found, expected)
        given = {"batch_size": 4, "verbose": 0}
        found = robust.evaluate(*make(), **given)
        self.assertAllClose(found, self.results[0], 1e-6, 1e-6)
        found = robust.predict(make()[0], **given)
        self.assertAllClose(found, self.results[1], 1e-6, 1e-6)

    def test_on_batch(self):
        robust = build()
        for number in range(2):
            robust.train_on_batch(*Sequence()[number])
        for found, expected in zip(values(robust), self.expected, strict=True):
            self.assertAllEqual(found, expected)

    def test_integer_pixels(self):
        pixels = np.round(IMAGES * 255).astype("uint8")
        results = []
        for x in (pixels, pixels.astype("float32"), pixels.astype("float16")):
            robust = build(pixel_range=(0, 255))
            train(robust, x, LABELS)
            results.append(values(robust))
        for a, b, c in zip(*results, strict=True):
            self.assertAllEqual(a, b)
            self.assertAllEqual(a, c)

    def test_soft_labels(self):
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        robust = build(loss=loss)
        train(robust, IMAGES, ONE_HOT)
        for found, expected in zip(values(robust), self.expected, strict=True):
            self.assertAllClose(found, expected, 1e-5, 1e-6)
        smoothing = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=0.1
        )
        results = []
        for loss_, labels in ((loss, SMOOTHED), (smoothing, ONE_HOT)):
            robust = build(loss=loss_)
            train(robust, IMAGES, labels)
            robust.evaluate(IMAGES, labels, verbose=0)
            results.append(values(robust))
        for a, b in zip(*results, strict=True):
            self.assertAllClose(a, b, 1e-5, 1e-6)

    def test_validation_data(self):
        expected = train(
            build(), IMAGES, LABELS, validation_data=(IMAGES, LABELS)
        )
        for given in (batches(IMAGES, LABELS), dicts(), Sequence()):
            found = train(build(), IMAGES, LABELS, validation_data=given)
            self.assertAllClose(found, expected, 1e-6, 1e-6)
        split = train(build(), IMAGES, LABELS, validation_split=0.5)
        halves = train(
            build(),
            IMAGES[:4],
            LABELS[:4],
            validation_data=(IMAGES[4:], LABELS[4:]),
        )
        self.assertAllClose(split, halves, 1e-6, 1e-6)

    def test_evaluate_robustness(self):
        expected = fb.evaluate_robustness(
            testing.small_network(), (IMAGES, LABELS), ["fgsm"]
        )
        for data in (dicts(), fb.with_index(batches(IMAGES, LABELS))):
            found = fb.evaluate_robustness(
                testing.small_network(), data, ["fgsm"]
            )
            for name in ("examples", "attacked", "robust_accuracy"):
                self.assertEqual(
                    found["attacks"][0][name], expected["attacks"][0][name]
                )

    def test_dicts_on_replicas(self):
        """Keras takes the mean of the first batch, to see its shape."""
        strategy = testing.two_cpu_strategy()
        with strategy.scope():
            robust = fb.RobustClassifier(
                testing.small_network(width=2), fb.Standard()
            ).compile(keras.optimizers.SGD(0.1))
        train(robust, dicts())
        self.assertAllEqual(robust.step.numpy(), 2)
        robust.evaluate(dicts(), verbose=0)
        robust.predict(dicts(), verbose=0)


class MemoryTest(tf.test.TestCase, parameterized.TestCase):
    """Methods that remember examples, on each kind of data."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        robust = build(fb.FGSMPGI())
        train(robust, IMAGES, LABELS, epochs=2)
        cls.expected = values(robust)

    @parameterized.named_parameters(
        ("tensors", lambda: (tf.constant(IMAGES), LABELS)),
        (
            "dataset",
            lambda: (
                fb.with_index(
                    tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
                )
                .cache()
                .batch(4)
                .prefetch(1),
            ),
        ),
        ("batches", lambda: (fb.with_index(batches(IMAGES, LABELS)),)),
        ("dicts", lambda: (fb.with_index(dicts()),)),
        (
            "py_dataset",
            lambda: (Sequence({"images": IMAGES, "index": INDEX}),),
        ),
    )
    def test_trains_as_arrays_do(self, make):
        robust = build(fb.FGSMPGI())
        train(robust, *make(), epochs=2)
        for found, expected in zip(values(robust), self.expected, strict=True):
            self.assertAllEqual(found, expected)

    def test_generators(self):
        indexed = {"images": IMAGES, "index": INDEX}
        robust = build(fb.FGSMPGI())
        with self.assertRaisesRegex(InputError, "Plan.*=unknown"):
            train(robust, generate(indexed, 2), steps_per_epoch=2, epochs=2)
        robust.compile(
            keras.optimizers.SGD(0.1),
            plan=fb.Plan(2, 2, 4, examples=8),
            run_eagerly=True,
        )
        train(robust, generate(indexed, 2), steps_per_epoch=2, epochs=2)
        for found, expected in zip(values(robust), self.expected, strict=True):
            self.assertAllEqual(found, expected)

    def test_generators_of_unknown_length(self):
        """Methods that count epochs or batches need no length."""
        for method in (fb.GAT, lambda: fb.Free(replays=2)):
            results = []
            for data in ((IMAGES, LABELS), (generate(),)):
                robust = build(method())
                train(robust, *data)
                results.append(values(robust))
            for a, b in zip(*results, strict=True):
                self.assertAllEqual(a, b)

    def test_index_is_missing(self):
        for data in (batches(IMAGES, LABELS), dicts(), Sequence(), generate()):
            with self.assertRaisesRegex(InputError, "with_index|=unknown"):
                train(build(fb.FGSMPGI()), data)


class UnpackTest(tf.test.TestCase):
    def test_other_structures_are_left_alone(self):
        inputs = {"image": IMAGES, "metadata": LABELS}
        other = {"images": IMAGES, "metadata": LABELS}
        for given in (inputs, other, (IMAGES, LABELS), [IMAGES], IMAGES):
            self.assertIs(split_index(given)[0], given)
            self.assertIsNone(split_index(given)[1])
        found, index = split_index({"images": inputs, "index": INDEX})
        self.assertIs(found, inputs)
        self.assertIs(index, INDEX)
        batch = unpack((inputs, LABELS, np.ones(8)))
        self.assertIs(batch.inputs, inputs)
        self.assertAllEqual(batch.sample_weight, np.ones(8))
        # With labels beside it, a label in the dict is an input.
        inputs = {"image": IMAGES, "label": LABELS}
        self.assertIs(unpack((inputs, LABELS)).inputs, inputs)
        self.assertIs(unpack(inputs).labels, LABELS)


if __name__ == "__main__":
    tf.test.main()
