"""What a person reads while a training runs."""

import time

import keras


class EpochLine(keras.callbacks.Callback):
    """One line for each epoch: how it went, how fast, how long it will last.

    For a file or a pipe, where a progress bar cannot be read.

    Args:
        detailed: Whether a line every ten seconds tells more.
    """

    def __init__(self, detailed=False):
        super().__init__()
        self.detailed = detailed

    def on_train_begin(self, logs=None):
        self._start = self._said = time.perf_counter()
        self._steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1
        now = time.perf_counter()
        if self.detailed and now - self._said > 10:
            self._said = now
            rate = (now - self._start) / self._steps
            steps = self.params["steps"]
            print(
                f"  step {batch + 1}/{steps}  loss {logs['loss']:.4g}  "
                f"{rate:.2f} s a step, "
                f"{duration((steps - batch - 1) * rate)} to the epoch's end",
                flush=True,
            )

    def on_epoch_end(self, epoch, logs=None):
        epochs = self.params["epochs"]
        parts = [f"epoch {epoch + 1}/{epochs}"]
        parts += [f"{name} {value:.4g}" for name, value in sorted(logs.items())]
        if self._steps:  # None, if the steps were made by a killed process.
            # All that belongs to an epoch, divided by its steps.
            rate = (time.perf_counter() - self._start) / self._steps
            left = (epochs - epoch - 1) * self.params["steps"] * rate
            parts.append(f"{rate:.2f} s a step, {duration(left)} left")
        print("  ".join(parts), flush=True)


class TimeForecast(keras.callbacks.Callback):
    """Says after the first steps how long the training will take.

    Args:
        hint: String, printed behind a forecast of more than half an hour.
        steps: Integer, how many steps after the first are timed.
    """

    LONG = 1800  # Seconds.

    def __init__(self, hint, steps=5):
        super().__init__()
        self.hint = hint
        self.steps = steps
        self._seen = 0

    def on_train_batch_end(self, batch, logs=None):
        self._seen += 1
        if self._seen == 1:  # The first step also traces and compiles.
            self._start = time.perf_counter()
        elif self._seen == 1 + self.steps:
            seconds = (time.perf_counter() - self._start) / self.steps
            total = seconds * self.params["steps"] * self.params["epochs"]
            forecast = (
                f"\n{seconds:.2f} s a step: about {duration(total)} for all "
                f"{self.params['epochs']} epochs, validation aside."
            )
            hint = f" {self.hint}" if total > self.LONG else ""
            print(forecast + hint, flush=True)


def duration(seconds):
    """Seconds as a person would say them.

    >>> duration(5000)
    '1 h 23 min'
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
