"""Names of version 0.1 and their current names; the next version will no longer read the old ones."""

from __future__ import annotations

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
FIELD_SCENE = "dreamfusion_pl.scene.field_scene.FieldScene"
LINEAR_BIAS = "dreamfusion_pl.scene.density.LinearBias"
BALL = "dreamfusion_pl.scene.initial_shape.Ball"
OLD_EXTENT = 0.5  # default of the old LinearBias
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
WEIGHTS = {  # prefixes of tensor names in a checkpoint
    "scene.planes": "scene.features.planes",
    "scene.hidden.": "scene.features.hidden.",
    "scene.output.": "scene.head.",
    "scene.network.": "scene.features.network.",
}
