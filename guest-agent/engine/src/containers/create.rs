//! Create: from a request to a record, its directories and its volumes.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use lighter_images::Pin;

use super::record::{Record, RunState};
use super::{Container, defaults, limits, modes, users, validate};
use crate::clock::Timestamp;
use crate::db::Sync;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::logs::LogOptions;
use crate::model::{Config, CreateRequest, HostConfig};
use crate::mounts::{self, Mount, Source};
use crate::quota::obeying;
use crate::volumes::{ANONYMOUS, Content, Volume};
use crate::{ids, names, ports};

type Words = BTreeMap<String, String>;

/// What create answers.
#[derive(Debug)]
pub struct Created {
    /// The new container.
    pub id: String,
    /// What is not as asked.
    pub warnings: Vec<String>,
}

impl Engine {
    /// Makes a container. When this returns it is on the disk.
    pub async fn container_create(
        self: &Arc<Self>,
        request: CreateRequest,
        name: Option<&str>,
        platform: Option<&str>,
    ) -> Result<Created> {
        self.require_open()?;
        let name = name.map(|name| name.strip_prefix('/').unwrap_or(name));
        if let Some(name) = name {
            names::check(name, "container name")?;
        }
        let CreateRequest {
            mut config,
            mut host_config,
            networking_config,
        } = request;
        modes::conflicts(&config, &host_config)?;
        // Until the container is recorded, nobody collects what its image has. What lies between may
        // wait for the host and copy volumes: neither pulls nor the collector wait for that.
        let (image, pin) = self.image_for_create(&config.image, platform).await?;
        defaults::merge_image(&mut config, &image.config);
        let mut warnings = limits::discard(&mut host_config, self.has_weights());
        defaults::adapt(&mut host_config, &self.config().settings);
        validate::check(&config, &host_config)?;
        ports::check(&host_config)?;
        users::check(&host_config, &self.config().settings)?;
        warnings.extend(self.warnings(&host_config));
        self.settle_donors(&mut host_config)?;
        let links = self.links_asked(&mut host_config)?;
        let endpoints = self.places_asked(&host_config, networking_config.endpoints_config)?;
        let words = command(&config)?;
        let id = ids::new_id()?;
        self.name_host(&mut config, &host_config, &id);
        LogOptions::check(&host_config.log_config)?;
        let mounts = mounts::normalise(&mounts::Request {
            config: &config,
            host_config: &host_config,
            from_others: self.volumes_from(&host_config)?,
            sizes: self.projects().are_there(),
        })?;
        self.check_binds(&mounts).await?;
        let name = self.reserve_name(name, &id)?;
        let record = Record {
            id: id.clone(),
            name: name.clone(),
            created: Timestamp::now(),
            image_id: image.id,
            layers: image.layers,
            path: words[0].clone(),
            args: words[1..].to_vec(),
            config,
            host_config,
            endpoints,
            mounts,
            links,
        };
        let anonymous: Vec<String> = anonymous_volumes(&record).map(str::to_owned).collect();
        match self.create_record(record, pin).await {
            Ok(container) => {
                self.container_event(&container, "create", &[]);
                Ok(Created { id, warnings })
            }
            Err(error) => {
                self.containers().release(&name);
                self.clear_directories(&id);
                self.remove_anonymous(&anonymous).await;
                Err(error)
            }
        }
    }

    async fn create_record(self: &Arc<Self>, record: Record, pin: Pin) -> Result<Arc<Container>> {
        let volumes = record.mounts.iter().filter_map(Mount::volume);
        let volumes = volumes.map(str::to_owned).collect();
        let _claim = self.claim_volumes(&record.id, volumes);
        self.mark_loose(&record.id)?;
        self.make_own_layer(&record)?;
        let dir = self.container_dir(&record.id);
        std::fs::create_dir_all(&dir)
            .map_err(|error| Error::internal(format!("{} cannot be made", dir.display()), error))?;
        self.make_volumes(&record).await?;
        // An --rm container does not survive the machine anyway: losing its record in a crash is
        // what would have been done with it.
        let passing = record.host_config.auto_remove;
        let sync = if passing { Sync::Lazy } else { Sync::Durable };
        let container = Container::new(record, RunState::default());
        // Recording and dropping the pin is one step for the collector.
        let _held = self.images().hold().await;
        self.insert_container(&container, sync).await?;
        self.containers().add(Arc::clone(&container));
        drop(pin);
        if !passing {
            self.unmark_loose(container.id());
        }
        Ok(container)
    }

