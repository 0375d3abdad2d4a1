"""What a visitor may ask for: hostile prompts are refused with a sentence, known ones become options."""

import pytest

from dreamfusion_pl.app import choices
from dreamfusion_pl.app.choices import Order, Setup
from dreamfusion_pl.app.desk import Desk
from dreamfusion_pl.app.ledger import Ledger
from dreamfusion_pl.configuration.layers import PACKAGED

EMBEDDED, OTHER = Setup(), Setup((), False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Describe an object"),
        ("  \n ", "Describe an object"),
        ("x" * 10_000, "500 are the most"),
        ("a red chair\0", "control character"),
        ("a red\x1b[31m chair", "control character"),
        ("\ud800 chair", "no word"),
        ("🪑🪑🪑", "no word"),
        ("12345", "no word"),
        ("--help", "no object"),
        ("<script>alert(1)</script>", "no object"),
        ("a red chiar", "nearest: chair"),
        ("a hamburger", "no object"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_sentence(text, said):
    with pytest.raises(ValueError, match=said) as error:
        choices.prompt(Order(text), EMBEDDED)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("text", ["--help", "<b>a hamburger</b>", "a 🪑 chair", "$(reboot)", "null"])
def test_other_priors_draw_any_words(text):
    assert choices.prompt(Order(text), OTHER) == text
    assert choices.prompt(Order(text, prior="flux.yaml"), EMBEDDED) == text


def test_a_prompt_becomes_one_line():
    assert choices.prompt(Order("  a red\n chair "), EMBEDDED) == "a red chair"


def test_unknown_words_are_remarked():
    assert "“velvet”" in choices.remark("a velvet chair") and "leaves it out" in choices.remark(
        "a velvet chair"
    )
    assert "2 objects" in choices.remark("a chair and a table")
    assert choices.remark("a red chair") == ""


def test_options_of_an_order():
    setup = Setup(("--trainer.max_steps", "3"))
    assert choices.options(Order("a"), setup) == setup.words
    assert choices.options(Order("a", "draft"), setup) == ("--config=draft.yaml", *setup.words)
    other = choices.options(Order("a", "draft", prior="flux.yaml", model="owner/name"), setup)
    assert other == ("--config=flux.yaml", "--model.prior.model=owner/name", *setup.words)


@pytest.mark.parametrize(
    "order",
    [
        Order("a", "best"),
        Order("a", prior="../secret.yaml"),
        Order("a", prior="flux.yaml", model="--trust"),
        Order("a", prior="flux.yaml", model="a\nb"),
        Order("a", prior="flux.yaml", model="/no/such/folder"),
        Order("a", prior="flux.yaml", model="x" * 1000),
    ],
)
def test_options_that_are_not_offered(order):
    with pytest.raises(ValueError, match=r"^(There is no|The prior's name)"):
        choices.options(order, EMBEDDED)


def test_the_overlays_that_are_offered_are_there():
    for overlay in [*choices.QUALITIES.values(), *choices.PRIORS]:
        assert not overlay or (PACKAGED / overlay).is_file()


def test_seeds():
    assert choices.seeds(Order("a", seed=7, variations=3)) == [7, 8, 9]
    for seed, count in (
        (-1, 1),
        (0.5, 1),
        (2**40, 1),
        (None, 1),
        (float("inf"), 1),
        (float("nan"), 1),
        (0, float("inf")),
        (0, 0),
        (0, 17),
        (0, None),
    ):
        with pytest.raises(ValueError, match=r"^The (seed|number)"):
            choices.seeds(Order("a", seed=seed, variations=count))


def test_every_suggestion_can_be_drawn():
    assert len(choices.completions("")) == 8
    for text in choices.completions(""):
        assert choices.prompt(Order(text), EMBEDDED) == text and choices.remark(text) == ""


def test_the_last_word_is_completed():
    assert "a red chair" in choices.completions("a red ch")
    assert choices.completions("r")[0].startswith("r")
    assert choices.completions("a red chair o") == []
    assert choices.completions("zzz") == []


def test_an_unfinished_word_is_not_complained_of(tmp_path):
    desk = Desk(Ledger(tmp_path), None, EMBEDDED, tmp_path)
    typed = desk.hint("a velvet ch", choices.OWN)
    assert "a velvet chair" in typed and "“velvet”" in typed and "“ch”" not in typed and "alert" not in typed
    assert "alert" in desk.hint("a velvet ch ", choices.OWN)
    assert "alert" not in desk.hint("a velvet chair", choices.OWN)
    assert "df-note" not in desk.hint("a hamburger", "flux.yaml")


def test_an_order_that_is_there_already_is_said(tmp_path):
    desk = Desk(Ledger(tmp_path), None, EMBEDDED, tmp_path)
    assert desk.make(Order("a red chair")) == desk.make(Order("a red chair"))[:1] + ("It is queued.",)
    assert "there already" in desk.make(Order("a red chair"))[1]
    key, said = desk.make(Order("a red chair", variations=3))
    assert said == "2 variations are queued. The others are there already." and key.endswith("seed_1")
