"""System checks: ``manage.py check`` reports misconfiguration, each problem with an id and a hint for fixing it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.cache import DEFAULT_CACHE_ALIAS
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .addresses import RESERVED
from .asgi import Runtime
from .cluster.layers import is_local
from .cluster.node import examination
from .cluster.pubsub import missing_features as missing_features_of_pubsub
from .conf import DEFAULTS, SHAPES, conf, validation_error
from .consumers import TypedEventConsumer
from .history import backends as history
from .history.base import HistoryStore
from .history.log import VALUES
from .presence import backends as presence
from .presence.base import PresenceStore
from .presence.cache import CachePresence
from .protocol.events import meta
from .protocol.namespaces import namespaces
from .routing import routed_consumers
from .schema.routes import is_http_only, routes_of
from .servers import missing_features
from .servers.http_only import HINT, is_stock_runserver

Check = Callable[..., list[CheckMessage]]

CORE = "channels_redis.core.RedisChannelLayer"
PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
MEMORY = "channels.layers.InMemoryChannelLayer"

PRIVATE_CACHES = {"django.core.cache.backends.locmem.LocMemCache", "django.core.cache.backends.dummy.DummyCache"}
"""Cache backends that processes can't share."""

STALE_GROUPS_SECONDS = 60
"""The group expiry below which a busy process may lose its groups, in seconds."""


