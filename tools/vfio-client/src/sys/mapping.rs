// SPDX-License-Identifier: GPL-2.0

//! Memory that is shared with the kernel: a part of a device, or pages that a device writes.

use core::ffi::c_void;
use core::ptr;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::AtomicU8;
use core::sync::atomic::Ordering;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::mm::MapFlags;
use rustix::mm::ProtFlags;

/// A shared mapping of a part of a device or of fresh memory; unmapped on drop.
///
/// The kernel and other threads may change the bytes at any time. So the mapping never lends them out as a
/// slice; it copies them in and out with atomic operations.
///
/// # Invariants
///
/// `start` is the page-aligned start of `len` bytes that this object alone may unmap.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<c_void>,
    len: usize,
}

// SAFETY: The bytes are only accessed with atomic operations.
unsafe impl Send for Mapping {}
// SAFETY: As above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes at `offset` of a file, shared, readable and writable.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn new(fd: impl AsFd, offset: u64, len: usize) -> Result<Self, Errno> {
        Self::with(
            fd,
            offset,
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
        )
    }

    /// Maps `len` bytes at `offset` of a file in any way.
    ///
    /// # Errors
    ///
    /// What the kernel answers, and `EINVAL` for flags that would place the mapping over others.
    pub fn with(
        fd: impl AsFd,
        offset: u64,
        len: usize,
        protection: ProtFlags,
        flags: MapFlags,
    ) -> Result<Self, Errno> {
        if flags.contains(MapFlags::FIXED) {
            return Err(Errno::INVAL);
        }
        // SAFETY: Without `MAP_FIXED` the kernel picks an address where nothing is.
        let start =
            unsafe { rustix::mm::mmap(ptr::null_mut(), len, protection, flags, fd, offset) }?;
        // INVARIANT: Just mapped.
        NonNull::new(start)
            .map(|start| Mapping { start, len })
            .ok_or(Errno::FAULT)
    }

    /// Maps `len` bytes of fresh, zeroed memory, shared with child processes.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn anonymous(len: usize) -> Result<Self, Errno> {
        // SAFETY: The kernel picks an address where nothing is.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
            )
        }?;
        // INVARIANT: Just mapped.
        NonNull::new(start)
            .map(|start| Mapping { start, len })
            .ok_or(Errno::FAULT)
    }

    pub(super) fn start(&self) -> *mut c_void {
        self.start.as_ptr()
    }

    /// Returns the size of the mapping in bytes.
    #[expect(
        clippy::len_without_is_empty,
        reason = "the kernel makes no empty mappings"
    )]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Tries to make the mapping `len` bytes long, at any address.
    ///
    /// # Errors
    ///
    /// What the kernel answers; the mapping is then as it was.
    pub fn resize(&mut self, len: usize) -> Result<(), Errno> {
        // SAFETY: No borrow of the mapped bytes outlives a method of this object, and this one has
        // the object exclusively, so the bytes may move.
        let start = unsafe {
            rustix::mm::mremap(
                self.start(),
                self.len,
                len,
                rustix::mm::MremapFlags::MAYMOVE,
            )
        }?;
        // INVARIANT: The kernel says that this is where the mapping is now.
        self.start = NonNull::new(start).ok_or(Errno::FAULT)?;
        self.len = len;
        Ok(())
    }

    fn byte(&self, offset: usize) -> &AtomicU8 {
        assert!(
            offset < self.len,
            "byte {offset} of a {}-byte mapping",
            self.len
        );
        // SAFETY: In bounds of a mapping that lives as long as `self` does, and everyone in this
        // process accesses it atomically.
        unsafe { AtomicU8::from_ptr(self.start().cast::<u8>().add(offset)) }
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(
            offset.is_multiple_of(size_of::<u64>()) && offset + size_of::<u64>() <= self.len,
            "word {offset} of a {}-byte mapping",
            self.len
        );
        // SAFETY: As for `byte`, and aligned: `offset` was checked and `start` is page-aligned.
        unsafe { AtomicU64::from_ptr(self.start().cast::<u8>().add(offset).cast::<u64>()) }
    }

    /// Copies bytes out of the mapping.
    ///
    /// # Panics
    ///
    /// When the range is not in the mapping.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        let mut at = 0;
        while at < into.len() {
            let from = offset + at;
            let rest = &mut into[at..];
            if from.is_multiple_of(size_of::<u64>()) && rest.len() >= size_of::<u64>() {
                let word = self.word(from).load(Ordering::Relaxed).to_ne_bytes();
                rest[..word.len()].copy_from_slice(&word);
                at += word.len();
            } else {
                rest[0] = self.byte(from).load(Ordering::Relaxed);
                at += 1;
            }
        }
    }

    /// Copies bytes into the mapping.
    ///
    /// # Panics
    ///
    /// When the range is not in the mapping.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let to = offset + at;
            let rest = &bytes[at..];
            match rest.first_chunk() {
                Some(word) if to.is_multiple_of(size_of::<u64>()) => {
                    self.word(to)
                        .store(u64::from_ne_bytes(*word), Ordering::Relaxed);
                    at += word.len();
                }
                _ => {
                    self.byte(to).store(rest[0], Ordering::Relaxed);
                    at += 1;
                }
            }
        }
    }

    /// Flips bits of one byte while a device may use it.
    ///
    /// # Panics
    ///
    /// When the byte is not in the mapping.
    pub fn flip(&self, offset: usize, bits: u8) {
        self.byte(offset).fetch_xor(bits, Ordering::Relaxed);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: By the invariant the range is ours, and `self` can no longer be used. An error is
        // of no interest: there is nobody to tell and nothing to do.
        let _ = unsafe { rustix::mm::munmap(self.start(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::Mapping;

    #[test]
    fn a_mapping_gives_back_what_was_put_in_at_any_offset_and_length() {
        let mapping = Mapping::anonymous(4096).expect("memory");
        for offset in 0..20 {
            for len in 0..40 {
                let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + offset + 1) as u8).collect();
                mapping.write(offset, &bytes);
                let mut back = vec![0; len];
                mapping.read(offset, &mut back);
                assert_eq!(back, bytes, "offset {offset}, {len} bytes");
            }
        }
    }

    #[test]
    #[should_panic(expected = "byte 4096 of a 4096-byte mapping")]
    fn a_mapping_cannot_be_read_past_its_end() {
        let mapping = Mapping::anonymous(4096).expect("memory");
        mapping.read(4090, &mut [0; 7]);
    }
}
