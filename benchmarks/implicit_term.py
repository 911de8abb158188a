"""What Fast-BAT's implicit term is worth: trains with many weights of it.

    python -m benchmarks.implicit_term --data_dir=DIR
    python -m benchmarks.implicit_term --list
    python -m benchmarks.implicit_term --data_dir=DIR --rows="softplus-8-*"

By default this is the whole grid with one seed, on 10,000 images of CIFAR-10
with a network of width 16: lambda of the term x activation x how the term is
computed x radius, 66 rows; and rows that the grid suggests: the lambda that
gives both levels the same rate, and a term whose length is held at a share of
the gradient's. If it was interrupted, the same command resumes without
repeating what is done. Then train more seeds of what differs:

    python -m benchmarks.implicit_term --data_dir=DIR --seeds=37,38,39,40,41 \\
        --rows="softplus-8-lambda-inf,softplus-8-*-clip-0.3"

Each row is compared with that of the same activation and radius without the
term (`--implicit_lambda=inf`). docs/implicit_gradient.md has the results.
"""

import itertools
import pathlib
import sys

from absl import app

from benchmarks import study, study_settings, study_table

ACTIVATIONS = ("relu", "softplus", "swish")
RADII = (8, 16)
LAMBDAS = ("inf", "10", "3", "1", "0.3", "0.1")
# 1 / step size at 8/255: the rates of both levels are equal.
EQUAL_RATES = "0.051"
# Longer than any clip, so that the clip is the length of the term.
CLIPPED = "1e-6"
CLIPS = ("0.1", "0.3", "1")
DIFFERENCE = "finite_difference"


def rows():
    """Returns all `Row`s of the study."""
    found = []
    for radius, activation in itertools.product(RADII, ACTIVATIONS):
        start = f"{activation}-{radius}"
        lambdas = (*LAMBDAS, EQUAL_RATES) if radius == 8 else LAMBDAS
        options = [{"lambda": each} for each in lambdas]
        options += [
            {"lambda": each, "gradient": DIFFERENCE}
            for each in LAMBDAS
            if each != "inf"
        ]
        options += [{"lambda": CLIPPED, "clip": clip} for clip in CLIPS]
        found += [_row(start, radius, activation, each) for each in options]
    return found


def _row(start, radius, activation, options):
    name = f"{start}-lambda-{options['lambda']}"
    arguments = [
        f"--activation={activation}",
        f"--epsilon={radius}/255",
        f"--implicit_lambda={options['lambda']}",
    ]
    if "gradient" in options:
        name += f"-{options['gradient']}"
        arguments.append(f"--implicit_gradient={options['gradient']}")
    if "clip" in options:
        name += f"-clip-{options['clip']}"
        arguments.append(f"--implicit_clip={options['clip']}")
    return study.Row(name, tuple(arguments), f"{start}-lambda-inf")


def run(all_rows, title, program):
    """Runs a study as its flags say, and shows and writes what it finds.

    Args:
        all_rows: List of `Row`s.
        title: Title of the plot.
        program: Name of the module that is run.
    """
    settings = study_settings.read_flags()
    chosen = study.choose(all_rows, settings.rows)
    if settings.list:
        print("\n".join(row.name for row in chosen))
        return
    command = study_settings.command(program, sys.argv[1:])
    # All rows of a seed before the next seed: what differs shows early.
    for seed, row in itertools.product(settings.seeds, chosen):
        if not settings.collect:
            study.make(row, seed, settings)
            study.write(study.collect(chosen, settings), command, settings)
    found = study.collect(chosen, settings)
    study.write(found, command, settings)
    print("\n".join(study_table.table(found)))
    if settings.plot:
        path = pathlib.Path(settings.plot)
        path.parent.mkdir(parents=True, exist_ok=True)
        study_table.draw(found, title).savefig(path, dpi=110)
        print(f"Written: {path}")


def main(_):
    """Runs the study of the implicit term."""
    run(
        rows(),
        "Fast-BAT with its implicit term, minus without",
        "benchmarks.implicit_term",
    )


if __name__ == "__main__":
    study_settings.define_flags("runs/implicit_term")
    app.run(main)
