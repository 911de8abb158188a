"""What a file of extra images must be, and its fingerprint."""

import pathlib
import shutil
import tempfile
import zipfile
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized

from fastbat_tf import npz
from fastbat_tf.data import extra_files
from fastbat_tf.errors import InputError

SHAPE = 5, 4, 3
IMAGES = np.arange(7 * 60).reshape(7, *SHAPE).astype(np.uint8)
LABELS = np.arange(7) % 4


class ExtraFilesTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(directory, "extra.npz")

    def inspect(self, save=np.savez, **arrays):
        save(self.path, **{"image": IMAGES, "label": LABELS, **arrays})
        return extra_files.inspect(self.path, SHAPE)

    @parameterized.parameters(np.savez, np.savez_compressed)
    def test_what_it_holds(self, save):
        found = self.inspect(save)
        self.assertEqual(found.size, 7)
        labels = extra_files.read_labels(found, 4)
        np.testing.assert_array_equal(labels, LABELS)
        self.assertEqual(labels.dtype, np.int32)
        np.testing.assert_array_equal(extra_files.read_images(found), IMAGES)

    def test_stored_images_begin_at_the_offset(self):
        found = self.inspect()
        content = self.path.read_bytes()[found.images.offset :]
        self.assertEqual(content[: IMAGES.nbytes], IMAGES.tobytes())
        self.assertIsNone(self.inspect(np.savez_compressed).images.offset)

    def test_names_in_the_plural_and_other_arrays(self):
        np.savez(self.path, what=[1], labels=LABELS, images=IMAGES)
        found = extra_files.inspect(self.path, SHAPE)
        self.assertEqual(found.images.name, "images")
        self.assertEqual(found.labels.name, "labels")

    def test_fingerprint_is_that_of_the_contents(self):
        first = self.inspect().fingerprint
        other = self.path.with_name("b.npz")
        shutil.copy(self.path, other)
        self.assertEqual(extra_files.inspect(other, SHAPE).fingerprint, first)
        # Whether it is compressed does not matter.
        self.assertEqual(self.inspect(np.savez_compressed).fingerprint, first)
        changed = IMAGES.copy()
        changed[6, 4, 3, 2] ^= 1
        prints = {
            first,
            self.inspect(image=changed).fingerprint,
            self.inspect(label=LABELS[::-1]).fingerprint,
            self.inspect(image=IMAGES[:6], label=LABELS[:6]).fingerprint,
        }
        self.assertLen(prints, 4)

    @parameterized.parameters(
        ({"image": IMAGES.astype(np.int16)}, "image of int16"),
        ({"image": IMAGES[:, :4]}, r"shape \(7, 4, 4, 3\)"),
        ({"image": IMAGES[0]}, r"shape \(5, 4, 3\)"),
        ({"label": LABELS[:6]}, r"shape \(6,\)"),
        ({"label": LABELS / 1}, "float64"),
        ({"label": LABELS[:, None]}, r"shape \(7, 1\)"),
        ({"image": IMAGES[:0], "label": LABELS[:0]}, "with none"),
        ({"label": np.array([None] * 7)}, "array of numbers"),
        ({"image": np.asfortranarray(IMAGES)}, "by rows"),
    )
    def test_other_arrays_are_refused(self, arrays, received):
        with self.assertRaisesRegex(
            InputError, f"extra_data.*Received: extra_data=.*{received}"
        ):
            self.inspect(**arrays)

    @parameterized.parameters(-1, 4)
    def test_labels_out_of_range(self, label):
        labels = LABELS.copy()
        labels[3] = label
        found = self.inspect(label=labels)
        with self.assertRaisesRegex(InputError, rf"\[0, 4\).*{label}"):
            extra_files.read_labels(found, 4)

    def test_no_such_file(self):
        with self.assertRaisesRegex(InputError, "Received: .*No such file"):
            extra_files.inspect(self.path, SHAPE)

    def test_other_files(self):
        self.path.write_text("text")
        with self.assertRaisesRegex(InputError, "not a zip file"):
            extra_files.inspect(self.path, SHAPE)
        np.savez(self.path, x=IMAGES)
        with self.assertRaisesRegex(InputError, "Received: .*with x$"):
            extra_files.inspect(self.path, SHAPE)
        with zipfile.ZipFile(self.path, "w") as file:
            file.writestr("image.npy", b"no array")
        with self.assertRaisesRegex(InputError, "Received: .*magic"):
            extra_files.inspect(self.path, SHAPE)

    def test_a_truncated_file(self):
        self.inspect()
        content = self.path.read_bytes()
        self.path.write_bytes(content[: len(content) // 2])
        with self.assertRaisesRegex(InputError, "not a zip file"):
            extra_files.inspect(self.path, SHAPE)

    @parameterized.parameters(npz.FREE_BYTES, extra_files.MEMORY_LIMIT)
    def test_compressed_images_are_limited(self, limit):
        """Before memory is allocated: a bomb, and more than any file may."""
        found = self.inspect(np.savez_compressed)
        count = limit // 60 + 1
        images = found.images._replace(shape=(count, *SHAPE))
        with (
            mock.patch.object(np, "load", side_effect=AssertionError),
            self.assertRaisesRegex(InputError, "numpy.savez.*streamed.*GB"),
        ):
            extra_files.read_images(found._replace(images=images))

    @parameterized.parameters((10, 0.7, 7), (10, 0.25, 2), (3, 0.5, 2))
    def test_extra_in_batch(self, batch_size, fraction, expected):
        found = extra_files.extra_in_batch(batch_size, fraction)
        self.assertEqual(found, expected)

    @parameterized.parameters((10, 0.04), (10, 0.96), (1, 0.5))
    def test_batches_of_one_kind(self, batch_size, fraction):
        with self.assertRaisesRegex(InputError, f"batch_size={batch_size}$"):
            extra_files.extra_in_batch(batch_size, fraction)


if __name__ == "__main__":
    absltest.main()
