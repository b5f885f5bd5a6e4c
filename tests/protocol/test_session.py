"""The session: any input leads to one of its declared outcomes."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, JsonValue, field_validator
from pydantic_core import PydanticCustomError

from wsrt import Event, RootEvent, close_codes
from wsrt.close_codes import Close
from wsrt.conf import DEFAULTS
from wsrt.protocol.catalog import Catalog, Received
from wsrt.protocol.envelope import peek
from wsrt.protocol.frame import Frame
from wsrt.protocol.session import RawFrame, Session, State
from wsrt.types import Limits


class Leaf(Event, name="leaf"):
    kids: list[Leaf] = []
    weight: float = 0.0


class Circle(Event):
    kind: Literal["circle"]
    radius: float


class Square(Event):
    kind: Literal["square"]
    side: int = Field(gt=0)


class Shape(Event, name="shape", extra="forbid"):
    shape: Annotated[Circle | Square, Field(discriminator="kind")]
    scores: dict[str, int] = {}
    id: str = Field("", max_length=3, alias="theId")

    @field_validator("id")
    @classmethod
    def no_x(cls, value: str) -> str:
        if value == "x":
            raise ValueError("x is taken")
        if value == "y":
            raise PydanticCustomError("own", "not y")
        return value


class Loose(Event, name="loose"):
    value: JsonValue = None
    other: Any = None


class Within(BaseModel):
    value: float = 0.0


class Nested(Event, name="nested", extra="allow"):
    inner: Within


class Numbers(RootEvent[list[int]], name="numbers"):
    pass


class Knock(Event, name="knock", rate="2/s"):
    pass


class Defaulted(RootEvent[list[int]], name="defaulted"):
    root: list[int] = [1]


CATALOG = Catalog([Leaf, Shape, Loose, Numbers, Knock, Defaulted], [])
LIMITS = Limits(
    **{
        field.name: DEFAULTS[field.name.upper()]
        for field in dataclasses.fields(Limits)
        if field.name not in {"rate", "rate_bytes"}
    },
    rate=None,
    rate_bytes=None,
)


def session(*, extended: bool = True, catalog: Catalog = CATALOG, **limits: Any) -> Session:
    made = Session(catalog, dataclasses.replace(LIMITS, **limits), "c", extended=extended, now=0.0)
    made.accept()
    return made


def take(made: Session, frame: str | bytes, now: float) -> Received | Frame | Close | None:
    """What comes of a frame: at once, or when its turn has come."""
    made.authorize()
    outcome = made.receive_frame(frame, now)
    return made.decode(outcome, now) if isinstance(outcome, RawFrame) else outcome


def told(frame: Any) -> dict[str, Any]:
    assert isinstance(frame, Frame)
    return dict(json.loads(frame.text))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
NAMES = st.sampled_from(["leaf", "shape", "loose", "numbers", "wsrt.ping", "wsrt.resume", "nope", ""]) | st.text()
ENVELOPES = st.fixed_dictionaries({}, optional={"event": NAMES | JSON, "data": JSON, "ref": JSON, "room": JSON})
FRAMES = st.binary() | st.text(st.characters()) | ENVELOPES.map(json.dumps) | JSON.map(json.dumps)


@pytest.mark.parametrize("examples", [80, pytest.param(1000, marks=pytest.mark.slow)])
def test_anything(examples: int) -> None:
    """Arbitrary bytes and JSON never raise: the outcome is an event, an answer, a close, or nothing."""

    @settings(max_examples=examples, deadline=None)
    @given(FRAMES, st.booleans())
    def check(frame: str | bytes, extended: bool) -> None:
        outcome = take(session(extended=extended), frame, 1.0)
        assert outcome is None or isinstance(outcome, Received | Frame | Close)
        if isinstance(outcome, Frame):
            json.loads(outcome.text)

    check()


@pytest.mark.parametrize("examples", [80, pytest.param(1000, marks=pytest.mark.slow)])
def test_round_trip(examples: int) -> None:
    """JSON that goes in is the JSON that the handler sees."""

    @settings(max_examples=examples, deadline=None)
    @given(JSON.filter(lambda value: "NaN" not in json.dumps(value) and "Infinity" not in json.dumps(value)))
    def check(value: Any) -> None:
        try:
            text = json.dumps({"event": "loose", "data": {"value": value}})
            text.encode("ascii")
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return
        outcome = take(session(), text, 1.0)
        assert isinstance(outcome, Received)
        assert json.loads(outcome.event.model_dump_json())["value"] == json.loads(json.dumps(value))

    check()


@pytest.mark.parametrize(
    "text",
    [
        '{"event":"loose","data":{"value":NaN}}',
        '{"event":"loose","data":{"other":-Infinity}}',
        '{"event":"loose","data":{"other":1e999}}',
        '{"event":"loose","data":{"other":[{"a":-1E+400}]}}',
        '{"event":"loose","ignored":NaN}',
        "",
        "null",
        '{"event":null}',
        '{"event":"leaf","ref":true}',
        '{"event":"leaf","ref":1.5}',
        '{"event":"leaf","ref":"' + "x" * 65 + '"}',
        '{"event":"leaf","ref":' + "9" * 65 + "}",
        '{"event":"numbers","data":["' + "1" * 5000 + '",' + "1" * 5000 + "]}",
        '{"event":"leaf","data":' + '{"kids":[' * 300 + "]}" * 300 + "}",
        '{"event":"lo\ud800se"}',
        b'{"event":"loose","data":{"value":"\xed\xa0\x80"}}',
    ],
)
def test_invalid_frame(text: str | bytes) -> None:
    """Text that isn't an envelope, or holds numbers that JSON can't express, is an invalid frame (S5, S8)."""
    assert take(session(extended=False), text, 1.0) is close_codes.INVALID_MESSAGE_PAYLOAD


@pytest.mark.parametrize(
    "text",
    [
        '{"event":"nested","data":{"inner":{"value":1e999}}}',
        '{"event":"nested","data":{"inner":{"value":"Infinity"}}}',
        '{"event":"nested","data":{"inner":{"value":"nan"}}}',
        '{"event":"nested","data":{"inner":{},"extra":1e999}}',
        '{"event":"nested","data":{"inner":{"undeclared":1e999}}}',
    ],
)
def test_numbers_in_models_within(text: str) -> None:
    """Numbers that are not finite are invalid wherever they stand, also as strings that a model would take for them."""
    plain = session(extended=False, catalog=Catalog([Nested], []))
    assert take(plain, text, 1.0) is close_codes.INVALID_MESSAGE_PAYLOAD


def test_words_that_look_so() -> None:
    """A text may talk of infinity."""
    received = take(session(), '{"event":"loose","data":{"other":"Infinity, nan, 1e999"}}', 1.0)
    assert isinstance(received, Received)


@pytest.mark.parametrize(
    "text",
    [
        '{"ref":"1"}',
        '{"event":5,"ref":"1"}',
        '{"event":"loose","data":{"value":NaN},"ref":"1"}',
        '{"event":"leaf","data":{"kids":1},"ref":"1"}',
        '{"event":"unknown","ref":"1"}',
    ],
)
def test_invalid_request(text: str) -> None:
    """An invalid request is answered, never closes, and isn't a violation, whenever its ref can be read."""
    made = session(extended=False, max_violations=0)
    for _ in range(3):
        answer = told(take(made, text, 1.0))
        assert (answer["event"], answer["ref"]) == ("wsrt.error", "1")


