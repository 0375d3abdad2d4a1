"""Which words a tokenizer knows, where its vocabulary is closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

CLIP_TOKENS = 49_408  # of CLIP's own vocabulary, which spells any word
_WORD_END = "</w>"
_SINGLE_WORDS = {"a", ",", "0"}  # 0 is an elevation


def known_words(tokenizer: Any) -> Callable[[str], bool] | None:
    """Return whether a tokenizer knows a lower-case word, as a function; None: it knows any.

    A sentencepiece or unigram tokenizer gives an unknown word its unknown token. A byte-pair tokenizer
    spells the word. If it was made for a few words (``training.stable_diffusion``), it has one token for each
    of them, which ends a word, and pieces that do not are of unknown words.

    Args:
        tokenizer: tokenizer of transformers.
    """
    if not _spells(tokenizer):
        return lambda word: tokenizer.unk_token_id not in tokenizer(word).input_ids
    if len(tokenizer) >= CLIP_TOKENS:
        return None
    return lambda word: _has_whole_tokens(word, tokenizer)


def ends_a_word(token: str, tokenizer: Any) -> bool:
    """Return whether a token is a word or its end; byte-pair tokenizers have other pieces, to spell with."""
    return token.endswith(_WORD_END) or not _spells(tokenizer)


def _spells(tokenizer: Any) -> bool:
    """Whether it has no token for unknown words: CLIP's is that for the end of the text."""
    return tokenizer.unk_token_id in tokenizer("").input_ids


def _has_whole_tokens(word: str, tokenizer: Any) -> bool:
    if len(word) == 1 and word not in _SINGLE_WORDS:
        return False  # letters and digits have tokens to spell with
    return all(piece.endswith(_WORD_END) for piece in tokenizer.tokenize(word))
