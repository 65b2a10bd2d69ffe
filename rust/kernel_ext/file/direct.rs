// SPDX-License-Identifier: GPL-2.0

//! Requests on a file that go past its page cache, several at once.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h), `struct kiocb`

use super::File;
use core::{
    ffi::c_void,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// Is told of requests that are done.
pub trait Notify: Send + Sync + 'static {
    /// A request is done. Called in any context, with interrupts disabled: must not sleep.
    fn notify(&self);
}

/// What the requests of a file have in common.
///
/// # Invariants
///
/// `raw` is initialised, with a file that it has a reference to, and `notify` as the context of its callback.
#[pin_data(PinnedDrop)]
struct Shared<N: Notify> {
    #[pin]
    raw: Opaque<vfio_bindings::ferry_direct>,
    notify: N,
}

// SAFETY: The C functions lock what they share.
unsafe impl<N: Notify> Send for Shared<N> {}

// SAFETY: As above.
unsafe impl<N: Notify> Sync for Shared<N> {}

impl<N: Notify> Shared<N> {
    fn new(file: &File, notify: N) -> Result<Pin<KBox<Self>>> {
        let shared = KBox::pin_init(
            pin_init!(Self {
                raw: Opaque::uninit(),
                notify,
            }),
            GFP_KERNEL_ACCOUNT,
        )?;

        // INVARIANT: The function initialises the structure, which is pinned, as the context is.
        // SAFETY: `raw` is valid for writes; the file is open.
        unsafe {
            vfio_bindings::ferry_direct_init(
                shared.raw.get(),
                file.as_ptr(),
                Some(Self::notify),
                (&raw const shared.notify).cast_mut().cast(),
            );
        }
        Ok(shared)
    }

    /// # Safety
    ///
    /// `context` must be a valid `N`.
    unsafe extern "C" fn notify(context: *mut c_void) {
        // SAFETY: By the function's requirement.
        unsafe { &*context.cast::<N>() }.notify();
    }
}

#[pinned_drop]
impl<N: Notify> PinnedDrop for Shared<N> {
    /// Waits until no request is under way. May sleep for long.
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants the structure is initialised; nobody begins a request any more.
        unsafe { vfio_bindings::ferry_direct_end(self.raw.get()) };
    }
}

/// Whether a request can be begun.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Nobody uses it.
    Free,
    /// It is under way, or done and not taken.
    Begun {
        /// Bytes that it transfers.
        len: usize,
    },
}

/// A request.
///
/// # Invariants
///
/// `raw` is a valid request, which nobody but its owner uses unless it is under way. Its buffer has `reserved` bytes.
struct Request {
    raw: NonNull<vfio_bindings::ferry_direct_request>,
    reserved: usize,
    phase: Phase,
}

// SAFETY: A request belongs to no thread.
unsafe impl Send for Request {}

impl Request {
    fn reserve(&mut self, len: usize) -> Result {
        if len > self.reserved {
            // SAFETY: By the type invariants the request is valid. It is not under way, as its phase says.
            to_result(unsafe { vfio_bindings::ferry_direct_reserve(self.raw.as_ptr(), len) })?;
            // INVARIANT: The buffer has this number of bytes at least.
            self.reserved = len;
        }
        Ok(())
    }

    /// The first `len` bytes of the buffer. The request is not under way.
    fn bytes(&mut self, len: usize) -> &mut [u8] {
        if self.reserved == 0 {
            return &mut [];
        }
        // SAFETY: By the type invariants the buffer is memory of this size, initialised when it was made, and ours
        // while the request is not under way.
        unsafe {
            let buffer = vfio_bindings::ferry_direct_buffer(self.raw.as_ptr());
            core::slice::from_raw_parts_mut(buffer.cast::<u8>(), len.min(self.reserved))
        }
    }