@pytest.mark.parametrize("ref", ["x" * 64, 10**63, 0, -5, "é", None])
def test_ref(ref: Any) -> None:
    """A ref is a string or an integer of at most 64 characters; null is none."""
    outcome = take(session(), json.dumps({"event": "leaf", "ref": ref}), 1.0)
    assert isinstance(outcome, Received)
    assert outcome.ref == ref


def test_text_that_looks_like_a_large_number() -> None:
    """A string may hold 1e999, and an integer 400 digits."""
    for value in ('"1e999 NaN"', "1" * 400):
        assert isinstance(take(session(), f'{{"event":"loose","data":{{"other":{value}}}}}', 1.0), Received)


@pytest.mark.parametrize(
    ("name", "event"), [("leaf", Leaf()), ("loose", Loose()), ("defaulted", Defaulted()), ("numbers", None)]
)
def test_missing_data(name: str, event: Event | None) -> None:
    """Missing data stands for {} where no field is required, and is invalid elsewhere (S6)."""
    outcome = take(session(extended=False), f'{{"event":"{name}"}}', 1.0)
    if event is None:
        assert outcome is close_codes.INVALID_EVENT_DATA
    else:
        assert isinstance(outcome, Received)
        assert outcome.event == event


@pytest.mark.parametrize(
    ("data", "loc", "msg", "kind"),
    [
        ({"shape": {"kind": "triangle"}}, ["shape"], "Input tag '*' found", "union_tag_invalid"),
        ({"shape": {"kind": "square", "side": -1}}, ["shape", "square", "side"], "greater than 0", "greater_than"),
        ({"shape": {"kind": "circle"}}, ["shape", "circle", "radius"], "Field required", "missing"),
        ({"shape": {"kind": "square"}, "hunter2": 1}, ["*"], "Extra inputs", "extra_forbidden"),
        (
            {"shape": {"kind": "square", "side": 1}, "scores": {"hunter2": "x"}},
            ["scores", "*"],
            "valid integer",
            "int_parsing",
        ),
        ({"shape": {"kind": "square", "side": 1}, "theId": "x"}, ["theId"], "x is taken", "value_error"),
        ({"shape": {"kind": "square", "side": 1}, "theId": "y"}, ["theId"], "not y", "own"),
        (7, [], "valid dictionary", "model_type"),
    ],
)
def test_field_errors(data: Any, loc: list[Any], msg: str, kind: str) -> None:
    """loc begins inside of the data, foreign keys become "*", and the input never comes back (S17)."""
    outcome = told(take(session(), json.dumps({"event": "shape", "data": data, "ref": 1}), 1.0))
    (first,) = [error for error in outcome["data"]["errors"] if error["type"] == kind]
    assert first["loc"] == loc
    assert msg in first["msg"]
    assert "hunter2" not in json.dumps(outcome)
    assert "triangle" not in json.dumps(outcome)


