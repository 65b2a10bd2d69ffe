// SPDX-License-Identifier: GPL-2.0

//! Ethernet frames.

use core::fmt;

use crate::random::Random;

/// The address of a station.
pub type Mac = [u8; 6];

/// The address of all stations.
const BROADCAST: Mac = [0xff; 6];
/// The shortest frame, without its checksum.
const SHORTEST: usize = 60;
/// "Local experimental", IEEE 802.
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];

/// A frame, without its checksum.
#[derive(Clone, Eq, PartialEq)]
pub struct Frame(Vec<u8>);

impl fmt::Debug for Frame {
    /// Shows the first bytes: the addresses, the type, and eight bytes that differ by the frame's seed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = &self.0[..self.0.len().min(22)];
        write!(f, "{} bytes {first:02x?}", self.0.len())
    }
}

impl Frame {
    /// Makes a frame for a station, with a content that differs by `seed`. It has `len` bytes, and no fewer than
    /// a frame has at least.
    pub fn new(to: Mac, from: Mac, seed: u64, len: usize) -> Self {
        let mut bytes = Vec::new();
        bytes.extend(to);
        bytes.extend(from);
        bytes.extend(ETHER_TYPE);
        let rest = len.max(SHORTEST) - bytes.len();
        bytes.extend(Random::new(seed + 1).bytes(rest));
        Frame(bytes)
    }

    /// Makes a frame for all stations.
    pub fn broadcast(from: Mac, seed: u64, len: usize) -> Self {
        Frame::new(BROADCAST, from, seed, len)
    }

    /// Returns the bytes of the frame.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes the bytes of a frame.
    pub fn of(bytes: Vec<u8>) -> Self {
        Frame(bytes)
    }

    /// Says whether the frame is one of [`Frame::new`], and none of another program on the network.
    pub fn is_ours(&self) -> bool {
        self.0.get(12..14) == Some(&ETHER_TYPE)
    }
}

#[cfg(test)]
mod tests {
    use super::Frame;

    #[test]
    fn a_frame_has_addresses_type_and_length() {
        let frame = Frame::new([1; 6], [2; 6], 3, 100);
        assert_eq!(
            &frame.bytes()[..14],
            [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0x88, 0xb5]
        );
        assert_eq!(frame.bytes().len(), 100);
        assert_eq!(Frame::new([1; 6], [2; 6], 3, 0).bytes().len(), 60);
        assert!(frame.is_ours());
        assert!(!Frame::of(vec![0; 60]).is_ours());
        assert_ne!(frame, Frame::new([1; 6], [2; 6], 4, 100));
    }
}
