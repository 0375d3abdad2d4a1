"""The rooms of the house: an import goes only downwards, and heavy imports stay where they are needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dreamfusion_pl

PACKAGE = Path(dreamfusion_pl.__file__).parent
# Ground floor first: a room may import from those before it, and from itself.
FLOORS = [
    {"types", "schedule", "rng", "optimizers", "atomic", "version", "device"},
    {"diffusion", "scene"},
    {"diffusion.loading", "diffusion.text"},
    {"diffusion.families"},
    {"diffusion.training"},
    {"distillation", "rendering"},
    {"distillation.variants"},
    {"data.cameras"},
    {"data.labels", "data.orbit", "data.view_loader"},
    {"data.views", "data.steps", "data.world.colors"},
    {"data.world.objects"},
    {"data.world"},
    {"algorithm", "playground"},
    {"export.surface"},
    {"export.texture"},
    {"export"},
    {"export.files"},
    {"export.pages", "metrics"},
    {"run_folder"},
    {"callbacks.previews"},
    {"callbacks"},
    {"terminal"},
    {"configuration"},
    {"evaluation", "batch"},
    {"runs"},
    {"commands"},
    {"app"},
    {"result"},
    {"__init__"},
    {"cli"},
    {"__main__"},
]
MOST_FILES = 12  # in a room, besides its __init__ and __main__
HEAVY = {
    "diffusers",
    "transformers",
    "trimesh",
    "skimage",
    "ray",
    "gradio",
    "tensorboard",
    "torch",
    "pytorch_lightning",
}


ROOMS = {name for rooms in FLOORS for name in rooms}


def room(module: str) -> str:
    """The innermost room that a module, or a name in one, is in."""
    parts = module.removeprefix("dreamfusion_pl").lstrip(".").split(".")
    inner = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return next((name for name in inner if name in ROOMS), parts[0] or "__init__")


def floor(name: str) -> int:
    levels = [level for level, rooms in enumerate(FLOORS) if name in rooms]
    assert levels, f"the room {name!r} is not on any floor of the house: add it to FLOORS"
    return levels[0]


def module_of(path: Path) -> str:
    return ".".join(["dreamfusion_pl", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(
        ".__init__"
    )


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in found if name.startswith("dreamfusion_pl")]


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_go_downwards(path):
    here = room(module_of(path))
    if path.name == "__init__.py" and path.parent != PACKAGE:
        assert not imports(path), "a room's __init__ imports nothing"
        return
    for name in imports(path):
        there = room(name)
        allowed = there == here or floor(there) < floor(here)
        assert allowed, f"{module_of(path)} ({here}) must not import {name} ({there})"


@pytest.mark.parametrize("name", sorted({path.parent for path in PACKAGE.rglob("*.py")}), ids=str)
def test_a_room_has_a_dozen_files_at_most(name):
    files = [path.name for path in name.glob("*.py") if not path.name.startswith("__")]
    assert len(files) <= MOST_FILES, sorted(files)


def test_the_command_line_starts_light():
    code = f"import sys, dreamfusion_pl.cli; print(sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_run_loads_priors_and_exports_only_when_it_uses_them():
    optional = {"diffusers", "trimesh", "skimage", "ray", "gradio"}
    code = f"import sys, dreamfusion_pl.runs; print(sorted(set(sys.modules) & {optional!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
