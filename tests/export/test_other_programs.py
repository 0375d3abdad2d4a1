"""Files judged by programs from outside: the Khronos glTF validator and a browser.

They run where these programs are: node with the package gltf-validator (its folder in GLTF_VALIDATOR), and
chromium. ``.ci/run`` installs both.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import Balls

from dreamfusion_pl.export.asset import Settings, make_asset
from dreamfusion_pl.export.files.meshes import write_asset
from dreamfusion_pl.export.pages.viewer import Page, write_viewer

VALIDATOR = os.environ.get("GLTF_VALIDATOR", "")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
VALIDATE = """
const validator = require(process.argv[1] + "/node_modules/gltf-validator");
const bytes = new Uint8Array(require("fs").readFileSync(process.argv[2]));
validator.validateBytes(bytes).then((report) => console.log(JSON.stringify(report)));
"""
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
    "--disable-component-update",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--hide-scrollbars",
    "--window-size=900,700",
]


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "normal_map"])
def glb(tmp_path_factory, request) -> Path:
    """A ball, red in front and blue behind."""
    settings = Settings(32, None, 1000, 64, normal_map=request.param)
    asset = make_asset(Balls([(torch.zeros(3), 0.4)], edge=0.01), settings)
    return write_asset(asset, tmp_path_factory.mktemp("glb") / "object.glb")


@pytest.mark.skipif(not (VALIDATOR and shutil.which("node")), reason="no GLTF_VALIDATOR or no node")
def test_the_khronos_validator_finds_nothing(glb):
    done = subprocess.run(["node", "-e", VALIDATE, VALIDATOR, str(glb)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["issues"]["numErrors"], report["issues"]["numWarnings"]) == (0, 0), report["issues"]
    assert report["info"]["hasTextures"] and report["info"]["totalTriangleCount"] == 1000


def screenshot(page: Path, shot: Path, budget_ms: int) -> torch.Tensor:
    """What the browser shows of a page, [H, W, 3] in [0, 1]."""
    where = [f"--user-data-dir={shot.parent / f'profile{budget_ms}'}", f"--virtual-time-budget={budget_ms}"]
    command = [BROWSER, *FLAGS, *where, f"--screenshot={shot}", page.as_uri()]
    subprocess.run(command, capture_output=True, timeout=180, check=True)
    with Image.open(shot) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).float() / 255.0


@pytest.mark.skipif(not BROWSER, reason="no chromium")
def test_a_browser_shows_the_page_from_disk(glb, tmp_path):
    page = write_viewer(Page("a red ball", glb, None, {}, "", {}, ""), tmp_path / "viewer.html")
    for budget_ms in (60_000, 240_000):  # of the page's own clock, which a busy machine lets run ahead
        pixels = screenshot(page, tmp_path / "shot.png", budget_ms)
        if float((pixels[..., 0] - pixels[..., 2]).max()) > 0.3:
            break
    red = (pixels[..., 0] > 0.4) & (pixels[..., 1] < 0.3) & (pixels[..., 2] < 0.3)
    assert float(red.float().mean()) > 0.02  # the front half
    rows, columns = red.nonzero().unbind(1)
    assert 0.3 < float(columns.float().mean()) / 900 < 0.7
    blue = (pixels[..., 2] > 0.4) & (pixels[..., 0] < 0.3)
    assert red.sum() > blue.sum()  # the front looks at the viewer
