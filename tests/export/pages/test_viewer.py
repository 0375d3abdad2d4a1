"""The page holds what it shows, and nothing that a user typed becomes markup."""

import base64
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from dreamfusion_pl.export.files.images import write_png
from dreamfusion_pl.export.pages.gallery import Card, write_gallery
from dreamfusion_pl.export.pages.viewer import Page, write_viewer

NASTY = [
    '<script>alert("x")</script>',
    "\"><img src=x onerror='alert(1)'>",
    "</title></pre></script><!--",
    "$title ${object} $$ %s {0}",
    "a red chair 🪑\u202e\u0000 ../../etc/passwd",
    "x" * 10_000,
]


class Tags(HTMLParser):
    """Collects elements, attributes and text outside of scripts."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def page_of(tmp_path, text="a red chair", with_object=True) -> str:
    picture = write_png(torch.rand(4, 4, 3), tmp_path / "step_1.png")
    (tmp_path / "object.glb").write_bytes(b"glTF-bytes")
    page = Page(
        title=text,
        object=tmp_path / "object.glb" if with_object else None,
        film=None,
        previews={f"step 1, {text}": picture},
        legend=text,
        facts={"seed": "0", text: text},
        configuration=f"prompt: {text}",
    )
    return write_viewer(page, tmp_path / "viewer.html").read_text(encoding="utf-8")


def read(page: str) -> Tags:
    tags = Tags()
    tags.feed(re.sub(r'<script type="module">.*</script>', "", page, flags=re.DOTALL))
    return tags


def test_everything_is_inside(tmp_path):
    page = page_of(tmp_path)
    attributes = dict(read(page).attributes)
    kind, _, data = attributes["src"].partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == (tmp_path / "step_1.png").read_bytes()
    (model,) = re.findall(r'<model-viewer src="data:model/gltf-binary;base64,([^"]+)"', page)
    assert base64.b64decode(model) == b"glTF-bytes"
    places = [value for name, value in read(page).attributes if name in ("src", "href")]
    assert all(value.startswith("data:") for value in places)
    assert 'customElements.define("model-viewer"' in page


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_texts_stay_texts(tmp_path, text):
    plain, nasty = read(page_of(tmp_path)), read(page_of(tmp_path, text))
    assert nasty.tags == plain.tags
    assert [name for name, _ in nasty.attributes] == [name for name, _ in plain.attributes]
    if "\u0000" not in text:
        assert nasty.text.count(text) >= 4


def test_random_texts_stay_texts(tmp_path):
    pieces = [
        *"<>&\"'/=`$;{}!-%\\",
        "<script>",
        "</script>",
        "<!--",
        "-->",
        "]]>",
        "&lt;",
        "&#60;",
        "${title}",
    ]
    pieces += [
        "javascript:",
        " onerror=",
        "data:",
        "\u2028",
        "\u202e",
        "\ud83e",
        "🪑",
        "\n",
        "\t",
        "chair",
        "é",
        "../",
    ]
    draw = random.Random(0)
    plain = read(page_of(tmp_path, with_object=False))
    cards = read(gallery_of(tmp_path, "a red chair"))
    for _ in range(200):
        text = "".join(draw.choices(pieces, k=draw.randint(1, 30)))
        shown = text.replace("\ud83e", "?")  # half of a letter is no letter
        page, gallery = read(page_of(tmp_path, text, with_object=False)), read(gallery_of(tmp_path, text))
        assert page.tags == plain.tags and gallery.tags == cards.tags, repr(text)
        assert [name for name, _ in page.attributes] == [name for name, _ in plain.attributes]
        assert [name for name, _ in gallery.attributes] == [name for name, _ in cards.attributes]
        assert page.text.count(shown) >= 4 and gallery.text.count(shown) >= 2, repr(text)


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_a_gallery_of_nasty_prompts(tmp_path, text):
    plain, nasty = read(gallery_of(tmp_path, "a red chair")), read(gallery_of(tmp_path, text))
    assert nasty.tags == plain.tags
    links = [value for name, value in nasty.attributes if name in ("href", "src")]
    assert links == ["folder%20%22%3E%3Cb/viewer.html", "folder%20%22%3E%3Cb/turntable.gif"][::-1]


def gallery_of(tmp_path, text) -> str:
    folder = Path('folder "><b')
    card = Card(text, folder / "viewer.html", folder / "turntable.gif", f"seed 0, {text}")
    page = write_gallery("objects", [card], tmp_path / "gallery.html").read_text(encoding="utf-8")
    return page.split("<script>\ndocument")[0]  # its own script


def test_without_an_object_it_says_so_and_is_small(tmp_path):
    page = page_of(tmp_path, with_object=False)
    assert "no object" in page and "<script" not in page and len(page) < 10_000
