"""Signals, for code that wants to know. Receivers must not block: most are sent from the event loop."""

from __future__ import annotations

from django.dispatch import Signal

publication_failed = Signal()
"""A publication that waited for a commit could not be sent: namespace, tenant, audience, event (its name), error."""
