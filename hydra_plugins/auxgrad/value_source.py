"""The config source `value://`: any option of a value group, without a file."""

from __future__ import annotations

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from auxgrad.config.groups import VALUE_GROUPS
from auxgrad.config.values import parse_scalar


class ValueSource(ConfigSource):
    """Answers for `lam/42.5` with `lam: 42.5`. Only a config whose search path names it is touched."""

    @staticmethod
    def scheme() -> str:
        return "value"

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path.strip("/") in VALUE_GROUPS

    def is_config(self, config_path: str) -> bool:
        group, _, option = config_path.strip("/").partition("/")
        return group in VALUE_GROUPS and option != ""

    def load_config(self, config_path: str) -> ConfigResult:
        group, _, option = config_path.strip("/").partition("/")
        value = parse_scalar(option.removesuffix(".yaml"))
        return ConfigResult(
            provider=self.provider,
            path=f"{self.scheme()}://",
            config=OmegaConf.create({group: value}),
            header={"package": "_global_"},
        )

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return []
