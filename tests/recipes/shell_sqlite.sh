#!/usr/bin/env bash
# Reports to SQLite by plain UPDATE: the database's own triggers move the open bars.
#   bash shell_sqlite.sh instance/taskapi.db 123 /usr/lib/python3/dist-packages/*.py > sums.txt
set -euo pipefail
database=$1 user_id=$2
shift 2
task_id="sha256_${user_id}_$(date -u +%Y%m%dT%H%M%SZ)_$RANDOM$RANDOM"
count=0 file=""

sql() { sqlite3 -bail -cmd ".timeout 10000" "$database" "$1"; }
# Text goes into SQL in quotes, with its own quotes doubled.
quoted() { local quote="'"; printf "'%s'" "${1//$quote/$quote$quote}"; }
# A task that has ended stays as it is; one that is not heard of for five minutes is closed as "timeout". Prints a
# moment if somebody has asked for its end.
report() {
    sql "UPDATE user_tasks SET $1, lease_expires_at = datetime('now', '+5 minutes')
         WHERE task_id = $(quoted "$task_id") AND status = 'running' RETURNING cancel_requested_at"
}
stopped() { report "status = 'failed', result_message = $(quoted "Stopped at $file")" > /dev/null; }
cancelled() { report "status = 'failed', result_message = 'Cancelled.'" > /dev/null; exit; }

sql "INSERT INTO user_tasks (task_id, user_id, status, total_items, lease_expires_at)
     VALUES ($(quoted "$task_id"), $(quoted "$user_id"), 'running', $#, datetime('now', '+5 minutes'))"
trap stopped EXIT  # whatever ends this script; after its last line there is nothing left to change

for file in "$@"; do
    asked=$(report "stage = $(quoted "$file"), completed_items = $count, progress = 100.0 * $count / $#")
    [ -z "$asked" ] || cancelled
    sha256sum -- "$file"
    count=$((count + 1))
done
report "status = 'completed', stage = 'finished', completed_items = $count, progress = 100,
        result_message = $(quoted "$count files")" > /dev/null
