"""Asks an exported model in each format, by what serves it."""

import json

import keras
import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

NAMES = ("logits", "probabilities", "classes")


def load(form, path):
    """Returns an exported model as a function of images.

    Args:
        form: A key of `FORMATS`.
        path: `pathlib.Path` of what `export` has returned.

    Returns:
        A function from an array of images, uint8 for `"tflite_int8"`, to a
        dict of arrays.
    """
    loaders = {
        "saved_model": _load_saved_model,
        "keras": _load_keras,
        "tflite": _load_tflite,
        "tflite_int8": _load_tflite,
        "onnx": _load_onnx,
        "stablehlo": _load_stablehlo,
    }
    return loaders[form](path)


def _load_saved_model(path):
    model = tf.saved_model.load(path)

    def ask(images):
        serve = model.signatures["serving_default"]
        answers = serve(images=tf.constant(images))
        return {name: answers[name].numpy() for name in NAMES}

    return ask


def _load_keras(path):
    model = keras.models.load_model(path)
    return lambda images: {
        "logits": tf.cast(model(images, training=False), tf.float32).numpy()
    }


def _load_tflite(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()  # Or it resizes what has no size yet.

    def ask(images):
        runner = interpreter.get_signature_runner("serving_default")
        return runner(images=images)

    return ask


def _load_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(
        path, providers=["CPUExecutionProvider"]
    )

    def ask(images):
        return dict(
            zip(NAMES, session.run(NAMES, {"images": images}), strict=True)
        )

    return ask


def _load_stablehlo(path):
    """The operation that runs StableHLO in TensorFlow checks its shapes."""
    description = json.loads(path.with_name("model.json").read_text())
    weights = np.load(path.with_name("weights.npz"))
    given = [
        weights[entry["state"]]
        for entry in description["inputs"]
        if "state" in entry
    ]
    outputs, module = description["outputs"], path.read_bytes()

    @tf.function(autograph=False)
    def call(*arguments):
        return gen_xla_ops.xla_call_module(
            args=arguments,
            version=10,
            module=module,
            Sout=[entry["shape"] for entry in outputs],
            Tout=[entry["dtype"] for entry in outputs],
            platforms=["CPU"],
        )

    def ask(images):
        answers = call(tf.constant(images), *given)
        names = [entry["result"] for entry in outputs]
        return {n: a.numpy() for n, a in zip(names, answers, strict=True)}

    return ask
