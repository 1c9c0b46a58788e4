"""What TensorFlow computes on, and how: GPUs and their memory, TF32, XLA's options."""

from __future__ import annotations

import contextlib
import os

GPU_MEMORY = "AUXGRAD_GPU_MEMORY_MB"  # Set by a launcher whose workers share a GPU.
# Without it XLA goes through the moments, the average and the weights in one pass of the memory each.
ONE_PASS = "--xla_backend_extra_options=xla_cpu_use_multi_output_fusion=true"


def configure(tf32: bool = False) -> None:
    """Prepare TensorFlow for a run, before anything is computed in this process.

    GPUs give memory as it is needed, or the share that the launcher has set, and multiply in float32,
    or with `tf32` in 10 bits of it. On the CPU XLA may compute several outputs in one pass of the
    memory, where XLA_FLAGS is not set.
    """
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(tf32)
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        os.environ.setdefault("XLA_FLAGS", ONE_PASS)
    megabytes = os.environ.get(GPU_MEMORY)
    for gpu in gpus:
        # Whoever has used TensorFlow in this process before has decided already.
        with contextlib.suppress(RuntimeError):
            if megabytes:
                limit = tf.config.LogicalDeviceConfiguration(memory_limit=int(megabytes))
                tf.config.set_logical_device_configuration(gpu, [limit])
            else:
                tf.config.experimental.set_memory_growth(gpu, True)


def describe() -> str:
    """Return the names of the GPUs, or the number of cores."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus]
    return ", ".join(names) or f"CPU, {os.cpu_count()} cores"
