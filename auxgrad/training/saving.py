"""Serialise the parts of a model: network, auxiliaries, mode and the user's functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from auxgrad.censoring.mode import MODES, Mode


def to_config(network: keras.Model, auxiliaries: Mapping[str, Any], mode: Mode) -> dict[str, Any]:
    """Return the parts of an `AuxiliaryModel` as Keras saves them, by argument."""
    return {
        "network": keras.saving.serialize_keras_object(network),
        "auxiliary": keras.saving.serialize_keras_object(dict(auxiliaries)),
        "mode": mode_config(mode),
    }


def from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts from the result of `to_config`."""
    parts = {
        name: keras.saving.deserialize_keras_object(config[name]) for name in ("network", "auxiliary")
    }
    return {**parts, "mode": mode_from_config(config["mode"])}


def mode_config(mode: Mode) -> Any:
    """Return the mode as Keras saves it: a name, or the parts of a mode that does not ship."""
    if MODES.get(mode.name) == mode:
        return mode.name
    key = "rule" if mode.weigh is None else "weigh"
    function = function_config(f"mode {mode.name!r}: the {key}", getattr(mode, key))
    return {"name": mode.name, key: function, "uses": list(mode.uses), "overall": mode.overall}


def mode_from_config(config: Any) -> Mode:
    """Return the mode from the result of `mode_config`.

    Raises:
        ValueError: A function is not registered by `keras.saving.register_keras_serializable`.
    """
    if isinstance(config, str):
        return Mode.of(config)
    key = "rule" if "rule" in config else "weigh"
    function = function_from_config(f"mode {config['name']!r}: the {key}", config[key])
    return Mode(**{**config, "uses": tuple(config["uses"]), key: function})


def function_config(what: str, function: Any) -> Any:
    """Return the user's function or object as Keras saves it; `what` names it in messages.

    Raises:
        ValueError: Keras cannot save it, for example a `functools.partial`.
    """
    try:
        return keras.saving.serialize_keras_object(function)
    except TypeError as error:
        raise ValueError(
            f"{what} {function!r} cannot be saved: write it as a function with `def`, registered with "
            "keras.saving.register_keras_serializable"
        ) from error


def function_from_config(what: str, config: Any) -> Any:
    """Return the function or object from the result of `function_config`.

    Args:
        what: What it is, for messages.
        config: Result of `function_config`.

    Raises:
        ValueError: It is not registered with Keras. Other errors come from Keras.
    """
    try:
        return keras.saving.deserialize_keras_object(config)
    except (TypeError, ValueError) as error:
        name = _own_name(config)
        if name is None or keras.saving.get_registered_object(name) is not None:
            raise
        # Not a TypeError: Keras would hide that behind the config of the whole model.
        raise ValueError(
            f"{what} {name!r} is not registered: register it with "
            "keras.saving.register_keras_serializable before the model is loaded, or pass "
            f"custom_objects={{{name!r}: ...}}"
        ) from error


def _own_name(config: Any) -> str | None:
    """Return the name by which Keras finds an object that is not its own; None for Keras' objects."""
    if not isinstance(config, dict) or (config.get("module") or "").split(".")[0] == "keras":
        return None
    if config.get("class_name") == "function":
        return config["config"]
    return config.get("registered_name")
