"""From words of the command line to typed configs."""

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
from auxgrad.config.overrides import parse_overrides, parse_values, quote_values
from auxgrad.config.schema import BY_MODE_FILE, Config, TrackingConfig
from auxgrad.config.setting import RUN_KEYS
from auxgrad.config.values import format_value, parse_scalar, quote
from auxgrad.errors import ConfigError

HYDRA_VERSION_BASE = "1.3"
PRIMARY = "config"
SEARCHPATH = "hydra.searchpath"
VALUE_SOURCE = "value://"
FILES = "file://"
# The environment variable that has the search path for `hydra_plugins.auxgrad.search_path`.
USER_PATHS = "AUXGRAD_SEARCHPATH"
CLASSES = tuple(f"{section}.{TARGET}" for section in ("problem", "data"))


def validate(composed: DictConfig, hydra: Any = None) -> Config:
    """Return the typed config of a composed one.

    Args:
        composed: with or without the node `hydra`.
        hydra: that node, if it is not in `composed`.

    Raises:
        ConfigError: one line for each key that is unknown, missing or out of range; code of the user's
            that cannot be imported, or is not what it should be.
    """
    return typed(values_of(composed), choices_of(hydra or composed.hydra))


def values_of(composed: DictConfig, resolve: bool = True) -> dict[Any, Any]:
    """Return the values of a composed config without the node `hydra`.

    Raises ConfigError for an interpolation that leads nowhere.
    """
    keys = [str(key) for key in composed if key != "hydra"]
    try:
        values = OmegaConf.to_container(OmegaConf.masked_copy(composed, keys), resolve=resolve)
    except OmegaConfBaseException as error:
        raise ConfigError(explain_hydra(error)) from None
    assert isinstance(values, dict)
    return values


def choices_of(hydra: Any) -> dict[str, str | None]:
    """Return the options that were chosen in the groups `problem` and `data`."""
    return {group: hydra.runtime.choices.get(group) for group in ("problem", "data")}


