"""The devices of a training."""

import contextlib
import faulthandler
import functools
import numbers
import os
import pathlib
import re
import subprocess
import sys

import keras
import tensorflow as tf

from fastbat_tf import cluster
from fastbat_tf.errors import InputError, WorkerLostError

# How TensorFlow reports that a worker is gone: its process, its network, or its
# heartbeats. A collective that was in progress is cancelled or aborted.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.DeadlineExceededError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.InternalError,
    tf.errors.FailedPreconditionError,
)
# Prints a line after some seconds, unless the process that asked for it ends.
PRINTER = """
import select, sys
if not select.select([sys.stdin], [], [], float(sys.argv[1]))[0]:
    print("error:", sys.argv[2], file=sys.stderr)
"""


def get_strategy(name: str, timeout: float = 300) -> tf.distribute.Strategy:
    """Returns the distribution strategy for a name.

    A strategy of several workers must be made before TensorFlow runs an
    operation. It waits for all workers.

    Args:
        name: `"none"`, one device; `"mirrored"`, all GPUs, or all logical CPU
            devices if there is no GPU; `"multiworker"`, all GPUs of all workers
            that `TF_CONFIG` or Slurm describes; `"tpu"`, a TPU, which nobody
            has tried; or `"auto"`: multiworker if there are several workers,
            else mirrored if there is more than one GPU.
        timeout: Float, seconds within which all workers must come up, and
            after which one that does not answer is lost. Defaults to `300`.

    Returns:
        A `tf.distribute.Strategy`, the same one in each call.

    Raises:
        InputError: If there are no workers or no TPU, or if the environment
            does not describe them as expected.
        WorkerLostError: If workers do not come up.
    """
    found = cluster.check(name)
    if found is not None:
        return _multi_worker(found, timeout)
    if name == "tpu":
        return _tpu()
    gpus = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return _mirrored(tuple(device.name for device in devices))
    return tf.distribute.get_strategy()


@functools.cache  # A second strategy would use the same collective keys.
def _mirrored(devices):
    return tf.distribute.MirroredStrategy(devices)


@functools.cache  # A process belongs to one cluster.
def _multi_worker(found, timeout):
    resolver = _resolver(found)
    spec = resolver.cluster_spec()
    addresses = [
        address
        for job in cluster.JOBS
        for address in spec.as_dict().get(job, ())
    ]
    gpus = tf.config.list_physical_devices("GPU")
    cluster.check_own_gpus(addresses, found.index, len(gpus))
    cluster.wait_for_all(addresses[0], found, timeout)
    _watch_workers(spec, timeout)
    # All workers were up a moment ago.
    lost = (
        f"Another of the {found.count} workers has ended before TensorFlow "
        "started; expected the same command on each host. Received: "
    )
    try:
        with _ends_after(timeout, f"{lost}no answer for {timeout:g} seconds"):
            return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except LOST as error:
        raise WorkerLostError(lost + str(error).splitlines()[0]) from error
    except tf.errors.UnknownError as error:  # A port that is in use.
        raise InputError(
            "TensorFlow is expected to start at this worker's address. "
            f"Received: {addresses[found.index]} ({error})"
        ) from error


def _resolver(found):
    resolvers = tf.distribute.cluster_resolver
    if found.source == cluster.VARIABLE:
        return resolvers.TFConfigClusterResolver()
    # Slurm shows each task its own GPUs, as with --gpus-per-task; TensorFlow's
    # resolver divides those of a host.
    gpus = len(tf.config.list_physical_devices("GPU"))
    # Jobs that share a host need different ports.
    port = 15000 + int(os.environ.get("SLURM_JOB_ID", 0)) % 10000
    try:
        slurm = resolvers.SlurmClusterResolver(
            port_base=port,
            gpus_per_node=found.count,
            gpus_per_task=1,
            auto_set_gpu=False,
        )
        # It sorts hosts by name, gpu10 before gpu9. Slurm numbers its tasks in
        # the order of its own list.
        hosts = slurm._resolve_hostlist()
        addresses = sorted(
            slurm.cluster_spec().job_tasks("worker"),
            key=lambda address: hosts.index(address.rpartition(":")[0]),
        )
    except (RuntimeError, ValueError) as error:
        raise InputError(
            "Slurm's variables are expected to describe the tasks of one srun. "
            f"Received: {error}"
        ) from error
    cluster.check_slurm_host(addresses[found.index], found.index)
    return resolvers.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": addresses}),
        task_type="worker",
        task_id=found.index,
        rpc_layer="grpc",
        num_accelerators={"GPU": gpus},
    )


