"""Names of version 0.1 and their current names; the next version will no longer read the old ones."""

from __future__ import annotations

from typing import Any

CLASSES = {
    "dreamfusion_pl.callbacks.live.LiveView": "dreamfusion_pl.callbacks.previews.live.LiveView",
    "dreamfusion_pl.callbacks.renders.Renders": "dreamfusion_pl.callbacks.previews.renders.Renders",
    "dreamfusion_pl.callbacks.trajectory.Trajectory": (
        "dreamfusion_pl.callbacks.previews.trajectory.Trajectory"
    ),
    "dreamfusion_pl.callbacks.turntable.Turntable": "dreamfusion_pl.callbacks.previews.turntable.Turntable",
    "dreamfusion_pl.diffusion.denoising.DenoiserTraining": (
        "dreamfusion_pl.diffusion.training.denoiser.DenoiserTraining"
    ),
    "dreamfusion_pl.diffusion.perp_neg.PerpNeg": "dreamfusion_pl.diffusion.text.perp_neg.PerpNeg",
    "dreamfusion_pl.diffusion.pretrained.PretrainedPrior": (
        "dreamfusion_pl.diffusion.families.pretrained.PretrainedPrior"
    ),
    "dreamfusion_pl.scene.base.GaussianBias": "dreamfusion_pl.scene.density.GaussianBias",
    "dreamfusion_pl.scene.base.LinearBias": "dreamfusion_pl.scene.density.LinearBias",
}
TRAINING = "dreamfusion_pl.diffusion.training.denoiser.DenoiserTraining"
PIXELS = "dreamfusion_pl.diffusion.training.deepfloyd.DeepFloydFamily"
# Arguments of DenoiserTraining that are now those of its family.
NETWORKS = ("size", "channels", "layers_per_block", "attention_size", "text_width", "text_layers")
ARGUMENTS = {  # of DreamFusion; also as the start of a longer name
    "opacity_weight": "regularizers.opacity",
    "orientation_weight": "regularizers.orientation",
    **{
        name: f"prompts.{name}"
        for name in (
            "negative_prompt",
            "directions",
            "overhead_deg",
            "front_deg",
            "back_deg",
            "view_prompts",
            "view_embedding",
            "perp_neg",
        )
    },
    **{
        f"scene.{name}": f"scene.features.{name}"
        for name in (
            "resolution",
            "channels",
            "width",
            "initial_noise",
            "mlp_rate",
            "num_blocks",
            "num_frequencies",
            "covariance",
        )
    },
    "scene.bias.extent": "scene.field.shape.radius",
    "scene.bias": "scene.field.bias",
    "scene.blob": "scene.field.bias.strength",
    "scene.offset": "scene.field.offset",
}
WEIGHTED = ("opacity_weight", "orientation_weight")  # their values have another unit today
MODEL = "dreamfusion_pl.algorithm.DreamFusion"
FIELD_SCENE = "dreamfusion_pl.scene.field_scene.FieldScene"
BALL = "dreamfusion_pl.scene.initial_shape.Ball"
BIASES: dict[str, dict[str, float]] = {  # density biases with the defaults that they had
    "dreamfusion_pl.scene.density.LinearBias": {"strength": 10.0, "extent": 0.5},
    "dreamfusion_pl.scene.density.GaussianBias": {"strength": 5.0, "width": 0.2},
}
FIELDS: dict[str, dict[str, Any]] = {  # by the class of the features: the bias that a scene had by default
    "dreamfusion_pl.scene.planes.PlaneFeatures": {
        "shape": {"class_path": BALL, "init_args": {"radius": 0.6}},
        "bias": {"class_path": "dreamfusion_pl.scene.density.LinearBias", "init_args": {"strength": 10.0}},
    },
    "dreamfusion_pl.scene.frequencies.FrequencyFeatures": {
        "bias": {
            "class_path": "dreamfusion_pl.scene.density.GaussianBias",
            "init_args": {"strength": 5.0, "width": 0.2},
        },
    },
}
SCENES = {  # an old scene class, and the features and field that replace it
    "dreamfusion_pl.scene.triplane.TriplaneScene": (
        "dreamfusion_pl.scene.planes.PlaneFeatures",
        "dreamfusion_pl.scene.density.SoftplusDensity",
    ),
    "dreamfusion_pl.scene.mlp.MLPScene": (
        "dreamfusion_pl.scene.frequencies.FrequencyFeatures",
        "dreamfusion_pl.scene.density.ExponentialDensity",
    ),
}
DEFAULT_FIELD: dict[str, Any] = {  # that of default.yaml
    "shape": {"class_path": BALL, "init_args": {"radius": 0.6}},
    "bias": {"class_path": "dreamfusion_pl.scene.density.LinearBias", "init_args": {"strength": 3.0}},
}
NEW_ARGUMENTS: dict[str, dict[str, Any]] = {  # by the class of the features: values that change nothing
    "dreamfusion_pl.scene.planes.PlaneFeatures": {"smoothing": 0.0},
}
WEIGHTS = {  # prefixes of tensor names in a checkpoint
    "scene.planes": "scene.features.planes",
    "scene.hidden.": "scene.features.hidden.",
    "scene.output.": "scene.head.",
    "scene.network.": "scene.features.network.",
}
