"""Captions of the world: wording, parsing, vocabulary, and the combinations held out of training."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

from dreamfusion_pl.data.world.colors import COLORS, PATTERNS
from dreamfusion_pl.data.world.objects.catalog import OBJECT_NAMES, OBJECTS
from dreamfusion_pl.data.world.scenes import BASES, MOVABLES, RELATIONS, Item, WorldScene
from dreamfusion_pl.diffusion.text.view_names import ELEVATION_STEP_DEG, VIEW_NAMES

PREFIXES = ("", "a photo of", "a picture of", "a 3d model of", "a rendering of", "a toy of")
ARTICLES = ("a", "the", "one")
VIEW_WORDS = VIEW_NAMES[8]  # every 45 degrees of azimuth, counter-clockwise seen from above; then from above
VIEWS_AND_ELEVATIONS = VIEW_NAMES[48]  # eight azimuths for each of six elevations
COLOR_SYNONYMS = {"cyan": ("turquoise",), "gray": ("grey",), "purple": ("violet",)}
PATTERN_SYNONYMS = {"spotted": ("dotted",), "checkered": ("checked",)}
RELATION_SYNONYMS = {"on": ("on top of",), "next to": ("beside",)}


def _spellings(names: tuple[str, ...], synonyms: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    return {word: name for name in names for word in (name, *synonyms.get(name, ()))}


OBJECT_WORDS = {word: item.name for item in OBJECTS.values() for word in item.words}
COLOR_WORDS = _spellings(tuple(COLORS), COLOR_SYNONYMS)
PATTERN_WORDS = _spellings(PATTERNS[1:], PATTERN_SYNONYMS)
RELATION_WORDS = _spellings(RELATIONS, RELATION_SYNONYMS)
VOCABULARY = sorted(
    {
        word
        for phrases in (
            OBJECT_WORDS,
            COLOR_WORDS,
            PATTERN_WORDS,
            RELATION_WORDS,
            PREFIXES,
            ARTICLES,
            VIEW_WORDS,
            VIEWS_AND_ELEVATIONS,
            ("an", ","),
        )
        for phrase in phrases
        for word in phrase.replace(", ", " ").split()
    }
)


def pair_held_out(name: str, color: str) -> bool:
    """Return whether this object in this colour is held out of training.

    The rule is (5 * object index + 3 * colour index) mod 8 = 0, with indices in the order of ``OBJECTS`` and
    ``COLORS``: one pair in eight.
    """
    return (5 * OBJECT_NAMES.index(name) + 3 * tuple(COLORS).index(color)) % 8 == 0


def relation_held_out(first: str, second: str) -> bool:
    """Return whether a relation of these two objects, in this order, is held out of training.

    The rule is (first index + 2 * second index) mod 5 = 0: one pair in five.
    """
    return (OBJECT_NAMES.index(first) + 2 * OBJECT_NAMES.index(second)) % 5 == 0


def held_out(scene: WorldScene) -> bool:
    """Return whether a colour-object pair or the relation of a scene is held out of training."""
    if any(pair_held_out(item.object, item.color) for item in scene.items):
        return True
    return bool(scene.relation) and relation_held_out(scene.items[0].object, scene.items[1].object)


def view_words(elevation_deg: float, azimuth_deg: float) -> str:
    """Return the view's name: overhead above 60 degrees (paper 3.2), otherwise the nearest of eight azimuths.

    The paper's four names do not distinguish the left and the right side, so a model trained with them cannot
    either. The object's own left is at azimuth 90.
    """
    if elevation_deg > 60.0:
        return VIEW_WORDS[8]
    return VIEW_WORDS[_octant(azimuth_deg)]


def view_and_elevation(elevation_deg: float, azimuth_deg: float) -> str:
    """Return the view's name with its elevation, the nearest of 0, 15, 30, 45, 60 and 75 degrees."""
    level = min(max(int(elevation_deg / ELEVATION_STEP_DEG + 0.5), 0), 5)
    return VIEWS_AND_ELEVATIONS[8 * level + _octant(azimuth_deg)]


