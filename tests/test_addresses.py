"""Addresses: who is meant, and the groups that reach them."""

from __future__ import annotations

import itertools
import json
import pickle
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from channels.layers import BaseChannelLayer
from django.contrib.auth.models import AnonymousUser, Group
from django.contrib.auth.models import User as Account
from django.db import models
from django.utils.functional import SimpleLazyObject
from hypothesis import given
from hypothesis import strategies as st

from wsrt import Event, InvalidRoom, add_to_room, presence, publish_to_room, remove_from_room
from wsrt import addresses as to
from wsrt.addresses import (
    Audience,
    UserKey,
    auth_user_key,
    auth_user_pk,
    from_message,
    group_name,
    node_group,
    node_of,
    user_key,
)

KINDS = st.sampled_from(["room", "user", "everyone", "node"])
# Text that is close to the separators and escapes of group names, and to the limit of their length.
CLOSE = st.text(st.sampled_from("ab_.:-~5fé2e"), max_size=12) | st.text(
    st.sampled_from("ab"), min_size=80, max_size=110
)
TEXT = CLOSE | st.text()
UTF8 = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: not text.startswith("wsrt."))

LEAVES = st.one_of(
    UTF8.map(to.Room),
    UTF8.map(UserKey).map(to.User),
    st.integers().map(to.User),
    UTF8.map(to.Connection),
    st.lists(UTF8, max_size=3).map(to.Rooms),
    st.lists(st.integers() | UTF8.map(UserKey), max_size=3).map(to.Users),
    st.just(to.Everyone()),
)
AUDIENCES = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda operator, left, right: {"|": left | right, "-": left - right, "&": left & right}[operator],
        st.sampled_from("|-&"),
        inner,
        inner,
    ),
    max_leaves=6,
)


# Group names


@given(KINDS, TEXT, TEXT, KINDS, TEXT, TEXT)
def test_group_names_are_injective(kind: str, space: str, name: str, kind2: str, space2: str, name2: str) -> None:
    """No two names of whatever namespaces share a group (P4, S53)."""
    same = (kind, space, name) == (kind2, space2, name2)
    assert (group_name(kind, space, name) == group_name(kind2, space2, name2)) is same


@given(TEXT, st.data())
def test_same_text_split_differently(text: str, data: st.DataObject) -> None:
    """Where the namespace ends and the name begins is part of the group (P4)."""
    one, two = (data.draw(st.integers(0, len(text))) for _ in range(2))
    groups = {group_name("room", text[:cut], text[cut:]) for cut in (one, two)}
    assert len(groups) == len({one, two})


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (("a", "b::c"), ("a::b", "c")),
        (("a", "b.c"), ("a.b", "c")),
        (("a", "_62"), ("a", "b")),
        (("a", "_5f62"), ("a", "_b")),
        (("a_", "b"), ("a", "_b")),
        (("a", ""), ("", "a")),
        (("a", "x" * 200), ("a", "x" * 201)),
        (("a", "bc" + "x" * 200), ("ab", "c" + "x" * 200)),
        (("1", "x" * 200), ("", "1" + "x" * 200)),
        (("a", "É" * 40), ("a", "é" * 40)),
        (("a", "e\u0301"), ("a", "é")),
    ],
)
def test_close_names(one: tuple[str, str], two: tuple[str, str]) -> None:
    """Names that a careless join would mix up have groups of their own (P4)."""
    assert group_name("room", *one) != group_name("room", *two)


def test_long_name_is_not_a_readable_one() -> None:
    """A room cannot be called what the hash of a long name is."""
    hashed = group_name("room", "a", "x" * 200)
    digest = hashed.rpartition(".")[2]
    assert hashed not in {group_name(kind, "", digest) for kind in ("room", "room_")}
    assert hashed not in {group_name("room", space, digest) for space in ("", "a", "_")}


