//! The window of guest addresses behind which the devices are, a page each, as the guest writes there.

use std::sync::{Mutex, PoisonError};

use super::{PAGE, Transport};

/// All devices, in the order of their pages.
pub struct Bus {
    base: u64,
    devices: Vec<Mutex<Transport>>,
}

impl Bus {
    /// Devices from this address on.
    #[must_use]
    pub fn new(base: u64, devices: Vec<Transport>) -> Self {
        Self {
            base,
            devices: devices.into_iter().map(Mutex::new).collect(),
        }
    }

    /// The guest writes; where no device is, nothing happens.
    pub fn write(&self, address: u64, bytes: &[u8]) {
        if let Some((device, offset)) = self.find(address) {
            lock(device).write(offset, bytes);
        }
    }

    fn find(&self, address: u64) -> Option<(&Mutex<Transport>, u64)> {
        let from_base = address.checked_sub(self.base)?;
        let index = usize::try_from(from_base / PAGE).ok()?;
        Some((self.devices.get(index)?, from_base % PAGE))
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        for device in &self.devices {
            lock(device).end();
        }
    }
}

fn lock(device: &Mutex<Transport>) -> std::sync::MutexGuard<'_, Transport> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}
