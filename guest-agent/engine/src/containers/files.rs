//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a container: files of the engine's that
//! are bound over the image's own.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use super::endpoints::Places;
use super::record::Place;
use super::{Record, modes, name_server};
use crate::engine::Engine;
use crate::error::{Error, Result};

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
        let _linking = self.linking(record);
        let write = || -> io::Result<()> {
            std::fs::create_dir_all(&dir)?;
            let hostname = format!("{}\n", record.config.hostname);
            write(&dir.join("hostname"), hostname.as_bytes())?;
            write(&dir.join("hosts"), self.hosts(record, places).as_bytes())?;
            let resolv_conf = self.resolv_conf(record, name_server::is_wanted(places));
            write(&dir.join("resolv.conf"), resolv_conf.as_bytes())
        };
        write().map_err(unwritten)
    }

    /// Names the addresses of one more place; what else stands in the file stays.
    pub(super) fn add_to_hosts(&self, record: &Record, place: &Place) -> Result<()> {
        let _linking = self.linking(record);
        self.add_lines(record, lines(record, place))
    }

    /// Adds those of these lines that are not there; the caller holds [`Engine::linking`].
    pub(super) fn add_lines(
        &self,
        record: &Record,
        lines: impl IntoIterator<Item = String>,
    ) -> Result<()> {
        let Some(path) = self.hosts_path(record) else {
            return Ok(());
        };
        // What is too long to be read is added to all the same.
        let there = read(&path).unwrap_or_default();
        let known = |line: &str| there.split(is_end).any(|old| old == line.as_bytes());
        let mut text = String::new();
        for line in lines.into_iter().filter(|line| !known(line)) {
            if text.is_empty() && there.last().is_some_and(|last| !is_end(last)) {
                text.push('\n');
            }
            let _ = writeln!(text, "{line}");
        }
        let append = || {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.append(true).create(true).open(&path)?;
            file.write_all(text.as_bytes())
        };
        append().map_err(unwritten)
    }

    /// Takes the addresses of a place out that was left, and with them, as dockerd does, lines in which nothing stands;
    /// what else stands in the file stays.
    pub(super) fn remove_from_hosts(&self, record: &Record, place: &Place) -> Result<()> {
        let gone: Vec<String> = lines(record, place).collect();
        let _linking = self.linking(record);
        self.remove_lines(record, |line| gone.iter().any(|gone| gone == line))
    }

    /// The same of these lines; the caller holds [`Engine::linking`].
    pub(super) fn remove_lines(&self, record: &Record, gone: impl Fn(&str) -> bool) -> Result<()> {
        let Some(path) = self.hosts_path(record) else {
            return Ok(());
        };
        let remove = || {
            let there = read(&path)?;
            let kept = there
                .split(is_end)
                .filter(|line| !line.is_empty() && !std::str::from_utf8(line).is_ok_and(&gone));
            let text: Vec<u8> = kept
                .flat_map(|line| [line, b"\n"])
                .flatten()
                .copied()
                .collect();
            if text == there {
                Ok(())
            } else {
                write(&path, &text)
            }
        };
        remove().map_err(unwritten)
    }

    /// Gives the lines whose first name is `alias` another address of the same family; the caller holds
    /// [`Engine::linking`].
    pub(super) fn readdress(&self, record: &Record, alias: &str, ip: IpAddr) -> Result<()> {
        let Some(path) = self.hosts_path(record) else {
            return Ok(());
        };
        let change = || {
            let there = read(&path)?;
            let text = readdressed(&there, alias, ip);
            if text == there {
                Ok(())
            } else {
                write(&path, &text)
            }
        };
        change().map_err(unwritten)
    }

    /// The file that names the addresses of a container, if that has any.
    fn hosts_path(&self, record: &Record) -> Option<PathBuf> {
        let named = !record.config.hostname.is_empty() && record.host_config.network_mode != "host";
        named.then(|| self.container_dir(&record.id).join("hosts"))
    }

    /// Has a container that runs ask the name server that it has now, unless it asks whom it chose itself.
    pub(super) fn write_name_server(&self, record: &Record) -> Result<()> {
        let path = self.container_dir(&record.id).join("resolv.conf");
        let now = read(&path).unwrap_or_default();
        if now != self.resolv_conf(record, false).as_bytes() {
            return Ok(());
        }
        write(&path, self.resolv_conf(record, true).as_bytes()).map_err(unwritten)
    }

    fn hosts(&self, record: &Record, places: &Places) -> String {
        let mut text = first_hosts(record, self.host_gateway());
        for line in self.link_lines(record, places) {
            let _ = writeln!(text, "{line}");
        }
        let config = &record.config;
        if config.hostname.is_empty() || record.host_config.network_mode == "host" {
            return text;
        }
        for line in places.values().flat_map(|place| lines(record, place)) {
            let _ = writeln!(text, "{line}");
        }
        // Where there is no network the name has no address, as in dockerd.
        if record.host_config.network_mode == "bridge" && self.wiring().is_none() {
            let _ = writeln!(text, "{}\t{}", Ipv4Addr::LOCALHOST, full_name(record));
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

/// What stands in `/etc/hosts` for a place.
fn lines(record: &Record, place: &Place) -> impl Iterator<Item = String> + use<> {
    let full = full_name(record);
    let addresses = [place.ipv4, place.ipv6].into_iter().flatten();
    addresses.map(move |address| format!("{}\t{full}", address.ip()))
}

/// The same lines, where those of this family whose first name is `alias` have the address `ip`.
fn readdressed(text: &[u8], alias: &str, ip: IpAddr) -> Vec<u8> {
    let own = |line: &[u8]| {
        let line = std::str::from_utf8(line).ok()?;
        let (old, names) = line.split_once('\t')?;
        let same = old.parse::<IpAddr>().ok()?.is_ipv6() == ip.is_ipv6();
        let first = names.split([' ', '\t']).next()?;
        (same && first == alias).then(|| format!("{ip}\t{names}").into_bytes())
    };
    let lines = text.split(is_end);
    let lines: Vec<Vec<u8>> = lines
        .map(|line| own(line).unwrap_or_else(|| line.to_vec()))
        .collect();
    lines.join(&b'\n')
}

/// The names by which a container knows itself.
fn full_name(record: &Record) -> String {
    let config = &record.config;
    if config.domainname.is_empty() {
        config.hostname.clone()
    } else {
        let name = &config.hostname;
        format!("{name}.{} {name}", config.domainname)
    }
}

/// The most that is read of a file that a container writes to, in bytes.
const LONGEST: u64 = 1 << 20;

/// Reads one of the files, which the container may have made anything of.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Writes in place, over what is there and not first away with it: whoever reads meanwhile finds no empty file.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    file.write_all(text)?;
    file.set_len(text.len() as u64)
}

fn is_end(byte: &u8) -> bool {
    *byte == b'\n'
}

fn unwritten(error: io::Error) -> Error {
    Error::internal("the container's files cannot be written", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_another_address_and_nothing_else_changes() {
        let text = b"127.0.0.1\tlocalhost\n10.0.0.2\tdb abc t1\nfd00::2\tdb abc t1\n10.0.0.2\tdbx db\n\xff\tdb";
        let now = readdressed(text, "db", "10.0.0.9".parse().unwrap());
        let expected = b"127.0.0.1\tlocalhost\n10.0.0.9\tdb abc t1\nfd00::2\tdb abc t1\n10.0.0.2\tdbx db\n\xff\tdb";
        assert_eq!(now, expected);
        let now = readdressed(&now, "db", "fd00::9".parse().unwrap());
        let now = String::from_utf8_lossy(&now);
        assert!(now.contains("\nfd00::9\tdb abc t1\n"), "{now}");
    }

    #[test]
    fn what_a_container_made_of_its_files_is_read_within_limits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        write(&path, b"longer than what follows\n").unwrap();
        write(&path, b"short\n").unwrap();
        assert_eq!(read(&path).unwrap(), b"short\n");
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        let refused = read(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
    }
}
