"""The bounds of one frame: invalid data costs about as much as valid data, whatever its shape."""

from __future__ import annotations

import gc
import json
import time
import timeit
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError, create_model
from typing_extensions import TypeAliasType

from tests.protocol.test_session import LIMITS
from tests.support import report
from wsrt import Event, RootEvent
from wsrt.exceptions import InvalidData, TooManyValues
from wsrt.protocol.bounds import VISIT, has_too_many_values
from wsrt.protocol.catalog import Catalog
from wsrt.protocol.session import RawFrame, Session

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab,[]{}"\\: '),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet=',[]{}"\\ '), inner),
    max_leaves=20,
)


class A(BaseModel):
    a: int
    b: int
    c: int


class B(BaseModel):
    d: int
    e: int
    f: int


class Listed(Event, name="listed"):
    items: list[A | B]


class Mapped(Event, name="mapped"):
    items: dict[str, A | B]


class Strict(Event, name="strict", extra="forbid"):
    value: int = 0


class Loose(Event, name="loose"):
    value: Any = None


class Nested(Event, name="nested"):
    inner: Listed


Wide = create_model("Wide", __base__=BaseModel, **{f"field_{number}": (int, ...) for number in range(60)})  # type: ignore[call-overload]


class Wrapped(Event, name="wrapped"):
    wide: Wide


class Left(BaseModel):
    kids: list[Left | Right] = []
    left: int = 0


class Right(BaseModel):
    kids: list[Left | Right] = []
    right: int = 0


class Tree(Event, name="tree"):
    root: Left | Right


Rows = TypeAliasType("Rows", "list[Rows] | tuple[Rows, ...] | int")


class Table(RootEvent[Rows], name="table"):
    pass


Plain = TypeAliasType("Plain", "dict[str, Plain] | list[Plain] | int | str")


class Document(RootEvent[Plain], name="document"):
    pass


class Defaulted(Event, name="defaulted"):
    value: dict[str, Any] = {"type": "list", "schema": {"type": "list"}}
    extra: list[int] = Field(default=[1], json_schema_extra={"type": "list"})


CATALOG = Catalog([Listed, Mapped, Strict, Loose, Nested, Wrapped, Tree, Table, Document, Defaulted], [])


def frame(name: str, data: str) -> str:
    return f'{{"event":"{name}","ref":1,"data":{data}}}'


def array(item: str, times: int) -> str:
    return f"[{','.join([item] * times)}]"


def mapping(item: str, times: int) -> str:
    return f"{{{','.join(f'{chr(34)}{number:x}{chr(34)}:{item}' for number in range(times))}}}"


def tree(depth: int, leaf: str) -> str:
    return frame("tree", '{"root":' + '{"kids":[' * depth + leaf + "]}" * depth + "}")


def seconds(text: str) -> float:
    """The least processor time of a few attempts."""

    def once() -> float:
        begun = time.process_time()
        refusal(text)
        return time.process_time() - begun

    return min(once() for _ in range(5))


def refusal(text: str) -> InvalidData | None:
    try:
        CATALOG.decode(text)
    except InvalidData as error:
        return error
    return None


