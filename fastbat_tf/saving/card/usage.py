"""How each format is loaded, for the model card."""

from typing import NamedTuple

from fastbat_tf.layers.outputs import Outputs
from fastbat_tf.saving.served import Served

# Of an image of any size, in the example.
ANY_SIZE = 64


class Usage(NamedTuple):
    """How a format is used.

    Attributes:
        library: String, the name of the library on Hugging Face.
        tags: Tuple of strings, those of Hugging Face.
        needs: String, the packages as pip installs them.
        program: String, Python that runs in the directory of the files.
    """

    library: str
    tags: tuple[str, ...]
    needs: str
    program: str


_FLOATS = "np.zeros({batch}, np.float32)  # Pixels in [0, 1]."

USAGES = {
    "saved_model": Usage(
        "tensorflow",
        ("tensorflow",),
        "tensorflow",
        """\
import tensorflow as tf

model = tf.saved_model.load(".")
images = tf.zeros({batch})  # Pixels in [0, 1].
answer = model.signatures["serving_default"](images=images)
answer["classes"], answer["probabilities"]""",
    ),
    "keras": Usage(
        "keras",
        ("keras",),
        "keras and tensorflow",
        f"""\
import keras
import numpy as np

model = keras.saving.load_model("model.keras")
images = {_FLOATS}
{{answer}} = model.predict(images)""",
    ),
    "tflite": Usage(
        "litert",
        ("litert", "tflite"),
        "ai-edge-litert",
        f"""\
import numpy as np
from ai_edge_litert.interpreter import Interpreter

run = Interpreter("model.tflite").get_signature_runner()
images = {_FLOATS}
answer = run(images=images)
answer["classes"], answer["probabilities"]""",
    ),
    "tflite_int8": Usage(
        "litert",
        ("litert", "tflite", "int8"),
        "ai-edge-litert",
        """\
import numpy as np
from ai_edge_litert.interpreter import Interpreter

run = Interpreter("model.tflite").get_signature_runner()
images = np.zeros({batch}, np.uint8)  # Pixels from 0 to 255.
answer = run(images=images)
answer["classes"], answer["probabilities"]""",
    ),
    "onnx": Usage(
        "onnx",
        ("onnx",),
        "onnxruntime",
        f"""\
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
images = {_FLOATS}
names = ["classes", "probabilities"]
classes, probabilities = session.run(names, {{{{"images": images}}}})""",
    ),
    "stablehlo": Usage(
        "stablehlo",
        ("stablehlo", "mlir"),
        "numpy and an XLA compiler",
        """\
import json
import numpy as np

with open("model.json") as file:
    names = [entry["state"] for entry in json.load(file)["inputs"][1:]]
weights = [np.load("weights.npz")[name] for name in names]
# What model.mlir takes: float32 images in [0, 1], then these weights.""",
    ),
}


def program(served: Served, format: str) -> str:
    """Returns a program that loads a model and asks it, in a few lines.

    Args:
        served: The `Served`.
        format: A key of `USAGES`.
    """
    batch = 1, *(size or ANY_SIZE for size in served.shape)
    answer = keras_answer(served.network.outputs)
    return USAGES[format].program.format(batch=batch, answer=answer)


def keras_answer(outputs: Outputs) -> str:
    """Names what a Keras file answers, which is what its classifier returns.

    Args:
        outputs: The `Outputs` of the classifier.
    """
    if outputs.is_binary:
        return "logit" if outputs.from_logits else "probability"
    return "logits" if outputs.from_logits else "probabilities"