@given(KINDS, TEXT, TEXT)
def test_group_names_are_valid(kind: str, namespace: str, name: str) -> None:
    """Every group is one that Channels takes."""
    group = group_name(kind, namespace, name)
    assert len(group) < 100
    assert BaseChannelLayer().require_valid_group_name(group)


@pytest.mark.parametrize(
    ("namespace", "name", "group"),
    [
        ("chat", "lobby", "wsrt.room.chat.lobby"),
        ("chat", "room-7.eu", "wsrt.room.chat.room-7.eu"),
        ("chat.v2", "a b", "wsrt.room.chat_2ev2.a_20b"),
        ("chat", "é", "wsrt.room.chat._c3_a9"),
        ("a", "x" * 87, "wsrt.room.a." + "x" * 87),
    ],
)
def test_group_names_are_readable(namespace: str, name: str, group: str) -> None:
    """A group shows its name as long as there is room for it."""
    assert group_name("room", namespace, name) == group


def test_too_long_by_one() -> None:
    """A group of 100 characters would be refused: the name is hashed."""
    assert group_name("room", "a", "x" * 88).startswith("wsrt.room_.")


# Users


class Pk:
    """Anything with a pk, as a model instance has one."""

    def __init__(self, pk: Any) -> None:
        self.pk = pk


@pytest.mark.parametrize(
    ("user", "key"),
    [
        (7, "7"),
        ("7", "7"),
        (-1, "-1"),
        ("ada", "ada"),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (str(UUID(int=5)), "00000000-0000-0000-0000-000000000005"),
        (Account(pk=7), "7"),
        (Group(pk=7), "auth.group:7"),
        (IntEnum("Number", [("SEVEN", 7)])(7), "7"),
        (StrEnum("Name", [("ADA", "ada")])("ada"), "ada"),
        (Pk("ada"), "ada"),
        (Pk(UUID(int=5)), "00000000-0000-0000-0000-000000000005"),
        (SimpleLazyObject(lambda: Account(pk=7)), "7"),
    ],
)
def test_user_key(user: object, key: str) -> None:
    """A user has one spelling, whatever it is given as: 7 and "7" are one user (P6)."""
    assert user_key(user) == key
    assert to.User(user) == to.User(user_key(user))


class Person(models.Model):
    """A model whose primary key is text that people choose."""

    name = models.CharField(primary_key=True, max_length=50)

    class Meta:
        app_label = "fleet"


class Device(models.Model):
    """Something that signs in with a key of its own."""

    class Meta:
        app_label = "fleet"


class Sensor(Device):
    """A model of its own table beside its parent's."""

    class Meta:
        app_label = "fleet"


class DeviceProxy(Device):
    class Meta:
        app_label = "fleet"
        proxy = True


class AccountProxy(Account):
    class Meta:
        app_label = "fleet"
        proxy = True


class Manager(Account):
    """An account with a table of its own, and a primary key of its own in it."""

    account = models.OneToOneField(Account, models.CASCADE, parent_link=True)
    number = models.IntegerField(primary_key=True)

    class Meta:
        app_label = "fleet"


class Token:
    """A user that isn't a model instance, as simplejwt's TokenUser."""

    is_authenticated = True
    is_anonymous = False

    def __init__(self, pk: Any) -> None:
        self.pk = pk


class Guest(AnonymousUser):
    """An anonymous user that an application gives a key."""

    pk = 7  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("user", "key"),
    [
        (AccountProxy(pk=7), "7"),
        (Manager(number=1, id=7), "7"),
        (Token(7), "7"),
        (Token("ada"), "ada"),
        (Device(pk=7), "fleet.device:7"),
        (DeviceProxy(pk=7), "fleet.device:7"),
        (Sensor(pk=7), "fleet.sensor:7"),
        (Person(pk="fleet.device:7"), "fleet.person:fleet.device:7"),
    ],
)
def test_key_of_an_instance(user: object, key: str) -> None:
    """The users of Django are their primary key, proxies and children too; other models have their name before it."""
    assert user_key(user) == key


