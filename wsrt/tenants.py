"""Tenants: whose rooms and users a call means."""

from __future__ import annotations

from django.utils.module_loading import import_string

from .conf import conf
from .exceptions import TenantRequired
from .protocol.namespaces import namespaces
from .realms import AllTenants, NotGiven, Tenant, Tenants, check_tenant


def tenant_of_call(tenant: Tenant, namespace: str | None) -> str | None:
    """
    Return the tenant that a call means.

    Args:
        tenant: as given. NOT_GIVEN where a consumer of the namespace has tenants: what ``WSRT["TENANT"]`` returns.
        namespace: None for all that there are.

    Raises:
        TenantRequired: a consumer of the namespace defines ``tenant``, and nothing says which is meant.
        TypeError, ValueError: there can't be such a tenant.
    """
    if isinstance(tenant, AllTenants):
        raise TypeError("ALL_TENANTS is for control functions; publish to one tenant at a time")
    if not isinstance(tenant, NotGiven):
        return check_tenant(tenant)
    if not has_tenants(namespace):
        return None
    return _tenant_of_calling_code(namespace)


def recipient_tenant(tenant: Tenant, namespace: str) -> str | None:
    """
    Return the tenant to whose connections a call sends something.

    Raises:
        TenantRequired, TypeError: as tenant_of_call().
        ValueError: the same, and where no consumer of the namespace has tenants.
    """
    found = tenant_of_call(tenant, namespace)
    _require_tenants(found, namespace)
    return found


def controlled_tenants(tenant: Tenants, namespace: str | None) -> str | AllTenants | None:
    """Return the tenant whose connections a command is for, or ALL_TENANTS. Raises as recipient_tenant()."""
    if isinstance(tenant, AllTenants):
        return tenant
    found = tenant_of_call(tenant, namespace)
    if namespace is not None:
        _require_tenants(found, namespace)
    return found


def has_tenants(namespace: str | None) -> bool:
    """Return whether a consumer of a namespace, or of any for None, defines ``tenant``."""
    spaces = namespaces.values() if namespace is None else [namespaces.get(namespace)]
    return any(
        "tenant" in getattr(consumer, "overridden_hooks", ())
        for space in spaces
        if space is not None
        for consumer in space.consumers
    )


def _require_tenants(tenant: str | None, namespace: str) -> None:
    is_known = namespace in namespaces and bool(namespaces[namespace].consumers)
    if tenant is not None and is_known and not has_tenants(namespace):
        raise ValueError(
            f"no consumer of the namespace {namespace!r} defines tenant(), so none of its connections has the tenant "
            f"{tenant!r}; leave tenant= out"
        )


def _tenant_of_calling_code(namespace: str | None) -> str:
    where = "a consumer" if namespace is None else f"a consumer of the namespace {namespace!r}"
    path = conf.tenant
    if path is None:
        raise TenantRequired(
            f"{where} defines tenant(), and this call doesn't say which tenant is meant: pass tenant=..., or set "
            'WSRT["TENANT"] to a function that returns the tenant of the calling code'
        )
    tenant = check_tenant(import_string(path)())
    if tenant is None:
        raise TenantRequired(
            f'{where} defines tenant(), and WSRT["TENANT"] ({path}) returned None: pass tenant=..., which may be None '
            "for the connections without a tenant"
        )
    return tenant
