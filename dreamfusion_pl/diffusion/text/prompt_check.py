"""Checks of a user's prompt: whether it is valid, and which of its words a prior does not know."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

PLACES = r"\b(?:to|on|at|in|by)\s+(?:the\s+)?(?:left|right|front|back|side)\s+(?:side\s+)?of\b"
_WORDS = re.compile(r"[^\s,]+|,")
_WORDS_AND_PLACES = re.compile(rf"{PLACES}|{_WORDS.pattern}", re.IGNORECASE)
_PUNCTUATION = "\"'.,;:!?()[]{}-"
_ARTICLES = {"a", "an", "the"}
_LEADING = _ARTICLES | {"on", "top", "of", "next", "to", "beside"}  # they need another word after them


def check_prompt(prompt: object) -> str:
    """Return the prompt without leading and trailing spaces.

    Raises:
        ValueError: it is not a string, not UTF-8, empty, or has no letter.
    """
    cure = 'give a short description, for example --prompt "a red chair"'
    if not isinstance(prompt, str):
        raise ValueError(f"the prompt must be a text, got {prompt!r} ({type(prompt).__name__}): {cure}")
    if not prompt.strip():
        raise ValueError(f"the prompt is empty: {cure}")
    if any("\ud800" <= letter <= "\udfff" for letter in prompt):  # surrogates: another terminal encoding
        raise ValueError(f"the prompt {prompt!r} is not UTF-8: set the terminal to UTF-8, or {cure}")
    if not any(letter.isalpha() for letter in prompt):
        raise ValueError(f"the prompt {prompt!r} has no word in it: {cure}")
    return prompt.strip()


class ReadPrompt(NamedTuple):
    """A prompt as a model with a closed vocabulary reads it."""

    text: str  # without the unknown words
    unknown: list[str]  # unknown words and phrases, in lower case and in order, without duplicates


class _Group(NamedTuple):
    """Known words that belong together, from an article, a comma or an unknown word on."""

    words: list[str]
    lacks_its_end: bool = False  # an unknown word follows, as in "a blue cushion"


def read(prompt: str, is_known: Callable[[str], bool], knows_no_places: bool = True) -> ReadPrompt:
    """Separate the words of a prompt that a model knows from those that it does not.

    With an unknown word goes what belongs to it: "a red chair with a blue cushion" becomes "a red chair". A
    prompt without unknown words stays as it is.

    Args:
        prompt: the prompt.
        is_known: whether the model knows a lower-case word.
        knows_no_places: whether phrases such as "to the left of" are unknown, whose words are known from the
            names of views.
    """
    groups, unknown, is_new = [_Group([])], dict[str, None](), True
    for part in (_WORDS_AND_PLACES if knows_no_places else _WORDS).findall(prompt):
        is_phrase = len(part.split()) > 1
        word = " ".join(part.lower().split()).strip(_PUNCTUATION)
        if is_phrase or (word and not is_known(word)):
            unknown[word] = None
            groups[-1] = groups[-1]._replace(lacks_its_end=True)
            is_new = True
        elif word or part == ",":
            if is_new or word in _ARTICLES or part == ",":
                groups.append(_Group([]))
            groups[-1].words.append(word or part)
            is_new = part == ","
    if not unknown and all(map(is_known, prompt.lower().replace(",", " ").split())):
        return ReadPrompt(prompt, [])
    first, *others = [group for group in groups if group.words] or [_Group([])]
    kept = [first, *(group for group in others if not group.lacks_its_end)]
    text = " ".join(word for group in kept for word in group.words)
    clauses = (_without_ends(clause.split()) for clause in text.split(","))
    return ReadPrompt(", ".join(" ".join(clause) for clause in clauses if clause), list(unknown))


def _without_ends(words: list[str]) -> list[str]:
    """Drop words that need another one after them, where there is none: "a chair on a" becomes "a chair"."""
    while words and words[-1] in _LEADING:
        words.pop()
    pairs = zip(words, [*words[1:], ""], strict=False)
    return [word for word, after in pairs if not {word, after} <= _ARTICLES]


def no_token_warning(words: Sequence[str]) -> str:
    """Return the warning for a prompt with words that the tokenizer of another model has no tokens for."""
    unknown = ", ".join(repr(word) for word in words)
    return f"the model's tokenizer has no token for {unknown}, or for a character in it: write it otherwise"
