"""The activation function of the zoo that Keras does not have."""

import keras


# The zoo imports Keras alone, and has the same function. This one is for its
# files where the zoo is not installed.
@keras.saving.register_keras_serializable("fastbat_tf_models")
def softplus10(x):
    """Softplus with beta = 10, a smooth ReLU: `softplus(10 x) / 10`.

    It is linear above `10 x = 20`, like PyTorch's.
    """
    return keras.ops.where(x > 2.0, x, keras.ops.softplus(10.0 * x) / 10.0)
