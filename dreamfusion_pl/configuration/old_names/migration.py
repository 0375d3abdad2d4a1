"""Updates configuration files, command lines and checkpoints of version 0.1."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import yaml

from dreamfusion_pl.configuration.old_names import renames
from dreamfusion_pl.configuration.old_names.loss_unit import Below, below, in_unit
from dreamfusion_pl.configuration.old_names.scene_migration import (
    flags,
    is_old_scene,
    put_argument,
    update_classes,
    update_scene,
)

PERP_NEG = (["--model", "perp_neg"], ["--model", "prompts", "perp_neg"])
Tree = dict[str, Any]
DEFAULT = Below()
_CLASS = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in renames.CLASSES))


def update_tree(tree: Tree, known: Below = DEFAULT) -> tuple[Tree, dict[str, str]]:
    """Return a configuration in today's names, and the old names that it had with the new ones.

    Args:
        tree: contents of a configuration file or of a checkpoint.
        known: what the layers below say.

    Raises:
        ValueError: an argument cannot be moved to its new place.
    """
    used: dict[str, str] = {}
    tree = update_classes(copy.deepcopy(tree), used)
    model = tree.get("model")
    if isinstance(model, dict) and model.get("class_path", renames.MODEL) == renames.MODEL:
        arguments = model.get("init_args", model)
        if isinstance(arguments, dict):
            _update_arguments(arguments, known, used)
    if isinstance(model, dict) and model.get("class_path", renames.TRAINING) == renames.TRAINING:
        arguments = model.get("init_args", model)
        if isinstance(arguments, dict):
            _update_networks(arguments, used)
    return tree, used


def update_words(words: list[str], known: Below = DEFAULT) -> tuple[list[str], dict[str, str]]:
    """Return a command line in today's names, and the old names that it had with the new ones.

    Args:
        words: the words after the command's name.
        known: what the layers below say.

    Raises:
        ValueError: an argument cannot be moved to its new place, or its value is not valid YAML.
    """
    used: dict[str, str] = {}
    scene: Tree = {}  # what old words say of the scene
    updated: list[str] = []
    rest = list(reversed(words))
    while rest:
        word = rest.pop()
        flag, equals, value = word.partition("=")
        path = flag.replace(".init_args", "").removesuffix(".class_path").split(".")
        if word == "--prompt":
            updated += [word, *([rest.pop()] if rest else [])]
        elif path in PERP_NEG and (value if equals else rest[-1] if rest else "") == "null":
            # jsonargparse takes no null for an optional class that is an argument of a class
            updated.append("--model.prompts={perp_neg: null}")
            del rest[len(rest) - (not equals) :]
        elif path[:1] == ["--model"] and path[1:2] and path[1] in renames.WEIGHTED:
            value = value if equals else rest.pop() if rest else ""
            unit = 1.0 if path[2:] in (["start"], ["end"]) else known.unit
            updated.append(_update_word(f"{flag}={_written(in_unit(_parsed(flag, value), unit))}", used))
        elif path[:2] != ["--model", "scene"]:
            updated.append(word if flag == "--prompt" else _update_word(word, used))
        elif path[2:3] and f"scene.{path[2]}" in renames.ARGUMENTS:
            value = value if equals else rest.pop() if rest else ""
            put_argument(scene, path[2:], _parsed(flag, value))
        elif len(path) == 2 and is_old_scene(value if equals else rest[-1] if rest else ""):
            put_argument(scene, [], _parsed(flag, value if equals else rest.pop()))
        else:
            updated.append(_update_word(word, used))
    if scene:
        scene = update_scene(update_classes(scene, used), known, used)
        updated += [f"--model.scene{name}={value}" for name, value in flags(scene)]
    return updated, used


def update_checkpoint(checkpoint: Tree) -> Tree:
    """Return a checkpoint whose tensors and stored configuration have today's names."""
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
    """Return the message about old names.

    Args:
        place: where they were found: a file, or the command line.
        used: old names, and the new ones.
    """
    names = "; ".join(f"{old} is {new}" for old, new in used.items())
    return f"{place} has names of version 0.1, which only this version still reads: {names}"


def _update_word(word: str, used: dict[str, str]) -> str:
    def new(match: re.Match[str]) -> str:
        used[match[0]] = renames.CLASSES[match[0]]
        return renames.CLASSES[match[0]]

    flag, equals, value = word.partition("=")
    plain = flag.replace(".init_args", "")
    networks = {name: f"family.{name}" for name in renames.NETWORKS}
    for old, name in (renames.ARGUMENTS | networks).items():
        if plain == f"--model.{old}" or plain.startswith(f"--model.{old}."):
            used[f"model.{old}"] = f"model.{name}"
            flag = f"--model.{name}{plain.removeprefix(f'--model.{old}')}"
            break
    return _CLASS.sub(new, f"{flag}{equals}{value}")


def _update_arguments(arguments: Tree, known: Below, used: dict[str, str]) -> None:
    if "scene" in arguments:
        arguments["scene"] = update_scene(arguments["scene"], known, used)
    unit = below({"model": {"init_args": arguments}}, known).unit
    for old in renames.WEIGHTED:
        if old in arguments:
            arguments[old] = in_unit(arguments[old], unit)
    for old, new in renames.ARGUMENTS.items():
        if old not in arguments:
            continue
        group, _, name = new.partition(".")
        if not isinstance(arguments.get(group) or {}, dict):
            raise ValueError(f"model.{old} is now model.{new}: write it into model.{group}")
        used[f"model.{old}"] = f"model.{new}"
        if old in renames.WEIGHTED:
            used[f"model.{old}"] += f" in another unit (divided by {unit:g})"
        arguments[group] = {name: arguments.pop(old), **(arguments.get(group) or {})}


def _update_networks(arguments: Tree, used: dict[str, str]) -> None:
    """Give the arguments of a prior's networks to its family, which was DeepFloyd's."""
    moved = {name: arguments.pop(name) for name in renames.NETWORKS if name in arguments}
    if moved:
        family = arguments.get("family") or {"class_path": renames.PIXELS}
        arguments["family"] = {**family, "init_args": {**moved, **(family.get("init_args") or {})}}
        used |= {f"model.{name}": f"model.family.{name}" for name in moved}


def _parsed(flag: str, value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"{flag}: {value!r} is not valid YAML") from error


def _update_weights(tensors: Tree) -> Tree:
    layers = [name.split(".")[2] for name in tensors if name.startswith("scene.network.")]
    last = f"scene.network.{max(map(int, layers), default=0)}."
    renamed = {last: "scene.head.", **renames.WEIGHTS}

    def new(name: str) -> str:
        old = next((start for start in renamed if name.startswith(start)), "")
        return f"{renamed[old]}{name.removeprefix(old)}" if old else name

    return {new(name): value for name, value in tensors.items()}


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
