"""Runs an exported computation on a device; needs only NumPy and JAX."""

import hashlib
import json
import os
import pathlib

import jax
import numpy as np
from jaxlib import xla_client


class PortableError(ValueError):
    """An input of the user is invalid; the message is one line."""


class Computation:
    """StableHLO, compiled for a device.

    Args:
        folder: `pathlib.Path` of the exported folder.
        description: Dict with `file`, `inputs` and `outputs`, one of the
            `computations` in `description.json`.
        device: A `jax.Device`.
        cache: `pathlib.Path` of a folder that caches compiled computations.
            Defaults to None.
    """

    def __init__(self, folder, description, device, cache=None):
        self.inputs = description["inputs"]
        self.outputs = description["outputs"]
        self.device = device
        module = (folder / description["file"]).read_bytes()
        devices = xla_client.DeviceList((device,))
        options = xla_client.CompileOptions()
        flags = os.environ.get("XLA_FLAGS", "")
        key = f"{device.device_kind} {jax.__version__} {flags}".encode()
        kept = cache and cache / hashlib.sha256(module + key).hexdigest()
        if kept and kept.exists():
            self._loaded = device.client.deserialize_executable(
                kept.read_bytes(), devices, options
            )
            return
        self._loaded = device.client.compile_and_load(module, devices, options)
        if kept:
            cache.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(self._loaded.serialize())

    @property
    def arguments(self):
        """Dict from names of arguments to their shapes and dtypes."""
        return {
            given["argument"]: (tuple(given["shape"]), given["dtype"])
            for given in self.inputs
            if "argument" in given
        }

    def __call__(self, state, **arguments):
        """Runs the computation, without waiting for the device.

        Args:
            state: Dict from paths to device arrays, the variables, which is
                updated with their new values.
            **arguments: Arrays, or anything that NumPy converts to arrays.

        Returns:
            Dict of device arrays, the results.
        """
        given = []
        for entry in self.inputs:
            if "state" in entry:
                given.append(state[entry["state"]])
            else:
                given.append(self._put(entry, arguments[entry["argument"]]))
        sharded = self._loaded.execute_sharded(given)
        arrays = [a for (a,) in sharded.disassemble_into_single_device_arrays()]
        results = {}
        for entry, array in zip(self.outputs, arrays, strict=True):
            if "state" in entry:
                state[entry["state"]] = array
            else:
                results[entry["result"]] = array
        return results

    def _put(self, entry, value):
        if not isinstance(value, jax.Array):
            value = np.asarray(value, entry["dtype"])
            value = jax.device_put(value, self.device)
        if list(value.shape) != entry["shape"] or value.dtype != entry["dtype"]:
            raise PortableError(
                f"`{entry['argument']}` is expected to be {entry['dtype']} of "
                f"shape {entry['shape']}. "
                f"Received: {value.dtype} of shape {list(value.shape)}"
            )
        return value


def read_description(run_dir):
    """Returns the exported folder of a run directory, and its description.

    Args:
        run_dir: Path of the run directory.

    Raises:
        PortableError: If nothing was exported there.
    """
    folder = pathlib.Path(run_dir) / "portable"
    file = folder / "description.json"
    try:
        return folder, json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise PortableError(
            "Expected a run directory written by benchmarks.portable.export. "
            f"Received: run_dir={run_dir} ({error})"
        ) from error


def read_data(file, digests):
    """Reads and checks the images and labels.

    Args:
        file: Path of the `.npz` file.
        digests: Dict from names of arrays to their SHA-256 digests.

    Returns:
        Dict of arrays.

    Raises:
        PortableError: If they are not those that were exported.
    """
    try:
        with np.load(file) as arrays:
            data = {name: arrays[name] for name in digests}
    except (OSError, KeyError, ValueError) as error:
        raise PortableError(
            "Expected images that benchmarks.portable.export wrote. "
            f"Received: data_file={file} ({error})"
        ) from error
    for name, array in data.items():
        digest = hashlib.sha256(np.ascontiguousarray(array)).hexdigest()
        if digest != digests[name]:
            raise PortableError(
                "Expected the images of this run's export. "
                f"Received: data_file={file}, with another {name}"
            )
    return data


def put_state(file, device):
    """Reads variables from an `.npz` file to a device, by path."""
    with np.load(file) as arrays:
        return {k: jax.device_put(arrays[k], device) for k in arrays}


def save(file, state):
    """Writes arrays to a temporary `.npz` file, and renames it."""
    partial = file.with_name(file.name + ".partial")
    with partial.open("wb") as stream:
        np.savez(stream, **{k: np.asarray(v) for k, v in state.items()})
    partial.replace(file)
