"""Trains and measures methods with the same protocol, and prints a table.

    python -m benchmarks.comparison --data_dir=DIR
    python -m benchmarks.comparison --data_dir=DIR --rows=fastbat-8,fastat-8

Each row runs `main.py --flagfile=recipes/comparison.cfg` with a method and a
radius, then AutoAttack on the best weights. If it was interrupted, the same
command resumes without repeating what is done. The table is in
docs/comparison.md.
"""

import json
import pathlib
import sys

from absl import app, flags

from benchmarks.shared import run_main

# The flags that each row adds to the protocol.
ROWS = {
    "standard-8": ["--method=standard"],
    "fastat-8": ["--method=fastat"],
    "nfgsm-8": ["--method=nfgsm"],
    "gradalign-8": ["--method=gradalign"],
    "pgd-8": ["--method=pgd", "--steps=2"],
    "fgsm_pgi-8": ["--method=fgsm_pgi"],
    "fastbat-8": ["--method=fastbat"],
    "fastbat_without_implicit-8": ["--method=fastbat", "--implicit_lambda=inf"],
    "fastat-16": ["--method=fastat", "--epsilon=16/255"],
    "gradalign-16": ["--method=gradalign", "--epsilon=16/255"],
    "fastbat-16": ["--method=fastbat", "--epsilon=16/255"],
}

DATA_DIR = flags.DEFINE_string("data_dir", None, "The flag of main.py.")
RUNS = flags.DEFINE_string("runs", "runs/comparison", "Directory of the runs.")
ROW_NAMES = flags.DEFINE_list("rows", list(ROWS), "Rows to run.")
AUTOATTACK_EXAMPLES = flags.DEFINE_integer(
    "autoattack_examples",
    256,
    "Size of the class-balanced subset for AutoAttack.",
)
JSON_FILE = flags.DEFINE_string(
    "json", None, "File to which the numbers are written."
)


def accuracies(file):
    """Reads a results.json; returns it, and its accuracies in percent."""
    results = json.loads(file.read_text())
    return results, {
        "clean": 100 * results["clean_accuracy"],
        **{
            row["attack"]: 100 * row["robust_accuracy"]
            for row in results["attacks"]
        },
    }


def make_row(name):
    """Trains and measures one row, or resumes it."""
    run_dir = pathlib.Path(RUNS.value).absolute() / name
    data_dir = [f"--data_dir={DATA_DIR.value}"] if DATA_DIR.value else []
    run_main(
        "--flagfile=recipes/comparison.cfg",
        *ROWS[name],
        *data_dir,
        f"--run_dir={run_dir}",
    )
    autoattack = run_dir / "autoattack"
    run_main(
        "--mode=evaluate",
        f"--run_dir={run_dir}",
        *data_dir,
        "--attacks=autoattack",
        f"--max_examples={AUTOATTACK_EXAMPLES.value}",
        f"--results_dir={autoattack}",
    )
    results, measured = accuracies(run_dir / "results.json")
    measured |= {
        "autoattack": accuracies(autoattack / "results.json")[1]["autoattack"]
    }
    return {
        "row": name,
        **measured,
        "training_minutes": results["training_seconds"] / 60,
    }


def main(_):
    """Runs all rows, and prints them."""
    unknown = set(ROW_NAMES.value) - set(ROWS)
    if unknown:
        sys.exit(
            f"error: `rows` are expected to be among {', '.join(ROWS)}. "
            f"Received: rows={','.join(sorted(unknown))}"
        )
    rows = [make_row(name) for name in ROW_NAMES.value]
    print("| row | clean | PGD-50-10 | AutoAttack | minutes |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['row']} | {row['clean']:.1f} | {row['pgd-50-10']:.1f} | "
            f"{row['autoattack']:.1f} | {row['training_minutes']:.1f} |"
        )
    if JSON_FILE.value:
        pathlib.Path(JSON_FILE.value).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    app.run(main)
