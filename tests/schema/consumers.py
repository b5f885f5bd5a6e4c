"""A consumer that uses every type of which the documentation has a row."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import AnyUrl, BaseModel, Field

from wsrt import Event, RootEvent, TypedEventConsumer, on

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Box(BaseModel, Generic[T]):
    item: T
    count: int = 1


class Everything(Event, name="everything"):
    """One field of each type."""

    text: str
    number: int
    ratio: float
    flag: bool
    nothing: None
    anything: object
    raw: bytes
    when: dt.datetime
    day: dt.date
    clock: dt.time
    took: dt.timedelta
    price: Decimal
    key: uuid.UUID
    colour: Colour
    level: Level
    word: Literal["a", "b", 3]
    maybe: str | None
    left_out: str = "default"
    made: list[int] = Field(default_factory=list)
    either: int | str
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    names: list[str]
    unique: set[int]
    pair: tuple[int, str]
    many: tuple[int, ...]
    mapping: dict[str, float]
    by_number: dict[int, str]
    tree: Tree
    box: Box[int]
    boxes: list[Box[str]]
    renamed: int = Field(alias="re-named")
    bounded: Annotated[int, Field(ge=1, le=10)]
    link: AnyUrl


class Numbers(RootEvent[list[int]], name="numbers"):
    """Data that isn't an object."""


class Ask(Event, name="ask", rate="2/s"):
    question: str = "?"


class Answer(Event, name="answer / with: odd name"):
    answer: int


class EveryTypeConsumer(TypedEventConsumer):
    """Uses every type."""

    namespace = "every-type"
    out_events = (Everything, Numbers)
    presence = Cat

    @on
    async def take_everything(self, event: Everything) -> Everything:
        return event

    @on
    async def take_numbers(self, event: Numbers) -> None:
        """Take them."""

    @on
    async def ask(self, event: Ask) -> Answer | None:
        return Answer(answer=1) if event.question else None