def test_wrong_items() -> None:
    """An answer names the first wrong item of a list, however many there are."""
    outcome = told(take(session(), json.dumps({"event": "numbers", "data": [0, 0, *["x"] * 5000], "ref": 1}), 1.0))
    assert [error["loc"] for error in outcome["data"]["errors"]] == [[2]]


def test_too_many_values() -> None:
    """A frame with more values than max_values is like one of too many bytes, but that a request is answered."""
    text = '{"event":"numbers","data":[1,2,3]}'
    assert isinstance(take(session(max_values=6), text, 1.0), Received)
    assert take(session(max_values=4, extended=False), text, 1.0) is close_codes.MESSAGE_TOO_LARGE
    outcome = told(take(session(max_values=4, extended=False), text[:-1] + ',"ref":1}', 1.0))
    assert (outcome["ref"], outcome["data"]["errors"][0]["type"]) == (1, "too_many_values")


def test_empty_catalog() -> None:
    """A consumer that receives nothing knows no event."""
    assert take(session(catalog=Catalog([], []), extended=False), '{"event":"x"}', 1.0) is (close_codes.UNKNOWN_EVENT)


def test_reserved_events() -> None:
    """Reserved events are for wsrt.v1 clients: a plain one gets "Unknown event"."""
    assert told(take(session(), '{"event":"wsrt.ping","ref":"1"}', 1.0)) == {
        "event": "wsrt.pong",
        "data": {},
        "ref": "1",
    }
    assert told(take(session(), '{"event":"wsrt.ping"}', 1.0))["event"] == "wsrt.pong"
    assert take(session(), '{"event":"wsrt.resume","data":{"lobby":["e",1]}}', 1.0) is None
    assert take(session(), '{"event":"wsrt.pong"}', 1.0) is None
    for name in ("wsrt.pong", "wsrt.resume"):
        answer = told(take(session(), f'{{"event":"{name}","ref":2}}', 1.0))
        assert answer == {"event": "wsrt.ok", "data": {}, "ref": 2}
    assert take(session(extended=False), '{"event":"wsrt.ping"}', 1.0) is close_codes.UNKNOWN_EVENT
    assert told(take(session(), '{"event":"wsrt.hello"}', 1.0))["data"]["code"] == "unknown_event"


