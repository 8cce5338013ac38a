"""Switches off what gradio does but a public page cannot afford.

- A file given as an address is fetched by the server, into memory and onto its disk. No handler
  takes an address here, so none is fetched: the input is refused.
- A request for a function that is not there, or with other arguments than its own, ended in a
  traceback. It is the caller's mistake, and is told so.
- Every session keeps the description of all components and the last value of every input, for deep
  links: 0.32 MB and 25 ms for each new session, plus whatever is sent. There are no deep links
  here, so sessions keep only what handlers keep.
- Whoever invents enough sessions evicts those of others. Here a client evicts its own.
- One queue serves first come, first served, and handlers without a queue run all at once: see
  `ui.turns`.
- Uploads are stored by their content, so two visitors with the same file share a path, and the
  first to be done deletes it for the other. Here every upload has a path of its own.
"""

from __future__ import annotations

import datetime
import functools
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import gradio as gr
import gradio.processing_utils
import gradio.queueing
import gradio.route_utils
import gradio.routes
from gradio.blocks import BlockFunction
from gradio.components.api_component import Api
from gradio.data_classes import PredictBody
from gradio.route_utils import FnIndexInferError, GradioMultiPartParser, GradioUploadFile
from gradio.state_holder import SessionState
from gradio_client import utils as client_utils
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from ui.client import client_of
from ui.turns import FairQueue, LightHandlers

SESSIONS_OF_CLIENT = 300
SESSIONS = 3000  # in all
_CLIENTS = 10_000  # whose sessions are counted
_gradio_get_function = gradio.route_utils.get_fn
_MAX_DEPTH = 30  # of lists and objects in an input; a browser sends a few


class LeanSession:
    """The methods of `SessionState` that keep copies, without the copies."""

    def __init__(self, blocks: gr.Blocks) -> None:
        self.blocks_config = blocks.default_config  # copied when something of it changes
        self.config_values = {}
        self.state_data = {}
        self._state_ttl = {}
        self.is_closed = False
        self.STATE_TTL_WHEN_CLOSED = 3600

    def __setitem__(self, key: int, value: Any) -> None:
        block = self.blocks_config.blocks.get(key)
        if isinstance(block, gr.State):
            self._state_ttl[key] = (block.time_to_live, datetime.datetime.now())
            self.state_data[key] = value
        else:
            if self.blocks_config is self.blocks_config.root_block.default_config:
                self.blocks_config = copy(self.blocks_config)
            self.blocks_config.blocks[key] = value

    def _update_config(self, key: int) -> None:
        pass

    def _update_value_in_config(self, key: int, value: Any) -> None:
        pass


class HeardStream(StreamingResponse):
    """A stream of events whose reader may leave before it begins: then its first step still runs,
    which sees that nobody is there and ends the work. Gradio's would go on to its end."""

    def __init__(self, content: AsyncIterator[str], *given: Any, **named: Any) -> None:
        self._begun, self._content = False, content
        super().__init__(self._noting(), *given, **named)

    async def _noting(self) -> AsyncIterator[str]:
        self._begun = True
        async for part in self._content:
            yield part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if not self._begun:
                await anext(self._content, None)


