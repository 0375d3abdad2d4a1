"""The server of the page: its address, files of runs, and downloads."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from dreamfusion_pl.app import downloads
from dreamfusion_pl.app.desk import Desk
from dreamfusion_pl.app.layers import FirstScript, Guard
from dreamfusion_pl.app.look import newest_preview, still, turning
from dreamfusion_pl.run_folder import layout

if TYPE_CHECKING:
    from fastapi import FastAPI, Response

PORTS = 20  # tried one after another
SHUTDOWN_SECONDS = 2  # that open pages have before they are cut off
SANDBOX = "sandbox allow-scripts allow-downloads allow-popups"  # a run's page has no access to this one


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens at the first free port from ``port`` on.

    Raises:
        ValueError: the address is not this machine's, or no port is free.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except (OSError, OverflowError, UnicodeError) as error:
        raise ValueError(f"--host {host}: {error}") from error
    last = ""
    for candidate in range(port, min(port + PORTS, 65536)):
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, candidate))
            found.listen(128)
            return found
        except OSError as error:
            found.close()
            last = str(error)
    raise ValueError(f"no free port at {host} from {port} on ({last}): give another one with --port")


def application(desk: Desk, token: str, cookie: str) -> Guard:
    """Return the ASGI application: the page, and the files that it shows."""
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")
    import gradio as gr
    from fastapi import FastAPI

    from dreamfusion_pl.app import page

    app = FastAPI(title="DreamFusion", docs_url=None, redoc_url=None, openapi_url=None)
    _add_files(app, desk)
    gr.mount_gradio_app(
        app,
        page.build(desk),
        "/",
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        max_file_size=1,  # nobody has to upload anything
        theme=page.theme(),
        css_paths=page.STYLE,
    )
    return Guard(FirstScript(app, page.SCRIPT.read_text(encoding="utf-8")), token, cookie)


def _add_files(app: FastAPI, desk: Desk) -> None:
    """Add the addresses of files. Only names that are listed here are served, of runs that are shown."""
    from fastapi.responses import FileResponse, PlainTextResponse, Response

    missing = PlainTextResponse("There is no such file.", 404)

    @app.get("/files/{slug}/{seed}/{name}")
    def file(slug: str, seed: str, name: str) -> Response:
        key = f"{slug}/{seed}"
        if not desk.has(key):
            return missing
        return picture(desk.out / key, name) or missing

    @app.get("/download/{slug}/{seed}/{form}")
    def download(slug: str, seed: str, form: str) -> Response:
        key = f"{slug}/{seed}"
        if form not in downloads.SUFFIXES or not desk.has(key):
            return missing
        place = downloads.file_of(desk.out, key, form)
        return FileResponse(place, filename=downloads.name_of(key, form)) if place.is_file() else missing

    def picture(run: Path, name: str) -> Response | None:
        if name == layout.VIEWER and (run / name).is_file():
            return FileResponse(run / name, headers={"Content-Security-Policy": SANDBOX})
        sheet = newest_preview(run)
        if name == "turning.gif" and (run / layout.TURNTABLE_GIF).is_file():
            return FileResponse(run / layout.TURNTABLE_GIF)
        if sheet is None:
            return None
        if name == "preview.png":
            return FileResponse(sheet)
        makers = {"turning.gif": turning, "still.png": still}
        if name not in makers:
            return None
        try:
            made = makers[name](sheet, sheet.stat().st_mtime_ns)
        except OSError:
            return None
        return Response(made, media_type=f"image/{name[-3:]}")


def serve(desk: Desk, listener: socket.socket, token: str, closing: threading.Event) -> None:
    """Serve the page until ``closing`` is set."""
    import uvicorn

    os.environ["GRADIO_TEMP_DIR"] = str(desk.cache)  # gradio's copies of what it shows
    cookie = f"dreamfusion_pl_{listener.getsockname()[1]}"
    app = application(desk, token, cookie)
    config = uvicorn.Config(
        app, log_level="warning", timeout_graceful_shutdown=SHUTDOWN_SECONDS, server_header=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server", daemon=True)
    thread.start()
    while thread.is_alive() and not closing.wait(1.0):
        pass
    server.should_exit = True
    thread.join(2.0 * SHUTDOWN_SECONDS + 1.0)


@contextmanager
def noted_signals(closing: threading.Event) -> Iterator[None]:
    """While the block runs, SIGINT and SIGTERM set ``closing``; a second one has its usual effect."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def note(number: int, frame: FrameType | None) -> None:
        closing.set()
        for one in numbers:
            signal.signal(one, before[one])

    for number in numbers:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])


def new_token() -> str:
    """Return a token that nobody guesses."""
    return secrets.token_urlsafe(24)
