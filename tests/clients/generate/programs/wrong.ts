/** What must not compile: each line that ends with a comment, for the reason that this gives. */

import { CafeClient, ChatClient, EveryTypeClient, HereClient, OddClient } from "./client/index.js";
import type { Cat, Dog, Everything, EverythingInput, Order, Tea } from "./client/index.js";
import { hooks } from "./client/runtime/react.js";
import { eventStore } from "./client/runtime/store.js";

declare const every: EveryTypeClient, cafe: CafeClient, odd: OddClient, input: EverythingInput, pet: Cat | Dog;
declare const order: Order;

// Names of events.
every.on("everythin", () => {}); // TS2345: no such event
every.on("ask", () => {}); // TS2345: an event that the server never sends
every.send("everythin", input); // TS2345: no such event
cafe.send("price", { what: "", value: 1 }); // TS2345: an event that the client never sends
void cafe.request("sold out", {}); // TS2345: an answer isn't a request
void odd.request("`${x}` */ \n", {}); // TS2345: an answer isn't a request

// Data out.
every.send("everything"); // TS2554: data is missing
every.send("everything", { ...input, number: "1" }); // TS2322: text for a number
every.send("everything", { ...input, extra: 1 }); // TS2353: no such field
every.send("everything", { ...input, colour: "green" }); // TS2322: no such value of the enumeration
every.send("everything", { ...input, level: 3 }); // TS2322: no such value of the enumeration
every.send("everything", { ...input, word: "c" }); // TS2322: none of the literals
every.send("everything", { ...input, pet: { kind: "cow" } }); // TS2322: no such discriminator
every.send("everything", { ...input, pet: { kind: "dog", lives: 9 } }); // TS2353: fields of another member
every.send("everything", { ...input, text: null }); // TS2322: null where none is allowed
every.send("everything", { ...input, maybe: undefined }); // TS2322: undefined isn't null
every.send("everything", { ...input, left_out: undefined }); // TS2379: left out is not undefined
every.send("everything", { ...input, pair: [1] }); // TS2322: too few items
every.send("everything", { ...input, pair: [1, "a", 2] }); // TS2322: too many items
every.send("everything", { ...input, names: [1] }); // TS2322: wrong items
every.send("everything", { ...input, mapping: { a: "1" } }); // TS2322: wrong values
every.send("everything", { ...input, tree: { value: 1, children: [{}] } }); // TS2741: a field is missing below
every.send("everything", { ...input, renamed: 1 }); // TS2561: the name in Python is not that on the wire
every.send("everything", { ...input, nothing: 0 }); // TS2322: anything but null
every.send("numbers", {}); // TS2345: an object for a list
cafe.send("ring", { bell: 1 }); // TS2322: a field where there is none
cafe.send("matrix", [[1], ["2"]]); // TS2322: wrong items of items
cafe.send("order", { ...order, drink: { minutes: 3 } }); // TS2322: a discriminator is needed, though it has a default
cafe.send("order", { ...order, at: [] }); // TS2322: too few items
cafe.send("order", { size: "small", table: 1, route: [1, "a"] }); // TS2345: a field is missing

// Data in.
every.on("everything", (data: { text: number }) => data); // TS2345: another type of data
every.on("everything", ({ txt }) => txt); // TS2339: no such field
every.on("everything", ({ maybe }) => maybe.length); // TS18047: it may be null
every.on("everything", ({ tree }) => tree.children[0].value); // TS2532: there may be no such item
every.on("everything", ({ pair }) => pair[2]); // TS2493: no such item
every.on("everything", ({ anything }) => anything.text); // TS18046: it may be anything
every.on("everything", (data) => (data.text = "")); // TS2540: read only
every.on("everything", (data) => data.names.push("")); // TS2339: read only
every.on("everything", (data) => (data.pair[0] = 1)); // TS2540: read only
every.on("everything", (data) => (data.mapping["a"] = 1)); // TS2542: read only
every.on("everything", (_, { room }) => room.length); // TS18047: it may be to no room
export const lives = pet.lives; // TS2339: not before it is known which
export const minutes: Tea = { kind: "tea" }; // TS2741: what is received is whole
export const whole: Everything = input; // TS2322: what is sent is not what is received

// Answers.
void every.request("ask").then(({ answer }) => answer); // TS2339: there may be no answer
void every.request("numbers", []).then((answer) => answer.length); // TS18048: nothing is in the answer
void every.request("everything", input).then(({ txt }) => txt); // TS2339: no such field
void cafe.request("order", order).then(({ id }) => id); // TS2339: it may be the other answer

// Paths.
ChatClient.path({ rom: "a" }); // TS2561: no such parameter
ChatClient.path({ room: "a", id: 1 }); // TS2353: no such parameter
ChatClient.path({ room: null }); // TS2322: nothing for a parameter
HereClient.path(); // TS2554: parameters are missing
HereClient.path({}); // TS2345: a parameter is missing
EveryTypeClient.path(); // TS2339: no route leads there

// The rest.
new EveryTypeClient(); // TS2554: no URL
new EveryTypeClient("/", { tokn: "t" }); // TS2561: no such option
every.presence.get("a")?.members?.get("1")?.data?.nick; // TS2339: members don't have that
new CafeClient("/").presence.get("a")?.members?.get("1")?.data?.name; // TS2339: members have no data
eventStore(every, "everything", "", (text, { number }) => text.length + number); // TS2322: another type of value
hooks({} as never).useEvent(every, "ask", () => {}); // TS2345: an event that the server never sends
cafe.subscribe("bar"); // TS2345: a room that no pattern has
cafe.subscribe("table.x"); // TS2345: a number is needed
every.subscribe("any"); // TS2345: its consumer has no patterns
hooks({} as never).useSubscription(cafe, "bar"); // TS2345: a room that no pattern has
cafe.subscribe("kitchen").state = "ended"; // TS2540: the state can only be read
