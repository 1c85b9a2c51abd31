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

bodies() { # what lies beside a queue's file: it is only appended to, and goes as a whole
    [ -d "$data/$1.bodies" ] || return 0
    mkdir -p "$target/$1.bodies"
    for file in "$data/$1.bodies"/*; do
        [ ! -f "$file" ] || cp -p "$file" "$target/$1.bodies/" 2>/dev/null || [ ! -f "$file" ]
    done
}

match() { # mail that left between the copies has no content there, and what has no mail any more is not kept
    "$python" - "$target/$1" <<'PYTHON'
import contextlib, pathlib, sqlite3, sys
folder = pathlib.Path(f"{sys.argv[1]}.bodies")
with contextlib.closing(sqlite3.connect(sys.argv[1], isolation_level=None)) as db:
    if "segment" in [column[1] for column in db.execute("PRAGMA table_info(messages)")]:
        wanted = "SELECT segment, max(start + octets) FROM messages WHERE segment IS NOT NULL GROUP BY segment"
        kept = dict(db.execute(wanted).fetchall())
        for file in folder.glob("[0-9]*"):
            if int(file.name) not in kept:
                file.unlink()
        for segment, end in kept.items():
            file = folder / f"{segment:08}"
            if not file.exists() or file.stat().st_size < end:
                db.execute("DELETE FROM messages WHERE segment = ?", (segment,))
PYTHON
}

copy rules.db
bodies queue.db
copy queue.db
bodies queue.db
[ ! -f "$target/queue.db" ] || match queue.db
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