def test_user_who_is_called_like_an_instance_of_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whose primary key looks like the key of a device has another key than the device."""
    monkeypatch.setattr(to, "auth_user_model", lambda: "fleet.Person")
    device, ada, mallory = (user_key(user) for user in (Device(pk=7), Person(pk="ada"), Person(pk="fleet.device:7")))
    twice = user_key(Person(pk="fleet.person:fleet.device:7"))
    assert (device, ada, mallory) == ("fleet.device:7", "ada", "fleet.person:fleet.device:7")
    assert twice == "fleet.person:fleet.person:fleet.device:7"
    assert user_key(Token("fleet.device:7")) == mallory


@pytest.mark.parametrize("text", ["fleet.device:7", "auth.user:7", "a.b:", "acme.com:7"])
def test_id_that_looks_like_the_key_of_an_instance(text: str) -> None:
    """No id that an application or a client makes up is the key of a model instance: it is refused."""
    with pytest.raises(ValueError, match=r"looks like the key of a model instance.*pass the instance, or UserKey"):
        to.User(text)


@pytest.mark.parametrize(
    "text", ["a:7", "a.b.c:7", "7.b:7", "a.:7", ".b:7", "a.b", "red:7", "ada@example.com", "a b.c:7"]
)
def test_id_that_nearly_looks_like_the_key_of_an_instance(text: str) -> None:
    """Any other text is an id as it is."""
    assert to.User(text).id == text


@given(st.lists(st.one_of(TEXT.map(Token), TEXT.map(Person), st.integers().map(Token)), min_size=2, max_size=2))
def test_user_keys_are_injective(users: list[Any]) -> None:
    """Two users share a key only where they are of one kind and have one primary key."""
    one, two = ((isinstance(user, Person), str(user.pk)) for user in users)
    try:
        keys = [user_key(user) for user in users]
    except ValueError:
        return  # text that can be no user's
    assert (keys[0] == keys[1]) is (one == two)


def test_key_is_taken_as_it_is() -> None:
    """What a consumer or presence gave as the key of a user names that user again, also after a pickle."""
    key = user_key(Device(pk=7))
    for again in (key, UserKey(str(key)), pickle.loads(pickle.dumps(key))):
        assert to.User(again) == to.User(Device(pk=7))


def test_primary_key_of_a_key() -> None:
    """The key of a user of Django's gives back the primary key; that of another instance gives none."""
    for pk in ("7", "ada", "fleet.device:7", "auth.user:7"):
        assert auth_user_pk(auth_user_key(pk)) == pk
    assert auth_user_pk(user_key(Device(pk=7))) is None


@pytest.mark.parametrize(
    "user",
    [
        None,
        True,
        False,
        7.0,
        b"7",
        (),
        object(),
        AnonymousUser(),
        Account(),
        Account,
        Pk(True),
        Pk(7.0),
        Pk(Pk(7)),
        Guest(),
        Decimal(7),
    ],
)
def test_no_user(user: object) -> None:
    """A value that isn't a user raises TypeError, the anonymous user too."""
    with pytest.raises(TypeError, match="a user must be"):
        to.User(user)


def test_anonymous_user() -> None:
    """The error says why an anonymous user cannot be meant."""
    with pytest.raises(TypeError, match="anonymous user has no address"):
        to.User(AnonymousUser())


# Values that aren't addresses


@pytest.mark.parametrize("kind", [to.Room, to.User, to.Connection])
@pytest.mark.parametrize("text", ["", "\ud800", "a\udfff"])
def test_unusable_text(kind: Any, text: str) -> None:
    """An empty name, and one that UTF-8 cannot carry, raise ValueError."""
    with pytest.raises(ValueError, match=r"must not be empty|UTF-8"):
        kind(text)


