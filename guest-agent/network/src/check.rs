//! What is judged before anything is told to the kernel, so that wrong input leaves nothing behind.

use std::net::IpAddr;

use crate::NetworkError;
use crate::plan::{Address, Bridge, Joint, Plug};

/// The kernel's `IFNAMSIZ`, without its closing zero.
const LONGEST_NAME: usize = 15;

/// What stands for the interface's name in a setting.
const PLACEHOLDER: &str = "IFNAME";

pub(crate) fn bridge(bridge: &Bridge) -> Result<(), NetworkError> {
    name(&bridge.name)?;
    bridge.gateways.iter().copied().try_for_each(address)
}

pub(crate) fn plug(plug: &Plug) -> Result<(), NetworkError> {
    name(&plug.name)?;
    match &plug.joint {
        Joint::Bridge { bridge, port } => {
            name(bridge)?;
            name(port)?;
        }
        Joint::Macvlan { parent, .. } => name(parent)?,
        Joint::Ipvlan { parent, .. } => {
            name(parent)?;
            if plug.mac.is_some() {
                return Err(NetworkError::Impossible(
                    "a hardware address of its own for an ipvlan interface",
                ));
            }
        }
    }
    plug.addresses.iter().copied().try_for_each(address)?;
    plug.sysctls
        .iter()
        .try_for_each(|(setting, _)| path_of(setting, &plug.name).map(drop))
}

/// As the kernel's `dev_valid_name`, and no `%`, which has it choose a number.
pub(crate) fn name(name: &str) -> Result<(), NetworkError> {
    let refused = |byte: u8| byte == b'/' || byte == b':' || byte == b'%';
    let fits = !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !refused(byte));
    if fits {
        Ok(())
    } else {
        Err(NetworkError::Name(name.to_owned()))
    }
}

fn address(address: Address) -> Result<(), NetworkError> {
    let most = match address.ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    if address.prefix <= most {
        Ok(())
    } else {
        Err(NetworkError::Prefix(address))
    }
}

/// Where below `/proc/sys` a setting of this interface is.
pub(crate) fn path_of(setting: &str, interface: &str) -> Result<String, NetworkError> {
    let parts: Vec<_> = setting.split('.').collect();
    let fits = parts[0] == "net"
        && parts.contains(&PLACEHOLDER)
        && parts
            .iter()
            .all(|part| !part.is_empty() && !part.contains(['/', '\0']));
    if !fits {
        return Err(NetworkError::Setting(setting.to_owned()));
    }
    let named: Vec<_> = parts
        .into_iter()
        .map(|part| if part == PLACEHOLDER { interface } else { part })
        .collect();
    Ok(named.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernels() {
        for good in ["eth0", "br-0123456789ab", "docker0", "eth0.100", "a"] {
            name(good).unwrap();
        }
        let bad = [
            "",
            ".",
            "..",
            "br-0123456789abc",
            "a/b",
            "a b",
            "a:1",
            "eth%d",
            "\u{e9}",
        ];
        for bad in bad {
            assert!(matches!(name(bad), Err(NetworkError::Name(_))), "{bad}");
        }
    }

    #[test]
    fn settings_are_below_net_and_of_the_interface() {
        let path = path_of("net.ipv4.conf.IFNAME.log_martians", "eth0.1").unwrap();
        assert_eq!(path, "net/ipv4/conf/eth0.1/log_martians");
        for bad in [
            "kernel.IFNAME.panic",
            "net.ipv4.ip_forward",
            "net.ipv4...IFNAME.x",
            "net.ipv4/../IFNAME.x",
            "net.IFNAME.",
            "",
        ] {
            let refused = path_of(bad, "eth0");
            assert!(matches!(refused, Err(NetworkError::Setting(_))), "{bad}");
        }
    }
}
