// SPDX-License-Identifier: GPL-2.0

//! Sysfs attributes of a device that a driver is bound to.
//!
//! The driver core makes the files after the device's probe has succeeded, and removes them before the
//! device is removed, after waiting for reads and writes under way: an attribute always finds the
//! driver's data.
//!
//! C headers: [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h),
//! [`include/linux/device.h`](srctree/include/linux/device.h)

use crate::refusal::{
    Refuse,
    Subject, //
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
    prelude::*,
    str::{
        as_char_ptr_in_const_context,
        Formatter, //
    },
};

/// A file of a device.
pub trait Attribute: 'static {
    /// The driver data of the devices that have the file.
    type Data: Refuse + 'static;
    /// What a read shows, followed by a newline.
    type Value: Display;

    /// Name of the file.
    const NAME: &'static CStr;
    /// Whether root can write the file.
    const WRITABLE: bool;
    /// The values that can be stored, in words, for the log line about a write that gets `EINVAL`.
    const ALLOWED: &'static str;

    /// Serves a read.
    ///
    /// # Errors
    ///
    /// What the user's `read()` gets.
    fn show(data: &Self::Data) -> Result<Self::Value>;

    /// Serves a write of `text`, without its last newline.
    ///
    /// # Errors
    ///
    /// What the user's `write()` gets.
    fn store(_data: &Self::Data, _text: &str) -> Result {
        Err(EPERM)
    }
}

/// An element of a NULL-terminated list of attributes of devices with the driver data `D`.
#[repr(transparent)]
pub struct Entry<D>(*mut bindings::attribute, PhantomData<fn(&D)>);

impl<D: Refuse + 'static> Entry<D> {
    /// The end of a list.
    pub const END: Self = Self(core::ptr::null_mut(), PhantomData);

    /// The attribute `A`.
    pub const fn of<A: Attribute<Data = D>>() -> Self {
        // The driver core only reads the attribute.
        Self(
            (&raw const Table::<A>::ATTRIBUTE_REF.attr).cast_mut(),
            PhantomData,
        )
    }
}

/// A directory of attributes.
pub trait Group: 'static {
    /// The driver data of the devices that have the directory.
    type Data: Refuse + 'static;

    /// Name of the directory.
    const NAME: &'static CStr;
    /// Files of the directory, with [`Entry::END`] at the end. Without files there is no directory.
    const ATTRIBUTES: &'static [Entry<Self::Data>];
}

/// A directory of attributes among others.
pub struct Directory<D: 'static> {
    /// Name of the directory.
    pub name: &'static CStr,
    /// As [`Group::ATTRIBUTES`].
    pub attributes: &'static [Entry<D>],
}

/// Directories of attributes. Sysfs does not nest those of a driver.
pub trait Directories: 'static {
    /// The driver data of the devices that have the directories.
    type Data: Refuse + 'static;

    /// The directories, at most [`DIRECTORIES_MAX`], of which one without files is the last one.
    const DIRECTORIES: &'static [Directory<Self::Data>];
}

/// The most [`Directories`] of a device.
pub const DIRECTORIES_MAX: usize = 4;

/// The directories of a device: `A`, which is the framework's, and `B`, which are the driver's.
pub struct Groups<A, B>(PhantomData<(A, B)>);

impl<A: Group, B: Directories<Data = A::Data>> Groups<A, B> {
    const LIST: &'static [*const bindings::attribute_group; 2 + DIRECTORIES_MAX] = {
        assert!(
            B::DIRECTORIES.len() <= DIRECTORIES_MAX,
            "there are more directories than places for them"
        );
        &[
            GroupTable::<A>::POINTER,
            DirectoryTable::<B, 0>::POINTER,
            DirectoryTable::<B, 1>::POINTER,
            DirectoryTable::<B, 2>::POINTER,
            DirectoryTable::<B, 3>::POINTER,
            core::ptr::null(),
        ]
    };

    /// The NULL-terminated list for `dev_groups` of a `struct device_driver`.
    ///
    /// # Safety
    ///
    /// While a device is bound to that driver, the device's driver data must be NULL or point to a valid
    /// `A::Data`, from before the probe returns until the driver core has removed the files.
    pub const unsafe fn dev_groups() -> *mut *const bindings::attribute_group {
        Self::LIST.as_ptr().cast_mut()
    }
}

