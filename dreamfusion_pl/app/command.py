"""``python -m dreamfusion_pl app``: a local page to make objects in."""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import threading
from pathlib import Path

from dreamfusion_pl.app.choices import Setup
from dreamfusion_pl.app.desk import Desk
from dreamfusion_pl.app.layers import is_loopback
from dreamfusion_pl.app.ledger import opened
from dreamfusion_pl.app.runner import Runner
from dreamfusion_pl.app.server import PORTS, bound, new_token, noted_signals, serve
from dreamfusion_pl.batch.jobs import Request, jobs_of
from dreamfusion_pl.batch.worker import ProcessSettings
from dreamfusion_pl.commands.batch_checks import check_options
from dreamfusion_pl.configuration.parsing import read_configuration
from dreamfusion_pl.configuration.prompt_words import is_embedded
from dreamfusion_pl.terminal import guarded

PORT = 7860
EXAMPLE = "a red chair"


def main(args: list[str]) -> int:
    """Run ``app``; return the exit status."""
    return guarded(lambda: app(*_parser().parse_known_args(args)), "app")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dreamfusion_pl app",
        description="Serve a page to make objects in: type a prompt, watch it grow, download it. Jobs run "
        "one after another, and stay when the page or the server is closed. Every other option goes to "
        "the fits, such as --config FILE or --trainer.max_steps N.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, default=Path("app"), help="folder of the queue and of the runs")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at; one that others can reach needs a token"
    )
    parser.add_argument("--port", type=int, default=PORT, help="port; the next free one if it is taken")
    return parser


def app(options: argparse.Namespace, fit_options: list[str]) -> None:
    """Serve the page until Ctrl-C or SIGTERM; the running fit then saves, and goes on at the next start.

    Raises:
        ArgumentError: an option of the fits is invalid.
        ValueError: an option is invalid, gradio is not installed, or another page has the folder.
        OSError: the folder cannot be written.
    """
    if importlib.util.find_spec("gradio") is None:
        raise ValueError("the page needs gradio: pip install 'gradio>=6.30,<7'")
    if not 1 <= options.port <= 65535:
        raise ValueError(f"--port is from 1 to 65535, got {options.port}")
    out = options.out.absolute()
    check_options(jobs_of([Request(EXAMPLE)], 1, out), fit_options)
    model = read_configuration(fit_options)["model"].get("init_args") or {}
    setup = Setup(tuple(fit_options), is_embedded(model))
    closing = threading.Event()
    with (
        opened(out) as ledger,
        bound(options.host, options.port) as listener,
        tempfile.TemporaryDirectory(prefix="dreamfusion_pl-page-") as cache,
        noted_signals(closing),
    ):
        runner = Runner(ledger, _settings(), closing)
        runner.start()
        try:
            token = "" if is_loopback(options.host) else new_token()
            _greet(options, listener.getsockname()[1], token, out)
            serve(Desk(ledger, runner, setup, Path(cache)), listener, token, closing)
        finally:
            runner.close()
    print("the page is closed; the same command goes on with what waits", flush=True)


def _settings() -> ProcessSettings:
    """Environment of the fits: all cores, unless OMP_NUM_THREADS differs, and the GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    said = os.environ.get("OMP_NUM_THREADS", "")
    return ProcessSettings(int(said) if said.isdecimal() else cores, 1.0, str(Path.cwd()))


def _greet(options: argparse.Namespace, port: int, token: str, out: Path) -> None:
    if port != options.port:
        print(f"port {options.port} is taken; this is the next free one of {PORTS}", flush=True)
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"http://{host}:{port}/" + (f"?token={token}" if token else "")
    print(f"page:    {address}\nobjects: {out}\nCtrl-C ends it; a running fit saves first", flush=True)
    if token:
        print("Whoever has this address can use this machine's processor; it is not encrypted.", flush=True)
