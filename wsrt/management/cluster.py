"""What the commands on a running cluster share: how they tell what went wrong, and whether anybody hears them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandError

from ..cluster.sending import unreachable_layer
from ..exceptions import BackplaneUnavailable, TenantRequired, WrongContext, WsrtError
from ..presence.base import StoreUnavailable
from ..realms import NOT_GIVEN, Tenant


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Turn what wsrt raises, and ValueErrors about names, into a CommandError that says what to do."""
    try:
        yield
    except StoreUnavailable as error:
        raise CommandError(
            f"Presence cannot be read: {error}.\nConnections are not touched by this. See that the store runs and that "
            "WSRT['PRESENCE'] is right; manage.py wsrt_doctor examines it."
        ) from error
    except BackplaneUnavailable as error:
        raise CommandError(
            f"Nothing was sent: {error}.\nSee that Redis runs and that CHANNEL_LAYERS is right; manage.py wsrt_doctor "
            "examines it."
        ) from error
    except WrongContext as error:
        raise CommandError(f"Nobody can be seen from here: {error}.") from error
    except TenantRequired as error:
        raise CommandError(f"{error}\nOn the command line: --tenant.") from error
    except (WsrtError, ValueError) as error:
        raise CommandError(str(error)) from error


def given_tenant(options: dict[str, Any]) -> Tenant:
    """Return the tenant of the command line; NOT_GIVEN for that of the setting."""
    return NOT_GIVEN if options["tenant"] is None else str(options["tenant"])


def require_reachable(namespace: str | None) -> None:
    """
    Check that what this process sends can reach a connection.

    Args:
        namespace: None for all that there are.

    Raises:
        CommandError: no layer leads out of this process, which holds no connections.
        UnknownNamespace: no consumer has the namespace.
    """
    alias = unreachable_layer(namespace)
    if alias is not None:
        raise CommandError(
            f"Nobody would hear it: the channel layer {alias!r} reaches this process only, which holds no "
            "connections.\nConfigure channels_redis.pubsub.RedisPubSubChannelLayer in CHANNEL_LAYERS, here and where "
            "the servers run."
        )