def _octant(azimuth_deg: float) -> int:
    return int((azimuth_deg + 22.5) // 45.0) % 8


def _article(word: str, rng: random.Random) -> str:
    article = rng.choice(ARTICLES)
    return "an" if article == "a" and word[0] in "aeiou" else article


def _choose(name: str, synonyms: tuple[str, ...], rng: random.Random) -> str:
    return name if rng.random() < 0.6 else rng.choice((name, *synonyms))


def _phrase(item: Item, rng: random.Random, name_color: bool) -> str:
    words = [_choose(item.color, COLOR_SYNONYMS.get(item.color, ()), rng)] if name_color else []
    if item.pattern != "plain":
        words.insert(
            rng.randrange(len(words) + 1), _choose(item.pattern, PATTERN_SYNONYMS.get(item.pattern, ()), rng)
        )
    words.append(_choose(item.object, OBJECTS[item.object].synonyms, rng))
    phrase = " ".join(words)
    return f"{_article(phrase, rng)} {phrase}"


def describe(scene: WorldScene, rng: random.Random, view: str = "", name_colors: bool = True) -> str:
    """Return a random wording of a scene.

    Args:
        scene: the scene.
        rng: chooses synonyms, articles and the prefix.
        view: view words to append, or "".
        name_colors: whether to name the colours.
    """
    text = _phrase(scene.items[0], rng, name_colors)
    if scene.relation:
        relation = _choose(scene.relation, RELATION_SYNONYMS.get(scene.relation, ()), rng)
        text = f"{text} {relation} {_phrase(scene.items[1], rng, name_colors)}"
    prefix = rng.choice(PREFIXES) if rng.random() < 0.5 else ""
    text = f"{prefix} {text}".strip()
    return f"{text}, {view}" if view else text


def plain_caption(scene: WorldScene) -> str:
    """Return the shortest wording, such as "a red ball on a blue cube"."""

    def phrase(item: Item) -> str:
        words = [w for w in (item.pattern if item.pattern != "plain" else "", item.color, item.object) if w]
        return f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"

    return f" {scene.relation} ".join(phrase(item) for item in scene.items)


def _match(words: dict[str, str]) -> str:
    return "|".join(re.escape(w) for w in sorted(words, key=len, reverse=True))


_ITEM = (
    rf"(?:(?:an?|the|one)\s+)?(?:(?P<pattern_a>{_match(PATTERN_WORDS)})\s+)?(?P<color>{_match(COLOR_WORDS)})\s+"
    rf"(?:(?P<pattern_b>{_match(PATTERN_WORDS)})\s+)?(?P<object>{_match(OBJECT_WORDS)})"
)
_PREFIX = rf"(?:(?:{_match({p: p for p in PREFIXES if p})})\s+)?"
_ITEM_RE = re.compile(_ITEM)
_RELATION_RE = re.compile(rf"\s+(?P<relation>{_match(RELATION_WORDS)})\s+")
_PREFIX_RE = re.compile(_PREFIX)


def _read_item(text: str, start: int) -> tuple[Item, int] | None:
    found = _ITEM_RE.match(text, start)
    if found is None:
        return None
    pattern = found["pattern_a"] or found["pattern_b"]
    item = Item(
        OBJECT_WORDS[found["object"]],
        COLOR_WORDS[found["color"]],
        PATTERN_WORDS[pattern] if pattern else "plain",
    )
    return item, found.end()


def parse(prompt: str) -> WorldScene | None:
    """Parse a prompt to a scene; return None if the world cannot show it exactly.

    View words after a comma are ignored.
    """
    text = " ".join(prompt.lower().split(",")[0].strip(" .!").split())
    prefix = _PREFIX_RE.match(text)
    first = _read_item(text, prefix.end() if prefix else 0)
    if first is None:
        return None
    if first[1] == len(text):
        return WorldScene((first[0],))
    relation = _RELATION_RE.match(text, first[1])
    second = _read_item(text, relation.end()) if relation else None
    if relation is None or second is None or second[1] != len(text):
        return None
    return WorldScene((first[0], second[0]), RELATION_WORDS[relation["relation"]])


def related_pairs() -> list[tuple[str, str, str]]:
    """Return every (first, relation, second) that the world can show."""
    on = [(a, "on", b) for a in MOVABLES for b in BASES if a != b]
    beside = [(a, "next to", b) for a in MOVABLES for b in MOVABLES if a != b]
    return on + beside
