"""The name in the world's vocabulary that is nearest to an unknown word."""

from __future__ import annotations

import difflib

from dreamfusion_pl.data.world.captions import COLOR_WORDS, OBJECT_WORDS, PATTERN_WORDS

NEAREST = {  # known name: words that people use for something of its kind
    "airplane": "aeroplane aircraft jet airliner biplane",
    "apple": "fruit pear peach tomato cherry",
    "bear": "panda koala",
    "bed": "mattress crib bunk cot",
    "boat": "canoe yacht ferry vessel ark kayak",
    "bookshelf": "bookshelves cabinet wardrobe cupboard",
    "bus": "coach minibus schoolbus",
    "cake": "pie cupcake pastry gateau",
    "car": "sedan taxi cab suv convertible racecar sportscar vehicle jeep",
    "castle": "palace tower citadel",
    "cat": "tiger lion kitty leopard",
    "chair": "armchair throne rocker bench",
    "cube": "box cuboid dice crate",
    "dog": "corgi poodle hound terrier labrador dachshund bulldog wolf fox husky beagle pug",
    "donut": "bagel pretzel",
    "dresser": "drawer chest commode nightstand",
    "duck": "duckling bird goose swan chicken hen",
    "fish": "shark goldfish whale dolphin",
    "flower": "rose tulip daisy sunflower plant",
    "helicopter": "drone copter",
    "house": "building cabin hut barn villa bungalow",
    "ice cream": "gelato sundae popsicle",
    "lamp": "light lantern candle",
    "lighthouse": "beacon",
    "mug": "teacup goblet tankard pot teapot vase glass bowl",
    "mushroom": "fungus champignon",
    "pumpkin": "squash",
    "rabbit": "hare",
    "robot": "android droid cyborg",
    "rocket": "spacecraft shuttle missile",
    "sofa": "settee loveseat divan",
    "ball": "globe marble football basketball",
    "table": "counter workbench",
    "teddy bear": "plushie",
    "tent": "tipi wigwam yurt marquee",
    "train": "tram subway railcar",
    "tree": "oak bush palm maple birch",
    "truck": "van pickup firetruck tractor",
    "turtle": "terrapin",
    "red": "crimson scarlet maroon ruby burgundy",
    "orange": "amber tangerine",
    "yellow": "gold golden lemon",
    "green": "lime olive emerald mint",
    "cyan": "teal aqua",
    "blue": "navy azure indigo",
    "purple": "magenta lilac lavender",
    "brown": "tan bronze wooden chocolate",
    "white": "ivory snowy",
    "gray": "silver metallic",
    "black": "ebony dark",
    "striped": "stripy stripes",
    "checkered": "plaid chequered chessboard",
    "spotted": "polka dots spots",
}
_KNOWN = (*OBJECT_WORDS, *COLOR_WORDS, *PATTERN_WORDS)
_BY_WORD = {word: name for name, words in NEAREST.items() for word in words.split()}
_SIMILAR = 0.75  # share of letters in common, from which on a word counts as may be misspelt


def nearest(word: str) -> str | None:
    """Return the known name nearest to an unknown word: its singular, one of its kind, or the right spelling.

    Args:
        word: one lower-case word.

    Returns:
        A name of an object, colour or pattern; None if none is near.
    """
    for form in _singulars(word):
        if form in _KNOWN:
            return form
        if form in _BY_WORD:
            return _BY_WORD[form]
    similar = difflib.get_close_matches(word, _KNOWN, n=5, cutoff=_SIMILAR)
    return next((name for name in similar if _is_misspelt(word, name)), None)


def _is_misspelt(word: str, name: str) -> bool:
    """Whether a word has a name's letters in another order, or one more or less ("horse" is no "house")."""
    return sorted(word) == sorted(name) or abs(len(word) - len(name)) == 1


def _singulars(word: str) -> list[str]:
    """Return a word and what may be its singular."""
    forms = [word]
    if word.endswith("ies"):
        forms.append(f"{word[:-3]}y")
    if word.endswith("ves"):
        forms.append(f"{word[:-3]}f")
    if word.endswith("men"):
        forms.append(f"{word[:-3]}man")
    if word.endswith("es"):
        forms.append(word[:-2])
    return [*forms, word[:-1]] if word.endswith("s") else forms
