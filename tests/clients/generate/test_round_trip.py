"""Generated clients against a real server: what they send arrives as it is typed, and comes back so."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.toolchain import install, node_command, run
from tests.support.processes import ROOT, Server
from tests.support.waiting import aeventually

from .compiler import PROGRAMS, errors

APPLICATION = "tests.clients.generate.asgi:application"

GENERATE = """
import sys
from pathlib import Path
from django.test import override_settings
import tests.clients.generate.asgi as asgi
from wsrt.schema.description import describe
from wsrt.clients.generate import python, typescript
from wsrt.clients.generate.files import write
with override_settings(ASGI_APPLICATION="tests.clients.generate.asgi.application"):
    description = describe([asgi.RoomConsumer, asgi.CafeConsumer, asgi.OddConsumer])
write(Path(sys.argv[1]), {"typescript": typescript, "python": python}[sys.argv[2]].generate(description))
"""

EVERYTHING: dict[str, Any] = {
    "text": "\u2028 é 😀 </script>",
    "number": -(2**53) + 1,
    "ratio": 0.1,
    "flag": True,
    "nothing": None,
    "anything": {"__proto__": [None, {"deep": 1}]},
    "raw": "-_8=",
    "when": "2026-01-31T12:30:00.123456Z",
    "day": "2026-01-31",
    "clock": "12:30:00",
    "took": "P1DT1H0.5S",
    "price": "12.500000000000000000000000000001",
    "key": "7a6b1a1e-4f0c-4ad5-9f42-0f4a3c2b1d10",
    "colour": "blue",
    "level": 2,
    "word": 3,
    "maybe": None,
    "left_out": "not",
    "made": [1],
    "either": "1",
    "pet": {"kind": "cat", "lives": 7},
    "names": [],
    "unique": [1],
    "pair": [1, "a"],
    "many": [1, 2, 3],
    "mapping": {"a": 0.5, "": 1.5},
    "by_number": {"1": "a"},
    "tree": {"value": 1, "children": [{"value": 2, "children": []}]},
    "box": {"item": 1, "count": 2},
    "boxes": [{"item": "a", "count": 1}],
    "re-named": 1,
    "bounded": 10,
    "link": "https://example.com/",
}
"""As the server says it: equal texts come back equal."""

LEFT_OUT = {"left_out", "made"}
"""Those with defaults."""

ODD: dict[str, Any] = {
    "__proto__": 1,
    "constructor": 2,
    "default": 3,
    "with space": 4,
    '"': 5,
    "\n\u2028\\": 6,
    "*/": 7,
    "": 8,
}
ODD |= {"text": "*/", "sign": None, "taken": [{"value": 1}] * 22}

ROOM = "a/ü b"


def generate(folder: Path, language: str) -> None:
    """Write the clients of the server's consumers."""
    # In a process of its own, for its consumers would be known to all tests of this one.
    subprocess.run([sys.executable, "-c", GENERATE, str(folder), language], cwd=ROOT, env=os.environ, check=True)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The clients of the server's consumers in Python, imported; they are gone afterwards."""
    root = tmp_path_factory.mktemp("round-trip-python")
    generate(root / "realtime", "python")
    sys.path.insert(0, str(root))
    try:
        yield importlib.import_module("realtime")
    finally:
        sys.path.remove(str(root))
        for name in [name for name in sys.modules if name.partition(".")[0] == "realtime"]:
            del sys.modules[name]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, compiled with the clients of the server's consumers."""
    root = tmp_path_factory.mktemp("round-trip")
    generate(root / "client", "typescript")
    shutil.copy(PROGRAMS / "round_trip.ts", root)
    assert errors(root) == {}
    install()
    bundle = root / "program.mjs"
    entry = str(root / "round_trip.ts")
    run("node_modules/.bin/esbuild", "--bundle", "--format=esm", "--target=es2022", entry, f"--outfile={bundle}")
    return bundle


