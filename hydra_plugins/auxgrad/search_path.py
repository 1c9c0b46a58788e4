"""Add the user's config folders to Hydra's search path, for its help and shell completion.

Hydra itself adds them only when it composes a config.
"""

from __future__ import annotations

import os

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from auxgrad.config.composing import USER_PATHS


class UserPaths(SearchPathPlugin):
    """Adds the folders that `auxgrad.config.entry.prepare` found; none in other Hydra programs."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folders that are listed in the environment variable."""
        for path in filter(None, os.environ.get(USER_PATHS, "").split("\n")):
            search_path.append("auxgrad", path)
