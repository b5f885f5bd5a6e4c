"""The files of a first app: those of the README's chat, with the names of another app."""

from __future__ import annotations

EVENTS = """\
from pydantic import Field

from wsrt import Event


class SendMessage(Event, name="message.send"):
    text: str = Field(min_length=1, max_length=2000)


class MessageSent(Event, name="message.sent"):
    author: str
    text: str
"""

CONSUMERS = """\
from PACKAGE.events import MessageSent, SendMessage
from wsrt import TypedEventConsumer, on


class CLIENTConsumer(TypedEventConsumer):
    namespace = "LABEL"
    path = "ws/LABEL/"
    out_events = (MessageSent,)  # the events it receives are those of its handlers

    async def on_connect(self) -> None:
        await self.join("lobby")

    @on
    async def send_message(self, event: SendMessage) -> None:
        author = self.user.get_username() or "guest"
        await self.publish_to_room("lobby", MessageSent(author=author, text=event.text))
"""

PAGE = """\
<!doctype html>
<title>CLIENT</title>
{% load wsrt %}{% wsrt_client %}
<ul id="messages"></ul><p id="problem" role="alert"></p>
<form id="form"><input id="text" aria-label="Message" autofocus autocomplete="off"><button>Send</button></form>
<script type="module">
  import { Client } from "wsrt";
  const client = new Client("{% ws_url 'TARGET' %}"); // reconnects by itself
  client.on("message.sent", (message) => {
    messages.append(Object.assign(document.createElement("li"), { textContent: `${message.author}: ${message.text}` }));
  });
  form.onsubmit = async (submit) => {
    submit.preventDefault();
    try {
      await client.request("message.send", { text: text.value });
      form.reset();
      problem.textContent = "";
    } catch (error) {
      problem.textContent = error.errors?.[0]?.msg ?? error.message;
    }
  };
  client.connect();
</script>
"""

ASGI = """\
import os

from django.core.asgi import get_asgi_application

from wsrt.asgi import with_runtime

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "PROJECT.SETTINGS")
application = with_runtime(get_asgi_application())
"""


def client_of(label: str) -> str:
    """Return the name of the client of an app's consumer: "SupportDesk" for "support_desk"."""
    return "".join(part.capitalize() for part in label.split("_"))


def files(package: str, label: str, *, is_unique: bool = True) -> dict[str, str]:
    """
    Return the files of an app, by their paths in its folder.

    Args:
        package: The dotted path of the app.
        label: The label of the app. The names of its namespace, paths and consumer come from it.
        is_unique: Whether no consumer of another app has a client of the same name.
    """
    client = client_of(label)
    target = client if is_unique else f"{package}.consumers.{client}Consumer"
    names = {"PACKAGE": package, "LABEL": label, "CLIENT": client, "TARGET": target}
    return {
        name: _filled(text, names)
        for name, text in {"events.py": EVENTS, "consumers.py": CONSUMERS, f"templates/{label}.html": PAGE}.items()
    }


def asgi(settings_module: str) -> str:
    """Return the module of the ASGI application."""
    return _filled(ASGI, {"PROJECT.SETTINGS": settings_module})


def _filled(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(name, value)
    return text