KNOCK = '{"event":"knock"}'


def test_rate_of_an_event() -> None:
    """An event with a rate is received so often, and again with time; other events are not affected."""
    made = session(extended=False)
    assert [type(take(made, KNOCK, 0.0)) for _ in range(2)] == [Received, Received]
    assert isinstance(take(made, '{"event":"leaf"}', 0.0), Received)
    assert isinstance(take(made, KNOCK, 0.5), Received)
    assert take(made, KNOCK, 0.5) is close_codes.RATE_LIMIT_EXCEEDED


def test_rate_of_an_event_is_reported() -> None:
    """A client that speaks wsrt.v1 gets an error with the ref, and is closed after too many violations."""
    rejected: list[str] = []
    made = session(max_violations=1)
    made._on_rejected = lambda problem, raw, outcome: rejected.append(problem.code)
    outcomes = [take(made, '{"event":"knock","ref":"a"}', 0.0) for _ in range(4)]
    assert [type(outcome) for outcome in outcomes] == [Received, Received, Frame, Close]
    answer = told(outcomes[2])
    assert (answer["ref"], answer["data"]["code"]) == ("a", "rate_limited")
    assert outcomes[3] is close_codes.RATE_LIMIT_EXCEEDED
    assert rejected == ["rate_limited"] * 2


def test_rate_of_an_event_in_steps() -> None:
    """A heavy frame counts for the rate of its event, too, and a standstill is excused."""
    made = session()
    made.authorize()

    def decoded(now: float) -> Any:
        steps = made.decode_in_steps(RawFrame(KNOCK), now)
        with pytest.raises(StopIteration) as end:
            while True:
                next(steps)
        return end.value.value

    assert [type(decoded(0.0)) for _ in range(3)] == [Received, Received, Frame]
    made.excuse(0.5)
    assert [type(decoded(0.0)) for _ in range(2)] == [Received, Frame]


def test_violations_slide() -> None:
    """Violations count within a sliding minute."""
    made = session(max_violations=2)
    outcomes = [take(made, "{", now) for now in (0.0, 30.0, 61.0, 62.0)]
    assert [type(outcome) for outcome in outcomes] == [Frame, Frame, Frame, Close]
    assert outcomes[-1] is close_codes.TOO_MANY_VIOLATIONS


def test_rate_counts_reserved_frames() -> None:
    """Reserved frames count for the rate, which recovers with time."""
    rejected: list[str] = []
    made = session(rate="1/s", rate_burst=2)
    made._on_rejected = lambda problem, raw, outcome: rejected.append(type(problem).__name__)
    for _ in range(2):
        take(made, '{"event":"wsrt.ping"}', 0.0)
    assert rejected == []
    assert told(take(made, '{"event":"wsrt.ping"}', 0.0))["data"]["code"] == "rate_limited"
    assert rejected == ["RateExceeded"]
    assert told(take(made, '{"event":"wsrt.ping"}', 1.0))["event"] == "wsrt.pong"


