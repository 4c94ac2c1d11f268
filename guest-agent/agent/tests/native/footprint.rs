//! What a machine is made of at a moment, thing by thing, so that what is left over has a name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::machine::Machine;

/// Most that the folder of the database may hold: the database, which keeps the pages of removed records for
/// the next ones, and its log, which is written over from its beginning once it has 4 MiB.
const DATABASE: u64 = 16 << 20;

/// How long what is cleared away in the background may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Things and how many of each there are.
#[derive(Debug, Default)]
pub struct Footprint(BTreeMap<String, usize>);

impl Footprint {
    /// Everything that a machine holds now.
    pub fn of(machine: &Machine) -> Self {
        let mut this = Self::default();
        this.processes(&machine.proc());
        this.groups(&machine.groups());
        for folder in ["run", "data"] {
            this.files(machine.dir(), &machine.dir().join(folder));
        }
        this
    }

    /// Fails unless the machine comes back to this: no process, namespace, mount, descriptor, group or
    /// file more, and no byte in the data folder but in the database.
    pub fn is_all_that_is_left(&self, machine: &Machine) {
        let limit = Instant::now() + LIMIT;
        loop {
            let more = Self::of(machine).beyond(self);
            if more.is_empty() {
                break;
            }
            assert!(Instant::now() < limit, "left over: {more:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let database = bytes(&machine.dir().join("data/engine"));
        assert!(database <= DATABASE, "the database has {database} bytes");
    }

    /// Fails unless the machine comes back to this, but for what its containers have written.
    pub fn is_all_that_is_left_but_files(&self, machine: &Machine) {
        let limit = Instant::now() + LIMIT;
        loop {
            let mut more = Self::of(machine).beyond(self);
            more.retain(|thing| !thing.starts_with("file ") && !thing.starts_with("folder "));
            if more.is_empty() {
                return;
            }
            assert!(Instant::now() < limit, "left over: {more:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn beyond(&self, before: &Self) -> Vec<String> {
        let more = |(thing, count): (&String, &usize)| {
            let had = before.0.get(thing).copied().unwrap_or(0);
            (*count > had).then(|| format!("{thing}: {had} became {count}"))
        };
        self.0.iter().filter_map(more).collect()
    }

    fn add(&mut self, thing: impl Into<String>) {
        *self.0.entry(thing.into()).or_default() += 1;
    }

    fn processes(&mut self, proc: &Path) {
        let mut namespaces = BTreeSet::new();
        for pid in names(proc).filter(|name| name.parse::<u32>().is_ok()) {
            let process = proc.join(pid);
            // One that ends meanwhile is none that is left.
            let Ok(name) = std::fs::read_to_string(process.join("comm")) else {
                continue;
            };
            let name = name.trim();
            self.add(format!("process {name}"));
            if name == "lighter-agent" || name == "lighter-init" {
                self.descriptors(name, &process.join("fd"));
            }
            for kind in names(&process.join("ns")) {
                let Some(namespace) = link(&process.join("ns").join(kind)) else {
                    continue;
                };
                if namespaces.insert(namespace.clone()) {
                    self.add(format!("namespace {namespace}"));
                    if namespace.starts_with("mnt:") {
                        self.mounts(&process.join("mountinfo"));
                    }
                }
            }
        }
    }

    fn descriptors(&mut self, owner: &str, folder: &Path) {
        for number in names(folder) {
            if let Some(what) = link(&folder.join(number)) {
                // `pipe:[1234]` is another pipe every time; a namespace's number is its name.
                let kind = what.split(":[").next();
                let kind = kind.filter(|kind| matches!(*kind, "pipe" | "socket"));
                self.add(format!("descriptor of {owner}: {}", kind.unwrap_or(&what)));
            }
        }
    }

    fn mounts(&mut self, mountinfo: &Path) {
        let text = std::fs::read_to_string(mountinfo).unwrap_or_default();
        for place in text.lines().filter_map(|line| line.split(' ').nth(4)) {
            self.add(format!("mount on {place}"));
        }
    }

    fn groups(&mut self, group: &Path) {
        self.add(format!("group {}", group.display()));
        for name in names(group) {
            let below = group.join(name);
            if below.is_dir() {
                self.groups(&below);
            }
        }
    }

    fn files(&mut self, root: &Path, folder: &Path) {
        for name in names(folder) {
            let path = folder.join(name);
            let shown = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .display()
                .to_string();
            let Ok(file) = std::fs::symlink_metadata(&path) else {
                continue;
            };
            if file.is_dir() {
                self.add(format!("folder {shown}"));
                self.files(root, &path);
            } else if shown.starts_with("data/engine/") {
                self.add(format!("file {shown}"));
            } else {
                self.add(format!("file {shown} of {} bytes", file.len()));
            }
        }
    }
}

fn names(folder: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

fn link(path: &Path) -> Option<String> {
    let target = std::fs::read_link(path).ok()?;
    Some(target.to_string_lossy().into_owned())
}

fn bytes(folder: &Path) -> u64 {
    let sizes =
        names(folder).filter_map(|name| Some(std::fs::metadata(folder.join(name)).ok()?.len()));
    sizes.sum()
}
