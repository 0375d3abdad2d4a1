"""What the page offers: qualities and priors, as options of ``fit``, and the words of a prompt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dreamfusion_pl.configuration.prompt_words import KNOWN, check_object, words_warning
from dreamfusion_pl.data.world.captions import COLOR_WORDS, OBJECT_WORDS, pair_held_out
from dreamfusion_pl.data.world.colors import COLORS
from dreamfusion_pl.data.world.nearest import nearest
from dreamfusion_pl.data.world.objects.catalog import OBJECTS
from dreamfusion_pl.diffusion.text.prompt_check import check_prompt, read

OWN = "own"  # the prior that the server was started with, by default the embedded one
MOST_LETTERS = 500  # of a prompt
MOST_SEEDS = 16  # variations at once
LARGEST_SEED = 2**31 - 1
QUALITIES = {"draft": "draft.yaml", "default": ""}  # name: overlay
PRIORS = {  # overlay: what people call it
    "stable_diffusion.yaml": "Stable Diffusion 1.5",
    "stable_diffusion_xl.yaml": "Stable Diffusion XL",
    "stable_diffusion_3.yaml": "Stable Diffusion 3",
    "deepfloyd.yaml": "DeepFloyd IF",
    "flux.yaml": "FLUX",
}


class Setup(NamedTuple):
    """What the server was started with."""

    words: tuple[str, ...] = ()  # options of every fit
    is_embedded: bool = True  # whether these leave the embedded prior, which knows few words, in place


class Order(NamedTuple):
    """What a visitor asks for."""

    prompt: str
    quality: str = "default"
    seed: int | float | None = 0
    variations: int | float | None = 1
    prior: str = OWN  # or one of PRIORS
    model: str = ""  # name or folder of the prior; "" is the overlay's own


def options(order: Order, setup: Setup) -> tuple[str, ...]:
    """Return the options of the fits of an order. The words of the server come last, and win.

    Raises:
        ValueError: it asks for what is not offered.
    """
    if order.prior == OWN:
        if order.quality not in QUALITIES:
            raise ValueError(f"There is no quality {order.quality!r}.")
        overlay = QUALITIES[order.quality]
        return (*([f"--config={overlay}"] if overlay else []), *setup.words)
    if order.prior not in PRIORS:
        raise ValueError(f"There is no prior {order.prior!r}.")
    model = order.model.strip()
    if len(model) > MOST_LETTERS or not model.isprintable() or model.startswith("-"):
        raise ValueError(
            "The prior's name is that of a model on the hub, such as owner/name, or of a folder or file."
        )
    if model[:1] in ("/", ".", "~"):
        model = str(Path(model).expanduser())
        if not Path(model).exists():
            raise ValueError(f"There is no folder or file {model} on the machine that runs this page.")
    named = [f"--model.prior.model={model}"] if model else []
    return (f"--config={order.prior}", *named, *setup.words)


def seeds(order: Order) -> list[int]:
    """Return the seeds of an order.

    Raises:
        ValueError: they are no whole numbers in the range that fits take.
    """
    first, count = order.seed, order.variations
    if first is None or not 0 <= first <= LARGEST_SEED - MOST_SEEDS or first != int(first):
        raise ValueError(f"The seed is a whole number from 0 to {LARGEST_SEED - MOST_SEEDS}.")
    if count is None or not 1 <= count <= MOST_SEEDS or count != int(count):
        raise ValueError(f"The number of variations is from 1 to {MOST_SEEDS}.")
    return [int(first) + index for index in range(int(count))]


def prompt(order: Order, setup: Setup) -> str:
    """Return the prompt of an order as a fit takes it, in one line.

    Raises:
        ValueError: it can't be drawn; the message is a sentence for the page.
    """
    text = " ".join(order.prompt.split())
    if not text:
        raise ValueError("Describe an object first, such as: a red chair")
    if len(text) > MOST_LETTERS:
        raise ValueError(f"The prompt has {len(text)} characters; {MOST_LETTERS} are the most.")
    if not text.isprintable() and any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise ValueError("The prompt has a control character in it, such as the null character: remove it.")
    try:
        text = check_prompt(text)
    except ValueError:
        raise ValueError("The prompt has no word in it that can be drawn.") from None
    if is_embedded(order, setup):
        try:
            check_object(text)
        except ValueError:
            raise ValueError(unknown_object(text)) from None
    return text


def is_embedded(order: Order, setup: Setup) -> bool:
    """Whether the embedded prior draws an order."""
    return order.prior == OWN and setup.is_embedded


def unknown_object(text: str) -> str:
    """Say that a prompt names no object that the embedded prior knows, and what is near."""
    unknown = read(text, KNOWN.__contains__).unknown
    said = f" It does not know {_named(unknown)}." if unknown else ""
    return f"The embedded prior knows no object in this prompt.{said}"


def remark(text: str) -> str:
    """Return what to know of a prompt that the embedded prior can draw; "" if there is nothing."""
    lines = (words_warning(text) or "").splitlines()
    said = [unknown_words(text), *(line for line in lines if line.startswith("This prompt names"))]
    return " ".join(said).strip()


def unknown_words(text: str) -> str:
    """Name the words that the embedded prior does not know, and what is near; "" if it knows all."""
    unknown = read(text, KNOWN.__contains__).unknown
    them = "them" if len(unknown) > 1 else "it"
    said = f"The embedded prior does not know {_named(unknown)} and leaves {them} out."
    return said if unknown else ""


def _named(words: Sequence[str], most: int = 5) -> str:
    near = [(word[:40], nearest(word)) for word in words[:most]]
    named = [f"“{word}” (nearest: {name})" if name else f"“{word}”" for word, name in near]
    more = [f"{len(words) - most} more"] if len(words) > most else []
    return ", ".join([*named, *more])


def completions(text: str, most: int = 8) -> list[str]:
    """Return prompts that begin as ``text`` does, or examples if it is empty; the embedded prior knows them.

    The last word is completed: with a colour as long as there is none, and with an object.
    """
    head, _, last = text.lower().rpartition(" ")
    if not text.strip():
        return _examples(most)
    names = [*COLOR_WORDS, *OBJECT_WORDS] if not _has_object(head) else []
    colored = any(word in COLOR_WORDS for word in head.split())
    names = [name for name in names if name.startswith(last) and name != last]
    if colored:
        names = [name for name in names if name not in COLOR_WORDS]
    start = f"{text[: len(head)]} " if head else ""
    return [f"{start}{name}" for name in sorted(names, key=lambda name: (name not in OBJECTS, name))][:most]


def _has_object(text: str) -> bool:
    return any(re.search(rf"\b{re.escape(name)}\b", text) for name in OBJECT_WORDS)


def _examples(most: int) -> list[str]:
    names, colors = [*OBJECTS], [*COLORS]
    step = max(len(names) // most, 1)
    chosen = []
    for place, name in enumerate(names[::step][:most]):
        color = next(color for color in colors[place:] + colors[:place] if not pair_held_out(name, color))
        chosen.append(f"{'an' if color[0] in 'aeiou' else 'a'} {color} {name}")
    return chosen
