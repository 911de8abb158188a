"""Text for people."""

from absl.testing import absltest, parameterized

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


if __name__ == "__main__":
    absltest.main()
