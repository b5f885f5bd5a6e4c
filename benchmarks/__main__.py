"""
Compare fan-out: deliveries per second to many subscribers of one server, for wsrt, a bare server and plain Channels.

    python -m benchmarks [--server uvicorn] [--subscribers 200] [--rounds 5] [--check]

The server runs on one core, the load generator and Redis on the other. Rounds alternate between the applications; the
ratio of their medians is kept. --check compares the processor time that a delivery took in the best round of each,
because it also has to hold while other programs run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.load import Load
from benchmarks.processes import redis, server
from tests.support.ports import free_port

RESULTS = Path(__file__).parent / "results"

FLOORS: dict[tuple[str, str, str], float] = {
    ("uvicorn", "fast", "bare"): 1.0,
    ("uvicorn", "ordinary", "bare"): 0.8,
    ("uvicorn", "ordinary", "plain"): 8.0,
    ("daphne", "fast", "bare"): 1.4,
    ("daphne", "ordinary", "bare"): 0.65,
}
"""The lowest accepted ratio of deliveries with 200 subscribers, by server, application, and baseline."""

PAYLOAD = 200
"""The size of a delivered frame, in bytes."""

NAMES = {
    "bare": "bare ASGI loop, no Redis",
    "fast": "wsrt, fast path",
    "ordinary": "wsrt, ordinary sends",
    "plain": "AsyncJsonWebsocketConsumer",
}


def frame_for(application: str) -> str:
    """Return the frame that a client sends to deliver about PAYLOAD bytes to every subscriber."""
    if application == "bare":
        return "x" * PAYLOAD
    if application in ("fast", "ordinary"):
        around = len('{"event":"said","data":{"text":""},"room":"all"}')
        return json.dumps({"event": "say", "data": {"text": "x" * (PAYLOAD - around)}})
    return json.dumps({"text": "x" * (PAYLOAD - len('{"text": ""}'))})


@contextlib.contextmanager
def running(application: str, kind: str, redis_url: str, subscribers: int) -> Iterator[tuple[Load, psutil.Process]]:
    port = free_port()
    with server(kind, f"applications:{application}", port, redis_url) as process:
        load = Load(port, "/", subscribers, frame_for(application))
        try:
            yield load, psutil.Process(process.pid)
        finally:
            load.close()


def measure(options: argparse.Namespace, console: Console) -> dict[str, dict[str, list[float]]]:
    """Return each application's deliveries per second and CPU microseconds per delivery, for every round."""
    figures: dict[str, dict[str, list[float]]] = {name: {"rate": [], "cpu": []} for name in NAMES}
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(redis())
        loads = {name: stack.enter_context(running(name, options.server, url, options.subscribers)) for name in NAMES}
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        for load, _ in loads.values():
            load.run(0.5, options.in_flight)  # warm up
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("Fan-out", total=options.rounds * len(NAMES))
            for _ in range(options.rounds):
                for name, (load, process) in loads.items():
                    before = process.cpu_times()
                    rate = load.run(options.seconds, options.in_flight)
                    after = process.cpu_times()
                    used = after.user + after.system - before.user - before.system
                    figures[name]["rate"].append(rate)
                    figures[name]["cpu"].append(used / (rate * options.seconds) * 1e6)
                    progress.advance(task)
    return figures


def best_ratio(figures: dict[str, dict[str, list[float]]], ours: str, beside: str) -> float:
    """
    Return the deliveries for a second of processor time in the best round, as a multiple of the baseline's usual ones.

    Other programs take time from a round, and some processor time too, as they share the caches. So the best round
    counts, and one lucky round of the baseline doesn't.
    """
    return statistics.median(figures[beside]["cpu"]) / min(figures[ours]["cpu"])


def show(figures: dict[str, dict[str, list[float]]], options: argparse.Namespace, console: Console) -> dict[str, float]:
    """Print the figures, and return the ratio of each application's median to that of the bare server."""
    table = Table(title=f"{options.subscribers} subscribers, {options.server}, {options.in_flight} in flight")
    table.add_column("application", no_wrap=True)
    for column in ("deliveries/s", "lowest", "highest", "CPU, us", "of bare"):
        table.add_column(column, justify="right", no_wrap=True)
    medians = {name: statistics.median(figure["rate"]) for name, figure in figures.items()}
    for name, figure in figures.items():
        rates = figure["rate"]
        table.add_row(
            NAMES[name],
            f"{medians[name]:,.0f}",
            f"{min(rates):,.0f}",
            f"{max(rates):,.0f}",
            f"{statistics.median(figure['cpu']):.1f}",
            f"{medians[name] / medians['bare']:.2f}",
        )
    console.print(table)
    return {name: median / medians["bare"] for name, median in medians.items()}


def keep(figures: dict[str, dict[str, list[float]]], ratios: dict[str, float], options: argparse.Namespace) -> None:
    """Write the figures and the plot to benchmarks/results."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    RESULTS.mkdir(exist_ok=True)
    name = f"fanout-{options.server}-{options.subscribers}"
    facts = {
        "server": options.server,
        "subscribers": options.subscribers,
        "in_flight": options.in_flight,
        "payload": PAYLOAD,
        "python": platform.python_version(),
        "of_bare": {key: round(value, 3) for key, value in ratios.items()},
        "deliveries_per_second": {key: [round(rate) for rate in figure["rate"]] for key, figure in figures.items()},
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(facts, indent=2) + "\n")
    figure, axes = pyplot.subplots(figsize=(8, 3.2), layout="constrained")
    keys = list(reversed(figures))
    axes.boxplot(
        [figures[key]["rate"] for key in keys],
        orientation="horizontal",
        tick_labels=[NAMES[key] for key in keys],
        widths=0.6,
    )
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k")
    axes.set_xlabel("deliveries a second")
    axes.set_title(
        f"{options.subscribers} subscribers on {options.server}: {ratios['fast']:.2f} of the bare server, "
        f"{ratios['fast'] / ratios['plain']:.0f} times plain Channels",
        fontsize=10,
    )
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(RESULTS / f"{name}.svg", metadata={"Date": None})


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[1])
    parser.add_argument("--server", choices=["uvicorn", "daphne"], default="uvicorn")
    parser.add_argument("--subscribers", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a round")
    parser.add_argument("--in-flight", type=int, default=8, help="number of publications in flight")
    parser.add_argument("--check", action="store_true", help="fail if a ratio is below its floor, and write nothing")
    parser.add_argument("--slack", type=float, default=1.0, help="with --check, a factor for the floors")
    options = parser.parse_args()
    console = Console()
    figures = measure(options, console)
    ratios = show(figures, options, console)
    if not options.check:
        keep(figures, ratios, options)
        console.print(f"Written to {RESULTS.name}/")
        return 0
    missed = []
    for (server_name, ours, beside), floor in FLOORS.items():
        if server_name == options.server and (ratio := best_ratio(figures, ours, beside)) < floor * options.slack:
            missed.append(f"{NAMES[ours]}: {ratio:.2f} times {NAMES[beside]}, at least {floor * options.slack:g}")
    for line in missed:
        console.print(f"[red]too slow:[/] {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
