"""The text that a distillation compares the prompt's with."""

import pytest
import torch
from fakes import SMALL_RUN, small_model
from word_prior import WordPrior, assert_same, views_at

from dreamfusion_pl.cli import main
from dreamfusion_pl.diffusion.noise import SigmaSquared
from dreamfusion_pl.diffusion.text.perp_neg import PerpNeg
from dreamfusion_pl.diffusion.text.prompts import ViewDependentPrompts
from dreamfusion_pl.distillation.variants.csd import ClassifierScoreDistillation
from dreamfusion_pl.types import Condition

SIDE, OVERHEAD = views_at([0.0, 80.0], [90.0, 0.0]), views_at([80.0], [0.0])


def condition(source_text: str | None, **settings) -> Condition:
    prior = WordPrior()
    return ViewDependentPrompts(**settings).embed(prior, "a ball", source_text)(SIDE)


def test_there_is_none_unless_a_distillation_asks():
    assert condition(None).source is None


def test_a_text_with_a_place_for_the_prompt_follows_the_view():
    found = condition("a gray {}").source
    assert_same(found, WordPrior().embed(["a gray a ball, side view", "a gray a ball, overhead view"]))


def test_another_text_is_the_same_for_every_view():
    assert_same(condition("ugly").source, WordPrior().embed(["ugly"]).expand(2))


@pytest.mark.parametrize(("text", "same"), [("{}", "'a ball, front view'"), ("bad", "the text 'bad'")])
def test_a_text_that_says_the_same_is_refused(text, same):
    with pytest.raises(ValueError, match=f"says the same as .*{same}"):
        condition(text, negative_prompt="bad")


def test_a_text_in_the_prompts_place_may_be_empty_and_not_the_prompt():
    settings = ViewDependentPrompts(directions=0)
    assert settings.embed(WordPrior(), "a ball", "", source_is_of_prompt=True)(SIDE).source is not None
    with pytest.raises(ValueError, match="says the same as the text 'a ball'"):
        settings.embed(WordPrior(), "a ball", "a ball", source_is_of_prompt=True)


def test_copies_of_the_views_have_copies_of_their_texts():
    prior = WordPrior()
    prompts = ViewDependentPrompts(perp_neg=PerpNeg()).embed(prior, "a ball", "a gray {}")
    z_t = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.3, 0.6])
    once = prior.branches(z_t, t, prompts(SIDE))
    thrice = prior.branches(z_t.repeat(3, 1, 1, 1), t.repeat(3), prompts(SIDE).repeat(3))
    for one, three in zip(once, thrice, strict=True):
        torch.testing.assert_close(three, one.repeat(3, 1, 1, 1))
    assert once.source is not None and not torch.allclose(once.source, once.text)


def test_the_model_embeds_it():
    csd = ClassifierScoreDistillation(4.0, SigmaSquared(), negative_text="a blue cube", negative_scale=0.5)
    model = small_model(prior=WordPrior(), distillation=csd)
    assert_same(model.prompts(OVERHEAD).source, WordPrior().embed(["a blue cube"]))


def test_words_that_the_embedded_prior_does_not_know(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--prompt", "a red chair", "--model.distillation", "BridgeDistillation"]) == 2
    assert "says the same as the text 'a red chair, front view, elevation 0'" in capsys.readouterr().err
    assert not (tmp_path / "lightning_logs").exists()


def test_its_unknown_words_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    prior = "dreamfusion_pl.diffusion.families.pretrained.PretrainedPrior"
    words = [*SMALL_RUN, "--prompt", "a red chair", "--model.prior", prior, "--trainer.max_steps", "1"]
    bridge = ["--model.distillation", "BridgeDistillation"]
    bridge += ["--model.distillation.source_text", "a gray {}, hazy"]
    assert main(["fit", *words, *bridge, "--model.distillation.guidance_scale", "2"]) == 0
    assert "hazy" in capsys.readouterr().err
