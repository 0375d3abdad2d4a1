"""Who may see the page, and which files are served."""

import http.client
import os
import socket
import zipfile
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from served_page import served

from dreamfusion_pl.app import downloads
from dreamfusion_pl.app.layers import is_loopback
from dreamfusion_pl.app.server import bound

pytest.importorskip("gradio")
KEY = "a-red-ball-0123456789abcdef/seed_0"  # the run of conftest.py


def ask(address, path, method="GET", **headers):
    """Status, headers and body of an answer."""
    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=20)
    connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


@pytest.fixture(scope="module")
def page(small_page):
    return small_page.address


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, warm_python):
    """A page that others can reach, and its token."""
    with served(warm_python, tmp_path_factory.mktemp("guarded") / "app", "--host", "0.0.0.0") as page:
        place = urlsplit(page.address)
        yield f"http://127.0.0.1:{place.port}/", parse_qs(place.query)["token"][0]


def test_the_page_is_served(page):
    status, _, body = ask(page, "/")
    assert status == 200 and b"DreamFusion" in body
    assert ask(page, "/docs")[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "", "127.0.0.1.evil.example"])
def test_a_website_whose_name_points_here_is_refused(page, host):
    assert ask(page, "/", Host=host)[0] == 403


def test_what_another_website_sends_is_refused(page):
    own = page.rstrip("/")
    assert ask(page, "/", Origin=own)[0] == 200
    assert ask(page, "/gradio_api/queue/join", "POST", Origin="http://evil.example")[0] == 403
    assert ask(page, "/", Origin="null")[0] == 403


def test_files_of_a_run(page):
    assert ask(page, f"/download/{KEY}/glb")[2] == b"glTF"
    assert "a-red-ball-seed_0.glb" in ask(page, f"/download/{KEY}/glb")[1]["content-disposition"]
    status, headers, body = ask(page, f"/files/{KEY}/viewer.html")
    assert status == 200 and headers["content-security-policy"].startswith("sandbox")
    assert "allow-same-origin" not in headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        f"/files/{KEY}/config.yaml",
        f"/files/{KEY}/preview.png",  # it has none
        f"/files/{KEY}/..%2f..%2fqueue.json",
        "/files/other/seed_0/object.glb",
        "/files/..%2fother/seed_0/viewer.html",
        f"/download/{KEY}/exe",
        f"/download/{KEY}/stl",  # not made yet
        "/download/other/seed_0/glb",
    ],
)
def test_other_files_are_not_served(page, path):
    assert ask(page, path)[0] == 404


def test_gradio_serves_nothing_of_the_folder(page, small_page):
    folder = small_page.out
    for place in (folder / KEY / "config.yaml", folder / KEY / "object.glb", Path(__file__)):
        assert ask(page, f"/gradio_api/file={quote(str(place))}")[0] == 403


@pytest.mark.parametrize("path", ["/", "/?token=wrong", "/?token=", f"/files/{KEY}/viewer.html", "/config"])
def test_without_the_token_nothing_is_shown(guarded, path):
    status, _, body = ask(guarded[0], path)
    assert status == 403 and b"token" in body and len(body) < 100


def test_a_wrong_cookie_is_refused(guarded):
    address, token = guarded
    name = f"dreamfusion_pl_{urlsplit(address).port}"
    for cookie in (f"{name}=wrong", f"{name}=", "x", f"other={token}", "\xff=\xff"):
        assert ask(address, "/", Cookie=cookie)[0] == 403


def test_the_token_opens_the_page_and_leaves_the_address(guarded):
    address, token = guarded
    status, headers, _ = ask(address, f"/?token={token}")
    assert status == 303 and headers["location"] == "/" and "HttpOnly" in headers["set-cookie"]
    cookie = headers["set-cookie"].partition(";")[0]
    assert ask(address, "/", Cookie=cookie)[0] == 200
    assert ask(address, "/", Cookie=cookie, Origin="http://evil.example")[0] == 403
    assert len(token) >= 30


def test_loopback():
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "", "localhost.evil")))


def test_a_taken_port_is_stepped_over():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with bound("127.0.0.1", port) as found:
            assert port < found.getsockname()[1] < port + 20


def test_an_address_that_is_not_ours():
    with pytest.raises(ValueError, match="--host"):
        bound("no.such.name.invalid", 7860)
    with pytest.raises(ValueError, match="--port"):
        bound("192.0.2.1", 7860)


def test_a_file_is_made_once_and_anew_for_a_new_object(tmp_path, monkeypatch):
    made = []

    def export(run, form, place, words):
        made.append(form)
        (place / f"object.{form}").write_text("x")
        (place / "object.mtl").write_text("y")
        (place / "object.report.json").write_text("{}")

    monkeypatch.setattr(downloads, "_export", export)
    (tmp_path / KEY).mkdir(parents=True)
    (tmp_path / KEY / "object.glb").touch()
    first = downloads.make(tmp_path, KEY, "obj")
    assert first.suffix == ".zip" and downloads.make(tmp_path, KEY, "obj") == first and made == ["obj"]
    assert zipfile.ZipFile(first).namelist() == ["object.mtl", "object.obj"]
    assert downloads.make(tmp_path, KEY, "stl").read_text() == "x"
    os.utime(tmp_path / KEY / "object.glb", (2e9, 2e9))
    downloads.make(tmp_path, KEY, "stl")
    assert made == ["obj", "stl", "stl"]


def test_what_export_complains_of_is_passed_on(tmp_path, monkeypatch, warm_python):
    monkeypatch.setattr(downloads, "PROGRAM", (warm_python, "-m", "dreamfusion_pl"))
    with pytest.raises(ValueError, match="nowhere"):
        downloads.make(tmp_path, "nowhere-0/seed_0", "stl")
    assert not list(tmp_path.glob("**/.making-*"))
