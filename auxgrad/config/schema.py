"""The typed config of a run. This module must not import TensorFlow."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, InstanceOf, model_validator

from auxgrad.config.addresses import check_address, check_password
from auxgrad.config.code.loading import load, load_function
from auxgrad.config.code.source import PACKAGE, version_of
from auxgrad.config.groups import preset
from auxgrad.config.identity import Identity, Names, changes, describe, target_of
from auxgrad.config.setting import KNOBS, normalise_knobs
from auxgrad.errors import ConfigError
from auxgrad.problems.base import Problem, all_options_of
from auxgrad.problems.options import Flag, Number, Section, Text, Whole


def _loadable(key: str) -> Callable[[str], str]:
    def check(target: str) -> str:
        if not target.startswith(f"{PACKAGE}."):  # The rules of the package would import TensorFlow.
            load_function(key, target)
        return target

    return check


def _address(uri: str | None) -> str | None:
    if uri is not None:
        check_password("tracking.uri", uri)
        check_address("tracking.uri", uri)
    return uri


class TrackingConfig(Section):
    """The section `tracking`: where runs are recorded.

    Attributes:
        uri: the address of the MLflow store; None for mlflow.db in the working directory.
        experiment: the name of the MLflow experiment.
        log_model: whether to store the network; None for single runs only.
        tensorboard: whether to write TensorBoard summaries.
    """

    uri: Annotated[
        str | None,
        AfterValidator(_address),
        Field(description="an address of an MLflow store, or null"),
    ] = None
    experiment: Text = "auxgrad"  # The same as in conf/config.yaml.
    log_model: Annotated[bool | None, Field(strict=True, description="true, false or null")] = None
    tensorboard: Flag = False

    @model_validator(mode="after")
    def _tensorboard_is_there(self) -> TrackingConfig:
        if self.tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise ConfigError(
                "tracking.tensorboard=true: the package tensorboard is not installed; "
                "the extra auxgrad[tensorboard] has it"
            )
        return self


class Config(Section):
    """The config of one run, which `auxgrad.config.compose` returns. It is immutable and picklable.

    Attributes:
        mode: the name of the mode.
        mode_rule: the dotted name of the mode's function of three scalars, or None.
        mode_weigh: the dotted name of the mode's function of the Gram matrix, or None. A mode has either
            this or `mode_rule`.
        mode_overall: the value of `overall` that the mode fixes, or None.
        mode_uses: the knobs that the mode uses.
        lam: the weight of the auxiliary loss.
        alpha: the coefficient of the moving average of the primary gradient.
        overall: whether one decision holds for all variables.
        seed: the seed of initial weights, batch order and random modes.
        problem: the problem, with its data.
        names: the names of problem and data.
        tracking: where the run is recorded.
        on_nan: "stop" or "continue" when a training loss or a weight is NaN or infinite.
        force: whether to run again what is finished.
        retries: how many times a sweep retries a run that crashes.
        fail_fast: whether a sweep stops at the first failure.
        dry_run: whether a sweep only shows its plan.
    """

    mode: Text
    mode_rule: Annotated[Text, AfterValidator(_loadable("mode_rule"))] | None = None
    mode_weigh: Annotated[Text, AfterValidator(_loadable("mode_weigh"))] | None = None
    mode_overall: Flag | None = None
    mode_uses: Annotated[
        tuple[Literal["lam", "alpha", "overall"], ...],
        Field(description="a list of lam, alpha, overall"),
    ] = ("lam", "alpha", "overall")
    lam: Annotated[Number, Field(ge=0, allow_inf_nan=False, description="a finite number >= 0")]
    alpha: Annotated[Number, Field(gt=0, le=1, description="a number in (0, 1]")]
    overall: Flag
    seed: Annotated[Whole, Field(ge=0, description="a whole number >= 0")]
    problem: InstanceOf[Problem]
    names: InstanceOf[Names]
    tracking: TrackingConfig
    on_nan: Annotated[Literal["stop", "continue"], Field(description="stop or continue")]
    force: Flag
    retries: Annotated[Whole, Field(ge=0, description="a whole number >= 0")]
    fail_fast: Flag
    dry_run: Flag

    @model_validator(mode="after")
    def _has_one_function(self) -> Config:
        if (self.mode_rule is None) == (self.mode_weigh is None):
            raise ConfigError(
                f"mode={self.mode}: its file must set one of mode_rule and mode_weigh, not both"
            )
        return self

    @property
    def mode_function(self) -> tuple[str, str]:
        """The key of the function of the mode (mode_rule or mode_weigh), and its dotted name."""
        if self.mode_weigh is not None:
            return "mode_weigh", self.mode_weigh
        assert self.mode_rule is not None
        return "mode_rule", self.mode_rule

    def normalise(self) -> Config:
        """Return the config with unused knobs set to neutral, and lam 0 turned into SingleTask.

        Configs of equal runs become equal.

        >>> from auxgrad.config import compose
        >>> compose(["mode=Multitask", "lam=0", "alpha=0.5"]).mode
        'SingleTask'
        """
        knobs: dict[str, Any] = {key: getattr(self, key) for key in KNOBS}
        taken = normalise_knobs(self.mode, self.mode_uses, knobs, self.mode_overall)
        if taken["mode"] != self.mode:
            taken.update(mode_weigh=None, mode_rule=preset("mode", taken["mode"])["mode_rule"])
        return self.model_copy(update=taken)

    def identity(self, fingerprint: str = "") -> Identity:
        """Return all that determines the result of the run.

        >>> from auxgrad.config import compose
        >>> compose(["mode=Orthogonal", "lam=30", "alpha=1", "seed=3"]).identity().name
        'Orthogonal lam=30 alpha=1 seed=3'
        >>> compose(["mode=SingleTask", "lam=30", "data.num_words=5000"]).identity().setting_name
        'SingleTask data.num_words=5000'

        Args:
            fingerprint: the fingerprint of the data.

        Raises:
            ConfigError: the source of the user's code cannot be read.
        """
        key, target = self.mode_function
        is_own = not target.startswith(f"{PACKAGE}.")
        version = version_of(key, load(key, target)) if is_own else ""
        data = getattr(self.problem, "data", None)
        return Identity(
            mode=self.mode,
            lam=self.lam,
            alpha=self.alpha,
            overall=self.overall,
            seed=self.seed,
            rule={"target": target, "version": version},
            uses=self.mode_uses,
            problem=describe("problem", self.problem),
            data={**(describe("data", data) if data else {}), "fingerprint": fingerprint},
            names=self.names,
            changes=(
                *(changes("data", data) if data else []),
                *changes("problem", self.problem),
                *([f"on_nan={self.on_nan}"] if self.on_nan != "stop" else []),
            ),
            on_nan=self.on_nan,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the config as plain values for JSON and YAML."""
        made = self.model_dump(mode="json", exclude={"problem", "names"})
        for section, chosen in (
            ("problem", self.problem),
            ("data", getattr(self.problem, "data", None)),
        ):
            if chosen is not None:
                made[section] = {"_target_": target_of(chosen), **all_options_of(chosen)}
        return made


# Only the file of a mode may set these keys.
MODE_FILE_KEYS = ("mode_rule", "mode_weigh", "mode_uses", "mode_overall")
