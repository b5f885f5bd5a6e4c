"""
Draw the figure of the storm from its kept results, as benchmarks.storm does after a run.

    python -m benchmarks.storm_figure
"""

from __future__ import annotations

import html
import json
import math
from pathlib import Path
from typing import Any

from benchmarks.figure import ADAPTIVE, ASSETS, TEXT

RESULTS = Path(__file__).parent / "results/storm.json"
FIGURE = ASSETS / "storm.svg"

WIDTH = 480
LEFT = 148
"""Where the bars begin. Their labels are on the left."""

BAR = WIDTH - LEFT - 70
"""The length of a bar of 100 %."""

TOP, BOTTOM = 186, 322
"""Where the distribution of the replays begins and ends."""

TICKS = {0.001: "≤ 1 ms", 0.01: "10 ms", 0.1: "0.1 s", 1.0: "1 s", 10.0: "10 s"}
"""The marks of the logarithmic scale of seconds, with their labels."""

STYLE = """\
    .fig .curve { fill: none; stroke: var(--accent); stroke-width: 2.5; stroke-linejoin: round }
    .fig .area { fill: var(--wash) }
    .fig .grid { stroke: var(--line); stroke-width: 0.6; stroke-opacity: 0.5 }
    .fig .other { fill: none; stroke: var(--line); stroke-width: 1.5; stroke-dasharray: 4 3 }
    .fig .dot { fill: var(--accent) }
"""


def draw(found: dict[str, Any]) -> str:
    """Return the figure as SVG."""
    title = "Share of delivered messages, and how soon a client that returns has what it missed"
    parts = [*_delivered(found), *_replays(found)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="fig" viewBox="0 0 {WIDTH} {BOTTOM + 66}" role="img" '
        f'aria-labelledby="storm-title">\n  <title id="storm-title">{title}</title>\n'
        f"  <style>{ADAPTIVE}{TEXT}{STYLE}  </style>\n" + "".join(f"  {part}\n" for part in parts) + "</svg>\n"
    )


def _delivered(found: dict[str, Any]) -> list[str]:
    beside = found["python_socketio"]
    rows = [("wsrt", found["delivered"] / found["expected"], "accent")]
    if beside is not None:
        rows.append(("python-socketio", beside["delivered"] / beside["expected"], "line"))
    published = found["published_by_others_on_other_machines"]["socket_io_delivered"]
    rows.append(("Socket.IO, published", published, "other"))
    parts = [_text(0, 18, "Delivered messages", "head")]
    for number, (label, share, kind) in enumerate(rows):
        y = 30 + 28 * number
        style = 'class="other"' if kind == "other" else f'fill="var(--{kind})"'
        length = round(BAR * share, 1)
        parts += [
            _text(LEFT - 10, y + 15, label, "small", "end"),
            f'<rect x="{LEFT}" y="{y}" width="{length}" height="20" rx="2" {style}/>',
            # A share that isn't whole is never rounded up to it.
            _text(
                LEFT + length + 8, y + 15, f"{100 * share if share == 1 else min(100 * share, 99.99):.2f} %", "small"
            ),
        ]
    return parts


def _replays(found: dict[str, Any]) -> list[str]:
    curve = [(seconds, number / 100) for number, seconds in enumerate(found["replay_percentiles"], 1)]
    parts = [_text(0, TOP - 36, "Time until a client that returns has what it missed", "head")]
    for share in (0, 0.5, 1):
        y = _y(share)
        parts += [
            f'<line x1="{_x(0.001)}" y1="{y}" x2="{WIDTH - 14}" y2="{y}" class="grid"/>',
            _text(_x(0.001) - 8, y + 4, f"{share:.0%}".replace("%", " %"), "small", "end"),
        ]
    parts += [_text(_x(seconds), BOTTOM + 20, label, "small", "middle") for seconds, label in TICKS.items()]
    points = " ".join(f"{_x(seconds)},{_y(share)}" for seconds, share in curve)
    first, last = _x(curve[0][0]), _x(curve[-1][0])
    parts += [
        f'<polygon points="{first},{_y(0)} {points} {last},{_y(0)}" class="area"/>',
        f'<polyline points="{first},{_y(0)} {points}" class="curve"/>',
    ]
    half, most = (found["replay_seconds"][name] for name in ("p50", "p99"))
    parts += [
        f'<circle cx="{_x(half)}" cy="{_y(0.5)}" r="4" class="dot"/>',
        _text(_x(half) + 8, _y(0.5) + 16, f"p50 {_duration(half)}", "small"),
        f'<circle cx="{_x(most)}" cy="{_y(0.99)}" r="4" class="dot"/>',
        # Above the curve, where it meets nothing, however long it takes.
        _text(_x(most), TOP - 9, f"p99 {_duration(most)}", "small", "middle"),
    ]
    published = found["published_by_others_on_other_machines"]["socket_io_recovery_p99_seconds"]
    x = _x(published)
    size = f"{found['clients']:,} clients, {found['messages']} messages, {found['resets']:,} reset sockets"
    parts += [
        f'<line x1="{x}" y1="{_y(0)}" x2="{x}" y2="{_y(0.99)}" class="other"/>',
        _text(x - 7, _y(0.24), "Socket.IO's recovery,", "small", "end"),
        _text(x - 7, _y(0.1), f"published: p99 {_duration(published)}", "small", "end"),
        _text(0, BOTTOM + 44, f"{size}, one of two processes", "small"),
        _text(0, BOTTOM + 60, "killed. Dashed: published by others, with 10,000 clients on other machines.", "small"),
    ]
    return parts


def _x(seconds: float) -> float:
    low, high = math.log10(min(TICKS)), math.log10(max(TICKS))
    return round(
        46 + (WIDTH - 46 - 14) * (math.log10(min(max(seconds, min(TICKS)), max(TICKS))) - low) / (high - low), 1
    )


def _y(share: float) -> float:
    return round(BOTTOM - (BOTTOM - TOP) * share, 1)


def _duration(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _text(x: float, y: float, text: str, style: str, anchor: str = "start") -> str:
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x}" y="{y}" class="{style}"{where}>{html.escape(text)}</text>'


if __name__ == "__main__":
    FIGURE.write_text(draw(json.loads(RESULTS.read_text())))
