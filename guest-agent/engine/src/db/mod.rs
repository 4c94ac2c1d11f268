//! The metadata database: SQLite on the data disk, one connection, one writer thread.
//!
//! Everything is read once at start and lives in memory afterwards; the database is only written.
//! [`Db::write`] answers after the change is on disk ([`Sync::Durable`]) or in the write-ahead log
//! ([`Sync::Lazy`]: survives the engine, not the machine). Changes that wait at the same time share
//! one transaction and so one flush.
//!
//! ```text
//!   task ──Job──► writer thread: BEGIN, each job in a savepoint, COMMIT ──reply──► task
//! ```
//!
//! Called by: every part of the engine that keeps something. Nothing else may open the file.

mod schema;

use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// When a change is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// After it is flushed to the disk: what a client was told exists.
    Durable,
    /// Once it is in the log: what only describes this run of the machine.
    Lazy,
}

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// SQLite refused.
    #[error("the database refused the change: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A record cannot be written or read as JSON.
    #[error("a record of the database is not what it should be: {0}")]
    Record(#[from] serde_json::Error),
    /// Written by a newer engine.
    #[error(
        "the database has schema {found}, this engine knows up to {known}; use the newer engine"
    )]
    Newer {
        /// Version in the file.
        found: i64,
        /// Newest version this engine knows.
        known: i64,
    },
    /// The directory cannot be used.
    #[error("the database cannot be opened: {0}")]
    Io(#[from] std::io::Error),
    /// The writer thread is gone.
    #[error("the database is closed")]
    Closed,
}

impl From<DbError> for Error {
    fn from(error: DbError) -> Self {
        Error::internal("the engine's database failed", error)
    }
}

type Finish = Box<dyn FnOnce(std::result::Result<(), String>) + Send>;
type Run = Box<dyn FnOnce(&Connection) -> Finish + Send>;

struct Job {
    sync: Sync,
    run: Run,
}

/// The database. Dropping the last handle closes it.
pub struct Db {
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

/// Jobs that one transaction may hold; more wait for the next.
const BATCH: usize = 256;

impl Db {
    /// Opens or makes the database in `dir` and brings its schema up to date.
    pub fn open(dir: &Path) -> Result<Self, DbError> {
        std::fs::create_dir_all(dir)?;
        let mut connection = Connection::open(dir.join("engine.db"))?;
        // Exclusive: one process owns the file, so SQLite needs no shared-memory index beside it.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        schema::migrate(&mut connection)?;
        let (jobs, queue) = mpsc::channel();
        let writer = std::thread::Builder::new()
            .name("db-writer".into())
            .stack_size(512 * 1024)
            .spawn(move || write_loop(&connection, &queue))?;
        Ok(Self {
            jobs: Some(jobs),
            writer: Some(writer),
        })
    }

