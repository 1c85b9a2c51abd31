#!/bin/sh
# Saves what Mailrace keeps, while it runs: backup.sh DATA-DIR TARGET-DIR
# The queue and the rules are copied by SQLite's online backup, so that each copy is of one moment; the keys and
# passwords beside them are copied as they are. Restore: docs/backup.md.
set -eu
[ $# = 2 ] || { echo "usage: backup.sh DATA-DIR TARGET-DIR" >&2; exit 2; }
data=$1 target=$2
[ -d "$data" ] || { echo "backup.sh: $data is no folder" >&2; exit 2; }
umask 077
mkdir -p "$target"
python=${MAILRACE_PYTHON:-python3}

copy() { # an SQLite file, while others write it
    [ -f "$data/$1" ] || return 0
    "$python" - "$data/$1" "$target/$1.part" <<'PYTHON'
import contextlib, sqlite3, sys
with contextlib.closing(sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, timeout=60)) as source, \
        contextlib.closing(sqlite3.connect(sys.argv[2])) as target:
    source.backup(target, pages=2000, sleep=0.01)
    if target.execute("PRAGMA quick_check").fetchone() != ("ok",):
        sys.exit(f"backup.sh: the copy of {sys.argv[1]} is damaged")
PYTHON
    mv "$target/$1.part" "$target/$1"
}

copy rules.db
copy queue.db
copy api-idempotency.db
for held in "$data"/held/*/; do # results that the broker did not take
    [ -d "$held" ] || continue
    name=held/$(basename "$held")
    mkdir -p "$target/$name"
    copy "$name/queue.db"
    [ ! -f "$held/name" ] || cp -p "$held/name" "$target/$name/name"
done
for name in rules.key console-password console-secret console-ended api-tokens settled; do
    [ ! -f "$data/$name" ] || cp -p "$data/$name" "$target/$name"
done
date -u +%Y-%m-%dT%H:%M:%SZ > "$target/saved"
echo "saved $data into $target"