@pytest.fixture(params=["daphne", "uvicorn"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(request.param, application=APPLICATION) as process:
        yield process


@pytest.mark.servers
def test_round_trip(program: Path, server: Server) -> None:
    """Every type goes to a server and comes back equal; defaults are filled in, refusals name fields on the wire."""
    answer = talk(program, server, EVERYTHING)
    assert answer["everything"] == EVERYTHING
    assert answer["room"] == ROOM
    assert answer["outdated"] == [False] * 3
    assert answer["nothing"] is True
    assert answer["answers"] == [{"answer": 1}, "nothing"]
    assert answer["matrix"] == [[1, None], []]
    assert answer["odd"] == ODD
    assert [each["loc"] for each in answer["refused"]] == [["bounded"]]
    assert answer["shared"] == [["subscribed", "ended", "subscribed"], ["kitchen"]]
    assert (answer["afterwards"], answer["refusedRoom"]) == ([], "forbidden")
    sparse = {key: value for key, value in EVERYTHING.items() if key not in LEFT_OUT}
    assert talk(program, server, sparse)["everything"] == {**EVERYTHING, "left_out": "default", "made": []}


@pytest.mark.servers
def test_outdated(program: Path, server: Server) -> None:
    """A client that was generated from other events says that it is outdated, and works on."""
    older = program.with_name("older.mjs")
    text, count = re.subn(r'schemaHash: "[0-9a-f]+"', 'schemaHash: "older"', program.read_text())
    assert count == 3
    older.write_text(text)
    answer = talk(older, server, EVERYTHING)
    assert answer["outdated"] == [True] * 3
    assert answer["everything"] == EVERYTHING


def talk(program: Path, server: Server, everything: dict[str, Any]) -> dict[str, Any]:
    """Return the output of the program."""
    arguments = [server.url("/"), ROOM, json.dumps(everything), json.dumps(ODD)]
    answer: dict[str, Any] = json.loads(run(*node_command(), str(program), *arguments))
    return answer


@pytest.mark.servers
async def test_round_trip_in_python(package: Any, server: Server) -> None:
    """Every type goes to a server as the client's own class, and comes back equal; refusals name fields on the wire."""
    url = server.url("").removesuffix("/")
    every = package.room
    async with package.RoomClient(url + package.RoomClient.path(name=ROOM)) as client:
        sent = every.EverythingInput.model_validate_json(json.dumps(EVERYTHING))
        answer = await client.request(sent)
        assert isinstance(answer, every.Everything)
        assert json.loads(answer.model_dump_json(by_alias=True)) == EVERYTHING
        assert (answer.price, answer.took, answer.raw) == (sent.price, sent.took, b"\xfb\xff")
        assert list(client.rooms) == [ROOM]
        assert not client.outdated
        sparse = every.EverythingInput.model_validate_json(
            json.dumps({key: value for key, value in EVERYTHING.items() if key not in LEFT_OUT})
        )
        filled = await client.request(sparse)
        assert (filled.left_out, filled.made) == ("default", [])
        assert await client.request(every.Numbers([1, 2])) is None
        assert await client.request(every.Ask()) == every.Answer(answer=1)
        assert await client.request(every.Ask(question="")) is None
        with pytest.raises(package.RequestError) as caught:
            await client.request(sent.model_copy(update={"bounded": 11}))
        assert [error.loc for error in caught.value.errors] == [("bounded",)]
    async with package.CafeClient(url + package.CafeClient.path()) as cafe:
        assert (await cafe.request(package.cafe.Matrix([[1, None], []]))).root == [[1, None], []]
        async with cafe.subscribe("kitchen"):
            async with cafe.subscribe("kitchen") as second:
                assert second.state == "subscribed"
            await cafe.request(package.cafe.Matrix([]))
            assert list(cafe.rooms) == ["kitchen"]
        await aeventually(lambda: not cafe.rooms)
        with pytest.raises(package.RequestError, match="You may not subscribe"):
            await cafe.subscribe("table.0").ready()
        order = package.cafe.Order(
            drink=package.cafe.TeaInput(), size="small", table=1, route=(1, "a"), forest=[[], [[]]]
        )
        assert await cafe.request(order) == package.cafe.SoldOut(until=None)
    async with package.OddClient(url + package.OddClient.path(id=7)) as odd:
        strange = package.odd.Odd.model_validate_json(json.dumps(ODD))
        assert json.loads((await odd.request(strange)).model_dump_json(by_alias=True)) == ODD


@pytest.mark.servers
async def test_outdated_in_python(package: Any, server: Server) -> None:
    """A client that was generated from other events says that it is outdated, and works on."""
    older = type("OlderClient", (package.RoomClient,), {"schema_hash": "older"})
    async with older(server.url("").removesuffix("/") + package.RoomClient.path(name="a")) as client:
        assert client.outdated
        assert await client.request(package.room.Ask()) == package.room.Answer(answer=1)
