"""The step size of Fast-BAT at 16/255 against the share that stays inside.

    python -m benchmarks.step_size --data_dir=DIR

Without a sign, a small step leaves most of the ball unused: the interior
fraction is the share of the pixel values on no bound. The rows are fixed step
sizes, and `--step_size=auto`, which holds the interior fraction. Each is
compared with the default, 2000/255. The implicit term is off: it changes
nothing that can be measured here, and takes a third of the time. If it was
interrupted, the same command resumes without repeating what is done;
`--seeds=37,38,39,40,41` trains five seeds. docs/implicit_gradient.md has the
results.
"""

from absl import app

from benchmarks import implicit_term, study, study_settings

STEPS = (500, 1000, 2000, 5000, 10000)
FRACTIONS = ("0.1", "0.3", "0.5")
BASE = "relu-16-step-2000"


def rows():
    """Returns all `Row`s of the study."""
    shared = ("--activation=relu", "--epsilon=16/255", "--implicit_lambda=inf")
    fixed = [
        study.Row(
            f"relu-16-step-{step}",
            (*shared, f"--step_size={step}/255"),
            BASE,
        )
        for step in STEPS
    ]
    held = [
        study.Row(
            f"relu-16-step-auto-{fraction}",
            (*shared, "--step_size=auto", f"--interior_fraction={fraction}"),
            BASE,
        )
        for fraction in FRACTIONS
    ]
    return [*fixed, *held]


def main(_):
    """Runs the study of the step size."""
    implicit_term.run(
        rows(),
        "Fast-BAT's step size at 16/255, minus 2000/255",
        "benchmarks.step_size",
    )


if __name__ == "__main__":
    study_settings.define_flags("runs/step_size")
    app.run(main)
