// SPDX-License-Identifier: GPL-2.0

//! Files by name, looked up once.

use core::{
    ffi::CStr,
    mem::MaybeUninit,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    cred::Credential,
    error::to_result,
    prelude::*,
    str::CString,
    sync::aref::ARef, //
};

/// A reference to a file system object, `struct path`.
///
/// # Invariants
///
/// The path is valid, and this value owns one reference to it.
pub(super) struct Path(pub(super) bindings::path);

// SAFETY: A path is reference-counted and may be used and put from any thread.
unsafe impl Send for Path {}

// SAFETY: It does not change, and opening it locks what it has to.
unsafe impl Sync for Path {}

impl Path {
    /// Looks `name` up for the current process.
    fn lookup(name: &CStr) -> Result<Self> {
        let mut path = MaybeUninit::uninit();

        // SAFETY: `name` is a C string, and `path` is valid for writes.
        to_result(unsafe {
            vfio_bindings::ferry_path_lookup(name.as_char_ptr(), path.as_mut_ptr())
        })?;

        // INVARIANT: The function took a reference for us.
        // SAFETY: On success it has initialised `path`.
        Ok(Self(unsafe { path.assume_init() }))
    }

    /// The kind of the file, `S_IF*`.
    fn kind(&self) -> u32 {
        // SAFETY: By the type invariants the path is valid.
        u32::from(unsafe { vfio_bindings::ferry_path_kind(&raw const self.0) })
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        // SAFETY: By the type invariants we own the reference that is put.
        unsafe { bindings::path_put(&raw const self.0) };
    }
}

/// A regular file or block device that a process named, and the credentials that the file is opened with.
///
/// The name is looked up once, when it is given. The user who later opens the device needs no access to the
/// file, and cannot make the name lead elsewhere by a mount namespace or a root directory of its own. The file
/// stays named when another file takes its name, and when the mount namespace is gone. Its file system cannot
/// be unmounted meanwhile. A block device is named by its node. When the node has been removed, as it is with
/// the device, the file is not opened, since the device number may belong to another device by then.
pub struct FileName {
    name: CString,
    pub(super) path: Path,
    pub(super) credential: ARef<Credential>,
}

impl FileName {
    /// Looks `name` up for the current process, and opens nothing. May sleep for as long as a file system
    /// takes to find the file; call it with no lock held.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `name` is not absolute, has a NUL in it, or names neither a regular file nor a block
    /// device; `ENAMETOOLONG`, `ENOENT`, `ENOMEM`, or what the lookup returns.
    pub fn new(name: &str) -> Result<Self> {
        if !name.starts_with('/') {
            return Err(EINVAL);
        }
        // With the NUL at its end.
        if name.len() >= bindings::PATH_MAX as usize {
            return Err(ENAMETOOLONG);
        }

        let name = CString::try_from_fmt(fmt!("{name}"))?;
        let path = Path::lookup(&name)?;
        // The open of a FIFO, for one, waits for another process.
        if ![bindings::S_IFREG, bindings::S_IFBLK].contains(&path.kind()) {
            return Err(EINVAL);
        }
        // SAFETY: The function returns a valid pointer and takes a reference, which becomes ours.
        let credential = unsafe {
            let credential = vfio_bindings::ferry_get_current_cred();
            ARef::from_raw(NonNull::from(Credential::from_ptr(credential)))
        };

        Ok(Self {
            name,
            path,
            credential,
        })
    }

    /// The name that was given.
    pub fn name(&self) -> &CStr {
        &self.name
    }
}
