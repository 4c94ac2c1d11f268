#!/bin/sh
# PostgreSQL as its images start it: the folder is filled once, and everything runs as the user postgres.
set -eu
if [ "$(id -u)" = 0 ]; then
  chown postgres:postgres "$PGDATA"
  exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb --username="$PGUSER" --pwfile=/run/secrets/password --auth-local=trust --auth-host=scram-sha-256 \
    --no-locale --encoding=UTF8 --no-instructions
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  echo "CREATE DATABASE counter" | postgres --single -j postgres
  echo "CREATE TABLE counted (at timestamptz DEFAULT now())" | postgres --single -j counter
fi
exec postgres -c listen_addresses='*' -k /tmp
