"""
Draw the figures from the kept results: deliveries per second, next to plain Channels.

    python -m benchmarks.figure

That of the documentation adapts to light and dark pages. The README has one for each, with a background of its own: the
pages that show a README may be light where the reader's system is dark.
"""

from __future__ import annotations

import html
import json
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ASSETS = ROOT / "docs/assets"
FIGURE = ASSETS / "fanout.svg"
RESULTS = ("fanout-uvicorn-200", "fanout-uvicorn-900", "fanout-daphne-200")
BARS = {"fast": "wsrt", "bare": "the server alone", "plain": "plain Channels"}
"""The applications that are shown, with their labels. "The server alone" is a loop over send(), without Redis."""

WIDTH = 480
LEFT = 114
"""Where the bars begin."""

SCALE = 9.5e-4
"""Pixels per delivery a second."""

PALETTES = {
    "light": "--ink: #1f2933; --muted: #52606d; --line: #8794a1; --paper: #ffffff; --accent: #00796b; --wash: #e0f2f1",
    "dark": "--ink: #e4e7eb; --muted: #b3bdc7; --line: #7b8794; --paper: #1e2129; --accent: #4db6ac; --wash: #17403c",
}
"""The palettes of every figure of the documentation. The site sets the same variables for its two palettes."""

ADAPTIVE = f"""
    .fig {{ {PALETTES["light"]} }}
    @media (prefers-color-scheme: dark) {{
      .fig {{ {PALETTES["dark"]} }}
    }}
"""

TEXT = """\
    .fig text { fill: var(--ink); font: 14px system-ui, sans-serif }
    .fig .small { fill: var(--muted); font-size: 12.5px }
    .fig .head { font-weight: 600 }
"""


def draw() -> str:
    """Return the figure of the documentation as SVG."""
    parts: list[str] = []
    top = 8
    for name in RESULTS:
        parts += _group(_result(name), top)
        top += 36 + 26 * len(BARS)
    return _svg(f"0 0 {WIDTH} {top}", ADAPTIVE, parts)


def draw_for_readme(palette: str) -> str:
    """Return the figure of the README as SVG: the first of the results."""
    width, height, edge = WIDTH, 24 + 26 * len(BARS), 16
    box = f"{-edge} {-edge} {width + 2 * edge} {height + 2 * edge}"
    background = f'<rect x="{-edge}" y="{-edge}" width="100%" height="100%" rx="8" fill="var(--paper)"/>'
    style = f"\n    .fig {{ {PALETTES[palette]} }}\n"
    return _svg(box, style, [background, *_group(_result(RESULTS[0]), 0)])


def readme_figure(palette: str) -> Path:
    """Return the path of the README's figure."""
    return ASSETS / f"fanout-{palette}.svg"


def _result(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((Path(__file__).parent / f"results/{name}.json").read_text())
    return result


def _svg(box: str, style: str, parts: list[str]) -> str:
    title = '<title id="fanout-title">Deliveries per second: wsrt, the server alone, and plain Channels</title>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="fig" viewBox="{box}" role="img" '
        f'aria-labelledby="fanout-title">\n  {title}\n  <style>{style}{TEXT}  </style>\n'
        + "".join(f"  {part}\n" for part in parts)
        + "</svg>\n"
    )


def _group(result: dict[str, Any], top: int) -> list[str]:
    rates = {key: statistics.median(values) for key, values in result["deliveries_per_second"].items()}
    server = {"daphne": "Daphne"}.get(result["server"], result["server"])
    times = rates["fast"] / rates["plain"]
    parts = [
        _text(0, top + 14, f"{result['subscribers']} subscribers on {server}", "head"),
        _text(WIDTH, top + 14, f"{times:.0f} times plain Channels", "small", end=True),
    ]
    for number, (key, label) in enumerate(BARS.items()):
        y = top + 24 + 26 * number
        width = round(rates[key] * SCALE)
        fill = "var(--accent)" if key == "fast" else "var(--line)"
        parts += [
            _text(LEFT - 10, y + 15, label, "small", end=True),
            f'<rect x="{LEFT}" y="{y}" width="{width}" height="20" rx="2" fill="{fill}"/>',
            _text(LEFT + width + 8, y + 15, f"{round(rates[key], -2):,.0f}/s", "small"),
        ]
    return parts


def _text(x: int, y: int, text: str, style: str, *, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return f'<text x="{x}" y="{y}" class="{style}"{anchor}>{html.escape(text)}</text>'


if __name__ == "__main__":
    FIGURE.write_text(draw())
    for palette in PALETTES:
        readme_figure(palette).write_text(draw_for_readme(palette))
