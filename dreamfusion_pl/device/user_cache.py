"""Where files are kept that can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """Return this package's folder in the user's cache, which may not exist yet.

    It is in ``XDG_CACHE_HOME``, else in ``~/.cache``; a user without a home has it in the working folder.
    """
    said = os.environ.get("XDG_CACHE_HOME")
    try:
        place = Path(said) if said else Path.home() / ".cache"
    except RuntimeError:  # no home
        place = Path(".cache").absolute()
    return place / "dreamfusion_pl"
