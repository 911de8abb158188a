"""The signatures of a SavedModel in a session, as TensorFlow Serving runs them.

TensorFlow in Python calls functions, and refuses some wrong inputs before the
model sees them. The server runs the graph of the file in a session, and so
does this.
"""

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2


class SessionSignature:
    """A signature, called by the names of its inputs.

    Args:
        session: The session that holds the SavedModel.
        definition: Its `SignatureDef`.
    """

    def __init__(self, session, definition):
        graph = session.graph
        inputs = {
            key: graph.get_tensor_by_name(value.name)
            for key, value in definition.inputs.items()
        }
        outputs = {
            key: graph.get_tensor_by_name(value.name)
            for key, value in definition.outputs.items()
        }
        self.structured_input_signature = (
            (),
            {
                key: tf.TensorSpec(tensor.shape, tensor.dtype, key)
                for key, tensor in inputs.items()
            },
        )
        self._inputs, self._outputs = list(inputs), list(outputs)
        options = config_pb2.CallableOptions()
        options.feed.extend(tensor.name for tensor in inputs.values())
        options.fetch.extend(tensor.name for tensor in outputs.values())
        # Unlike `session.run`, it does not check the shapes first.
        self._run = session._make_callable_from_options(options)

    def __call__(self, **inputs):
        arrays = [np.asarray(inputs[name]) for name in self._inputs]
        answers = self._run(*arrays)
        return dict(zip(self._outputs, map(tf.constant, answers), strict=True))


def load(path):
    """Loads a SavedModel; returns its `SessionSignature`s by name."""
    with tf.Graph().as_default() as graph:
        session = tf.compat.v1.Session(graph=graph)
        model = tf.compat.v1.saved_model.load(session, ["serve"], str(path))
        return {
            name: SessionSignature(session, definition)
            for name, definition in model.signature_def.items()
            if definition.method_name
        }