    /// Makes the volumes that are missing and fills the empty ones from the image.
    async fn make_volumes(self: &Arc<Self>, record: &Record) -> Result<()> {
        let mut fill = Vec::new();
        for mount in &record.mounts {
            let Source::Volume {
                name,
                anonymous,
                no_copy,
                subpath,
            } = &mount.source
            else {
                continue;
            };
            let (mut labels, options) = wanted(record, &mount.destination);
            if *anonymous {
                let labels = labels.get_or_insert_default();
                labels.insert(ANONYMOUS.to_owned(), String::new());
            }
            let volume = Volume {
                name: name.clone(),
                labels,
                options,
                created: Timestamp::now(),
                made_for: anonymous.then(|| record.id.clone()),
            };
            self.volume_ensure(volume).await?;
            if *no_copy || !subpath.is_empty() || record.layers.is_empty() {
                continue;
            }
            fill.push((mount.destination.clone(), name.clone()));
        }
        for (destination, name) in fill {
            self.fill_volume(record, destination, &name).await?;
        }
        Ok(())
    }

    /// Copies what the image has at `destination` into the volume, if that is empty.
    async fn fill_volume(
        self: &Arc<Self>,
        record: &Record,
        destination: String,
        name: &str,
    ) -> Result<()> {
        let path = self.volume_folder(name)?;
        let content = self.volume_content(name)?;
        let own = content == Content::Own;
        if own && std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
            return Ok(());
        }
        let root = self.image_root(record)?;
        let mut used = None;
        let folder = match content {
            Content::Folder {
                path,
                read_only: false,
                ..
            } if mounts::copy_up::has_directory(root.as_fd(), &destination) => {
                Some(mounts::resolve::open_folder(self, name, &path, false).await?)
            }
            Content::Tmpfs(_) if mounts::copy_up::has_directory(root.as_fd(), &destination) => {
                used = Some(self.use_volumes([name]).map_err(not_populated)?);
                let opened = std::fs::File::open(&path).map(Into::into);
                Some(opened.map_err(|error| Error::internal(NOT_POPULATED, error))?)
            }
            Content::Folder { .. } | Content::Tmpfs(_) => return Ok(()),
            Content::Own => None,
        };
        let filled = tokio::task::spawn_blocking(move || {
            // An image is as much a stranger as the programs in it.
            obeying(|| match folder {
                Some(folder) => {
                    mounts::copy_up::copy_into(root.as_fd(), &destination, folder.as_fd())
                }
                None => mounts::copy_up::copy_up(root.as_fd(), &destination, &path),
            })
        });
        let filled = filled.await;
        drop(used);
        filled
            .map_err(|error| Error::internal("copying was cut short", error))?
            .map_err(|error| Error::internal(NOT_POPULATED, error))
    }

    /// Says early what would fail at the start: paths of the host that are missing or not shared.
    async fn check_binds(&self, mounts: &[Mount]) -> Result<()> {
        for mount in mounts {
            if let Source::Bind {
                path,
                create: false,
            } = &mount.source
            {
                let guest = mounts::resolve::locate(self, path, false, mount.read_only).await?;
                if !guest.exists() {
                    return Err(Error::invalid(format!(
                        "invalid mount config for type \"bind\": bind source path does not exist: \
                         {path}"
                    )));
                }
            }
        }
        Ok(())
    }

    fn volumes_from(&self, host_config: &HostConfig) -> Result<Vec<Mount>> {
        let mut mounts = Vec::new();
        for spec in host_config.volumes_from.iter().flatten() {
            let (reference, mode) = spec.split_once(':').unwrap_or((spec, ""));
            let read_only = match mode {
                "ro" => true,
                "" | "rw" | "z" | "Z" => false,
                _ => return Err(Error::invalid(format!("invalid mode: {mode}"))),
            };
            // Not "not found": a client would take the image for missing.
            let other = self.containers().find(reference);
            let other = other.map_err(|error| Error::invalid(error.text()))?;
            for mount in &other.record().mounts {
                let mut mount = mount.clone();
                mount.read_only |= read_only;
                if let Source::Volume {
                    anonymous, no_copy, ..
                } = &mut mount.source
                {
                    // It goes with the container it was made for, not with this one.
                    (*anonymous, *no_copy) = (false, true);
                }
                mounts.push(mount);
            }
        }
        Ok(mounts)
    }

    fn reserve_name(&self, name: Option<&str>, id: &str) -> Result<String> {
        if let Some(name) = name {
            self.containers().reserve(name, id)?;
            return Ok(name.to_owned());
        }
        for attempt in 0..16 {
            let name = names::random(attempt)?;
            if self.containers().reserve(&name, id).is_ok() {
                return Ok(name);
            }
        }
        let name = ids::short(id);
        self.containers().reserve(name, id)?;
        Ok(name.to_owned())
    }

    /// The host name of a container whose user gave none: that of the network it shares, or its id.
    fn name_host(&self, config: &mut Config, host_config: &HostConfig, id: &str) {
        let mode = host_config.network_mode.as_str();
        let other = modes::donor(mode).and_then(|other| self.containers().find(other).ok());
        if let Some(other) = other {
            let other = other.record();
            config.hostname.clone_from(&other.config.hostname);
            config.domainname.clone_from(&other.config.domainname);
        } else if config.hostname.is_empty() {
            config.hostname = if mode == "host" || host_config.uts_mode == "host" {
                self.config().hostname.clone()
            } else {
                ids::short(id).to_owned()
            };
        }
    }

    fn warnings(&self, host_config: &HostConfig) -> Vec<String> {
        let mut warnings = Vec::new();
        let bound = host_config.port_bindings.as_ref();
        if host_config.network_mode == "host" && bound.is_some_and(|ports| !ports.is_empty()) {
            let text = "Published ports are discarded when using host network mode";
            warnings.push(text.into());
        }
        if self.wiring().is_some() {
            return warnings;
        }
        if host_config.network_mode == "bridge" {
            warnings.push("The default network has only a loopback interface here.".into());
        }
        let gateway = |host: &String| host.ends_with("host-gateway");
        if host_config.extra_hosts.iter().flatten().any(gateway) {
            warnings.push("host-gateway has no address in this version and is left out.".into());
        }
        warnings
    }
}

