#!/usr/bin/env bash
# Starts PostgreSQL as the official image does: initialises PGDATA when it is empty, from POSTGRES_USER, POSTGRES_PASSWORD,
# POSTGRES_DB, POSTGRES_INITDB_ARGS and POSTGRES_HOST_AUTH_METHOD (each also with _FILE appended), runs
# /docker-entrypoint-initdb.d, and becomes the server. Any other command is run as it is.
set -euo pipefail

case "${1:-}" in -*) set -- postgres "$@" ;; esac
[ "${1:-}" = postgres ] || exec "$@"

# Every variable may come from a file: a mounted secret.
for name in POSTGRES_USER POSTGRES_PASSWORD POSTGRES_DB POSTGRES_INITDB_ARGS; do
    file=${name}_FILE
    if [ -n "${!file:-}" ]; then
        [ -z "${!name:-}" ] || { echo "$name and $file are both set; choose one" >&2; exit 1; }
        export "$name=$(<"${!file}")"
        unset "$file"
    fi
done
: "${POSTGRES_USER:=postgres}" "${POSTGRES_PASSWORD:=}" "${POSTGRES_INITDB_ARGS:=}"
: "${POSTGRES_DB:=$POSTGRES_USER}" "${POSTGRES_HOST_AUTH_METHOD:=scram-sha-256}"

mkdir -p "$PGDATA"
if [ "$(id -u)" = 0 ]; then
    chown -R postgres:postgres "$PGDATA"
    export POSTGRES_USER POSTGRES_PASSWORD POSTGRES_DB POSTGRES_INITDB_ARGS POSTGRES_HOST_AUTH_METHOD HOME=/var/lib/postgresql
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
chmod 0700 "$PGDATA"

# Statements for the server that serves nobody but this script.
run_sql() { psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet --username "$POSTGRES_USER" --no-password --dbname "$POSTGRES_DB" "$@"; }

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    if [ -z "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_HOST_AUTH_METHOD" != trust ]; then
        echo "the superuser needs a password: set POSTGRES_PASSWORD, or POSTGRES_HOST_AUTH_METHOD=trust to let everybody in" >&2
        exit 1
    fi
    eval "initdb --pgdata '$PGDATA' --username '$POSTGRES_USER' --pwfile=<(printf '%s\n' \"\$POSTGRES_PASSWORD\") \
        --auth-local=trust --no-instructions $POSTGRES_INITDB_ARGS"
    echo "host all all all $POSTGRES_HOST_AUTH_METHOD" >>"$PGDATA/pg_hba.conf"
    pg_ctl -D "$PGDATA" -o "-c listen_addresses='' -c fsync=off" -w start
    if [ "$POSTGRES_DB" != postgres ]; then
        psql --no-psqlrc --quiet --username "$POSTGRES_USER" --dbname postgres -v name="$POSTGRES_DB" \
            <<<'CREATE DATABASE :"name"'
    fi
    for file in /docker-entrypoint-initdb.d/*; do
        case "$file" in
            *.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
            *.sql) run_sql -f "$file" ;;
            *.sql.gz) gunzip -c "$file" | run_sql ;;
        esac
    done
    pg_ctl -D "$PGDATA" -m fast -w stop
    unset PGPASSWORD
    echo "PostgreSQL init process complete; ready for start up."
fi
unset POSTGRES_PASSWORD
exec "$@"