def test_rate_of_bytes() -> None:
    """A client sends as many bytes as the rate says; two frames of the greatest size always fit."""
    text = '{"event":"loose","data":{"other":"' + "x" * 963 + '"}}'
    assert len(text) == 1000
    made = session(rate_bytes="500/s", max_payload=1000, extended=False)
    assert [type(take(made, text, 0.0)) for _ in range(3)] == [Received, Received, Close]
    made = session(rate_bytes="500/s", max_payload=1000)
    outcomes = [take(made, text, now) for now in (0.0, 0.0, 1.0, 2.0)]
    assert [type(outcome) for outcome in outcomes] == [Received, Received, Frame, Received]
    assert told(outcomes[2])["data"]["code"] == "rate_limited"


@pytest.mark.parametrize("ref", ["", ',"ref":1'], ids=["event", "request"])
def test_price_of_what_fails(ref: str) -> None:
    """A frame that fails costs five frames and four times its bytes; so many requests too are over the rate."""
    bad, good = '{"event":"leaf","data":1' + ref + "}", '{"event":"leaf"}'
    made = session(rate="1/s", rate_burst=11, max_violations=0 if ref else 10)
    assert [told(take(made, bad, 0.0))["data"]["code"] for _ in range(2)] == ["invalid_data"] * 2
    assert isinstance(take(made, good, 0.0), Received)
    assert not isinstance(take(made, good, 0.0), Received)
    made = session(rate_bytes=f"{8 * len(bad) + len(good)}/s", max_payload=100)
    take(made, bad, 0.0)
    take(made, bad, 0.0)
    assert isinstance(take(made, good, 0.0), Received)
    assert not isinstance(take(made, good, 0.0), Received)


def test_price_of_time() -> None:
    """Processor time costs as many bytes as are slowly decoded in it."""
    made = session(rate_bytes="1M/s")
    made.charge(0.2)
    assert not isinstance(take(made, '{"event":"leaf"}', 0.5), Received)
    assert isinstance(take(made, '{"event":"leaf"}', 1.5), Received)


@pytest.mark.parametrize(
    "text",
    [
        '{"event":"leaf"}',
        '{"event":"leaf","ref":1,"data":1}',
        '{"event":"other","ref":1}',
        '{"event":"leaf","ref":1,"data":[' + "0," * 200 + "0]}",
        '{"\\u0065vent":"wsrt.ping"}',
        "{",
    ],
    ids=["good", "invalid", "unknown", "too many values", "reserved", "malformed"],
)
def test_decoded_in_steps(text: str) -> None:
    """A frame that is decoded in steps has the outcome of one decoded at once; explaining it is a step of its own."""
    steps = session(max_values=100).decode_in_steps(RawFrame(text), 1.0)
    taken = 0
    with pytest.raises(StopIteration) as end:
        while True:
            next(steps)
            taken += 1
    at_once = session(max_values=100).decode(RawFrame(text), 1.0)
    if isinstance(at_once, Received):
        assert end.value.value.event == at_once.event
    else:
        assert told(end.value.value) == told(at_once)
    assert taken == (0 if "0,0" in text else 1 if isinstance(at_once, Received) else 2)


def test_nothing_is_parsed_before_authorize() -> None:
    """Until the client is allowed to connect, its frames wait as they are; what is reserved is handled then."""
    made = session()
    for text in ("{", '{"event":"leaf"}', '{"event":"wsrt.ping"}'):
        assert isinstance(made.receive_frame(text, 1.0), RawFrame)
    waiting = [made.receive_frame(text, 1.0) for text in ('{"event":"leaf"}', '{"event":"wsrt.ping"}')]
    made.authorize()
    event, ping = (made.admit(raw) for raw in waiting if isinstance(raw, RawFrame))
    assert event is waiting[0]
    assert told(ping)["event"] == "wsrt.pong"


