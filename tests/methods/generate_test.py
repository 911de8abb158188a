"""What is generated from the classes of the methods."""

import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized

import fastbat_tf
from fastbat_tf import methods
from fastbat_tf.errors import InputError
from fastbat_tf.methods import generate, markdown, table
from fastbat_tf.methods.options import option


class GenerateTest(parameterized.TestCase):
    def test_files_are_up_to_date(self):
        self.assertEqual(generate.outdated(), {})

    def test_table_is_what_the_classes_declare(self):
        self.assertEqual(generate.discover(), table.METHODS)
        self.assertEqual(list(table.METHODS), sorted(table.METHODS))
        self.assertGreaterEqual(len(table.METHODS), 23)

    @parameterized.named_parameters(
        *zip(methods.METHODS, methods.METHODS, strict=True)
    )
    def test_class_is_exported(self, name):
        cls = methods.get_class(name)
        self.assertIs(getattr(fastbat_tf, cls.__name__), cls)

    def test_options_of_one_name_have_one_kind(self):
        spec = table.METHODS["fgsm"]
        other = spec._replace(options={"step_size": option(2)})
        with self.assertRaisesRegex(
            InputError,
            "^The flag --step_size is expected to be of one kind. "
            "Received: fraction for fgsm, integer for toy$",
        ):
            generate.check_kinds({"fgsm": spec, "toy": other})

    def test_reports_have_meanings(self):
        spec = table.METHODS["fastbat"]
        self.assertEqual(
            list(spec.reports),
            [
                "step_size",
                "interior_fraction",
                "implicit_ratio",
                "implicit_ratio_unclipped",
                "implicit_cosine",
            ],
        )
        self.assertEqual(table.METHODS["standard"].reports, {})
        rows = markdown.write_reports(table.METHODS, {})
        self.assertIn("| `robust_convergence_sign` | mean sign", rows)
        self.assertIn("| `fgsm_mep_cs`, `fgsm_rs_cs` |", rows)
        names = ("gradient_alignment",)
        cls = methods.get_class("gradalign")
        with mock.patch.object(cls, "reports", names):
            with self.assertRaisesRegex(
                InputError,
                "^A method of the library is expected to say what its reports "
                r"mean, .* Received: reports=\('gradient_alignment',\) of "
                "GradAlign$",
            ):
                generate.discover()

    def test_measured_times_stay(self):
        text = "| `fgsm` | 2 | 2 + 1 | 1.67 | 1.68 | 1.01 |\n"
        self.assertEqual(markdown.read_measured(text), {"fgsm": "1.68"})
        rows = markdown.write_costs(table.METHODS, {"fgsm": "1.68"})
        self.assertIn(text, rows)
        self.assertIn("| `pgd` | 3 | 3 + 1 | 2.33 | – | – |\n", rows)

    def top_with(self, **documents):
        """A repository with some documents."""
        directory = self.enterContext(tempfile.TemporaryDirectory())
        top = pathlib.Path(directory)
        (top / "fastbat_tf").mkdir()
        for name, text in documents.items():
            folder = "fastbat_tf" if name == "__init__" else "."
            ending = "pyi" if name == "__init__" else "md"
            (top / folder / f"{name}.{ending}").write_text(text)
        return top

    def test_blocks_of_documents(self):
        top = self.top_with(
            README="Before\n<!-- begin: method names -->\nold\n"
            "<!-- end: method names -->\nAfter\n"
        )
        texts = generate.generate(top)
        text = texts[top / "README.md"]
        self.assertRegex(
            text,
            r"^Before\n<!-- begin: method names -->\n\n`aaer`, (.|\n)*"
            r"`zerograd`\.\n\n<!-- end: method names -->\nAfter\n$",
        )
        self.assertIn(top / "README.md", generate.outdated(top))
        (top / "README.md").write_text(text)
        self.assertEqual(generate.generate(top)[top / "README.md"], text)

    def test_exports(self):
        top = self.top_with(
            __init__="# begin: methods\nold\n# end: methods\nrest\n"
        )
        text = generate.generate(top)[top / "fastbat_tf/__init__.pyi"]
        self.assertStartsWith(
            text,
            "# begin: methods\nfrom .methods.aaer import AAER as AAER\n"
            "from .methods.elle import ELLE as ELLE\n",
        )
        self.assertEndsWith(
            text,
            "\nfrom .methods.zerograd import ZeroGrad as ZeroGrad\n"
            "# end: methods\nrest\n",
        )

    def test_unknown_block(self):
        top = self.top_with(README="<!-- begin: nothing -->\n")
        with self.assertRaisesRegex(
            InputError, "Received: block=nothing in README.md$"
        ):
            generate.generate(top)

    def test_command(self):
        self.assertEqual(generate.main(["--check"]), 0)
        self.assertEqual(generate.main(["--write"]), 2)
        changed = {generate.TOP / "README.md": "changed"}
        with mock.patch.object(generate, "generate", lambda top: changed):
            self.assertEqual(generate.main(["--check"]), 1)
        self.assertNotEqual((generate.TOP / "README.md").read_text(), "changed")


if __name__ == "__main__":
    absltest.main()
