//! Options of the drivers, as far as they mean something here; all of them are kept for the round trip.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lighter_network::plan::{IpvlanMode, MacvlanMode};

use super::Network;
use crate::error::{Error, Kind, Result};

type Options = BTreeMap<String, String>;

const BRIDGE: &str = "com.docker.network.bridge.";
/// The name of the bridge's interface.
pub(super) const NAME: &str = "com.docker.network.bridge.name";
/// Where published ports are on the host whose address nobody chose.
const HOST_BINDING: &str = "host_binding_ipv4";
/// The longest packet.
pub(super) const MTU: &str = "com.docker.network.driver.mtu";
/// The longest name that an interface can have.
const LONGEST_NAME: usize = 15;
/// The longest packet that a bridge can have.
const LONGEST_PACKET: i64 = 65_535;

/// What the options of a bridge come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgeOptions {
    /// The interface, where its user named one.
    pub(crate) name: Option<String>,
    /// Whether containers reach each other.
    pub(crate) icc: bool,
    /// The longest packet; nothing means the kernel's choice.
    pub(crate) mtu: Option<u32>,
    /// Whether it is no router in IPv4, and in IPv6: nobody but its containers has an address there.
    isolated: [bool; 2],
    /// Whether its router in IPv4 is somebody else.
    inhibit_ipv4: bool,
}

impl BridgeOptions {
    /// Whether the bridge has an address of its own in a family.
    pub(crate) fn has_address(&self, v6: bool) -> bool {
        !self.isolated[usize::from(v6)] && (v6 || !self.inhibit_ipv4)
    }

    /// Whether a family has a router at all, which then has an address of the subnet.
    fn has_router(&self, v6: bool, internal: bool) -> bool {
        !self.isolated[usize::from(v6)] && (v6 || !(self.inhibit_ipv4 && internal))
    }
}

/// Whether containers of a network have a router in a family: its address is nobody else's then.
pub(super) fn has_router(network: &Network, v6: bool) -> bool {
    match network.driver.as_str() {
        "bridge" => bridge(&network.options, network.internal)
            .is_ok_and(|options| options.has_router(v6, network.internal)),
        "ipvlan" => ipvlan(&network.options).is_ok_and(|mode| mode == IpvlanMode::L2),
        _ => true,
    }
}

/// Reads the options of a bridge, as dockerd judges them.
pub(crate) fn bridge(options: &Options, internal: bool) -> Result<BridgeOptions> {
    let mut read = BridgeOptions {
        name: None,
        icc: true,
        mtu: None,
        isolated: [false; 2],
        inhibit_ipv4: false,
    };
    let mut mtu = 0;
    for (key, value) in options {
        match (key.as_str(), key.strip_prefix(BRIDGE)) {
            (_, Some("name")) => read.name = Some(value.clone()).filter(|name| !name.is_empty()),
            (MTU, _) => mtu = number(key, value)?,
            (_, Some("enable_icc")) => read.icc = boolean(key, value)?,
            (_, Some("enable_ip_masquerade" | "default_bridge")) => {
                boolean(key, value)?;
            }
            (_, Some("inhibit_ipv4")) => read.inhibit_ipv4 = boolean(key, value)?,
            (_, Some(mode @ ("gateway_mode_ipv4" | "gateway_mode_ipv6"))) => match value.as_str() {
                "nat" | "nat-unprotected" | "routed" => {}
                "isolated" => read.isolated[usize::from(mode.ends_with('6'))] = true,
                mode => return Err(wrong(key, value, &format!("unknown gateway mode {mode}"))),
            },
            ("com.docker.network.host_ipv4" | "com.docker.network.host_ipv6", _)
            | (_, Some(HOST_BINDING))
                if value.parse::<IpAddr>().is_err() =>
            {
                return Err(wrong(key, value, "nil ip"));
            }
            _ => {}
        }
    }
    if read.isolated.contains(&true) && !internal {
        let text = "gateway mode 'isolated' can only be used for an internal network";
        return Err(Error::new(Kind::Internal, text));
    }
    if mtu < 0 {
        return Err(Error::invalid(format!("invalid MTU number: {mtu}")));
    }
    if mtu > LONGEST_PACKET {
        return Err(Error::new(Kind::Internal, "invalid argument"));
    }
    read.mtu = u32::try_from(mtu).ok().filter(|mtu| *mtu > 0);
    if read
        .name
        .as_ref()
        .is_some_and(|name| name.len() > LONGEST_NAME)
    {
        return Err(Error::new(Kind::Internal, "numerical result out of range"));
    }
    Ok(read)
}

/// Refuses what is understood and does not come about here: whoever could be routed to a container is beside the host,
/// not beside the machine.
pub(super) fn check_modes(options: &Options) -> Result<()> {
    for family in ["ipv4", "ipv6"] {
        let key = format!("{BRIDGE}gateway_mode_{family}");
        if let Some(mode @ ("routed" | "nat-unprotected")) = options.get(&key).map(String::as_str) {
            let text = format!("{key}: gateway mode '{mode}' is not supported by this engine");
            return Err(Error::unsupported(text));
        }
    }
    Ok(())
}

/// Where a bridge that somebody made has published ports on the host, if that was said.
pub(super) fn host_binding(options: &Options) -> Option<IpAddr> {
    options
        .get(&format!("{BRIDGE}{HOST_BINDING}"))?
        .parse()
        .ok()
}

/// A switch that stands among the options of a driver.
pub(super) fn switch(options: &Options, key: &str) -> Result<Option<bool>> {
    let read = |value: &String| {
        parse_bool(value)
            .ok_or_else(|| Error::invalid(format!("driver-opt \"{key}\" is not a valid bool")))
    };
    options.get(key).map(read).transpose()
}

/// How the interfaces of a macvlan pass packets on.
pub(crate) fn macvlan(options: &Options) -> Result<MacvlanMode> {
    Ok(
        match options.get("macvlan_mode").map_or("", String::as_str) {
            "" | "bridge" => MacvlanMode::Bridge,
            "private" => MacvlanMode::Private,
            "vepa" => MacvlanMode::Vepa,
            "passthru" => MacvlanMode::Passthru,
            mode => {
                return Err(Error::invalid(format!(
                    "requested macvlan mode '{mode}' is not valid, 'bridge' mode is the macvlan driver \
                 default"
                )));
            }
        },
    )
}

/// How the interfaces of an ipvlan pass packets on.
pub(crate) fn ipvlan(options: &Options) -> Result<IpvlanMode> {
    Ok(
        match options.get("ipvlan_mode").map_or("", String::as_str) {
            "" | "l2" => IpvlanMode::L2,
            "l3" => IpvlanMode::L3,
            "l3s" => IpvlanMode::L3s,
            mode => {
                return Err(Error::invalid(format!(
                    "requested ipvlan mode '{mode}' is not valid, 'l2' mode is the ipvlan driver default"
                )));
            }
        },
    )
}

fn boolean(key: &str, value: &str) -> Result<bool> {
    parse_bool(value).ok_or_else(|| {
        let why = format!("strconv.ParseBool: parsing \"{value}\": invalid syntax");
        wrong(key, value, &why)
    })
}

fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn number(key: &str, value: &str) -> Result<i64> {
    value.parse().map_err(|_| {
        let why = format!("strconv.Atoi: parsing \"{value}\": invalid syntax");
        wrong(key, value, &why)
    })
}

fn wrong(key: &str, value: &str, why: &str) -> Error {
    Error::invalid(format!("failed to parse {key} value: {value} ({why})"))
}
