"""The command line as a user types it, for the records of a run."""

import shlex


def command(
    program: list[str],
    arguments: list[str],
    seed: int | None = None,
    run_dir: str | None = None,
) -> str:
    """Returns a command line in the syntax of a shell.

    Args:
        program: List of strings, such as `["python", "main.py"]`.
        arguments: List of strings, what the user has typed after it.
        seed: Integer, one of the seeds of `--seeds`, which is then alone.
            Defaults to `None`: the command as it is.
        run_dir: Path of the run of this seed, in place of that of all seeds.
            Defaults to `None`: the command gives none.

    Example:

    >>> command(["python", "main.py"], ["--seeds=0,1", "--epochs=2"], seed=1)
    'python main.py --epochs=2 --seed=1'
    """
    if seed is not None:
        arguments, given = _without(arguments, "seeds")
        # A flagfile has given them; an empty list takes them back.
        back = [] if given else ["--seeds="]
        if run_dir is not None:
            arguments, _ = _without(arguments, "run_dir")
            back.append(f"--run_dir={run_dir}")
        arguments = [*arguments, *back, f"--seed={seed}"]
    # Names of files may be no text.
    text = shlex.join([*program, *arguments])
    return text.encode(errors="replace").decode()


def _without(arguments, name):
    """Leaves out a flag; returns the others, and whether there was one."""
    kept, rest = [], iter(arguments)
    for argument in rest:
        flag, equals, _ = argument.partition("=")
        if flag not in (f"-{name}", f"--{name}"):
            kept.append(argument)
        elif not equals:
            next(rest, None)  # Its value.
    return kept, len(kept) < len(arguments)
