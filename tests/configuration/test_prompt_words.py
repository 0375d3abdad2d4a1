"""What is said of a prompt that the embedded prior cannot draw, before anything is loaded or written."""

import re
from pathlib import Path

import pytest
from fakes import SMALL_RUN
from transformers import AutoTokenizer

from dreamfusion_pl.batch.jobs import Request, jobs_of
from dreamfusion_pl.cli import main
from dreamfusion_pl.commands.batch_checks import check_prompts
from dreamfusion_pl.configuration.prompt_words import KNOWN, check_object, words_warning
from dreamfusion_pl.data.world.captions import COLOR_WORDS, OBJECT_WORDS, PATTERN_WORDS
from dreamfusion_pl.data.world.nearest import NEAREST, nearest
from dreamfusion_pl.diffusion.loading.sources import BUILTIN
from dreamfusion_pl.diffusion.text.view_names import VIEW_NAMES
from dreamfusion_pl.diffusion.text.vocabulary import known_words

EMBEDDED = ["--model.prior", "PretrainedPrior", "--data.resolution", "8", "--trainer.max_steps", "1"]


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("chairs", "chair"), ("corgi", "dog"), ("wolves", "dog"), ("puppies", "puppy"),
        ("snowmen", "snowman"),
        ("chiar", "chair"), ("teddybear", "teddy bear"), ("crimson", "red"), ("horse", None), ("zorp", None),
    ],
)  # fmt: skip
def test_the_nearest_known_word(word, name):
    assert nearest(word) == name


def test_suggestions_are_known_and_no_known_word_has_one():
    known = {**OBJECT_WORDS, **COLOR_WORDS, **PATTERN_WORDS}
    assert set(NEAREST) <= set(known)
    assert not [word for words in NEAREST.values() for word in words.split() if word in known]


def test_the_vocabulary_is_that_of_the_tokenizer():
    tokenizer = AutoTokenizer.from_pretrained(BUILTIN / "tokenizer")
    is_known = known_words(tokenizer)
    assert is_known is not None and all(map(is_known, KNOWN))
    whole = {token.removesuffix("</w>") for token in tokenizer.get_vocab() if token.endswith("</w>")}
    others = {word for word in whole if is_known(word)} - {*KNOWN}
    assert others <= pieces_of(KNOWN)  # CLIP takes "3d" for two words


def test_names_of_views_are_known_to_the_packaged_weights():
    names = [name for names in VIEW_NAMES.values() for name in names]
    assert words_warning("a red chair", [f"a red chair, {name}" for name in names]) is None


def pieces_of(words):
    return {piece for word in words for piece in re.findall(r"[a-z]+|\d", word)}


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        (
            "a wooden house",
            ["know 'wooden' (nearest: 'brown') and leaves it out", "--config stable_diffusion.yaml"],
        ),
        ("3 chairs beside a chair", ["'3', 'chairs' (nearest: 'chair') and leaves them out"]),
        (
            "a chair to the left of a mug",
            ["'to the left of' and leaves it", "names 2 objects (chair, mug)", "'on' or 'next to'"],
        ),
        ("a red ball on a blue cube on a table", ["names 3 objects (ball, cube, table)", "may be a mixture"]),
        ("a red ball, a blue cube", ["names 2 objects (ball, cube)"]),
    ],
)
def test_a_warning_says_what_is_left_out_and_what_is_near(prompt, parts):
    check_object(prompt)
    warning = words_warning(prompt)
    assert all(part in warning for part in parts), warning


@pytest.mark.parametrize(
    "prompt",
    [
        "a red chair",
        "a photo of a striped teddy bear",
        "a toy of an ice cream",
        "a red ball on a blue cube",
        "a spotted cat beside a yellow duck",
    ],
)
def test_nothing_is_said_of_a_prompt_that_is_known(prompt):
    check_object(prompt)
    assert words_warning(prompt) is None


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("a corgi", "'corgi' (nearest: 'dog')"),
        ("two red chairs", "'chair'"),
        ("red", "the prompt names none"),
    ],
)
def test_a_fit_of_no_known_object_stops_before_it_begins(tmp_path, monkeypatch, capsys, prompt, message):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *SMALL_RUN, *EMBEDDED, "--prompt", prompt]) == 2
    err = capsys.readouterr().err
    assert "knows no object" in err and message in err and "--config stable_diffusion.yaml" in err
    assert list(tmp_path.iterdir()) == []


def test_another_prior_is_not_asked_for_known_words(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *SMALL_RUN, "--prompt", "a corgi", "--trainer.max_steps", "1"]) == 0
    assert "corgi" not in capsys.readouterr().err


def jobs(*prompts: str, **options: tuple[str, ...]) -> list:
    return jobs_of([Request(one, options.get("own", ())) for one in prompts], 1, Path("out").absolute())


def test_a_batch_says_it_on_its_terminal_and_drops_what_names_no_object(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = jobs("a red chair", "a wooden chair", "a corgi")
    wrong = check_prompts(given, [])
    assert list(wrong) == [given[2]] and "nearest: 'dog'" in wrong[given[2]].reason
    err = capsys.readouterr().err
    assert "'a wooden chair'" in err and "'wooden' (nearest: 'brown')" in err and "red chair'" not in err
    with pytest.raises(ValueError, match="(?s)no object in 'a corgi'.*stable_diffusion.yaml"):
        check_prompts([given[2]], [])
    assert check_prompts(given, ["--model.prior=fakes.ColorPrior"]) == {}
    assert check_prompts(jobs("a corgi", own=("--model.prior=fakes.ColorPrior",)), []) == {}


def test_a_batch_without_any_known_object_is_a_usage_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("a corgi\n2 chairs\n")
    assert main(["batch", "--prompts", "prompts.txt", "--out", "out"]) == 2
    assert "nearest: 'dog'" in capsys.readouterr().err and not Path("out").exists()
