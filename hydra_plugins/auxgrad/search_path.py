"""The folders of the user's, for the help and the completion of the shell.

Hydra itself looks into them only when it composes a config.
"""

from __future__ import annotations

import os

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from auxgrad.config.composing import USER_PATHS


class UserPaths(SearchPathPlugin):
    """Adds what `auxgrad.config.entry.prepare` has found; in other programs of Hydra that is nothing."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for path in filter(None, os.environ.get(USER_PATHS, "").split("\n")):
            search_path.append("auxgrad", path)