/// The C structure of a directory.
const fn group<D: Refuse + 'static>(
    name: &'static CStr,
    attributes: &'static [Entry<D>],
) -> bindings::attribute_group {
    assert!(
        match attributes.last() {
            Some(entry) => entry.0.is_null(),
            None => false,
        },
        "a list of attributes ends with Entry::END"
    );

    let mut group: bindings::attribute_group = pin_init::zeroed();
    group.name = as_char_ptr_in_const_context(name);
    group.__bindgen_anon_2.attrs = attributes.as_ptr().cast_mut().cast();
    group
}

/// The C structures of group `G`.
struct GroupTable<G>(PhantomData<G>);

impl<G: Group> GroupTable<G> {
    const GROUP_REF: &'static bindings::attribute_group = &group(G::NAME, G::ATTRIBUTES);

    /// NULL if it has no files.
    const POINTER: *const bindings::attribute_group = if G::ATTRIBUTES.len() > 1 {
        Self::GROUP_REF
    } else {
        core::ptr::null()
    };
}

/// The C structures of directory number `N` of `B`.
struct DirectoryTable<B, const N: usize>(PhantomData<B>);

impl<B: Directories, const N: usize> DirectoryTable<B, N> {
    /// One without files if there is no such directory.
    const DIRECTORY: Directory<B::Data> = if N < B::DIRECTORIES.len() {
        let directory = &B::DIRECTORIES[N];
        Directory {
            name: directory.name,
            attributes: directory.attributes,
        }
    } else {
        Directory {
            name: c"",
            attributes: &[Entry::END],
        }
    };
    const GROUP_REF: &'static bindings::attribute_group =
        &group(Self::DIRECTORY.name, Self::DIRECTORY.attributes);

    /// NULL if it has no files.
    const POINTER: *const bindings::attribute_group = if Self::DIRECTORY.attributes.len() > 1 {
        Self::GROUP_REF
    } else {
        core::ptr::null()
    };
}

struct Table<A>(PhantomData<A>);

impl<A: Attribute> Table<A> {
    const ATTRIBUTE: bindings::device_attribute = {
        let mut attribute: bindings::device_attribute = pin_init::zeroed();
        attribute.attr.name = as_char_ptr_in_const_context(A::NAME);
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
    /// `dev` must be bound, during the lifetime, to a driver that got the attribute by
    /// [`Groups::dev_groups`].
    unsafe fn data<'a>(dev: *mut bindings::device) -> Result<&'a A::Data> {
        // SAFETY: By the function's requirement, and that of `Groups::dev_groups()`.
        unsafe { bindings::dev_get_drvdata(dev).cast::<A::Data>().as_ref() }.ok_or(ENODEV)
    }

    /// # Safety
    ///
    /// Called by the driver core with a device as [`Self::data`] wants it and a buffer of one page.
    unsafe extern "C" fn show_callback(
        dev: *mut bindings::device,
        _attribute: *mut bindings::device_attribute,
        buf: *mut c_char,
    ) -> isize {
        // SAFETY: Sysfs passes a page that is ours during the call.
        let page = unsafe { slice::from_raw_parts_mut(buf.cast::<u8>(), PAGE_SIZE) };

        from_result(|| {
            // SAFETY: By the function's requirement.
            let value = A::show(unsafe { Self::data(dev)? })?;
            let mut text = Formatter::new(page);
            writeln!(text, "{value}").map_err(|_| EOVERFLOW)?;
            // A page's size fits.
            Ok(text.bytes_written() as isize)
        })
    }

    /// # Safety
    ///
    /// Called by the driver core with a device as [`Self::data`] wants it and `count` bytes.
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
            let data = unsafe { Self::data(dev)? };
            A::store(data, text).map_err(|error| {
                let (but, allowed) = match error {
                    EINVAL => (", but ", A::ALLOWED),
                    _ => ("", ""),
                };
                data.refused(
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
