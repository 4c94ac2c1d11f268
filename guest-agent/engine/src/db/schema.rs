//! The schema, as a list of steps that is only ever appended to.
//!
//! Records are JSON documents; only what SQLite itself must guard (identity, uniqueness of names)
//! is a column. A part that needs a table appends a step; a step that was released never changes.

use rusqlite::Connection;

use super::DbError;

/// One step per released change; `user_version` counts the steps taken.
const STEPS: &[&str] = &[
    // Containers: `body` is what create made, `state` what the last run left behind.
    "CREATE TABLE containers (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        body TEXT NOT NULL,
        state TEXT NOT NULL
     ) STRICT;
     CREATE TABLE volumes (
        name TEXT PRIMARY KEY,
        body TEXT NOT NULL
     ) STRICT;
     CREATE TABLE networks (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        body TEXT NOT NULL
     ) STRICT;",
    // Images by the digest of their configuration; names in full form; things done once.
    "CREATE TABLE images (
        id TEXT PRIMARY KEY,
        body TEXT NOT NULL
     ) STRICT;
     CREATE TABLE image_names (
        name TEXT PRIMARY KEY,
        image TEXT NOT NULL
     ) STRICT;
     CREATE TABLE marks (
        name TEXT PRIMARY KEY
     ) STRICT;",
    // What registries call the layers: only saves a push from sending them again.
    "CREATE TABLE known_blobs (
        layer TEXT NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (layer, body)
     ) STRICT;",
    // Volumes that are removed, whose folders may still be there.
    "CREATE TABLE leaving_volumes (
        name TEXT PRIMARY KEY
     ) STRICT;",
];

/// How many steps the file has seen; none if it is new.
pub(super) fn version(connection: &Connection) -> Result<i64, DbError> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

/// Fails if the file has seen steps that this engine does not know.
pub(super) fn refuse_newer(found: i64) -> Result<(), DbError> {
    let known = known();
    if found > known {
        return Err(DbError::Newer { found, known });
    }
    Ok(())
}

/// Takes the steps after the first `found`, all of them or none. Writes nothing if there are none:
/// the engine has to open on a full disk.
pub(super) fn migrate(connection: &mut Connection, found: i64) -> Result<(), DbError> {
    let known = known();
    if found == known {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}

fn known() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}
