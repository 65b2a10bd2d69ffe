// SPDX-License-Identifier: GPL-2.0

//! Bytes of a file where they are, in the page cache.

use core::{
    ffi::{
        c_int,
        c_void, //
    },
    marker::PhantomData, //
};
use kernel::prelude::*;

/// Bytes in the page cache, lent for the duration of a call.
///
/// Another process may write to the file meanwhile, so there is no Rust reference to the bytes.
/// C code may copy them from [`Self::as_ptr`].
///
/// # Invariants
///
/// `len` bytes at `bytes` are mapped, and belong to the file, during the lifetime.
pub struct Cached<'a> {
    bytes: *const u8,
    len: usize,
    _lent: PhantomData<&'a ()>,
}

impl Cached<'_> {
    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the first `len` bytes away, or all of them if there are fewer.
    pub fn take(&mut self, len: usize) -> Self {
        let len = len.min(self.len);
        // INVARIANT: Each of the two has a part of the former range.
        let taken = Self {
            bytes: self.bytes,
            len,
            _lent: PhantomData,
        };
        self.bytes = self.bytes.wrapping_add(len);
        self.len -= len;

        taken
    }

    /// The first byte. By the type's invariants [`Self::len`] bytes are mapped there during the lifetime;
    /// anybody may be writing them.
    pub fn as_ptr(&self) -> *const u8 {
        self.bytes
    }
}

/// The borrower of bytes of the page cache.
pub(super) struct Loan<F, E> {
    pub(super) borrower: F,
    /// The borrower's error, which ended the loan.
    pub(super) error: Option<E>,
}

impl<F: FnMut(Cached<'_>) -> Result<(), E>, E> Loan<F, E> {
    /// [`Self::take`] for this type.
    pub(super) fn callback(
        &self,
    ) -> unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> c_int {
        Self::take
    }

    /// # Safety
    ///
    /// `context` must be a valid `Self` that nobody else uses during the call, and `len` bytes at
    /// `bytes` be in a file's pages that stay during the call.
    unsafe extern "C" fn take(context: *mut c_void, bytes: *const c_void, len: usize) -> c_int {
        // SAFETY: By the function's requirement.
        let loan = unsafe { &mut *context.cast::<Self>() };
        // INVARIANT: By the function's requirement.
        let cached = Cached {
            bytes: bytes.cast(),
            len,
            _lent: PhantomData,
        };

        match (loan.borrower)(cached) {
            Ok(()) => 0,
            Err(error) => {
                loan.error = Some(error);
                // The caller takes the error from the loan.
                ECANCELED.to_errno()
            }
        }
    }
}
