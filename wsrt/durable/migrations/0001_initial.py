"""The tables of durable publishing."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    operations = (
        migrations.CreateModel(
            name="FailedPublication",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("namespace", models.TextField(verbose_name="namespace")),
                ("tenant", models.TextField(blank=True, verbose_name="tenant")),
                (
                    "kind",
                    models.CharField(choices=[("room", "room"), ("user", "user")], max_length=4, verbose_name="kind"),
                ),
                ("name", models.TextField(verbose_name="audience")),
                ("event", models.TextField(verbose_name="event")),
                ("data", models.TextField(verbose_name="data")),
                ("key", models.TextField(blank=True, verbose_name="key")),
                ("idempotency_key", models.CharField(max_length=255, verbose_name="idempotency key")),
                ("created", models.DateTimeField(verbose_name="created")),
                ("failed", models.DateTimeField(db_index=True, verbose_name="failed")),
                ("error", models.TextField(verbose_name="error")),
            ],
            options={
                "verbose_name": "failed publication",
                "verbose_name_plural": "failed publications",
            },
        ),
        migrations.CreateModel(
            name="Partition",
            fields=[
                ("number", models.PositiveSmallIntegerField(primary_key=True, serialize=False)),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Worker",
            fields=[
                ("name", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("started", models.DateTimeField()),
                ("seen", models.DateTimeField()),
                ("published", models.PositiveBigIntegerField(default=0)),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="WaitingPublication",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("namespace", models.TextField(verbose_name="namespace")),
                ("tenant", models.TextField(blank=True, verbose_name="tenant")),
                (
                    "kind",
                    models.CharField(choices=[("room", "room"), ("user", "user")], max_length=4, verbose_name="kind"),
                ),
                ("name", models.TextField(verbose_name="audience")),
                ("event", models.TextField(verbose_name="event")),
                ("data", models.TextField(verbose_name="data")),
                ("key", models.TextField(blank=True, verbose_name="key")),
                ("idempotency_key", models.CharField(max_length=255, verbose_name="idempotency key")),
                ("created", models.DateTimeField(verbose_name="created")),
                ("partition", models.PositiveSmallIntegerField(editable=False)),
            ],
            options={
                "verbose_name": "waiting publication",
                "verbose_name_plural": "waiting publications",
                "indexes": [models.Index(fields=["partition", "id"], name="wsrt_durable_waiting")],
            },
        ),
    )
