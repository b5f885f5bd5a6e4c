import { explainClose } from "./words.js";

/** Show the state of the connection: a word next to the room's name, and a line with what can be done about it. */
export function watchStatus(client, room) {
  const pill = document.getElementById("state");
  const line = document.getElementById("lost");
  const [text, button] = line.children;
  let countdown;

  button.addEventListener("click", () => client.connect());

  function render() {
    clearInterval(countdown);
    const { state, reason, retry } = client.status;
    const isLive = state === "open" && client.rooms.get(room)?.joined;
    pill.dataset.state = state === "open" && !isLive ? "connecting" : state;
    pill.textContent = isLive ? "Live" : { closed: "Disconnected", waiting: "Offline" }[state] ?? "Connecting";
    line.hidden = state !== "closed" && state !== "waiting";
    button.textContent = state === "closed" ? "Reconnect" : "Retry now";
    if (state === "closed" && reason) text.textContent = explainClose(reason);
    if (state === "waiting") showDelay();
    if (retry) countdown = setInterval(showDelay, 250);
    document.getElementById("outdated").hidden = !client.outdated;
  }

  function showDelay() {
    const { retry } = client.status;
    const seconds = Math.max(0, Math.ceil(((retry?.at ?? 0) - Date.now()) / 1000));
    text.textContent = `The connection was lost. ${seconds ? `Next try in ${seconds} s.` : "Reconnecting."}`;
  }

  client.onState(render);
  client.onRoom(render);
}
