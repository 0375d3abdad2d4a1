"""View-dependent prompts by hand-computed cases."""

import pytest
import torch
from tiny_pipeline import save_tiny_pipeline
from word_prior import WordPrior, assert_same, embedded, views_at

from dreamfusion_pl.data.world.captions import view_and_elevation, view_words
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior
from dreamfusion_pl.diffusion.text.perp_neg import PerpNeg
from dreamfusion_pl.diffusion.text.prompt_check import check_prompt, read
from dreamfusion_pl.diffusion.text.view_names import VIEW_NAMES, grid_index, octant_index, view_index


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    return PretrainedPrior(
        str(save_tiny_pipeline(tmp_path_factory.mktemp("prior") / "tiny")), dtype="float32"
    )


@pytest.mark.parametrize(
    ("elevation", "azimuth", "name"),
    [
        (0.0, 0.0, "front view"),
        (0.0, 45.0, "front view"),
        (0.0, 315.0, "front view"),
        (0.0, 46.0, "side view"),
        (0.0, 270.0, "side view"),
        (0.0, 134.9, "side view"),
        (0.0, 135.0, "back view"),
        (0.0, 225.0, "back view"),
        (60.0, 180.0, "back view"),
        (60.1, 180.0, "overhead view"),
        (-10.0, 359.0, "front view"),
    ],
)
def test_view_names(elevation, azimuth, name):
    index = view_index(torch.tensor([elevation]), torch.tensor([azimuth]), 60.0, 45.0, 135.0)
    assert VIEW_NAMES[4][int(index)] == name


def test_eight_directions_are_named_as_in_the_worlds_captions(prior):
    azimuths = [-190.0, -22.4, 0.0, 22.6, 90.0, 135.0, 230.0, 269.0, 337.0, 337.6, 500.0, 0.0]
    elevations = [0.0] * 11 + [61.0]
    index = octant_index(torch.tensor(elevations), torch.tensor(azimuths), 60.0)
    names = [VIEW_NAMES[8][i] for i in index.tolist()]
    assert names == [view_words(e, a) for e, a in zip(elevations, azimuths, strict=True)]
    assert names[3:6] == ["front left view", "left side view", "back left view"] and len(set(names)) == 9
    prompts = embedded(prior, "a ball", directions=8)
    text = prompts(views_at([0.0, 80.0], [91.0, 0.0])).text
    assert_same(text, prior.embed(["a ball, left side view", "a ball, overhead view"]))


def test_eight_directions_at_six_elevations_are_named_as_in_the_worlds_captions():
    azimuths = [-190.0, -22.4, 0.0, 22.6, 90.0, 135.0, 230.0, 269.0, 337.0, 337.6, 500.0]
    elevations = [-10.0, 0.0, 7.4, 7.6, 22.4, 22.6, 37.6, 52.6, 67.4, 67.6, 90.0]
    index = grid_index(torch.tensor(elevations), torch.tensor(azimuths))
    names = [VIEW_NAMES[48][i] for i in index.tolist()]
    assert names == [view_and_elevation(e, a) for e, a in zip(elevations, azimuths, strict=True)]
    assert names[3:6] == [
        "front left view, elevation 15",
        "left side view, elevation 15",
        "back left view, elevation 30",
    ]
    assert len(set(VIEW_NAMES[48])) == 48
    assert [int(name.rsplit(" ", 1)[1]) for name in names] == [0, 0, 0, 15, 15, 30, 45, 60, 60, 75, 75]
    prompts = embedded(WordPrior(), "a ball", directions=48, view_prompts={"front_left_30": "a nose"})
    text = prompts(views_at([29.0, 80.0], [44.0, 181.0])).text
    assert_same(text, WordPrior().embed(["a nose", "a ball, back view, elevation 75"]))


def test_each_view_gets_the_embedding_of_its_prompt(prior):
    prompts = embedded(prior, " a red chair ", negative_prompt="blue")
    condition = prompts(views_at([0.0, 80.0, 10.0], [180.0, 0.0, 90.0]))
    expected = prior.embed(["a red chair, back view", "a red chair, overhead view", "a red chair, side view"])
    assert_same(condition.text, expected)
    assert_same(condition.null, prior.embed(["blue"]))


def test_without_view_dependence_all_views_get_the_prompt(prior):
    condition = embedded(prior, "a ball", directions=0)(views_at([0.0, 80.0], [180.0, 0.0]))
    assert_same(condition.text, prior.embed(["a ball"]).expand(2))


