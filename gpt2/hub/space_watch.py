"""A Space from the upload to its page: its build followed, its log shown, its end told."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from gpt2.errors import UserError
from gpt2.hub.space import Deployment
from gpt2.hub.space_errors import explain_stage, stage_words, translate_space_errors

POLL_SECONDS = 2.0
_BUSY = ("BUILDING", "RUNNING_BUILDING", "APP_STARTING", "RUNNING_APP_STARTING")
NEWS_SECONDS = 60.0  # by then the Hub has begun to build what was uploaded
_TAIL_LINES = 20
_LOG_OF = {"BUILD_ERROR": True, "RUNTIME_ERROR": False}  # whether its reason is in the build's log


def wait_until_running(
    api, deployment: Deployment, seconds: float, tell: Callable[[str], None]
) -> str:
    """Follow the build until the page answers; returns the page's own address.

    `api` is the Hub's client, with the deployer's token. `UserError` says why the Space does not
    run, with the end of its log told before, or that it takes longer than `seconds`.
    """
    with translate_space_errors(deployment.repo_id):
        return _Watch(api, deployment, time.monotonic() + seconds, tell).wait()


class _Watch:
    def __init__(self, api, deployment: Deployment, deadline: float, tell) -> None:
        self.api, self.deployment, self.tell = api, deployment, tell
        self.begun, self.deadline = time.monotonic(), deadline
        self.stage = ""
        self.log: threading.Thread | None = None

    def wait(self) -> str:
        runtime = self._settled()
        if runtime.stage != "RUNNING":
            self._tell_end_of_log(runtime.stage)
            message = str(runtime.raw.get("errorMessage") or "")
            page = self.deployment.page
            raise UserError(explain_stage(self.deployment.repo_id, runtime.stage, message, page))
        return self._answering()

    def _settled(self):
        """The runtime once it neither builds nor starts; what ran before does not count."""
        while True:
            runtime = self.api.get_space_runtime(self.deployment.repo_id)
            if runtime.stage != self.stage:
                self.stage = runtime.stage
                self.tell(stage_words(runtime.stage))
            if runtime.stage in _BUSY:
                self._follow_build()
            elif not self._is_of_before(runtime):
                return runtime
            self._pause()

    def _is_of_before(self, runtime) -> bool:
        """Right after an upload the Hub still tells how the last version fared."""
        commit, running = self.deployment.commit, runtime.raw.get("sha")
        new = commit is None or running == commit or self.log is not None
        return not new and time.monotonic() < self.begun + NEWS_SECONDS

    def _follow_build(self) -> None:
        if self.log is not None:
            return

        def follow() -> None:
            lines = self.api.fetch_space_logs(self.deployment.repo_id, build=True, follow=True)
            with suppress(Exception):  # a log is a courtesy; what counts is the stage
                for line in lines:
                    self.tell(_plain(line))

        self.log = threading.Thread(target=follow, name="build log", daemon=True)
        self.log.start()

    def _tell_end_of_log(self, stage: str) -> None:
        if (build := _LOG_OF.get(stage)) is None:
            return
        lines: deque[str] = deque(maxlen=_TAIL_LINES)
        with suppress(Exception):
            lines.extend(self.api.fetch_space_logs(self.deployment.repo_id, build=build))
        self.tell(f"the end of its {'build' if build else 'run'} log:")
        for line in lines:
            self.tell("  " + _plain(line))

    def _answering(self) -> str:
        """The address of the page, once `GET /health` there says that all is well."""
        from huggingface_hub.utils import build_hf_headers, get_session

        about = self.api.space_info(self.deployment.repo_id)
        host = (about.host or self.deployment.page).rstrip("/")
        # A private Space lets nobody in but its owner; a public one is not told who asks.
        headers = build_hf_headers(token=self.api.token) if about.private else {}
        while True:
            with suppress(Exception):
                answer = get_session().get(f"{host}/health", headers=headers, timeout=10)
                if answer.status_code == 200 and answer.json().get("status") == "ok":
                    return host
            self._pause()

    def _pause(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise UserError(
                f"{self.deployment.repo_id} does not answer yet: it is {stage_words(self.stage)}. "
                "It goes on without this command: run it again to follow, with a longer --wait, "
                f"or look at {self.deployment.page}."
            )
        time.sleep(min(POLL_SECONDS, left))


def _plain(line: str) -> str:
    """Without what a terminal would take for a command."""
    return "".join(c for c in line.rstrip() if c.isprintable() or c == "\t")
