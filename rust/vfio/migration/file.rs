// SPDX-License-Identifier: GPL-2.0

//! Data files, through which a user reads or writes the state of a device.
//!
//! See [`migration`](super) for their lifetime and the lock order.
//!
//! C header: `struct vfio_precopy_info` of [`include/uapi/linux/vfio.h`](srctree/include/uapi/linux/vfio.h)

use super::{
    data::{
        Available,
        Direction, //
    },
    revocable::RevocableDevice,
};
use core::{
    mem::{
        offset_of,
        size_of, //
    },
    ptr::NonNull, //
};
use kernel::{
    bindings, current,
    error::{
        from_err_ptr,
        from_result, //
    },
    ffi::{
        c_char,
        c_int,
        c_long,
        c_uint,
        c_ulong,
        c_void, //
    },
    fs::File,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        poll::PollTable,
        Arc,
        ArcBorrow,
        Mutex, //
    },
    types::ForeignOwnable,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

/// The buffer of a data file.
struct Buffer {
    bytes: KVVec<u8>,
    /// Start of the bytes that the user has not read.
    start: usize,
    /// End of the bytes that the user has not read.
    end: usize,
}

/// Size of the buffer of a data file in bytes.
pub const BUFFER_SIZE: usize = 64 << 10;

/// The private data of a data file.
#[pin_data]
struct DataStream {
    revocable: Arc<RevocableDevice>,
    session: u64,
    direction: Direction,
    #[pin]
    buffer: Mutex<Buffer>,
}

/// A data file that the user is going to get.
pub struct DataFile(ARef<File>);

