"""Update configuration files, command lines and checkpoints of version 0.1."""

from __future__ import annotations

import re
from typing import Any

import yaml

from dreamfusion_pl.configuration import renames

_CLASS = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in renames.CLASSES))


def update_tree(tree: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a configuration with current names, and a mapping from the old names found to the new ones.

    Args:
        tree: contents of a configuration file, or the configuration of a checkpoint.
    """
    used: dict[str, str] = {}
    tree = _update_classes(tree, used)
    model = tree.get("model")
    if isinstance(model, dict) and str(model.get("class_path", "DreamFusion")).endswith("DreamFusion"):
        arguments = model.get("init_args", model)
        if isinstance(arguments, dict):
            _update_arguments(arguments, used)
    return tree, used


def update_words(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return a command line with current names, and a mapping from the old names found to the new ones."""
    used: dict[str, str] = {}
    updated: list[str] = []
    rest = iter(words)
    for word in rest:
        old, equals, value = word.partition("=")
        flag = _update_flag(old, used)
        if flag in ("--model.scene", "--model.scene.field.bias"):
            value = _update_text(value if equals else next(rest, ""), used)
            updated += _scene_words(value, used) if flag == "--model.scene" else [f"{flag}={value}"]
            if old != flag and value.endswith("LinearBias"):
                updated.append(f"--model.scene.field.shape.radius={renames.OLD_EXTENT}")
        else:
            updated.append(_update_text(f"{flag}{equals}{value}", used))
    return updated, used


def update_checkpoint(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint with current names in its tensors and stored configuration."""
    updated = dict(checkpoint)
    for name in ("state_dict", "current_model_state"):
        if name in updated:
            updated[name] = _update_weights(updated[name])
    stored = updated.get("hyper_parameters", {})
    if "_class_path" in stored:
        own = {key: value for key, value in stored.items() if key.startswith("_")}
        arguments = {key: value for key, value in stored.items() if key not in own}
        tree, _ = update_tree({"model": {"class_path": stored["_class_path"], "init_args": arguments}})
        model = tree["model"]
        updated["hyper_parameters"] = {**own, "_class_path": model["class_path"], **model["init_args"]}
    return updated


def warning(place: str, used: dict[str, str]) -> str:
    """Return the warning about old names.

    Args:
        place: where they were found: a file, or the command line.
        used: mapping from old names to new ones.
    """
    names = "; ".join(f"{old} is {new}" for old, new in used.items())
    return f"{place} has names of version 0.1, which only this version still reads: {names}"


def _update_text(text: str, used: dict[str, str]) -> str:
    def new(match: re.Match[str]) -> str:
        used[match[0]] = renames.CLASSES[match[0]]
        return renames.CLASSES[match[0]]

    return _CLASS.sub(new, text)


def _update_classes(value: Any, used: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _update_classes(part, used) for key, part in value.items()}
    if isinstance(value, list):
        return [_update_classes(part, used) for part in value]
    if isinstance(value, str) and value in renames.CLASSES:
        return _update_text(value, used)
    return value


def _update_arguments(arguments: dict[str, Any], used: dict[str, str]) -> None:
    if "scene" in arguments:
        arguments["scene"] = _update_scene(arguments["scene"], used)
    for old, new in renames.ARGUMENTS.items():
        if old in arguments:
            used[f"model.{old}"] = f"model.{new}"
            group, _, name = new.partition(".")
            arguments.setdefault(group, {})[name] = arguments.pop(old)


def _update_scene(scene: Any, used: dict[str, str]) -> Any:
    """Return a scene with current names; ``scene`` is a class path, or a mapping with or without one."""
    if isinstance(scene, str):
        scene = {"class_path": scene}
    if not isinstance(scene, dict):
        return scene
    before = dict(scene.get("init_args") or {})
    parts: dict[str, dict[str, Any]] = {"features": {}, "field": {}}
    is_old = scene.get("class_path") in renames.SCENES
    if is_old:
        for part, path in zip(parts.values(), renames.SCENES[scene["class_path"]], strict=True):
            part["class_path"] = path
        used[scene["class_path"]] = renames.FIELD_SCENE
        scene = {**scene, "class_path": renames.FIELD_SCENE}
    bias, blob = before.pop("bias", None), before.pop("blob", None)
    if bias is not None or blob is not None:
        used["model.scene.bias"] = "model.scene.field.bias"
        parts["field"]["init_args"] = _bias_and_shape(
            bias if bias is not None else _bias_of_blob(blob, is_old)
        )
    kept = {}
    for name, value in before.items():
        new = renames.ARGUMENTS.get(f"scene.{name}")
        if new is None:
            kept[name] = value
            continue
        used[f"model.scene.{name}"] = f"model.{new}"
        parts[new.split(".")[1]].setdefault("init_args", {})[name] = value
    for name, part in parts.items():
        if part:
            kept[name] = part | kept.get(name, {})
    return {**scene, "init_args": kept} if kept or "init_args" in scene else scene


def _bias_of_blob(strength: float, has_class: bool) -> dict[str, Any]:
    """Return the density bias that ``blob`` meant; in an overlay without a scene class, only its strength."""
    if not has_class:
        return {"init_args": {"strength": strength}}
    return {"class_path": renames.LINEAR_BIAS, "init_args": {"strength": strength, "extent": 0.6}}


def _bias_and_shape(bias: Any) -> dict[str, Any]:
    """Return the field's arguments for an old density bias; the old linear bias had an extent."""
    bias = {"class_path": bias} if isinstance(bias, str) else bias
    arguments = dict(bias.get("init_args") or {})
    extent = arguments.pop(
        "extent", renames.OLD_EXTENT if bias.get("class_path") == renames.LINEAR_BIAS else None
    )
    field: dict[str, Any] = {"bias": {**bias, "init_args": arguments}}
    if extent is not None:
        field["shape"] = {"class_path": renames.BALL, "init_args": {"radius": extent}}
    return field


def _update_flag(flag: str, used: dict[str, str]) -> str:
    """``--model.directions`` and ``--model.init_args.directions`` become ``--model.prompts.directions``."""
    plain = flag.replace(".init_args", "")
    for old, new in renames.ARGUMENTS.items():
        if plain == f"--model.{old}" or plain.startswith(f"--model.{old}."):
            used[f"--model.{old}"] = f"--model.{new}"
            return f"--model.{new}{plain.removeprefix(f'--model.{old}')}"
    return flag


def _scene_words(value: str, used: dict[str, str]) -> list[str]:
    """Return the arguments for ``--model.scene VALUE``; an old class also needs its features and field."""
    for path, (features, field) in renames.SCENES.items():
        if value in (path, path.rpartition(".")[2]):
            used[value] = f"{renames.FIELD_SCENE} with {features} and {field}"
            parts = {"": renames.FIELD_SCENE, ".features": features, ".field": field}
            return [f"--model.scene{part}={name}" for part, name in parts.items()]
    if value.startswith("{"):
        value = yaml.safe_dump(_update_scene(yaml.safe_load(value), used), default_flow_style=True)
    return [f"--model.scene={value}"]


def _update_weights(tensors: dict[str, Any]) -> dict[str, Any]:
    layers = [name.split(".")[2] for name in tensors if name.startswith("scene.network.")]
    last = f"scene.network.{max(map(int, layers), default=0)}."
    renamed = {last: "scene.head.", **renames.WEIGHTS}

    def new(name: str) -> str:
        old = next((start for start in renamed if name.startswith(start)), "")
        return f"{renamed[old]}{name.removeprefix(old)}" if old else name

    return {new(name): value for name, value in tensors.items()}
