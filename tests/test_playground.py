"""A distillation on its own, through the command line."""

import pytest
from PIL import Image

from dreamfusion_pl.cli import main
from dreamfusion_pl.distillation.sds import ScoreDistillation
from dreamfusion_pl.playground import Playground

DENSITY = "dreamfusion_pl.distillation.density.DensityDistillation"
WEIGHTING = ["--model.distillation.weighting", "dreamfusion_pl.diffusion.noise.Uniform"]


def fit(*options: str) -> int:
    return main(["fit", "--config", "playground.yaml", *options])


def size(path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "lightning_logs" / "version_0"


def test_points_go_to_the_modes(run, capsys):
    assert fit("--trainer.max_steps", "200", "--model.optimizer.init_args.lr", "0.06") == 0
    assert "trajectory.png" in capsys.readouterr().out
    assert size(run / "trajectory.png") == (384, 384)
    model = Playground.load_from_checkpoint(run / "checkpoints" / "last.ckpt", weights_only=False)
    theta = model.parametrization.theta.detach()[:, 0, 0]
    gaps = (theta[:, None] - model.prior.means.float()).norm(dim=-1).amin(-1)
    assert float(gaps.median()) < 0.3
    assert len((theta[:, None] - model.prior.means.float()).norm(dim=-1).argmin(-1).unique()) == 2


GAUSSIAN = "{class_path: GaussianPrior, init_args: {mean: [1, -0.5], covariance: [[0.3, 0.1], [0.1, 0.2]]}}"
D = "--model.distillation"


@pytest.mark.parametrize(
    ("method", "end"),  # in means of the data, from that of the empty text, 0
    [
        ([f"{D}.guidance_scale", "0"], 1.0),
        ([f"{D}.guidance_scale", "1"], 2.0),
        ([D, "DenoisedPictures", f"{D}.guidance_scale", "1", f"{D}.rgb_weight", "0"], 2.0),
        ([D, "dreamfusion_pl.distillation.parameter_space.ParameterSpaceSampling"], 1.0),
        ([D, "ClassifierScoreDistillation", f"{D}.guidance_scale", "1"], None),
    ],
)
def test_points_end_where_the_formulas_say(run, method, end):
    few = ["--model.parametrization.init_args.count", "16", "--trainer.max_steps", "300"]
    assert fit("--prompt", "data", "--model.prior", GAUSSIAN, *few, *method) == 0
    model = Playground.load_from_checkpoint(run / "checkpoints" / "last.ckpt", weights_only=False)
    points, mean = model.parametrization().detach()[:, 0, 0], model.prior.mean.float()
    if end is None:  # a constant push: no end
        assert float((points @ mean).min()) > 3.0 * float(mean @ mean)
    else:
        assert float((points.mean(0) - end * mean).norm()) < 0.25


def test_another_distillation(run):
    name = "dreamfusion_pl.distillation.parameter_space.ParameterSpaceSampling"
    assert fit("--trainer.max_steps", "5", "--model.distillation", name) == 0
    assert (run / "trajectory.png").stat().st_size > 0


def test_a_picture_under_a_pixel_prior(run):
    options = ["--prompt", "a red ball", "--trainer.max_steps", "4", "--model.prior", "fakes.ColorPrior"]
    picture = ["--model.parametrization", "dreamfusion_pl.scene.pictures.MLPPicture"]
    assert fit(*options, *picture, "--model.parametrization.resolution", "8") == 0
    assert size(run / "trajectory.png") == (8 * 5, 8)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--prompt", "bottom"], "names no mode"),
        (["--model.distillation", DENSITY, *WEIGHTING], "take a GaussianPrior"),
        (["--model.distillation.t_min", "1.5"], "t_min < t_max"),
    ],
)
def test_bad_input_is_one_message(run, capsys, options, message):
    assert fit(*options) != 0
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_a_gradient_that_is_no_number_ends_it(run, capsys, monkeypatch):
    monkeypatch.setattr(ScoreDistillation, "direction", lambda self, z, *more: z * float("nan"))
    assert fit("--trainer.max_steps", "8") == 3
    assert "training diverged: 8 of 8 steps" in capsys.readouterr().err
