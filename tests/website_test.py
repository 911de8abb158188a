"""Builds the documentation's website, and breaks it to see the build fail."""

import importlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import types

import pytest
from absl.testing import absltest

import fastbat_tf
from fastbat_tf import attacks, methods
from tests.support.command_line import TOP
from tests.support.documentation import exists, load_hooks


def undocumented(entries):
    """Returns the public names, or classes of modules, without an entry."""
    public = {}
    for name in fastbat_tf.__all__:
        value = getattr(fastbat_tf, name)
        if isinstance(value, types.ModuleType):
            members = {each: getattr(value, each) for each in value.__all__}
            public |= {k: v for k, v in members.items() if isinstance(v, type)}
        else:
            public[name] = value
    return [
        name
        for name, value in public.items()
        if not any(value is entry for entry in entries)
    ]


class ApiTest(absltest.TestCase):
    """Each public name has an entry in the API reference."""

    def entries(self):
        """Returns what the entries of all pages show, by their names."""
        hooks = load_hooks()
        paths = {
            path
            for page in sorted((TOP / "docs/api").glob("*.md"))
            for path in re.findall(
                r"(?m)^::: ([\w.]+)$",
                hooks.on_page_markdown(page.read_text()),
            )
        }
        found = {}
        for path in paths:
            module, _, name = path.rpartition(".")
            self.assertTrue(exists(path), path)
            found[path] = getattr(importlib.import_module(module), name)
        return found

    def test_every_public_name_has_an_entry(self):
        entries = self.entries()
        self.assertEqual(undocumented(entries.values()), [])
        del entries["fastbat_tf.training.classifier.RobustClassifier"]
        self.assertEqual(undocumented(entries.values()), ["RobustClassifier"])

    def test_every_method_and_attack_has_an_entry(self):
        hooks = load_hooks()
        classes = map(methods.get_class, methods.METHODS)
        self.assertSameElements(
            hooks.method_classes(),
            [f"{c.__module__}.{c.__name__}" for c in classes],
        )
        self.assertSameElements(
            hooks.attack_classes(),
            {
                f"fastbat_tf.attacks.{spec.class_name}"
                for spec in attacks.ATTACKS.values()
            },
        )


@pytest.mark.slow  # Each test builds it; `make lint` does so, too.
class WebsiteTest(absltest.TestCase):
    """The website builds from a copy of its sources."""

    def setUp(self):
        super().setUp()
        # The build then writes nothing into the repository.
        self.copy = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )
        hooks = load_hooks()
        sources = [
            path
            for folder in ("fastbat_tf", "models")
            for path in (TOP / folder).rglob("*.py*")
            if path.suffix in (".py", ".pyi")
        ]
        others = TOP / "mkdocs.yml", TOP / "docs/hooks.py"
        for path in (*hooks.published(), *sources, *others):
            target = self.copy / path.relative_to(TOP)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)

    def build(self):
        return subprocess.run(
            [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"],
            cwd=self.copy,
            env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
            capture_output=True,
            text=True,
        )

    def test_builds(self):
        process = self.build()
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(process.stderr, "")
        site = self.copy / "build/site"
        text = (site / "docs/api/classifier.html").read_text()
        self.assertIn("fastbat_tf.training.classifier.RobustClassifier", text)
        text = (site / "docs/api/methods.html").read_text()
        self.assertIn('id="fastbat_tf.methods.fastbat.FastBAT"', text)
        # Nothing is loaded from elsewhere.
        for page in site.rglob("*.html"):
            self.assertNotRegex(
                page.read_text(),
                r'<(script|img|iframe)[^>]* src="(https?:)?//|'
                r'<link[^>]* rel="(stylesheet|preconnect)"[^>]*"(https?:)?//',
            )

    def build_with(self, text):
        """Adds a text to a page, and returns what the failing build prints."""
        page = self.copy / "docs/serving.md"
        page.write_text(f"{page.read_text()}\n{text}\n")
        process = self.build()
        self.assertEqual(process.returncode, 1, process.stderr)
        return process.stderr

    def test_broken_links_fail(self):
        """A page, a heading and a Python name that do not exist."""
        said = self.build_with(
            "[a page](nowhere.md) [a heading](index.md#nowhere) "
            "[a name][fastbat_tf.Nothing]"
        )
        self.assertIn("contains a link 'nowhere.md'", said)
        self.assertIn("does not contain an anchor '#nowhere'", said)
        self.assertRegex(said, "cross-reference target.*fastbat_tf.Nothing")
        self.assertLen(said.splitlines(), 3)

    def test_an_entry_of_nothing_fails(self):
        self.assertIn(
            "fastbat_tf.methods.nothing",
            self.build_with("::: fastbat_tf.methods.nothing.Nothing"),
        )


if __name__ == "__main__":
    absltest.main()