def check_settings(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check the dict WSRT."""
    values = getattr(settings, "WSRT", {})
    if not isinstance(values, dict):
        return [Error(f"WSRT should be a dict, not {type(values).__name__}.", id="wsrt.E001")]
    return [*_keys(values), *_values(values), *_backends(values), *_alias(values), *_tenant(values)]


def check_layers(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check CHANNEL_LAYERS for known problems of the layers."""
    messages: list[CheckMessage] = []
    layers = getattr(settings, "CHANNEL_LAYERS", {}) or {}
    for alias, layer in layers.items():
        unusable = _unimportable(alias, layer.get("BACKEND"))
        if unusable is not None:
            messages.append(unusable)
        elif layer.get("BACKEND") == CORE:
            messages += _core_layer(alias, layer.get("CONFIG", {}))
        elif layer.get("BACKEND") == PUBSUB:
            messages += _pubsub_layer(alias)
        elif layer.get("BACKEND") == MEMORY and not settings.DEBUG:
            messages.append(
                CheckWarning(
                    f"CHANNEL_LAYERS[{alias!r}] is the in-memory layer, which doesn't reach other processes.",
                    hint="Use channels_redis.pubsub.RedisPubSubChannelLayer if more than one process serves or "
                    "publishes.",
                    id="wsrt.W005",
                )
            )
    return messages


def check_consumers(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that the channel layers of consumers are configured, and that each namespace uses one layer."""
    messages: list[CheckMessage] = []
    known = getattr(settings, "CHANNEL_LAYERS", {}) or {}
    for name in sorted(namespaces):
        consumers = namespaces[name].consumers
        aliases = {getattr(consumer, "channel_layer_alias", None) for consumer in consumers}
        for consumer in consumers:
            alias = getattr(consumer, "channel_layer_alias", None)
            if alias is not None and alias not in known:
                messages.append(
                    Error(
                        f"{consumer.__qualname__}.channel_layer_alias is {alias!r}, which isn't a key of "
                        "CHANNEL_LAYERS.",
                        hint=f"The keys are: {', '.join(map(repr, known)) or 'none'}.",
                        obj=consumer,
                        id="wsrt.E007",
                    )
                )
        if len({conf.channel_layer_alias if alias is None else alias for alias in aliases}) > 1:
            messages.append(
                Error(
                    f"The consumers of namespace {name!r} use different channel layers.",
                    hint="Set the same channel_layer_alias in all of them, or in none.",
                    id="wsrt.E008",
                )
            )
    return messages


def check_tickets(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that all processes share the cache of tickets, if a consumer requires them."""
    alias = conf.ticket_cache
    consumers = {consumer for space in namespaces.values() for consumer in space.consumers}
    names = sorted(consumer.__qualname__ for consumer in consumers if getattr(consumer, "requires_ticket", False))
    if not names:
        return []
    if alias not in settings.CACHES:
        return [
            Error(
                f"WSRT['TICKET_CACHE'] is {alias!r}, which isn't a key of CACHES.",
                hint=f"The keys are: {', '.join(map(repr, settings.CACHES))}.",
                id="wsrt.E011",
            )
        ]
    backend = settings.CACHES[alias]["BACKEND"]
    if backend not in PRIVATE_CACHES:
        return []
    return [
        Error(
            f"{names[0]} requires tickets, and WSRT['TICKET_CACHE'] is the cache {alias!r} "
            f"({backend.rpartition('.')[2]}), which is private to each process: a ticket is only known to the process "
            "that issued it.",
            hint="Set TICKET_CACHE to a cache that all processes share: Redis, Memcached, or "
            "django.core.cache.backends.db.DatabaseCache, which needs no other server.",
            id="wsrt.E012",
        )
    ]


def check_history(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that all processes share the history, if events are kept in it."""
    store = history.store_class()
    if store is None or store.is_shared:
        return []
    if apps.is_installed("wsrt.durable"):
        otherwise = "The worker of wsrt.durable is another process: servers can't replay what it publishes."
    else:
        otherwise = "Or silence this check if a single process serves and publishes."
    return [
        CheckWarning(
            f"{', '.join(names)}: each process keeps its own history of these events, because "
            f"{conf.history.get('BACKEND')!r} isn't shared, although the channel layer {alias!r} connects processes. "
            "A client that reconnects to another process can't receive the events that it missed.",
            hint=f"Set WSRT['HISTORY'] to wsrt.history.redis.RedisHistory. {otherwise}",
            id="wsrt.W018",
        )
        for alias, names in sorted(_kept_events().items())
        if not _is_local(alias)
    ]


def check_encryption(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check whether a project that has its layer encrypt messages stores their data unencrypted."""
    layers = getattr(settings, "CHANNEL_LAYERS", {}) or {}
    encrypted = [
        alias for alias, layer in layers.items() if (layer.get("CONFIG") or {}).get("symmetric_encryption_keys")
    ]
    stores = {
        "PRESENCE": presence.store_class() if any(map(_has_presence, _all_consumers())) else None,
        "HISTORY": history.store_class() if _kept_events() else None,
    }
    plain = [f"WSRT[{key!r}]" for key, store in stores.items() if store is not None and store.is_shared]
    if not encrypted or not plain:
        return []
    return [
        CheckWarning(
            f"CHANNEL_LAYERS[{encrypted[0]!r}] encrypts messages, but their data is stored unencrypted: in "
            f"{' and '.join(plain)}.",
            hint="Encrypt the connection and the disk of that server, and restrict access to it; then silence this "
            "check.",
            id="wsrt.W019",
        )
    ]


def check_limits(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that limits of connections that are meant for all processes hold for all of them together."""
    limited = where_set("MAX_CONNECTIONS_PER_USER", "MAX_CONNECTIONS_PER_ADDRESS")
    store = presence.store_class()
    if not limited or (store is not None and store.gives_places):
        return []
    return [
        CheckWarning(
            f"{', '.join(limited)}: each process counts only its own connections, because the presence store "
            f"{conf.presence.get('BACKEND')!r} doesn't count those of other processes.",
            hint="Set WSRT['PRESENCE'] to wsrt.presence.redis.RedisPresence, or silence this check if a single process "
            "holds connections.",
            id="wsrt.W017",
        )
    ]


def check_runserver(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that ``runserver`` serves WebSockets, if that is the command that runs and the project has consumers."""
    if not is_stock_runserver() or all(name.startswith(RESERVED) for name in namespaces):
        return []
    return [
        CheckWarning(
            "This runserver is Django's own, which doesn't serve WebSockets.",
            hint=f"{HINT[0].upper()}{HINT[1:]}.",
            id="wsrt.W016",
        )
    ]


def check_runtime(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that the ASGI application is wrapped in with_runtime(). Runs with ``manage.py check --deploy``."""
    path = getattr(settings, "ASGI_APPLICATION", None)
    try:
        application = import_string(path) if path else None
    except Exception:
        return []  # the server reports that when it starts
    if application is None or isinstance(application, Runtime):
        return []
    return [
        CheckWarning(
            f"{path} is not wrapped in with_runtime(): on Daphne, close codes are changed, and clients that don't read "
            "use unbounded memory; on all servers, connections aren't drained at shutdown.",
            hint="from wsrt.asgi import with_runtime; application = with_runtime(application)",
            id="wsrt.W008",
        )
    ]


def check_routes(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that ``ASGI_APPLICATION`` serves every consumer that has a ``path``, and that no two have the same path."""
    try:
        consumers = [consumer for consumer in routed_consumers() if not consumer.__module__.startswith("wsrt.")]
    except ImproperlyConfigured as error:
        return [Error(f"{error}.", id="wsrt.E010")]
    if not consumers:
        return []
    path = getattr(settings, "ASGI_APPLICATION", None)
    try:
        with examination():
            application = import_string(path) if path else None
    except Exception:
        return []  # the server reports that when it starts
    served = {route.consumer for route in routes_of(application)}
    return [_unserved(consumer, path, application) for consumer in consumers if consumer not in served]


def _unserved(consumer: type[TypedEventConsumer], path: str | None, application: Any) -> CheckMessage:
    if not path:
        hint = 'Set it to the dotted path of your ASGI application, such as "mysite.asgi.application".'
    elif is_http_only(application):
        hint = "from wsrt.asgi import with_runtime; application = with_runtime(get_asgi_application())"
    else:
        hint = (
            "Add *consumer_urlpatterns() to the list of its URLRouter: from wsrt.routing import consumer_urlpatterns. "
            f"Or route it there yourself: path(..., {consumer.__name__}.as_asgi())"
        )
    where = f"ASGI_APPLICATION ({path}) doesn't serve it" if path else "ASGI_APPLICATION isn't set"
    return CheckWarning(
        f"{consumer.__qualname__} has the path {consumer.path!r}, but {where}.", hint=hint, obj=consumer, id="wsrt.W015"
    )


def check_servers(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that wsrt supports the installed servers, which it imports. Runs with ``manage.py check --deploy``."""
    return [unknown_server(server, missing) for server, missing in missing_features().items() if missing]


def unknown_server(server: str, missing: Sequence[str]) -> CheckMessage:
    """
    Return the warning for an installed server that lacks features which wsrt needs.

    Args:
        server: The name of the server.
        missing: The names of the features.
    """
    return CheckWarning(
        f"{server} is not supported in the installed version: it lacks {', '.join(missing)}.",
        hint="wsrt can only use what ASGI specifies, or can't close connections in time at shutdown. Use another "
        "version, or another server.",
        id="wsrt.W009",
    )


ALWAYS: tuple[Check, ...] = (
    check_settings,
    check_layers,
    check_consumers,
    check_routes,
    check_tickets,
    check_runserver,
    check_limits,
    check_history,
    check_encryption,
)
DEPLOY: tuple[Check, ...] = (check_runtime, check_servers)
"""The checks that ``manage.py check`` runs, and those that only ``check --deploy`` runs."""


def _keys(values: dict[str, Any]) -> Iterator[CheckMessage]:
    for key in values:
        if key not in DEFAULTS:
            close = difflib.get_close_matches(str(key).upper(), DEFAULTS, 1)
            hint = f"Did you mean {close[0]!r}?" if close else f"The keys are: {', '.join(DEFAULTS)}."
            yield Error(f"WSRT has the unknown key {key!r}.", hint=hint, id="wsrt.E002")


def _values(values: dict[str, Any]) -> Iterator[CheckMessage]:
    for key, value in values.items():
        shape = SHAPES.get(key)
        if shape is None:
            continue
        problem = validation_error(key, value)
        if problem is not None:
            yield Error(
                f"WSRT[{key!r}] {problem}.",
                hint=f"The default is {DEFAULTS[key]!r}.",
                id="wsrt.E003" if not shape.fits(value) else "wsrt.E004",
            )
    payload, inbox = (values.get(key, DEFAULTS[key]) for key in ("MAX_PAYLOAD", "INBOX_BYTES"))
    if SHAPES["MAX_PAYLOAD"].fits(payload) and SHAPES["INBOX_BYTES"].fits(inbox) and payload > inbox:
        yield CheckWarning(
            f"WSRT['MAX_PAYLOAD'] ({payload}) is larger than WSRT['INBOX_BYTES'] ({inbox}).",
            hint="A single large frame fills the inbox completely. Raise INBOX_BYTES.",
            id="wsrt.W001",
        )


def _backends(values: dict[str, Any]) -> Iterator[CheckMessage]:
    if SHAPES["PRESENCE"].fits(values.get("PRESENCE")):
        try:
            yield from _cache_of_presence(presence.make_store(values["PRESENCE"]))
        except Exception as error:
            yield _unusable("PRESENCE", values["PRESENCE"], error, "presence isn't tracked")
    numbers = {key: values.get(key, DEFAULTS[key]) for key in ("HISTORY_SIZE", "HISTORY_SECONDS")}
    store = values.get("HISTORY", DEFAULTS["HISTORY"])
    if SHAPES["HISTORY"].fits(store) and all(SHAPES[key].fits(number) for key, number in numbers.items()):
        try:
            made = history.make_store(store, size=numbers["HISTORY_SIZE"], seconds=numbers["HISTORY_SECONDS"])
            yield from _values_kept(made)
        except Exception as error:
            yield _unusable("HISTORY", store, error, "events with history can't be published")


def _values_kept(store: HistoryStore) -> Iterator[CheckMessage]:
    if store.values_kept > VALUES:
        yield CheckWarning(
            f"WSRT['HISTORY']: a room keeps up to VALUES ({store.values_kept}) last values, but a client that joins it "
            f"receives at most {VALUES}, those that were published last.",
            hint="Lower VALUES, or silence this check if you read the other values with history() or HistoryView.",
            id="wsrt.W023",
        )


def _unusable(key: str, store: dict[str, Any], error: Exception, effect: str) -> CheckMessage:
    return CheckWarning(
        f"WSRT[{key!r}]: the backend {store.get('BACKEND')!r} cannot be used: {error}.",
        hint=f"Until it can be used, {effect}. The default is {DEFAULTS[key]['BACKEND']!r}.",
        id="wsrt.W002",
    )


def _cache_of_presence(store: PresenceStore) -> Iterator[CheckMessage]:
    if not isinstance(store, CachePresence):
        return
    alias = store.location or DEFAULT_CACHE_ALIAS
    backend = settings.CACHES[alias]["BACKEND"]
    if backend in PRIVATE_CACHES:
        yield CheckWarning(
            f"WSRT['PRESENCE']: the cache {alias!r} ({backend.rpartition('.')[2]}) is private to each process, so each "
            "one only sees its own connections.",
            hint="Set LOCATION to a cache that processes share, or use wsrt.presence.redis.RedisPresence.",
            id="wsrt.W010",
        )


def _alias(values: dict[str, Any]) -> Iterator[CheckMessage]:
    alias = values.get("CHANNEL_LAYER_ALIAS", DEFAULTS["CHANNEL_LAYER_ALIAS"])
    layers = getattr(settings, "CHANNEL_LAYERS", {}) or {}
    if layers and isinstance(alias, str) and alias not in layers:
        yield Error(
            f"WSRT['CHANNEL_LAYER_ALIAS'] is {alias!r}, which isn't a key of CHANNEL_LAYERS.",
            hint=f"The keys are: {', '.join(map(repr, layers))}.",
            id="wsrt.E005",
        )


def _tenant(values: dict[str, Any]) -> Iterator[CheckMessage]:
    path = values.get("TENANT")
    if not isinstance(path, str):
        return
    try:
        function = import_string(path)
        problem = "" if callable(function) else "is not callable"
    except Exception as error:
        problem = f"cannot be imported: {error}"
    if problem:
        yield Error(
            f"WSRT['TENANT'] is {path!r}, which {problem}.",
            hint="Set it to the dotted path of a function without arguments that returns the tenant of the calling "
            "code, a str or None.",
            id="wsrt.E009",
        )


def where_set(*limits: str) -> list[str]:
    """Return the places where limits that are off by default are set: in the setting ``WSRT`` or by consumers."""
    values = getattr(settings, "WSRT", {})
    limited = [f"WSRT[{key!r}]" for key in limits if isinstance(values, dict) and values.get(key) is not None]
    limited += [
        f"{consumer.__qualname__}.{key.lower()}" for key in limits for consumer in _consumers_that_set(key.lower())
    ]
    return limited


def _consumers_that_set(name: str) -> Iterator[type[TypedEventConsumer]]:
    """Yield the consumers that set an attribute to something other than None, themselves or in a base of their own."""
    consumers = {consumer for namespace in namespaces.values() for consumer in namespace.consumers}
    for consumer in sorted(consumers, key=lambda consumer: consumer.__qualname__):
        own = [vars(cls) for cls in consumer.__mro__ if not issubclass(TypedEventConsumer, cls)]
        # The first definition counts.
        if next((namespace[name] for namespace in own if name in namespace), None) is not None:
            yield consumer


def _all_consumers() -> set[type]:
    return {consumer for namespace in namespaces.values() for consumer in namespace.consumers}


def _has_presence(consumer: type) -> bool:
    return bool(getattr(consumer, "presence", False))


def _kept_events() -> dict[str, list[str]]:
    """Return the names of the event classes with history, by the channel layer of the consumers that send them."""
    kept: dict[str, set[str]] = {}
    for namespace in namespaces.values():
        names = {event.__qualname__ for event in namespace.events.values() if meta(event).history}
        for consumer in namespace.consumers if names else ():
            alias = getattr(consumer, "channel_layer_alias", None)
            kept.setdefault(conf.channel_layer_alias if alias is None else alias, set()).update(names)
    return {alias: sorted(names) for alias, names in kept.items()}


def _is_local(alias: str) -> bool:
    try:
        return is_local(alias)
    except Exception:
        return True  # other checks report an alias or a layer that can't be used


def _unimportable(alias: str, backend: Any) -> CheckMessage | None:
    """Return the error for a layer that Channels can't import: otherwise the first connection fails."""
    if not isinstance(backend, str):
        return None  # Channels reports that
    try:
        import_string(backend)
    except ImportError as error:
        is_missing = backend.startswith("channels_redis.") and find_spec("channels_redis") is None
        hint = 'pip install "wsrt[redis]"' if is_missing else "Correct BACKEND, or install the package that has it."
        problem = "channels_redis isn't installed" if is_missing else str(error).removesuffix(".")
        return Error(f"CHANNEL_LAYERS[{alias!r}] can't be imported: {problem}.", hint=hint, id="wsrt.E013")
    return None


def _core_layer(alias: str, config: dict[str, Any]) -> Iterator[CheckMessage]:
    where = f"CHANNEL_LAYERS[{alias!r}]"
    hosts = config.get("hosts") or []
    options = [host for host in hosts if isinstance(host, dict)]
    if _redis_major() >= 8:
        if len(options) < max(1, len(hosts)) or not all("socket_timeout" in host for host in options):
            yield Error(
                f"{where}: redis-py 8 ends a connection after 5 s without an answer, and the core layer waits just as "
                "long for a message.",
                hint='Write each host as {"address": "redis://...", "socket_timeout": None}, or use '
                "channels_redis.pubsub.RedisPubSubChannelLayer.",
                id="wsrt.E006",
            )
        if not all("max_connections" in host for host in options) or not options:
            yield CheckWarning(
                f'{where}: redis-py 8 opens at most 100 connections, unless the host sets "max_connections".',
                hint='Add "max_connections": 1000 to each host.',
                id="wsrt.W003",
            )
    if config.get("capacity", 100) <= 100:
        yield CheckWarning(
            f"{where}: beyond its capacity of {config.get('capacity', 100)} messages for each process, the core layer "
            "drops messages without an error.",
            hint='Set "capacity" to 2000 or more, or use channels_redis.pubsub.RedisPubSubChannelLayer.',
            id="wsrt.W004",
        )
    if len(hosts) > 1:
        yield CheckWarning(
            f"{where}: with several hosts, the core layer loses messages that are sent to a single channel.",
            hint="Use one host, or channels_redis.pubsub.RedisPubSubChannelLayer.",
            id="wsrt.W006",
        )
    if config.get("group_expiry", 86400) < STALE_GROUPS_SECONDS:
        yield CheckWarning(
            f'{where}: "group_expiry" is less than {STALE_GROUPS_SECONDS} seconds, so groups are lost while a process '
            "is busy.",
            hint='Remove "group_expiry": with its default, memberships are refreshed in time.',
            id="wsrt.W007",
        )


def _pubsub_layer(alias: str) -> Iterator[CheckMessage]:
    missing = missing_features_of_pubsub()
    if missing:
        yield CheckWarning(
            f"CHANNEL_LAYERS[{alias!r}]: the installed channels_redis and redis-py lack {', '.join(missing)}. wsrt "
            "falls back to the layer's own calls, where publications and joins wait for each other's round trips.",
            hint="Install channels_redis 4.3 or newer and redis-py 5 or newer. If they are newer than this version of "
            "wsrt, a newer wsrt may be needed.",
            id="wsrt.W011",
        )


def _redis_major() -> int:
    try:
        import redis
    except ImportError:
        return 0
    return int(redis.__version__.partition(".")[0])
