"""The recipes: they parse, and their comments are right."""

import contextlib
import re
import tempfile

import numpy as np
from absl.testing import absltest, flagsaver, parameterized

import flags
from tests.support.command_line import TOP

RECIPES = TOP / "recipes"
ALL = sorted(path.relative_to(RECIPES) for path in RECIPES.rglob("*.cfg"))

# The sources of numbers that a head comment may name.
SOURCE = r"Source: .*\(arXiv \d{4}\.\d{5}\)|Measured"


def head(recipe):
    """The lines of the comment at the head of a recipe, without `#`."""
    comment = re.match(r"(#.*\n)+", (RECIPES / recipe).read_text())
    return comment[0].replace("#", "") if comment else ""


def words(recipe):
    """The head comment in one line."""
    return " ".join(head(recipe).split())


def commands(recipe):
    """Lists of the arguments that the head comment gives `main.py`."""
    joined = head(recipe).replace("\\\n", "")
    return [
        command.split()
        for command in re.findall(r"^ +python main\.py (.*)$", joined, re.M)
    ]


def write_extra_images(path):
    """Writes what stands for the published images that some recipes add."""
    images = np.zeros((1024, 32, 32, 3), np.uint8)
    labels = np.zeros(1024, np.int64)
    np.savez(path, image=images, label=labels)


def parse(arguments):
    """The checked `Config` of a command line."""
    with contextlib.chdir(TOP), flagsaver.flagsaver():
        flags.parse(["main.py", *arguments])
        return flags.get_command().config


def readme_rows():
    """Dict from recipes to the numbers in their rows of the README."""
    rows = re.findall(
        r"^\| \[.*\]\((.*\.cfg)\) .*\| ([^|]*) \|$",
        (RECIPES / "README.md").read_text(),
        re.M,
    )
    return {recipe: re.findall(r"\d+\.\d+", cell) for recipe, cell in rows}


@parameterized.named_parameters((f"_{path}", path) for path in ALL)
class RecipeTest(parameterized.TestCase):
    def test_command(self, recipe):
        (arguments,) = commands(recipe)
        self.assertIn(f"--flagfile=recipes/{recipe}", arguments)
        data_dir = self.enterContext(tempfile.TemporaryDirectory())
        write_extra_images(f"{data_dir}/1m.npz")
        config = parse([a.replace("DIR", data_dir) for a in arguments])
        epsilon = config.method.options["epsilon"]
        self.assertEqual(config.evaluation.epsilons, (epsilon,))
        self._check_name(recipe, config)

    def _check_name(self, recipe, config):
        if recipe.parent.name:
            self.assertStartsWith(recipe.stem, f"{config.data.dataset}_")
        _, named, gray_levels = recipe.stem.rpartition("_eps")
        if named:
            parts = (
                config.data.dataset,
                config.model.model,
                config.method.method,
            )
            expected = "_".join(parts) + named + gray_levels
            self.assertEqual(recipe.stem, expected)
            epsilon = config.method.options["epsilon"]
            self.assertAlmostEqual(255 * epsilon, int(gray_levels))

    def test_is_self_contained(self, recipe):
        text = (RECIPES / recipe).read_text()
        self.assertNotRegex(text, r"(?m)^--(flagfile|data_dir|run_dir)")
        given = re.findall(r"(?m)^--(?:no)?(\w+)", text)
        self.assertLen(set(given), len(given))

    def test_source(self, recipe):
        self.assertRegex(words(recipe), SOURCE)

    def test_readme(self, recipe):
        rows = readme_rows()
        self.assertIn(str(recipe), rows)
        for number in rows[str(recipe)]:
            self.assertRegex(words(recipe), rf"(?<![\d.]){number}(?![\d.]\d)")


class ReadmeTest(absltest.TestCase):
    def test_names_no_other_files(self):
        self.assertNotEmpty(ALL)
        self.assertEqual(sorted(readme_rows()), sorted(map(str, ALL)))


if __name__ == "__main__":
    absltest.main()
