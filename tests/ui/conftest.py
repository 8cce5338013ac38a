"""The browser of the page's tests, and a server with a toy model of bytes."""

from __future__ import annotations

import pytest

from tests.browser import FLAGS, MISSING, find_chromium


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    """For pytest-playwright, which starts the browser, closes what tests open, and records traces
    with `pytest --tracing retain-on-failure`."""
    path = find_chromium()
    if path is None:
        pytest.skip(f"{MISSING} Or run: python tests/browser.py")
    return browser_type_launch_args | {"executable_path": path, "args": FLAGS}


@pytest.fixture(scope="module")
def toy_server(tmp_path_factory):
    """The app with a toy model of bytes, whose steps have a known pace."""
    from service import plan
    from service.pace import Pace
    from tests.support.app_server import serve
    from tests.support.toy_runs import LIMITS, make_base

    folder = make_base(tmp_path_factory.mktemp("models") / "toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "find_pace", lambda *given: Pace(0.01, 0.001, 0.004))
        with serve(str(folder), patch, limits=LIMITS) as running:
            yield running
