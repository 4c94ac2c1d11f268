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
];

/// Takes the steps that the file has not seen, all of them or none.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), DbError> {
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known {
        return Err(DbError::Newer { found, known });
    }
    let transaction = connection.transaction()?;
    for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}
