"""R-Precision against hand-computed cases, and CLIP against its own parts."""

import pytest
import torch
from tiny_clip import CAPTIONS, save_tiny_clip

from dreamfusion_pl.data.orbit import orbit, ring
from dreamfusion_pl.data.world.captions import parse
from dreamfusion_pl.data.world.tracer import render_world
from dreamfusion_pl.metrics.clip import ClipJudge
from dreamfusion_pl.metrics.retrieval import Judge, RPrecision, WorldJudge, retrieved


class Table(Judge):
    """Scores that were written down."""

    name = "table"

    def __init__(self, scores):
        self.scores = torch.tensor(scores)

    def similarity(self, pictures, captions):
        return self.scores[: len(pictures)]


def test_by_hand():
    similarity = torch.tensor([[0.9, 0.1, 0.3], [0.2, 0.5, 0.6], [0.0, 0.7, 0.1]])
    assert retrieved(similarity, 1).tolist() == [False, False, True]
    assert retrieved(similarity, torch.tensor([0, 2, 2])).tolist() == [True, True, False]


def test_the_metric_counts_views():
    metric = RPrecision(Table([[0.9, 0.1], [0.4, 0.6], [0.8, 0.7]]), ["a", "b"])
    metric.update(torch.zeros(3, 2, 2, 3), "a")
    assert float(metric.compute()) == pytest.approx(2 / 3)
    metric.update(torch.zeros(1, 2, 2, 3), "b")
    assert float(metric.compute()) == pytest.approx(2 / 4)
    metric.reset()
    metric.update(torch.zeros(2, 2, 2, 3), "b")
    assert float(metric.compute()) == pytest.approx(1 / 2)


@pytest.mark.parametrize("captions", [[], ["a"], ["a", "a"]])
def test_there_must_be_a_choice(captions):
    with pytest.raises(ValueError, match="two or more"):
        RPrecision(Table([[0.0]]), captions)


def ring_of(prompt: str) -> torch.Tensor:
    views = orbit(ring(4), 20.0, 1.5, 1.2, 48, 48, (0.7, 0.7, 0.7))
    return render_world(parse(prompt), views).over(views.background)


def test_the_world_judge_finds_true_pictures():
    captions = ["a red chair", "a blue mug", "a green chair", "a white snowman"]
    for use_color, floor in ((True, 0.9), (False, 0.9)):
        choices = captions if use_color else captions[:2] + captions[3:]
        metric = RPrecision(WorldJudge(use_color), choices)
        for caption in choices:
            metric.update(ring_of(caption), caption)
        assert float(metric.compute()) >= floor
    with pytest.raises(ValueError, match="does not know"):
        WorldJudge().similarity(ring_of("a red chair"), ["a unicorn"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


def test_clip_is_the_cosine_of_its_embeddings(folder):
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    pictures = torch.rand(3, 40, 40, 3, generator=torch.Generator().manual_seed(0))
    ours = ClipJudge(str(folder)).similarity(pictures, CAPTIONS)
    assert ours.shape == (3, len(CAPTIONS))
    model = CLIPModel.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for i, picture in enumerate(pictures):
        pixels = processor(images=[(picture * 255).round().byte().numpy()], return_tensors="pt").pixel_values
        image = model.visual_projection(model.vision_model(pixels).pooler_output)
        for j, caption in enumerate(CAPTIONS):
            tokens = tokenizer([caption], return_tensors="pt")
            text = model.text_projection(
                model.text_model(tokens.input_ids, tokens.attention_mask).pooler_output
            )
            cosine = torch.nn.functional.cosine_similarity(image, text)[0]
            torch.testing.assert_close(ours[i, j], cosine.detach(), rtol=1e-4, atol=1e-5)


def test_a_clip_that_is_not_there_names_the_cure(tmp_path):
    with pytest.raises(ValueError, match="hf download"):
        ClipJudge(str(tmp_path / "none"))
