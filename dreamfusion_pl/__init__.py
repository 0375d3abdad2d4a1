"""DreamFusion in PyTorch Lightning: text to 3D by score distillation."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dreamfusion_pl.version import VERSION

if TYPE_CHECKING:
    from dreamfusion_pl.result import Result

__version__ = VERSION
__all__ = ["__version__", "generate"]


def generate(
    prompt: str,
    steps: int | None = None,
    seed: int = 0,
    configs: Sequence[str] = (),
    options: Sequence[str] = (),
) -> Result:
    """Generate a 3D object from a prompt, exactly as ``python -m dreamfusion_pl fit`` does.

    Example::

        from dreamfusion_pl import generate

        generate("a red chair").save("chair.glb")

    Args:
        prompt: text that describes the object.
        steps: number of training steps; None uses the configuration's.
        seed: random seed of the run.
        configs: YAML files on top of the default configuration, as with ``--config``.
        options: further command-line arguments, such as ``["--model.learning_rate", "0.01"]``.

    Returns:
        The finished object and its run folder.

    Raises:
        ValueError: the prompt, a file or an option is invalid; the message says how to fix it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line; too late if torch is loaded
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")  # of tqdm, in notebooks without widgets
        from dreamfusion_pl import result  # imported here to keep the package's import fast

    return result.generate(prompt, steps, seed, configs, options)
