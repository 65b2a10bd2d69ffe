// SPDX-License-Identifier: GPL-2.0

//! Sessions: a save gives a stream chunk by chunk, a resume takes one.

mod amount;
mod blocks;
pub(crate) mod resume;
pub(crate) mod save;

use crate::{
    port::Port,
    refusal::{
        Reason,
        Refusal, //
    },
};

/// The most bytes that a device's state has: 1 GiB, so that no count of bytes or records can
/// overflow.
pub const STATE_MAX: usize = 1 << 30;

/// Returns the most bytes that the state of the device of `port` has.
fn state_size<P: Port>(port: &P) -> usize {
    port.state_size().min(STATE_MAX)
}

/// Returns the part of the state buffer that the state of the device of `port` may take.
///
/// # Errors
///
/// [`Reason::BufferTooSmall`] if the buffer has less.
fn state_buffer<'a, P: Port>(port: &P, buffer: &'a mut [u8]) -> Result<&'a mut [u8], Refusal> {
    let least = state_size(port);
    let size = buffer.len();

    buffer
        .get_mut(..least)
        .ok_or_else(|| Reason::BufferTooSmall { size, least }.into())
}
