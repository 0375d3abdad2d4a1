"""Pages that several tests share; their fits start in a moment."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import SMALL_RUN
from served_page import Served, served

STRANGER = "a-red-ball-0123456789abcdef/seed_0"


def add_stranger(out: Path) -> None:
    """A finished run that ``batch`` could have made."""
    run = out / STRANGER
    (run / "checkpoints").mkdir(parents=True)
    (run / "status.json").write_text('{"state": "finished", "prompt": "a <b>strange</b> ball", "seed": 0}')
    (run / "object.glb").write_bytes(b"glTF")
    (run / "viewer.html").write_text("<script>1</script>")
    (run / "config.yaml").write_text("secret: 1")
    (out / "other").mkdir()
    (out / "other" / "object.glb").write_bytes(b"other")


@pytest.fixture(scope="session")
def small_page(tmp_path_factory, warm_python) -> Iterator[Served]:
    """A page whose fits have the words of small.yaml."""
    pytest.importorskip("gradio")
    out = tmp_path_factory.mktemp("page") / "app"
    add_stranger(out)
    with served(warm_python, out, *SMALL_RUN, "--trainer.max_steps", "8") as page:
        yield page