impl DataFile {
    /// Makes the data file of `session`.
    pub(crate) fn new(
        revocable: Arc<RevocableDevice>,
        session: u64,
        direction: Direction,
    ) -> Result<Self> {
        let stream = Arc::pin_init(
            try_pin_init!(DataStream {
                revocable,
                session,
                direction,
                buffer <- new_mutex!(Buffer {
                    bytes: KVVec::from_elem(0, BUFFER_SIZE, GFP_KERNEL_ACCOUNT)?,
                    start: 0,
                    end: 0,
                }),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        let flags = match direction {
            Direction::Saving => bindings::O_RDONLY,
            Direction::Resuming => bindings::O_WRONLY,
        };

        let stream = stream.into_foreign();
        // SAFETY: The file's release drops the reference that `stream` is.
        let file = unsafe { vfio_bindings::ferry_data_file(stream.cast(), flags as c_int) };
        let file = from_err_ptr(file).inspect_err(|_| {
            // SAFETY: `stream` is from `into_foreign()` above, and no file has it.
            drop(unsafe { <Arc<DataStream> as ForeignOwnable>::from_foreign(stream) });
        })?;
        // SAFETY: The file is open, the reference is ours, and no file descriptor leads to the file yet.
        Ok(Self(unsafe {
            ARef::from_raw(NonNull::new_unchecked(file.cast()))
        }))
    }

    pub(super) fn into_raw(self) -> *mut bindings::file {
        ARef::into_raw(self.0).as_ptr().cast()
    }
}

impl DataStream {
    /// Serves a `read()` of `count` bytes.
    fn read(&self, into: UserPtr, count: usize) -> Result<usize> {
        let mut writer = UserSlice::new(into, count).writer();
        let mut done = 0;
        let mut buffer = self.buffer.lock();

        while done < count {
            let available = if buffer.start == buffer.end {
                self.fill(&mut buffer)
            } else {
                // The rest of a session that is over is not given out.
                self.is_readable()
                    .map(|_| Available::Bytes(buffer.end - buffer.start))
            };
            match available {
                Ok(Available::Bytes(_)) => {}
                Ok(Available::Ended) => break,
                Ok(Available::Later) if done == 0 => return Err(ENOMSG),
                Err(error) if done == 0 => return Err(error),
                Ok(Available::Later) | Err(_) => break,
            }
            let piece = buffer.start..buffer.end.min(buffer.start + (count - done));
            let len = piece.len();
            if let Err(error) = writer.write_slice(&buffer.bytes[piece]) {
                // The bytes that the user did not get stay in the buffer.
                return if done == 0 { Err(error) } else { Ok(done) };
            }
            buffer.start += len;
            done += len;
            self.tell_buffered(&buffer);
            // A busy device may always have more.
            if current!().signal_pending() {
                break;
            }
        }

        Ok(done)
    }

    fn fill(&self, buffer: &mut Buffer) -> Result<Available> {
        buffer.start = 0;
        buffer.end = 0;

        let available = self.revocable.with(|data, device| {
            // SAFETY: The device is open, and of the table's type.
            unsafe { (data.read)(device, self.session, &mut buffer.bytes) }
        })?;
        if let Available::Bytes(bytes) = available {
            buffer.end = bytes.min(buffer.bytes.len());
        }
        Ok(available)
    }

    /// Whether a read would return now, with bytes or at the end of the stream.
    fn is_readable(&self) -> Result<bool> {
        self.revocable.with(|data, device| {
            // SAFETY: As in `fill()`.
            unsafe { (data.is_readable)(device, self.session) }
        })
    }

    fn tell_buffered(&self, buffer: &Buffer) {
        let told = self.revocable.with(|data, device| {
            // SAFETY: As in `fill()`.
            unsafe { (data.buffered)(device, self.session, buffer.end - buffer.start) };
            Ok(())
        });

        // Once the link is revoked there is no driver to tell.
        let _ = told;
    }

    /// Serves a `write()` of `count` bytes.
    fn write(&self, from: UserPtr, count: usize) -> Result<usize> {
        let mut reader = UserSlice::new(from, count).reader();
        let mut done = 0;
        let mut buffer = self.buffer.lock();

        while done < count {
            let len = (count - done).min(buffer.bytes.len());
            let bytes = &mut buffer.bytes[..len];
            let taken = reader.read_slice(bytes).and_then(|()| {
                self.revocable.with(|data, device| {
                    // SAFETY: As in `fill()`.
                    unsafe { (data.write)(device, self.session, bytes) }
                })
            });
            match taken {
                Ok(()) => done += len,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
            if current!().signal_pending() {
                break;
            }
        }

        Ok(done)
    }

    /// Serves a `poll()`.
    fn poll(&self, file: &File, table: &PollTable<'_>) -> u32 {
        const READABLE: u32 = bindings::POLLIN | bindings::POLLRDNORM;
        const WRITABLE: u32 = bindings::POLLOUT | bindings::POLLWRNORM;

        table.register_wait(file, &self.revocable.changed);
        let ready = match self.direction {
            Direction::Saving => self.is_readable(),
            Direction::Resuming => self.revocable.with(|data, device| {
                // SAFETY: As in `fill()`.
                unsafe { (data.is_writable)(device, self.session) }
            }),
        };
        let direction = match self.direction {
            Direction::Saving => READABLE,
            Direction::Resuming => WRITABLE,
        };

        match ready {
            Ok(true) => direction,
            Ok(false) => 0,
            // The user's next read or write gets the error.
            Err(_) => direction | bindings::POLLERR | bindings::POLLHUP,
        }
    }

    /// Serves an `ioctl()`.
    fn ioctl(&self, cmd: u32, arg: UserPtr) -> Result {
        const SIZE: usize =
            offset_of!(vfio_bindings::vfio_precopy_info, dirty_bytes) + size_of::<u64>();
        const _: () = assert!(SIZE == 24);

        if cmd != vfio_bindings::VFIO_MIG_GET_PRECOPY_INFO || self.direction != Direction::Saving {
            return Err(ENOTTY);
        }
        let (mut reader, mut writer) = UserSlice::new(arg, SIZE).reader_writer();
        let argsz: u32 = reader.read()?;
        let flags: u32 = reader.read()?;
        if (argsz as usize) < SIZE {
            return Err(EINVAL);
        }

        let (info, flags_are_ours) = self.revocable.with(|data, device| {
            // SAFETY: The device is open; the core sets the byte once, and any value will do.
            let opted_in =
                unsafe { (&raw const (*device.as_ptr()).precopy_info_v2).read_volatile() };
            let opted_in = opted_in != 0;
            // SAFETY: As in `fill()`.
            let info = unsafe { (data.precopy_info)(device, self.session, opted_in) }?;
            Ok((info, opted_in))
        })?;
        // Without PRECOPY_INFOv2 the user gets back the flags that it passed.
        let flags = if flags_are_ours { info.flags() } else { flags };
        writer.write(&argsz)?;
        writer.write(&flags)?;
        writer.write(&info.initial_bytes)?;
        writer.write(&info.dirty_bytes)?;
        Ok(())
    }
}

/// # Safety
///
/// `file` must be one that [`DataFile::new`] made, and stay open during the lifetime.
unsafe fn stream<'a>(file: *mut bindings::file) -> ArcBorrow<'a, DataStream> {
    // SAFETY: By the function's requirement the private data is an `Arc<DataStream>`, which the
    // file holds until it is released.
    unsafe { <Arc<DataStream> as ForeignOwnable>::borrow((*file).private_data.cast::<c_void>()) }
}

/// # Safety
///
/// Called by the VFS with a file of `ferry_data_fops`.
#[no_mangle]
unsafe extern "C" fn ferry_data_read(
    file: *mut bindings::file,
    buf: *mut c_char,
    count: usize,
    _pos: *mut bindings::loff_t,
) -> isize {
    // SAFETY: By the function's requirement.
    let stream = unsafe { stream(file) };

    // The VFS limits a count to less than `isize::MAX`.
    from_result(|| {
        stream
            .read(UserPtr::from_ptr(buf.cast()), count)
            .map(|done| done as isize)
    })
}

/// # Safety
///
/// As for [`ferry_data_read`].
#[no_mangle]
unsafe extern "C" fn ferry_data_write(
    file: *mut bindings::file,
    buf: *const c_char,
    count: usize,
    _pos: *mut bindings::loff_t,
) -> isize {
    // SAFETY: By the function's requirement.
    let stream = unsafe { stream(file) };

    from_result(|| {
        stream
            .write(UserPtr::from_ptr(buf.cast_mut().cast()), count)
            .map(|done| done as isize)
    })
}

/// # Safety
///
/// As for [`ferry_data_read`]; `table` is NULL or valid.
#[no_mangle]
unsafe extern "C" fn ferry_data_poll(
    file: *mut bindings::file,
    table: *mut bindings::poll_table,
) -> bindings::__poll_t {
    // SAFETY: By the function's requirement.
    let (stream, table) = unsafe { (stream(file), PollTable::from_raw(table)) };
    // SAFETY: By the function's requirement; no position is used.
    let file = unsafe { File::from_raw_file(file) };

    stream.poll(file, &table)
}

/// # Safety
///
/// As for [`ferry_data_read`].
#[no_mangle]
unsafe extern "C" fn ferry_data_ioctl(
    file: *mut bindings::file,
    cmd: c_uint,
    arg: c_ulong,
) -> c_long {
    // SAFETY: By the function's requirement.
    let stream = unsafe { stream(file) };

    from_result(|| stream.ioctl(cmd, UserPtr::from_addr(arg)).map(|()| 0))
}

/// # Safety
///
/// Called by the VFS when the last reference to a file of `ferry_data_fops` is gone.
#[no_mangle]
unsafe extern "C" fn ferry_data_release(
    _inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    // SAFETY: The private data is from `DataFile::new()`, and is not used again.
    drop(unsafe {
        <Arc<DataStream> as ForeignOwnable>::from_foreign((*file).private_data.cast::<c_void>())
    });
    0
}
