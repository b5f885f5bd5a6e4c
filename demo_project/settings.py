"""
Settings of the demo.

It uses SQLite and one process by default; set REDIS_URL to share rooms between processes. scripts/demo.py, which starts
the processes, also sets DEMO_PORTS.
"""

from __future__ import annotations

import os
from pathlib import Path

from demo_project.recipes import RECIPES

BASE_DIR = Path(__file__).resolve().parent

SECRET_KEY = "the demo holds no secrets"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

# The ports of the server processes, comma-separated. Empty if nothing restarts a process that ends.
DEMO_PORTS = [int(port) for port in os.environ.get("DEMO_PORTS", "").split(",") if port]
# A page of one server may end another one.
CSRF_TRUSTED_ORIGINS = [f"http://{host}:{port}" for host in ALLOWED_HOSTS for port in DEMO_PORTS]

INSTALLED_APPS = [
    "daphne",  # first: its runserver serves WebSockets
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "wsrt",
    "demo_project.chat",
    "demo_project.backstage",
    "demo_project.recipes",
    *(recipe.app for recipe in RECIPES),
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

ROOT_URLCONF = "demo_project.urls"
ASGI_APPLICATION = "demo_project.asgi.application"

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

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DEMO_DB", BASE_DIR / "db.sqlite3"),
        # Two server processes write to one file. They wait for each other instead of failing.
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
    },
}

if "REDIS_URL" in os.environ:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [os.environ["REDIS_URL"]]},
        },
    }
    # Presence across all processes.
    WSRT = {
        "PRESENCE": {"BACKEND": "wsrt.presence.redis.RedisPresence", "LOCATION": os.environ["REDIS_URL"]},
        # What clients missed, wherever they reconnect.
        "HISTORY": {"BACKEND": "wsrt.history.redis.RedisHistory", "LOCATION": os.environ["REDIS_URL"]},
    }

# Where the recipe on progress starts its jobs. None for a thread of the server.
CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL")
CELERY_TASK_IGNORE_RESULT = True

# The function that answers in the recipe on tokens.
TOKEN_SOURCE = os.environ.get("TOKEN_SOURCE", "demo_project.recipes.token_stream.sources.demo")

LOGIN_URL = "sign-in"
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Another project on the same host must not overwrite the session cookie.
SESSION_COOKIE_NAME = "wsrt_demo_session"
