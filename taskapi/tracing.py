"""Spans of OpenTelemetry, where a process uses it: a worker's run is part of the trace of what made its task.

The trace goes along in a hidden column, `traceparent` (W3C Trace Context). Nothing here imports OpenTelemetry in a
process that has not: there nobody traces, and the import takes as long as that of all the helper.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Span

NAME = "traceparent"


def is_in_use() -> bool:
    """Whether this process traces."""
    return "opentelemetry" in sys.modules


def traceparent() -> str | None:
    """What names the current span elsewhere."""
    if not is_in_use():
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(NAME)


def begin(task_id: str, kind: str | None, parent: str | None) -> Span | None:
    """A span for a run of a task, in the trace of `parent`, what `traceparent` said where the task was made."""
    if not is_in_use():
        return None
    from opentelemetry.trace import SpanKind, get_tracer
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract({NAME: parent} if parent else {})
    attributes = {"taskapi.task_id": task_id, "taskapi.kind": kind or ""}
    return get_tracer("taskapi").start_span(
        f"run {kind or 'task'}", context=context, kind=SpanKind.CONSUMER, attributes=attributes
    )


def end(span: Span | None, error: BaseException | None) -> None:
    """End a run's span: with what left the block, if anything did."""
    if span is None:
        return
    from opentelemetry.trace import Status, StatusCode

    if error is not None:
        span.record_exception(error)
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))
    span.end()


def enter(span: Span | None) -> Any:
    """Let what follows in this context be part of a span; gives what `leave` wants."""
    if span is None:
        return None
    from opentelemetry.context import attach
    from opentelemetry.trace import set_span_in_context

    return attach(set_span_in_context(span))


def leave(entered: Any) -> None:
    """Let it be part of the span no longer."""
    if entered is not None:
        from opentelemetry.context import detach

        detach(entered)