def test_rate_before_authorize() -> None:
    """The refs of frames over the rate are not read before either."""
    made = session(rate="1/s", rate_burst=1)
    made.receive_frame("{}", 0.0)
    assert "ref" not in told(made.receive_frame('{"event":"leaf","ref":1}', 0.0))


def test_size_of_what_waits() -> None:
    """A frame that waits takes the bytes that it had on the wire: one wide character does not widen the others."""
    raw = RawFrame("x" * 1000 + "\U0001f600")
    assert raw.size == len(raw.payload) == 1004
    assert sys.getsizeof(raw.payload) < 1100


@pytest.mark.parametrize("text", ['{"event":"wsrt.pong","data":{}}', b'{"event":"wsrt.pong","data":{}}'])
def test_pong_is_parsed_once(text: str | bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pong, the most frequent frame of an idle client, is parsed once, and by no catalog."""
    made = session(catalog=Catalog([], []))
    made.authorize()
    peeks = []
    monkeypatch.setattr("wsrt.protocol.session.peek", lambda text: peeks.append(text) or peek(text))
    monkeypatch.setattr(Catalog, "decode", None)
    assert made.receive_frame(text, 1.0) is None
    assert len(peeks) == 1


@pytest.mark.parametrize(
    "text",
    [
        '{"\\u0065vent":"wsrt.ping"}',
        '{"event":"\\u0077srt.ping"}',
        '{"data":"' + "x" * 20_000 + '","event":"wsrt.ping"}',
    ],
)
def test_reserved_events_in_disguise(text: str) -> None:
    """A reserved frame that is not seen to be one on arrival is handled in its turn."""
    assert told(take(session(), text, 1.0))["event"] == "wsrt.pong"


def test_heartbeat() -> None:
    """tick pings, then closes; a plain client is never pinged by events (S45, S46)."""
    made = session(heartbeat=20, heartbeat_timeout=10)
    assert made.tick(10.0) is None
    assert told(made.tick(20.0))["event"] == "wsrt.ping"
    assert made.tick(30.0) is close_codes.HEARTBEAT_TIMEOUT
    assert session(extended=False).heartbeat is None
    assert session(heartbeat=None).tick(1000.0) is None


def test_states() -> None:
    """The first close wins; a closed session is open for nothing (S1, S33)."""
    made = session()
    assert made.is_open
    assert made.close(close_codes.NORMAL)
    assert not made.close(close_codes.FORBIDDEN)
    assert (made.state, made.close_sent) == (State.CLOSING, close_codes.NORMAL)
    made.receive_disconnect()
    assert made.state is State.CLOSED
    assert made.tick(1e9) is None


class Opaque:
    """A type of which there is no JSON schema."""


class Handle(Event, name="handle", arbitrary_types_allowed=True):
    thing: Opaque


def test_type_without_schema() -> None:
    """An event whose type has no JSON schema still has a hash and tells its errors."""
    catalog = Catalog([Handle], [])
    assert catalog.schema_hash != Catalog([Leaf], []).schema_hash
    answer = told(take(session(catalog=catalog), '{"event":"handle","data":{"thing":1},"ref":1}', 1.0))
    assert answer["data"]["errors"][0]["loc"] == ["thing"]


def test_hello() -> None:
    """The greeting tells what a client may rely on; its hash changes with the models."""
    hello = told(session().hello(5.0))["data"]
    assert set(hello) == {
        "connection",
        "heartbeat",
        "heartbeat_timeout",
        "max_payload",
        "server_time",
        "expires_in",
        "schema",
    }
    assert hello["schema"] != Catalog([Leaf], []).schema_hash
    assert session(extended=False).hello(5.0) is None
    for switched_off in ({"heartbeat": None}, {"heartbeat_timeout": None}):
        silent = told(session(**switched_off).hello(5.0))["data"]
        assert (silent["heartbeat"], silent["heartbeat_timeout"]) == (None, None)
