// SPDX-License-Identifier: GPL-2.0

//! Protocol v2, driven by the same state machine as the v1 region.

use crate::{
    device::emulated::EmulatedDevice,
    driver::Driver,
    migration::{
        port::EnginePort,
        state::FileSession,
        window::Region, //
    },
    protocol::Protocol,
};
use ::migration::{
    request::Path,
    v2::Read,
    Observer,
    Refusal,
    Window, //
};
use kernel::prelude::*;
use kernel_ext::refusal::{
    Refuse,
    Subject, //
};
use vfio::{
    device::Device,
    migration::{
        Available,
        DataFile,
        Direction,
        MigrationOperations,
        BUFFER_SIZE, //
    },
};
use vfio_uapi::v2::{
    Flags,
    MigState,
    PrecopyInfo, //
};

/// The buffer of a data file.
struct FileWindow<'a>(&'a mut [u8]);

impl Window for FileWindow<'_> {
    fn size(&self) -> usize {
        self.0.len()
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let to = offset
            .checked_add(bytes.len())
            .and_then(|end| self.0.get_mut(offset..end));

        debug_assert!(to.is_some(), "the engine keeps within the window");
        if let Some(to) = to {
            to.copy_from_slice(bytes);
        }
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        read_slice(self.0, offset, into);
    }

    fn clear(&mut self) {
        self.0.fill(0);
    }
}

/// What a user wrote to a data file.
struct Written<'a>(&'a [u8]);

impl Window for Written<'_> {
    fn size(&self) -> usize {
        self.0.len()
    }

    fn write(&mut self, _offset: usize, _bytes: &[u8]) {
        debug_assert!(false, "a resume only reads");
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        read_slice(self.0, offset, into);
    }

    fn clear(&mut self) {
        debug_assert!(false, "a resume only reads");
    }
}

fn read_slice(bytes: &[u8], offset: usize, into: &mut [u8]) {
    let from = offset
        .checked_add(into.len())
        .and_then(|end| bytes.get(offset..end));

    debug_assert!(from.is_some(), "the engine keeps within the window");
    if let Some(from) = from {
        into.copy_from_slice(from);
    }
}

fn error(refusal: Refusal) -> Error {
    Error::from_errno(refusal.errno.to_errno())
}

impl<D: Driver> EmulatedDevice<D> {
    /// Runs `f` with the region and the file's session, if that is `session`.
    fn with_session<R>(
        &self,
        session: u64,
        f: impl FnOnce(&mut Region, &mut FileSession) -> Result<R, Refusal>,
    ) -> Result<R> {
        self.with_migration(|migration| {
            let file = migration
                .file
                .as_mut()
                .filter(|file| file.id == session)
                .ok_or(ENODEV)?;
            let region = migration.region.as_mut().ok_or(ENODEV)?;

            f(region, file).map_err(error)
        })
    }
}

/// What a request needs of the device, and what has come of it.
struct Way<'a, D: Driver> {
    device: &'a Device<EmulatedDevice<D>>,
    /// The protocol in use, the session of the data file and the number of sessions so far.
    protocol: &'a mut Option<Protocol>,
    session: &'a mut Option<FileSession>,
    sessions: &'a mut u64,
    /// The file for the session that the next arc begins.
    prepared: Option<(u64, DataFile)>,
    /// The file of the session that has begun.
    file: Option<DataFile>,
}

impl<D: Driver> Path for Way<'_, D> {
    type Error = Error;

    fn next(&mut self, from: MigState, to: MigState) -> Result<MigState> {
        self.device.next_state(from, to).inspect_err(|error| {
            self.device.refused(
                Subject::Transition,
                "migration",
                &format_args!("there is no way from {from} to {to}"),
                *error,
            );
        })
    }

    fn prepare(&mut self, from: MigState, to: MigState) -> Result {
        self.prepared = None;
        if from.begins_session(to) {
            let direction = if to.is_saving() {
                Direction::Saving
            } else {
                Direction::Resuming
            };
            *self.sessions += 1;
            let id = *self.sessions;
            self.prepared = Some((id, self.device.data_file(id, direction)?));
        }
        Ok(())
    }

    fn done(&mut self, _from: MigState, to: MigState) {
        *self.protocol = Some(Protocol::V2);
        match self.prepared.take() {
            Some((id, file)) => {
                *self.session = Some(FileSession::new(id));
                self.file = Some(file);
            }
            None if !to.is_saving() => *self.session = None,
            None => {}
        }
        self.device.notify_data();
    }

    fn failed(&mut self, _reached: MigState, refusal: Refusal) -> Error {
        // Whoever waits for data may wait for what will not come.
        self.device.notify_data();
        error(refusal)
    }

    fn gave_up(&mut self, from: MigState, reached: MigState, error: &Error) {
        self.device.refused(
            Subject::Transition,
            "migration",
            &format_args!("a change of state that began in {from} leaves the device in {reached}"),
            *error,
        );
    }
}

