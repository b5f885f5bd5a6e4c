"""Tenants: which ones are valid, and which one a call refers to, by ``tenant=`` or by ``WSRT["TENANT"]``."""

from __future__ import annotations

from django.utils.module_loading import import_string

from .conf import conf
from .exceptions import TenantRequired
from .protocol.namespaces import namespaces
from .realms import AllTenants, NotGiven, Tenant, Tenants

MAX_TENANT_BYTES = 255
"""The maximum length of a tenant, in bytes of UTF-8."""


def tenant_of_call(tenant: Tenant, namespace: str | None) -> str | None:
    """
    Return the tenant of a call.

    Args:
        tenant: The argument of the call. For NOT_GIVEN, the result of ``WSRT["TENANT"]`` is returned if a consumer of
            the namespace has tenants, otherwise None.
        namespace: The namespace, or None for all namespaces.

    Raises:
        TenantRequired: A consumer of the namespace defines ``tenant``, but neither the call nor the setting provides
            one.
        TypeError, ValueError: The tenant is invalid.
    """
    if isinstance(tenant, AllTenants):
        raise TypeError(
            "only control functions accept ALL_TENANTS: pass one tenant, or None for the connections without a tenant"
        )
    if not isinstance(tenant, NotGiven):
        return check_tenant(tenant)
    if not has_tenants(namespace):
        return None
    return _tenant_of_calling_code(namespace)


def recipient_tenant(tenant: Tenant, namespace: str) -> str | None:
    """
    Return the tenant of a call that sends to connections.

    Raises:
        TenantRequired, TypeError: As for tenant_of_call().
        ValueError: The tenant is invalid, or no consumer of the namespace has tenants.
    """
    found = tenant_of_call(tenant, namespace)
    if found is not None:
        _require_tenants(found, namespace)
    return found


def controlled_tenants(tenant: Tenants, namespace: str | None) -> str | AllTenants | None:
    """
    Return the tenant of a call that controls connections, or ALL_TENANTS.

    Raises:
        TenantRequired, TypeError, ValueError: As for recipient_tenant().
    """
    if isinstance(tenant, AllTenants):
        return tenant
    found = tenant_of_call(tenant, namespace)
    if found is not None and namespace is not None:
        _require_tenants(found, namespace)
    return found


def has_tenants(namespace: str | None) -> bool:
    """Return whether a consumer of a namespace defines ``tenant``; for None, whether any consumer does."""
    if namespace is None:
        return any("tenant" in space.overridden_hooks for space in namespaces.values())
    space = namespaces.get(namespace)
    return space is not None and "tenant" in space.overridden_hooks


def _require_tenants(tenant: str, namespace: str) -> None:
    is_known = namespace in namespaces and bool(namespaces[namespace].consumers)
    if is_known and not has_tenants(namespace):
        raise ValueError(
            f"no consumer of the namespace {namespace!r} defines tenant(), so none of its connections has the tenant "
            f"{tenant!r}; leave tenant= out"
        )


def _tenant_of_calling_code(namespace: str | None) -> str:
    where = "a consumer" if namespace is None else f"a consumer of the namespace {namespace!r}"
    path = conf.tenant
    if path is None:
        raise TenantRequired(
            f"{where} defines tenant(), and this call doesn't specify a tenant: pass tenant=..., or set "
            'WSRT["TENANT"] to a function that returns the tenant of the calling code'
        )
    tenant = check_tenant(import_string(path)())
    if tenant is None:
        raise TenantRequired(
            f'{where} defines tenant(), and WSRT["TENANT"] ({path}) returned None: pass tenant=... explicitly; '
            "tenant=None means the connections without a tenant"
        )
    return tenant


def check_tenant(tenant: object) -> str | None:
    """
    Validate a tenant, and return it.

    Raises:
        TypeError: The tenant is neither a str nor None.
        ValueError: The tenant is empty, longer than 255 bytes, or can't be encoded as UTF-8.
    """
    if tenant is None:
        return None
    if not isinstance(tenant, str):
        raise TypeError(f"a tenant must be a str or None, not {type(tenant).__name__}; pass str() of its id")
    try:
        size = len(tenant.encode())
    except UnicodeEncodeError:
        raise ValueError(f"a tenant must be encodable as UTF-8: {tenant!r}") from None
    if not 1 <= size <= MAX_TENANT_BYTES:
        raise ValueError(f"a tenant must have 1 to {MAX_TENANT_BYTES} bytes, not {size}")
    return str.__str__(tenant)  # for a member of an enumeration its value, not its name
