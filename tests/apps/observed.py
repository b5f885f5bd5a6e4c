"""The test application with middleware that observes it, around and below the runtime."""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import sentry_sdk
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from sentry_sdk.integrations.asgi import SentryAsgiMiddleware
from sentry_sdk.transport import Transport

from tests.apps.asgi import application
from wsrt.asgi import with_runtime


class Printing(Transport):
    """Prints what would be sent to Sentry."""

    def capture_envelope(self, envelope: Any) -> None:
        for item in envelope.items:
            sys.stdout.write(f"sentry {item.type}\n")


sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", traces_sample_rate=1.0, transport=Printing)


def line(span: ReadableSpan) -> str:
    """Return a line with the ids of a span and of its parent, and its name."""
    parent = f"{span.parent.span_id:x}" if span.parent else "-"
    return f"span {span.get_span_context().span_id:x} {parent} {span.name}\n"


spans = TracerProvider()
spans.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=line)))


def with_spans(app: Any) -> Any:
    return OpenTelemetryMiddleware(app, tracer_provider=spans)


sentry_around = SentryAsgiMiddleware(with_runtime(application))
sentry_below = with_runtime(SentryAsgiMiddleware(application))
otel_around = with_spans(with_runtime(application))
otel_below = with_runtime(with_spans(application))
both = SentryAsgiMiddleware(with_spans(with_runtime(application)))
