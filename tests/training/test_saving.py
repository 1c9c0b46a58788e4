"""Messages about functions in a saved model that are not registered."""

from __future__ import annotations

import functools

import keras
import pytest
import tensorflow as tf

from auxgrad import AuxiliaryLoss, AuxiliaryModel, Mode

INPUTS = keras.Input((5,))
NETWORK = keras.Model(INPUTS, {"side": keras.layers.Dense(1, name="side")(INPUTS)})


def unregistered_loss(x, y, y_pred):
    return tf.reduce_sum(y_pred["side"] ** 2, axis=-1)


def halfway(d, U, V):
    return tf.ones_like(d), -0.5 * tf.minimum(d, 0.0) / V


def equal(G):
    return tf.ones_like(G[..., 0])


class UnregisteredLoss(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return tf.reduce_mean((y_true - y_pred) ** 2, axis=-1)


@pytest.mark.parametrize(
    ("auxiliary", "mode", "line", "known"),
    [
        (AuxiliaryLoss(unregistered_loss), "Projection", "the auxiliary loss '{}'", unregistered_loss),
        (
            AuxiliaryLoss({"side": UnregisteredLoss()}),
            "Projection",
            "output 'side': the auxiliary loss '{}'",
            UnregisteredLoss,
        ),
        (None, Mode("Half", halfway), "mode 'Half': the rule '{}'", halfway),
        (None, Mode("Sum", weigh=equal, overall=True), "mode 'Sum': the weigh '{}'", equal),
    ],
    ids=["function", "class", "rule", "weigh"],
)
def test_what_is_not_registered_is_named(auxiliary, mode, line, known, tmp_path):
    model = AuxiliaryModel(NETWORK, auxiliary, mode)
    model.save(tmp_path / "model.keras")
    name = known.__name__
    with pytest.raises(
        ValueError, match=line.format(name) + " is not registered: .*register_keras"
    ) as error:
        keras.saving.load_model(tmp_path / "model.keras")
    assert f"custom_objects={{'{name}': ...}}" in str(error.value)
    assert "\n" not in str(error.value)
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects={name: known})
    for part in ("auxiliary", "mode"):
        assert loaded.get_config()[part] == model.get_config()[part]


@keras.saving.register_keras_serializable("tests")
class Broken(UnregisteredLoss):
    @classmethod
    def from_config(cls, config):
        raise ValueError("broken")


def test_what_cannot_be_saved_is_named_and_other_errors_stay(tmp_path):
    for auxiliary, mode, line in (
        (
            AuxiliaryLoss(functools.partial(unregistered_loss)),
            "Projection",
            "the auxiliary loss functools.partial",
        ),
        (None, functools.partial(halfway), "mode 'partial': the rule functools.partial"),
    ):
        with pytest.raises(
            ValueError, match=line + ".* cannot be saved: write it as a function with `def`"
        ):
            AuxiliaryModel(NETWORK, auxiliary, mode).save(tmp_path / "model.keras")
    AuxiliaryModel(NETWORK, AuxiliaryLoss({"side": Broken()})).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"^broken$"):
        keras.saving.load_model(tmp_path / "model.keras")
