"""Every SQL statement, whole, by name; what the two databases say differently has its text in `sqlite`, `postgresql`.

Parameters are written `:name`; a list of numbers is one parameter. Moments are the database's own, never a worker's
or a server's clock. Statements of snapshots select `SNAPSHOT`, which `Snapshot.of` reads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .models import RESPONSE_FIELDS

# How a parameter is written, which no cast is: `::text`.
PARAMETER = re.compile(r"(?<!:):([a-z_]+)")
SNAPSHOT = f"{', '.join(RESPONSE_FIELDS)}, revision, cancel_requested_at"

# What a list's reader is shown of a task, where a text is looked for. A bar shows a name's underscore as a space; where
# `:hides`, what stands in a failure's place (see `models`) is all that is to be found of it.
SHOWN = """replace(task_id || '\n' || coalesce(kind, '') || '\n' || coalesce(stage, '') || '\n' || coalesce(
                CASE
                    WHEN :hides AND status = 'failed' AND coalesce(result_message, '') <> 'Cancelled.'
                        THEN 'Task failed during execution.'
                    WHEN :hides AND error_details IS NOT NULL
                            AND status IN ('pending', 'queued', 'starting', 'running')
                        THEN 'Task failed during execution. It will be tried again.'
                    ELSE result_message
                END, ''), '_', ' ')"""


@dataclass(frozen=True, kw_only=True)
class Statements:
    """The statements of one database."""

    # What requests and the feed read.

    task: str = f"""
        SELECT {SNAPSHOT} FROM user_tasks WHERE task_id = :task_id"""

    tasks_named: str

    # Lists: a filter that is not wanted is NULL, or all seven statuses. A text's ASCII letters may be large or small;
    # those of other scripts are folded by no two databases alike, and are looked for as they are.

    tasks_of: str

    # Everybody's: within the newest `depth` that the other filters let through, a text is looked for; without a text
    # these are the page and what comes before it. Those that have not ended, and those that failed, are found by
    # indexes of their own: they may be a few among millions.

    tasks: str

    tasks_active: str

    tasks_failed: str

    kinds_ended: str = """
        WITH RECURSIVE found (kind, number) AS (
            SELECT min(kind), 1 FROM user_tasks WHERE status IN ('completed', 'failed', 'timeout')
            UNION ALL
            SELECT (
                SELECT min(kind) FROM user_tasks
                WHERE status IN ('completed', 'failed', 'timeout') AND kind > found.kind
            ), number + 1
            FROM found WHERE kind IS NOT NULL AND number < :most
        )
        SELECT kind FROM found WHERE kind IS NOT NULL"""

    ended_counts: str = """
        SELECT status, count(*) FROM user_tasks
        WHERE status IN ('completed', 'failed', 'timeout')
        GROUP BY status"""

    # Of those that have not ended, by kind and status: how many, the oldest's moment and age in seconds, and how many
    # whose lease has run out; what there is most of first.
    active: str

    # What an administrator sees first: how the last of each kind went, and what failed. What was cancelled has not
    # failed. `kinds` are those of `kinds_ended`, and NULL.

    last_of_kinds: str

    failure_count: str

    failures: str

    # What ended is counted by one process for all: whoever moves the mark counts what lies between. Some seconds late,
    # since a change is seen only at its commit; and what happened while nobody counted, of an hour at most.

    is_uncounted: str

    count_from: str

    counted: str = """
        UPDATE user_tasks_schema SET counted_until = :until WHERE counted_until = :mark RETURNING true"""

    ended_between: str

    latest_of_learning_path: str = f"""
        SELECT {SNAPSHOT} FROM user_tasks
        WHERE learning_path_id = :path
        ORDER BY created_at DESC, id DESC LIMIT 1"""

    # The newest so many: a user may have queued a hundred thousand.
    active_of: str = f"""
        SELECT {SNAPSHOT} FROM user_tasks
        WHERE user_id = :user_id AND status IN ('pending', 'queued', 'starting', 'running')
        ORDER BY created_at DESC, id DESC LIMIT :most"""

    ended_since: str = f"""
        SELECT {SNAPSHOT} FROM user_tasks
        WHERE user_id = :user_id AND status IN ('completed', 'failed', 'timeout') AND revision > :revision
        ORDER BY revision DESC LIMIT :most"""

    # Among the newest so many alone, which an index finds: a user may have a history of a million.
    keys_ended_lately: str = """
        SELECT id, user_id, revision FROM (
            SELECT id, user_id, revision, status FROM user_tasks
            WHERE user_id = :user_id
            ORDER BY created_at DESC, id DESC LIMIT :most
        ) AS newest
        WHERE status IN ('completed', 'failed', 'timeout') AND revision > :revision"""

    # Of tasks whose revisions are known, those that have another one, and, without a row, those that are gone.
    news: str

    keys_of_ids: str

    keys_of_users: str

    # The database's clock in microseconds since 1970, of which revisions are made.
    clock: str

    # "UTF8", if the database takes every text.
    encoding: str

    schema_version: str = """
        SELECT version FROM user_tasks_schema"""

    ended_before: str

    # For forecasts, moments as seconds since 1970. Of those that have ended, only the last so many are looked at, which
    # an index finds: whoever closed a long queue has left a hundred thousand that never ran. One that was completed
    # without a word of its start is taken to have waited until then.

    runs: str

    standings: str

    # How many wait before a task, itself included, and since when the first of them.
    place: str

    line: str

    # What workers write. NULL leaves a column as it is; `advance` adds up over processes.

    # A task that is not started by its end cannot be finished by it: where only that is given, `start_by` is the same.
    insert: str

    # What an attempt says changes nothing once it is over: another one was started, or the task waits for that. Nor
    # does it once the task is lost, in a restore: its id may be another one's then.

    attempt: str = """
        SELECT id, task_id, abs(attempt), status, total_items, cancel_requested_at IS NOT NULL, result_message
        FROM user_tasks WHERE task_id = :task_id"""

    # Nothing is started that was cancelled, or whose time is over.
    claim: str

    # Why a claim was refused, as `overdue_started`.
    refused: str

    # These two return whether the task goes on and is to be cancelled.

    # `attempt` is negative once the bar is divided into steps: then only who runs the task (`share`) moves it and says
    # the total, and what others count adds up.
    # A status that is set, even to what it was, has SQLite look after four indexes: where none is said, none is set.
    report: str

    report_of_status: str

    positions: str

    renew: str

    # Of these attempts, given by id, those that are to stop: whether the task goes on until they do.
    to_stop: str

    # A task that was cancelled is not tried again. What limits its waiting from now on is only the moment of its end.
    retry: str = """
        UPDATE user_tasks SET
            status = CASE WHEN cancel_requested_at IS NULL THEN 'queued' ELSE 'failed' END,
            stage = NULL,
            progress = 0,
            total_items = :total_items,
            completed_items = 0,
            result_message = CASE WHEN cancel_requested_at IS NULL THEN :result_message ELSE 'Cancelled.' END,
            error_details = CASE WHEN cancel_requested_at IS NULL THEN :error_details END,
            started_at = CASE WHEN cancel_requested_at IS NULL THEN NULL ELSE started_at END,
            lease_expires_at = NULL,
            start_by = end_by
        WHERE id = :id AND task_id = :task_id AND abs(attempt) = :attempt AND status IN ('starting', 'running')
        RETURNING false"""

    # What whoever waits for a task may want. A task that waits ends at once, one that was started is to.

    cancel: str

    # What keeps the table true and small.

    # What is to be closed: how it was found (`close` changes nothing that has changed since), why, and within how many
    # seconds it should have been started or finished. First what was started: its worker is silent, or does not react
    # to a cancellation, or takes too long. Then what waits for too long: by its own limit, or by the one for all.

    overdue_started: str

    overdue_waiting: str

    # One kind after the other, as the index has them. A task that is tried again waits since then.
    waiting_too_long: str

    close: str

    delete: str
