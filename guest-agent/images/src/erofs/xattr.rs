//! Extended attributes: which of an image's are kept, and their form behind an inode.

const HEADER: usize = 12;
const MAX_VALUE: usize = 65_535;
/// The count of 4-byte units behind an inode is 16 bits wide.
const MAX_BODY: usize = HEADER + 4 * 65_534;

const INDEX_USER: u8 = 1;
const INDEX_ACL_ACCESS: u8 = 2;
const INDEX_ACL_DEFAULT: u8 = 3;
const INDEX_TRUSTED: u8 = 4;
const INDEX_SECURITY: u8 = 6;

/// The attribute that makes overlayfs hide what lower directories hold.
const OPAQUE: (u8, &[u8], &[u8]) = (INDEX_TRUSTED, b"overlay.opaque", b"y");

/// Encodes the attributes that are kept, header first; empty if none is. `None` if one is larger
/// than the kernel takes. The last of several with one name counts.
pub(super) fn encode(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    for (at, (name, value)) in xattrs.iter().enumerate() {
        let repeated = xattrs[at + 1..].iter().any(|(later, _)| later == name);
        let Some((index, suffix)) = kept(name) else {
            continue;
        };
        if repeated {
            continue;
        }
        if name.len() > 255 || value.len() > MAX_VALUE {
            return None;
        }
        push(&mut body, index, suffix, value);
    }
    (body.len() + opaque_size(0) <= MAX_BODY).then_some(body)
}

/// An image's attributes never speak for the union mount: `trusted.*` and `user.overlay.*` are
/// dropped, and so is what only the host's own policy could have set.
fn kept(name: &[u8]) -> Option<(u8, &[u8])> {
    match name {
        b"security.capability" => Some((INDEX_SECURITY, b"capability")),
        b"system.posix_acl_access" => Some((INDEX_ACL_ACCESS, b"")),
        b"system.posix_acl_default" => Some((INDEX_ACL_DEFAULT, b"")),
        _ => match name.strip_prefix(b"user.")? {
            suffix if suffix.is_empty() || suffix.starts_with(b"overlay.") => None,
            suffix => Some((INDEX_USER, suffix)),
        },
    }
}

fn push(body: &mut Vec<u8>, index: u8, suffix: &[u8], value: &[u8]) {
    if body.is_empty() {
        body.resize(HEADER, 0);
    }
    let name_length = u8::try_from(suffix.len()).unwrap_or(u8::MAX);
    let value_length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    body.extend_from_slice(&[name_length, index]);
    body.extend_from_slice(&value_length.to_le_bytes());
    body.extend_from_slice(suffix);
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// How large a body of this size becomes with the opaque marker added.
pub(super) fn opaque_size(size: usize) -> usize {
    size.max(HEADER) + (4 + OPAQUE.1.len() + OPAQUE.2.len()).next_multiple_of(4)
}

/// Adds the opaque marker.
pub(super) fn push_opaque(body: &mut Vec<u8>) {
    push(body, OPAQUE.0, OPAQUE.1, OPAQUE.2);
}

/// The inode's count field for a body of this size.
pub(super) fn count(size: usize) -> u16 {
    if size == 0 {
        return 0;
    }
    u16::try_from(1 + (size - HEADER) / 4).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &[u8]) -> (Vec<u8>, Vec<u8>) {
        (name.as_bytes().to_vec(), value.to_vec())
    }

    #[test]
    fn only_harmless_attributes_are_kept() {
        let dropped = [
            pair("trusted.overlay.opaque", b"y"),
            pair("trusted.overlay.redirect", b"/etc"),
            pair("user.overlay.whiteout", b"y"),
            pair("security.selinux", b"x"),
            pair("user.", b"x"),
            pair("x", b"x"),
        ];
        assert_eq!(encode(&dropped).unwrap(), b"");
        let body = encode(&[pair("user.a", b"1"), pair("user.a", b"23")]).unwrap();
        assert_eq!(body, [&[0u8; 12][..], &[1, 1, 2, 0], b"a23\0"].concat());
        assert_eq!(count(body.len()), 3);
    }

    #[test]
    fn opaque_marker_is_as_large_as_announced() {
        for mut body in [vec![], encode(&[pair("user.abc", b"12345")]).unwrap()] {
            let announced = opaque_size(body.len());
            push_opaque(&mut body);
            assert_eq!(body.len(), announced);
        }
    }

    #[test]
    fn too_large_is_refused() {
        assert!(encode(&[pair("user.a", &[0; 65_536])]).is_none());
        assert!(encode(&[pair(&format!("user.{}", "a".repeat(251)), b"")]).is_none());
        let many: Vec<_> = (0..5)
            .map(|n| pair(&format!("user.{n}"), &[0; 65_000]))
            .collect();
        assert!(encode(&many).is_none());
    }
}
