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

/// Bytes in the page cache, lent for a moment.
///
/// Whoever else can write to the file may change them meanwhile, so nobody gets a reference to them.
/// C code may copy them from [`Self::as_ptr`].
///
/// # Invariants
///
/// `len` bytes at `bytes` are mapped and stay what they are for during the lifetime: a part of a file.
pub struct Cached<'a> {
    bytes: *const u8,
    len: usize,
    _lent: PhantomData<&'a ()>,
}

impl Cached<'_> {
    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the first `len` bytes away, or all of them if there are fewer.
    pub fn take(&mut self, len: usize) -> Self {
        let len = len.min(self.len);
        // INVARIANT: Each has a part of what there was.
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

/// Whom bytes of the page cache are lent.
pub(super) struct Loan<F, E> {
    pub(super) borrower: F,
    /// Why the borrower wants no more.
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
                // The caller gets the other one.
                ECANCELED.to_errno()
            }
        }
    }
}
