"""
Realms: a namespace and a tenant in one string, which is the scope of rooms, users, Everyone() and presence.

The realm of a namespace without a tenant is the namespace itself. Catalogs and channel layers belong to the namespace,
for all tenants alike.
"""

from __future__ import annotations

import enum
from typing import Final

SEPARATOR = "@"
"""Separates namespace and tenant. Namespaces can't contain it, so the realm of each pair is unique."""


class NotGiven(enum.Enum):
    """The type of NOT_GIVEN."""

    NOT_GIVEN = "not given"

    def __repr__(self) -> str:
        return "NOT_GIVEN"


class AllTenants(enum.Enum):
    """The type of ALL_TENANTS."""

    ALL_TENANTS = "all tenants"

    def __repr__(self) -> str:
        return "ALL_TENANTS"


NOT_GIVEN: Final = NotGiven.NOT_GIVEN
"""The default of ``tenant=``: the tenant of the calling code, see ``WSRT["TENANT"]``."""

ALL_TENANTS: Final = AllTenants.ALL_TENANTS
"""All tenants, and the connections without a tenant. Only control functions accept it."""

RoomId = tuple[str, str]
"""The realm of a room, and its name."""

Tenant = str | None | NotGiven
"""The type of ``tenant=`` in publishing and presence functions."""

Tenants = Tenant | AllTenants
"""The type of ``tenant=`` in control functions."""


def realm_of(namespace: str, tenant: str | None) -> str:
    """
    Return the realm of a tenant in a namespace. It is unique for each pair.

    Raises:
        ValueError: The namespace contains "@".
    """
    if SEPARATOR in namespace:
        raise ValueError(f"a namespace can't contain {SEPARATOR!r}, as {namespace!r} does; pass tenant=... separately")
    return namespace if tenant is None else f"{namespace}{SEPARATOR}{tenant}"


def split_realm(realm: str) -> tuple[str, str | None]:
    """Return the namespace and the tenant of a realm."""
    namespace, separator, tenant = realm.partition(SEPARATOR)
    return namespace, tenant if separator else None


def includes(namespace: str | None, tenant: str | AllTenants | None, realm: str) -> bool:
    """
    Return whether a realm matches a namespace and a tenant.

    Args:
        namespace: The namespace; None matches every namespace.
        tenant: The tenant; None matches realms without a tenant, ALL_TENANTS matches every realm.
        realm: The realm.
    """
    its_namespace, its_tenant = split_realm(realm)
    return namespace in (None, its_namespace) and tenant in (ALL_TENANTS, its_tenant)
