"""Simulated GPUs, and options that the user has set."""

from __future__ import annotations

import os

import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from auxgrad.training import devices


def test_gpus_are_shared_and_named(monkeypatch):
    """Memory growth is set on both simulated GPUs, even if one is in use already."""
    gpus, asked = ["first", "second"], []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: {"device_name": f"GPU {gpu}"}
    )

    def set_memory_growth(gpu, enable):
        asked.append((gpu, enable))
        raise RuntimeError("in use already")

    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", set_memory_growth)
    devices.configure()
    assert asked == [("first", True), ("second", True)]
    assert devices.describe() == "GPU first, GPU second"


def test_a_shared_gpu_is_divided(monkeypatch):
    limits = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["gpu"])
    monkeypatch.setattr(
        tf.config,
        "set_logical_device_configuration",
        lambda gpu, parts: limits.append((gpu, [part.memory_limit for part in parts])),
    )
    monkeypatch.setenv(devices.GPU_MEMORY, "4500")
    devices.configure()
    assert limits == [("gpu", [4500])]


@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_a_choice(tf32):
    devices.configure(tf32)
    assert tf.config.experimental.tensor_float_32_execution_enabled() is tf32


def test_xla_flags_of_a_person_stay(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=somewhere")
    devices.configure()
    assert os.environ["XLA_FLAGS"] == "--xla_dump_to=somewhere"
    monkeypatch.delenv("XLA_FLAGS")
    devices.configure()
    assert os.environ["XLA_FLAGS"] == devices.ONE_PASS


@pytest.mark.parametrize("in_order", [False, True])
def test_additions_are_merged_unless_order_is_asked_for(in_order):
    """A merged addition starts with any input whose memory is free."""
    devices.add_in_order(in_order)
    terms = [tf.Variable(float(i)) for i in range(4)]
    context.context().enable_graph_collection()
    try:
        tf.function(lambda: sum(term * 2.0 for term in terms))()
        metadata = context.context().export_run_metadata()
    finally:
        context.context().disable_graph_collection()
        devices.add_in_order(False)
    (graphs,) = metadata.function_graphs
    names = {node.op for node in graphs.post_optimization_graph.node}
    assert ("AddN" in names) is not in_order
