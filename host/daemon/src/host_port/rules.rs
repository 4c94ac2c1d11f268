//! Which addresses are dialled for whom.
//!
//! A registry decides where its redirects and token services lead. Were those followed to the
//! host's own loopback, to its neighbours on the link or to a cloud's metadata service, a hostile
//! registry could reach services that trust the host. Such addresses are dialled only for the
//! very registry the user named.

pub use lighter_net::close::is_close;

/// Whether this is a host's name, or a registry's with its port: nothing else may be written to a
/// log or a terminal.
pub fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:[]%".contains(&b);
    (1..=300).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_host_and_its_surroundings_are_close() {
        for text in [
            "127.0.0.1",
            "127.255.0.3",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::127.0.0.1",
            "2002:7f00:1::",
        ] {
            assert!(is_close(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn addresses_of_others_are_not() {
        for text in [
            "10.0.0.1",
            "192.168.1.5",
            "8.8.8.8",
            "2606:4700::1",
            "fd12::1",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(!is_close(text.parse().unwrap()), "{text}");
        }
    }
}
