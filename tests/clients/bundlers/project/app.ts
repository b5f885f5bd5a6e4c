import { ChatClient, RequestError } from "./client/index";
import { hooks } from "./client/runtime/react";
import { statusStore } from "./client/runtime/store";

const client = new ChatClient("ws://localhost/");
let state = "";
statusStore(client).subscribe((status) => void (state = status.state));

export const found = [ChatClient.path({ room: "a" }), state, new RequestError("a", "b").name, typeof hooks].join(" ");