def _watch_workers(spec, timeout):
    """Sets the time after which a worker without heartbeats is lost.

    The strategy would set up the same service with TensorFlow's own times.
    """
    from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
    from tensorflow.python.eager import context

    jobs = [job for job in cluster.JOBS if job in spec.jobs]
    milliseconds = round(1000 * timeout)
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{jobs[0]}/replica:0/task:0",
        cluster_register_timeout_in_ms=milliseconds,
        heartbeat_timeout_in_ms=milliseconds,
        coordinated_jobs=[
            coordination_config_pb2.CoordinatedJob(  # type: ignore
                name=job, num_tasks=spec.num_tasks(job)
            )
            for job in jobs
        ],
    )


@contextlib.contextmanager
def _ends_after(seconds, line):
    """Ends the process with a line if a `with` block takes longer.

    TensorFlow waits with Python locked, so only a timer in C can end this
    process, and only another process can print.
    """
    arguments = [sys.executable, "-I", "-S", "-c", PRINTER, str(seconds), line]
    with (
        open(os.devnull, "w") as nowhere,
        subprocess.Popen(arguments, stdin=subprocess.PIPE) as printer,
    ):
        # A second later than the line.
        faulthandler.dump_traceback_later(seconds + 1, exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            printer.kill()


@functools.cache
def _tpu():
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise InputError(
            "--strategy=tpu expects a TPU, by its name in TPU_NAME. "
            f"Received: {str(error).splitlines()[0]}"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def check_batch_size(batch_size, strategy):
    """Rejects a batch size that the replicas cannot share evenly.

    Args:
        batch_size: Integer, images per step, over all replicas.
        strategy: A `tf.distribute.Strategy`.

    Raises:
        InputError: If it is not a multiple of the number of replicas.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise InputError(
            f"`batch_size` is expected to be a multiple of the {replicas} "
            f"replicas. Received: batch_size={batch_size}"
        )


def check_steps_per_execution(steps):
    """Rejects a number of steps per execution that is none.

    Args:
        steps: Integer, the `steps_per_execution` of `compile`.

    Raises:
        InputError: If `steps` is not a positive integer.
    """
    if not isinstance(steps, numbers.Integral) or steps < 1:
        raise InputError(
            "`steps_per_execution` is expected to be an integer of at least 1. "
            f"Received: steps_per_execution={steps}"
        )


def has_accelerator():
    """Whether there is a GPU or TPU."""
    return bool(
        tf.config.list_physical_devices("GPU")
        + tf.config.list_physical_devices("TPU")
    )


def make_deterministic():
    """Makes the same program give the same bits until the process ends.

    On a CPU, TensorFlow then uses one thread, because several threads add in
    any order. On a GPU, it uses deterministic kernels, which exist for all
    operations used here. Call this before TensorFlow runs an operation.
    """
    if has_accelerator():
        tf.config.experimental.enable_op_determinism()
    else:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def resolve_jit_compile(jit_compile, layers=()):
    """Returns whether XLA compiles the step.

    Args:
        jit_compile: Boolean, or `"auto"`, which compiles on GPUs if all of the
            layers allow it.
        layers: Iterable of the `keras.Layer`s that are to be compiled.
            Defaults to none.

    Returns:
        A boolean.

    Raises:
        InputError: If `jit_compile` is anything else, or is True with layers
            that XLA cannot compile.
    """
    if jit_compile != "auto" and not isinstance(jit_compile, bool):
        raise InputError(
            '`jit_compile` is expected to be True, False or "auto". '
            f"Received: jit_compile={jit_compile}"
        )
    refusing = [layer for layer in layers if not _supports_jit(layer)]
    if jit_compile is True and refusing:
        names = ", ".join(f"{x.name} ({type(x).__name__})" for x in refusing)
        raise InputError(
            "XLA cannot compile all layers of the classifier; expected "
            'jit_compile=False or "auto". '
            f"Received: jit_compile=True, layers={names}"
        )
    if jit_compile == "auto":
        has_gpu = bool(tf.config.list_physical_devices("GPU"))
        return has_gpu and not refusing
    return jit_compile


def _supports_jit(layer):
    # XLA has no gamma distribution, but these claim that it compiles them.
    claim = (
        keras.layers.CutMix,
        keras.layers.MixUp,
        keras.layers.RandomElasticTransform,
    )
    return layer.supports_jit and not isinstance(layer, claim)


def peak_gigabytes():
    """Returns the peak memory of the fullest GPU, or else of the process.

    Returns:
        Float, in units of 2**30 bytes, or None if the system does not say.
    """
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        infos = [tf.config.experimental.get_memory_info(g.name) for g in gpus]
        return max(info["peak"] for info in infos) / 2**30
    # Not `getrusage`, in which a new process inherits its parent's peak.
    status = pathlib.Path("/proc/self/status")
    text = status.read_text() if status.exists() else ""
    kilobytes = re.search(r"VmHWM:\s+(\d+) kB", text)
    return int(kilobytes[1]) / 2**20 if kilobytes else None
