"""The tables of durable publishing: publications that wait, publications that failed, claims and workers."""

from __future__ import annotations

import zlib
from typing import Any, ClassVar, NamedTuple

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..addresses import Audience, Room, User, UserKey
from ..realms import realm_of

PARTITIONS = 64
"""
The number of partitions, each of which is claimed by one worker at a time.

It must never change. Otherwise rows of one audience could be in two partitions, and be published in the wrong order.
"""


def partition_of(realm: str, kind: str, name: str) -> int:
    """Return the partition of an audience."""
    return zlib.crc32(f"{realm}\0{kind}\0{name}".encode("utf-8", "surrogatepass")) % PARTITIONS


class Kind(models.TextChoices):
    """The kinds of audiences of durable publications."""

    ROOM = "room", _("room")
    USER = "user", _("user")


def audience_of(kind: str, name: str) -> Audience:
    """Return the audience of a publication. Raises InvalidRoom if MAX_ROOM_NAME has become lower than its name."""
    return Room(name) if kind == Kind.ROOM else User(UserKey(name))


class Row(NamedTuple):
    """
    The columns of a waiting publication that a worker needs. A model instance costs several times as much.

    The fields are those of WaitingPublication.
    """

    id: int
    namespace: str
    tenant: str
    kind: str
    name: str
    event: str
    data: str
    key: str
    idempotency_key: str

    @property
    def realm(self) -> str:
        """The namespace of the audience and its tenant, if there is one, in one string."""
        return realm_of(self.namespace, self.tenant or None)

    @property
    def audience(self) -> Audience:
        """The audience. Raises InvalidRoom, see audience_of()."""
        return audience_of(self.kind, self.name)


class StoredPublication(models.Model):
    """
    The columns of a publication.

    Attributes:
        namespace: The namespace.
        tenant: The tenant; empty for connections without one.
        kind: Whether it is for a room or a user.
        name: The name of the room, or the key of the user.
        event: The event's wire name.
        data: The event's data, as JSON.
        key: For an event with ``key=``, the key by which a later event replaces it. Otherwise empty.
        idempotency_key: The key by which the history of the room recognises a publication that is repeated.
        created: When it was stored, by the clock of the publisher.
    """

    namespace = models.TextField(_("namespace"))
    tenant = models.TextField(_("tenant"), blank=True)
    kind = models.CharField(_("kind"), max_length=4, choices=Kind.choices)
    name = models.TextField(_("audience"))
    event = models.TextField(_("event"))
    data = models.TextField(_("data"))
    key = models.TextField(_("key"), blank=True)
    idempotency_key = models.CharField(_("idempotency key"), max_length=255)
    created = models.DateTimeField(_("created"))

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.event} ({self.kind} {self.name})"

    @property
    def realm(self) -> str:
        """The namespace of the audience and its tenant, if there is one, in one string."""
        return realm_of(self.namespace, self.tenant or None)

    @property
    def audience(self) -> Audience:
        """The audience. Raises InvalidRoom if the room's name is longer than the setting MAX_ROOM_NAME now allows."""
        return audience_of(self.kind, self.name)

    def values(self) -> dict[str, Any]:
        """Return the columns of a publication by name, to store it in another table."""
        return {field.name: getattr(self, field.name) for field in StoredPublication._meta.fields}


class WaitingPublication(StoredPublication):
    """
    A publication that no worker has published yet.

    Its row is deleted when it has been published. The ids order the publications of an audience: a publication has a
    higher id than all publications whose transactions were committed before it was stored.

    Attributes:
        partition: The partition of the audience.
    """

    partition = models.PositiveSmallIntegerField(editable=False)

    objects: ClassVar[models.Manager[WaitingPublication]] = models.Manager()

    class Meta:
        verbose_name = _("waiting publication")
        verbose_name_plural = _("waiting publications")
        indexes = (models.Index(fields=("partition", "id"), name="wsrt_durable_waiting"),)


class FailedPublication(StoredPublication):
    """
    A publication that can't be published, such as one whose event isn't declared any more.

    Attributes:
        failed: When a worker tried to publish it.
        error: The error.
    """

    failed = models.DateTimeField(_("failed"), db_index=True)
    error = models.TextField(_("error"))

    objects: ClassVar[models.Manager[FailedPublication]] = models.Manager()

    class Meta:
        verbose_name = _("failed publication")
        verbose_name_plural = _("failed publications")


class Partition(models.Model):
    """
    A set of audiences that only one worker at a time publishes to. The worker locks the row while it does so.

    Attributes:
        number: The number of the partition.
    """

    number = models.PositiveSmallIntegerField(primary_key=True)

    objects: ClassVar[models.Manager[Partition]] = models.Manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.number)


class Worker(models.Model):
    """
    A worker, as the doctor and the checks see it.

    Attributes:
        name: The host and the process id, or the host and "once" for workers that don't stay.
        started: When it was started.
        seen: When it last reported. A running worker does so every few seconds.
        published: The number of publications that it has published.
    """

    name = models.CharField(max_length=255, primary_key=True)
    started = models.DateTimeField()
    seen = models.DateTimeField()
    published = models.PositiveBigIntegerField(default=0)

    objects: ClassVar[models.Manager[Worker]] = models.Manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name
