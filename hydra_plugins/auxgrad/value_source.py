"""The config source `value://`, which provides any option of a value group without a file."""

from __future__ import annotations

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from auxgrad.config.groups import VALUE_GROUPS
from auxgrad.config.values import parse_scalar


class ValueSource(ConfigSource):
    """Returns the config `lam: 42.5` for `lam/42.5`, in programs whose search path has `value://`."""

    @staticmethod
    def scheme() -> str:
        """Return the scheme of the addresses that this source handles."""
        return "value"

    def available(self) -> bool:
        """Return True: the source needs no files."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Return whether the path is a value group."""
        return config_path.strip("/") in VALUE_GROUPS

    def is_config(self, config_path: str) -> bool:
        """Return whether the path is an option of a value group."""
        group, _, option = config_path.strip("/").partition("/")
        return group in VALUE_GROUPS and option != ""

    def load_config(self, config_path: str) -> ConfigResult:
        """Return a config that sets the key of the group to the value of the option."""
        group, _, option = config_path.strip("/").partition("/")
        value = parse_scalar(option.removesuffix(".yaml"))
        return ConfigResult(
            provider=self.provider,
            path=f"{self.scheme()}://",
            config=OmegaConf.create({group: value}),
            header={"package": "_global_"},
        )

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return no options, because there are infinitely many."""
        return []
