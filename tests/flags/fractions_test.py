"""Tests the flags whose values are fractions."""

from absl.testing import absltest, parameterized

from fastbat_tf.errors import InputError
from flags.fractions import FractionListParser


class FractionListTest(parameterized.TestCase):
    parse = FractionListParser().parse

    @parameterized.parameters(
        ("8/255", (8 / 255,)),
        ("8/255,0.5", (8 / 255, 0.5)),
        ("4/255:32/255:4/255", tuple(k / 255 for k in range(4, 33, 4))),
        ("0.1:0.5:0.1", (0.1, 0.2, 0.3, 0.4, 0.5)),
        # Up to STOP, which need not be one of them.
        ("1/255:6/255:2/255", (1 / 255, 3 / 255, 5 / 255)),
        ("0.3:0.3:1", (0.3,)),
        ("1/3:1:1/3,2,5/2:3:1/2", (1 / 3, 2 / 3, 1.0, 2.0, 2.5, 3.0)),
        (" 1/255 : 2/255 : 1/255 ", (1 / 255, 2 / 255)),
        ("1e-2:5e-2:2e-2", (0.01, 0.03, 0.05)),
        ("0.01:1:0.01", tuple(k / 100 for k in range(1, 101))),
    )
    def test_values(self, text, values):
        """The floats are those that Python makes of the fractions."""
        self.assertEqual(self.parse(text), values)

    @parameterized.parameters(
        "0/255:8/255:1/255",
        "0:1:0.5",
        "1:2",
        "1:2:1:1",
        ":2:1",
        "1/255:2/255:",
        "a:1:1",
        "1/0:2:1",
        "1/2/3:2:1",
        "8/255:2/255:1/255",
        "8/255:2/255:-1/255",
        "-1:1:1",
        "1:2:0",
        "nan:1:1",
        "1:inf:1",
        "0e400000000:1:1",  # Exact, it would not fit in memory.
        "1e-400000000:1:1",
    )
    def test_refused_ranges(self, text):
        with self.assertRaises(InputError) as caught:
            self.parse(f"0.5,{text}")
        self.assertEqual(
            str(caught.exception),
            "A range is expected as START:STOP:STEP with 0 < START <= STOP and "
            f"STEP > 0, such as 2/255:16/255:2/255. Received: {text!r}",
        )

    @parameterized.parameters(
        ("0.001:1:0.001", 1000),
        ("0.01:1:0.01,0.005", 101),
        (",".join(["0.5"] * 101), 101),
    )
    def test_too_many(self, text, count):
        with self.assertRaisesRegex(
            InputError, f"^At most 100 values are expected.* with {count}$"
        ):
            self.parse(text)

    def test_no_number(self):
        with self.assertRaisesRegex(InputError, "quotient.* Received: 'x'$"):
            self.parse("8/255,x")


if __name__ == "__main__":
    absltest.main()
