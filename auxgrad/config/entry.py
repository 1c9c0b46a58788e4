"""The entry point of every command: prepare and check the arguments, show errors in one line."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from auxgrad.config.addresses import check_password, check_passwords, store_address
from auxgrad.config.code.backend import check_backend
from auxgrad.config.code.tracebacks import user_traceback
from auxgrad.config.composing import (
    USER_PATHS,
    check_overrides,
    compose,
    compose_with_hydra,
    search_paths,
    validate,
    with_value_source,
)
from auxgrad.config.groups import VALUE_GROUPS, options
from auxgrad.config.instances import check_option, default_problem, unset_options
from auxgrad.config.messages import check_values, explain_hydra, not_an_option, unknown_key
from auxgrad.config.overrides import (
    format_flags,
    get_args_parser,
    parse_flags,
    parse_overrides,
    parse_values,
    quote_values,
)
from auxgrad.config.schema import Config, TrackingConfig
from auxgrad.config.values import in_grammar, parse_scalar
from auxgrad.errors import AuxgradError, ConfigError, without_passwords
from auxgrad.process import interruption


def prepare(arguments: Sequence[str]) -> list[str]:
    """Convert the command line of `auxgrad.train` to that for Hydra.

    Args:
        arguments: the arguments as the user gave them, with flags anywhere among the overrides.

    Returns:
        The arguments for Hydra: flags first, because Hydra refuses overrides on both sides of a flag.

    Raises:
        ConfigError: a flag is not supported, an argument contains a password, or the config has no such
            key or value.
    """
    check_passwords(arguments)
    quoted = quote_values(arguments)
    given = parse_flags(quoted)
    if given.config_path:
        raise ConfigError(
            f"--config-path={given.config_path}: would hide auxgrad's own config groups; "
            "--config-dir adds a folder to them"
        )
    if given.multirun and given.cfg:
        raise ConfigError("--multirun: cannot be combined with --cfg, which shows one run")
    if given.help or given.shell_completion:
        os.environ[USER_PATHS] = "\n".join(_users_paths(given))
    asks_only = given.help or given.hydra_help or given.shell_completion or given.info
    has_other_files = given.config_name or given.config_dir or any("searchpath" in w for w in quoted)
    if not asks_only and not has_other_files:
        _check_overrides_early(given.overrides)
    overrides = with_value_source(given.overrides, given.config_name, given.config_dir)
    if given.help and not given.hydra_help:
        overrides += _defaults_of_classes(given)
    return [*format_flags(given), *overrides]


def _defaults_of_classes(given: argparse.Namespace) -> list[str]:
    """Return overrides that make the help list the options which no file sets, with their defaults."""
    # Hydra finds the user's files by the search path in the environment, see `prepare`.
    composed = compose_with_hydra(given.overrides, name=given.config_name)
    found = {key: OmegaConf.select(composed, key) for key in ("problem", "data")}
    sections = {key: OmegaConf.to_container(each) for key, each in found.items() if each is not None}
    try:
        defaults = unset_options(sections)
    except ConfigError as error:
        print(f"note      only the options in files are listed; {error}", file=sys.stderr)
        return []
    return [f"++{key}={in_grammar(value)}" for key, value in defaults.items()]


def _users_paths(given: argparse.Namespace) -> list[str]:
    """Return the user's search path for the help, or for the line that is to be completed."""
    if given.shell_completion:
        with contextlib.suppress(SystemExit, ValueError):  # The line may be unfinished.
            typed = shlex.split(os.environ.get("COMP_LINE", ""))[1:]
            with contextlib.redirect_stderr(io.StringIO()):
                given = get_args_parser().parse_known_args(typed)[0]
    folder = [f"file://{Path(given.config_dir).absolute()}"] if given.config_dir else []
    with contextlib.suppress(ConfigError, HydraException):
        return [*folder, *search_paths(given.overrides, given.config_name, given.config_dir)]
    return folder


def split_arguments(arguments: Sequence[str]) -> tuple[TrackingConfig, dict[str, list[str]]]:
    """Split key=value arguments of `report`, `ui` and `sync` into the tracking config and all others.

    >>> tracking, values = split_arguments(["tracking.experiment=first", "lam=3,10.0", "seed=range(2)"])
    >>> tracking.experiment, values
    ('first', {'lam': ['3', '10'], 'seed': ['0', '1']})

    Args:
        arguments: the arguments of the command line, without flags.

    Returns:
        The tracking config, and the values of each other key.

    Raises:
        ConfigError: an argument is not key=value, or has an unknown key of `tracking`.
    """
    check_passwords(arguments)
    own = [argument for argument in arguments if argument.startswith("tracking.")]
    try:
        values = parse_values([argument for argument in arguments if argument not in own])
    except (HydraException, ValueError) as error:
        raise ConfigError(explain_hydra(error)) from None
    return compose(own).tracking, values


