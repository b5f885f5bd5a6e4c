"""Error handling and checks shared by the commands that act on a running cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

from django.core.management.base import CommandError

from ..cluster.in_process import unreachable_layer
from ..exceptions import BackplaneUnavailable, TenantRequired, WrongContext, WsrtError
from ..presence.base import StoreUnavailable
from ..realms import NOT_GIVEN, Tenant


@contextlib.contextmanager
def command_errors(setting: Literal["PRESENCE", "HISTORY"] = "PRESENCE") -> Iterator[None]:
    """
    Turn exceptions of wsrt, and ValueErrors about names, into a CommandError that says what to do.

    Args:
        setting: The setting of the store that the command uses.
    """
    try:
        yield
    except StoreUnavailable as error:
        raise CommandError(
            f"{setting.capitalize()} cannot be read: {_sentence(error)}\nConnections are not affected. Check that the "
            f"store is running and that WSRT[{setting!r}] is correct; manage.py wsrt_doctor examines both."
        ) from error
    except BackplaneUnavailable as error:
        raise CommandError(
            f"Nothing was sent: {_sentence(error)}\nCheck that Redis is running and that CHANNEL_LAYERS is correct; "
            "manage.py wsrt_doctor examines both."
        ) from error
    except WrongContext as error:
        seen = "Connections" if setting == "PRESENCE" else "History"
        raise CommandError(f"{seen} cannot be seen from this process: {_sentence(error)}") from error
    except TenantRequired as error:
        raise CommandError(f"{error}\nOn the command line, pass --tenant.") from error
    except (WsrtError, ValueError) as error:
        raise CommandError(str(error)) from error


def given_tenant(options: dict[str, Any]) -> Tenant:
    """Return the tenant given on the command line; NOT_GIVEN if there is none, for the tenant of the setting."""
    return NOT_GIVEN if options["tenant"] is None else str(options["tenant"])


def require_reachable(namespace: str | None) -> None:
    """
    Check that messages sent by this process can reach a connection.

    Args:
        namespace: The namespace to check; None for all namespaces.

    Raises:
        CommandError: The channel layer doesn't reach other processes, and this process holds no connections.
        UnknownNamespace: No consumer has this namespace.
    """
    alias = unreachable_layer(namespace)
    if alias is not None:
        raise CommandError(
            f"No connection can be reached: the channel layer {alias!r} doesn't reach other processes, and this "
            "process holds no connections.\nConfigure channels_redis.pubsub.RedisPubSubChannelLayer in CHANNEL_LAYERS, "
            "here and for the servers."
        )


def _sentence(error: Exception) -> str:
    """Return the text of an error with one full stop at its end."""
    return f"{str(error).removesuffix('.')}."
