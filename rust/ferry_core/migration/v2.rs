// SPDX-License-Identifier: GPL-2.0

//! Protocol v2: state requests and data files, which drive the engine.

use crate::{
    migration::{
        migrating::{
            with_migration,
            Change,
            Migrating, //
        },
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
            data_size as estimate,
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

/// Runs `f` with the engine and the file of the session `id`, under the state mutex.
///
/// # Errors
///
/// `ENODEV` if that session is over, `EINTR` if the current process is killed, or what `f` returns.
fn with_session<T: Migrating, R>(
    device: &Device<T>,
    id: u64,
    f: impl FnOnce(&mut Engine, &mut T::Port<'_>, &mut File) -> Result<R, Refusal>,
) -> Result<R> {
    let _prepared = T::before_use(device)?;
    with_migration(device, |migration| {
        let file = file_of(&mut migration.session, id)?;
        let engine = migration.engine.as_mut().ok_or(ENODEV)?;

        f(engine, &mut T::port(device), file).map_err(|refusal| error(&refusal))
    })
}

/// The kernel's side of one request: the state machine, and the data file of the session that begins.
struct Request<'a, T: Migrating> {
    device: &'a Device<T>,
    /// See [`Migration`](crate::migration::state::Migration).
    protocol: &'a mut Option<Protocol>,
    session: &'a mut Option<FileSession>,
    sessions: &'a mut u64,
    /// The file for the session that the next arc begins.
    prepared: Option<(u64, DataFile)>,
    /// The file of the session that has begun.
    file: Option<DataFile>,
}

impl<T: Migrating> Path for Request<'_, T> {
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

/// The optional parts of the protocol that devices have.
pub(crate) const FLAGS: Flags = Flags::STOP_COPY.and(Flags::P2P).and(Flags::PRE_COPY);

/// Returns what the state `new` asks of the device.
fn change(new: MigState) -> Change {
    if new.is_running() {
        Change::Run
    } else if new.is_p2p() {
        Change::RunWithoutDma
    } else {
        Change::Stop
    }
}

/// Serves [`set_state`](vfio::migration::MigrationOperations::set_state).
pub(crate) fn set_state<T: Migrating>(
    device: &Device<T>,
    new: MigState,
) -> Result<Option<DataFile>> {
    let _prepared = T::before_change(device, change(new))?;
    with_migration(device, |migration| {
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
        request(engine, &mut T::port(device), &mut path, new)?;
        Ok(path.file)
    })
}

/// Serves [`state`](vfio::migration::MigrationOperations::state).
pub(crate) fn state<T: Migrating>(data: &T) -> MigState {
    let migration = data.migration_state().lock();

    if data.owes_reset() {
        return MigState::Running;
    }
    migration
        .engine
        .as_ref()
        .map_or(MigState::Running, fsm::state)
}

/// Serves [`data_size`](vfio::migration::MigrationOperations::data_size).
pub(crate) fn data_size<T: Migrating>(device: &Device<T>) -> Result<u64> {
    let _prepared = T::before_use(device)?;
    with_migration(device, |migration| {
        let session = migration.session.as_ref();
        let unread = session.map_or(0, |session| session.file.unread());
        let engine = migration.engine.as_ref().ok_or(ENODEV)?;

        Ok(estimate(engine, &mut T::port(device), BUFFER_SIZE).saturating_add(unread))
    })
}

/// Serves [`read_data`](vfio::migration::MigrationOperations::read_data).
pub(crate) fn read_data<T: Migrating>(
    device: &Device<T>,
    session: u64,
    into: &mut [u8],
) -> Result<Available> {
    with_session(device, session, |engine, port, file| {
        let read = file.read(engine, port, into)?;
        Ok(match read {
            // At most the size of the buffer, which is a `usize`.
            Read::Bytes(bytes) => Available::Bytes(bytes as usize),
            Read::Later => Available::Later,
            Read::Ended => Available::Ended,
        })
    })
}

/// Serves [`write_data`](vfio::migration::MigrationOperations::write_data).
pub(crate) fn write_data<T: Migrating>(device: &Device<T>, session: u64, bytes: &[u8]) -> Result {
    with_session(device, session, |engine, port, file| {
        file.write(engine, port, bytes)
    })
}

/// Serves [`is_readable`](vfio::migration::MigrationOperations::is_readable).
pub(crate) fn is_readable<T: Migrating>(device: &Device<T>, session: u64) -> Result<bool> {
    with_session(device, session, |engine, port, file| {
        Ok(file.is_readable(engine, port, BUFFER_SIZE))
    })
}

/// Serves [`is_writable`](vfio::migration::MigrationOperations::is_writable).
pub(crate) fn is_writable<T: Migrating>(device: &Device<T>, session: u64) -> Result<bool> {
    with_session(device, session, |_, _, _| Ok(true))
}

/// Serves [`precopy_info`](vfio::migration::MigrationOperations::precopy_info).
pub(crate) fn precopy_info<T: Migrating>(
    device: &Device<T>,
    session: u64,
    may_reinit: bool,
) -> Result<PrecopyInfo> {
    let _prepared = T::before_use(device)?;
    with_migration(device, |migration| {
        let engine = migration.engine.as_mut().ok_or(ENODEV)?;
        // The state comes first: outside of pre-copy the answer is the same for every file.
        check_pre_copy(engine).map_err(|refusal| error(&refusal))?;
        let file = file_of(&mut migration.session, session)?;

        file.precopy_info(engine, &mut T::port(device), BUFFER_SIZE, may_reinit)
            .map_err(|refusal| error(&refusal))
    })
}

/// Serves [`buffered`](vfio::migration::MigrationOperations::buffered).
pub(crate) fn buffered<T: Migrating>(device: &Device<T>, session: u64, bytes: usize) {
    let told = with_session(device, session, |_, _, file| {
        file.keep(bytes as u64);
        Ok(())
    });

    // A session that is over has no estimates to keep.
    let _ = told;
}

/// Implements [`MigrationOperations`](vfio::migration::MigrationOperations) of a [`Migrating`] device by the
/// functions of this module. A generic implementation cannot be written, as the trait is another crate's.
macro_rules! migration_operations {
    (<$parameter:ident: $bound:path> $device:ty) => {
        impl<$parameter: $bound> ::vfio::migration::MigrationOperations for $device {
            const FLAGS: ::vfio_uapi::v2::Flags = $crate::migration::v2::FLAGS;

            fn set_state(
                device: &::vfio::Device<Self>,
                new: ::vfio_uapi::v2::MigState,
            ) -> ::kernel::error::Result<Option<::vfio::migration::DataFile>> {
                $crate::migration::v2::set_state(device, new)
            }

            fn state(data: &Self) -> ::vfio_uapi::v2::MigState {
                $crate::migration::v2::state(data)
            }

            fn data_size(device: &::vfio::Device<Self>) -> ::kernel::error::Result<u64> {
                $crate::migration::v2::data_size(device)
            }

            fn read_data(
                device: &::vfio::Device<Self>,
                session: u64,
                into: &mut [u8],
            ) -> ::kernel::error::Result<::vfio::migration::Available> {
                $crate::migration::v2::read_data(device, session, into)
            }

            fn write_data(
                device: &::vfio::Device<Self>,
                session: u64,
                bytes: &[u8],
            ) -> ::kernel::error::Result {
                $crate::migration::v2::write_data(device, session, bytes)
            }

            fn is_readable(
                device: &::vfio::Device<Self>,
                session: u64,
            ) -> ::kernel::error::Result<bool> {
                $crate::migration::v2::is_readable(device, session)
            }

            fn is_writable(
                device: &::vfio::Device<Self>,
                session: u64,
            ) -> ::kernel::error::Result<bool> {
                $crate::migration::v2::is_writable(device, session)
            }

            fn precopy_info(
                device: &::vfio::Device<Self>,
                session: u64,
                may_reinit: bool,
            ) -> ::kernel::error::Result<::vfio_uapi::v2::PrecopyInfo> {
                $crate::migration::v2::precopy_info(device, session, may_reinit)
            }

            fn buffered(device: &::vfio::Device<Self>, session: u64, bytes: usize) {
                $crate::migration::v2::buffered(device, session, bytes);
            }
        }
    };
}

pub(crate) use migration_operations;
