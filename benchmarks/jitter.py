"""
Plot the reconnection times of 10,000 clients that were disconnected for a long time.

    python -m benchmarks.jitter

Writes docs/assets/jitter.svg. It shows the delays of both clients before their twelfth attempt, where backoff has
exceeded the cap, next to the delays of libraries that apply jitter before the cap. Random numbers are seeded, so the
same code produces the same picture. The TypeScript client must have been built, which its tests do.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from wsrt.clients.runtime.python.backoff import Backoff, Ending
from wsrt.clients.runtime.python.options import Timings
from wsrt.clients.runtime.python.reconnect import Reconnect
from wsrt.clients.runtime.python.state import Reason

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs/assets/jitter.svg"
TYPESCRIPT = ROOT / "tests/clients/typescript/build/wsrt/clients/runtime/typescript/backoff.js"

CLIENTS = 10_000
ATTEMPTS = 12
BUCKETS = 20
SEED = 5

NODE = """
const [path, clients, attempts, seed, timings] = JSON.parse(process.argv[1]);
const { Backoff } = await import(path);
let state = seed;
function random() {
  state = (state + 0x6d2b79f5) | 0;
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
}
const delays = [];
for (let client = 0; client < clients; client += 1) {
  const backoff = new Backoff(timings, random);
  let delay = 0;
  for (let attempt = 0; attempt < attempts; attempt += 1) delay = backoff.next("backoff");
  delays.push(delay / 1000);
}
console.log(JSON.stringify(delays));
"""


def python() -> list[float]:
    """Return the delays of Python clients, in seconds."""
    choose = random.Random(SEED).random
    delays = []
    for _ in range(CLIENTS):
        backoff = Backoff(Timings(), choose)
        for _ in range(ATTEMPTS):
            delay = backoff.after(Ending(Reason("network")), Reconnect.BACKOFF)
        delays.append(delay)
    return delays


def typescript() -> list[float]:
    """Return the delays of TypeScript clients, in seconds."""
    timings = Timings()
    milliseconds = {
        "minMs": timings.minimum * 1000,
        "baseMs": timings.base * 1000,
        "capMs": timings.cap * 1000,
        "spreadMs": timings.spread * 1000,
        "laterMs": timings.later * 1000,
        "jumpMs": timings.jump * 1000,
    }
    argument = json.dumps([TYPESCRIPT.as_uri(), CLIENTS, ATTEMPTS, SEED, milliseconds])
    command = ["node", "--input-type=module", "-e", NODE, argument]
    return list(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def before_the_cap() -> list[float]:
    """Return the delays of clients that apply jitter before the cap, in seconds."""
    choose = random.Random(SEED).random
    timings = Timings()
    return [min(timings.cap, timings.base * 2 ** (ATTEMPTS - 1) * (0.5 + choose())) for _ in range(CLIENTS)]


DELAYS_OF: dict[str, Callable[[], list[float]]] = {
    "python": python,
    "typescript": typescript,
    "jitter before the cap": before_the_cap,
}


def at_the_cap(client: str) -> list[float]:
    """Return the delays of 10,000 clients of a kind at their twelfth attempt, in seconds."""
    return DELAYS_OF[client]()


def spread(delays: list[float]) -> list[int]:
    """Return the number of clients that reconnect in each of 20 equal parts of the window."""
    timings = Timings()
    counts = [0] * BUCKETS
    for delay in delays:
        counts[max(0, min(BUCKETS - 1, int((delay - timings.minimum) / timings.cap * BUCKETS)))] += 1
    return counts


def plot() -> None:
    """Draw the picture for the documentation."""
    import matplotlib as mpl

    mpl.use("svg")
    # Make the output reproducible.
    mpl.rcParams["svg.hashsalt"] = "wsrt"
    # A grey that is readable on light and on dark pages.
    for part in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"):
        mpl.rcParams[part] = "#7a7a7a"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    lines = (("jitter before the cap", "Jitter before the cap", ":"), ("python", "Python", "-"))
    for name, label, style in (*lines, ("typescript", "TypeScript", "--")):
        edges = [0.2 + number for number in range(BUCKETS + 1)]
        axes.stairs(spread(at_the_cap(name)), edges, label=label, linestyle=style, linewidth=1.8)
    axes.set_yscale("log")
    axes.set_ylim(10, 20_000)
    axes.set_xlabel("seconds until the twelfth attempt")
    axes.set_ylabel("clients a second")
    axes.set_title("10,000 clients that have been away for long", fontsize=11)
    axes.legend(frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None}, transparent=True)


if __name__ == "__main__":
    if not TYPESCRIPT.exists():
        sys.exit("build the TypeScript client first: python -m pytest tests/clients")
    plot()
    print(f"wrote {PICTURE.relative_to(ROOT)}")