def test_long_room(settings: Any) -> None:
    """A room name has a limit in bytes; the error says so, and doesn't quote the name."""
    assert to.Room("x" * 255).name
    with pytest.raises(InvalidRoom, match=r"255 bytes \(MAX_ROOM_NAME\), this one has 256") as caught:
        to.Room("é" * 128)
    assert "é" not in str(caught.value)
    settings.WSRT = {"MAX_ROOM_NAME": 3}
    assert to.Room("abc")
    for call in (
        lambda: publish_to_room("abcd", Event()),
        lambda: add_to_room(to.User(1), "abcd", namespace="x"),
        lambda: remove_from_room(to.User(1), "abcd", namespace="x"),
        lambda: to.Room("a") | to.Room("abcd"),
    ):
        with pytest.raises(InvalidRoom):
            call()


async def test_presence_of_a_long_room() -> None:
    """Presence asks for no such room either."""
    for question in (presence.amembers("x" * 256), presence.acount("x" * 256)):
        with pytest.raises(InvalidRoom):
            await question


@pytest.mark.parametrize("kind", [to.Room, to.Connection])
@pytest.mark.parametrize("value", [None, 7, b"lobby", ["lobby"]])
def test_wrong_type(kind: Any, value: object) -> None:
    """A name that isn't a string raises TypeError, and isn't converted."""
    with pytest.raises(TypeError, match="must be a str, not"):
        kind(value)


@pytest.mark.parametrize("name", ["wsrt.", "wsrt.lobby"])
def test_reserved_room(name: str) -> None:
    """Room names that begin with "wsrt." are the library's own."""
    with pytest.raises(ValueError, match="reserved"):
        to.Room(name)


@pytest.mark.parametrize("name", ["wsrt", "wsrtx", "WSRT.a", "a.wsrt.", " "])
def test_nearly_reserved_room(name: str) -> None:
    """Any other name is a room, odd as it may be."""
    assert to.Room(name).name == name


@pytest.mark.parametrize("other", ["lobby", None, 7, {to.User(1)}])
def test_operator_with_something_else(other: Any) -> None:
    """An operator between an address and anything else raises TypeError, on either side."""
    for combine in (lambda a, b: a | b, lambda a, b: a - b, lambda a, b: a & b):
        with pytest.raises(TypeError, match="unsupported operand"):
            combine(to.Room("a"), other)
        with pytest.raises(TypeError, match="unsupported operand"):
            combine(other, to.Room("a"))


def test_addresses_are_values() -> None:
    """Equal addresses are equal and hash alike; none can be changed."""
    assert {to.Room("a"), to.Room("a"), to.Everyone(), to.Everyone()} == {to.Room("a"), to.Everyone()}
    assert to.Room("a") != to.Connection("a")
    with pytest.raises(AttributeError):
        to.Room("a").name = "b"  # type: ignore[misc]


# Expressions


@pytest.mark.parametrize(
    ("audience", "text"),
    [
        (to.Room("a"), "Room('a')"),
        (to.User(7), "User('7')"),
        (to.Connection("n-1"), "Connection('n-1')"),
        (to.Everyone(), "Everyone()"),
        (to.User(Device(pk=7)), "User(UserKey('fleet.device:7'))"),
        (to.Rooms(["a", "b", "a"]), "Rooms(['a', 'b'])"),
        (to.Users([7, "8", 7, Device(pk=7)]), "Users(['7', '8', UserKey('fleet.device:7')])"),
        (to.Room("a") | to.Room("b") - to.User(7), "(Room('a') | (Room('b') - User('7')))"),
        (to.Room("a") & to.Room("b") - to.User(7), "(Room('a') & (Room('b') - User('7')))"),
        (to.Room("a") | to.Room("b") & to.User(7), "(Room('a') | (Room('b') & User('7')))"),
        ((to.Room("a") | to.Room("b")) - to.User(7), "((Room('a') | Room('b')) - User('7'))"),
        (to.Room("a") - to.User(1) - to.User(2), "((Room('a') - User('1')) - User('2'))"),
    ],
)
def test_repr(audience: Audience, text: str) -> None:
    """The repr shows how Python bound the operators, and evaluates to the same."""
    assert repr(audience) == text
    assert eval(text, vars(to)) == audience


