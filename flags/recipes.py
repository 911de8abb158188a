"""Finds the recipes that come with the program."""

import pathlib

# Beside this folder, in a clone and where the package is installed.
TOP = pathlib.Path(__file__).absolute().parent.parent


def find(arguments):
    """Gives flagfiles that are recipes their whole path.

    Args:
        arguments: List of strings, the command line.

    Returns:
        The list with the path of the recipe that comes with the program in
        place of each `recipes/...` that is not in the working directory.

    Example:

    >>> find(["main.py", "--flagfile=mine.cfg"])
    ['main.py', '--flagfile=mine.cfg']
    """
    found = []
    for argument in arguments:
        flag, equals, path = argument.partition("=")
        if flag in ("-flagfile", "--flagfile") and equals:
            argument = f"{flag}={_whole(path)}"
        elif found and found[-1] in ("-flagfile", "--flagfile"):
            argument = _whole(argument)
        found.append(argument)
    return found


def _whole(path):
    recipe = TOP / path
    is_recipe = pathlib.Path(path).parts[:1] == ("recipes",)
    if is_recipe and recipe.is_file() and not pathlib.Path(path).exists():
        return str(recipe)
    return path