def typed(values: Mapping[Any, Any], choices: Mapping[str, str | None]) -> Config:
    """Return the typed config of plain values. Raises ConfigError like `validate`.

    Args:
        values: by key, sections as mappings; `problem` and `names` may be made already.
        choices: the options of the groups `problem` and `data`.
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
    """Return the typed config for command line overrides, as `python -m auxgrad.train` composes it.

    >>> compose(["mode=Orthogonal", "lam=42.5"]).lam
    42.5

    Args:
        overrides: words of the command line.
        config_dir: a folder with config files of the user's, as `--config-dir`.

    Raises:
        ConfigError: for an unknown key, an unknown option or a value out of range.
    """
    words = list(overrides)
    check_passwords(words)
    if config_dir is not None:
        words.append(f"{SEARCHPATH}=[{quote(f'file://{Path(config_dir).absolute()}')}]")
    try:
        words = quote_values(words)
        with initialize_config_dir(version_base=HYDRA_VERSION_BASE, config_dir=str(conf_dir())):
            composed = hydra_compose(
                PRIMARY, overrides=with_value_source(words, words), return_hydra_config=True
            )
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(explain_hydra(error)) from None
    except (AssertionError, AttributeError, LookupError, TypeError) as error:  # Hydra's, on odd words.
        raise ConfigError(f"{' '.join(words)}: cannot be composed ({explain_hydra(error)})") from None
    check_obeyed(composed, words)
    return validate(composed).normalise()


def check_obeyed(composed: DictConfig, overrides: Iterable[str]) -> None:
    """Raise ConfigError if a value group of the overrides has another value in the composed config.

    A YAML file that sets `lam:` itself takes precedence over the option that the command line chooses.
    """
    for key, override in parse_overrides(overrides).items():
        if key in BY_MODE_FILE:
            raise ConfigError(
                f"{override.input_line}: is set by the file of the mode; "
                "a file conf/mode/NAME.yaml, found by --config-dir, adds a mode"
            )
        if key in CLASSES:
            section = key.partition(".")[0]
            raise ConfigError(
                f"{key}={override.value()}: is set by the file of {section}; "
                f"a file conf/{section}/NAME.yaml, found by --config-dir, adds another"
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


def with_value_source(
    arguments: Sequence[str],
    overrides: Sequence[str],
    name: str | None = None,
    folder: str | None = None,
) -> list[str]:
    """Return the arguments with the source of values at the end of the search path.

    It comes last so that a user's files take precedence, and as an override, since Hydra reads
    `hydra.searchpath` of the primary config only, which may be a user's own.

    Args:
        arguments: overrides, and flags of Hydra.
        overrides: the overrides among them.
        name: the primary config, if not ours.
        folder: the folder of `--config-dir`.
    """
    paths = search_paths(overrides, name, folder)
    for path in [folder, *(path for path in paths if path.startswith(FILES))]:
        if path:
            _check_hidden(Path(path.removeprefix(FILES)))
    word = f"{SEARCHPATH}=[{','.join(quote(path) for path in (*paths, VALUE_SOURCE))}]"
    # Beside the others: Hydra takes no overrides in two places, before and after a flag.
    place = arguments.index(overrides[0]) if overrides else len(arguments)
    rest = [argument for argument in arguments[place:] if not _sets_search_path(argument)]
    return [*arguments[:place], word, *rest]


def search_paths(
    overrides: Sequence[str], name: str | None = None, folder: str | None = None
) -> list[str]:
    """Return the search path that the overrides ask for, or else the primary config.

    Args:
        overrides, name, folder: as for `with_value_source`.

    Raises:
        ConfigError: it is no list of texts.
    """
    own = [word for word in overrides if _sets_search_path(word)]
    paths: object = _searchpath_of(name or PRIMARY, folder)
    if own:
        paths = parse_overrides(own)[SEARCHPATH].value()
    if not isinstance(paths, list | tuple) or not all(isinstance(path, str) for path in paths):
        word = (own or [SEARCHPATH])[-1]
        raise ConfigError(f"{word}: must be a list of texts, such as [file://folder]")
    return [str(path) for path in paths]


def _sets_search_path(word: str) -> bool:
    return word.partition("=")[0] == SEARCHPATH


def _check_hidden(folder: Path) -> None:
    """Raise ConfigError for a file that Hydra would pass over, since one of ours goes first."""
    for file in sorted(folder.rglob("*.yaml")):
        ours = conf_dir() / file.relative_to(folder)
        if ours.is_file() and ours.read_bytes() != file.read_bytes():
            raise ConfigError(
                f"{file}: would be passed over, since auxgrad has a file of this name; choose another"
            )


def _searchpath_of(name: str, folder: str | None) -> list[str]:
    """The search path that a primary config asks for."""
    if name == PRIMARY:
        return []
    for place in (conf_dir(), Path(folder) if folder else None):
        file = place and place / f"{name.removesuffix('.yaml')}.yaml"
        if file and file.is_file():
            found = OmegaConf.select(OmegaConf.load(file), SEARCHPATH)
            return list(found) if found is not None else []
    return []


def split_words(words: Sequence[str]) -> tuple[TrackingConfig, dict[str, list[str]]]:
    """Return the tracking that `tracking.uri=` and `tracking.experiment=` ask for, and the other values.

    >>> tracking, values = split_words(["tracking.experiment=first", "lam=30,100.0", "seed=range(3)"])
    >>> tracking.experiment, values
    ('first', {'lam': ['30', '100'], 'seed': ['0', '1', '2']})

    Raises ConfigError for a word that is not key=value, and an unknown key in tracking.
    """
    check_passwords(words)
    own = [word for word in words if word.startswith("tracking.")]
    try:
        values = parse_values([word for word in words if word not in own])
    except (HydraException, ValueError) as error:
        raise ConfigError(explain_hydra(error)) from None
    return compose(own).tracking, values