BOMBS = {
    "items of a list": frame("listed", f'{{"items":{array("{}", 9000)}}}'),
    "values of an object": frame("mapped", f'{{"items":{mapping("{}", 7000)}}}'),
    "a list in a model": frame("nested", f'{{"inner":{{"items":{array("{}", 9000)}}}}}'),
    "keys that are forbidden": frame("strict", mapping("0", 7000)),
    "many missing fields beside much": frame("wrapped", f'{{"wide":{{"x":{array("0", 9000)}}}}}'),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_what_fails(bomb: str) -> None:
    """A frame that fails costs little more than a good one of the same size; it is answered with 20 errors at most."""
    good = frame("loose", f'{{"value":{array("[0]", min(len(bomb) // 4, 4900))}}}')
    assert seconds(bomb) < 20 * seconds(good)
    found = refusal(bomb)
    assert found is not None
    assert 1 <= len(found.errors) <= 20


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_nothing_is_left(bomb: str) -> None:
    """What a frame that fails was parsed to is freed at once, and does not wait for the garbage collector."""
    made = Session(CATALOG, LIMITS, "c", extended=True, now=0.0)
    made.decode(RawFrame(bomb), 0.0)
    gc.collect()
    gc.disable()
    try:
        made.decode(RawFrame(bomb), 0.0)
        assert gc.collect() == 0
    finally:
        gc.enable()


ITEM = '{"a":1,"b":2,"c":3}'
GOOD = {
    "60 B": frame("loose", '{"value":"good morning"}'),
    "1 kB": frame("listed", f'{{"items":{array(ITEM, 50)}}}'),
    "48 kB": frame("listed", f'{{"items":{array(ITEM, 2400)}}}'),
    "48 kB of text": frame("loose", f'{{"value":"{"good morning, " * 3600}"}}'),
}


@pytest.mark.parametrize("good", GOOD.values(), ids=GOOD)
def test_what_is_good(good: str, request: pytest.FixtureRequest) -> None:
    """A good frame costs little more than its validation by Pydantic alone, and a look at each of its characters."""
    model = CATALOG.receives[CATALOG.decode(good).name]
    data = json.dumps(json.loads(good)["data"])
    times = max(1, 20_000 // len(good))

    def per_call(function: Callable[[], object]) -> float:
        return min(timeit.repeat(function, number=times, repeat=15, timer=time.process_time)) / times

    alone = per_call(lambda: model.model_validate_json(data))
    whole = per_call(lambda: CATALOG.decode(good))
    report.note(
        "A good frame, decoded",
        f"{request.node.callspec.id}: {whole * 1e6:.1f} us, {alone * 1e6:.1f} us by Pydantic alone",
    )
    assert whole < 3 * (alone + 10e-6 + len(good) * 20e-9)


def test_ignored_keys() -> None:
    """A frame of keys that no field has costs little more than to parse it."""
    ignored = frame("loose", json.dumps(dict.fromkeys((f"key{number}" for number in range(4000)), 1)))

    def taken(function: Callable[[], object]) -> float:
        return min(timeit.repeat(function, number=1, repeat=15, timer=time.process_time))

    parsed = taken(lambda: json.loads(ignored))
    whole = taken(lambda: CATALOG.decode(ignored))
    report.note("A frame of ignored keys, decoded", f"{whole / parsed:.1f} times the time of json.loads")
    assert whole < 15 * parsed


def test_first_wrong_item() -> None:
    """Of a list the first wrong item is named, however deep it is, with all that is wrong with it."""
    found = refusal(frame("nested", '{"inner":{"items":[{"a":1,"b":1,"c":1},{"a":1,"b":1},{}]}}'))
    assert found is not None
    locations = [error["loc"] for error in found.errors]
    assert {tuple(loc[:3]) for loc in locations} == {("inner", "items", 1)}
    assert ["inner", "items", 1, "A", "c"] in locations


def test_models_stay_as_they_are() -> None:
    """What the application validates itself is validated to its end, and its classes are complete."""
    CATALOG.decode(frame("loose", "{}"))
    with pytest.raises(ValidationError) as caught:
        Listed.model_validate({"items": [{}, {}]})
    assert len({error["loc"][1] for error in caught.value.errors()}) == 2
    assert all(model.__pydantic_complete__ for model in (A, B, Listed, Nested, Right))


def test_defaults_that_look_like_a_schema() -> None:
    """Values that an application puts in its classes are left alone."""
    assert CATALOG.decode(frame("defaulted", "{}")).event == Defaulted()


def test_errors_of_much() -> None:
    """Where a wide model fails beside much data, the missing fields are named all the same."""
    found = refusal(BOMBS["many missing fields beside much"])
    assert found is not None
    assert found.errors[0] == {"loc": ["wide", "field_0"], "msg": "Field required", "type": "missing"}
    assert len(found.errors) == 20


@pytest.mark.parametrize("leaf", ['{"left":1}', '{"left":"x","right":"x"}'], ids=["good", "bad"])
def test_deep_recursive_union(leaf: str) -> None:
    """A recursive union costs no more the deeper it is nested: it is given up."""
    assert seconds(tree(16, leaf)) < 20 * seconds(tree(8, leaf))
    found = refusal(tree(60, leaf))
    assert found is not None
    assert [error["type"] for error in found.errors] == ["too_complex"]


def test_deep_recursive_arrays() -> None:
    """The same for unions of arrays."""
    found = refusal(frame("table", "[" * 60 + "{}" + "]" * 60))
    assert found is not None
    assert [error["type"] for error in found.errors] == ["too_complex"]


def test_recursive_union() -> None:
    """A recursive union is validated as without bounds, and its errors name what is wrong."""
    data = {"root": {"kids": [{"right": 2, "kids": [{"left": 1}]}] * 50}}
    assert CATALOG.decode(frame("tree", json.dumps(data))).event == Tree.model_validate(data)
    found = refusal(tree(2, '{"left":"x","right":"x"}'))
    assert found is not None
    assert ["root", "Left", "kids", 0, "Left", "kids", 0, "Left", "left"] in [error["loc"] for error in found.errors]
    assert not [error for error in found.errors if VISIT in error["loc"]]


def test_recursion_without_a_choice() -> None:
    """A recursive type whose members take different kinds of values has no limit but that of a frame."""
    data = json.dumps([{"a": [number]} for number in range(3000)])
    assert CATALOG.decode(frame("document", data)).event == Document.model_validate_json(data)


@pytest.mark.parametrize("fields", [1, 60])
def test_strict_models(fields: int) -> None:
    """A strict model takes from JSON what it should, in frames of any size."""
    names = {f"f{number}": (set[int], ...) for number in range(fields)}
    model = create_model("Sets", __base__=Event, __cls_kwargs__={"name": "sets", "strict": True}, **names)  # type: ignore[call-overload]
    data = json.dumps({name: list(range(6000 // fields)) for name in names})
    event = Catalog([model], []).decode(frame("sets", data)).event
    assert event == model.model_validate_json(data)
    with pytest.raises(InvalidData) as caught:
        Catalog([model], []).decode(frame("sets", data.replace("[0", '["0"')))
    assert caught.value.errors


def count(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(count, value.values()))
    return 1 + sum(map(count, value)) if isinstance(value, list) else 1


@given(JSON, st.sampled_from([json.dumps, lambda value: json.dumps(value, indent=1, separators=(",", ":"))]))
def test_count_of_values(value: Any, dump: Callable[[Any], str]) -> None:
    """Every value counts once, keys and what is inside strings don't."""
    text, values = dump(value), count(value)
    assert not has_too_many_values(text, values)
    assert has_too_many_values(text, values - 1)


def test_too_many_values() -> None:
    """A frame with more values than allowed is refused by its own error, which has its ref."""
    text = frame("loose", f'{{"value":{array("0", 100)}}}')
    CATALOG.decode(text, 105)
    with pytest.raises(TooManyValues) as caught:
        CATALOG.decode(text, 104)
    assert caught.value.ref == 1
    assert caught.value.errors == ({"loc": [], "msg": "More than 104 values", "type": "too_many_values"},)


def test_numbers_in_many_shapes() -> None:
    """What looks like numbers that JSON can't hold costs no more than other text."""
    runs = frame("loose", f'{{"value":"{"x".join(["1" * 299] * 200)}"}}')
    assert seconds(runs) < 20 * seconds(frame("loose", f'{{"value":"{"abcde fgh" * 6600}"}}'))
