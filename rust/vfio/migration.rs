// SPDX-License-Identifier: GPL-2.0

//! Protocol v2 of live migration: what a driver implements, and the data files through which the
//! state of a device moves.
//!
//! A user sets states by `VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE`, some of which come with a file. The
//! driver gives that file's data, or takes it, by [`MigrationOperations::read_data`] and
//! [`MigrationOperations::write_data`]; the file itself is here, once for all drivers.
//!
//! # Lifetime
//!
//! A data file outlives its session, the device and the driver's module, as long as the user keeps
//! it. It holds a [`RevocableDevice`] to the device, which is revoked before the device is closed; from then on
//! every operation on the file returns `ENODEV` and runs none of the driver's code.
//!
//! # Lock order
//!
//! `DataFile::buffer`, `RevocableDevice::device`, then whatever locks the driver takes. The user's memory is
//! accessed with `DataFile::buffer` held alone: a user that lets a page fault hang holds up nobody
//! but those who use the same file.
//!
//! C headers: [`include/linux/vfio.h`](srctree/include/linux/vfio.h),
//! `enum vfio_device_mig_state` and `struct vfio_precopy_info` of
//! [`include/uapi/linux/vfio.h`](srctree/include/uapi/linux/vfio.h)

use crate::device::{
    Device,
    Operations, //
};
use core::{
    marker::PhantomData,
    mem::{
        offset_of,
        size_of, //
    },
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::{
        from_err_ptr,
        from_result,
        to_result, //
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
    new_mutex, new_poll_condvar,
    prelude::*,
    sync::{
        aref::ARef,
        poll::{
            PollCondVar,
            PollTable, //
        },
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
use vfio_uapi::v2::{
    Flags,
    MigState,
    PrecopyInfo, //
};

/// Which way data goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// The user reads the state.
    Saving,
    /// The user writes the state.
    Resuming,
}

/// What [`MigrationOperations::read_data`] found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Available {
    /// So many bytes, at least one.
    Bytes(usize),
    /// None now. There may be some later, as the device runs.
    Later,
    /// None any more.
    Ended,
}

/// What a driver implements whose devices migrate by protocol v2, `struct vfio_migration_ops`.
///
/// A driver registers its devices with [`Support::of`].
pub trait MigrationOperations: Operations {
    /// What the devices have.
    const FLAGS: Flags;

    /// Brings the device to state `new`, through as many others as that takes. Returns the file of
    /// the session that began with it, from [`Device::data_file`].
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no way, or why the device cannot. The state is the one before, or that
    /// before the arc that failed if there is no way back.
    fn set_state(device: &Device<Self>, new: MigState) -> Result<Option<DataFile>>;

    /// The present state.
    fn state(device: &Device<Self>) -> MigState;

    /// Estimates how many bytes would have to be read in STOP_COPY.
    ///
    /// # Errors
    ///
    /// What the user's ioctl gets.
    fn data_size(device: &Device<Self>) -> Result<u64>;

    /// Puts the next bytes of the saving session `session` into `into`. They wait in the file then,
    /// see [`Self::buffered`].
    ///
    /// # Errors
    ///
    /// What the user's `read()` gets; `ENODEV` if that session is over.
    fn read_data(device: &Device<Self>, session: u64, into: &mut [u8]) -> Result<Available>;

    /// Takes the next bytes of the resuming session `session`, all of them.
    ///
    /// # Errors
    ///
    /// What the user's `write()` gets; `ENODEV` if that session is over.
    fn write_data(device: &Device<Self>, session: u64, bytes: &[u8]) -> Result;

    /// Whether a read of the saving session `session` would find something: bytes that wait in the
    /// file, or of [`Self::read_data`] something other than [`Available::Later`].
    ///
    /// # Errors
    ///
    /// `ENODEV` if that session is over.
    fn is_readable(device: &Device<Self>, session: u64) -> Result<bool>;

    /// Whether the resuming session `session` still takes data.
    ///
    /// # Errors
    ///
    /// `ENODEV` if that session is over.
    fn is_writable(device: &Device<Self>, session: u64) -> Result<bool>;

    /// Estimates what the user has yet to read in pre-copy. `may_reinit` tells whether the user has
    /// opted in to [`PrecopyInfo::reinit`], which is never set otherwise.
    ///
    /// # Errors
    ///
    /// `EINVAL` outside of pre-copy, `ENODEV` if the session is over.
    fn precopy_info(device: &Device<Self>, session: u64, may_reinit: bool) -> Result<PrecopyInfo>;

    /// Tells how many of the bytes that [`Self::read_data`] gave last still wait in the file to be
    /// read; all of them before it is told anything.
    fn buffered(device: &Device<Self>, session: u64, bytes: usize);
}

impl<T: MigrationOperations> Device<T> {
    /// Makes the file of `session`, which may be any number that no other session of this open has.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENFILE`.
    pub fn data_file(&self, session: u64, direction: Direction) -> Result<DataFile> {
        DataFile::new(self.revocable().ok_or(ENODEV)?.clone(), session, direction)
    }

    /// Tells whoever polls a data file that there may be more to read. Can be called with any lock
    /// held, and in any context.
    pub fn notify_data(&self) {
        if let Some(revocable) = self.revocable() {
            revocable.notify();
        }
    }

    /// The next state on the way from `current` to `new`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no way.
    pub fn next_state(&self, current: MigState, new: MigState) -> Result<MigState> {
        // The core warns of this, as it takes it for an error of the driver.
        if current == MigState::Error {
            return Err(EINVAL);
        }
        let mut next = 0;

        // SAFETY: The device is registered, and `next` valid for writes.
        to_result(unsafe {
            vfio_bindings::vfio_mig_get_next_state(
                self.as_vdev_ptr(),
                current.raw(),
                new.raw(),
                &mut next,
            )
        })?;
        MigState::from_raw(next).ok_or(EINVAL)
    }
}

/// Whether and how a device migrates by protocol v2.
#[derive(Clone, Copy)]
pub struct Support {
    pub(crate) flags: Flags,
    pub(crate) ops: *const vfio_bindings::vfio_migration_ops,
    data: Option<&'static DataOperations>,
}

// SAFETY: What it points to never changes.
unsafe impl Send for Support {}

// SAFETY: As above.
unsafe impl Sync for Support {}

impl Support {
    /// They do not.
    pub const NONE: Self = Self {
        flags: Flags::NONE,
        ops: core::ptr::null(),
        data: None,
    };

    /// They do, as `T` says.
    pub const fn of<T: MigrationOperations>() -> Self {
        Self {
            flags: T::FLAGS,
            ops: &raw const *VTable::<T>::OPS,
            data: Some(VTable::<T>::DATA),
        }
    }
}

/// [`MigrationOperations`] of a type that is not known.
///
/// # Safety
///
/// Each must be called with an open device of the type that the table was made for.
struct DataOperations {
    read: unsafe fn(NonNull<vfio_bindings::vfio_device>, u64, &mut [u8]) -> Result<Available>,
    write: unsafe fn(NonNull<vfio_bindings::vfio_device>, u64, &[u8]) -> Result,
    is_readable: unsafe fn(NonNull<vfio_bindings::vfio_device>, u64) -> Result<bool>,
    is_writable: unsafe fn(NonNull<vfio_bindings::vfio_device>, u64) -> Result<bool>,
    precopy_info: unsafe fn(NonNull<vfio_bindings::vfio_device>, u64, bool) -> Result<PrecopyInfo>,
    buffered: unsafe fn(NonNull<vfio_bindings::vfio_device>, u64, usize),
}

struct VTable<T>(PhantomData<T>);

impl<T: MigrationOperations> VTable<T> {
    const OPS: &'static vfio_bindings::vfio_migration_ops = &vfio_bindings::vfio_migration_ops {
        migration_set_state: Some(Self::set_state_callback),
        migration_get_state: Some(Self::get_state_callback),
        migration_get_data_size: Some(Self::get_data_size_callback),
    };
    const DATA: &'static DataOperations = &DataOperations {
        read: Self::read_data,
        write: Self::write_data,
        is_readable: Self::is_readable,
        is_writable: Self::is_writable,
        precopy_info: Self::precopy_info,
        buffered: Self::buffered,
    };

    /// # Safety
    ///
    /// Called by the VFIO core with an open device of a driver with this table.
    unsafe extern "C" fn set_state_callback(
        vdev: *mut vfio_bindings::vfio_device,
        new_state: vfio_bindings::vfio_device_mig_state,
    ) -> *mut bindings::file {
        // SAFETY: By the function's requirement.
        let device = unsafe { Device::<T>::from_raw(vdev) };

        let file = MigState::from_raw(new_state)
            .ok_or(EINVAL)
            .and_then(|state| T::set_state(device, state));
        match file {
            Ok(Some(file)) => file.into_raw(),
            Ok(None) => core::ptr::null_mut(),
            Err(error) => error.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// Called by the VFIO core with a registered device of a driver with this table.
    unsafe extern "C" fn get_state_callback(
        vdev: *mut vfio_bindings::vfio_device,
        state: *mut vfio_bindings::vfio_device_mig_state,
    ) -> c_int {
        // SAFETY: By the function's requirement.
        let device = unsafe { Device::<T>::from_raw(vdev) };

        // SAFETY: The core passes a variable of its own.
        unsafe { *state = T::state(device).raw() };
        0
    }

    /// # Safety
    ///
    /// As for [`Self::set_state_callback`].
    unsafe extern "C" fn get_data_size_callback(
        vdev: *mut vfio_bindings::vfio_device,
        size: *mut c_ulong,
    ) -> c_int {
        // SAFETY: By the function's requirement.
        let device = unsafe { Device::<T>::from_raw(vdev) };

        from_result(|| {
            let bytes = T::data_size(device)?;
            // SAFETY: The core passes a variable of its own.
            unsafe { *size = c_ulong::try_from(bytes).map_err(|_| EOVERFLOW)? };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `vdev` must be an open device of this type during the lifetime.
    unsafe fn device<'a>(vdev: NonNull<vfio_bindings::vfio_device>) -> &'a Device<T> {
        // SAFETY: By the function's requirement.
        unsafe { Device::from_raw(vdev.as_ptr()) }
    }

    /// # Safety
    ///
    /// See [`DataOperations`].
    unsafe fn read_data(
        vdev: NonNull<vfio_bindings::vfio_device>,
        session: u64,
        into: &mut [u8],
    ) -> Result<Available> {
        // SAFETY: By the function's requirement.
        T::read_data(unsafe { Self::device(vdev) }, session, into)
    }

    /// # Safety
    ///
    /// See [`DataOperations`].
    unsafe fn write_data(
        vdev: NonNull<vfio_bindings::vfio_device>,
        session: u64,
        bytes: &[u8],
    ) -> Result {
        // SAFETY: By the function's requirement.
        T::write_data(unsafe { Self::device(vdev) }, session, bytes)
    }

    /// # Safety
    ///
    /// See [`DataOperations`].
    unsafe fn is_readable(vdev: NonNull<vfio_bindings::vfio_device>, session: u64) -> Result<bool> {
        // SAFETY: By the function's requirement.
        T::is_readable(unsafe { Self::device(vdev) }, session)
    }

    /// # Safety
    ///
    /// See [`DataOperations`].
    unsafe fn is_writable(vdev: NonNull<vfio_bindings::vfio_device>, session: u64) -> Result<bool> {
        // SAFETY: By the function's requirement.
        T::is_writable(unsafe { Self::device(vdev) }, session)
    }

    /// # Safety
    ///
    /// See [`DataOperations`].
    unsafe fn precopy_info(
        vdev: NonNull<vfio_bindings::vfio_device>,
        session: u64,
        may_reinit: bool,
    ) -> Result<PrecopyInfo> {
        // SAFETY: By the function's requirement.
        T::precopy_info(unsafe { Self::device(vdev) }, session, may_reinit)
    }

    /// # Safety
    ///
    /// See [`DataOperations`].
    unsafe fn buffered(vdev: NonNull<vfio_bindings::vfio_device>, session: u64, bytes: usize) {
        // SAFETY: By the function's requirement.
        T::buffered(unsafe { Self::device(vdev) }, session, bytes);
    }
}

/// The way from data files to the device that they belong to, until that is closed.
#[pin_data]
pub(crate) struct RevocableDevice {
    #[pin]
    device: Mutex<Option<OpenDevice>>,
    /// Notified when there may be more to read, and when the device is revoked.
    #[pin]
    changed: PollCondVar,
}

/// # Invariants
///
/// The device is open, and of the type that the table is for.
struct OpenDevice {
    vdev: NonNull<vfio_bindings::vfio_device>,
    /// A part of the driver's module, which is there as long as one of its devices is open.
    data: &'static DataOperations,
}

// SAFETY: A VFIO device may be used from any thread.
unsafe impl Send for OpenDevice {}

impl RevocableDevice {
    /// The revocable device of one that is being opened; [`None`] if it does not migrate by this protocol.
    ///
    /// # Safety
    ///
    /// `vdev` must be of the type that `support` is for, and stay open until [`Self::revoke`].
    pub(crate) unsafe fn new(
        vdev: NonNull<vfio_bindings::vfio_device>,
        support: Support,
    ) -> Result<Option<Arc<Self>>> {
        let Some(data) = support.data else {
            return Ok(None);
        };

        // INVARIANT: By the function's requirement.
        let device = OpenDevice { vdev, data };
        Arc::pin_init(
            pin_init!(Self {
                device <- new_mutex!(Some(device)),
                changed <- new_poll_condvar!(),
            }),
            GFP_KERNEL_ACCOUNT,
        )
        .map(Some)
    }

    /// Waits until no operation on a data file uses the device; none will any more.
    pub(crate) fn revoke(&self) {
        *self.device.lock() = None;
        self.changed.notify_all();
    }

    /// There may be more to read.
    pub(crate) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Runs `f` on the device, as long as there is one.
    fn with<R>(
        &self,
        f: impl FnOnce(&DataOperations, NonNull<vfio_bindings::vfio_device>) -> Result<R>,
    ) -> Result<R> {
        let device = self.device.lock();

        match &*device {
            Some(device) => f(device.data, device.vdev),
            None => Err(ENODEV),
        }
    }
}

/// Bytes on their way between the device and the user.
struct Buffer {
    bytes: KVVec<u8>,
    /// Where those begin that the user has not read.
    start: usize,
    /// Where they end.
    end: usize,
}

/// Bytes that are transferred at once.
pub const BUFFER_SIZE: usize = 64 << 10;

/// What is behind a data file.
#[pin_data]
struct DataStream {
    revocable: Arc<RevocableDevice>,
    session: u64,
    direction: Direction,
    #[pin]
    buffer: Mutex<Buffer>,
}

/// A data file, to be given to the user.
pub struct DataFile(ARef<File>);

impl DataFile {
    /// Makes the file of `session`.
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
        // SAFETY: The file's release takes the reference that `stream` is.
        let file = unsafe { vfio_bindings::ferry_data_file(stream.cast(), flags as c_int) };
        let file = from_err_ptr(file).inspect_err(|_| {
            // SAFETY: It is from `into_foreign()` above, and there is no file that has it.
            drop(unsafe { <Arc<DataStream> as ForeignOwnable>::from_foreign(stream) });
        })?;
        // SAFETY: The file is open, the reference is ours, and it has no file descriptor yet.
        Ok(Self(unsafe {
            ARef::from_raw(NonNull::new_unchecked(file.cast()))
        }))
    }

    fn into_raw(self) -> *mut bindings::file {
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
                // What is left of a session that is over is of no use to anybody.
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
                // What the user did not get stays to be read.
                return if done == 0 { Err(error) } else { Ok(done) };
            }
            buffer.start += len;
            done += len;
            self.tell_buffered(&buffer);
            // A device that is busy enough always has more.
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
            // SAFETY: The revocable device is open, and of the table's type.
            unsafe { (data.read)(device, self.session, &mut buffer.bytes) }
        })?;
        if let Available::Bytes(bytes) = available {
            buffer.end = bytes.min(buffer.bytes.len());
        }
        Ok(available)
    }

    /// Whether there is something to read now, or nothing any more.
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

        // Without a device nobody needs to know.
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
            // A read or write tells which error it is.
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
        // Without PRECOPY_INFOv2 the flags are the user's own.
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
    // SAFETY: The private data is what `DataFile::new()` put there, and is not used again.
    drop(unsafe {
        <Arc<DataStream> as ForeignOwnable>::from_foreign((*file).private_data.cast::<c_void>())
    });
    0
}
