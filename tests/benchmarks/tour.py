"""Run the notebook of the guide, and write what it shows into it, pages left out.

    python tests/benchmarks/tour.py

A page of a run has megabytes, and web hosts do not show it; a picture of the object stands there instead.
Needs nbclient and ipykernel.
"""

from __future__ import annotations

import base64
import os
import tempfile
from io import BytesIO
from pathlib import Path

import nbclient
import nbformat
from PIL import Image

TOUR = Path(__file__).parents[2] / "docs" / "tour.ipynb"


def smaller(picture: str) -> str:
    """A PNG in base64 with 256 colours."""
    file = BytesIO()
    with Image.open(BytesIO(base64.b64decode(picture))) as image:
        image.convert("RGB").quantize(256).save(file, format="PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def main() -> None:
    """Execute and write."""
    notebook = nbformat.read(TOUR, as_version=4)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(TOUR.parents[1]), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        client = nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": folder}})
        client.execute()
        for cell in notebook.cells:
            cell.metadata = {}
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                data.pop("text/html", None)
                if "image/png" in data:
                    data["image/png"] = smaller(data["image/png"])
                for holder, key in ((output, "text"), (data, "text/plain")):
                    if key in holder:
                        holder[key] = holder[key].replace(f"{folder}/", "").replace(folder, ".")
    nbformat.write(notebook, TOUR)


if __name__ == "__main__":
    main()
