"""Signals that wsrt sends."""

from __future__ import annotations

from django.dispatch import Signal

publication_failed = Signal()
"""
Sent when a publication or a control command that waited for a commit could not be sent.

Receivers get ``namespace``, ``tenant``, ``audience``, ``event`` (the name of the event, empty for a command) and
``error``. They run in the thread that committed, and must not block it.
"""
