from __future__ import annotations

import inspect
from typing import Any

from django import template
from django.conf import settings

from demo_project.backstage.servers import ports_from
from demo_project.chat.consumers import ChatConsumer
from demo_project.chat.events import MessageSent, SendMessage

register = template.Library()

REST = "\n    # These were the lines"
"""The comment in ChatConsumer before which the lines that the panel shows end."""


@register.inclusion_tag("backstage/panel.html", takes_context=True)
def backstage(context: dict[str, Any]) -> dict[str, Any]:
    """Render the panel next to the chat."""
    return {
        "request": context["request"],
        "user": context["user"],
        "perms": context["perms"],
        "may_kill": bool(settings.DEMO_PORTS),
        "events": "\n\n".join(inspect.getsource(event).rstrip() for event in (SendMessage, MessageSent)),
        "consumer": inspect.getsource(ChatConsumer).partition(REST)[0].rstrip(),
    }


@register.simple_tag(takes_context=True)
def demo_servers(context: dict[str, Any]) -> str:
    """Return the ports of the demo's servers, the page's first, as the page's script reads them."""
    port = int(context["request"].get_port())
    return ",".join(str(each) for each in ports_from(port))


@register.simple_tag(takes_context=True)
def other_window(context: dict[str, Any]) -> str:
    """
    Return the URL of the chat for a second person: on the other server, if there are two.

    Browsers keep the cookies of localhost and 127.0.0.1 apart, so the second window has its own session.
    """
    request = context["request"]
    host = request.get_host().partition(":")[0]
    other = "127.0.0.1" if host == "localhost" else "localhost"
    return f"http://{other}:{ports_from(int(request.get_port()))[-1]}/"
