"""Events of the test application: each asks the server for one thing that a test wants to see."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, create_model

from wsrt import Event


class Join(Event, name="join"):
    room: str


class Leave(Event, name="leave"):
    room: str


class Say(Event, name="say"):
    room: str
    text: str = Field(min_length=1, max_length=5000)


class Said(Event, name="said"):
    text: str


class Whisper(Event, name="whisper"):
    """To the user with this id."""

    user: str
    text: str


class Login(Event, name="login"):
    """Bind the connection to a user id."""

    user: str


class Echo(Event, name="echo"):
    value: Any = None


class Echoed(Event, name="echoed"):
    value: Any = None


class Burst(Event, name="burst"):
    """Send so many events to this client, or publish them to a room."""

    count: int
    size: int = 10
    room: str | None = None


class Slow(Event, name="slow"):
    seconds: float


class Look(Event, name="look"):
    """Take a while, alongside other handlers."""

    seconds: float = 0.0


class Linger(Event, name="linger"):
    """Start a task that takes a while to end."""

    seconds: float


class Crash(Event, name="crash"):
    kind: str = "error"


class Bye(Event, name="bye"):
    """Send, then close."""

    code: int = 1000
    reason: str = ""


class Large(Event, name="large"):
    """Send a frame of this size past the limits of the server."""

    size: int


class Kick(Event, name="kick"):
    user: str


class Typing(Event, name="typing", overflow="drop"):
    user: str


class Price(Event, name="price", overflow="latest", key="symbol"):
    symbol: str
    value: int


class Rename(Event, name="rename"):
    name: str


class Circle(BaseModel):
    x: int
    y: int
    radius: int


class Square(BaseModel):
    left: int
    top: int
    side: int


class Oval(BaseModel):
    middle: int
    width: int
    height: int


class Branch(BaseModel):
    kids: list[Branch | Twig] = []
    branch: int = 0


class Twig(BaseModel):
    kids: list[Branch | Twig] = []
    twig: int = 0


Form = create_model("Form", **{f"field_{number}": (int, ...) for number in range(50)})  # type: ignore[call-overload]


class Draw(Event, name="draw"):
    """Of many shapes: data that fails it can be wrong in very many ways."""

    shapes: list[Circle | Square | Oval] = []
    named: dict[str, Circle | Square | Oval] = {}
    tree: Branch | Twig | None = None
    form: Form | None = None
