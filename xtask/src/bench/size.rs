//! What has to be shipped and lies on the disk.

use anyhow::{Context, Result};

use super::Row;
use super::peer::{self, Image};
use super::samples::Samples;
use crate::image;

/// The machine image as shipped, beside the peer's system disk.
///
/// # Errors
///
/// When either cannot be made.
pub fn size(as_built: bool) -> Result<Vec<Row>> {
    let image = if as_built {
        image::current()?
    } else {
        image::make(&image::Args::default())?
    };
    let bytes = |name: &str| -> Result<f64> {
        let length = std::fs::metadata(image.path.join(name))
            .with_context(|| name.to_owned())?
            .len();
        Ok(mebibytes(length))
    };
    let shipped = bytes("vmlinux.zst")? + bytes("initramfs.cpio.zst")?;
    let peer = mebibytes(Image::ensure()?.allocated()?);
    Ok(vec![Row {
        name: "size",
        what: "kernel and initramfs as shipped; system disk",
        unit: "MiB",
        ours: Samples::new(vec![shipped]),
        peer: Samples::new(vec![peer]),
        peer_name: peer::NAME,
        floor: None,
    }])
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a size in MiB needs no more than 52 bits"
)]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
