"""Reads the data of a run."""

from fastbat_tf.data import extra, loading
from fastbat_tf.data.loading import Splits
from fastbat_tf.data.sources import Examples, Stream
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation import inputs
from fastbat_tf.experiment.config import Config
from fastbat_tf.runtime import display


def read_data(config: Config) -> tuple[Splits, Examples]:
    """Reads the data of a training.

    Args:
        config: A `Config`.

    Returns:
        The splits, of which the training split has the extra images, and the
        `Examples` to validate on.

    Raises:
        InputError: If they cannot be read, or do not suit the settings.
    """
    settings = config.evaluation
    loading.import_libraries(config.data)
    with display.task("reading the data"):
        splits = loading.load_splits(config.data)
        train = extra.add(splits.train, config.data, config.training.batch_size)
        splits = splits._replace(train=train)
    validation = first(splits.validation, settings.validation_examples)
    # Fails now, not after the training.
    inputs.check_count(splits.test, settings.max_examples)
    return splits, validation


def first(examples: Examples | Stream, count: int) -> Examples:
    """Loads the first `count` examples of the validation split into memory.

    Args:
        examples: The split.
        count: Integer, the setting `validation_examples`; 0 means all.

    Returns:
        An `Examples`.

    Raises:
        InputError: If there are fewer, or they do not fit into memory.
    """
    if count > examples.size:
        raise InputError(
            "`validation_examples` is expected to be at most "
            f"{examples.size}, the size of the split. "
            f"Received: validation_examples={count}"
        )
    if isinstance(examples, Stream):
        examples.check_fits("validation_examples", count)
    return examples.first(count or examples.size)
