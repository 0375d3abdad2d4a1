"""A prompt without its option, classes without their modules, and seeds that are drawn."""

import pytest

from dreamfusion_pl.configuration import words


def test_a_text_that_stands_alone_is_the_prompt():
    arguments = ["--config", "a.yaml", "a red chair", "--trainer.max_steps", "-1", "--print_config"]
    assert words.with_prompt(arguments) == [*arguments[:2], "--prompt=a red chair", *arguments[3:]]
    given = ["--prompt", "--help", "--model.scene.radius=1", "--data.distance", "[1, 2]"]
    assert words.with_prompt(given) == given
    assert words.with_prompt(["--print_config", "a: b"]) == ["--print_config", "--prompt=a: b"]
    assert words.with_prompt(["--model.help", "DreamFusion"]) == ["--model.help", "DreamFusion"]


@pytest.mark.parametrize("arguments", [["a", "red", "chair"], ["--prompt", "a", "red", "chair"]])
def test_a_prompt_without_quotes(arguments):
    with pytest.raises(ValueError, match='as in --prompt "a red chair"'):
        words.with_prompt(arguments)


def test_an_option_may_come_before_its_class():
    options, kind = ["--model.distillation.init_args.draws", "2", "--x=1"], ["--model.distillation=own.Mine"]
    assert words.classes_first([*options, *kind]) == [*kind, *options]
    assert words.classes_first([*kind, *options]) == [*kind, *options]
    for others in (
        ["--prompt", "Chair", "--model.prompt.x=1"],
        ["--trainer.logger.name", "a", "--trainer.logger", "False"],
    ):
        assert words.classes_first(others) == others
    path = ["--model.scene.radius", "1", "--model.scene.class_path", "FieldScene"]
    assert words.classes_first(path) == [*path[2:], *path[:2]]


def test_names_of_classes():
    arguments = ["--prompt", "Chair", "--model.scene", "FieldScene", "--model.x=Linear", "--y", "b"]
    tree = {"model": {"class_path": "Playground", "list": ["LiveView"]}}
    assert words.class_names(arguments, [tree]) == {"FieldScene", "Linear", "Playground", "LiveView"}


def test_a_seed_is_drawn_if_it_is_asked_for(monkeypatch):
    for name in ("LOCAL_RANK", "WORLD_SIZE", "SLURM_NTASKS", "PL_GLOBAL_SEED"):
        monkeypatch.delenv(name, raising=False)
    assert words.drawn_seed([], [{"seed_everything": 3}]) is None
    assert words.drawn_seed(["--seed_everything", "5"], [{"seed_everything": True}]) is None
    for asked in ("true", "false", "True"):
        seeds = {words.drawn_seed([f"--seed_everything={asked}"], [{"seed_everything": 3}]) for _ in range(3)}
        assert len(seeds) == 3 and all(0 <= seed < 2**32 for seed in seeds)
    assert words.drawn_seed([], [{"seed_everything": 3}, {"seed_everything": False}]) is not None
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="give a number"):
        words.drawn_seed(["--seed_everything", "true"], [])
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")  # of Lightning's first process
    assert words.drawn_seed(["--seed_everything", "true"], []) == 7
