"""Answers over HTTP; what a request is told that fails: a code, a sentence and the next step."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from kmesh.errors import BpfError, KmeshError
from kmesh.tasks.gate import BODY, GATE, HTTP

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.web_request import BaseRequest

    from kmesh.tasks.gate import Gate

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)

SAFETY = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class NothingThere(KmeshError):
    """A path that this listener does not serve."""

    code = "KM1603"
    next_step = "GET /openapi.json at the admin address lists every path."


class WrongMethod(KmeshError):
    """A path that is served, but not with this method."""

    code = "KM1604"
    next_step = "See the Allow header of the answer, or GET /openapi.json at the admin address."


class TooMuch(KmeshError):
    """A body that is longer than any question needs to be."""

    code = "KM1605"
    next_step = "Send less: no request of this API needs so much."


class BadRequest(KmeshError):
    """A request that cannot be read: its head is no HTTP, or its body not the JSON that it should
    be."""

    code = "KM1606"
    next_step = "Send HTTP/1.1, and where a body is wanted one JSON object."


class Unforeseen(KmeshError):
    """The agent failed to answer for a reason of its own; traffic does not depend on it."""

    code = "KM1607"
    next_step = "Its log has the lines that belong to it; please report them."


class Protocol(web.RequestHandler):
    """One connection; what cannot be read at all is a problem in JSON, too, and
    counted at the gate."""

    __slots__ = ("_gate",)

    def __init__(self, gate: Gate, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._gate = gate

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer and close. Raises ConnectionError when an answer has begun already."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if status == 500:
            log.error("no answer to %s", request.remote, exc_info=exc)
        else:
            self._gate.turned[HTTP] += 1
        said = " ".join((message or str(exc) or "no HTTP").split())
        found = Unforeseen("it failed") if status == 500 else BadRequest(f"no HTTP: {said}")
        response = problem(found, status)
        response.headers.update(SAFETY)
        response.force_close()
        return response


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as JSON."""
    try:
        return await handler(request)
    except KmeshError as error:
        return problem(error, 500 if isinstance(error, BpfError) else 400)
    except web.HTTPException as error:
        return refusal(request, error)
    except ConnectionError:
        raise
    except Exception:  # one request's fault must not take the connection down without an answer
        if request.writer.output_size > 0:
            raise
        log.exception("no answer to %s %s", request.method, request.path)
        return problem(Unforeseen(f"{request.method} {request.path} failed"), 500)


def refusal(request: web.Request, error: web.HTTPException) -> web.Response:
    """What the server's own refusals mean here."""
    if isinstance(error, web.HTTPNotFound):
        return problem(NothingThere(f"there is nothing at {request.path}"), 404)
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        response = problem(WrongMethod(f"{request.path} takes {allowed}, not {error.method}"), 405)
        response.headers["Allow"] = allowed
        return response
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        request.app[GATE].turned[BODY] += 1
        return problem(TooMuch(error.text or "the body is too long"), 413)
    return problem(BadRequest(error.text or error.reason), error.status)


def problem(error: KmeshError, status: int) -> web.Response:
    """An error as JSON."""
    said = {"code": error.code, "error": error.sentence, "next_step": error.next_step}
    return answer(said, status)


def answer(value: object, status: int = 200) -> web.Response:
    """A JSON response."""
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


async def safe(_: web.Request, response: web.StreamResponse) -> None:
    """The headers that keep an answer out of other pages: a signal before any response begins."""
    for name, value in SAFETY.items():
        response.headers.setdefault(name, value)


async def content(request: web.Request, next_step: str | None = None) -> dict[str, object]:
    """The body's fields; raises BadRequest when it is no JSON object."""
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}", next_step) from error
    if not isinstance(body, dict):
        raise BadRequest("the body is not a JSON object", next_step)
    return body