def test_thresholds_out_of_order_are_refused(prior):
    with pytest.raises(ValueError, match="front_deg <= back_deg"):
        embedded(prior, "a ball", front_deg=100.0, back_deg=80.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overhead_deg": 91.0}, "overhead_deg must be in"),
        ({"front_deg": 0.0, "view_embedding": "interpolated"}, "0 < front_deg < back_deg"),
        ({"back_deg": 180.0, "perp_neg": PerpNeg()}, "0 < front_deg < back_deg"),
        ({"directions": 8, "front_deg": 30.0}, "divide 4 directions, not 8"),
        ({"directions": 48, "front_deg": 30.0}, "divide 4 directions, not 48"),
        ({"directions": 48, "overhead_deg": 70.0}, "name every elevation"),
        (
            {"directions": 48, "view_prompts": {"overhead": "a ball"}},
            "'overhead'.* 48: front_0, front_left_0",
        ),
        ({"directions": 0, "view_embedding": "interpolated"}, "directions 0 names no views"),
        ({"directions": 0, "perp_neg": PerpNeg()}, "directions 0 names no views"),
        ({"directions": 0, "view_prompts": {"front": "a ball"}}, "directions 0 names no views"),
        ({"view_prompts": {"left_side": "a ball"}}, "'left_side'.* 4: front, side, back, overhead"),
        ({"directions": 8, "view_prompts": {"side": "a ball"}}, "'side'.* 8: front, front_left, left_side"),
        ({"view_prompts": {"back": " "}}, "view_prompts.back: the prompt is empty"),
    ],
)
def test_what_is_said_of_views_must_make_sense(options, message):
    with pytest.raises(ValueError, match=message):
        embedded(WordPrior(), "a ball", **options)


def test_thresholds_move_the_names():
    prompts = embedded(WordPrior(), "a ball", overhead_deg=30.0, front_deg=20.0, back_deg=100.0)
    text = prompts(views_at([0.0, 0.0, 0.0, 31.0], [20.0, 21.0, 100.0, 0.0])).text
    names = ("front", "side", "back", "overhead")
    assert_same(text, WordPrior().embed([f"a ball, {name} view" for name in names]))


@pytest.mark.parametrize("directions", [4, 8])
def test_a_direction_may_have_a_text_of_its_own(directions):
    own = {"back": " the back of a chair ", "overhead": "a seat from above"}
    prompts = embedded(WordPrior(), "a chair", directions=directions, view_prompts=own)
    text = prompts(views_at([0.0, 0.0, 80.0], [0.0, 180.0, 0.0])).text
    expected = WordPrior().embed(["a chair, front view", "the back of a chair", "a seat from above"])
    assert_same(text, expected)


OCTANTS = [45.0 * octant for octant in range(-3, 9)]
CENTRES = {4: [0.0, 90.0, 180.0, -90.0], 8: OCTANTS, 48: OCTANTS}


@pytest.mark.parametrize("directions", [4, 8, 48])
def test_at_the_centre_of_a_direction_both_embeddings_are_the_same_to_the_last_digit(directions):
    azimuths = [*CENTRES[directions], 45.0, 135.0]
    elevations = [0.0] * len(CENTRES[directions]) + [90.0, 75.0]
    views = views_at(elevations, azimuths)
    nearest, interpolated = (
        embedded(WordPrior(), "a ball", directions=directions, view_embedding=kind)(views)
        for kind in ("nearest", "interpolated")
    )
    assert_same(interpolated.text, nearest.text, atol=0.0, rtol=0.0)
    assert_same(interpolated.null, nearest.null, atol=0.0, rtol=0.0)


@pytest.mark.parametrize(
    ("directions", "angles"), [(4, {}), (4, {"front_deg": 20.0, "back_deg": 100.0}), (8, {})]
)
def test_interpolated_embeddings_are_continuous_and_nearest_to_the_nearest_ones(directions, angles):
    prompts, nearest = (
        embedded(WordPrior(), "a ball", directions=directions, view_embedding=kind, **angles)
        for kind in ("interpolated", "nearest")
    )
    step = 0.05
    around = torch.arange(-200.0, 400.0, step).tolist()
    text = prompts(views_at([10.0] * len(around), around)).text
    table = WordPrior().embed(prompts.texts[:-1])
    fastest = 0.5 * step / 20.0 * (table.tokens[:, None] - table.tokens).abs().max()  # half, over 20 degrees
    assert text.tokens.diff(dim=0).abs().max() <= 1.01 * fastest
    distance = (text.tokens[:, None] - table.tokens).flatten(2).norm(dim=-1)  # to every direction's text
    chosen = nearest(views_at([10.0] * len(around), around)).text.tokens
    ours = (text.tokens - chosen).flatten(1).norm(dim=-1)
    assert bool((ours <= distance.min(dim=1).values + 1e-4).all())


def test_a_mixture_is_what_a_loop_says():
    prompts = embedded(WordPrior(), "a ball", view_embedding="interpolated")
    elevations, azimuths = [0.0, 0.0, 55.0, 60.0, 68.0], [30.0, -100.0, 0.0, 45.0, 170.0]
    text = prompts(views_at(elevations, azimuths)).text
    front, side, back, above = (WordPrior().embed([words]) for words in prompts.texts)
    shares = [  # of front, side, back, above
        (2 / 3, 1 / 3, 0.0, 0.0),
        (0.0, 8 / 9, 1 / 9, 0.0),
        (3 / 4, 0.0, 0.0, 1 / 4),
        (1 / 4, 1 / 4, 0.0, 1 / 2),
        (0.0, 1 / 90, 8 / 90, 9 / 10),
    ]
    for row, share in enumerate(shares):
        for part in (0, 1):
            expected = sum(w * one[part][0] for w, one in zip(share, (front, side, back, above), strict=True))
            torch.testing.assert_close(text[part][row], expected)


