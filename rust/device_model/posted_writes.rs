// SPDX-License-Identifier: GPL-2.0

//! Registers that are written without the lock of the device.

/// Registers that are written without the lock of the device, such as doorbells: a write only leaves a
/// note, which the worker takes.
pub trait PostedWrites: Default + Send + Sync + 'static {
    /// Notes a write of `bytes` at `offset` of BAR `bar`. Returns whether the registers there take posted
    /// writes. Several threads may call it at once.
    fn post(&self, bar: u32, offset: u64, bytes: &[u8]) -> bool;

    /// Returns whether there is a note that the worker has not taken.
    fn is_posted(&self) -> bool;

    /// Returns whether there is a note that the worker has not taken and waits for: it has to be called. Asked after each
    /// posted write.
    fn is_awaited(&self) -> bool {
        self.is_posted()
    }

    /// Drops all notes.
    fn clear(&self);
}

/// A device without posted writes.
impl PostedWrites for () {
    fn post(&self, _bar: u32, _offset: u64, _bytes: &[u8]) -> bool {
        false
    }

    fn is_posted(&self) -> bool {
        false
    }

    fn clear(&self) {}
}
