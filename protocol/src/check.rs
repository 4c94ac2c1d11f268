//! Bounds on strings that come from the other side.

/// The longest path Linux takes, its final zero included.
const MAX_PATH: usize = 4096;
/// The longest DNS name, and more than any address.
const MAX_HOST: usize = 255;

/// A path that can be handed to the system; what it may reach is decided elsewhere.
pub(crate) fn path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("path is empty");
    }
    if path.len() >= MAX_PATH {
        return Err("path is too long");
    }
    if path.contains('\0') {
        return Err("path contains a zero byte");
    }
    Ok(())
}

/// A host name or address as it may be given to a resolver.
pub(crate) fn host(host: &str) -> Result<(), &'static str> {
    if host.is_empty() {
        return Err("host is empty");
    }
    if host.len() > MAX_HOST {
        return Err("host is too long");
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]%".contains(&byte);
    if !host.bytes().all(allowed) {
        return Err("host contains a character no host name has");
    }
    Ok(())
}