impl<D: Driver> MigrationOperations for EmulatedDevice<D> {
    const FLAGS: Flags = Flags::STOP_COPY.and(Flags::P2P).and(Flags::PRE_COPY);

    fn set_state(device: &Device<Self>, new: MigState) -> Result<Option<DataFile>> {
        device.with_migration(|migration| {
            migration
                .may_use(Protocol::V2)
                .map_err(|refusal| refusal.report(device))?;

            let mut way = Way {
                device,
                protocol: &mut migration.protocol,
                session: &mut migration.file,
                sessions: &mut migration.sessions,
                prepared: None,
                file: None,
            };
            let region = migration.region.as_mut().ok_or(ENODEV)?;
            region.request(
                &mut EnginePort(device),
                &mut EnginePort(device),
                &mut way,
                new,
            )?;
            Ok(way.file)
        })
    }

    fn state(device: &Device<Self>) -> MigState {
        device.with_migration(|migration| {
            migration
                .region
                .as_ref()
                .map_or(MigState::Running, |region| region.mig_state())
        })
    }

    fn data_size(device: &Device<Self>) -> Result<u64> {
        device.with_migration(|migration| {
            let file = migration.file.as_ref();
            let unread = file.map_or(0, |file| file.unread.bytes());
            let region = migration.region.as_mut().ok_or(ENODEV)?;

            Ok(region
                .stop_copy_size(&mut EnginePort(device), BUFFER_SIZE)
                .saturating_add(unread))
        })
    }

    fn read_data(device: &Device<Self>, session: u64, into: &mut [u8]) -> Result<Available> {
        device.with_session(session, |region, file| {
            let read = region.read_file(
                &mut EnginePort(device),
                &mut EnginePort(device),
                &mut FileWindow(into),
                &mut file.unread,
            )?;
            Ok(match read {
                // No more than the buffer has.
                Read::Bytes(bytes) => Available::Bytes(bytes as usize),
                Read::Later => Available::Later,
                Read::Ended => Available::Ended,
            })
        })
    }

    fn write_data(device: &Device<Self>, session: u64, bytes: &[u8]) -> Result {
        device.with_session(session, |region, _| {
            region.write_file(
                &mut EnginePort(device),
                &mut EnginePort(device),
                &Written(bytes),
                bytes.len(),
            )
        })
    }

    fn is_readable(device: &Device<Self>, session: u64) -> Result<bool> {
        device.with_session(session, |region, file| {
            Ok(file.unread.bytes() > 0 || region.has_data(&mut EnginePort(device), BUFFER_SIZE))
        })
    }

    fn is_writable(device: &Device<Self>, session: u64) -> Result<bool> {
        device.with_session(session, |_, _| Ok(true))
    }

    fn precopy_info(device: &Device<Self>, session: u64, may_reinit: bool) -> Result<PrecopyInfo> {
        device.with_migration(|migration| {
            let region = migration.region.as_mut().ok_or(ENODEV)?;
            // The state comes first: outside of pre-copy the answer is the same for every file.
            region.check_pre_copy().map_err(error)?;
            let file = migration
                .file
                .as_mut()
                .filter(|file| file.id == session)
                .ok_or(ENODEV)?;
            let info = region
                .precopy_info(
                    &mut EnginePort(device),
                    BUFFER_SIZE,
                    &mut file.unread,
                    may_reinit,
                )
                .map_err(error)?;
            let pending = info.initial_bytes.saturating_add(info.dirty_bytes);
            EnginePort(device).pending(region.state(), pending);
            Ok(info)
        })
    }

    fn buffered(device: &Device<Self>, session: u64, bytes: usize) {
        let told = device.with_session(session, |_, file| {
            file.unread.keep(bytes as u64);
            Ok(())
        });

        // A session that is over has no size.
        let _ = told;
    }
}
