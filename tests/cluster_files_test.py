"""The files for clusters in docs/distributed, as far as one machine can run."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from unittest import mock

import yaml
from absl.testing import absltest, flagsaver, parameterized

import flags
from tests.support.command_line import TOP
from tests.support.documentation import read_commands

FOLDER = TOP / "docs/distributed"
# Says what main.py is called with.
SHOW = """\
import json, os, sys
print(json.dumps([sys.argv[1:], os.environ.get("TF_CONFIG")]))
"""


def resolve(tf_config):
    """Reads the cluster and the task with TensorFlow's own resolver."""
    import tensorflow as tf

    with mock.patch.dict(os.environ, {"TF_CONFIG": tf_config}):
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        return (
            resolver.cluster_spec().as_dict(),
            resolver.task_type,
            resolver.task_id,
        )


def run_with_python(command, **environment):
    """Runs a command with a `python` that says what it is called with."""
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "python")
        with open(program, "w") as file:
            file.write(f"#!{sys.executable}\n{SHOW}")
        os.chmod(program, 0o755)
        path = f"{folder}:{os.environ['PATH']}"
        answer = subprocess.run(
            command,
            env={"PATH": path, **environment},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
            timeout=60,
        )
    return json.loads(answer.stdout)


def check_arguments(arguments, variables):
    """Fails if main.py rejects the arguments, with these variables."""
    fail = mock.Mock(side_effect=AssertionError)
    with (
        flagsaver.flagsaver(),
        mock.patch.dict(os.environ, variables),
        mock.patch.object(flags.command, "fail", fail),
    ):
        flags.parse(["main.py", *arguments])
        flags.get_command()


class PageTest(parameterized.TestCase):
    @parameterized.parameters("slurm.sh", "kubernetes.yaml", "Dockerfile")
    def test_the_page_shows_the_file(self, name):
        page = (TOP / "docs/distributed.md").read_text()
        text = (FOLDER / name).read_text()
        self.assertIn(f"\n{text}```\n", page)


