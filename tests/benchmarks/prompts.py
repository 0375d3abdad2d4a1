"""Prompts of the main job's benchmark, a third of them held out of the prior's training: two times 24."""

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
FIRST = SEEN + HELD_OUT
SECOND = (
    "a green cube",
    "a purple star",  # held out
    "a white bed",
    "a blue sofa",  # held out
    "a brown bookshelf",
    "a yellow banana",  # held out
    "an orange carrot",
    "a blue airplane",
    "a pink boat",  # held out
    "a brown dog",
    "a blue cat",  # held out
    "a gray robot",
    "a white lighthouse",
    "a brown house",  # held out
    "a striped red ball",  # held out
    "a checkered blue cube",
    "a spotted yellow duck",
    "a striped green fish",
    "a red ball on a blue cube",  # held out
    "a yellow duck on a brown table",
    "a red mug on a white bookshelf",
    "a blue mug next to a red apple",
    "an orange pumpkin next to a black cat",  # held out
    "a green cone next to a white snowman",  # held out
)
PROMPTS = {"first": FIRST, "second": SECOND, "all": FIRST + SECOND}
