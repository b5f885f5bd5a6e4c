"""Consumers that type checkers accept in strict mode."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any, Literal, assert_type

from django.contrib.auth.models import AnonymousUser, User

from wsrt import Event, RoomPresence, RootEvent, TypedEventConsumer, abroadcast, on
from wsrt.testing import connect


class Ask(Event, name="ask", rate="2/s"):
    text: str


class Search(Event, name="search"):
    text: str


class Tags(RootEvent[list[str]], name="tags"): ...


class Answer(Event, name="answer"):
    text: str


class AnswerConsumer(TypedEventConsumer):
    """Handlers of every kind, for everyone."""

    namespace = "typed"
    out_events = (Answer,)

    async def on_connect(self) -> None:
        user: User | AnonymousUser = self.user
        name: str = self.user.username
        if isinstance(user, User):
            name = user.first_name
        await self.join("lobby", key="greeting")
        await self.leave("lobby", key="greeting")
        await self.send(Answer(text=name + user.get_username()))

    @on
    async def ask(self, event: Ask) -> Answer:
        counting = self.create_task(self.count(event.text), name="count")
        assert_type(counting, asyncio.Task[int])
        return Answer(text=event.text * await counting)

    async def count(self, text: str) -> int:
        return len(text)

    @on(concurrent=4)
    async def search(self, event: Search) -> Answer:
        return Answer(text=event.text)

    @on(Tags, concurrent=1)
    def tags(self, event: Event) -> Answer | None:
        self.sync.broadcast(Answer(text=str(event)))
        self.sync.join("lobby", key="tags")
        self.sync.leave("lobby", key="tags")
        return None


class UnionConsumer(TypedEventConsumer):
    """One handler for two events."""

    namespace = "typed.union"

    @on
    async def either(self, event: Ask | Tags) -> None:
        text = event.text if isinstance(event, Ask) else ", ".join(event.root)
        await self.publish_to_room("lobby", Answer(text=text))


class MemberConsumer(TypedEventConsumer[User]):
    """Members only."""

    namespace = "typed.members"

    presence = True

    async def authorize(self) -> bool:
        return bool(self.user.is_authenticated)

    async def room_presence(self, room: str) -> RoomPresence:
        how = await super().room_presence(room)
        assert_type(how, Literal["visible", "invisible", "off"])
        return "invisible" if self.user.is_staff else how

    @on(Ask)
    async def ask(self, event: Ask, loud: bool = False) -> Answer:
        return Answer(text=f"{self.user.first_name}: {event.text.upper() if loud else event.text}")


class RoomConsumer(TypedEventConsumer):
    """Rooms that clients choose."""

    namespace = "typed.rooms"
    out_events = (Answer,)
    subscriptions = ("room.<int:pk>",)

    async def authorize_room(self, room: str) -> bool:
        return room in {pattern.text for pattern in self.room_patterns}


class LoudConsumer(MemberConsumer):
    """A subclass that calls a handler of its parent."""

    @on
    async def ask(self, event: Ask, loud: bool = True) -> Answer:
        return await super().ask(event)


class Login(Event, name="login"):
    token: str


class TokenConsumer(TypedEventConsumer[User]):
    """Clients that log in with a token."""

    namespace = "typed.tokens"
    expires: datetime.datetime | None = None

    async def authenticate(self, event: Login) -> User | None:
        return await User.objects.filter(username=event.token).afirst()

    async def expires_at(self) -> datetime.datetime | None:
        return self.expires


class OwnLoginConsumer(TokenConsumer):
    """A subclass with a login of its own."""

    async def authenticate(self, event: Login) -> User | None:
        return await super().authenticate(event)


class Robot:
    """A user that is not a model."""

    is_authenticated = True
    serial = 7


class RobotConsumer(TypedEventConsumer[Robot]):
    """Another type of user."""

    namespace = "typed.robots"

    async def identity(self) -> object:
        return self.user.serial


def routes() -> list[Any]:
    return [consumer.as_asgi(rate="5/s") for consumer in (AnswerConsumer, MemberConsumer, RobotConsumer)]


async def talk() -> None:
    async with connect(AnswerConsumer) as client:
        await client.request(Ask(text="hi"))
    async with connect(TokenConsumer, login=Login(token="ada")) as token_client:
        await token_client.request(Login(token="ada"))
    await abroadcast(Answer(text="bye"), namespace="typed")
    async with connect(RoomConsumer, subprotocols=["wsrt.v1"]) as client:
        await client.subscribe("room.1")
        await client.unsubscribe("room.1")
