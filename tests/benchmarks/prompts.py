"""The 24 prompts of the main job's benchmark, a third of them held out of the prior's training."""

SEEN = (
    "a red chair",
    "a brown table",
    "a green sofa",
    "a yellow lamp",
    "a blue mug",
    "a red apple",
    "a yellow pumpkin",
    "a pink ice cream",
    "a red car",
    "a yellow bus",
    "a gray rocket",
    "a brown teddy bear",
    "a white snowman",
    "a green tree",
    "a blue house",
    "a black penguin",
)
HELD_OUT = (
    "a white chair",
    "a blue donut",
    "a pink mug",
    "a red mushroom",
    "a yellow car",
    "a cyan duck",
    "an orange castle",
    "a yellow snowman",
)
PROMPTS = SEEN + HELD_OUT
