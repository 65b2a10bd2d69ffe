// SPDX-License-Identifier: GPL-2.0

//! Requests on a file without the host's page cache, several at once.

use super::store_error;
use device_model::{
    BackendError,
    Begun,
    MemoryError,
    Request,
    Tag, //
};
use ferry_core::driver::Waker;
use kernel::prelude::*;
use kernel_ext::file::{
    Direct,
    File,
    Transfer, //
};

/// The most requests under way. The controller has as many commands in flight over all namespaces.
const REQUESTS_MAX: usize = 64;

/// What a request does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Read,
    Write,
    Flush,
}

/// A request that is done.
pub(super) struct Finished<'a> {
    pub(super) tag: &'a Tag,
    pub(super) kind: Kind,
    pub(super) result: Result<&'a [u8]>,
}

/// The requests on a file that go past the page cache.
pub(super) struct Requests {
    direct: Direct<Waker>,
    /// What the requests that have begun are, by their numbers.
    begun: KVec<Option<(Tag, Kind)>>,
}

impl Requests {
    /// Requests of whole blocks of `block` bytes on `file`, which wake `waker`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EINVAL` if the file system or the disk cannot transfer such blocks past the cache, or what a read of
    /// one returns.
    pub(super) fn new(file: &File, block: usize, waker: Waker) -> Result<Self> {
        let mut direct = Direct::new(file, REQUESTS_MAX, waker)?;

        // Nothing else tells of every file system and every disk what they can do.
        direct.read(block as u64, block)?;
        Ok(Self {
            direct,
            begun: KVec::from_elem(None, REQUESTS_MAX, GFP_KERNEL_ACCOUNT)?,
        })
    }

    /// See [`BlockBackend::begin`](device_model::BlockBackend::begin).
    pub(super) fn begin(&mut self, tag: &Tag, request: Request<'_>) -> Result<Begun, BackendError> {
        let Some(index) = self.direct.vacant() else {
            return Ok(Begun::NoRoom);
        };
        let transferred = match request {
            Request::Read { len, .. } | Request::Write { len, .. } => len,
            Request::Flush => 0,
        };
        match self.direct.buffer(index, transferred) {
            Ok(_) => {}
            // There is more memory when a request is done.
            Err(ENOMEM) if self.begun.iter().any(Option::is_some) => return Ok(Begun::NoRoom),
            Err(error) => return Err(store_error(error)),
        }

        let (kind, begun) = match request {
            Request::Read { offset, len } => (
                Kind::Read,
                self.direct.begin(index, Transfer::Read, offset, len),
            ),
            Request::Write {
                offset,
                len,
                durable,
                source,
            } => {
                source(self.direct.buffer(index, len).map_err(store_error)?)?;
                let transfer = Transfer::Write { durable };
                (Kind::Write, self.direct.begin(index, transfer, offset, len))
            }
            Request::Flush => (Kind::Flush, self.direct.begin_flush(index)),
        };
        begun.map_err(store_error)?;
        if let Some(slot) = self.begun.get_mut(index) {
            *slot = Some((*tag, kind));
        }
        Ok(Begun::UnderWay)
    }

    /// Hands a request that is done to `take`. Returns what that returns, or [`None`] if none is.
    pub(super) fn take_done<R>(&mut self, take: impl FnOnce(Finished<'_>) -> R) -> Option<R> {
        let begun = &mut self.begun;
        self.direct.take_done(|index, result| {
            let (tag, kind) = begun.get_mut(index)?.take()?;
            Some(take(Finished {
                tag: &tag,
                kind,
                result,
            }))
        })?
    }

    /// Waits until [`Self::take_done`] has a request, and returns whether it has.
    pub(super) fn await_done(&self) -> bool {
        self.direct.await_done()
    }

    /// Waits until no request is under way, whatever happens to the process.
    pub(super) fn await_all(&self) {
        self.direct.await_all();
    }

    /// Reads at once, see [`BlockBackend::read`](device_model::BlockBackend::read).
    pub(super) fn read(
        &mut self,
        offset: u64,
        len: usize,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), MemoryError>,
    ) -> Result<(), BackendError> {
        let bytes = self.direct.read(offset, len).map_err(store_error)?;
        Ok(sink(bytes)?)
    }

    /// Writes at once, see [`BlockBackend::write`](device_model::BlockBackend::write).
    pub(super) fn write(
        &mut self,
        offset: u64,
        len: usize,
        source: &mut dyn FnMut(&mut [u8]) -> Result<(), MemoryError>,
    ) -> Result<(), BackendError> {
        source(self.direct.own_buffer(len).map_err(store_error)?)?;
        self.direct.write(offset, len).map_err(store_error)
    }
}
