"""What the type checker must refuse: each line that ends with a comment, for the reason that this gives."""

from __future__ import annotations

from client import CafeClient, ChatClient, EveryTypeClient, OddClient
from client.cafe import Extras, Matrix, Order, Ordered, Ring, SoldOut, TeaInput
from client.chat import Say
from client.every_type import Answer, Ask, BoxIntInput, CatInput, Dog, Everything, Numbers, TreeInput

every = EveryTypeClient("ws://localhost/")
cafe = CafeClient("ws://localhost/")
tea = TeaInput()

# Data out.
Order()  # call-arg: fields are missing
Order(drink=tea, size="small", table=1)  # call-arg: a field is missing
Order(drink=tea, size="huge", table=1, route=(1, "a"))  # arg-type: no such value of the enumeration
Order(drink=tea, size="small", table="1", route=(1, "a"))  # arg-type: text for a number
Order(drink=tea, size="small", table=1, route=(1,))  # arg-type: too few items
Order(drink=tea, size="small", table=1, route=(1, "a", 2))  # arg-type: too many items
Order(drink=Dog(kind="dog", name=""), size="small", table=1, route=(1, "a"))  # arg-type: none of the members
Order(drink=tea, size="small", table=1, route=(1, "a"), tip=1)  # call-arg: no such field
Order(drink=tea, size="small", table=1, route=(1, "a"), waiter=None)  # arg-type: null where none is allowed
Order(drink=tea, size="small", table=1, route=(1, "a"), extras={"milk": "yes"})  # arg-type: wrong values
Order(drink=tea, size="small", table=1, route=(1, "a"), at=())  # arg-type: too few items
CatInput(kind="cow")  # arg-type: no such discriminator
TeaInput(kind="coffee")  # arg-type: another discriminator
TreeInput(value=1, children=[{}])  # list-item: wrong items
BoxIntInput(item="a")  # arg-type: another parameter of a generic model
Extras(sugar="much")  # arg-type: text for a number
Matrix([["2"]])  # list-item: wrong items of items
Say(room="a", txt="")  # call-arg: no such field
Ring(bell=1)  # call-arg: a field where there is none

# Events.
every.on(Ask, print)  # type-var: an event that the server never sends
every.events(Order)  # type-var: an event that the server never sends
every.on("everything", print)  # call-overload: the name in place of the class


def handler(event: Everything) -> None:
    event.txt  # attr-defined: no such field
    event.maybe.strip()  # union-attr: it may be null
    event.pet.lives  # union-attr: not before it is known which


every.on(Numbers, handler)  # arg-type: a handler of other events


# Requests.
async def requests() -> None:
    await every.request(Answer(answer=1))  # arg-type: an answer isn't a request
    await cafe.send(SoldOut(until=None))  # arg-type: an event that the client never sends
    (await every.request(Ask())).answer  # union-attr: it may be answered without data
    (await cafe.request(Order.model_construct())).id  # union-attr: not before it is known which
    answer: Answer = await every.request(Numbers([1]))  # arg-type: it is answered without data
    wrong: Everything = await cafe.request(Matrix([[1]]))  # arg-type: another answer
    (await cafe.request(Matrix([]))).root.strip()  # attr-defined: no such method
    print(answer, wrong, Ordered)


# Rooms.
cafe.subscribe(7)  # arg-type: a room has a name
cafe.subscribe("kitchen", 5)  # arg-type: a handler is needed
cafe.subscribe("kitchen").state = "ended"  # misc: the state can only be read

# Paths.
OddClient.path()  # call-arg: a parameter is missing
OddClient.path(id=1, name="a")  # call-arg: no such parameter
OddClient.path(id=None)  # arg-type: nothing for a parameter
ChatClient.path(rom="a")  # call-overload: no such parameter