class Page(gr.Blocks):
    """`gr.Blocks` that refuses files by address, in any input of any function, and bounds what one
    client may run without the queue and keep in sessions."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._light = LightHandlers()
        self._sessions: dict[str, OrderedDict[str, None]] = {}  # of each client

    async def process_api(self, block_fn, inputs, state=None, request=None, **named):
        client = client_of(request)
        self._note_session(client, named.get("session_hash"))
        fn = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        if fn.queue:
            return await super().process_api(block_fn, inputs, state, request, **named)
        async with self._light.place(client):
            return await super().process_api(block_fn, inputs, state, request, **named)

    def _note_session(self, client: str, session: str | None) -> None:
        """Of too many sessions of a client, the one that has not been used for longest goes."""
        if session is None:
            return
        own = self._sessions.setdefault(client, OrderedDict())
        own[session] = None
        own.move_to_end(session)
        if len(own) > SESSIONS_OF_CLIENT:
            oldest, _ = own.popitem(last=False)
            self.state_holder.delete_state(oldest)
            self.state_holder.session_data.pop(oldest, None)
            self.state_holder.time_last_used.pop(oldest, None)
        while len(self._sessions) > _CLIENTS:
            del self._sessions[next(iter(self._sessions))]

    async def preprocess_data(self, block_fn, inputs, state, explicit_call=False):
        inputs = with_defaults(inputs, block_fn.inputs)
        refuse_addresses(inputs)
        try:
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)
        except Exception as error:  # a value that its component does not accept
            words = getattr(error, "message", "An input has the wrong type.")
            # A visitor's mistake should not leave a traceback.
            raise gr.Error(_whole(str(words)), print_exception=False) from None


def with_defaults(inputs: list[Any], components: list) -> list[Any]:
    """An endpoint's inputs with the defaults of those left out at the end: a call by position that
    was written before an argument was added keeps working."""
    missing = components[len(inputs) :]
    if not inputs or not all(isinstance(component, Api) for component in missing):
        return inputs
    return [*inputs, *(component.value for component in missing)]


def refuse_addresses(value: Any, depth: int = 0) -> None:
    """`gr.Error` if a file in an input is not on this server, or is nested too deep."""
    if depth > _MAX_DEPTH:
        raise gr.Error("The input is nested too deep.", print_exception=False)
    if isinstance(value, dict):
        # Anything with a path counts as a file.
        path = value.get("path")
        if isinstance(path, str) and "://" in path:
            _fetch_nothing()
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            refuse_addresses(part, depth + 1)


async def explain_request(request: Request, error: Exception) -> JSONResponse:
    """The answer to a body that is not what gradio reads: without the body, which may be large, or
    not even text."""
    words = "The body must be a JSON object whose data is a list, as the page's API link shows it."
    return JSONResponse({"detail": words}, 422)


def harden() -> None:
    """Call this once, before a page is built."""
    for name in ("__init__", "__setitem__", "_update_config", "_update_value_in_config"):
        setattr(SessionState, name, getattr(LeanSession, name))
    gradio.processing_utils.async_ssrf_protected_download = _fetch_nothing
    gradio.processing_utils.save_url_to_cache = _fetch_nothing
    gradio.route_utils.get_fn = _get_function
    own = SimpleNamespace(**vars(client_utils) | {"construct_args": _name_arguments})
    gradio.routes.client_utils = own
    gradio.queueing.Queue = FairQueue
    gradio.routes.StreamingResponse = HeardStream
    if not hasattr(GradioUploadFile.__init__, "__wrapped__"):
        GradioUploadFile.__init__ = _with_own_path(GradioUploadFile.__init__)
        GradioMultiPartParser.parse = _leaving_nothing(GradioMultiPartParser.parse)


def _with_own_path(init: Callable[..., None]) -> Callable[..., None]:
    """A path is made from the hash of what was uploaded: something random goes before it."""

    @functools.wraps(init)
    def salted(self: GradioUploadFile, *given: Any, **named: Any) -> None:
        init(self, *given, **named)
        self.sha.update(secrets.token_bytes(32))

    return salted


def _leaving_nothing(parse: Callable[..., Any]) -> Callable[..., Any]:
    """An upload that breaks off, in whatever way, leaves no file."""

    @functools.wraps(parse)
    async def whole(self: GradioMultiPartParser) -> Any:
        try:
            return await parse(self)
        except BaseException:
            for file in self._files_to_close_on_error:
                file.close()
                Path(file.name).unlink(missing_ok=True)
            raise

    return whole


def _get_function(blocks: gr.Blocks, api_name: str | None, body: PredictBody) -> BlockFunction:
    try:
        found = _gradio_get_function(blocks, api_name, body)
    except (FnIndexInferError, KeyError, TypeError):
        found = None
    if found is None or found.fn is None:  # what runs in the browser alone is not here either
        raise HTTPException(404, "There is no such function here.")
    if found.api_visibility == "private" and len(body.data) < len(found.inputs):
        raise HTTPException(422, f"This function takes {len(found.inputs)} inputs.")
    return found


def _name_arguments(*given: object, **named: object) -> list[object]:
    try:
        return client_utils.construct_args(*given, **named)
    except (TypeError, ValueError) as error:
        raise HTTPException(422, _whole(str(error))) from None


def _whole(words: str) -> str:
    """Words that can be sent: half a character is written as its number."""
    return words.encode("utf-8", "backslashreplace").decode()


def _fetch_nothing(*given: object, **named: object) -> NoReturn:
    raise gr.Error("Files are not fetched from addresses. Upload it.", print_exception=False)
