// SPDX-License-Identifier: GPL-2.0

//! Protocol v2: state requests and data files, which drive the engine.

use crate::{
    device::emulated::EmulatedDevice,
    driver::Driver,
    migration::{
        port::EnginePort,
        report::error,
        state::{
            Engine,
            FileSession, //
        },
    },
    protocol::Protocol,
};
use ::migration::{
    v2::{
        file::{
            check_pre_copy,
            data_size,
            File,
            Read, //
        },
        fsm,
        request::{
            request,
            Path, //
        }, //
    },
    Refusal, //
};
use kernel::prelude::*;
use kernel_ext::refusal::{
    Refuse,
    Subject, //
};
use vfio::{
    migration::{
        Available,
        DataFile,
        Direction,
        MigrationOperations,
        BUFFER_SIZE, //
    },
    Device, //
};
use vfio_uapi::v2::{
    Flags,
    MigState,
    PrecopyInfo, //
};

/// Returns the file of the session `id`.
///
/// # Errors
///
/// `ENODEV` if that session is over.
fn file_of(session: &mut Option<FileSession>, id: u64) -> Result<&mut File> {
    session
        .as_mut()
        .filter(|session| session.id == id)
        .map(|session| &mut session.file)
        .ok_or(ENODEV)
}

impl<D: Driver> EmulatedDevice<D> {
    /// Runs `f` with the engine and the file of the session `id`, under the state mutex.
    ///
    /// # Errors
    ///
    /// `ENODEV` if that session is over, or what `f` returns.
    fn with_session<R>(
        device: &Device<Self>,
        id: u64,
        f: impl FnOnce(&mut Engine, &mut EnginePort<'_, D>, &mut File) -> Result<R, Refusal>,
    ) -> Result<R> {
        device.with_migration(|migration| {
            let file = file_of(&mut migration.session, id)?;
            let engine = migration.engine.as_mut().ok_or(ENODEV)?;

            f(engine, &mut EnginePort(device), file).map_err(|refusal| error(&refusal))
        })
    }
}

/// The kernel's side of one request: the state machine, and the data file of the session that begins.
struct Request<'a, D: Driver> {
    device: &'a Device<EmulatedDevice<D>>,
    /// See [`Migration`](crate::migration::state::Migration).
    protocol: &'a mut Option<Protocol>,
    session: &'a mut Option<FileSession>,
    sessions: &'a mut u64,
    /// The file for the session that the next arc begins.
    prepared: Option<(u64, DataFile)>,
    /// The file of the session that has begun.
    file: Option<DataFile>,
}

impl<D: Driver> Path for Request<'_, D> {
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
        // A user that polls the file may wait for data that will not come.
        self.device.notify_data();
        error(&refusal)
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

            let mut path = Request {
                device,
                protocol: &mut migration.protocol,
                session: &mut migration.session,
                sessions: &mut migration.sessions,
                prepared: None,
                file: None,
            };
            let engine = migration.engine.as_mut().ok_or(ENODEV)?;
            request(engine, &mut EnginePort(device), &mut path, new)?;
            Ok(path.file)
        })
    }

    fn state(data: &Self) -> MigState {
        data.with_migration(|migration| {
            migration
                .engine
                .as_ref()
                .map_or(MigState::Running, fsm::state)
        })
    }

    fn data_size(device: &Device<Self>) -> Result<u64> {
        device.with_migration(|migration| {
            let session = migration.session.as_ref();
            let unread = session.map_or(0, |session| session.file.unread());
            let engine = migration.engine.as_ref().ok_or(ENODEV)?;

            Ok(data_size(engine, &mut EnginePort(device), BUFFER_SIZE).saturating_add(unread))
        })
    }

    fn read_data(device: &Device<Self>, session: u64, into: &mut [u8]) -> Result<Available> {
        Self::with_session(device, session, |engine, port, file| {
            let read = file.read(engine, port, into)?;
            Ok(match read {
                // At most the size of the buffer, which is a `usize`.
                Read::Bytes(bytes) => Available::Bytes(bytes as usize),
                Read::Later => Available::Later,
                Read::Ended => Available::Ended,
            })
        })
    }

    fn write_data(device: &Device<Self>, session: u64, bytes: &[u8]) -> Result {
        Self::with_session(device, session, |engine, port, file| {
            file.write(engine, port, bytes)
        })
    }

    fn is_readable(device: &Device<Self>, session: u64) -> Result<bool> {
        Self::with_session(device, session, |engine, port, file| {
            Ok(file.is_readable(engine, port, BUFFER_SIZE))
        })
    }

    fn is_writable(device: &Device<Self>, session: u64) -> Result<bool> {
        Self::with_session(device, session, |_, _, _| Ok(true))
    }

    fn precopy_info(device: &Device<Self>, session: u64, may_reinit: bool) -> Result<PrecopyInfo> {
        device.with_migration(|migration| {
            let engine = migration.engine.as_mut().ok_or(ENODEV)?;
            // The state comes first: outside of pre-copy the answer is the same for every file.
            check_pre_copy(engine).map_err(|refusal| error(&refusal))?;
            let file = file_of(&mut migration.session, session)?;

            file.precopy_info(engine, &mut EnginePort(device), BUFFER_SIZE, may_reinit)
                .map_err(|refusal| error(&refusal))
        })
    }

    fn buffered(device: &Device<Self>, session: u64, bytes: usize) {
        let told = Self::with_session(device, session, |_, _, file| {
            file.keep(bytes as u64);
            Ok(())
        });

        // A session that is over has no estimates to keep.
        let _ = told;
    }
}
