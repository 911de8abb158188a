"""What XLA has compiled is kept between processes, unless it is damaged."""

import os
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

import pytest
from absl.testing import absltest

from fastbat_tf.errors import InputError
from fastbat_tf.runtime import compilation_cache

# An integer, and five bytes, as protocol buffers write them.
WHOLE = bytes([8, 150, 1, 18, 5]) + b"hello"

PROGRAM = """
import sys
from fastbat_tf.runtime import compilation_cache
compilation_cache.use(sys.argv[1])
assert "tensorflow" not in sys.modules
import tensorflow as tf
step = tf.function(lambda x: tf.reduce_sum(x * x), jit_compile=True)
print(float(step(tf.range(5.0))))
"""


class CompilationCacheTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )
        self.enterContext(mock.patch.dict(os.environ))

    def test_flags_of_the_user_are_kept(self):
        os.environ["TF_XLA_FLAGS"] = "--tf_xla_auto_jit=2"
        path = compilation_cache.use(self.directory)
        self.assertEqual(
            os.environ["TF_XLA_FLAGS"],
            f"--tf_xla_auto_jit=2 --tf_xla_persistent_cache_directory={path}",
        )
        self.assertEqual(path.parent, self.directory)

    def test_damaged_programs_are_removed(self):
        path = compilation_cache.use(self.directory)
        contents = {
            "whole": WHOLE,
            "changed": WHOLE,
            "short": WHOLE[:-1],
            "cut_in_a_length": WHOLE[:4],
            "long": WHOLE + b"\0\0\0x",
            "empty": b"",
        }
        for name, content in contents.items():
            (path / f"{name}.pb").write_bytes(content)
        compilation_cache.use(self.directory)
        left = sorted(file.stem for file in path.glob("*.pb"))
        self.assertEqual(left, ["changed", "whole"])
        (path / "changed.pb").write_bytes(WHOLE.replace(b"hello", b"hallo"))
        compilation_cache.use(self.directory)
        left = sorted(file.stem for file in path.glob("*.pb"))
        self.assertEqual(left, ["whole"])

    def test_damaged_sums(self):
        path = compilation_cache.use(self.directory)
        (path / "whole.pb").write_bytes(WHOLE)
        (path / compilation_cache.SUMS).write_text("{")
        compilation_cache.use(self.directory)
        self.assertTrue((path / "whole.pb").exists())

    def test_another_machine_or_version(self):
        here = compilation_cache.use(self.directory)
        processor = self.directory / "cpuinfo"
        processor.write_text("model name : another\nMHz : 3\n")
        with mock.patch.object(compilation_cache, "PROCESSOR", processor):
            there = compilation_cache.use(self.directory)
            processor.write_text("model name : another\nMHz : 4\n")
            self.assertEqual(compilation_cache.use(self.directory), there)
        self.assertNotEqual(here, there)
        version = mock.Mock(return_value="0.1")
        with mock.patch("importlib.metadata.version", version):
            other = compilation_cache.use(self.directory)
        self.assertStartsWith(other.name, "tensorflow-0.1-")

    def test_not_a_directory(self):
        file = self.directory / "file"
        file.write_text("")
        with self.assertRaisesRegex(
            InputError, "a writable directory. Received: compilation_cache=.*"
        ):
            compilation_cache.use(file)

    @pytest.mark.slow
    def test_tensorflow_uses_it(self):
        def run():
            printed = subprocess.run(
                [sys.executable, "-c", PROGRAM, str(self.directory)],
                stdout=subprocess.PIPE,
                check=True,
                text=True,
            ).stdout
            (program,) = self.directory.glob("*/*.pb")
            return float(printed), program, program.stat().st_mtime_ns

        first = run()
        self.assertEqual(first[0], 30)
        self.assertEqual(run(), first)
        # A damaged one is compiled again.
        first[1].write_bytes(first[1].read_bytes()[:-100])
        again = run()
        self.assertEqual(again[:2], first[:2])
        self.assertGreater(again[2], first[2])


if __name__ == "__main__":
    absltest.main()
