"""Consumers that are hard on generators: names that languages use themselves, texts that would end comments."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue, RootModel
from typing_extensions import TypedDict

from wsrt import Event, RootEvent, TypedEventConsumer, on


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


class Tea(BaseModel):
    """A drink."""

    kind: Literal["tea"] = "tea"
    minutes: int = 3


class Coffee(BaseModel):
    kind: Literal["coffee"] = "coffee"
    shots: int


class Point(NamedTuple):
    x: int
    y: int = 0


class Extras(TypedDict, total=False):
    sugar: int
    milk: bool


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, int]
    name: str = "none"


class Forest(RootModel[list["Forest"]]):
    """Refers to itself without fields."""


class Order(Event, name="order"):
    """
    What somebody wants */ alert(1) /*.

    `backticks`, ${templates} and
    /a line like a comment
    """

    drink: Annotated[Tea | Coffee, Field(discriminator="kind")]
    size: Size
    table: int = Field(ge=1, description="Where they */ sit.\n@deprecated is no tag of ours.")
    note: str | None = Field(default=None, max_length=80, pattern="^[^*/]*/$")
    waiter: str = Field(default="*/", deprecated=True)
    route: tuple[int, str]
    at: Point = Point(0)
    extras: Extras = Field(default_factory=lambda: Extras())
    more: Extra = Extra()
    guests: set[dt.date] = set()
    forest: Forest = Forest([])
    raw: JsonValue = None


class Ordered(Event, name="ordered"):
    id: int
    drink: Annotated[Tea | Coffee, Field(discriminator="kind")]
    extras: Extras
    waiter: str = Field(default="", deprecated=True, description="Who brings it.")


class SoldOut(Event, name="sold out"):
    until: dt.datetime | None = None


class Ring(Event, name="ring"):
    """Without fields."""


class Matrix(RootEvent[list[list[int | None]]], name="matrix"):
    pass


class Price(Event, name="price", overflow="latest", key="what"):
    what: str
    value: float


class Seen(Event, name="seen", overflow="drop"):
    by: str


class CafeConsumer(TypedEventConsumer):
    namespace = "generate-cafe"
    out_events = (Price, Seen)
    subscriptions = ("table.<int:number>", "kitchen", "<slug:part>/`${\"\\'}`")

    async def authorize_room(self, room: str) -> bool:
        return room != "table.0"

    @on
    async def order(self, event: Order) -> Ordered | SoldOut:
        return SoldOut()

    @on
    async def ring(self, event: Ring) -> None:
        """Bring."""

    @on
    async def matrix(self, event: Matrix) -> Matrix:
        return event


def model(name: str, **fields: Any) -> type[BaseModel]:
    """Return a model of any name, with fields of these names."""
    names = {"__annotations__": {"value": int}, "__module__": __name__, "__qualname__": name}
    return type(BaseModel)(name, (BaseModel,), names | fields)


TAKEN = (
    *("Client", "Status", "Context", "PathParameter", "Wsrt"),
    *("OddClient", "OddReceives", "OddSends", "OddReplies", "OddClientModel"),
    *("Array", "Map", "Record", "Object", "String", "Symbol", "Promise", "Omit", "NaN", "string", "any", "never"),
)
"""Names of the runtime, of what is generated, and of languages."""


class Odd(Event, name="__proto__"):
    proto: int = Field(alias="__proto__")
    constructor: int
    default: int = Field(alias="default")
    spaced: int = Field(alias="with space")
    quoted: int = Field(alias='"')
    line: int = Field(alias="\n\u2028\\")
    ends: int = Field(alias="*/")
    empty: int = Field(alias="")
    text: Literal["*/", "\n", "\u202e", "'\"`${0}", ""]
    sign: Literal[-1, 0, True, None]
    taken: tuple[tuple(model(name) for name in TAKEN)]  # type: ignore[misc]


class Numeric(Event, name="1"):
    pass


class Kata(Event, name="`${x}` */ \n"):
    """*/"""


class OddConsumer(TypedEventConsumer):
    """*/ alert(1) /*"""

    namespace = "generate-odd"
    out_events = (Odd, Numeric)

    @on
    async def odd(self, event: Odd) -> Odd:
        return event

    @on
    async def numeric(self, event: Numeric) -> Kata:
        return Kata()


class OneMessage(BaseModel):
    text: str


class SameInBoth(BaseModel):
    message: OneMessage


def _namesake(consumer: str, field: str) -> type[TypedEventConsumer]:
    inner = type(BaseModel)(
        "Message", (BaseModel,), {"__annotations__": {field: str}, "__module__": __name__, "__qualname__": "Message"}
    )

    class Said(Event, name="said"):
        message: inner  # type: ignore[valid-type]
        same: SameInBoth

    class Namesake(TypedEventConsumer):
        namespace = f"generate-{consumer.lower()}"
        out_events = (Said,)

    Namesake.__name__ = consumer
    return Namesake


NewsConsumer = _namesake("NewsConsumer", "headline")
MailConsumer = _namesake("MailConsumer", "subject")
IndexConsumer = _namesake("IndexConsumer", "subject")
