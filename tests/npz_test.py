"""Tests files of arrays that come from someone else."""

import pathlib
import pickle
import tempfile
import tracemalloc
import zipfile

import numpy as np
from absl.testing import absltest, parameterized

from fastbat_tf import npz


class _Code:
    """A pickle of it creates a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


class ReadTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(directory, "file.npz")

    def test_arrays(self):
        arrays = {
            "pixels": np.arange(6.0).reshape(2, 3),
            "robust": np.array([True, False]),
            "names": np.array(["a", "bc"]),
            "seconds": np.float64(3.0),
        }
        for save in np.savez, np.savez_compressed:
            save(self.path, **arrays)
            found = npz.read(self.path)
            self.assertEqual(list(found), list(arrays))
            for name, array in arrays.items():
                np.testing.assert_array_equal(found[name], array)
                self.assertEqual(found[name].dtype, array.dtype)
        one = npz.read(self.path, {"robust": (2,)})
        self.assertEqual(list(one), ["robust"])

    def test_zeros(self):
        """Masks compress a thousandfold; they are small, and no bombs."""
        np.savez_compressed(self.path, robust=np.zeros(10**7, bool))
        self.assertLess(self.path.stat().st_size, 10**5)
        self.assertEqual(npz.read(self.path)["robust"].size, 10**7)

    @parameterized.parameters("object", "pickle", "array")
    def test_a_pickle(self, kind):
        mark = self.path.with_name("mark")
        code = _Code(mark)
        with self.path.open("wb") as file:
            if kind == "object":
                np.savez(file, planted=np.array([code], object))
            elif kind == "array":
                np.save(file, np.zeros(3))
            else:
                pickle.dump(code, file)
        mark.unlink(missing_ok=True)
        with self.assertRaises(ValueError):
            npz.read(self.path)
        self.assertFalse(mark.exists())

    def plant(self, shape, content):
        header = {"descr": "<f8", "fortran_order": False, "shape": shape}
        with zipfile.ZipFile(self.path, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open("x.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_2_0(file, header)
                for block in content:
                    file.write(block)

    @parameterized.parameters((10**12, []), (10**5, [bytes(100)]))
    def test_less_than_declared(self, size, content):
        self.plant((size,), content)
        with self.assertRaisesRegex(ValueError, "x is not an array"):
            npz.read(self.path)

    def test_a_bomb(self):
        blocks = npz.FREE_BYTES // 2**20 + 1
        self.plant((blocks * 2**17,), (bytes(2**20) for _ in range(blocks)))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        with self.assertRaisesRegex(ValueError, "decompression bomb"):
            npz.read(self.path)
        self.assertLess(tracemalloc.get_traced_memory()[1], 2**24)
        with self.assertRaisesRegex(ValueError, "x has the shape"):
            npz.read(self.path, {"x": (3,)})

    def test_other_shapes(self):
        np.savez(self.path, x=np.zeros((2, 3)))
        with self.assertRaisesRegex(ValueError, r"x has the shape \(2, 3\)"):
            npz.read(self.path, {"x": (3, 2)})
        with self.assertRaises(KeyError):
            npz.read(self.path, {"y": ()})


if __name__ == "__main__":
    absltest.main()