    /// Runs `change` in a transaction and waits until it is kept as `sync` says.
    ///
    /// An error of `change` undoes it alone; an error at the commit fails all that shared it.
    pub async fn write<T, F>(&self, sync: Sync, change: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, DbError> + Send + 'static,
    {
        self.queue(sync, change)?
            .await
            .map_err(|_| DbError::Closed)?
    }

    /// Like [`Db::write`], from a thread that may block.
    pub fn write_blocking<T, F>(&self, sync: Sync, change: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, DbError> + Send + 'static,
    {
        self.queue(sync, change)?
            .blocking_recv()
            .map_err(|_| DbError::Closed)?
    }

    /// Queues a lazy change nobody waits for; a failure is logged.
    pub fn write_behind<F>(&self, change: F)
    where
        F: FnOnce(&Connection) -> Result<(), DbError> + Send + 'static,
    {
        let run: Run = Box::new(move |connection| {
            if let Err(error) = in_savepoint(connection, change) {
                tracing::error!(%error, "a database change failed");
            }
            Box::new(|_| {})
        });
        if self
            .send(Job {
                sync: Sync::Lazy,
                run,
            })
            .is_err()
        {
            tracing::error!("a database change came after the close");
        }
    }

    fn queue<T, F>(
        &self,
        sync: Sync,
        change: F,
    ) -> Result<oneshot::Receiver<Result<T, DbError>>, DbError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, DbError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let run: Run = Box::new(move |connection| {
            let result = in_savepoint(connection, change);
            Box::new(move |committed| {
                let result = match committed {
                    Ok(()) => result,
                    Err(text) => Err(commit_error(text)),
                };
                // The asker may have gone away; the change stands.
                let _ = reply.send(result);
            })
        });
        self.send(Job { sync, run })?;
        Ok(answer)
    }

    fn send(&self, job: Job) -> Result<(), DbError> {
        self.jobs
            .as_ref()
            .ok_or(DbError::Closed)?
            .send(job)
            .map_err(|_| DbError::Closed)
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(writer) = self.writer.take() {
            // A panic of the writer was already printed by its hook.
            let _ = writer.join();
        }
    }
}

fn in_savepoint<T>(
    connection: &Connection,
    change: impl FnOnce(&Connection) -> Result<T, DbError>,
) -> Result<T, DbError> {
    connection.execute_batch("SAVEPOINT job")?;
    let result = change(connection);
    let end = if result.is_ok() {
        "RELEASE job"
    } else {
        "ROLLBACK TO job; RELEASE job"
    };
    connection.execute_batch(end)?;
    result
}

fn commit_error(text: String) -> DbError {
    DbError::Sqlite(rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR),
        Some(text),
    ))
}

fn write_loop(connection: &Connection, queue: &mpsc::Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(job) = queue.try_recv()
        {
            batch.push(job);
        }
        write_batch(connection, batch);
    }
}

fn write_batch(connection: &Connection, batch: Vec<Job>) {
    let durable = batch.iter().any(|job| job.sync == Sync::Durable);
    let mut finishes = Vec::with_capacity(batch.len());
    let outcome = (|| {
        // In WAL mode FULL flushes the log at the commit and NORMAL does not.
        connection.pragma_update(None, "synchronous", if durable { "FULL" } else { "NORMAL" })?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for job in batch {
            finishes.push((job.run)(connection));
        }
        connection.execute_batch("COMMIT")
    })();
    if outcome.is_err() && !connection.is_autocommit() {
        // The first error is the one to report.
        let _ = connection.execute_batch("ROLLBACK");
    }
    let outcome = outcome.map_err(|error: rusqlite::Error| error.to_string());
    for finish in finishes {
        finish(outcome.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(connection: &Connection, name: &str) -> Result<(), DbError> {
        connection.execute("INSERT INTO volumes (name, body) VALUES (?1, '{}')", [name])?;
        Ok(())
    }

    async fn names(db: &Db) -> Vec<String> {
        db.write(Sync::Lazy, |connection| {
            let mut statement = connection.prepare("SELECT name FROM volumes ORDER BY name")?;
            let names = statement
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            Ok(names)
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn what_was_written_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path()).unwrap();
        db.write(Sync::Durable, |c| put(c, "a")).await.unwrap();
        db.write_behind(|c| put(c, "b"));
        drop(db);
        let db = Db::open(dir.path()).unwrap();
        assert_eq!(names(&db).await, ["a", "b"]);
    }

    #[tokio::test]
    async fn a_failed_change_leaves_the_others_of_its_batch() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path()).unwrap();
        let first = db.write(Sync::Durable, |c| put(c, "a"));
        let twice = db.write(Sync::Durable, |c| {
            put(c, "b")?;
            put(c, "a")
        });
        let other = db.write(Sync::Lazy, |c| put(c, "c"));
        let (first, twice, other) = tokio::join!(first, twice, other);
        first.unwrap();
        assert!(matches!(twice, Err(DbError::Sqlite(_))));
        other.unwrap();
        assert_eq!(names(&db).await, ["a", "c"]);
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(Db::open(dir.path()).unwrap());
        let connection = Connection::open(dir.path().join("engine.db")).unwrap();
        connection.pragma_update(None, "user_version", 999).unwrap();
        drop(connection);
        assert!(matches!(
            Db::open(dir.path()),
            Err(DbError::Newer { found: 999, .. })
        ));
    }
}