def test_a_mixture_of_azimuths_and_elevations_is_what_a_loop_says():
    prompts = embedded(WordPrior(), "a ball", directions=48, view_embedding="interpolated")
    elevations, azimuths = [0.0, 20.0, 70.0, 90.0, -5.0], [30.0, -100.0, 0.0, 352.5, 170.0]
    text = prompts(views_at(elevations, azimuths)).text
    front, right = "front view", "right side view"
    shares = [
        {(front, 0): 1 / 3, ("front left view", 0): 2 / 3},
        {
            ("back right view", 15): 2 / 9 * 2 / 3,
            (right, 15): 7 / 9 * 2 / 3,
            ("back right view", 30): 2 / 9 / 3,
            (right, 30): 7 / 9 / 3,
        },
        {(front, 60): 1 / 3, (front, 75): 2 / 3},
        {(front, 75): 5 / 6, ("front right view", 75): 1 / 6},
        {("back view", 0): 7 / 9, ("back left view", 0): 2 / 9},
    ]
    for row, share in enumerate(shares):
        texts = WordPrior().embed([f"a ball, {view}, elevation {degrees}" for view, degrees in share])
        for part in (0, 1):
            expected = sum(w * one for w, one in zip(share.values(), texts[part], strict=True))
            torch.testing.assert_close(text[part][row], expected)


def test_the_masks_of_what_takes_part_are_united():
    own = {"side": "a ball as it is seen from a side"}  # 9 words where others have 4
    prompts = embedded(WordPrior(), "a ball", view_prompts=own, view_embedding="interpolated")
    text = prompts(views_at([0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 90.0, 180.0])).text
    assert text.mask.sum(dim=1).tolist() == [4, 8, 8, 4] and text.mask.dtype == torch.long


def test_mixing_keeps_the_precision():
    words = WordPrior().embed(["a", "b"])
    half = words.rows(slice(1)).to(torch.bfloat16)
    mixed = half.mix(words.rows(slice(1, 2)).to(torch.bfloat16), torch.tensor([0.3]))
    expected = 0.7 * half.tokens.float() + 0.3 * words.tokens[1:].bfloat16().float()
    assert mixed.tokens.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.tokens, expected.bfloat16())


@pytest.mark.parametrize(
    ("prompt", "message"),
    [("", "empty"), ("  \n", "empty"), (None, "must be a text"), (3, "must be a text"), ("?! 12", "no word")],
)
def test_bad_prompts_are_explained(prompt, message):
    with pytest.raises(ValueError, match=f"{message}.*a red chair"):
        check_prompt(prompt)


def test_good_prompts_pass():
    assert check_prompt(" ein Stühlchen ") == "ein Stühlchen"


KNOWN = {
    "a",
    "an",
    "the",
    "red",
    "blue",
    "chair",
    "table",
    "on",
    "of",
    "to",
    "left",
    "front",
    "view",
    "photo",
}


@pytest.mark.parametrize(
    ("prompt", "text", "unknown"),
    [
        ("a red chair", "a red chair", []),
        ("A red  chair, front view", "A red  chair, front view", []),  # as it is, to the letter
        ("a wooden red chair", "a red chair", ["wooden"]),
        ("a red chair, Wooden, front view", "a red chair, front view", ["wooden"]),
        ("a red chair with a blue cushion", "a red chair", ["with", "cushion"]),
        ("a red chair on the beach!", "a red chair", ["beach"]),
        ("a red chair.", "a red chair", []),
        ("a red chair to the left  of a blue table", "a red chair a blue table", ["to the left of"]),
        ("a chair In Front Of a table", "a chair a table", ["in front of"]),
        ("2 red chairs", "red", ["2", "chairs"]),
        ("zorp", "", ["zorp"]),
        (", - !", "", []),
    ],
)
def test_unknown_words_are_left_out_with_what_belongs_to_them(prompt, text, unknown):
    assert read(prompt, KNOWN.__contains__) == (text, unknown)


def test_a_model_with_an_open_vocabulary_knows_places():
    assert read("a chair to the left of a table", KNOWN.__contains__, False).unknown == []


def test_the_embedded_prior_reads_a_text_without_its_unknown_words():
    prior = PretrainedPrior(dtype="float32")
    plain, odd, other = prior.embed(
        ["a red chair, front view", "a wooden red chair on a beach, front view", "a red chair, back view"]
    ).tokens
    assert odd.equal(plain) and not other.equal(plain)
    assert prior.unknown_words("2 wooden chairs to the right of a cup") == [
        "2",
        "wooden",
        "chairs",
        "to the right of",
    ]


def test_other_models_read_a_text_as_it_is(prior):
    odd, plain = prior.embed(["a wooden chair", "a chair"]).tokens
    assert not odd.equal(plain)
