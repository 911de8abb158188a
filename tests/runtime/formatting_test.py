"""Text for people."""

import random

import numpy as np
from absl.testing import absltest, parameterized

from fastbat_tf.experiment.config import parse_fraction
from fastbat_tf.runtime import formatting


class DurationTest(parameterized.TestCase):
    @parameterized.parameters(
        (0, "0 s"),
        (1.4, "1 s"),
        (119, "119 s"),
        (120, "2 min"),
        (200, "3 min"),
        (3540, "59 min"),
        (3599, "1 h 0 min"),
        (5000, "1 h 23 min"),
        (100 * 3600, "100 h 0 min"),
    )
    def test_duration(self, seconds, expected):
        self.assertEqual(formatting.duration(seconds), expected)


class RadiusTest(parameterized.TestCase):
    @parameterized.parameters(
        (8 / 255, "8/255", "8/255"),
        (1 / 255, "1/255", "1/255"),
        (1.25 * 8 / 255, "10/255", "10/255"),
        (0.5 / 255, "0.5/255", "0.5/255"),
        (5000 / 255, "5000/255", "5000/255"),
        # Near 8/255 or 80/255, but other numbers.
        (0.0314, "0.0314", "0.0314"),
        (0.03137, "0.03137", "0.03137"),
        (0.031373, "0.031373", "0.031373"),
        (0.3137, "0.3137", "0.3137"),
        (0.03, "0.03", "0.03"),
        # Rounded to float32.
        (float(np.float32(8 / 255)), "8/255", "8/255"),
        (float(np.float32(0.1)), "0.1", "0.1"),
        # Short in both forms.
        (0.2, "51/255", "0.2"),
        (0.5, "0.5", "0.5"),
        (128 / 255, "128/255", "128/255"),
        (1.0, "1", "1"),
        (0.0, "0", "0"),
        (12, "12", "12"),
        (1e300, "1e+300", "1e+300"),
        ((8 / 255, 0.0314), "8/255,0.0314", "8/255,0.0314"),
    )
    def test_radius(self, value, linf, l2):
        self.assertEqual(formatting.radius(value), linf)
        self.assertEqual(formatting.radius(value, "l2"), l2)

    def test_all_gray_levels(self):
        for level in range(1, 255):
            text = formatting.radius(level / 255)
            self.assertEqual(text, f"{level}/255")
            self.assertEqual(parse_fraction(text), level / 255)

    @parameterized.parameters(3, 5, 7, 9)
    def test_is_the_value(self, digits):
        """Whatever people type, the text stands for the same number."""
        draw = random.Random(digits)
        for _ in range(200):
            value = float(f"{draw.uniform(0, 3):.{digits}g}")
            for norm in ("linf", "l2"):
                text = formatting.radius(value, norm)
                self.assertAlmostEqual(
                    parse_fraction(text), value, delta=1.1e-7 * value
                )

    @parameterized.parameters(
        (300 / 255, "300/255"),
        (8 / 255, "8/255"),
        (-0.1, "-0.1"),
        (2.0, "2.0"),
        (2, "2"),
        (float("nan"), "nan"),
        (0.123456789, "0.123456789"),
        ([8 / 255, 0.1], "[8/255, 0.1]"),
        ("'8/255'", "'8/255'"),
    )
    def test_as_given(self, value, expected):
        self.assertEqual(formatting.as_given(value), expected)


class LinesTest(absltest.TestCase):
    def test_places_depend_on_the_names(self):
        def lines(*values):
            names = ("val_gap", "alarm", "a_long_name")
            return formatting.in_pairs(
                list(zip(names, values, strict=True)), 60
            )

        one = lines("0.0001", "-1.234e-05", "3")
        other = lines("1", "0", "1.234")
        self.assertLen(one, 2)
        for line, expected in zip(one, other, strict=True):
            for name in ("val_gap", "alarm", "a_long_name"):
                self.assertEqual(line.find(name), expected.find(name))
        self.assertEqual(one[0].index("-1.2"), other[0].rindex("0"))

    def test_one_below_the_other(self):
        named = [("a" * 30, "1"), ("b" * 30, "2")]
        self.assertLen(formatting.in_pairs(named, 60), 2)

    def test_beside(self):
        self.assertEqual(
            formatting.beside("12:34", "one two three", 20),
            "12:34 one two three",
        )
        self.assertEqual(
            formatting.beside("12:34", "one two three four", 20),
            "12:34 one two three\n      four",
        )
        self.assertEqual(
            formatting.beside("12:34", "  1/3  8/255\nmore", None),
            "12:34   1/3  8/255\n      more",
        )


if __name__ == "__main__":
    absltest.main()
