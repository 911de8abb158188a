"""Tests of the labels of charts: none covers another, none is cut off."""

from absl.testing import absltest, parameterized

from fastbat_tf.experiment.report import charts, labels


class LabelsTest(parameterized.TestCase):
    @parameterized.parameters(
        ([], []),
        ([3.0], [3.0]),
        ([1.0, 5.0, 1.0], [0.5, 5.0, 1.5]),
        ([2.0, 2.5, 9.0], [1.75, 2.75, 9.0]),
        # Heaps that meet become one.
        ([4.0, 4.0, 5.0, 5.0], [3.0, 4.0, 5.0, 6.0]),
        ([0.0, 0.0], [0.0, 1.0]),
        ([10.0, 10.0, 10.0], [8.0, 9.0, 10.0]),
    )
    def test_spread(self, places, expected):
        moved = labels.spread(places, 1.0, low=0.0, high=10.0)
        self.assertEqual(moved, expected)

    def test_ends_of_lines(self):
        names = [f"line {k}" for k in range(6)]
        with charts.style():
            figure, axes = charts.figure(height=2.0)
            axes.plot([1, 2], [0, 1])
            ends = [(0.9 + 0.01 * k, name, "k") for k, name in enumerate(names)]
            labels.label_ends(figure, axes, ends)
            figure.draw_without_rendering()
        boxes = {
            text.get_text(): text.get_window_extent() for text in axes.texts
        }
        self.assertEqual(list(boxes), names)
        ordered = sorted(boxes.values(), key=lambda box: box.y0)
        for lower, upper in zip(ordered[:-1], ordered[1:], strict=True):
            self.assertLessEqual(lower.y1, upper.y0 + 1)
        width, height = figure.get_size_inches() * figure.dpi
        self.assertLessEqual(max(box.x1 for box in ordered), width)
        self.assertLessEqual(max(box.y1 for box in ordered), height)

    def test_a_long_name_leaves_room_for_the_line(self):
        name = "a" * 200 + "/seed-1"
        with charts.style():
            figure, axes = charts.figure(height=2.0)
            axes.plot([1, 2], [0, 1])
            labels.label_ends(figure, axes, [(1.0, name, "k")])
            figure.draw_without_rendering()
        (text,) = axes.texts
        self.assertEndsWith(text.get_text(), "/seed-1")
        self.assertGreater(
            axes.get_window_extent().width / figure.dpi, charts.WIDTH / 2
        )

    @parameterized.parameters(
        (1, 1, [1]), (1, 2, [1, 2]), (1, 200, None), (7, 30, None)
    )
    def test_epochs(self, first, last, ticks):
        _, axes = charts.figure()
        labels.label_epochs(axes, first, last)
        shown = axes.get_xticks()
        self.assertTrue(all(tick == round(tick) for tick in shown))
        self.assertBetween(min(shown), first, last)
        self.assertBetween(max(shown), first, last)
        self.assertBetween(len(shown), 1, 12)
        if ticks:
            self.assertEqual(list(shown), ticks)

    def test_cut(self):
        text = "a class with a rather long name, number 9"
        for room in (0.4, 0.8, 1.5):
            short = labels.cut(text, room)
            self.assertLessEqual(labels.text_width(short), room)
            self.assertEqual(short[0], "a")
            self.assertEndsWith(short, "9")
        self.assertEqual(labels.cut(text, 9), text)
        self.assertEqual(labels.cut("", 1), "")
        self.assertEqual(labels.cut("word", 0.05), "w")

    def test_wrap(self):
        lines = labels.wrap("one two three four", 0.7).split("\n")
        self.assertEqual(lines, ["one two", "three", "four"])
        self.assertEqual(labels.wrap("indivisible", 0.1), "indivisible")


if __name__ == "__main__":
    absltest.main()
