"""How a model that is saved keeps its mode."""

from __future__ import annotations

from typing import Any

import keras

from auxgrad.censoring import MODES, Mode


def mode_config(mode: Mode) -> Any:
    """Return the mode as Keras writes it: a name, or the parts of a mode of the user's."""
    if MODES.get(mode.name) == mode:
        return mode.name
    rule = keras.saving.serialize_keras_object(mode.rule)
    return {"name": mode.name, "rule": rule, "uses": list(mode.uses)}


def mode_from_config(config: Any) -> Mode:
    """Return the mode that `mode_config` wrote.

    Raises Keras' error for a rule that `keras.saving.register_keras_serializable` has not registered.
    """
    if isinstance(config, str):
        return Mode.of(config)
    rule = keras.saving.deserialize_keras_object(config["rule"])
    return Mode(config["name"], rule, tuple(config["uses"]))
