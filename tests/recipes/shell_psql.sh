#!/usr/bin/env bash
# Reports to PostgreSQL by plain UPDATE: the database's own triggers move the open bars.
#   bash shell_psql.sh postgresql://taskapi@db.example.com/taskapi 123 /usr/lib/python3/dist-packages/*.py > sums.txt
set -euo pipefail
database=$1 user_id=$2
shift 2
task_id="sha256_${user_id}_$(date -u +%Y%m%dT%H%M%SZ)_$RANDOM$RANDOM"
count=0 file="" total=$#

# psql itself puts :'name' into quotes, but only in what it reads from standard input or a file, not in -c.
sql() {
    psql --no-psqlrc -qAt --set ON_ERROR_STOP=1 --set task_id="$task_id" --set user_id="$user_id" \
        --set file="$file" --set count="$count" --set total="$total" "$database" <<< "$1"
}
# A task that has ended stays as it is; one that is not heard of for five minutes is closed as "timeout". Prints a
# moment if somebody has asked for its end.
report() {
    sql "UPDATE user_tasks SET $1, lease_expires_at = now() + interval '5 minutes'
         WHERE task_id = :'task_id' AND status = 'running' RETURNING cancel_requested_at"
}
stopped() { report "status = 'failed', result_message = 'Stopped at ' || :'file'" > /dev/null; }
cancelled() { report "status = 'failed', result_message = 'Cancelled.'" > /dev/null; exit; }

sql "INSERT INTO user_tasks (task_id, user_id, status, total_items, lease_expires_at)
     VALUES (:'task_id', :'user_id', 'running', :total, now() + interval '5 minutes')"
trap stopped EXIT  # whatever ends this script; after its last line there is nothing left to change

for file in "$@"; do
    asked=$(report "stage = :'file', completed_items = :count, progress = 100.0 * :count / :total")
    [ -z "$asked" ] || cancelled
    sha256sum -- "$file"
    count=$((count + 1))
done
report "status = 'completed', stage = 'finished', completed_items = :count, progress = 100,
        result_message = :count || ' files'" > /dev/null
