// SPDX-License-Identifier: GPL-2.0

//! Errors of a backend that its guest has not been told yet.

/// A loss of data that the guest has not been told of. A store reports that written data was lost once, to whoever
/// writes it back, which may be a stop or a shutdown; the guest, whose data it was, would never know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untold<E>(Option<E>);

// Not derived: `E` needs no default.
impl<E> Default for Untold<E> {
    fn default() -> Self {
        Self(None)
    }
}

impl<E: Copy> Untold<E> {
    /// Returns what a command of the guest that flushes is told, after the store returned `result`: the guest is told
    /// of everything then.
    ///
    /// # Errors
    ///
    /// The error of `result`, else the one that was kept.
    pub fn tell(&mut self, result: Result<(), E>) -> Result<(), E> {
        let kept = self.0.take();
        result.and(kept.map_or(Ok(()), Err))
    }

    /// Keeps the error of `result`, which the store returned to somebody else than the guest.
    ///
    /// # Errors
    ///
    /// The first error that was kept, as long as the guest has not been told.
    pub fn keep(&mut self, result: Result<(), E>) -> Result<(), E> {
        self.0 = self.0.or(result.err());
        self.0.map_or(Ok(()), Err)
    }
}