def _check_overrides_early(overrides: Sequence[str]) -> None:
    """Raise ConfigError for a key or a value that the config cannot have.

    Hydra would find the error too, but only after composing twice. The check is valid only if all config
    files are auxgrad's.
    """
    given = dict(override.partition("=")[::2] for override in overrides)
    for override in overrides:
        key, is_pair, value = override.removeprefix("++").partition("=")
        section, _, name = key.partition(".")
        if not is_pair or not key.replace(".", "").isidentifier() or section in ("hydra", "experiment"):
            continue  # Hydra checks these.
        if name and section in ("problem", "data"):
            check_option(key, value, given.get("problem", default_problem()), given.get("data"))
            continue
        is_known = section in (*Config.model_fields, "data")
        if name and section == "tracking":
            is_known = name in TrackingConfig.model_fields
        if not is_known:
            raise ConfigError(unknown_key(key, value))
        if key == "mode" and value.replace(",", "").isidentifier():
            for mode in value.split(","):
                if mode not in options("mode"):
                    raise ConfigError(not_an_option("mode", mode, options("mode")))
        if key in VALUE_GROUPS and value.startswith("'"):
            check_values(key, value.strip("'").split("','"))


def check_run(composed: DictConfig) -> None:
    """Check that the composed config is that of a single run which can be started.

    Args:
        composed: the config with the node `hydra`.

    Raises:
        ConfigError: it is not.
    """
    _check_environment(composed)
    sweeper = composed.hydra.sweeper
    if sweeper.get("params") or sweeper.get("grids"):
        name = composed.hydra.runtime.choices.get("experiment")
        what = f"experiment={name}" if name else "hydra.sweeper.params"
        raise ConfigError(f"{what}: is a sweep; add --multirun")
    check_overrides(composed, composed.hydra.overrides.task)
    if validate(composed).dry_run:
        raise ConfigError("dry_run=true: shows the plan of a sweep; add --multirun")


def check_sweep(composed: DictConfig) -> None:
    """Check the values that the command line of a sweep gives.

    Args:
        composed: the config with the node `hydra`.

    Raises:
        ConfigError: a run cannot have one of the values.
    """
    _check_environment(composed)
    is_grid = composed.hydra.sweeper._target_.endswith(".GridSweeper")
    for key in ("dry_run", "fail_fast"):
        if composed.get(key) and not is_grid:
            raise ConfigError(f"{key}=true: only hydra/sweeper=grid supports it")
    for key, override in parse_overrides(composed.hydra.overrides.task).items():
        if key in VALUE_GROUPS and override.is_discrete_sweep():
            texts = [text.strip("'") for text in override.sweep_string_iterator()]
            # A name may be that of a file of the user.
            check_values(key, (text for text in texts if not isinstance(parse_scalar(text), str)))


def _check_environment(composed: DictConfig) -> None:
    """Check Keras' backend, passwords in the config, the address of the store, the working directory."""
    check_backend()
    for key, text in _texts(OmegaConf.to_container(composed, resolve=False)):
        check_password(key, text)
    uri = OmegaConf.select(composed, "tracking.uri", throw_on_resolution_failure=False)
    if uri is None or isinstance(uri, str):
        check_password("tracking.uri", uri or "")
        store_address(uri)
    if composed.hydra.job.chdir:
        raise ConfigError(
            "hydra.job.chdir=true: runs stay in the working directory, where their tracking store is; "
            "remove it"
        )


def _texts(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts in a config, with their keys."""
    if isinstance(node, str):
        yield key, node
    elif isinstance(node, dict):
        for name, each in node.items():
            yield from _texts(each, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for each in node:
            yield from _texts(each, key)


@contextlib.contextmanager
def exit_cleanly() -> Iterator[None]:
    """Convert exceptions to a message and an exit status.

    An error whose message is sufficient is shown in one line. For any other error, the traceback is
    shown from the first line of the user's code on. With HYDRA_FULL_ERROR=1 in the environment, every
    error is shown with its full traceback. The exit status is 1 after an error, 130 after Ctrl-C and 143
    after SIGTERM.

    Raises:
        SystemExit: an exception was raised inside the context.
    """
    interruption.install()
    _replace_unsupported_characters()
    show_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        yield
    except KeyboardInterrupt:
        print("auxgrad: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        explained = AuxgradError, HydraException, OmegaConfBaseException, OSError
        if isinstance(error, explained) and not show_traceback:
            raise SystemExit(f"auxgrad: {error_message(error)}") from None
        shown = traceback.format_exc().rstrip() if show_traceback else user_traceback(error)
        print(without_passwords(shown), file=sys.stderr)
        raise SystemExit(1) from None


@contextlib.contextmanager
def hide_shown_passwords(arguments: Sequence[str]) -> Iterator[None]:
    """Hide passwords in a config that `--cfg`, `--info` or `--help` prints without any check."""
    flags = parse_flags(arguments)
    if not (flags.cfg or flags.info or flags.help):
        yield
        return
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown):
            yield
    finally:
        print(without_passwords(shown.getvalue()), end="", flush=True)


def _replace_unsupported_characters() -> None:
    """Print "?" for characters that standard output does not support, in child processes too."""
    os.environ.setdefault("PYTHONIOENCODING", ":replace")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def error_message(error: Exception) -> str:
    """Return the message of an error for the user, without passwords."""
    if isinstance(error.__cause__, AuxgradError):  # Raised by a plugin that Hydra instantiated.
        return str(error.__cause__)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return without_passwords(explain_hydra(error))
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: cannot be used ({error.strerror})"
    return without_passwords(str(error))
