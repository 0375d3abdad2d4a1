"""Layers around gradio's application: who may see the page, and a script that comes before gradio's own."""

from __future__ import annotations

import hmac
import ipaddress
from http.cookies import SimpleCookie
from typing import Any, final
from urllib.parse import parse_qs, urlsplit


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@final
class Guard:
    """ASGI layer that refuses whom the page is not for.

    At a loopback address: names other than those of this machine (a website may let its own name point
    here). Elsewhere: whoever has not the token, from the address that was printed. Everywhere: what another
    website's page sends.

    Args:
        app: the application behind it.
        token: what a visitor must bring; "" at a loopback address.
        cookie: name of the cookie that holds it.
    """

    def __init__(self, app: Any, token: str, cookie: str) -> None:
        self._app, self._token, self._cookie = app, token, cookie

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        given = query.get("token", [""])[0]
        if self._is_foreign(headers):
            await _say(scope, send, 403, "This request comes from another website.")
        elif not self._token or self._is_token(self._kept(headers)):
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and self._is_token(given):
            keep = f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Lax"
            await _say(scope, send, 303, "", [(b"location", b"/"), (b"set-cookie", keep.encode())])
        else:
            await _say(scope, send, 403, "Open the address with the token that the server printed.")

    def _is_foreign(self, headers: dict[str, str]) -> bool:
        host = headers.get("host", "")
        if not self._token and not is_loopback(urlsplit(f"//{host}").hostname or ""):
            return True
        origin = headers.get("origin")
        return origin is not None and urlsplit(origin).netloc != host

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())

    def _kept(self, headers: dict[str, str]) -> str:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except ValueError:
            return ""
        return found.value if found is not None else ""


@final
class FirstScript:
    """ASGI layer that puts a script at the top of the page, before gradio's own.

    What gradio calls ``head`` comes from its scripts, after they have begun.

    Args:
        app: the application behind it.
        script: JavaScript.
    """

    def __init__(self, app: Any, script: str) -> None:
        self._app, self._element = app, f"<head><script>{script}</script>".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        start: dict[str, Any] = {}
        body = bytearray()

        async def keep(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            page = bytes(body).replace(b"<head>", self._element, 1)
            kept = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
            length = (b"content-length", str(len(page)).encode())
            await send({**start, "headers": [*kept, length]})
            await send({"type": "http.response.body", "body": page})

        plain = [(name, value) for name, value in scope["headers"] if name.lower() != b"accept-encoding"]
        await self._app({**scope, "headers": plain}, receive, keep)


async def _say(
    scope: Any, send: Any, status: int, text: str, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    plain = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": [*plain, *(headers or [])]})
    await send({"type": "http.response.body", "body": text.encode()})
