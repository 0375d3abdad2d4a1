"""What is installed: every import is a declared dependency, every file is in the wheel and the sdist."""

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from dreamfusion_pl.version import VERSION

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dreamfusion_pl"
# Distributions whose name is not that of their module.
NAMES = {
    "PIL": "pillow",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
    "lightning_fabric": "pytorch-lightning",
}
# What comes with another distribution, which needs it, and not by itself.
COMES_WITH = {"fastapi": "gradio", "uvicorn": "gradio", "starlette": "gradio", "huggingface_hub": "diffusers"}


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


def declared() -> set[str]:
    text = (ROOT / "setup.py").read_text("utf-8")
    return {normal(name) for name in re.findall(r'"([A-Za-z0-9_.-]+)(?:\[[a-z]+\])?[><=]=?[0-9]', text)}


def imported() -> set[str]:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"dreamfusion_pl", "__future__"}


def test_every_import_is_a_declared_dependency():
    wanted = {normal(NAMES.get(name, COMES_WITH.get(name, name))) for name in imported()}
    assert wanted - declared() == set()


def test_what_the_package_needs_is_pinned():
    pinned = {
        normal(line.split("==")[0]) for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    }
    optional = {"ray", "gradio", "viser", "sphinx", "myst-parser", "furo"}
    assert declared() - pinned == optional


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Folder of a wheel and an sdist, made from a copy of the checkout."""
    pytest.importorskip("setuptools")
    place = tmp_path_factory.mktemp("built")
    source = place / "source"
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("dreamfusion_pl", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=left_out)
    for name in ("setup.py", "MANIFEST.in", "requirements.txt", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, source)
    words = ["-q", "sdist", "--dist-dir", str(place), "bdist_wheel", "--dist-dir", str(place)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "setup.py", *words], cwd=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return place


def files_of_the_package() -> set[str]:
    files = {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    return {
        name for name in files if "__pycache__" not in name and not name.startswith("dreamfusion_pl/configs/")
    }


def test_the_wheel_has_every_file(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    configs = {f"dreamfusion_pl/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    assert names == files_of_the_package() | configs
    assert wheel.name == f"dreamfusion_pl-{VERSION}-py3-none-any.whl" and wheel.stat().st_size < 40_000_000


def test_the_sdist_has_what_a_wheel_is_built_from(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    configs = {f"configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    assert (
        files_of_the_package() | configs | {"setup.py", "README.md", "LICENSE", "requirements.txt"} <= names
    )


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # what the format asks for
    assert citation["version"] == VERSION and citation["license"] == "Apache-2.0"
    assert citation["references"][0]["authors"][0]["family-names"] == "Poole"


def test_the_dockerfile_copies_what_is_there_and_does_not_run_as_root():
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    allowed = [
        line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] == "!"
    ]
    assert sorted(copied) == sorted(allowed) and all((ROOT / name).exists() for name in copied)
    orders = [line.split()[0] for line in lines if line and line[0].isupper()]
    assert orders[:2] == ["ARG", "FROM"] and orders.index("USER") < orders.index("ENTRYPOINT")
