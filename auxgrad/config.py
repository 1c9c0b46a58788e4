"""The typed config of a run, and the checks that come before any training. Imports no TensorFlow."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from auxgrad.errors import ConfigError
from auxgrad.values import (
    VALUE_GROUPS,
    conf_dir,
    format_value,
    options,
    parse_scalar,
    parse_values,
    preset,
    quote_values,
)

HYDRA_VERSION_BASE = "1.3"
# Raise it with every change of what a run with a given config computes: older runs then count no more
# as finished ones of the same key.
METHOD_VERSION = 2
NEUTRAL = {"lam": 0.0, "alpha": 1.0, "overall": False}


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("not a number")
    return value


def _known_mode(value: object) -> object:
    if value not in options("mode"):
        raise ValueError("unknown mode")
    return value


def _expand_home(path: Path | None) -> Path | None:
    return path.expanduser() if path else None


# Every `description` completes the sentence "<key> must be ...".
Number = Annotated[float, BeforeValidator(_no_bool)]
Whole = Annotated[int, BeforeValidator(_no_bool)]
PositiveWhole = Annotated[Whole, Field(ge=1, description="a whole number >= 1")]
Flag = Annotated[bool, Field(strict=True, description="true or false")]
Text = Annotated[str, Field(min_length=1, description="a text that is not empty")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProblemConfig(_Section):
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


class DataConfig(_Section):
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


class TrackingConfig(_Section):
    """`tracking`: where the record goes."""

    uri: Annotated[str | None, Field(description="an address of an MLflow store, or null")]
    experiment: Text
    log_model: Annotated[bool | None, Field(strict=True, description="true, false or null")]
    tensorboard: Flag

    @model_validator(mode="after")
    def _tensorboard_is_there(self) -> TrackingConfig:
        if self.tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise ConfigError(
                "tracking.tensorboard=true: the package tensorboard is not installed; "
                "the extra auxgrad[tensorboard] has it"
            )
        return self


class Config(_Section):
    """One run, whole. `compose` makes it; equal configs give equal results, seed included."""

    mode: Annotated[str, BeforeValidator(_known_mode), Field(description="a mode")]
    mode_uses: Annotated[
        tuple[Literal["lam", "alpha", "overall"], ...],
        Field(description="a list of lam, alpha, overall"),
    ]
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

    def key(self, fingerprint: str, with_seed: bool = True) -> str:
        """SHA-256 of all that determines a result, on data with this fingerprint.

        Runs of one key give the same numbers: where the data lies, tracking, launcher and output
        folders are no part of it. Without the seed it is the key of a setting.
        """
        determining = {
            "method": METHOD_VERSION,
            "data_fingerprint": fingerprint,
            **self.model_dump(mode="json", include={"mode", "lam", "alpha", "overall", "problem"}),
            "data": self.data.model_dump(mode="json", exclude={"path", "cache_dir"}),
        }
        if with_seed:
            determining["seed"] = self.seed
        return hashlib.sha256(json.dumps(determining, sort_keys=True).encode()).hexdigest()

    @property
    def setting(self) -> str:
        """Name of all that determines a result but the seed; runs that share it are averaged.

        >>> compose(["mode=Orthogonal", "lam=30", "alpha=1", "seed=3"]).setting
        'Orthogonal lam=30 alpha=1'
        >>> compose(["mode=SingleTask", "lam=30", "data.num_words=5000"]).setting
        'SingleTask data.num_words=5000'
        """
        used = {key: getattr(self, key) for key in self.mode_uses}
        parts = [self.mode]
        parts += [f"{key}={format_value(used[key])}" for key in used if used[key] is not False]
        if self.data.name != "imdb25k":
            parts.append(f"data={self.data.name}")
        for group, section in (("data", self.data), ("problem", self.problem)):
            usual = preset(group, section.name)
            for key, value in section.model_dump(mode="json", exclude={"path", "cache_dir"}).items():
                if value != usual[key]:
                    parts.append(f"{group}.{key}={format_value(value)}")
        return " ".join(parts)


SECTIONS: dict[str, type[_Section]] = {
    "problem": ProblemConfig,
    "data": DataConfig,
    "tracking": TrackingConfig,
}


def validate(composed: DictConfig) -> Config:
    """The typed config of a composed one.

    What the mode does not use is set to what it amounts to: lam 0, alpha 1, overall false; and any
    mode with lam 0 is SingleTask.
    Raises ConfigError, one line for each key that is unknown, missing or out of range.
    """
    values = OmegaConf.to_container(composed, resolve=True)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        # What an unknown mode would have brought along is missing too: say only what was wrong.
        items = [item for item in error.errors() if item["type"] != "missing"] or error.errors()
        raise ConfigError("\n".join(_explain(item) for item in items)) from None
    knobs = {key: getattr(config, key) for key in NEUTRAL}
    return config.model_copy(update=effective(config.mode, config.mode_uses, knobs))


def effective(mode: str, uses: Sequence[str], knobs: Mapping[str, Any]) -> dict[str, Any]:
    """What a mode makes of its knobs: those that it does not use are neutral, lam 0 is SingleTask.

    >>> effective("Multitask", ["lam"], {"lam": 0.0, "alpha": 0.01, "overall": True})
    {'mode': 'SingleTask', 'mode_uses': (), 'lam': 0.0, 'alpha': 1.0, 'overall': False}
    """
    if "lam" in uses and knobs["lam"] == 0:
        mode, uses = "SingleTask", ()
    taken = {key: knobs[key] if key in uses else value for key, value in NEUTRAL.items()}
    return {"mode": mode, "mode_uses": tuple(uses), **taken}


def compose(overrides: Iterable[str] = ()) -> Config:
    """The typed config for command line overrides, as `python -m auxgrad.train` would compose it.

    >>> compose(["mode=Orthogonal", "lam=42.5"]).lam
    42.5

    Raises ConfigError for an unknown key, an unknown option or a value out of range.
    """
    composed = _composed(overrides)
    del composed["hydra"]
    return validate(composed)


def split_words(words: Sequence[str]) -> tuple[TrackingConfig, dict[str, list[str]]]:
    """The tracking that `tracking.uri=` and `tracking.experiment=` ask for; the values of other keys.

    >>> tracking, values = split_words(["tracking.experiment=first", "lam=30,100.0", "seed=range(3)"])
    >>> tracking.experiment, values
    ('first', {'lam': ['30', '100'], 'seed': ['0', '1', '2']})

    Raises ConfigError for a word that is not key=value, and an unknown key in tracking.
    """
    own = [word for word in words if word.startswith("tracking.")]
    try:
        values = parse_values([word for word in words if word not in own])
    except (HydraException, ValueError) as error:
        raise ConfigError(explain_hydra(error)) from None
    return compose(own).tracking, values


def _composed(overrides: Iterable[str]) -> DictConfig:
    try:
        with initialize_config_dir(version_base=HYDRA_VERSION_BASE, config_dir=str(conf_dir())):
            composed = hydra_compose(
                "config", overrides=quote_values(overrides), return_hydra_config=True
            )
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(explain_hydra(error)) from None
    OmegaConf.set_struct(composed, False)
    return composed


def check_arguments(arguments: Sequence[str]) -> None:
    """Composes and checks what a command line asks for, before Hydra creates a folder for it.

    Of a sweep every value of mode, lam, alpha, overall and seed is checked, and the first combination
    as a whole. Raises ConfigError. Expects arguments that went through `quote_values`.
    """
    parsed = get_args_parser().parse_args(arguments)
    asks_only = parsed.help or parsed.hydra_help or parsed.shell_completion or parsed.info
    if asks_only or parsed.config_path or parsed.config_name or parsed.experimental_rerun:
        return
    if parsed.multirun and parsed.cfg:
        raise ConfigError("--multirun: cannot be combined with --cfg, which shows one run")
    overrides = parsed.overrides
    if parsed.multirun:
        overrides = []
        for override in OverridesParser.create().parse_overrides(parsed.overrides):
            if not override.is_sweep_override():
                overrides.append(override.input_line)
            elif override.is_discrete_sweep() and not isinstance(override.value(), Glob):
                values = list(override.sweep_string_iterator())
                overrides.append(f"{override.get_key_element()}={values[0]}")
                if override.key_or_group in VALUE_GROUPS:
                    _check_values(override.key_or_group, values)
    if parsed.config_dir:
        overrides.append(f"hydra.searchpath=[value://,'file://{Path(parsed.config_dir).absolute()}']")
    composed = _composed(overrides)
    hydra_config = composed.pop("hydra")
    sweeper = hydra_config.sweeper
    if parsed.multirun:
        for group in ("hydra/launcher", "hydra/sweeper"):
            plugin = hydra_config[group.removeprefix("hydra/")]
            _check_plugin(f"{group}={hydra_config.runtime.choices[group]}", plugin._target_)
    if not parsed.multirun and (sweeper.get("params") or sweeper.get("grids")):
        name = next(text.partition("=")[2] for text in overrides if text.startswith("experiment="))
        raise ConfigError(f"experiment={name}: is a sweep; add --multirun")
    validate(composed)


def _check_plugin(choice: str, target: str) -> None:
    package = ".".join(target.split(".")[:2])
    if importlib.util.find_spec(package) is None:
        distribution = package.removeprefix("hydra_plugins.").replace("_", "-")
        raise ConfigError(f"{choice}: the package {distribution} is not installed")


def check_at_least(key: str, value: object, least: int, none_allowed: bool = False) -> None:
    """Raises ConfigError unless the value of a launcher's key is a whole number that large, or null."""
    if value is None and none_allowed:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        null = " or null" if none_allowed else ""
        raise ConfigError(f"{key}={format_value(value)}: must be a whole number >= {least}{null}")


