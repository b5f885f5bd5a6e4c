"""
Realms: a namespace and a tenant as one string, which scopes rooms, users, everyone and presence.

The realm of a namespace without a tenant is the namespace itself. Catalogs and channel layers belong to the namespace,
whatever the tenant.
"""

from __future__ import annotations

import enum
from typing import Final

SEPARATOR = "@"
"""Between namespace and tenant. Namespaces don't contain it, so no two pairs make one realm."""

MAX_TENANT_BYTES = 255


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
"""Every tenant, and the connections without one. Accepted by control functions only."""

Tenant = str | None | NotGiven
"""What publishing and presence take as ``tenant=``."""

Tenants = Tenant | AllTenants
"""What control takes as ``tenant=``."""


def realm_of(namespace: str, tenant: str | None) -> str:
    """
    Return the realm of a tenant in a namespace: no two of them share one.

    Raises:
        ValueError: the namespace contains "@".
    """
    if SEPARATOR in namespace:
        raise ValueError(f"a namespace doesn't contain {SEPARATOR!r}, as {namespace!r} does; pass tenant=... beside it")
    return namespace if tenant is None else f"{namespace}{SEPARATOR}{tenant}"


def split_realm(realm: str) -> tuple[str, str | None]:
    """Return the namespace and the tenant of a realm."""
    namespace, separator, tenant = realm.partition(SEPARATOR)
    return namespace, tenant if separator else None


def includes(namespace: str | None, tenant: str | AllTenants | None, realm: str) -> bool:
    """Return whether a realm is one of those that a command is for; namespace None means every namespace."""
    its_namespace, its_tenant = split_realm(realm)
    return namespace in (None, its_namespace) and tenant in (ALL_TENANTS, its_tenant)


def check_tenant(tenant: object) -> str | None:
    """
    Return a tenant that can be one.

    Raises:
        TypeError: it is neither a str nor None.
        ValueError: it is empty, over 255 bytes, or can't be encoded as UTF-8.
    """
    if tenant is None:
        return None
    if not isinstance(tenant, str):
        raise TypeError(f"a tenant is a str or None, not {type(tenant).__name__}; pass str() of its id")
    try:
        size = len(tenant.encode())
    except UnicodeEncodeError:
        raise ValueError(f"a tenant must be encodable as UTF-8: {tenant!r}") from None
    if not 1 <= size <= MAX_TENANT_BYTES:
        raise ValueError(f"a tenant has 1 to {MAX_TENANT_BYTES} bytes, not {size}")
    return str.__str__(tenant)  # the value of an enumeration's member, not its name
