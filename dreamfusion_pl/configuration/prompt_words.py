"""What the embedded prior makes of a prompt: which words it knows, and whether they name an object."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dreamfusion_pl.data.world.captions import OBJECT_WORDS, RELATION_WORDS, VOCABULARY
from dreamfusion_pl.data.world.colors import COLORS
from dreamfusion_pl.data.world.nearest import nearest
from dreamfusion_pl.data.world.objects.catalog import OBJECTS
from dreamfusion_pl.data.world.scenes import RELATIONS
from dreamfusion_pl.diffusion.text.prompt_check import read

KNOWN = {*VOCABULARY}
PRIOR = "dreamfusion_pl.diffusion.families.pretrained.PretrainedPrior"
OTHER_MODELS = (
    "For any other prompt use a model from the hub, on a GPU: --config stable_diffusion.yaml, another "
    "overlay, or --model.prior.model NAME (docs/priors.md)"
)


def is_embedded(model: Mapping[str, Any]) -> bool:
    """Return whether the prior in a model's configuration (its ``init_args``) is the embedded one."""
    prior = model.get("prior") or {}
    return prior.get("class_path") == PRIOR and (prior.get("init_args") or {}).get("model") == "builtin"


def check_object(prompt: str) -> None:
    """Check that a prompt names an object that the embedded prior knows.

    Raises:
        ValueError: it names none; the message says which names are near, and what else can be done.
    """
    found = read(prompt, KNOWN.__contains__)
    if not _named(found.text, OBJECT_WORDS):
        why = f"it does not know {_quoted(found.unknown)}" if found.unknown else "the prompt names none"
        raise ValueError(
            f"the embedded prior knows no object in {prompt!r}: {why}.\n{_known()}\n{OTHER_MODELS}"
        )


def words_warning(prompt: str, others: Sequence[str] = ()) -> str | None:
    """Return what to warn of before the embedded prior draws a prompt; None if it knows all of it.

    Args:
        prompt: the prompt.
        others: further texts, such as those of the views, in which unknown words are looked for.
    """
    lines = []
    unknown = read(" , ".join([prompt, *others]), KNOWN.__contains__).unknown
    if unknown:
        them = "them" if len(unknown) > 1 else "it"
        lines = [f"The embedded prior does not know {_quoted(unknown)} and leaves {them} out."]
        lines += [_known(), OTHER_MODELS]
    text = read(prompt, KNOWN.__contains__).text
    objects = _named(text, OBJECT_WORDS)
    if len(objects) > 1 and not (len(objects) == 2 and _named(text, RELATION_WORDS)):
        relations = " or ".join(map(repr, RELATIONS))
        lines.append(
            f"This prompt names {len(objects)} objects ({', '.join(objects)}), and the result may be a "
            f"mixture: the embedded prior draws one, or two of which one is {relations} the other, such as "
            '"a red ball on a blue cube"'
        )
    return "\n".join(lines) or None


def _known() -> str:
    objects, colors = ", ".join(sorted(OBJECTS)), ", ".join(sorted(COLORS))
    return f"It knows these objects: {objects};\nand these colours: {colors}."


def _quoted(words: Sequence[str]) -> str:
    near = {word: nearest(word) for word in words}
    return ", ".join(f"{word!r} (nearest: {name!r})" if name else repr(word) for word, name in near.items())


def _named(text: str, names: Mapping[str, str]) -> list[str]:
    """Return the names that occur in a text, the longest where several begin at one place."""
    choice = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.findall(rf"\b(?:{choice})\b", text.lower())
