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

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use rusqlite::Connection;
use rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE as KEEP_LOG;
use rustix::fs::{FallocateFlags, fallocate};
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
    /// What is in the file is no database, or not a whole one.
    #[error(
        "{} is damaged ({reason}). Nothing was changed: the data of volumes and containers is still \
         on the disk. Put a copy of the file in its place, or move it and the folders beside it \
         away to begin with an empty engine",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is empty or missing, and cannot always have been.
    #[error(
        "{} is empty, but the disk holds {what}. Nothing was changed. Put a copy of the file in its \
         place, or move the data away to begin with an empty engine",
        path.display()
    )]
    Lost {
        /// The file.
        path: PathBuf,
        /// What it should know of.
        what: String,
    },
    /// Written by a newer engine.
    #[error(
        "the database has schema {found}, this engine knows up to {known}. Nothing was changed; \
         use the newer Lighter that wrote it"
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
    /// Opens or makes the database in `dir` and brings its schema up to date. `earlier` names what
    /// is on the disk that only an earlier database can have recorded: then none is made.
    pub fn open(dir: &Path, earlier: Option<&str>) -> Result<Self, DbError> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join("engine.db");
        let connection = connect(&path, earlier).map_err(|error| match error {
            DbError::Sqlite(error) if is_damage(&error) => DbError::Damaged {
                path: path.clone(),
                reason: error.to_string(),
            },
            other => other,
        })?;
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

fn connect(path: &Path, earlier: Option<&str>) -> Result<Connection, DbError> {
    let lost = |what: &str| DbError::Lost {
        path: path.to_owned(),
        what: what.to_owned(),
    };
    // Before SQLite sees it: beside an empty file it deletes the log, the only copy there may be.
    if let Some(what) = earlier
        && is_empty(path)?
    {
        return Err(lost(what));
    }
    let mut connection = Connection::open(path)?;
    // A file that is refused below keeps its log as it is.
    connection.set_db_config(KEEP_LOG, true)?;
    // Exclusive: one process owns the file, so SQLite needs no shared-memory index beside it.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    let version = schema::version(&connection)?;
    if let Some(what) = earlier.filter(|_| version == 0) {
        return Err(lost(what));
    }
    schema::refuse_newer(version)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    let check: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    if check != "ok" {
        return Err(DbError::Damaged {
            path: path.to_owned(),
            reason: check,
        });
    }
    connection.set_db_config(KEEP_LOG, false)?;
    schema::migrate(&mut connection, version)?;
    for (name, bytes) in [("engine.db", RESERVE), ("engine.db-wal", RESERVE)] {
        if let Err(error) = reserve(&path.with_file_name(name), bytes) {
            // Already full: what there is has to do.
            tracing::warn!(%error, name, "no room can be kept for the database");
        }
    }
    Ok(connection)
}

fn is_empty(path: &Path) -> std::io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(file) => Ok(file.len() == 0),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Bytes kept beyond the end of each file: a full disk must not keep anybody from removing things,
/// nor ends from being recorded.
const RESERVE: u64 = 4 << 20;

/// Takes blocks for what will be appended to a file, which stays as long as it is.
fn reserve(path: &Path, bytes: u64) -> std::io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).open(path)?;
    let length = file.metadata()?.len();
    let flags = FallocateFlags::KEEP_SIZE;
    Ok(fallocate(&file, flags, length, bytes)?)
}

fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(
        error.sqlite_error_code(),
        Some(DatabaseCorrupt | NotADatabase)
    )
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
        let db = Db::open(dir.path(), None).unwrap();
        db.write(Sync::Durable, |c| put(c, "a")).await.unwrap();
        db.write_behind(|c| put(c, "b"));
        drop(db);
        let db = Db::open(dir.path(), Some("a volume")).unwrap();
        assert_eq!(names(&db).await, ["a", "b"]);
    }

    #[tokio::test]
    async fn a_failed_change_leaves_the_others_of_its_batch() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), None).unwrap();
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
        drop(Db::open(dir.path(), None).unwrap());
        let path = dir.path().join("engine.db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", 999).unwrap();
        drop(connection);
        let before = std::fs::read(&path).unwrap();
        assert!(matches!(
            Db::open(dir.path(), None),
            Err(DbError::Newer { found: 999, .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn an_empty_file_beside_data_is_a_lost_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.db");
        for _ in 0..2 {
            assert!(matches!(
                Db::open(dir.path(), Some("2 volumes")),
                Err(DbError::Lost { what, .. }) if what == "2 volumes"
            ));
            // Cut to nothing, as by a host that ran out of space.
            std::fs::write(&path, "").unwrap();
        }
        Db::open(dir.path(), None).unwrap();
    }

    #[tokio::test]
    async fn a_refused_database_keeps_its_log() {
        let dir = tempfile::tempdir().unwrap();
        drop(Db::open(dir.path(), None).unwrap());
        let db = Db::open(dir.path(), None).unwrap();
        db.write(Sync::Durable, |c| put(c, "a")).await.unwrap();
        // As after a crash: the log was not taken into the file.
        let whole = std::fs::read(dir.path().join("engine.db")).unwrap();
        let log = std::fs::read(dir.path().join("engine.db-wal")).unwrap();
        assert!(!log.is_empty());
        let mut damaged = whole.clone();
        damaged[4096..8192].fill(0xff);
        let mut newer = whole.clone();
        newer[60..64].copy_from_slice(&999_u32.to_be_bytes());
        let mut versionless = whole.clone();
        versionless[60..64].fill(0);
        for (file, earlier) in [
            (None, Some("2 volumes")),
            (Some(Vec::new()), Some("2 volumes")),
            (Some(versionless), Some("2 volumes")),
            (Some(newer), None),
            (Some(damaged.clone()), Some("2 volumes")),
            (Some(damaged), None),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("engine.db");
            if let Some(file) = &file {
                std::fs::write(&path, file).unwrap();
            }
            std::fs::write(dir.path().join("engine.db-wal"), &log).unwrap();
            let error = Db::open(dir.path(), earlier).err().expect("it is refused");
            assert_eq!(std::fs::read(&path).ok(), file, "{error}");
            let left = std::fs::read(dir.path().join("engine.db-wal")).ok();
            assert!(left.as_ref() == Some(&log), "the log is another: {error}");
            // With the right file in its place, all is there.
            std::fs::write(&path, &whole).unwrap();
            let db = Db::open(dir.path(), earlier).unwrap();
            assert_eq!(names(&db).await, ["a"]);
        }
    }

    #[tokio::test]
    async fn damage_is_named_and_nothing_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.db");
        let db = Db::open(dir.path(), None).unwrap();
        for number in 0..200 {
            db.write(Sync::Lazy, move |c| put(c, &format!("volume-{number}")))
                .await
                .unwrap();
        }
        drop(db);
        let whole = std::fs::read(&path).unwrap();
        let mut no_database = whole.clone();
        no_database[..16].fill(b'x');
        let cut = whole[..whole.len() / 2].to_vec();
        let mut flipped = whole.clone();
        flipped[4096..8192].fill(0xff);
        for damaged in [no_database, cut, flipped] {
            std::fs::write(&path, &damaged).unwrap();
            let error = Db::open(dir.path(), None).err().expect("it is damaged");
            assert!(matches!(error, DbError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains("Nothing was changed"), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), damaged);
        }
        std::fs::write(&path, &whole).unwrap();
        let db = Db::open(dir.path(), None).unwrap();
        assert_eq!(names(&db).await.len(), 200);
    }
}
