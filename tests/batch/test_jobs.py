"""Prompt files, and folders that are safe for any prompt."""

import json
from pathlib import Path

import pytest

from dreamfusion_pl.batch.jobs import Request, is_done, jobs_of, read_requests, slug
from dreamfusion_pl.data.world.captions import held_out, parse

NASTY = ["../../etc/passwd", "a/b\\c", "\x00", "🪑" * 50, "x" * 10_000, "con", ".", "-", "a red chair\n", " "]


def test_text(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("\ufeffa red chair\n\n# a comment\n  a blue mug  \na red chair\n", encoding="utf-8")
    requests = read_requests(str(file))
    assert [request.prompt for request in requests] == ["a red chair", "a blue mug", "a red chair"]
    jobs = jobs_of(requests, 2, Path("out"))
    assert [(job.request.prompt, job.seed) for job in jobs] == [
        ("a red chair", 0),
        ("a blue mug", 0),
        ("a red chair", 1),
        ("a blue mug", 1),
    ]
    assert len({job.folder for job in jobs}) == 4


def test_tables_carry_options(tmp_path):
    table = tmp_path / "prompts.csv"
    table.write_text('prompt,trainer.max_steps\n"a red chair, old",30\na mug,\n', encoding="utf-8")
    assert read_requests(str(table)) == [
        Request("a red chair, old", ("--trainer.max_steps=30",)),
        Request("a mug"),
    ]
    lines = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "a mug", "trainer.max_steps": 30, "data.focal": [1, 2]}, {"prompt": "a cup"}]
    lines.write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    assert read_requests(str(lines)) == [
        Request("a mug", ("--trainer.max_steps=30", "--data.focal=[1, 2]")),
        Request("a cup"),
    ]


def test_the_built_in_list_is_what_the_prior_was_trained_on():
    requests = read_requests("world")
    scenes = [parse(request.prompt) for request in requests]
    assert len({scene.items[0].object for scene in scenes}) == len(requests) >= 40
    assert not any(held_out(scene) for scene in scenes)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.txt", "\n# nothing\n", "holds no prompt"),
        ("a.csv", "text\na chair\n", "column named prompt"),
        ("a.csv", "prompt\na chair,5\n", "line 2"),
        ("a.csv", "prompt,seed\n,5\n", "line 2: needs a prompt"),
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": \n', "line 2: no JSON"),
        ("a.jsonl", '["a"]\n', "line 1: needs an object"),
        ("a.jsonl", '{"prompt": 3}\n', "line 1: needs a prompt"),
        ("a.csv", 'prompt\n"a chair' + 200_000 * "\n", "no CSV"),
        ("a.csv", "prompt,seed_everything\na chair,5\n", "line 2: seed_everything cannot be set"),
        ("a.jsonl", '{"prompt": "a", "seed_everything": 0}', "line 1: seed_everything cannot be set"),
        ("a.txt", "a\na\0b\n", "line 2: the null character"),
        ("a.csv", "prompt,data.focal,data.focal\na,1,2\n", "2 columns named 'data.focal': keep one"),
        ("a.csv", "prompt,prompt\na,b\n", "2 columns named 'prompt'"),
        ("a.jsonl", '{"prompt": "a", "prompt": "b"}', "line 1: no JSON: the key 'prompt' is there twice"),
        ("a.md", "a chair", ".txt, .csv or .jsonl"),
    ],
)
def test_bad_files_are_one_message(tmp_path, name, content, message):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_requests(str(tmp_path / name))


@pytest.mark.parametrize("separator", ["\u2028", "\u0085"])
def test_only_a_newline_ends_a_prompt(tmp_path, separator):
    prompt = f"a red{separator}chair"
    text, lines = tmp_path / "a.txt", tmp_path / "a.jsonl"
    text.write_text(f"{prompt}\n", encoding="utf-8")
    lines.write_text(json.dumps({"prompt": prompt}, ensure_ascii=False), encoding="utf-8")
    assert read_requests(str(text)) == read_requests(str(lines)) == [Request(prompt)]


def test_a_value_that_looks_like_an_option_stays_a_value(tmp_path):
    table = tmp_path / "prompts.csv"
    table.write_text("prompt,model.prompts.negative_prompt\na mug,--blurry\n", encoding="utf-8")
    assert read_requests(str(table)) == [Request("a mug", ("--model.prompts.negative_prompt=--blurry",))]


def test_the_run_of_another_prompt_is_not_taken_for_ones_own(tmp_path):
    (job,) = jobs_of([Request("a mug")], 1, tmp_path)
    job.folder.mkdir(parents=True)
    (job.folder / "status.json").write_text('{"state": "finished", "prompt": "a cup"}')
    with pytest.raises(ValueError, match="another prompt, 'a cup'"):
        is_done(job)


def test_a_missing_file():
    with pytest.raises(ValueError, match="cannot be read"):
        read_requests("nowhere.txt")


def test_folders_are_safe_and_distinct(tmp_path):
    names = [slug(Request(prompt)) for prompt in NASTY]
    assert len(set(names)) == len(NASTY)
    for name in names:
        assert len(name) < 60 and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        (tmp_path / name).mkdir()
    assert slug(Request("a red chair")).startswith("a-red-chair-")
    assert slug(Request("a")) != slug(Request("a", ("--trainer.max_steps", "3")))


def test_a_broken_status_is_not_done(tmp_path):
    (job,) = jobs_of([Request("a mug")], 1, tmp_path)
    job.folder.mkdir(parents=True)
    for text, done in (
        ("", False),
        ("[1]", False),
        ('{"state": "running"}', False),
        ('{"state": "finished"}', True),
    ):
        (job.folder / "status.json").write_text(text)
        assert is_done(job) is done
