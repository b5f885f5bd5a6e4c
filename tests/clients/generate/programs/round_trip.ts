/** Sends everything that there is to a server, and prints what comes back. */

import { CafeClient, OddClient, RequestError, RoomClient, type EverythingInput, type Odd } from "./client/index.js";

const [, , base, room, sent] = process.argv as unknown as [string, string, string, string, string];
const at = (path: string): URL => new URL(path, base);

const client = new RoomClient(at(RoomClient.path({ name: room })));
const joined = new Promise<string>((resolve) => client.onRoom((name) => resolve(name)));
await client.connect();

const everything = JSON.parse(sent) as EverythingInput;
const numbers: undefined = await client.request("numbers", [1, 2]);
const cafe = new CafeClient(at(CafeClient.path()));
await cafe.connect();
const odd = new OddClient(at(OddClient.path({ id: 7 })));
await odd.connect();

// Three components share a room, and one of them leaves.
const parts = ["list", "map", "badge"].map(() => cafe.subscribe("kitchen"));
await Promise.all(parts.map((part) => part.ready));
parts[1]!.unsubscribe();
const shared = [parts.map((part) => part.state), (await cafe.request("matrix", [])) && [...cafe.rooms.keys()]];
for (const part of parts) part.unsubscribe();
// Handled after the unsubscription.
await cafe.request("matrix", []);
const afterwards = [...cafe.rooms.keys()];
const refusedRoom = await cafe.subscribe("table.0").ready.catch((error: unknown) => (error as RequestError).code);

const strange: Odd = JSON.parse(process.argv[5] as string);

console.log(
  JSON.stringify({
    room: await joined,
    outdated: [client.outdated, cafe.outdated, odd.outdated],
    everything: await client.request("everything", everything),
    nothing: numbers === undefined,
    answers: [await client.request("ask"), (await client.request("ask", { question: "" })) ?? "nothing"],
    matrix: await cafe.request("matrix", [[1, null], []]),
    odd: await odd.request("__proto__", strange),
    shared,
    afterwards,
    refusedRoom,
    refused: await client
      .request("everything", { ...everything, bounded: 11 })
      .catch((error: unknown) => error instanceof RequestError && error.errors),
  }),
);
for (const each of [client, cafe, odd]) each.close();
