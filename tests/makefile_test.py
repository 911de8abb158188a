"""The set-up by `make`: which Python, and which lock file."""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from absl.testing import absltest, parameterized

from tests.support.command_line import TOP

LOCKS = "requirements.lock", "requirements-gpu.lock"
# The programs that `make` calls, without the machine's Pythons.
TOOLS = "cp", "grep", "make", "mkdir", "sh", "touch"

# Answers the Makefile's questions as the Python of a version would, and logs
# the other commands it is given.
FAKE_PYTHON = """\
#!/bin/sh
if [ "$1" = -c ]; then
  exec {python} -I -c 'import sys
sys.version_info = {version}
sys.modules.update(dict.fromkeys("{missing}".split()))
exec(sys.argv[1])' "$2"
fi
[ "$2" = venv ] && mkdir -p .venv/bin && cp "$0" .venv/bin/python
echo "{name} $*" >> log
"""


class MakefileTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = pathlib.Path(directory)
        self.programs = self.directory / "bin"
        self.programs.mkdir()
        for name in ("Makefile", *LOCKS):
            shutil.copy(TOP / name, self.directory)
        for name in TOOLS:
            (self.programs / name).symlink_to(shutil.which(name))

    def add_program(self, name, text):
        path = self.programs / name
        path.write_text(text)
        path.chmod(0o755)

    def add_python(self, name, *version, missing=""):
        self.add_program(
            name,
            FAKE_PYTHON.format(
                python=sys.executable,
                name=name,
                version=(*version, 0),
                missing=missing,
            ),
        )

    def make(self, *arguments):
        return subprocess.run(
            ["make", *arguments],
            cwd=self.directory,
            env={"PATH": str(self.programs)},
            capture_output=True,
            text=True,
        )

    def lines(self):
        """The commands that the Pythons were given."""
        process = self.make("demo", "LOCK=requirements.lock")
        self.assertEqual(process.returncode, 0, process.stderr)
        return (self.directory / "log").read_text().splitlines()

    def assert_refused(self, message, *arguments):
        process = self.make("demo", *arguments)
        self.assertEqual(process.returncode, 2)
        self.assertEqual(process.stdout, "")
        self.assertEqual(process.stderr.count("\n"), 1, process.stderr)
        self.assertRegex(process.stderr, message)
        self.assertFalse((self.directory / ".venv").exists())

    @parameterized.parameters(
        ("python3.11", 3, 11),
        ("python3.12", 3, 12),
        ("python3.13", 3, 13),
        ("python3", 3, 12),
        ("python", 3, 13),
    )
    def test_any_of_the_versions(self, name, *version):
        self.add_python(name, *version)
        self.assertEqual(
            self.lines(),
            [
                f"{name} -m venv --clear .venv",
                f"{name} -m pip install --requirement requirements.lock",
                f"{name} main.py --flagfile=recipes/demo.cfg",
            ],
        )

    def test_the_first_that_is_whole(self):
        # As pyenv's shims do.
        self.add_program("python3.11", "#!/bin/sh\nexit 127\n")
        self.add_python("python3.12", 3, 12, missing="ensurepip")
        self.add_python("python3.13", 3, 13)
        self.add_python("python3", 3, 12)
        self.assertStartsWith(self.lines()[0], "python3.13 -m venv")

    def test_it_is_installed_once(self):
        self.add_python("python3.12", 3, 12)
        self.assertLen(self.lines(), 3)
        (self.programs / "python3.12").unlink()
        self.assertLen(self.lines(), 4)
        (self.directory / "requirements.lock").touch()
        process = self.make("demo", "LOCK=requirements.lock")  # Set up again.
        self.assertEqual(process.returncode, 2)
        self.assertIn("Python 3.11, 3.12 or 3.13", process.stderr)

    def test_none(self):
        message = (
            "Python 3.11, 3.12 or 3.13 is expected: install one.* PYTHON=.*"
            "Looked for: python3.11 python3.12 python3.13 python3 python"
        )
        self.assert_refused(message)
        self.add_python("python3", 3, 10)
        self.add_python("python", 3, 14)
        self.assert_refused(message)

    def test_the_users_choice(self):
        for name, minor in (("python3.11", 11), ("mine", 12), ("old", 10)):
            self.add_python(name, 3, minor)
        for name in ("old", "absent"):
            self.assert_refused(
                rf"is expected.* {name}\.  Stop", f"PYTHON={name}"
            )
        process = self.make("-n", "demo", "PYTHON=mine")
        self.assertStartsWith(process.stdout, "mine -m venv")

    def test_without_venv(self):
        self.add_python("python3.12", 3, 12, missing="ensurepip")
        self.assert_refused(
            "python3.12 lacks its module venv.* apt-get install python3.12-venv"
        )

    def test_a_driver_brings_cuda(self):
        self.add_python("python3.12", 3, 12)
        self.add_program("nvidia-smi", "#!/bin/sh\n")
        for target in ("demo", "check", "test", "lint"):
            process = self.make("-n", target)
            self.assertIn("requirements-gpu.lock", process.stdout)
        (self.programs / "nvidia-smi").unlink()
        libraries = subprocess.run(
            ["/sbin/ldconfig", "-p"], capture_output=True, text=True
        )
        if "libcuda.so.1" in libraries.stdout or (
            pathlib.Path("/proc/driver/nvidia/version").exists()
        ):
            self.skipTest("There is a driver.")
        process = self.make("-n", "demo")
        self.assertNotIn("gpu", process.stdout)


class LockTest(absltest.TestCase):
    """The second lock file adds CUDA's libraries to the first."""

    def pins(self, name):
        lines = (TOP / name).read_text().splitlines()
        return {line for line in lines if re.match(r"\w", line)}

    def test_the_same_versions(self):
        plain, gpu = map(self.pins, LOCKS)
        self.assertEqual(plain - gpu, set())
        self.assertNotEmpty(gpu - plain)
        for line in gpu - plain:
            self.assertRegex(line, r"^nvidia-.*; sys_platform == 'linux'$")
        for library in ("cudnn", "cublas", "cuda-runtime", "cufft"):
            self.assertTrue(any(library in line for line in gpu - plain))

    def test_they_hold_from_3_11_on(self):
        """No pin is for one version of Python only."""
        for name in LOCKS:
            text = (TOP / name).read_text()
            self.assertIn("--universal --python-version 3.11", text)
            self.assertNotIn("python_full_version < '3.11'", text)


if __name__ == "__main__":
    absltest.main()
