"""Settings of the tests, and of the server and worker processes that they start; the environment varies them."""

from __future__ import annotations

import json
import os

SECRET_KEY = "the tests hold no secrets, but tokens are signed with it"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
USE_TZ = True
ROOT_URLCONF = "tests.urls"
ASGI_APPLICATION = "tests.apps.asgi.runtime"

INSTALLED_APPS = [
    # Its runserver, for the tests of that.
    *(["daphne"] if "WSRT_TEST_RUNSERVER" in os.environ else []),
    # Themes of the admin come before it.
    *os.environ.get("WSRT_TEST_THEME", "").split(),
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "channels",
    "wsrt",
    # It needs tables, which processes with a database in memory don't have.
    *(["wsrt.durable"] if os.environ.get("WSRT_TEST_DURABLE", "1") == "1" else []),
    "tests.apps.chat",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
STATIC_URL = "static/"
# Tests declare events with history, and consumers that require tickets.
SILENCED_SYSTEM_CHECKS = ["wsrt.W018", "wsrt.E012"]
DATABASES = {
    "default": json.loads(os.environ["WSRT_TEST_DATABASE"])
    if "WSRT_TEST_DATABASE" in os.environ
    else {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("WSRT_TEST_DB", ":memory:"),
        # Of thousands of commits to a file none has to survive the machine.
        "OPTIONS": {"init_command": "PRAGMA synchronous=OFF"},
    },
}
CACHES = json.loads(os.environ.get("WSRT_TEST_CACHES", "null")) or {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS = os.environ.get("WSRT_TEST_REDIS", "")
LAYERS: dict[str, dict[str, object]] = {
    "none": {},
    "memory": {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    "pubsub": {
        "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [REDIS]}},
    },
    "core": {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {
                # What the checks ask for: redis-py 8 breaks the defaults of this layer.
                "hosts": [{"address": REDIS, "socket_timeout": None, "max_connections": 1000}],
                "capacity": 5000,
            },
        },
    },
}
CHANNEL_LAYERS = LAYERS[os.environ.get("WSRT_TEST_LAYER", "memory")]
WSRT = json.loads(os.environ.get("WSRT_TEST_SETTINGS", "{}"))

CELERY_BROKER_URL = os.environ.get("WSRT_TEST_BROKER", "memory://")
CELERY_TASK_IGNORE_RESULT = True
