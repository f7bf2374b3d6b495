"""The web server: the page, and a WebSocket for each viewer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from http.cookies import CookieError, SimpleCookie
from importlib.resources import files
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from daydrive.drive.access import COOKIE, Access
from daydrive.drive.protocol import VERSION, Hello, parse
from daydrive.drive.protocol import Message as PageMessage
from daydrive.drive.sessions import Sessions
from daydrive.drive.viewers import Viewer
from daydrive.errors import UserError

PAGE = Path(str(files("daydrive.drive") / "static"))
HELLO_TIMEOUT = 10.0
MAX_ERRORS = 100
"""Invalid messages after which a viewer is disconnected."""
REJECTED, POLICY = 4000, 1008
"""Close codes: the page cannot be served and should not try again; the page broke a rule."""
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def create_app(sessions: Sessions, access: Access) -> ASGIApp:
    """The ASGI application."""

    async def viewer_socket(websocket: WebSocket) -> None:
        await websocket.accept()
        with suppress(WebSocketDisconnect, RuntimeError, TimeoutError):  # the page has gone, or does not read
            await _serve(websocket, sessions)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await sessions.close()

    routes = [WebSocketRoute("/drive", viewer_socket), Mount("/", StaticFiles(directory=PAGE, html=True))]
    return Guard(Starlette(routes=routes, lifespan=lifespan), access)


class Guard:
    """Rejects what `access` does not allow, and adds headers that confine the page to this server."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        answer = self._answer(scope)
        if answer is None:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "http":
            await answer(scope, receive, _with_headers(send))
        else:
            await WebSocket(scope, receive, send).send_denial_response(answer)

    def _answer(self, scope: Scope) -> Response | None:
        """A response other than the page; None for a request that is allowed."""
        headers, query = Headers(scope=scope), QueryParams(scope["query_string"])
        if not self._access.allows_host(headers):
            return PlainTextResponse("this server answers on this machine only; start it with --host", 403)
        if not self._access.allows_origin(headers):
            return PlainTextResponse("requests of other sites are rejected", 403)
        if self._access.token is not None and query.get("token") is not None and scope["type"] == "http":
            if not self._access.allows_token(query["token"]):
                return PlainTextResponse("the token is wrong; use the address that `daydrive drive` printed", 401)
            session = query.get("session", "")
            response = RedirectResponse(f"/?session={session}" if session.isalnum() else "/", 303)
            response.set_cookie(COOKIE, query["token"], httponly=True, samesite="lax")
            return response
        if not self._access.allows_token(query.get("token") or _cookie(headers)):
            return PlainTextResponse("a token is needed; use the address that `daydrive drive` printed", 401)
        return None


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(SECURITY_HEADERS)
        await send(message)

    return wrapped


def _cookie(headers: Headers) -> str | None:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return None if morsel is None else morsel.value


async def _serve(websocket: WebSocket, sessions: Sessions) -> None:
    """Serve one viewer until it disconnects, breaks a rule, or does not read."""
    try:
        async with asyncio.timeout(HELLO_TIMEOUT):
            hello = parse(await _received(websocket))
        if not isinstance(hello, Hello):
            raise UserError("the first message has to be hello")
        if hello.version != VERSION:
            raise UserError(
                f"the page speaks version {hello.version} of the protocol and this server version {VERSION}; reload it"
            )
        session, viewer = await sessions.join(hello.session, websocket)
    except (UserError, TimeoutError) as error:
        await websocket.send_json({"type": "error", "message": str(error) or "no hello came"})
        await websocket.close(REJECTED)
        return
    sending = asyncio.create_task(viewer.send())
    receiving = asyncio.create_task(_receive(websocket, viewer, session.receive))
    try:
        await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        sessions.part(session, viewer)
        for task in (sending, receiving):
            task.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)
    async with asyncio.timeout(1.0):
        await websocket.close(POLICY)


async def _receive(websocket: WebSocket, viewer: Viewer, handle: Callable[[Viewer, PageMessage], None]) -> None:
    """Handle the messages of a viewer; invalid ones are answered. Returns when it sends too many."""
    errors = 0
    while errors <= MAX_ERRORS:
        text = await _received(websocket)
        if not viewer.may_send():
            viewer.post({"type": "error", "message": "too many messages; the connection is closed"})
            return
        try:
            handle(viewer, parse(text))
        except UserError as error:
            errors += 1
            viewer.post({"type": "error", "message": str(error)})


async def _received(websocket: WebSocket) -> str | bytes:
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    content: str | bytes = message["text"] if message.get("text") is not None else message["bytes"]
    return content
