"""Compose the typed config of a run from the arguments of the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from auxgrad.config.addresses import check_passwords
from auxgrad.config.groups import conf_dir
from auxgrad.config.instances import TARGET, make_problem
from auxgrad.config.messages import explain_hydra, explain_validation, unknown_key
from auxgrad.config.overrides import parse_overrides, quote_values
from auxgrad.config.schema import MODE_FILE_KEYS, Config
from auxgrad.config.setting import RUN_KEYS
from auxgrad.config.values import format_value, parse_scalar, quote
from auxgrad.errors import ConfigError

HYDRA_VERSION_BASE = "1.3"
PRIMARY = "config"
SEARCHPATH = "hydra.searchpath"
VALUE_SOURCE = "value://"
FILES = "file://"
# The environment variable with the user's search path, for `hydra_plugins.auxgrad.search_path`.
USER_PATHS = "AUXGRAD_SEARCHPATH"
TARGET_KEYS = tuple(f"{section}.{TARGET}" for section in ("problem", "data"))


def validate(composed: DictConfig, hydra: Any = None) -> Config:
    """Convert a config that Hydra has composed to a typed config.

    Args:
        composed: the config, with or without the node `hydra`.
        hydra: the node `hydra`, if it is not in `composed`.

    Returns:
        The typed config, whose unused knobs are not yet neutral.

    Raises:
        ConfigError: one line for each key that is unknown, missing or out of range; or code of the user
            that cannot be imported or has the wrong type.
    """
    return typed_config(values_of(composed), choices_of(hydra or composed.hydra))


def values_of(composed: DictConfig, resolve: bool = True) -> dict[Any, Any]:
    """Return the values of a composed config without the node `hydra`.

    Args:
        composed: the config.
        resolve: whether to resolve interpolations.

    Raises:
        ConfigError: an interpolation cannot be resolved.
    """
    keys = [str(key) for key in composed if key != "hydra"]
    try:
        values = OmegaConf.to_container(OmegaConf.masked_copy(composed, keys), resolve=resolve)
    except OmegaConfBaseException as error:
        raise ConfigError(explain_hydra(error)) from None
    assert isinstance(values, dict)
    return values


def choices_of(hydra: Any) -> dict[str, str | None]:
    """Return the options chosen in the groups `problem` and `data`; None for a group without a choice.

    Args:
        hydra: the node `hydra` of a composed config.
    """
    return {group: hydra.runtime.choices.get(group) for group in ("problem", "data")}


def typed_config(values: Mapping[Any, Any], choices: Mapping[str, str | None]) -> Config:
    """Convert plain values to a typed config.

    Args:
        values: the values by key, with a mapping for each section; `problem` and `names` may be
            instances already.
        choices: the options of the groups `problem` and `data`.

    Raises:
        ConfigError: see `validate`.
    """
    rest = dict(values)
    lines = []
    if isinstance(rest.get("problem"), Mapping):
        if "names" in rest:
            raise ConfigError(unknown_key("names", format_value(rest["names"])))
        try:
            problem, names = make_problem(rest["problem"], rest.pop("data", None), choices)
            rest.update(problem=problem, names=names)
        except ConfigError as error:
            lines.append(str(error))
    try:
        config = Config.model_validate(rest)
    except ValidationError as error:
        own = [item for item in error.errors() if item["loc"][0] not in ("problem", "names", "data")]
        if own or not lines:
            lines.append(explain_validation(own or error.errors()))
    if lines:
        raise ConfigError("\n".join(lines))
    return config


def compose(overrides: Iterable[str] = (), config_dir: str | Path | None = None) -> Config:
    """Compose the typed config of a run, as `python -m auxgrad.train` does.

    >>> compose(["mode=Orthogonal", "lam=42.5"]).lam
    42.5

    Args:
        overrides: overrides as on the command line.
        config_dir: a folder with the user's config files, as for `--config-dir`.

    Returns:
        The config, in which unused knobs are neutral.

    Raises:
        ConfigError: a key or an option is unknown, or a value is out of range.
    """
    if isinstance(overrides, str):
        raise ConfigError(f"overrides={overrides!r}: must be a list, such as [{overrides!r}]")
    given = list(overrides)
    check_passwords(given)
    composed = compose_with_hydra(given, config_dir)
    check_overrides(composed, given)
    return validate(composed).normalise()


def compose_with_hydra(
    overrides: Iterable[str], config_dir: str | Path | None = None, name: str | None = None
) -> DictConfig:
    """Compose the config of a run with the node `hydra`, unchecked.

    Args:
        overrides: overrides as on the command line.
        config_dir: a folder with the user's config files, as for `--config-dir`.
        name: the primary config, if it is not auxgrad's.

    Raises:
        ConfigError: Hydra cannot compose it.
    """
    given = list(overrides)
    if config_dir is not None:
        given.append(f"{SEARCHPATH}=[{quote(f'file://{Path(config_dir).absolute()}')}]")
    try:
        given = quote_values(given)
        with initialize_config_dir(version_base=HYDRA_VERSION_BASE, config_dir=str(conf_dir())):
            return hydra_compose(
                name or PRIMARY, overrides=with_value_source(given, name), return_hydra_config=True
            )
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(explain_hydra(error)) from None
    # Hydra raises these errors on malformed overrides.
    except (AssertionError, AttributeError, LookupError, TypeError) as error:
        raise ConfigError(f"{' '.join(given)}: cannot be composed ({explain_hydra(error)})") from None


def check_overrides(composed: DictConfig, overrides: Iterable[str]) -> None:
    """Check that the overrides may be given, and that they took effect in the composed config.

    A YAML file that sets `lam:` itself takes precedence over the option that the command line chooses.

    Args:
        composed: the config.
        overrides: the overrides that it was composed with.

    Raises:
        ConfigError: an override sets what only a file may set, or a mode, a knob or the seed has another
            value in the config; or a file lacks the line `# @package _global_`.
    """
    _check_packages(composed)
    for key, override in parse_overrides(overrides).items():
        if key in MODE_FILE_KEYS:
            raise ConfigError(
                f"{override.input_line}: is set by the file of the mode; "
                "to add a mode, write conf/mode/NAME.yaml and use --config-dir conf"
            )
        if key in TARGET_KEYS:
            section = key.partition(".")[0]
            raise ConfigError(
                f"{key}={override.value()}: is set by the file of {section}; "
                f"to add another one, write conf/{section}/NAME.yaml and use --config-dir conf"
            )
        if key not in RUN_KEYS or override.is_sweep_override():
            continue
        if key not in composed:
            raise ConfigError(f"{override.input_line}: every run has {key}; it cannot be left out")
        asked, found = parse_scalar(str(override.value())), composed[key]
        if (key == "mode" or not isinstance(asked, str)) and format_value(found) != format_value(asked):
            raise ConfigError(
                f"{key}={format_value(asked)}: a YAML file sets {key}: {format_value(found)} itself; "
                f'let its defaults list choose it: - override /{key}: "{format_value(found)}"'
            )


def _check_packages(composed: DictConfig) -> None:
    """Raise ConfigError for a file whose keys are in a section, because it has no package line."""
    for group in (*RUN_KEYS, "experiment"):
        found = OmegaConf.select(composed, group, throw_on_resolution_failure=False)
        choice = composed.hydra.runtime.choices.get(group)
        if choice is None or not OmegaConf.is_dict(found):
            continue
        folders = [each.path for each in composed.hydra.runtime.config_sources if each.schema == "file"]
        files = [Path(folder, group, f"{choice}.yaml") for folder in folders]
        file = next((file for file in files if file.is_file()), f"{group}/{choice}.yaml")
        raise ConfigError(
            f"{group}={choice}: the first line of {file} must be `# @package _global_`; "
            f"without it, Hydra puts the keys of the file into a section {group}"
        )


def with_value_source(
    overrides: Sequence[str], name: str | None = None, folder: str | None = None
) -> list[str]:
    """Return the overrides with the source of values at the end of Hydra's search path.

    The source comes last, so that the user's files take precedence. It is added by an override, because
    Hydra reads `hydra.searchpath` in the primary config only, which may be a file of the user.

    Args:
        overrides: the overrides of the command line.
        name: the primary config, if it is not auxgrad's.
        folder: the folder of `--config-dir`.

    Raises:
        ConfigError: see `search_paths`; or a file of the user has the name of one of auxgrad's.
    """
    paths = search_paths(overrides, name, folder)
    for path in [folder, *(path for path in paths if path.startswith(FILES))]:
        if path:
            _check_hidden(Path(path.removeprefix(FILES)))
    override = f"{SEARCHPATH}=[{','.join(quote(path) for path in (*paths, VALUE_SOURCE))}]"
    return [override, *(each for each in overrides if not _sets_search_path(each))]


def search_paths(
    overrides: Sequence[str], name: str | None = None, folder: str | None = None
) -> list[str]:
    """Return the search path that the overrides set, or else the primary config.

    Args:
        overrides: the overrides of the command line.
        name: the primary config, if it is not auxgrad's.
        folder: the folder of `--config-dir`.

    Raises:
        ConfigError: the search path is not a list of texts.
    """
    own = [override for override in overrides if _sets_search_path(override)]
    paths: object = _searchpath_of(name or PRIMARY, folder)
    if own:
        paths = parse_overrides(own)[SEARCHPATH].value()
    if not isinstance(paths, list | tuple) or not all(isinstance(path, str) for path in paths):
        culprit = (own or [SEARCHPATH])[-1]
        raise ConfigError(f"{culprit}: must be a list of texts, such as [file://folder]")
    return [str(path) for path in paths]


def _sets_search_path(argument: str) -> bool:
    return argument.partition("=")[0] == SEARCHPATH


def _check_hidden(folder: Path) -> None:
    """Raise ConfigError for a file that Hydra would ignore, because auxgrad's file takes precedence."""
    for file in sorted(folder.rglob("*.yaml")):
        ours = conf_dir() / file.relative_to(folder)
        if ours.is_file() and ours.read_bytes() != file.read_bytes():
            raise ConfigError(
                f"{file}: would be ignored, because auxgrad has a file of this name; choose another name"
            )


def _searchpath_of(name: str, folder: str | None) -> list[str]:
    """Return the search path that a primary config sets."""
    if name == PRIMARY:
        return []
    for parent in (conf_dir(), Path(folder) if folder else None):
        file = parent and parent / f"{name.removesuffix('.yaml')}.yaml"
        if file and file.is_file():
            found = OmegaConf.select(OmegaConf.load(file), SEARCHPATH)
            return list(found) if found is not None else []
    return []
