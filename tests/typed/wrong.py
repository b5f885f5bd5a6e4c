"""What type checkers must refuse: each line that ends with a comment, for the reason that mypy gives there."""

from __future__ import annotations

from typing import assert_type

from right import Answer, Ask

from wsrt import Event, RoomPresence, TypedEventConsumer, abroadcast, apublish_to_room, on


class WrongConsumer(TypedEventConsumer):
    """Handlers that can't work."""

    @on  # type-var: a dict is not an event
    async def answers_with_a_dict(self, event: Ask) -> dict[str, str]:
        return {"text": event.text}

    @on  # type-var: a str is not an event
    async def takes_text(self, event: str) -> None: ...

    @on  # type-var: a dict is not an event
    def takes_a_dict(self, event: dict[str, str]) -> None: ...

    @on  # arg-type: there is no event
    async def takes_nothing(self) -> None: ...

    @on  # arg-type: one event, not two
    async def takes_two(self, event: Ask, other: Answer) -> None: ...

    @on(Ask)  # type-var: a dict is not an event
    async def answers(self, event: Event) -> dict[str, str]:
        return {}

    @on(concurrent=2)  # type-var: a dict is not an event
    async def concurrent(self, event: Ask) -> dict[str, str]:
        return {}

    @on(concurrent="2")  # call-overload: a number of runs
    async def by_text(self, event: Ask) -> None: ...

    @on("ask")  # call-overload: a name is not an event
    async def by_name(self, event: Ask) -> None: ...

    async def room_presence(self, room: str) -> RoomPresence:
        return "hidden"  # return-value: one of three words

    async def expires_at(self) -> str:  # override: text is not a time
        return "tomorrow"

    async def on_connect(self) -> None:
        await self.send(text_data="hi")  # call-arg: Channels sends text
        await self.send("hi")  # arg-type: text is not an event
        await self.accept()  # attr-defined: wsrt accepts
        await self.send_json({})  # attr-defined: events, not JSON
        self.groups  # attr-defined: rooms, not groups
        await self.publsh_to_room("lobby", Answer(text="hi"))  # attr-defined: misspelt
        await self.join("lobby", "map")  # call-arg: a key is named
        await self.leave("lobby", key=7)  # arg-type: a key is a str
        self.send(Answer(text="hi"))  # unused-coroutine: never awaited
        abroadcast(Answer(text="hi"))  # unused-coroutine: never awaited
        apublish_to_room("lobby", Answer(text="hi"))  # unused-coroutine: never awaited
        self.create_task(self.on_connect)  # arg-type: a method, not its coroutine
        self.user.first_name  # union-attr: the user may be anonymous
        self.user.username.no_such_method()  # attr-defined: the name is a str


WrongConsumer("scope", "receive", "send")  # arg-type: as_asgi() is forgotten
WrongConsumer.as_asgi("scope")  # arg-type: it takes the attributes of the class
assert_type(WrongConsumer().user.username, int)  # assert-type: it is a str