class KubernetesTest(absltest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        text = (FOLDER / "kubernetes.yaml").read_text()
        cls.service, cls.job = yaml.safe_load_all(text)
        cls.pod = cls.job["spec"]["template"]["spec"]
        [cls.container] = cls.pod["containers"]

    def start(self, index):
        """Runs the container's command as Kubernetes does in a pod."""
        given = {x["name"]: x["value"] for x in self.container["env"]}
        return run_with_python(
            [*self.container["command"], *self.container["args"]],
            JOB_COMPLETION_INDEX=str(index),
            **given,
        )

    def test_tf_config(self):
        count = self.job["spec"]["completions"]
        name = self.job["metadata"]["name"]
        domain = self.pod["subdomain"]
        [port] = [p["containerPort"] for p in self.container["ports"]]
        workers = [f"{name}-{i}.{domain}:{port}" for i in range(count)]
        for index in range(count):
            arguments, tf_config = self.start(index)
            self.assertEqual(
                resolve(tf_config), ({"worker": workers}, "worker", index)
            )
            self.assertEqual(arguments[0], "main.py")
            check_arguments(arguments[1:], {"TF_CONFIG": tf_config})

    def test_the_names_resolve(self):
        spec = self.job["spec"]
        self.assertEqual(spec["completionMode"], "Indexed")
        self.assertEqual(spec["parallelism"], spec["completions"])
        # A name without dots, or Kubernetes shortens the names of the pods.
        self.assertRegex(self.job["metadata"]["name"], "^[a-z][a-z0-9-]{,40}$")
        service = self.service["spec"]
        self.assertEqual(self.service["kind"], "Service")
        self.assertEqual(service["clusterIP"], "None")
        self.assertEqual(
            service["selector"], {"job-name": self.job["metadata"]["name"]}
        )
        self.assertEqual(
            self.pod["subdomain"], self.service["metadata"]["name"]
        )

    def test_volumes(self):
        mounted = [mount["name"] for mount in self.container["volumeMounts"]]
        declared = [volume["name"] for volume in self.pod["volumes"]]
        self.assertCountEqual(mounted, declared)


class SlurmTest(absltest.TestCase):
    script = FOLDER / "slurm.sh"

    def options(self):
        text = self.script.read_text()
        return dict(re.findall(r"(?m)^#SBATCH --([\w-]+)=(\S+)$", text))

    def variables(self, rank):
        """What `srun` sets for a task."""
        options = self.options()
        hosts, tasks = int(options["nodes"]), int(options["ntasks-per-node"])
        return {
            "SLURM_PROCID": str(rank),
            "SLURM_STEP_NUM_TASKS": str(hosts * tasks),
            "SLURM_STEP_NODELIST": f"gpu[01-{hosts:02}]",
            "SLURM_STEP_TASKS_PER_NODE": f"{tasks}(x{hosts})",
        }

    def test_bash_accepts_it(self):
        subprocess.run(["bash", "-n", self.script], check=True, timeout=60)

    def test_command(self):
        """`srun` starts main.py with flags that exist."""
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(self.script, folder)
            srun = os.path.join(folder, "srun")
            with open(srun, "w") as file:
                file.write('#!/bin/sh\nprintf "%s\\n" "$@"\n')
            os.chmod(srun, 0o755)
            answer = subprocess.run(
                ["bash", "slurm.sh"],
                cwd=folder,
                env={"PATH": f"{folder}:{os.environ['PATH']}"},
                stdout=subprocess.PIPE,
                check=True,
                text=True,
                timeout=60,
            )
        words = answer.stdout.splitlines()
        self.assertIn(".venv/bin/python", words)
        arguments = words[words.index("main.py") + 1 :]
        check_arguments(arguments, self.variables(rank=0))

    def test_tensorflow_resolves_the_tasks(self):
        """With the options of the script, on two hosts."""
        import tensorflow as tf

        options = self.options()
        hosts, tasks = int(options["nodes"]), int(options["ntasks-per-node"])
        addresses = [f"gpu{host + 1:02}:8888" for host in range(hosts)]
        for rank in range(hosts * tasks):
            with mock.patch.dict(os.environ, self.variables(rank)):
                resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
                    gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False
                )
                spec = resolver.cluster_spec().as_dict()
            self.assertEqual(spec, {"worker": addresses})
            self.assertEqual(resolver.task_id, rank)

    def test_every_process_sees_its_own_gpus(self):
        """Else, each of several would take all GPUs of the host."""
        options = self.options()
        if int(options["ntasks-per-node"]) > 1:
            self.assertIn("gpus-per-task", options)
        else:
            self.assertIn("gpus-per-node", options)


class DockerfileTest(absltest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        text = (FOLDER / "Dockerfile").read_text()
        lines = re.sub(r"(?m)^#.*\n|\\\n", "", text).splitlines()
        cls.steps = [line.split(maxsplit=1) for line in lines if line]

    def arguments(self, instruction):
        return [text for name, text in self.steps if name == instruction]

    def test_instructions(self):
        known = {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "ENTRYPOINT", "CMD"}
        self.assertLessEqual({name for name, _ in self.steps}, known)
        self.assertEqual(self.steps[0][0], "FROM")

    def test_what_is_copied(self):
        """It exists, and all that pip and main.py need is there."""
        copied = {}
        for text in self.arguments("COPY"):
            *sources, target = text.split()
            for source in sources:
                self.assertTrue((TOP / source).exists(), source)
                folder = (TOP / source).is_dir()
                copied[source] = target if folder else f"{target}/"
                if folder:  # Docker copies what is in it.
                    self.assertEqual(source, target)
        project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
        needed = {"main.py", "fastbat_tf", "flags", "models", "recipes"}
        needed |= {"pyproject.toml", project["readme"]}
        needed |= set(project["license-files"])
        [command] = self.arguments("RUN")
        needed |= {w for w in shlex.split(command) if w.endswith(".lock")}
        self.assertEqual(set(copied), needed)
        self.assertStartsWith(copied[project["readme"]], "docs/")

    def test_command(self):
        """It is the README's."""
        [entry], [command] = self.arguments("ENTRYPOINT"), self.arguments("CMD")
        words = json.loads(entry) + json.loads(command)
        self.assertIn(words, read_commands("README.md"))


if __name__ == "__main__":
    absltest.main()