@pytest.mark.parametrize(
    ("audience", "groups"),
    [
        (to.Room("a"), {"wsrt.room.chat.a"}),
        (to.User(7), {"wsrt.user.chat.7"}),
        (to.Everyone(), {"wsrt.everyone.chat."}),
        (to.Connection("0af-12"), {"wsrt.node..0af"}),
        (to.Rooms(["a", "b"]), {"wsrt.everyone.chat."}),
        (to.Users(range(9)), {"wsrt.everyone.chat."}),
        (to.Rooms([]), set()),
        (to.Users([]), set()),
        (to.Room("a") | to.User(7), {"wsrt.room.chat.a", "wsrt.user.chat.7"}),
        (to.Room("a") - to.User(7), {"wsrt.room.chat.a"}),
        (to.Room("a") & to.User(7), {"wsrt.room.chat.a"}),
        ((to.Room("a") | to.Room("b")) - to.Connection("0af-12"), {"wsrt.room.chat.a", "wsrt.room.chat.b"}),
        (to.Room("a") | to.Room("a"), {"wsrt.room.chat.a"}),
    ],
)
def test_groups(audience: Audience, groups: set[str]) -> None:
    """An audience names the groups of those who may be in it, each once, all in one namespace (A1, A2, A3, A4)."""
    assert audience.groups("chat") == groups


@pytest.mark.parametrize("address", [to.Rooms, to.Users])
def test_listed(address: Any) -> None:
    """Rooms and users are listed, and not by a single string; an address has a bounded number of them."""
    for wrong in ("ab", b"ab", 7, None):
        with pytest.raises(TypeError, match=f"must be an iterable of {address.__name__.lower()}, not .*; for a single"):
            address(wrong)
    assert len(address(map(str, range(10_000))).to_message()) == 10_001
    with pytest.raises(ValueError, match="an address takes at most 10,000"):
        address(map(str, itertools.count()))
    with pytest.raises(TypeError):
        address([None])
    with pytest.raises(ValueError, match="empty"):
        address([""])


def test_groups_of_two_namespaces() -> None:
    """No namespace means no wider scope: a name has another group in each, the empty one too (A2)."""
    groups = [
        group for space in ("", "a", "b") for group in (to.Room("x") | to.User("x") | to.Everyone()).groups(space)
    ]
    assert len(set(groups)) == 9


def test_node_of_a_connection() -> None:
    """A connection's id names its node, whose group is the one that its address uses."""
    assert node_of("0af-12") == "0af"
    assert to.Connection("0af-12").groups("any") == {node_group("0af")}


# The wire


@given(AUDIENCES)
def test_round_trip(audience: Audience) -> None:
    """What goes through the layer as plain data comes back as the same address."""
    assert from_message(json.loads(json.dumps(audience.to_message()))) == audience


@pytest.mark.parametrize(
    "data",
    [
        [],
        None,
        7,
        "room",
        {"room": "a"},
        ["room"],
        ["room", 7],
        ["room", ""],
        ["room", "wsrt.x"],
        ["room", "a", "b"],
        ["user", None],
        ["everyone", "now"],
        ["^", ["everyone"], ["everyone"]],
        ["|", ["everyone"]],
        ["|", ["everyone"], ["planet"]],
    ],
)
def test_unknown_data(data: Any) -> None:
    """Data of no known kind raises ValueError: a newer release may have sent it."""
    with pytest.raises(ValueError, match=r"unknown address|room name"):
        from_message(data)


def test_pk_of_another_type() -> None:
    """The error for a pk of another type, such as a composite one, differs from the one for a missing pk."""

    class Member:
        pk: Any = (1, 2)

    with pytest.raises(TypeError, match=r"but that of Member is a tuple: pass str\(\) of it instead of the user"):
        user_key(Member())
    Member.pk = None
    with pytest.raises(TypeError, match="not Member without a pk"):
        user_key(Member())
