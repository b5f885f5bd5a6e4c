"""The client in TypeScript: compiled, tested in Node and Chromium, measured, and tried against real servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route

from tests.clients.toolchain import (
    COMPILED,
    CORE,
    FOLDER,
    STATIC,
    STATIC_TYPES,
    build,
    bundle,
    close_rows,
    expected_rows,
    install,
    plain_file,
    plain_types,
    run,
    sizes,
)
from tests.support.browser import chromium
from tests.support.processes import Server
from tests.support.report import note
from tests.support.waiting import eventually

KB = 1024


def test_compiles_strictly() -> None:
    """Runtime, tests and driver compile with every check that the compiler has."""
    build()


def test_compiles_without_a_platform() -> None:
    """The runtime needs the types of neither browsers nor Node."""
    install()
    run("node_modules/.bin/tsc", "--project", "tsconfig.bare.json")


def test_units_in_node() -> None:
    """The runtime's own tests pass in Node."""
    build()
    run("node", "--test", "--test-reporter=spec", *map(str, sorted(COMPILED.glob("*.test.js"))))


def test_size() -> None:
    """The runtime is below 11 KB, gzipped: recovery costs 1 KB, although fetching is a module of its own."""
    minified, zipped = sizes(CORE)
    note("Sizes of the client", f"{minified} bytes minified, {zipped} gzipped")
    assert zipped < 11 * KB


def test_static_file_is_up_to_date() -> None:
    """The files for projects without a bundler are what the sources give: python -m tests.clients.toolchain."""
    assert STATIC.read_text() == plain_file()
    assert STATIC_TYPES.read_text() == plain_types()


def test_close_table() -> None:
    """The close table of the client is ours, row for row."""
    assert close_rows() == expected_rows()


# In a browser.


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as instance:
        yield instance


@pytest.fixture(params=["daphne", "uvicorn"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(request.param, application="tests.apps.asgi:runtime", wsrt={"DRAIN_SECONDS": 3}) as process:
        yield process


SCRIPT = """
import { Client, statusStore } from "/client.js";
window.states = []; window.events = []; window.errors = [];
window.client = new Client("/chat/lobby/?user=ada", {onError: (error) => errors.push(String(error))});
client.onAny((event, data, {room}) => events.push([event, data, room]));
statusStore(client).subscribe(({state, reason}) => states.push([state, reason?.kind ?? null, reason?.code ?? null]));
await client.connect();
"""


def serve(page: Page, files: dict[str, tuple[str, str]]) -> None:
    """Give these files in place of the server's."""

    def fulfill(route: Route) -> None:
        kind, body = files[route.request.url.partition("//")[2].partition("/")[2]]
        route.fulfill(content_type=kind, body=body)

    for name in files:
        page.route(f"**/{name}", fulfill)


def enter(browser: Browser, server: Server) -> Page:
    page = browser.new_context().new_page()
    serve(page, {"client.js": ("text/javascript", STATIC.read_text())})
    # A page of the server itself: Chromium keeps pages of nowhere from the sockets of this machine.
    page.goto(f"http://127.0.0.1:{server.port}/stats/")
    page.add_script_tag(type="module", content=SCRIPT)
    wait_open(page)
    return page


def wait_open(page: Page) -> None:
    page.wait_for_function("window.client?.state === 'open' && client.rooms.get('lobby')?.joined")


@pytest.mark.browser
def test_units_in_chromium(browser: Browser) -> None:
    """The runtime's own tests pass in Chromium."""
    names = sorted(path for path in FOLDER.glob("*.test.ts") if path.name != "types.test.ts")
    entry = "".join(f"import {json.dumps(str(path))};" for path in names)
    shim = FOLDER / "browser.ts"
    entry += f"import {{ runAll }} from {json.dumps(str(shim))}; window.results = await runAll();"
    text = bundle(entry, f"--alias:node:test={shim}", f"--alias:node:assert/strict={shim}")
    page = browser.new_context().new_page()
    serve(page, {"page": ("text/html", f'<script type="module">{text}</script>')})
    page.goto("http://127.0.0.1/page")
    page.wait_for_function("window.results")
    results: dict[str, Any] = page.evaluate("results")
    assert results["failures"] == []
    assert results["count"] > 150


@pytest.mark.browser
def test_server_restarts_under_chromium(browser: Browser, server: Server) -> None:
    """A page comes back by itself after its server was killed, and after it was shut down, once each time."""
    page = enter(browser, server)
    assert page.evaluate("client.request('echo', {value: 'before'})") == {"value": "before"}
    for stop in (server.kill, server.stop):
        page.evaluate("void (window.pending = client.request('slow', {seconds: 30}).catch((error) => error.name))")
        stop()
        assert page.evaluate("pending") == "ConnectionError"
        assert page.evaluate("client.send('echo', {}, {queue: true})") == "queued"
        server.start()
        wait_open(page)
        assert page.evaluate("client.request('say', {room: 'lobby', text: 'back'})") is None
        eventually(lambda: server.stats()["connections"] == 1, "one connection, and no other")
    assert page.evaluate("events.filter(([name]) => name === 'said')") == [["said", {"text": "back"}, "lobby"]] * 2
    assert page.evaluate("errors") == []
    page.context.close()
    eventually(lambda: server.stats()["connections"] == 0, "the end of the connection")


@pytest.mark.browser
def test_refusals_in_chromium(browser: Browser, server: Server) -> None:
    """A page reads errors of requests by field, and the code and reason of a close for good."""
    page = enter(browser, server)
    refusal = page.evaluate(
        "client.request('say', {room: 'lobby', text: ''}).catch(({name, errors}) => [name, errors])"
    )
    assert refusal[0] == "RequestError"
    assert refusal[1][0]["loc"] == ["text"]
    page.evaluate("client.send('bye', {code: 4403, reason: 'Forbidden'})")
    page.wait_for_function("client.state === 'closed'")
    assert page.evaluate("client.status.reason") == {"kind": "server", "code": 4403, "text": "Forbidden"}
    page.context.close()


@pytest.mark.browser
def test_offline_in_chromium(browser: Browser, server: Server) -> None:
    """A page that goes offline says so, and is back when the network is."""
    page = enter(browser, server)
    page.context.set_offline(True)
    page.wait_for_function("states.some(([state, kind]) => kind === 'offline')")
    page.context.set_offline(False)
    wait_open(page)
    eventually(lambda: server.stats()["connections"] == 1, "one connection, and no other")
    page.context.close()


@pytest.mark.browser
def test_page_that_is_left(browser: Browser, server: Server) -> None:
    """A page that is left closes its connection without a code, so that its next page comes within the grace."""
    page = enter(browser, server)
    page.evaluate("window.dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))")
    assert page.evaluate("[client.state, client.status.reason.kind]") == ["waiting", "page"]
    eventually(lambda: server.stats()["hooks"][-1][0] == "on_disconnect", "the end of the connection")
    assert server.stats()["hooks"][-1][1][0] in {1005, 1006}
    page.evaluate("window.dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    wait_open(page)
    page.context.close()
