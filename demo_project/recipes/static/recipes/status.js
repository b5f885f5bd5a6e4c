/** Show the state of a client's connection in an element. */
export function showStatus(client, element) {
  let timer;

  function render() {
    clearInterval(timer);
    const { state, reason, retry } = client.status;
    element.dataset.state = state;
    const seconds = retry && Math.ceil((retry.at - Date.now()) / 1000);
    if (retry) element.textContent = seconds > 0 ? `Back in ${seconds} s` : "Reconnecting";
    else if (state === "open") element.textContent = "Live";
    else element.textContent = state === "closed" && reason?.text ? reason.text : "Connecting";
    if (retry) timer = setInterval(render, 250);
  }

  client.onState(render);
  render();
}
