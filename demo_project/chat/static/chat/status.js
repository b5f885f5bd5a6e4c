/** Show the state of the connection. */
export function watchStatus(client, room, element) {
  let countdown;

  function render() {
    clearInterval(countdown);
    const isLive = client.state === "open" && client.rooms.get(room)?.joined;
    element.dataset.state = client.state === "open" && !isLive ? "connecting" : client.state;
    element.textContent = isLive ? "Live" : words(client.status);
    if (client.status.retry) countdown = setInterval(() => (element.textContent = words(client.status)), 250);
    document.getElementById("outdated").hidden = !client.outdated;
  }

  client.onState(render);
  client.onRoom(render);
}

function words({ state, reason, retry }) {
  if (retry) {
    const seconds = Math.ceil((retry.at - Date.now()) / 1000);
    return seconds > 0 ? `Back in ${seconds} s` : "Reconnecting";
  }
  if (state !== "closed") return state === "waiting" ? "Waiting" : "Connecting";
  if (reason?.kind === "unauthorized") return "Signed out";
  return reason?.code === 4403 ? "Not allowed here" : "Disconnected";
}
