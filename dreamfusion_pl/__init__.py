"""DreamFusion in PyTorch Lightning: a sentence becomes a 3D object."""

from __future__ import annotations

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
    """Make a 3D object from a sentence, exactly as ``python -m dreamfusion_pl fit`` does.

    Example::

        from dreamfusion_pl import generate

        generate("a red chair").save("chair.glb")

    Args:
        prompt: what to make.
        steps: training steps; None takes the configuration's.
        seed: seed of everything random.
        configs: YAML files over the default configuration, as after ``--config``.
        options: further words of the command line, as in ``["--model.learning_rate", "0.01"]``.

    Returns:
        The finished object with its run folder.

    Raises:
        ValueError: the prompt, a file or an option is wrong; the message says how to put it right.
    """
    from dreamfusion_pl import result  # here, so that importing the package stays quick

    return result.generate(prompt, steps, seed, configs, options)
