"""What has to be right by the type checker, and by Python."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TypeAlias
from uuid import UUID

from client import (
    UNSET,
    CafeClient,
    Client,
    Delivery,
    EveryTypeClient,
    OddClient,
    RequestError,
    Subscription,
    SubscriptionState,
    Unset,
)
from client.cafe import CoffeeInput, Extras, Matrix, Order, Ordered, Ring, SoldOut, TeaInput
from client.every_type import (
    Answer,
    Ask,
    BoxIntInput,
    BoxStrInput,
    Cat,
    CatInput,
    Dog,
    Everything,
    EverythingInput,
    Numbers,
    TreeInput,
)
from client.mail import Message as MailMessage
from client.news import Message as NewsMessage
from client.odd import Odd
from pydantic import AnyUrl

Pet: TypeAlias = Cat | Dog

every = EveryTypeClient("wss://example.com/every-type/", token="t")
clients: list[Client] = [every, CafeClient("ws://localhost/"), OddClient(f"wss://example.com{OddClient.path(id=7)}")]

everything = EverythingInput(
    text="",
    number=1,
    ratio=0.5,
    flag=True,
    nothing=None,
    anything={"any": ["thing"]},
    raw=b"hi",
    when=dt.datetime(2026, 1, 31, tzinfo=dt.UTC),
    day=dt.date(2026, 1, 31),
    clock=dt.time(12),
    took=dt.timedelta(seconds=1),
    price=Decimal("12.50"),
    key=UUID("7a6b1a1e-4f0c-4ad5-9f42-0f4a3c2b1d10"),
    colour="red",
    level=2,
    word=3,
    maybe=None,
    either="a",
    pet=CatInput(kind="cat"),
    names=["a"],
    unique={1},
    pair=(1, "a"),
    many=[],
    mapping={"a": 1},
    by_number={"1": "a"},
    tree=TreeInput(value=1, children=[TreeInput(value=2)]),
    box=BoxIntInput(item=1),
    boxes=[BoxStrInput(item="a", count=2)],
    re_named=1,
    bounded=1,
    link=AnyUrl("https://example.com/"),
)
order = Order(drink=TeaInput(), size="small", table=1, route=(1, "a"), at=(1,), extras=Extras(milk=True))


def shown(pet: Pet) -> str:
    return str(pet.lives) if pet.kind == "cat" else pet.name


# Events in.
every.on(Everything, lambda event: shown(event.pet) + event.text.strip())


async def numbers(event: Numbers, delivery: Delivery) -> None:
    print(sum(event.root), delivery.room)


unsubscribe = every.on(Numbers, numbers)
unsubscribe()


async def follow() -> int:
    total = 0
    async for event in every.events(Everything):
        total += event.number + event.tree.children[0].value + event.re_named
    return total


# Events out: what has a default may be left out.
async def requests() -> None:
    echo: Everything = await every.request(everything)
    maybe: Answer | None = await every.request(Ask(), timeout=5)
    await every.request(Numbers([1, 2]), queue=True)
    how: str = await every.send(Ask(question="?"), queue=True)
    cafe = CafeClient("ws://localhost/")
    reply: Ordered | SoldOut = await cafe.request(order)
    until = reply.until if isinstance(reply, SoldOut) else reply.id
    matrix: list[list[int | None]] = (await cafe.request(Matrix([[1, None]]))).root
    await cafe.request(Ring())
    await cafe.request(Order(drink=CoffeeInput(shots=2), size="large", table=1, route=(1, "a")))
    print(echo, maybe, how, until, matrix)


# Rooms that clients may ask for.
async def rooms(client: CafeClient) -> None:
    async with client.subscribe("table.7") as subscription:
        state: SubscriptionState = subscription.state
        error: Exception | None = subscription.error
        print(subscription.room.upper(), state, error)
    kitchen: Subscription = client.subscribe("kitchen", lambda changed: print(changed.state))
    await kitchen.ready()
    kitchen.unsubscribe()


async def odd(client: OddClient, event: Odd) -> None:
    try:
        print((await client.request(event)).with_space)
    except RequestError as error:
        print(error.code, [each.loc for each in error.errors])


# Who is there, what was left out, names that several have.
room = every.rooms.get("a")
left_out: str | Unset = everything.left_out
is_left_out: bool = everything.left_out is UNSET
messages = (NewsMessage(headline=""), MailMessage(subject=""))
