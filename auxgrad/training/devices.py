"""Configure the devices of TensorFlow: GPUs and their memory, TF32, options of XLA."""

from __future__ import annotations

import contextlib
import os

GPU_MEMORY = "AUXGRAD_GPU_MEMORY_MB"  # Set by a launcher whose workers share a GPU.
# Without this option XLA makes one pass over the memory for each of the moments, average and weights.
ONE_PASS = "--xla_backend_extra_options=xla_cpu_use_multi_output_fusion=true"


def configure(tf32: bool = False) -> None:
    """Prepare TensorFlow for a run, before anything is computed in this process.

    On a GPU, allocate memory as it is needed, or the share that the launcher has set. On the CPU, let
    XLA compute several outputs in one pass over the memory, unless XLA_FLAGS is set.

    Args:
        tf32: Whether GPUs multiply matrices in TF32, with 10 bits of mantissa, instead of float32.
    """
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(tf32)
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        os.environ.setdefault("XLA_FLAGS", ONE_PASS)
    megabytes = os.environ.get(GPU_MEMORY)
    for gpu in gpus:
        # If TensorFlow was used before in this process, its setting cannot be changed.
        with contextlib.suppress(RuntimeError):
            if megabytes:
                limit = tf.config.LogicalDeviceConfiguration(memory_limit=int(megabytes))
                tf.config.set_logical_device_configuration(gpu, [limit])
            else:
                tf.config.experimental.set_memory_growth(gpu, True)


def add_in_order(in_order: bool) -> None:
    """Choose whether sums of more than two tensors are computed in the order of the program.

    By default TensorFlow's graph optimiser merges them into one operation. It starts with an input whose
    memory is free at that moment, so that the last bit of the sum depends on the timing of threads.

    Args:
        in_order: Whether the optimiser leaves arithmetic as it is, for functions traced from now on.
    """
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": not in_order})


def describe() -> str:
    """Return the names of the GPUs, or the number of cores."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus]
    return ", ".join(names) or cpu()


def cpu() -> str:
    """Return what `describe` returns on a machine without a GPU; does not import TensorFlow."""
    return f"CPU, {os.cpu_count()} cores"
