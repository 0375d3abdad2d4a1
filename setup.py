"""Packaging: ranges of dependencies; requirements.txt pins the tested set."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
VERSION = re.search(
    r'VERSION = "(.+)"', (HERE / "dreamfusion_pl" / "version.py").read_text(encoding="utf-8")
)[1]


class BuildWithConfigs(build_py):
    """Puts the YAMLs of configs/ into the wheel, as dreamfusion_pl/configs."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "dreamfusion_pl" / "configs"
            target.mkdir(parents=True, exist_ok=True)
            for file in sorted((HERE / "configs").glob("*.yaml")):
                shutil.copy(file, target)


setup(
    name="dreamfusion_pl",
    version=VERSION,
    description="DreamFusion in PyTorch Lightning: a sentence becomes a 3D object",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    classifiers=[  # only what was run; docs/platforms.md
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["dreamfusion_pl", "dreamfusion_pl.*"]),
    package_data={
        "dreamfusion_pl.app": ["*.css", "*.js"],
        "dreamfusion_pl.diffusion": ["builtin/*", "builtin/*/*"],
        "dreamfusion_pl.export.pages": ["template/*"],
        "dreamfusion_pl.metrics": ["*.safetensors"],
    },
    cmdclass={"build_py": BuildWithConfigs},
    install_requires=[
        "torch>=2.13",
        "pytorch-lightning>=2.6.4,<3",
        "torchmetrics>=1.9",
        "diffusers>=0.42",
        "transformers>=5.0",
        "tokenizers>=0.22",
        "sentencepiece>=0.2",
        "safetensors>=0.5",
        "jsonargparse[signatures]>=4.53,<5",
        "pytorch-optimizer>=4.1",
        "pyyaml>=6.0",
        "tensorboard>=2.19",
        "fast-simplification>=0.2",
        "filelock>=3.30",
        "imageio>=2.37",
        "imageio-ffmpeg>=0.6",
        "numpy>=2.0",
        "pillow>=11.0",
        "scikit-image>=0.25",
        "scipy>=1.14",
        "tqdm>=4.66",
        "trimesh>=4.6",
        "xatlas>=0.0.11",
    ],
    extras_require={
        "test": ["pytest>=9.0", "pytest-xdist>=3.8", "ruff>=0.17", "mypy>=2.4", "ray>=2.60", "peft>=0.21"],
        "lora": ["peft>=0.21"],
        "batch": ["ray>=2.60"],
        "viewer": ["viser>=1.1"],
        "docs": ["sphinx>=8.2", "myst-parser>=5.0", "furo>=2025.9"],
        "app": ["gradio>=6.30,<7"],
    },
)
