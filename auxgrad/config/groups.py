"""Read the config groups: the folders of `conf/`, their options, and the content of a file.

A value group accepts any value: `lam=42.5` works although there is no file `lam/42.5.yaml`. The files of
a value group are presets.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from auxgrad.config.values import parse_scalar

VALUE_GROUPS = ("lam", "alpha", "overall", "seed")


def conf_dir() -> Path:
    """Return the folder `conf/`, which is inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def options(group: str) -> list[str]:
    """Return the names of the files of a config group.

    >>> options("lam")
    ['1', '3', '10', '30', '100', '300']

    Args:
        group: such as "mode".

    Returns:
        Numbers in numerical order, then other names in alphabetical order.
    """

    def order(name: str) -> tuple[float, str]:
        value = parse_scalar(name)
        return (value if isinstance(value, int | float) else math.inf, name)

    return sorted((file.stem for file in (conf_dir() / group).glob("*.yaml")), key=order)


@functools.cache
def preset(group: str, option: str) -> dict[str, Any]:
    """Return the content of a packaged YAML file.

    >>> preset("mode", "Multitask")["mode_uses"]
    ['lam']

    Args:
        group: the config group; empty for the files of `conf/` itself.
        option: the name of the file.
    """
    loaded = OmegaConf.to_container(OmegaConf.load(conf_dir() / group / f"{option}.yaml"))
    assert isinstance(loaded, dict)
    return {str(key): value for key, value in loaded.items()}