def _check_values(key: str, quoted: Iterable[str]) -> None:
    for text in quoted:
        value = parse_scalar(text.strip("'"))
        try:
            Config.model_validate({key: value})
        except ValidationError as error:  # In any case: of the other keys none is there.
            if any(item["loc"] == (key,) for item in error.errors()):
                raise ConfigError(_not_allowed(key, value)) from None


def _not_allowed(key: str, value: object) -> str:
    if key == "mode":
        return _not_an_option(key, str(value))
    return f"{key}={format_value(value)}: must be {Config.model_fields[key].description}"


def _not_an_option(group: str, option: str) -> str:
    known = options(group)
    return f"{group}={option}: must be one of {', '.join(known)}{_nearest(option, known)}"


def explain_hydra(error: Exception) -> str:
    """One line for an error of Hydra or OmegaConf, in the words of the command line."""
    text = " ".join(f"{error} {error.__cause__ or ''}".split())
    if match := re.search(r"Could not override '([^']+)'.*?use \+(\S+)", text):
        return _unknown_key(match[1], match[2].partition("=")[2])
    if match := re.search(r"Could not find '([\w/]+)/([^'/]*)'", text):
        group, option = match.groups()
        return _not_allowed(group, option) if group in VALUE_GROUPS else _not_an_option(group, option)
    if match := re.search(r"Ambiguous value for argument '([^=]+)=(.*?)' 1\.", text):
        values = match[2].replace("'", "")
        return f"{match[1]}={values}: several values; add --multirun to sweep over them"
    return text


def _explain(item: Mapping[str, Any]) -> str:
    # An item of a list is reported under the list's key.
    key = ".".join(str(part) for part in item["loc"] if isinstance(part, str))
    given = format_value(item["input"])
    if item["type"] == "extra_forbidden":
        return _unknown_key(key, given)
    if item["type"] == "missing":
        return f"{key}: missing from the config"
    if key in VALUE_GROUPS:
        return _not_allowed(key, item["input"])
    group, _, name = key.rpartition(".")
    field = SECTIONS.get(group, Config).model_fields.get(name)
    return f"{key}={given}: must be {(field and field.description) or item['msg']}"


def _unknown_key(key: str, value: str) -> str:
    group, _, _ = key.rpartition(".")
    prefix = f"{group}." if group in SECTIONS else ""
    fields = SECTIONS.get(group, Config).model_fields
    known = [prefix + name for name in fields if name not in ("name", "mode_uses")]
    return f"{key}={value}: unknown key; must be one of {', '.join(known)}{_nearest(key, known)}"


def _nearest(name: str, known: list[str]) -> str:
    by_fold = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_fold, n=2, cutoff=0.5)
    return f" (did you mean {' or '.join(by_fold[item] for item in near)}?)" if near else ""
