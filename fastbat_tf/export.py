"""Writes a classifier as a SavedModel that needs none of this code."""

import pathlib
import shutil

import tensorflow as tf

from fastbat_tf.trainer import RobustClassifier


def export(classifier, path):
    """Writes the classifier, and nothing of its training, as a SavedModel.

    Signatures, both with the outputs `logits` and `probabilities`, float32
    `(batch, classes)`, and `classes`, int64 `(batch,)`:

    * `serving_default`: `images`, float32 `(batch, height, width, channels)`
      in [0, 1];
    * `serve_bytes`: `encoded`, strings `(batch,)`, each a PNG or JPEG file.
      An image of another size is resized bilinearly.

    Args:
        classifier: A built `keras.Model` from images in [0, 1] to logits, or
            a `RobustClassifier`, whose images are mapped to its `pixel_range`
            inside.
        path: The directory to write.

    Example:

    ```python
    import tensorflow as tf

    model = tf.saved_model.load("runs/demo/saved_model")
    model.signatures["serving_default"](images=images)["classes"]
    ```
    """
    network = classifier
    if isinstance(classifier, RobustClassifier):
        network, classifier = classifier.network, classifier.classifier
    shape = classifier.input_shape

    def answer(images):
        logits = tf.cast(network(images, training=False), tf.float32)
        return {
            "logits": logits,
            "probabilities": tf.nn.softmax(logits),
            "classes": tf.argmax(logits, axis=-1),
        }

    def decode(encoded):
        image = tf.io.decode_image(
            encoded, channels=shape[-1], expand_animations=False
        )
        image.set_shape((None, None, shape[-1]))
        # In this order: `resize` takes uint8 and answers in its range.
        return tf.image.resize(image, shape[1:3]) / 255.0

    def answer_bytes(encoded):
        output = tf.TensorSpec(shape[1:], tf.float32)
        return answer(tf.map_fn(decode, encoded, fn_output_signature=output))

    images = tf.TensorSpec(shape, tf.float32, name="images")
    encoded = tf.TensorSpec((None,), tf.string, name="encoded")
    # A plain module: Keras' ExportArchive would store every weight twice.
    module = tf.Module()
    module.weights = [weight.value for weight in classifier.weights]
    module.serve = tf.function(answer, [images], autograph=False)
    module.serve_bytes = tf.function(answer_bytes, [encoded], autograph=False)
    signatures = {
        "serving_default": module.serve,
        "serve_bytes": module.serve_bytes,
    }
    # To the side first: a failure leaves what was there.
    path = pathlib.Path(path)
    partial = path.with_name(path.name + ".partial")
    if partial.exists():  # Of a process that was killed.
        shutil.rmtree(partial)
    tf.saved_model.save(module, str(partial), signatures)
    if path.exists():
        shutil.rmtree(path)
    partial.rename(path)
