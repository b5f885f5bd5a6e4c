"""Text of JavaScript: values say what they are, comments stay comments, names stay apart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.apps.chat.consumers import ChatConsumer
from tests.clients.toolchain import install, run
from wsrt.clients.generate import javascript, typescript
from wsrt.clients.generate.notes import notes
from wsrt.clients.generate.shapes import (
    Anything,
    Choice,
    Field,
    ListOf,
    Literals,
    MapOf,
    Named,
    Nothing,
    Reference,
    Scalar,
    Shape,
    Struct,
    TupleOf,
)
from wsrt.clients.generate.typescript.client import Client
from wsrt.clients.generate.typescript.names import RUNTIME, exported, files, local, runtime_names
from wsrt.clients.generate.typescript.text import comment, key, literal
from wsrt.clients.generate.typescript.types import Types
from wsrt.schema.description import ConsumerEntry, describe

NASTY = ("*/ x", "/", "**/", "* /", "a\n/b", "\u2028*/\u2029", "//", "*\\/", "\r\n*/", "a\x00b", "\ud800", "/*", "*\n/")

STRING, NUMBER, NULL = Scalar("string"), Scalar("number"), Scalar("null")
IPV4, IPV6 = Scalar("string", "ipv4"), Scalar("string", "ipv6")
A = Field("a", STRING, is_required=True)
NAMED = {
    "Cat": Named("Cat", Struct((Field("kind", Literals(("cat",)), is_required=False),))),
    "Dog": Named("Dog", Struct((Field("kind", Literals(("dog",)), is_required=True),))),
    "Any": Named("Any", Anything()),
}


@pytest.mark.parametrize("indent", ["", "  "])
def test_comments_end_where_they_end(indent: str) -> None:
    """Nothing that a docstring says ends the comment that it stands in."""
    for text in NASTY:
        for paragraphs in ([text], ["first", text], [text, "last"]):
            written = comment(paragraphs, indent, is_deprecated=True)
            assert written.index("*/") == len(written) - 3
            assert all(line.startswith(indent) for line in written.splitlines())
            written.encode()


def test_comments() -> None:
    """A comment has one line where one will do; without anything to say there is none."""
    assert comment(["", "  "]) == ""
    assert comment([" One. "], "  ") == "  /** One. */\n"
    assert comment(["One.", "Two\n\nthree."]) == "/**\n * One.\n *\n * Two\n *\n * three.\n */\n"
    assert comment([], is_deprecated=True) == "/** @deprecated */\n"
    assert comment(["@a b @c d@e"]) == "/** \\@a b \\@c d@e */\n"


def test_literals_are_what_they_say() -> None:
    """A compiler reads back each value that was written, and source shows all that is in it."""
    values: list[Any] = [
        "",
        "'",
        '"',
        "`${1}`",
        "\\",
        "\n",
        "\u2028",
        "\u202e",
        "é",
        "😀",
        "\x00",
        "</script>",
        "\U000e0001",
    ]
    values += [0, -1, 1.5, 1e100, 2**53, True, False, None]
    source = f"[{', '.join(map(literal, values))}]"
    assert source.isprintable()
    install()
    assert json.loads(run("node", "--eval", f"console.log(JSON.stringify({source}))")) == values
    assert literal("\ud800") == '"\\ud800"'
    assert literal(1.0) == "1"


def test_keys() -> None:
    """Keys are quoted where they have to be."""
    assert [key(name) for name in ("a", "$_1", "default", "a-b", "1", "", "é", "__proto__")] == [
        *("a", "$_1", "default"),
        *('"a-b"', '"1"', '""', '"é"', '"__proto__"'),
    ]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (Anything(), "unknown"),
        (Nothing(), "never"),
        (Scalar("integer"), "number"),
        (Literals(("a", 1, 1.0, None)), '"a" | 1 | null'),
        (ListOf(Choice((STRING, NULL))), "readonly (string | null)[]"),
        (ListOf(ListOf(STRING)), "readonly (readonly string[])[]"),
        (ListOf(Literals(("a",))), 'readonly "a"[]'),
        (ListOf(Reference("Cat")), "readonly Cat[]"),
        (MapOf(ListOf(NUMBER)), "{ readonly [key: string]: readonly number[] }"),
        (TupleOf((), None, 0), "readonly []"),
        (TupleOf((STRING, Choice((NUMBER, NULL))), STRING, 1), "readonly [string, (number | null)?, ...string[]]"),
        (Choice((Reference("Cat"), Reference("Dog")), "kind"), '(Cat & { readonly kind: "cat" }) | Dog'),
        (Choice((Reference("Cat"), Reference("Dog"))), "Cat | Dog"),
        (Choice((Reference("Any"), STRING), "kind"), "Any | string"),
        (Choice((Scalar("integer"), NUMBER)), "number"),
        (Struct(()), "{ readonly [key: string]: never }"),
        (Struct((), NUMBER), "{ readonly [key: string]: number }"),
        (Struct((A,), NUMBER), "{ readonly a: string; readonly [key: string]: number | string; }"),
        (
            Struct((Field("a", STRING, is_required=False, has_default=True),), STRING),
            "{ /** Default: null. */ readonly a?: string; readonly [key: string]: string | undefined; }",
        ),
        (Struct((A,), Anything()), "{ readonly a: string; readonly [key: string]: unknown; }"),
    ],
)  # fmt: skip
def test_types(shape: Shape, expected: str) -> None:
    """Each shape has its type."""
    assert " ".join(Types(NAMED, {name: name for name in NAMED}).type(shape).split()) == expected


def test_long_choices() -> None:
    """A choice of many stands on as many lines."""
    values = Literals(tuple(f"value number {number}" for number in range(9)))
    text = Types(NAMED, {"Long": "Long"}).declaration(Named("Long", values, "Long."))
    assert text.splitlines()[:3] == ["/** Long. */", "export type Long =", '  | "value number 0"']


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (Scalar("string", None, (("minLength", 1), ("maxLength", 2))), "At least 1 character, at most 2 characters."),
        (Scalar("number", None, (("exclusiveMinimum", 0), ("multipleOf", 2))), "More than 0, a multiple of 2."),
        (Scalar("number", None, (("exclusiveMaximum", 1.5),)), "Less than 1.5."),
        (Scalar("string", "ipv4", (("pattern", "^a"),)), "Format: ipv4.\nMatches `^a`."),
        (ListOf(IPV4, limits=(("maxItems", 1),)), "At most 1 item.\nItems: Format: ipv4."),
        (MapOf(IPV4, (("minProperties", 2),)), "At least 2 keys.\nValues: Format: ipv4."),
        (TupleOf((IPV4,), IPV6, 1), "Items: Format: ipv4.\nItems: Format: ipv6."),
        (Choice((IPV4, NULL)), "Format: ipv4."),
        (Choice((IPV4, IPV6, NULL)), "Text: Format: ipv4. Or: Format: ipv6."),
        (
            ListOf(Choice((Scalar("string", None, (("maxLength", 3),)), Scalar("integer", None, (("minimum", 1),))))),
            "Items: Text: At most 3 characters.\nItems: Numbers: At least 1.",
        ),
        (Choice((ListOf(IPV4), Scalar("integer"))), "Lists: Items: Format: ipv4."),
        (STRING, ""),
    ],
)  # fmt: skip
def test_notes(shape: Shape, expected: str) -> None:
    """What a type does not say is said in words."""
    assert notes(Field("a", shape, is_required=True), {}, str) == expected


def test_names() -> None:
    """Models make way for what is generated, and clients for each other, on any file system."""
    assert files(["EveryType", "Index", "Chat", "chat", "_"]) == {
        "EveryType": "every-type",
        "Index": "index-2",
        "Chat": "chat",
        "chat": "chat-2",
        "_": "client",
    }
    named = [Named(name, STRING) for name in ("Said", "AClient", "AClientModel", "AReplies")]
    assert local("A", named) == {
        "Said": "Said",
        "AClientModel": "AClientModel",
        "AClient": "AClientModel2",
        "AReplies": "ARepliesModel",
    }


def test_exported_names() -> None:
    """Side by side, types keep their names but for those of the runtime and those that stand for different types."""
    one, other = frozenset({"one"}), frozenset({"other"})
    assert exported(
        {
            "A": {"Same": one, "Message": one, "Status": one, "BMessage": one},
            "B": {"Same": one, "Message": other, "AClient": one},
        }
    ) == {
        "A": {"Same": "Same", "Message": "AMessage", "Status": "AStatus", "BMessage": "BMessage"},
        "B": {"Same": "Same", "Message": "BMessage2", "AClient": "BAClient"},
    }


def test_runtime_names() -> None:
    """What the runtime exports is known: no model takes the name of any of it."""
    install()
    text = run("node_modules/.bin/esbuild", "--bundle", "--format=esm", str(RUNTIME / "index.ts"))
    values = {name.split()[-1] for name in text.rpartition("export {")[2].partition("}")[0].split(",")}
    assert "Client" in values
    assert values < runtime_names()
    assert {"CloseRow", "FieldError", "Context", "PathParameter", "Timings"} <= runtime_names() - values


def entry(**changes: Any) -> ConsumerEntry:
    [found] = describe([ChatConsumer])["consumers"]
    return {**found, **changes}


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/a b/{room}/"], ["/a%20b/{room}/"]),
        (["/ü%/"], ["/%C3%BC%25/"]),
        (["//evil.example/{a}/"], ["/%2Fevil.example/{a}/"]),
        (["/{a}/", "/x/{a}/", "/{b}/"], ["/{a}/", "/{b}/"]),
        (["/ws/([a-z]+)/", "/ws/{a}?"], []),
        ([], []),
    ],
)
def test_patterns(paths: list[str], expected: list[str]) -> None:
    """Paths are made of what is a path; of patterns that take the same, the first."""
    assert Client(entry(paths=paths)).patterns == expected


def test_without_paths() -> None:
    """A client to which no path leads has no method to make one, in either language."""
    description = {**describe([ChatConsumer]), "consumers": [entry(paths=[])]}
    for generate in (typescript.generate, javascript.generate):
        for name, text in generate(description).items():  # type: ignore[arg-type]
            if not name.startswith(("runtime/", "wsrt.")):
                assert "static path" not in text


def test_events_without_answers() -> None:
    """An event that nothing answers can not be requested."""
    receives = [{**each, "replies": []} if each["name"] == "say" else each for each in entry()["receives"]]
    replies = Client(entry(receives=receives)).events().partition("ChatReplies {")[2]
    assert "readonly echo:" in replies
    assert "readonly say:" not in replies


def test_history() -> None:
    """The comments don't mention that an event was declared with history, because that has no effect yet."""
    sends = [{**each, "history": True} for each in entry()["sends"]]
    assert "history" not in Client(entry(sends=sends)).events()