    /// The result of a request that is done and was to transfer `len` bytes.
    fn result(&self, len: usize) -> Result {
        // SAFETY: By the type invariants the request is valid; it is done.
        let result: isize = unsafe { vfio_bindings::ferry_direct_result(self.raw.as_ptr()) };
        match usize::try_from(result) {
            Ok(transferred) if transferred == len => Ok(()),
            // The file was cut short.
            Ok(_) => Err(EIO),
            // An error code fits.
            Err(_) => Err(Error::from_errno(result as i32)),
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the request is valid; `Direct` has waited until it is not under way.
        unsafe { vfio_bindings::ferry_direct_free(self.raw.as_ptr()) };
    }
}

/// The direction and the place of a transfer.
#[derive(Clone, Copy)]
pub enum Transfer {
    /// Bytes are read.
    Read,
    /// Bytes are written. If durable, the disk has them when the request is done.
    Write {
        /// Whether the bytes survive a loss of power when the request is done.
        durable: bool,
    },
}

/// The requests on a file that go past its page cache, named by numbers from 0 on. One more is for those that are waited
/// for.
pub struct Direct<N: Notify> {
    /// Dropped first: waits until nothing is under way.
    shared: Pin<KBox<Shared<N>>>,
    requests: KVec<Request>,
    /// The request that is waited for.
    own: Request,
}

impl<N: Notify> Direct<N> {
    /// `count` requests on `file`, which was opened with [`Access::Direct`](super::Access::Direct).
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(file: &File, count: usize, notify: N) -> Result<Self> {
        let shared = Shared::new(file, notify)?;
        let request = || {
            // SAFETY: By its type invariants `raw` is initialised.
            let raw = unsafe { vfio_bindings::ferry_direct_alloc(shared.raw.get()) };
            // INVARIANT: The request is new, and has no buffer.
            Ok::<_, Error>(Request {
                raw: NonNull::new(raw).ok_or(ENOMEM)?,
                reserved: 0,
                phase: Phase::Free,
            })
        };

        let mut requests = KVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..count {
            requests.push(request()?, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Self {
            own: request()?,
            requests,
            shared,
        })
    }

    /// Returns a request that can be begun, if there is one.
    pub fn vacant(&self) -> Option<usize> {
        self.requests
            .iter()
            .position(|request| request.phase == Phase::Free)
    }

    fn free(&mut self, index: usize) -> Result<&mut Request> {
        self.requests
            .get_mut(index)
            .filter(|request| request.phase == Phase::Free)
            .ok_or(EBUSY)
    }

    /// Returns `len` bytes for request `index`, which a write writes. May sleep for memory.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the request has begun, `ENOMEM`.
    pub fn buffer(&mut self, index: usize, len: usize) -> Result<&mut [u8]> {
        let request = self.free(index)?;

        request.reserve(len)?;
        Ok(request.bytes(len))
    }

    /// Begins to transfer `len` bytes at `offset` by request `index`. May sleep, though not for the disk as a rule. An
    /// error of the file is the request's result.
    ///
    /// # Errors
    ///
    /// As for [`Self::buffer`], or `EINVAL` if no file has the offset.
    pub fn begin(&mut self, index: usize, transfer: Transfer, offset: u64, len: usize) -> Result {
        let offset = i64::try_from(offset).map_err(|_| EINVAL)?;
        let request = self.free(index)?;

        request.reserve(len)?;
        request.phase = Phase::Begun { len };
        submit(request, transfer, offset, len, false);
        Ok(())
    }

    /// Begins to have the disk keep what was written by requests that are done, by request `index`.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the request has begun.
    pub fn begin_flush(&mut self, index: usize) -> Result {
        let request = self.free(index)?;

        request.phase = Phase::Begun { len: 0 };
        // SAFETY: By the type invariants the request is valid; it was not under way.
        unsafe { vfio_bindings::ferry_direct_flush(request.raw.as_ptr()) };
        Ok(())
    }

    /// Hands a request that is done to `take`, with the bytes that it transferred or its error. Returns what that
    /// returns, or [`None`] if no request is.
    pub fn take_done<R>(&mut self, take: impl FnOnce(usize, Result<&[u8]>) -> R) -> Option<R> {
        // SAFETY: By its type invariants `raw` is initialised.
        let done = unsafe { vfio_bindings::ferry_direct_take(self.shared.raw.get()) };
        let mut requests = self.requests.iter_mut().enumerate();
        let (index, request) = requests.find(|(_, request)| request.raw.as_ptr() == done)?;
        let Phase::Begun { len } = request.phase else {
            return None;
        };

        let result = request.result(len);
        let taken = take(index, result.map(|()| &*request.bytes(len)));
        request.phase = Phase::Free;
        Some(taken)
    }

    /// Waits until [`Self::take_done`] has a request, and returns whether it has: it has none if none was under way, or
    /// if the current process is killed.
    pub fn await_done(&self) -> bool {
        // SAFETY: By its type invariants `raw` is initialised.
        unsafe { vfio_bindings::ferry_direct_await(self.shared.raw.get()) }
    }

    /// Waits until no request is under way, whatever happens to the process. May sleep for long.
    pub fn await_all(&self) {
        // SAFETY: By its type invariants `raw` is initialised.
        unsafe { vfio_bindings::ferry_direct_await_all(self.shared.raw.get()) };
    }

    /// Reads `len` bytes at `offset`, and waits for the disk.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; what the file system returns; `EINTR` if the current process is killed.
    pub fn read(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        self.execute(Transfer::Read, offset, len)?;
        Ok(self.own.bytes(len))
    }

    /// Returns `len` bytes for the next [`Self::write`] to write. May wait for the disk.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINTR` if the current process is killed.
    pub fn own_buffer(&mut self, len: usize) -> Result<&mut [u8]> {
        // One that was given up before may still be under way.
        wait_for(&mut self.own, true)?;
        self.own.reserve(len)?;
        Ok(self.own.bytes(len))
    }

    /// Writes the first `len` bytes of [`Self::own_buffer`] at `offset`, and waits for the disk whatever happens to the
    /// process: a write that was given up could follow a later one of the same bytes.
    ///
    /// # Errors
    ///
    /// As for [`Self::own_buffer`], or what the file system returns: whether the bytes are written is not known then.
    pub fn write(&mut self, offset: u64, len: usize) -> Result {
        self.execute(Transfer::Write { durable: false }, offset, len)
    }

    fn execute(&mut self, transfer: Transfer, offset: u64, len: usize) -> Result {
        let offset = i64::try_from(offset).map_err(|_| EINVAL)?;

        self.own_buffer(len)?;
        self.own.phase = Phase::Begun { len };
        submit(&self.own, transfer, offset, len, true);
        wait_for(&mut self.own, matches!(transfer, Transfer::Read))?;
        self.own.result(len)
    }
}

/// Has the file transfer bytes, for which the request's buffer has room.
fn submit(request: &Request, transfer: Transfer, offset: i64, len: usize, waited: bool) {
    let raw = request.raw.as_ptr();
    // SAFETY: By the type invariants the request is valid, and the buffer, as it was reserved, has room. It was not under
    // way before, and its phase keeps others from using it.
    unsafe {
        match transfer {
            Transfer::Read => vfio_bindings::ferry_direct_read(raw, offset, len, waited),
            Transfer::Write { durable } => {
                vfio_bindings::ferry_direct_write(raw, offset, len, durable, waited);
            }
        }
    }
}

/// Waits until a request is not under way, or, if `killable`, until the current process is killed.
fn wait_for(request: &mut Request, killable: bool) -> Result {
    // SAFETY: By the type invariants the request is valid.
    if !unsafe { vfio_bindings::ferry_direct_wait_for(request.raw.as_ptr(), killable) } {
        return Err(EINTR);
    }
    request.phase = Phase::Free;
    Ok(())
}
