//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a container: files of the engine's that
//! are bound over the image's own.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use super::endpoints::Places;
use super::{Record, modes, name_server};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::networks::Subnet;

/// The files, and where they are bound.
pub(crate) const FILES: [(&str, &str); 3] = [
    ("resolv.conf", "/etc/resolv.conf"),
    ("hostname", "/etc/hostname"),
    ("hosts", "/etc/hosts"),
];

impl Engine {
    /// Writes the files anew, as dockerd does at every start; they are written in place, so that a
    /// mount of them stays what it is.
    pub(super) fn write_files(&self, record: &Record, places: &Places) -> Result<()> {
        let dir = self.container_dir(&record.id);
        let write = || -> io::Result<()> {
            std::fs::create_dir_all(&dir)?;
            write(
                &dir.join("hostname"),
                &format!("{}\n", record.config.hostname),
            )?;
            write(&dir.join("hosts"), &self.hosts(record, places))?;
            let resolv_conf = self.resolv_conf(record, name_server::is_wanted(places));
            write(&dir.join("resolv.conf"), &resolv_conf)
        };
        write().map_err(|error| Error::internal("the container's files cannot be written", error))
    }

    /// Writes what has changed with its networks.
    pub(super) fn write_hosts(&self, record: &Record, places: &Places) -> Result<()> {
        let path = self.container_dir(&record.id).join("hosts");
        write(&path, &self.hosts(record, places))
            .map_err(|error| Error::internal("the container's files cannot be written", error))
    }

    /// Has a container that runs ask the name server that it has now, unless it asks whom it chose itself.
    pub(super) fn write_name_server(&self, record: &Record) -> Result<()> {
        let path = self.container_dir(&record.id).join("resolv.conf");
        let now = std::fs::read_to_string(&path).unwrap_or_default();
        if now != self.resolv_conf(record, false) {
            return Ok(());
        }
        write(&path, &self.resolv_conf(record, true))
            .map_err(|error| Error::internal("the container's files cannot be written", error))
    }

    fn hosts(&self, record: &Record, places: &Places) -> String {
        let mut text = first_hosts(record, self.host_gateway());
        let config = &record.config;
        let addresses = places.values().flat_map(|place| [place.ipv4, place.ipv6]);
        let mut addresses: Vec<IpAddr> = addresses.flatten().map(Subnet::ip).collect();
        // Where there is no network the name has no address, as in dockerd.
        if record.host_config.network_mode == "bridge" && self.wiring().is_none() {
            addresses.push(Ipv4Addr::LOCALHOST.into());
        }
        if config.hostname.is_empty() || record.host_config.network_mode == "host" {
            return text;
        }
        let mut full = config.hostname.clone();
        if !config.domainname.is_empty() {
            full = format!("{full}.{} {full}", config.domainname);
        }
        for address in addresses {
            let _ = writeln!(text, "{address}\t{full}");
        }
        text
    }

    /// The address by which containers know the host.
    fn host_gateway(&self) -> Option<IpAddr> {
        self.wiring()?;
        let configured = self.config().host_address;
        configured.or_else(|| self.networks().named("bridge")?.router())
    }

    /// Whose files a container has: those of the container whose network it shares.
    pub(crate) fn files_owner(&self, record: &Record) -> String {
        let other = modes::donor(&record.host_config.network_mode)
            .and_then(|other| self.containers().find(other).ok());
        other.map_or_else(|| record.id.clone(), |other| other.id().to_owned())
    }
}

/// What is the same in every network.
fn first_hosts(record: &Record, host_gateway: Option<IpAddr>) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    for entry in record.host_config.extra_hosts.iter().flatten() {
        // Both `name:address` and `name=address` are in use; an address may have colons itself.
        let Some((name, address)) = entry.split_once('=').or_else(|| entry.split_once(':')) else {
            continue;
        };
        if address == "host-gateway" {
            if let Some(address) = host_gateway {
                let _ = writeln!(text, "{address}\t{name}");
            }
            continue;
        }
        let address = address.trim_start_matches('[').trim_end_matches(']');
        let _ = writeln!(text, "{address}\t{name}");
    }
    text
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).open(path)?;
    file.write_all(text.as_bytes())
}
