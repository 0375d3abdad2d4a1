"""Checks of a user's prompt: whether it is valid, and which of its words a prior does not know."""

from __future__ import annotations

from collections.abc import Sequence


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


def unknown_words_warning(words: Sequence[str], objects: Sequence[str], colors: Sequence[str]) -> str:
    """Return the warning for a prompt with words that the embedded prior does not know.

    Args:
        words: the unknown words, at least one.
        objects: names of the objects that the prior knows.
        colors: names of the colours that the prior knows.
    """
    unknown = ", ".join(repr(word) for word in words)
    return (
        f"The embedded prior does not know {unknown} and will ignore it.\n"
        f"It knows these objects: {', '.join(objects)};\n"
        f"and these colours: {', '.join(colors)}.\n"
        "For any other prompt use a model from the hub, on a GPU: "
        "--model.prior.model DeepFloyd/IF-I-M-v1.0"
    )


def no_token_warning(words: Sequence[str]) -> str:
    """Return the warning for a prompt with words that the tokenizer of another model has no tokens for."""
    unknown = ", ".join(repr(word) for word in words)
    return f"the model's tokenizer has no token for {unknown}, or for a character in it: write it otherwise"
