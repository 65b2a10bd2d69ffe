// SPDX-License-Identifier: GPL-2.0

//! Fields and capability chains in the answers of VFIO's info ioctls, `struct vfio_info_cap_header`.

use core::mem::offset_of;

use vfio_bindings::bindings::vfio;

/// Reads a native-endian `u16`, `None` past the end.
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*bytes))
}

/// Reads a native-endian `u32`, `None` past the end.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// Reads a native-endian `u64`, `None` past the end.
pub fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*bytes))
}

/// A link of a capability chain, `struct vfio_info_cap_header`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capability {
    /// Offset of the header in the answer.
    pub offset: usize,
    /// `VFIO_*_INFO_CAP_*`.
    pub id: u16,
    /// The version of the capability's layout.
    pub version: u16,
}

/// Walks the capability chain in the answer to an info ioctl.
///
/// # Errors
///
/// What is wrong with the chain: a link outside the answer, or one that was there before.
pub fn capabilities(answer: &[u8], first: u32) -> core::result::Result<Vec<Capability>, String> {
    let mut chain: Vec<Capability> = Vec::new();
    let mut next = first;
    while next != 0 {
        let offset = next as usize;
        let header = (
            u16_at(
                answer,
                offset.saturating_add(offset_of!(vfio::vfio_info_cap_header, id)),
            ),
            u16_at(
                answer,
                offset.saturating_add(offset_of!(vfio::vfio_info_cap_header, version)),
            ),
            u32_at(
                answer,
                offset.saturating_add(offset_of!(vfio::vfio_info_cap_header, next)),
            ),
        );
        let (Some(id), Some(version), Some(following)) = header else {
            return Err(format!(
                "capability at {offset}, outside the {} bytes of the answer",
                answer.len()
            ));
        };
        if chain.iter().any(|cap| cap.offset == offset) {
            return Err(format!("the capability chain comes back to {offset}"));
        }
        chain.push(Capability {
            offset,
            id,
            version,
        });
        next = following;
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use super::capabilities;
    use super::Capability;

    /// A chain of two capabilities, at 8 and at 16, in an answer of 24 bytes.
    fn answer() -> Vec<u8> {
        let mut bytes = vec![0; 8];
        for (id, next) in [(2u16, 16u32), (1, 0)] {
            bytes.extend(id.to_ne_bytes());
            bytes.extend(1u16.to_ne_bytes());
            bytes.extend(next.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn an_empty_chain_is_empty() {
        assert_eq!(capabilities(&answer(), 0), Ok(Vec::<Capability>::new()));
    }

    #[test]
    fn a_chain_is_walked_in_its_order() {
        let chain = capabilities(&answer(), 8).expect("a good chain");
        let seen: Vec<_> = chain.iter().map(|cap| (cap.id, cap.offset)).collect();
        assert_eq!(seen, [(2, 8), (1, 16)]);
    }
}
