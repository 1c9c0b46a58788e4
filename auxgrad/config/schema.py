"""The typed config of a run. Imports no TensorFlow."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from auxgrad.config.groups import preset
from auxgrad.config.identity import Identity
from auxgrad.config.loading import OWN, load_function, version_of
from auxgrad.config.setting import KNOBS, effective
from auxgrad.config.values import format_value
from auxgrad.errors import ConfigError


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("not a number")
    return value


def _can_be_loaded(target: str) -> str:
    if not target.startswith(OWN):  # Or TensorFlow would be imported to answer a wrong word.
        load_function("mode_rule", target)
    return target


def _expand_home(path: Path | None) -> Path | None:
    return path.expanduser() if path else None


# Every `description` completes the sentence "<key> must be ...".
Number = Annotated[float, BeforeValidator(_no_bool)]
Whole = Annotated[int, BeforeValidator(_no_bool)]
PositiveWhole = Annotated[Whole, Field(ge=1, description="a whole number >= 1")]
Flag = Annotated[bool, Field(strict=True, description="true or false")]
Text = Annotated[str, Field(min_length=1, description="a text that is not empty")]


class Section(BaseModel):
    """A part of the config: immutable, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ProblemConfig(Section):
    """`problem`: the network and how it is trained."""

    name: Annotated[Literal["reviews"], Field(description="one of reviews")]
    hidden: Annotated[
        tuple[Annotated[Whole, Field(ge=1)], ...], Field(description="a list of whole numbers >= 1")
    ]
    learning_rate: Annotated[Number, Field(gt=0, allow_inf_nan=False, description="a number > 0")]
    batch_size: PositiveWhole
    epochs: PositiveWhole
    patience: PositiveWhole
    tf32: Flag


class DataConfig(Section):
    """`data`: what is trained on."""

    name: Annotated[
        Literal["imdb25k", "imdb", "aclimdb"],
        Field(description="one of imdb25k, imdb, aclimdb"),
    ]
    path: Annotated[
        Path | None,
        AfterValidator(_expand_home),
        Field(description="a folder aclImdb/ or its .tar.gz"),
    ]
    num_words: Annotated[Whole, Field(ge=5, le=65536, description="a whole number from 5 to 65536")]
    cache_dir: Annotated[
        Path | None, AfterValidator(_expand_home), Field(description="a folder or null")
    ]

    @model_validator(mode="after")
    def _path_fits(self) -> DataConfig:
        if self.name != "aclimdb" and self.path is not None:
            raise ConfigError(
                f"data.path={self.path}: only data=aclimdb reads a path; data={self.name} does not"
            )
        if self.name == "aclimdb" and (self.path is None or not self.path.exists()):
            found = "no such file or folder" if self.path else "no path given"
            raise ConfigError(
                f"data.path={format_value(self.path)}: {found}; "
                "must be the folder aclImdb/ or its .tar.gz"
            )
        return self


class TrackingConfig(Section):
    """`tracking`: where the record goes."""

    uri: Annotated[str | None, Field(description="an address of an MLflow store, or null")] = None
    experiment: Text = "auxgrad"  # As in conf/config.yaml.
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
    """One run, whole. `auxgrad.config.compose` makes it; it is immutable and can be pickled."""

    mode: Text
    mode_rule: Annotated[Text, AfterValidator(_can_be_loaded)]
    mode_uses: Annotated[
        tuple[Literal["lam", "alpha", "overall"], ...],
        Field(description="a list of lam, alpha, overall"),
    ] = ("lam", "alpha", "overall")
    lam: Annotated[Number, Field(ge=0, allow_inf_nan=False, description="a finite number >= 0")]
    alpha: Annotated[Number, Field(gt=0, le=1, description="a number in (0, 1]")]
    overall: Flag
    seed: Annotated[Whole, Field(ge=0, description="a whole number >= 0")]
    problem: ProblemConfig
    data: DataConfig
    tracking: TrackingConfig
    force: Flag
    retries: Annotated[Whole, Field(ge=0, description="a whole number >= 0")]
    fail_fast: Flag
    dry_run: Flag

    def normalise(self) -> Config:
        """Return the config that equal runs share: unused knobs neutral, lam 0 as SingleTask.

        >>> from auxgrad.config import compose
        >>> compose(["mode=Multitask", "lam=0", "alpha=0.5"]).mode
        'SingleTask'
        """
        knobs: dict[str, Any] = {key: getattr(self, key) for key in KNOBS}
        taken = effective(self.mode, self.mode_uses, knobs)
        if taken["mode"] != self.mode:
            taken["mode_rule"] = preset("mode", taken["mode"])["mode_rule"]
        return self.model_copy(update=taken)

    def identity(self, fingerprint: str = "") -> Identity:
        """Return all that determines the result of the run on data with this fingerprint.

        >>> from auxgrad.config import compose
        >>> compose(["mode=Orthogonal", "lam=30", "alpha=1", "seed=3"]).identity().name
        'Orthogonal lam=30 alpha=1 seed=3'
        >>> compose(["mode=SingleTask", "lam=30", "data.num_words=5000"]).identity().setting_name
        'SingleTask data.num_words=5000'
        """
        data = self.data.model_dump(mode="json", exclude={"path", "cache_dir"})
        return Identity(
            mode=self.mode,
            lam=self.lam,
            alpha=self.alpha,
            overall=self.overall,
            seed=self.seed,
            rule={"target": self.mode_rule, "version": version_of("mode_rule", self.mode_rule)},
            uses=self.mode_uses,
            problem=self.problem.model_dump(mode="json"),
            data={**data, "fingerprint": fingerprint},
        )


# Only the file of a mode sets these.
BY_MODE_FILE = ("mode_rule", "mode_uses")

SECTIONS: dict[str, type[Section]] = {
    "problem": ProblemConfig,
    "data": DataConfig,
    "tracking": TrackingConfig,
}
