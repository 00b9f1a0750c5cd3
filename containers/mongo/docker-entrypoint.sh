#!/usr/bin/env bash
# Starts mongod as the official image does: as the user mongodb, listening on every address of the container, and, where
# MONGO_INITDB_ROOT_USERNAME and MONGO_INITDB_ROOT_PASSWORD are set and /data/db is empty, with that user made first and access
# control on. Any other command is run as it is.
set -euo pipefail

case "${1:-}" in -*) set -- mongod "$@" ;; esac
[ "${1:-}" = mongod ] || exec "$@"

if [ "$(id -u)" = 0 ]; then
    chown -R mongodb:mongodb /data/db /data/configdb
    exec setpriv --reuid=mongodb --regid=mongodb --init-groups "$0" "$@"
fi

case " $* " in
    *" --bind_ip"*) ;;
    *) set -- "$@" --bind_ip_all ;;
esac

if [ -n "${MONGO_INITDB_ROOT_USERNAME:-}" ] && [ -n "${MONGO_INITDB_ROOT_PASSWORD:-}" ]; then
    if [ ! -e /data/db/WiredTiger ]; then
        mongod --dbpath /data/db --bind_ip 127.0.0.1 --port 27018 --fork --logpath /data/db/init.log --pidfilepath /data/db/init.pid >/dev/null
        first-user 27018
        mongod --dbpath /data/db --shutdown >/dev/null
        rm -f /data/db/init.log /data/db/init.pid
    fi
    set -- "$@" --auth
fi
unset MONGO_INITDB_ROOT_PASSWORD
exec "$@"
