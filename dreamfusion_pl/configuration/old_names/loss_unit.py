"""Converts weights of version 0.1, when a regularizer was not weighted in the distillation's unit of loss."""

from __future__ import annotations

from typing import Any, NamedTuple

Tree = dict[str, Any]


class Below(NamedTuple):
    """What lower layers of a configuration say that the meaning of old names depends on."""

    features: str | None = None  # class of the scene's features; None: there are none
    field: str | None = None  # class of the scene's field; None: there is none
    side: int = 32  # height of the prior's pictures or latents; the embedded prior has 32
    guidance_scale: float = 6.0  # omega

    @property
    def unit(self) -> float:
        """The unit of loss, see ``distillation.base.loss_unit``."""
        return self.side**2 * (1.0 + self.guidance_scale)


def below(tree: Tree, known: Below) -> Below:
    """Return what is known above a layer.

    Args:
        tree: the layer, in today's names.
        known: what the layers under it say.
    """
    prior = _part(tree, "prior", "init_args") or {}
    side = prior.get("resolution") or (known.side if "model" not in prior else 64)
    if prior.get("model") == "builtin":
        side = 32
    return Below(
        _part(tree, "scene", "init_args", "features", "class_path") or known.features,
        _part(tree, "scene", "init_args", "field", "class_path") or known.field,
        side if isinstance(side, int) else known.side,
        _number(_part(tree, "distillation", "init_args", "guidance_scale"), known.guidance_scale),
    )


def in_unit(weight: Any, unit: float) -> Any:
    """Divide a weight, or the numbers of its schedule, by the unit; leave anything else as it is."""
    if isinstance(weight, dict):
        arguments = weight.get("init_args", weight)
        scaled = {
            name: value / unit if name in ("value", "first", "last") and _is_number(value) else value
            for name, value in arguments.items()
        }
        return {**weight, "init_args": scaled} if "init_args" in weight else scaled
    return weight / unit if _is_number(weight) else weight


def _part(tree: Any, *path: str) -> Any:
    for name in ("model", "init_args", *path):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def _number(value: Any, otherwise: float) -> float:
    return float(value) if _is_number(value) else otherwise


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
