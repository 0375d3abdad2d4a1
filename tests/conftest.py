"""What holds for every test."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch: a core for each worker, and for what it starts
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Embeddings of tiny models stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def warm_python(cache) -> Iterator[str]:
    """A program in whose place ``sys.executable`` would import for ten seconds; warm_start.py says when."""
    from warm_start import WarmPython

    with tempfile.TemporaryDirectory() as folder, WarmPython(Path(folder)) as warm:
        yield warm.path


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> Path:
    """The folder of a small finished run of "a red ball", 4 steps long; to change it, copy it."""
    from fakes import SMALL_RUN

    from dreamfusion_pl.cli import main

    folder = tmp_path_factory.mktemp("finished_run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", *SMALL_RUN, "--prompt", "a red ball"]) == 0
    return folder / "lightning_logs" / "version_0"


def pytest_collection_modifyitems(items):
    """The README's commands, the longest test, begin first: at the end they would leave one process idle.

    Then comes what shares a warm Python, all in the same process, so that only one is started.
    """
    items.sort(key=lambda item: (item.path.name != "test_readme.py", "warm_python" not in item.fixturenames))
