"""
Make the pictures of the README from the running demo: two people in a room, and the admin. Usage: pictures.py [FOLDER]

It writes demo-light.webp and demo-dark.webp to a folder, by default docs/assets. It needs what make test installs, and
Debian's package fonts-inter for text that looks as on most desktops.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import socket
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "docs/assets"

SCALE = 1.5
"""Pixels of a picture per pixel of the page, so that text is crisp on dense screens."""

QUALITY = 88

LIMIT = 300_000
"""The largest accepted picture, in bytes."""

ARGS = ["--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-background-networking"]

FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <include>/etc/fonts/fonts.conf</include>
  <match target="pattern">
    <test name="family" qual="any" compare="contains"><string>sans</string></test>
    <edit name="family" mode="prepend" binding="strong"><string>Inter</string></edit>
  </match>
  <match target="pattern">
    <test name="family" qual="any"><string>system-ui</string></test>
    <edit name="family" mode="prepend" binding="strong"><string>Inter</string></edit>
  </match>
</fontconfig>
"""

TALK = [
    ("Ada", "The new release is on both servers."),
    ("Bo", "My tab reconnected by itself. Nothing is lost!"),
]

ADA, BO, ADMIN = (900, 556), (460, 556), (1100, 420)
"""Width and height of the pages. Bo's is narrow, without the wire."""

Scheme = Literal["light", "dark"]

COLORS: dict[Scheme, dict[str, str]] = {
    "light": {
        "page": "linear-gradient(160deg, #e3efed, #c6dedb)",
        "bar": "#e9eded",
        "text": "#4c5a65",
        "edge": "#0002",
    },
    "dark": {"page": "linear-gradient(160deg, #16211f, #1f3935)", "bar": "#2a3134", "text": "#b4c0c8", "edge": "#fff3"},
}

STYLE = """
html { height: 100%; background: $page }
body { margin: 0; zoom: $scale; font: 13px Inter, system-ui, sans-serif }
figure { position: absolute; margin: 0; border-radius: 10px; overflow: hidden }
figure { box-shadow: 0 0 0 1px $edge, 0 14px 36px #0005 }
figcaption { height: 30px; line-height: 30px; text-align: center; background: $bar; color: $text }
figcaption i { float: left; width: 11px; height: 11px; border-radius: 50%; margin: 9px 0 0 9px }
i:nth-child(1) { background: #ec6a5e } i:nth-child(2) { background: #f4bf4f } i:nth-child(3) { background: #61c554 }
img { display: block; width: 100% }
"""

SIZE = (1200, 860)
PLACES = [(32, 32, 736), (792, 32, 376), (160, 538, 880)]
"""Left, top and width of each window in the picture."""


def main(arguments: list[str]) -> int:
    chromium = shutil.which("chromium")
    if chromium is None:
        print("chromium is missing: apt-get install chromium", file=sys.stderr)
        return 1
    folder = Path(arguments[0]) if arguments else ASSETS
    with demo() as urls, fonts() as environment, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGS, env=environment)
        windows = stage(browser, urls)
        for scheme in COLORS:
            shots = [(title, shoot(page, scheme)) for title, page in windows]
            picture = compose(browser, shots, scheme)
            path = folder / f"demo-{scheme}.webp"
            path.write_bytes(picture)
            print(f"{path}: {len(picture):,} bytes")
            if len(picture) > LIMIT:
                print(f"A picture may have {LIMIT:,} bytes: lower SCALE or QUALITY.", file=sys.stderr)
                return 1
        browser.close()
    return 0


@contextlib.contextmanager
def demo() -> Iterator[tuple[str, str]]:
    """Run the demo as two servers with a database of its own, and yield their addresses."""
    port = _free_ports()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "DEMO_DB": f"{folder}/demo.sqlite3"}
        command = [sys.executable, str(ROOT / "scripts/demo.py"), "--redis", "--port", str(port)]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _wait_for([port, port + 1], process)
            yield f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def fonts() -> Iterator[dict[str, str | float | bool]]:
    """Yield the environment of a browser whose default font is Inter, where that is installed."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(FONTS)
        file.flush()
        yield {**os.environ, "FONTCONFIG_FILE": file.name}


def _free_ports() -> int:
    """Return the first of two free ports: the demo's own, if they are free."""
    for port in range(8000, 9000, 2):
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", port))
            two.bind(("127.0.0.1", port + 1))
            return port
    raise RuntimeError("no two ports are free")


def _wait_for(ports: list[int], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            for port in ports:
                socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.1)
    raise RuntimeError("the demo did not start")


def stage(browser: Browser, urls: tuple[str, str]) -> list[tuple[str, Page]]:
    """Let two people talk over two servers, and an operator watch. Return the windows with their titles."""
    ada, bo = window(browser, *ADA), window(browser, *BO)
    ada.goto(urls[0])
    ada.get_by_role("button", name="Ada").click()
    bo.goto(urls[1])
    bo.get_by_label("Or come as a guest").fill("Bo")
    bo.get_by_role("button", name="Enter").click()
    people = {"Ada": ada, "Bo": bo}
    for page in people.values():
        expect(page.locator("#state")).to_have_text("Live")
        expect(page.get_by_role("list", name="Who is here").get_by_role("listitem")).to_have_count(2)
    for name, text in TALK:
        people[name].get_by_label("Message to Lobby").fill(text)
        people[name].get_by_role("button", name="Send", exact=True).click()
        for page in people.values():
            expect(page.locator(".message .text", has_text=text)).to_be_visible()
    ada.get_by_role("button", name="Send something invalid").click()
    expect(ada.get_by_role("list", name="Frames")).to_contain_text("wsrt.error")
    ada.mouse.move(0, 0)  # no button is shown as hovered
    admin = ada.context.new_page()
    admin.set_viewport_size({"width": ADMIN[0], "height": ADMIN[1]})
    admin.add_init_script("localStorage.setItem('django.admin.navSidebarIsOpen', 'false')")
    admin.goto(f"{urls[0]}/admin/wsrt/realtime/")
    expect(admin.locator("#wsrt-live")).to_have_text("Live")
    return [(_host(urls[0]), ada), (_host(urls[1]), bo), (f"{_host(urls[0])}/admin", admin)]


def _host(url: str) -> str:
    return url.removeprefix("http://")


def window(browser: Browser, width: int, height: int) -> Page:
    context = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=2)
    return context.new_page()


def shoot(page: Page, scheme: Scheme) -> bytes:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.wait_for_timeout(1000)  # colours change gradually
    return page.screenshot()


def compose(browser: Browser, shots: list[tuple[str, bytes]], scheme: Scheme) -> bytes:
    """Return a picture of the windows, in WebP."""
    windows = "".join(
        f'<figure style="left: {left}px; top: {top}px; width: {width}px"><figcaption><i></i><i></i><i></i>{title}'
        f'</figcaption><img src="data:image/png;base64,{base64.b64encode(shot).decode()}"></figure>'
        for (title, shot), (left, top, width) in zip(shots, PLACES, strict=True)
    )
    page = browser.new_page(viewport={"width": round(SIZE[0] * SCALE), "height": round(SIZE[1] * SCALE)})
    style = string.Template(STYLE).substitute(COLORS[scheme], scale=SCALE)
    page.set_content(f"<!doctype html><style>{style}</style>{windows}")
    session = page.context.new_cdp_session(page)
    answer = session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    page.close()
    return base64.b64decode(answer["data"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
