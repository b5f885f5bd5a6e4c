"""Signals that wsrt sends."""

from __future__ import annotations

from django.dispatch import Signal

publication_failed = Signal()
"""
Sent when a publication that waited for a commit could not be sent.

Receivers get ``namespace``, ``tenant``, ``audience``, ``event`` (the name of the event) and ``error``. They run in the
thread that committed, and must not block it.
"""
