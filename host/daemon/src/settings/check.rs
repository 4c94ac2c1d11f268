//! Which values cannot be: all of them, for a file with two can only be put right by one command that names both.
//!
//! Called where settings are read and changed.

use std::net::IpAddr;
use std::path::Path;

use toml::{Table, Value};

use super::error::Wrong;
use super::keys::KEYS;
use super::{Settings, masked, subnets};
use crate::host_port::proxy::ProxyAddress;

/// Least memory a machine is given.
pub(super) const LEAST_MEMORY: u64 = 128 << 20;
/// Least size of the data disk.
const LEAST_DISK: u64 = 1 << 30;
/// Largest size of the data disk: 16 TiB is the limit of ext4 with 4 KiB blocks.
const LARGEST_DISK: u64 = 16 << 40;
/// Most processors the guest's kernel is built for.
pub(super) const MOST_CPUS: u32 = 64;

/// Takes the values out that have the wrong type.
pub(super) fn misfits(table: &mut Table) -> Vec<Wrong> {
    let each = KEYS.iter().filter_map(|key| {
        let (holder, inner) = match key.name.split_once('.') {
            Some((section, inner)) => (table.get_mut(section)?.as_table_mut()?, inner),
            None => (&mut *table, key.name),
        };
        let value = holder.get(inner)?.clone();
        let why = misfit(key.name, &value)?;
        holder.remove(inner);
        let value = match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let key = key.name;
        Some(Wrong { key, value, why })
    });
    each.collect()
}

/// Why this value by itself cannot be read.
fn misfit(name: &str, value: &Value) -> Option<String> {
    let of = |name: &str, value| Table::from_iter([(name.to_owned(), value)]);
    let alone = match name.split_once('.') {
        Some((section, inner)) => of(section, Value::Table(of(inner, value.clone()))),
        None => of(name, value.clone()),
    };
    let error = alone.try_into::<Settings>().err()?;
    Some(error.message().trim().to_owned())
}

/// What is out of its bounds.
pub(super) fn wrong(settings: &Settings) -> Vec<Wrong> {
    let mut all = Vec::new();
    let mut refuse = |key, value: String, why: String| all.push(Wrong { key, value, why });
    if let Some(cpus) = settings.cpus
        && !(1..=MOST_CPUS).contains(&cpus)
    {
        let why = format!("it must be 1 to {MOST_CPUS}");
        refuse("cpus", cpus.to_string(), why);
    }
    if let Some(memory) = settings.memory
        && let Some(why) = wrong_memory(memory.0)
    {
        refuse("memory", memory.to_string(), why);
    }
    let disk = settings.disk;
    if !(LEAST_DISK..=LARGEST_DISK).contains(&disk.0) {
        let why = "it must be 1GiB to 16TiB".to_owned();
        refuse("disk", disk.to_string(), why);
    }
    let is_place = |share: &str| share.starts_with(['/', '~']) || Path::new(share).is_absolute();
    if let Some(share) = settings.shares.iter().find(|share| !is_place(share)) {
        let why = "it must be an absolute path".to_owned();
        refuse("shares", share.clone(), why);
    }
    let proxies = &settings.proxies;
    for (key, proxy) in [
        ("proxies.http-proxy", &proxies.http_proxy),
        ("proxies.https-proxy", &proxies.https_proxy),
    ] {
        if !proxy.trim().is_empty()
            && let Err(error) = proxy.trim().parse::<ProxyAddress>()
        {
            refuse(key, masked(proxy), error.to_string());
        }
    }
    let ip = &settings.engine.ip;
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        let why = "it must be an address of this host, such as `127.0.0.1`".to_owned();
        refuse("engine.ip", ip.clone(), why);
    }
    all.extend(subnets::wrong(&settings.engine));
    all
}

fn wrong_memory(bytes: u64) -> Option<String> {
    let host = lighter_platform::sys::total_memory_bytes();
    if bytes < LEAST_MEMORY {
        return Some("it must be at least 128MiB".to_owned());
    }
    (host > 0 && bytes > host).then(|| format!("this host has {} MiB", host >> 20))
}