/// dockerd's words for a volume that cannot be filled from the image.
const NOT_POPULATED: &str = "failed to populate volume";

#[expect(
    clippy::needless_pass_by_value,
    reason = "used as the argument of map_err"
)]
fn not_populated(error: Error) -> Error {
    Error::new(error.kind(), format!("{NOT_POPULATED}: {}", error.text()))
}

/// Labels and options of the volume at `destination`, should it have to be made.
fn wanted(record: &Record, destination: &str) -> (Option<Words>, Option<Words>) {
    let asked = record.host_config.mounts.iter().flatten();
    let options = asked
        .filter(|mount| mounts::clean(&mount.target) == destination)
        .find_map(|mount| mount.volume_options.as_ref());
    let driver = options.and_then(|options| options.driver_config.as_ref());
    (
        options.and_then(|options| options.labels.clone()),
        driver.and_then(|driver| driver.options.clone()),
    )
}

/// The volumes that were made for this container and go with it.
pub(super) fn anonymous_volumes(record: &Record) -> impl Iterator<Item = &str> {
    record
        .mounts
        .iter()
        .filter_map(|mount| match &mount.source {
            Source::Volume {
                name,
                anonymous: true,
                ..
            } => Some(name.as_str()),
            _ => None,
        })
}

/// Program and arguments.
pub(super) fn command(config: &Config) -> Result<Vec<String>> {
    let words = [&config.entrypoint, &config.cmd];
    let words: Vec<String> = words
        .into_iter()
        .flatten()
        .flat_map(|words| words.0.iter().cloned())
        .collect();
    // An empty word is a program that will not be found.
    if words.is_empty() {
        return Err(Error::invalid("no command specified"));
    }
    Ok(words)
}
