"""Check the names of outputs, losses, metrics and targets before training.

Keras finds such an error in the first step, and explains it in many lines. Nothing is refused here that
Keras would accept. `AuxiliaryModel` gives Keras no names for outputs that are a list.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from auxgrad.errors import ConfigError, DataError, suggestion
from auxgrad.problems.base import Problem, Training
from auxgrad.problems.data import PARTS, Data, is_stream
from auxgrad.training.auxiliaries import AuxiliaryLoss, named


def check_names(problem: Problem, training: Training, data: Data) -> None:
    """Check that losses, metrics and targets fit the outputs of the network.

    Networks whose outputs are not known before the first step are not checked.

    Args:
        problem: The problem, for error messages.
        training: What its `build` has returned.
        data: Its data.

    Raises:
        ConfigError: A loss, an auxiliary loss or a metric is for an output that does not exist, or the
            metrics have a form that Keras refuses.
        DataError: Targets do not fit the outputs, or some are missing.
    """
    kind = type(problem).__name__
    loss, metrics = training.loss, training.metrics
    if metrics and not isinstance(metrics, list | tuple | dict):
        raise ConfigError(f"{kind}.build: metrics={metrics!r}: must be a list, or a dict by output")
    outputs = _outputs_of(training.network)
    targets = {part: _targets_of(getattr(data, part)) for part in PARTS}
    if isinstance(outputs, dict):
        _check_keys(f"{kind}.build: loss names", _without_none(loss), outputs)
        for name, each in named(training.auxiliary).items():
            losses = each.loss if isinstance(each, AuxiliaryLoss) else None
            _check_keys(f"{kind}.build: auxiliary loss {name!r} names", losses, outputs)
        if len(outputs) > 1:
            _check_keys(f"{kind}.build: metrics name", metrics, outputs)
            _check_metrics_list(kind, metrics, outputs)
        _check_targets(kind, targets, loss, metrics is not None, outputs)
    elif outputs is not None:
        _check_unnamed(kind, targets, loss, metrics, outputs)


def _outputs_of(network: keras.Model) -> Any:
    """Return the outputs: a tensor, a list of tensors, or a dict of them; None if they are not known."""
    if not type(network).__module__.startswith("keras."):
        return None  # A subclass may return anything.
    if isinstance(network, keras.Sequential):
        inputs = getattr(network, "inputs", None)  # Unknown without `keras.Input`.
        outputs = network.compute_output_spec(inputs[0]) if inputs else None
    else:
        outputs = getattr(network, "output", None)
    parts = list(outputs.values()) if isinstance(outputs, dict) else outputs
    is_deep = isinstance(parts, list | tuple) and any(keras.tree.is_nested(part) for part in parts)
    return None if is_deep else outputs


def _targets_of(part: Any) -> Any:
    """Return the targets of a part of the data, or their specs; None if they are not known."""
    if not is_stream(part):
        return part[1]
    spec = part.element_spec
    return spec[1] if isinstance(spec, tuple) and len(spec) > 1 else None


def _check_keys(what: str, given: Any, outputs: dict[str, Any]) -> None:
    """Raise ConfigError for keys of a dict that are not outputs."""
    if isinstance(given, dict):
        unknown = [name for name in given if name not in outputs]
        if unknown:
            near = suggestion(str(unknown[0]), outputs)
            raise ConfigError(
                f"{what} {_quoted(unknown)}; the outputs of the network are {_quoted(outputs)}{near}"
            )


def _check_metrics_list(kind: str, metrics: Any, outputs: Any) -> None:
    if metrics and isinstance(metrics, list | tuple) and len(metrics) != len(outputs):
        how = (
            f"a dict by output, as in {{{next(iter(outputs))!r}: [...]}}"
            if isinstance(outputs, dict)
            else "a list with an entry for each output"
        )
        raise ConfigError(
            f"{kind}.build: metrics is a list of {len(metrics)}; "
            f"the network has {len(outputs)} outputs, so it must be {how}"
        )


def _check_targets(
    kind: str, targets: dict[str, Any], loss: Any, has_metrics: bool, outputs: dict[str, Any]
) -> None:
    """Raise DataError for targets that Keras could not assign to the outputs of these names."""
    wanted = _without_none(loss)
    if not wanted or (keras.tree.is_nested(loss) and not _is_flat(loss)):
        return
    counts: dict[str, int] = {}
    for part, y in targets.items():
        if _is_flat(y):
            _check_named_targets(f"{kind}.load: {part}", y, wanted, has_metrics, outputs)
            counts[part] = len(outputs) if y.keys() == outputs.keys() else len(loss)
        elif y is not None and not keras.tree.is_nested(y) and len(outputs) > 1:
            if not isinstance(loss, dict):
                raise DataError(
                    f"{kind}.load: {part} has one array of targets, and the loss is for all outputs; "
                    f"the targets must be a dict by output: {_quoted(outputs)}"
                )
            if len(wanted) > 1:
                raise DataError(
                    f"{kind}.load: {part} has one array of targets, and there are losses for "
                    f"{_quoted(wanted)}; the targets must be a dict by output"
                )
    for part, count in counts.items():
        if count != next(iter(counts.values())):
            names = " and ".join(
                f"{_quoted(targets[each])} in {each}" for each in (next(iter(counts)), part)
            )
            raise DataError(f"{kind}.load: the targets are {names}; must have equal names in all parts")


def _check_named_targets(
    what: str, y: dict[str, Any], wanted: Any, has_metrics: bool, outputs: dict[str, Any]
) -> None:
    missing = [name for name in outputs if name not in y]
    unknown = [name for name in y if name not in outputs]
    if has_metrics and len(outputs) > 1 and missing:
        near = suggestion(str(unknown[0]), missing) if unknown else ""
        raise DataError(
            f"{what} has targets {_quoted(y)}; with metrics, each output of the network must have a "
            f"target: {_quoted(outputs)}{near}"
        )
    # Keras assigns fewer targets than outputs to the losses by their order, and ignores the names.
    by_order = isinstance(wanted, dict) and len(y) == len(wanted) and len(y) != len(outputs)
    if by_order and not unknown and y.keys() != wanted.keys():
        raise DataError(
            f"{what} has targets {_quoted(y)}; must be {_quoted(wanted)}, the outputs with a loss, or "
            f"those of all outputs: {_quoted(outputs)}"
        )
    if not by_order and y.keys() != outputs.keys():
        near = suggestion(str(unknown[0]), missing) if unknown else ""
        raise DataError(
            f"{what} has targets {_quoted(y)}; must be those of the outputs of the network: "
            f"{_quoted(outputs)}{near}"
        )


def _check_unnamed(kind: str, targets: dict[str, Any], loss: Any, metrics: Any, outputs: Any) -> None:
    """Raise an error where names are given, and the outputs are a tensor or a list of tensors."""
    is_list = isinstance(outputs, list | tuple)
    what = (
        f"the outputs of the network are a {type(outputs).__name__}"
        if is_list
        else "the network has one output without a name"
    )
    how = "name outputs by a dict, as in keras.Model(inputs, {'first': first})"
    if isinstance(loss, dict):
        raise ConfigError(f"{kind}.build: loss names {_quoted(loss)}; {what}: {how}")
    if is_list and len(outputs) > 1:
        if metrics and isinstance(metrics, dict):
            raise ConfigError(f"{kind}.build: metrics name {_quoted(metrics)}; {what}: {how}")
        _check_metrics_list(kind, metrics, outputs)
    for part, y in targets.items():
        if isinstance(y, dict) and loss is not None and (is_list or not keras.tree.is_nested(loss)):
            raise DataError(f"{kind}.load: {part} has targets {_quoted(y)}; {what}: {how}")
        is_single = y is not None and not keras.tree.is_nested(y)
        if is_single and is_list and len(outputs) > 1 and loss and not keras.tree.is_nested(loss):
            raise DataError(
                f"{kind}.load: {part} has one array of targets, and the loss is for all outputs; "
                f"the targets must be a tuple of {len(outputs)} arrays"
            )


def _is_flat(given: Any) -> bool:
    """Return whether this is a dict of values that are not nested."""
    return isinstance(given, dict) and not any(map(keras.tree.is_nested, given.values()))


def _without_none(loss: Any) -> Any:
    """Return the loss without the outputs that have none."""
    if not isinstance(loss, dict):
        return loss
    return {name: each for name, each in loss.items() if each is not None}


def _quoted(names: Iterable[Any]) -> str:
    return ", ".join(repr(name) for name in names)
