"""The model of many GPUs against hand-made numbers, and the page's table."""

from absl.testing import absltest, parameterized

from benchmarks import collectives, scaling_model
from benchmarks.collectives import Traffic
from benchmarks.scaling_model import Network, Step

# Round numbers: 100 GB/s within a host of 4, 10 GB/s between hosts.
NETWORK = Network(
    "test",
    between_hosts=10e9,
    within_host=100e9,
    reached=1.0,
    gpus_per_host=4,
    gathered_within_host=50e9,
    gathered_between_hosts=1e9,
)


class ModelTest(parameterized.TestCase):
    def test_one_gpu_exchanges_nothing(self):
        self.assertEqual(scaling_model.all_reduce_seconds(1e9, 1, NETWORK), 0)
        self.assertEqual(scaling_model.all_gather_seconds(1e9, 1, NETWORK), 0)

    @parameterized.parameters(
        # 2 * 3/4 * 1e9 / 1e11 = 15 ms, 6 hops of 3.4 us, and the start.
        (1e9, 4, 15e-3 + 6 * 3.4e-6 + 8.4e-6),
        # Two hosts: 2 * 7/8 * 1e9 / 1e10 = 175 ms; of 14 hops, 2 between hosts.
        (1e9, 8, 175e-3 + 12 * 3.4e-6 + 2 * 14e-6 + 8.4e-6),
        # A tree: 2 * (3 * 4 us within hosts + log2(2) * 14 us between), and
        # 2 * 1000 / 1e10 s.
        (1e3, 8, 2 * (3 * 4e-6 + 14e-6) + 0.2e-6 + 8.4e-6),
    )
    def test_all_reduce(self, size, gpus, expected):
        found = scaling_model.all_reduce_seconds(size, gpus, NETWORK)
        self.assertAlmostEqual(found / expected, 1, places=9)

    @parameterized.parameters(
        (1e9, 4, 3 * (1e9 / 50e9 + 20e-6)),
        (1e9, 8, 7 * (1.0 + 100e-6)),
    )
    def test_all_gather(self, size, gpus, expected):
        found = scaling_model.all_gather_seconds(size, gpus, NETWORK)
        self.assertAlmostEqual(found / expected, 1, places=9)

    def test_exchange(self):
        """Two sums of 5e8 bytes, and two gathers of 5e8."""
        found = scaling_model.exchange_seconds(
            Traffic(10**9, 10**9, 2, 2), 4, NETWORK
        )
        reduced = 15e-3 + 2 * (6 * 3.4e-6 + 8.4e-6)
        gathered = 3 * (20e-3 + 2 * 20e-6)
        self.assertAlmostEqual(found, reduced + gathered, places=12)

    def test_weak_scaling(self):
        step = Step(alone=0.09, replicated=0.1, batch=100, fixed=0.5)
        nothing = Traffic()
        found = scaling_model.efficiency(nothing, 8, NETWORK, step=step)
        self.assertAlmostEqual(found, 0.9)
        # As long as the step itself.
        traffic = Traffic(reduced=10**9, reductions=1)
        seconds = scaling_model.all_reduce_seconds(1e9, 8, NETWORK)
        found = scaling_model.efficiency(traffic, 8, NETWORK, step=step)
        self.assertAlmostEqual(found, 0.09 / (0.1 + seconds))

    def test_strong_scaling(self):
        """With half of the images, a step takes three quarters."""
        step = Step(alone=0.1, replicated=0.1, batch=100, fixed=0.5)
        found = scaling_model.efficiency(
            Traffic(), 8, NETWORK, step=step, batch=50
        )
        self.assertAlmostEqual(found, 0.5 * 0.1 / 0.075)
        # Half of the images are gathered.
        traffic = Traffic(gathered=10**9, gathers=1)
        found = scaling_model.efficiency(
            traffic, 4, NETWORK, step=step, batch=50
        )
        seconds = 3 * (10e-3 + 20e-6)
        self.assertAlmostEqual(found, 0.5 * 0.1 / (0.075 + seconds))


class PageTest(absltest.TestCase):
    def test_the_table_is_that_of_the_model(self):
        page = collectives.PAGE.read_text()
        table = scaling_model.write_table(
            collectives.read_table(page, scaling_model.BATCH)
        )
        begin, end = (
            f"<!-- {word}: {scaling_model.BLOCK} -->"
            for word in ("begin", "end")
        )
        self.assertIn(f"{begin}\n\n{table}\n\n{end}", page)


if __name__ == "__main__":
    absltest.main()
