"""Random flags: a refused command says why, and writes nothing."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import hypothesis
import pytest
from absl import flags as absl_flags
from absl.testing import absltest
from hypothesis import strategies as st

import flags
from tests.support.command_line import TOP, user_environment

# Forks for each command, and stops it where the run directory would be made.
SERVER = """
import json, os, sys
import flags
from fastbat_tf.errors import InputError
from fastbat_tf.experiment.run_directory import RunDirectory
from flags import program

WHOLE = sys.argv[1] == "whole"
if WHOLE:
    from fastbat_tf import models
    from fastbat_tf.experiment import evaluate, train

def begin(*_):
    os._exit(0)

RunDirectory.create = begin
for line in sys.stdin:
    directory, arguments = json.loads(line)
    process = os.fork()
    if not process:
        status = 70
        os.chdir(directory)
        output = os.open("../output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        try:
            flags.parse(["main.py", *arguments])
            if WHOLE:
                program.main(None)
            else:
                try:
                    flags.get_command()
                except InputError as error:  # As in `main`.
                    flags.fail(error)
            status = 0
        except SystemExit as error:
            status = error.code
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(process, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""

NAMES = sorted(
    flag.name
    for group in flags.command.GROUPS
    for flag in absl_flags.FLAGS.flags_by_module_dict()[group.__name__]
)
KNOWN = (
    "auto never must true false train evaluate export none mirrored cifar10 "
    "cifar10_mini folder mnist imagenet2012 gtsrb fastbat fastat pgd standard "
    "gradalign preact_resnet18 wrn16_8 wrn10_1 keras:VGG16 relu swish sgd adam "
    "lamb adamw l2 linf decoupled kernels all crossentropy dlr same cyclic "
    "onecycle multistep cosine constant piecewise quadratic epoch batch "
    "pgd-50-10 autoattack apgd-ce+square transfer-fgsm random fgsm ns-pgd "
    "exact finite_difference cifar imagenet 8/255 8/0 0,1 0.5,0.75 15min 500"
).split()
VALUES = st.one_of(
    st.sampled_from(KNOWN),
    st.integers(-(10**20), 10**20).map(str),
    st.floats().map(str),
    st.fractions().map(str),
    st.lists(st.floats(-1, 2).map(str), max_size=3).map(",".join),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)
FLAGS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(NAMES), VALUES).map(lambda x: "--%s=%s" % x),
        st.sampled_from(NAMES).map("--{}".format),
        st.sampled_from(NAMES).map("--no{}".format),
    ),
    max_size=4,
)
# If these are accepted, a network is built in a moment.
SMALL = st.lists(
    st.sampled_from(
        "--method=pgd --method=fastbat --steps=3 --epsilon=0 --epsilon=16/255 "
        "--model=wrn10_1 --model=resnet18 --model=keras:ResNet50 "
        "--model=keras:ConvNeXtTiny --stem=imagenet --dropout=0.3 "
        "--dataset=mnist --dataset=folder --dataset=stl10 --data_dir=. "
        "--data_dir=/nowhere --image_size=8 --validation_share=0.001 "
        "--validation_share=0.9999 --batch_size=1 --batch_size=4000 "
        "--batch_size=7 --strategy=mirrored --validation_examples=401 "
        "--max_examples=1001 --optimizer=lamb --nesterov --clip_norm=1 "
        "--schedule=onecycle --warmup_epochs=1 --weight_averaging=0.9 "
        "--loss=dlr --label_smoothing=0.3 --init_weights=. --run_dir=../run "
        "--run_dir=/proc/run --resume=must --resume=never --mode=evaluate "
        "--mode=export --attacks=transfer-fgsm --surrogate=none.keras "
        "--model_path=none.keras --norm=l2 --epsilons=0.5 --noaugment "
        "--flagfile=none.cfg --deterministic --save_every=0".split()
    ),
    max_size=4,
)


class FlagsFuzzTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = pathlib.Path(scratch, "here")
        self.directory.mkdir()

    def start(self, how):
        self.server = self.enterContext(
            subprocess.Popen(
                [sys.executable, "-c", SERVER, how],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**user_environment(), "PYTHONPATH": str(TOP)},
                text=True,
            )
        )
        self.addCleanup(self.server.stdin.close)

    def check(self, arguments):
        """The status is 0, or 2 with one line; nothing is written."""
        self.server.stdin.write(json.dumps([str(self.directory), arguments]))
        self.server.stdin.write("\n")
        self.server.stdin.flush()
        status = int(self.server.stdout.readline())
        output = (self.directory.parent / "output").read_text(errors="replace")
        hypothesis.note(output)
        if status == 2:
            # absl's own messages may quote a value, with its line ends.
            self.assertRegex(output.splitlines()[-1], "^error: .")
            self.assertLen(output.splitlines(), 1)
        else:
            help_wanted = any("help" in argument for argument in arguments)
            self.assertTrue(status == 0 or help_wanted, output)
        self.assertNotIn("Traceback", output)
        self.assertEqual(os.listdir(self.directory), [])
        self.assertFalse((self.directory.parent / "run").exists())

    def test_flags(self):
        self.start("flags")

        @hypothesis.settings(max_examples=400, deadline=None)
        @hypothesis.given(FLAGS)
        def check(arguments):
            self.check(arguments)

        check()

    def test_flag_files(self):
        self.start("flags")
        file = self.directory.parent / "flags.cfg"

        @hypothesis.settings(max_examples=150, deadline=None)
        @hypothesis.given(
            st.one_of(
                FLAGS.map(lambda lines: "\n".join(lines).encode()),
                st.binary(max_size=40),
            )
        )
        def check(content):
            file.write_bytes(content)
            self.check([f"--flagfile={file}"])

        check()

    @pytest.mark.slowest
    def test_commands(self):
        self.start("whole")
        base = ["--dataset=cifar10_mini", "--width=1", "--epochs=1"]

        @hypothesis.settings(max_examples=40, deadline=None)
        @hypothesis.given(SMALL)
        def check(arguments):
            self.check([*base, *arguments])

        check()


if __name__ == "__main__":
    absltest.main()
