// SPDX-License-Identifier: GPL-2.0

//! Sysfs attributes of a mediated device.
//!
//! The driver core makes the files after the device's probe has succeeded and removes them, waiting
//! for whoever is inside, before the device is removed: an attribute always finds its device.
//!
//! C headers: [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h),
//! [`include/linux/device.h`](srctree/include/linux/device.h)

use crate::{
    const_char_ptr,
    device::Operations,
    mdev::Instance,
    refusal::Subject, //
};
use core::{
    fmt::{
        Display,
        Write, //
    },
    marker::PhantomData,
    slice, //
};
use kernel::{
    bindings,
    error::from_result,
    ffi::c_char,
    page::PAGE_SIZE,
    prelude::*, //
};

/// One file.
pub trait Attribute: 'static {
    /// The driver's data of the mdevs whose attribute it is.
    type Data: Operations;
    /// What a read shows, followed by a newline.
    type Value: Display;

    /// Name of the file.
    const NAME: &'static CStr;
    /// Whether root can write it.
    const WRITABLE: bool;
    /// What can be stored, in words, for the log line about a write that gets `EINVAL`.
    const ALLOWED: &'static str;

    /// Serves a read.
    ///
    /// # Errors
    ///
    /// What the user's `read()` gets.
    fn show(mdev: &Instance<Self::Data>) -> Result<Self::Value>;

    /// Serves a write of `text`, without its last newline.
    ///
    /// # Errors
    ///
    /// What the user's `write()` gets.
    fn store(_mdev: &Instance<Self::Data>, _text: &str) -> Result {
        Err(EPERM)
    }
}

/// An element of a NULL-terminated list of attributes.
#[repr(transparent)]
pub struct Entry(*mut bindings::attribute);

impl Entry {
    /// The end of a list.
    pub const END: Self = Self(core::ptr::null_mut());

    /// The attribute `A`.
    pub const fn of<A: Attribute>() -> Self {
        // The driver core only reads it.
        Self((&raw const Table::<A>::ATTRIBUTE_REF.attr).cast_mut())
    }
}

/// A directory of attributes.
pub trait Group: 'static {
    /// Name of the directory.
    const NAME: &'static CStr;
    /// Its files, with [`Entry::END`] at the end.
    const ATTRIBUTES: &'static [Entry];
}

/// No directory.
pub struct NoGroup;

impl Group for NoGroup {
    const NAME: &'static CStr = c"";
    const ATTRIBUTES: &'static [Entry] = &[Entry::END];
}

/// The directories of a device: those of the framework and those of the driver.
pub struct Groups<A, B>(PhantomData<(A, B)>);

impl<A: Group, B: Group> Groups<A, B> {
    /// The NULL-terminated list that the driver core takes.
    pub(crate) const LIST: &'static [*const bindings::attribute_group; 3] = &[
        GroupTable::<A>::POINTER,
        GroupTable::<B>::POINTER,
        core::ptr::null(),
    ];
}

/// The C structures of group `G`.
pub(crate) struct GroupTable<G>(PhantomData<G>);

impl<G: Group> GroupTable<G> {
    const GROUP: bindings::attribute_group = {
        assert!(
            match G::ATTRIBUTES.last() {
                Some(entry) => entry.0.is_null(),
                None => false,
            },
            "a list of attributes ends with Entry::END"
        );

        let mut group: bindings::attribute_group = pin_init::zeroed();
        group.name = const_char_ptr(G::NAME);
        group.__bindgen_anon_2.attrs = G::ATTRIBUTES.as_ptr().cast_mut().cast();
        group
    };
    const GROUP_REF: &'static bindings::attribute_group = &Self::GROUP;

    /// NULL if it has no files.
    const POINTER: *const bindings::attribute_group = if G::ATTRIBUTES.len() > 1 {
        Self::GROUP_REF
    } else {
        core::ptr::null()
    };
}

struct Table<A>(PhantomData<A>);

impl<A: Attribute> Table<A> {
    const ATTRIBUTE: bindings::device_attribute = {
        let mut attribute: bindings::device_attribute = pin_init::zeroed();
        attribute.attr.name = const_char_ptr(A::NAME);
        attribute.attr.mode = if A::WRITABLE { 0o644 } else { 0o444 };
        attribute.__bindgen_anon_1.show = Some(Self::show_callback);
        attribute.__bindgen_anon_2.store = Some(Self::store_callback);
        attribute
    };
    const ATTRIBUTE_REF: &'static bindings::device_attribute = &Self::ATTRIBUTE;
    /// The file's name, for the log.
    const FILE: &'static str = match A::NAME.to_str() {
        Ok(name) => name,
        Err(_) => "attribute",
    };

    /// # Safety
    ///
    /// `dev` must be a mediated device that [`crate::mdev`] has bound to a driver whose data are
    /// `A::Data`, and stay bound during the lifetime.
    unsafe fn instance<'a>(dev: *mut bindings::device) -> Result<&'a Instance<A::Data>> {
        // SAFETY: By the function's requirement the driver data is that of `mdev`'s probe.
        unsafe { Instance::borrow(bindings::dev_get_drvdata(dev)) }.ok_or(ENODEV)
    }

    /// # Safety
    ///
    /// Called by the driver core with a bound device and a buffer of one page.
    unsafe extern "C" fn show_callback(
        dev: *mut bindings::device,
        _attribute: *mut bindings::device_attribute,
        buf: *mut c_char,
    ) -> isize {
        // SAFETY: Sysfs passes a page that is ours during the call.
        let page = unsafe { slice::from_raw_parts_mut(buf.cast::<u8>(), PAGE_SIZE) };

        from_result(|| {
            // SAFETY: By the function's requirement.
            let value = A::show(unsafe { Self::instance(dev)? })?;
            let mut text = Text::new(page);
            writeln!(text, "{value}").map_err(|_| EOVERFLOW)?;
            // A page's size fits.
            Ok(text.len as isize)
        })
    }

    /// # Safety
    ///
    /// Called by the driver core with a bound device and `count` bytes.
    unsafe extern "C" fn store_callback(
        dev: *mut bindings::device,
        _attribute: *mut bindings::device_attribute,
        buf: *const c_char,
        count: usize,
    ) -> isize {
        // SAFETY: Sysfs passes `count` readable bytes that nobody writes during the call.
        let bytes = unsafe { slice::from_raw_parts(buf.cast::<u8>(), count) };

        from_result(|| {
            let text = core::str::from_utf8(bytes).map_err(|_| EINVAL)?;
            let text = text.strip_suffix('\n').unwrap_or(text);
            // SAFETY: By the function's requirement.
            let mdev = unsafe { Self::instance(dev)? };
            A::store(mdev, text).map_err(|error| {
                let (but, allowed) = match error {
                    EINVAL => (", but ", A::ALLOWED),
                    _ => ("", ""),
                };
                mdev.refused(
                    Subject::Attribute,
                    Self::FILE,
                    &format_args!("'{}' cannot be stored{but}{allowed}", text.escape_debug()),
                    error,
                )
            })?;
            isize::try_from(count).map_err(|_| EINVAL)
        })
    }
}

/// Text that is being written into a buffer.
pub(crate) struct Text<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> Text<'a> {
    pub(crate) fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, len: 0 }
    }
}

impl Write for Text<'_> {
    /// Writes what there is room for, and fails if that is not all.
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = self.buffer.get_mut(self.len..).ok_or(core::fmt::Error)?;
        let len = room.len().min(text.len());
        room[..len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;

        if len == text.len() {
            Ok(())
        } else {
            Err(core::fmt::Error)
        }
    }
}
