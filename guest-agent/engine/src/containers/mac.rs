//! Hardware addresses that were asked for: the forms in which dockerd reads them, and those that no interface can have.
//!
//! Called by create, connect and start.

/// Reads 6, 8 or 20 bytes in hexadecimal, each by itself behind colons or hyphens, two by two behind dots, or all
/// together, as Go's `net.ParseMAC` does.
pub(super) fn parse(text: &str) -> Option<Vec<u8>> {
    let separator = text.chars().find(|c| !c.is_ascii_hexdigit());
    let digits: String = match separator {
        None => text.to_owned(),
        Some(separator) => {
            let wanted = match separator {
                ':' | '-' => 2,
                '.' => 4,
                _ => return None,
            };
            let groups: Vec<&str> = text.split(separator).collect();
            let whole = groups.iter().all(|group| group.len() == wanted);
            whole.then(|| groups.concat())?
        }
    };
    if !matches!(digits.len(), 12 | 16 | 40) {
        return None;
    }
    let nibbles = digits.chars().map(|digit| digit.to_digit(16));
    let nibbles = nibbles.collect::<Option<Vec<u32>>>()?;
    let byte = |pair: &[u32]| u8::try_from(pair.iter().fold(0, |byte, digit| byte << 4 | digit));
    nibbles.chunks(2).map(byte).collect::<Result<_, _>>().ok()
}

/// The address of an interface, where it is one.
pub(super) fn of_interface(text: &str) -> Option<[u8; 6]> {
    parse(text)?.try_into().ok()
}

/// As the kernel shows it.
pub(super) fn shown(mac: &[u8]) -> String {
    let bytes: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

/// Why an interface with this port cannot have an address that was asked for, in dockerd's words: it is a group's or
/// nobody's, or longer than that of an interface, of which the kernel takes the beginning.
pub(super) fn refusal(text: &str, port: &str) -> Option<String> {
    let mac = parse(text)?;
    let (first, _) = mac.split_first_chunk::<6>()?;
    let failed = |why: String| Some(format!("failed to add interface {port} to sandbox: {why}"));
    if first[0] & 1 == 1 || *first == [0; 6] {
        return failed(format!(
            "error setting interface \"{port}\" MAC to \"{}\": cannot assign requested address",
            shown(&mac)
        ));
    }
    if mac.len() > first.len() {
        return failed(format!(
            "failed to advertise addresses: MAC address changed, got {}, expected {}",
            shown(first),
            shown(&mac)
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_read_and_no_others() {
        let six = Some(vec![2, 0, 0, 0, 0, 0xab]);
        for text in [
            "02:00:00:00:00:ab",
            "02-00-00-00-00-AB",
            "0200.0000.00ab",
            "0200000000ab",
        ] {
            assert_eq!(parse(text), six, "{text}");
        }
        assert_eq!(parse("02:00:00:00:00:00:00:01").unwrap().len(), 8);
        assert_eq!(parse(&["01"; 20].join("-")).unwrap().len(), 20);
        for text in [
            "",
            "zz",
            "+2:00:00:00:00:09",
            " 02:00:00:00:00:09",
            "02:00:00-00:00:01",
            "2:0:0:0:0:1",
            "02:00:00:00:00:00:00",
            "02:00:00:00:00:01:",
            "0200.0000.00",
            "02:00.0000.0001",
            "020000000é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_no_interface_can_have_is_refused_in_dockerds_words() {
        let refused = |text: &str| refusal(text, "veth1").unwrap_or_default();
        for text in ["02:00:00:00:00:09", "0200.0000.0009"] {
            assert_eq!(refused(text), "", "{text}");
        }
        for text in [
            "01:00:5e:00:00:01",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
        ] {
            let why = format!(
                "failed to add interface veth1 to sandbox: error setting interface \"veth1\" MAC to \"{text}\": cannot \
                 assign requested address"
            );
            assert_eq!(refused(text), why);
        }
        assert_eq!(
            refused("02:00:00:00:00:00:00:01"),
            "failed to add interface veth1 to sandbox: failed to advertise addresses: MAC address changed, got \
             02:00:00:00:00:00, expected 02:00:00:00:00:00:00:01"
        );
    }
}
