"""Every SQL statement, in the words of either database. Knows no connection.

Parameters are written `:name`; a list of numbers is one parameter. Moments are the database's own, never a worker's
or a server's clock.
"""

from __future__ import annotations

from typing import NamedTuple

from .models import ACTIVE, CHANNEL, RESPONSE_FIELDS


class Dialect(NamedTuple):
    """What the two databases say differently."""

    now_plus: str  # the moment so many seconds from now
    moment: str  # a moment to compare with, whatever form it was written in
    among: str  # membership in a list parameter
    greatest: str
    least: str
    last_revision: str


DIALECTS = {
    "sqlite": Dialect(
        now_plus="strftime('%Y-%m-%dT%H:%M:%fZ', 'now', {} || ' seconds')",
        moment="julianday({})",
        among="IN (SELECT value FROM json_each({}))",
        greatest="max",
        least="min",
        last_revision="SELECT value FROM user_tasks_revision",
    ),
    "postgresql": Dialect(
        now_plus="clock_timestamp() + make_interval(secs => CAST({} AS double precision))",
        moment="{}",
        among="= ANY({})",
        greatest="greatest",
        least="least",
        last_revision="SELECT last_value FROM user_tasks_revision_seq WHERE is_called",
    ),
}

_SNAPSHOT = f"SELECT {', '.join(RESPONSE_FIELDS)}, revision FROM user_tasks "
_KEYS = "SELECT id, user_id, revision FROM user_tasks "
_NEWEST_FIRST = "ORDER BY created_at DESC, id DESC "


class Statements:
    """The statements for one database; those of snapshots select `RESPONSE_FIELDS` and `revision`."""

    def __init__(self, dialect: str) -> None:
        words = DIALECTS[dialect]
        now, earlier = words.now_plus.format(0), words.now_plus.format(":seconds")
        ids, user_ids = words.among.format(":ids"), words.among.format(":user_ids")
        lease = "lease_expires_at = " + words.now_plus.format(":lease")
        expired = (
            f"{ACTIVE} AND status IN ('starting', 'running') "
            f"AND {words.moment.format('lease_expires_at')} < {words.moment.format(now)}"
        )

        # What requests and the feed read.
        self.task = _SNAPSHOT + "WHERE task_id = :task_id"
        self.tasks_of = _SNAPSHOT + f"WHERE user_id = :user_id {_NEWEST_FIRST} LIMIT :limit OFFSET :skip"
        self.latest_of_learning_path = _SNAPSHOT + f"WHERE learning_path_id = :path {_NEWEST_FIRST} LIMIT 1"
        self.active_of = _SNAPSHOT + f"WHERE user_id = :user_id AND {ACTIVE} ORDER BY revision"
        self.active_or_changed_of = _SNAPSHOT + (
            f"WHERE user_id = :user_id AND ({ACTIVE} OR id IN (SELECT id FROM user_tasks WHERE user_id = :user_id "
            f"AND (revision > :cursor OR updated_at > {earlier}) ORDER BY revision DESC LIMIT :most)) ORDER BY revision"
        )
        self.by_ids = _SNAPSHOT + f"WHERE id {ids} ORDER BY revision"
        self.revisions = f"SELECT id, revision FROM user_tasks WHERE id {ids}"
        self.active_or_new_keys = (
            f"{_KEYS} WHERE user_id {user_ids} AND {ACTIVE} "
            f"UNION {_KEYS} WHERE user_id {user_ids} AND created_at > {earlier}"
        )
        self.changed_since = _KEYS + "WHERE revision > :revision ORDER BY revision"
        self.last_revision = words.last_revision
        self.canary = f"SELECT pg_notify('{CHANNEL}', '')"
        self.first_expired = f"SELECT 1 FROM user_tasks WHERE {expired} LIMIT 1"
        self.ended_before = (
            f"SELECT id FROM user_tasks WHERE id > :last_id AND NOT ({ACTIVE}) AND ended_at < {earlier} "
            "ORDER BY id LIMIT :batch"
        )

        # What workers write. NULL leaves a column as it is; `advance` adds up over processes.
        total = "coalesce(CAST(:total_items AS bigint), total_items)"
        completed = "(coalesce(CAST(:completed_items AS bigint), completed_items) + CAST(:advance AS bigint))"
        progress = "CAST(:progress AS double precision)"
        self.claim = (
            f"UPDATE user_tasks SET status = 'starting', {lease} WHERE task_id = :task_id AND {ACTIVE} RETURNING id"
        )
        self.report = f"""UPDATE user_tasks SET
            status = coalesce(:status, status),
            stage = coalesce(:stage, stage),
            result_message = coalesce(:result_message, result_message),
            error_details = coalesce(:error_details, error_details),
            total_items = {total},
            completed_items = {completed},
            progress = CASE
                WHEN {progress} IS NOT NULL THEN {progress}
                WHEN {total} > 0
                THEN {words.greatest}(progress, {words.least}(100.0, 100.0 * {completed} / {total}))
                ELSE progress END,
            {lease}
            WHERE id = :id AND {ACTIVE}"""
        self.renew = f"UPDATE user_tasks SET {lease} WHERE id {ids} AND {ACTIVE} RETURNING id"

        # What keeps the table true and small.
        self.reap = (
            "UPDATE user_tasks SET status = 'timeout', result_message = 'The worker stopped reporting.' "
            f"WHERE {expired} RETURNING task_id"
        )
        self.delete = f"DELETE FROM user_tasks WHERE id {ids}"
