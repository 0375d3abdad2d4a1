"""Updates the scene of a configuration of version 0.1: one class became features and a field."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import yaml

from dreamfusion_pl.configuration.old_names import renames
from dreamfusion_pl.configuration.old_names.loss_unit import Below

Tree = dict[str, Any]
_FIELD_OF = dict(renames.SCENES.values())  # by the class of the features


def update_classes(value: Any, used: dict[str, str]) -> Any:
    """Replace every old class path in a tree; note it in ``used``."""
    if isinstance(value, dict):
        return {key: update_classes(part, used) for key, part in value.items()}
    if isinstance(value, list):
        return [update_classes(part, used) for part in value]
    if isinstance(value, str) and value in renames.CLASSES:
        used[value] = renames.CLASSES[value]
        return used[value]
    return value


def update_scene(scene: Any, known: Below, used: dict[str, str]) -> Any:
    """A scene in today's names.

    An old scene's class, and a bias with a class, had defaults that today's layers below must not replace:
    they are written out. So is the field itself where the layers below have one without a bias.
    """
    scene = {"class_path": scene} if isinstance(scene, str) else scene
    if not isinstance(scene, dict):
        return scene
    name, arguments = scene.get("class_path"), dict(scene.get("init_args") or {})
    old = next((path for path in renames.SCENES if name in (path, path.rpartition(".")[2])), None)
    moved = [key for key in arguments if f"scene.{key}" in renames.ARGUMENTS]
    if not old and (name not in (None, renames.FIELD_SCENE) or not moved):
        return scene
    parts: dict[str, Tree] = {"features": {}, "field": {}}
    if old:
        used[old] = renames.FIELD_SCENE
        parts = {part: {"class_path": path} for part, path in zip(parts, renames.SCENES[old], strict=True)}
    used |= {f"model.scene.{key}": f"model.{renames.ARGUMENTS[f'scene.{key}']}" for key in moved}
    bias, blob = arguments.pop("bias", None), arguments.pop("blob", None)
    defaults: Tree = {}
    field = _FIELD_OF.get(known.features or "")
    if old and parts["features"]["class_path"] != known.features:
        defaults = renames.FIELDS[parts["features"]["class_path"]]
    elif field and (old or bias or blob is not None) and known.field not in _FIELD_OF.values():
        defaults = renames.DEFAULT_FIELD
        parts["field"]["class_path"] = field
        parts["features"]["init_args"] = dict(renames.NEW_ARGUMENTS.get(known.features or "", {}))
    parts["field"]["init_args"] = _field_arguments(bias, blob, defaults)
    kept: Tree = {}
    for key, value in arguments.items():
        if key in moved:
            part = parts[renames.ARGUMENTS[f"scene.{key}"].split(".")[1]]
            part.setdefault("init_args", {})[key] = value
        else:
            kept[key] = value
    for key, part in parts.items():
        given = kept.pop(key, None) or {}
        both = {**part, **given, "init_args": (part.get("init_args") or {}) | (given.get("init_args") or {})}
        if both != {"init_args": {}}:
            kept[key] = both
    return {**scene, **({"class_path": renames.FIELD_SCENE} if old else {}), "init_args": kept}


def _field_arguments(bias: Any, blob: Any, defaults: Tree) -> Tree:
    """The arguments of a field for an old bias or blob; without both, the defaults."""
    if isinstance(bias, str):
        bias = {"class_path": bias}
    if bias is not None and not isinstance(bias, dict):
        raise ValueError(f"model.scene.bias must be a class or a mapping, got {bias!r}")
    if bias:
        arguments, name = dict(bias.get("init_args") or {}), bias.get("class_path")
        path = next((path for path in renames.BIASES if name in (path, path.rpartition(".")[2])), name)
        arguments = renames.BIASES.get(path or "", {}) | arguments
        extent = arguments.pop("extent", None)
        named = {"class_path": path} if path else {}
        return {"bias": {**named, "init_args": arguments}, **({"shape": _ball(extent)} if extent else {})}
    field = copy.deepcopy(defaults)
    if blob is not None:
        field.setdefault("bias", {}).setdefault("init_args", {})["strength"] = blob
    return field


def _ball(radius: float) -> Tree:
    return {"class_path": renames.BALL, "init_args": {"radius": radius}}


def is_old_scene(value: str) -> bool:
    """Whether the value of ``--model.scene`` is an old class, or a mapping with old names."""
    if not value.startswith("{"):
        return value in renames.SCENES or value in {path.rpartition(".")[2] for path in renames.SCENES}
    try:
        tree = yaml.safe_load(value)
    except yaml.YAMLError:
        return False  # the parser says what is wrong with it
    used: dict[str, str] = {}
    update_scene(update_classes(tree, used), Below(), used)
    return bool(used)


def put_argument(scene: Tree, path: list[str], value: Any) -> None:
    """Set an argument of a scene by its path; a value for a class is its path, or a mapping."""
    for name in path[:-1]:
        scene = scene.setdefault("init_args", {}).setdefault(name, {})
    if path and (isinstance(value, dict) or path[-1] in ("bias", "covariance")):
        scene = scene.setdefault("init_args", {}).setdefault(path[-1], {})
        path = []
    if path:
        scene.setdefault("init_args", {})[path[-1]] = value
    elif value is not None:
        scene.update(value if isinstance(value, dict) else {"class_path": value})


def flags(part: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The ends of flags, and the values, that give a class with its arguments."""
    if isinstance(part, dict) and part.keys() & {"class_path", "init_args"}:
        if "class_path" in part:
            yield name, part["class_path"]
        for key, value in (part.get("init_args") or {}).items():
            yield from flags(value, f"{name}.{key}")
    else:
        yield name, part if isinstance(part, str) else json.dumps(part)
