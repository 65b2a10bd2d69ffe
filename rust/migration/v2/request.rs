// SPDX-License-Identifier: GPL-2.0

//! A user's request for a state of protocol v2, arc by arc.
//!
//! The kernel's state machine takes a request apart into arcs, and an arc may fail. A request that fails half
//! way must not leave the device in a state that the user did not ask for and in which it does not work: a
//! disk that initiates no DMA looks like one that has hung. So the device goes back to the state in which the
//! request began. That is possible as long as no session has begun or ended on the way: the part of a state
//! that was moved cannot be taken back. A device that ran and lost its session on the way runs again.

use super::fsm::{
    arc,
    state, //
};
use crate::{
    engine::Engine,
    port::Port,
    refusal::Refusal, //
};
use vfio_uapi::v2::MigState;

/// What a request needs of the kernel: the way from state to state, and the data files.
pub trait Path {
    /// Why a request fails.
    type Error;

    /// Returns the state after `from` on the way to `to`.
    ///
    /// # Errors
    ///
    /// The kernel knows no way.
    fn next(&mut self, from: MigState, to: MigState) -> Result<MigState, Self::Error>;

    /// Prepares the arc from `from` to `to`: all that may fail on the side of the kernel.
    ///
    /// # Errors
    ///
    /// Why the arc cannot be done.
    fn prepare(&mut self, from: MigState, to: MigState) -> Result<(), Self::Error>;

    /// The arc from `from` to `to` has been done.
    fn done(&mut self, from: MigState, to: MigState);

    /// The arc that was prepared has failed, and the device is in the state `reached`.
    fn failed(&mut self, reached: MigState, refusal: Refusal) -> Self::Error;

    /// The request has failed because of `error` after some of its arcs had been done. It began in the
    /// state `from`, and `reached` is the state in which the device is now.
    fn gave_up(&mut self, from: MigState, reached: MigState, error: &Self::Error);
}

/// The progress of a request.
#[derive(Clone, Copy)]
struct Progress {
    /// The state in which it began.
    from: MigState,
    /// Whether an arc has been done.
    moved: bool,
    /// Whether a session has begun or ended.
    session: bool,
}

impl Progress {
    const fn new(from: MigState) -> Self {
        Self {
            from,
            moved: false,
            session: false,
        }
    }

    fn done(&mut self, from: MigState, to: MigState) {
        self.moved = true;
        self.session |= from.begins_session(to) || from.ends_session(to);
    }

    /// Returns the state that the device goes back to from `reached`.
    const fn home(self, reached: MigState) -> Option<MigState> {
        match (self.from, reached) {
            (_, MigState::Error) => None,
            (from, _) if !self.session => Some(from),
            (MigState::Running | MigState::PreCopy, reached) if !reached.is_saving() => {
                Some(MigState::Running)
            }
            _ => None,
        }
    }
}

/// Brings the device to the state `to`, by the arcs that `path` knows.
///
/// # Errors
///
/// Why the device does not reach `to`. The device is in the state in which the request began, or, if it cannot
/// go back, in the state that [`Path::gave_up`] is told.
pub fn request<P: Port, B: AsMut<[u8]> + AsRef<[u8]>, W: Path>(
    engine: &mut Engine<B>,
    port: &mut P,
    path: &mut W,
    to: MigState,
) -> Result<(), W::Error> {
    let mut progress = Progress::new(state(engine));

    walk(engine, port, path, to, &mut progress).inspect_err(|error| {
        if !progress.moved {
            return;
        }
        if let Some(home) = progress.home(state(engine)) {
            // If that fails, too, the device stays where it is.
            let _ = walk(engine, port, path, home, &mut progress);
        }
        path.gave_up(progress.from, state(engine), error);
    })
}

fn walk<P: Port, B: AsMut<[u8]> + AsRef<[u8]>, W: Path>(
    engine: &mut Engine<B>,
    port: &mut P,
    path: &mut W,
    to: MigState,
    progress: &mut Progress,
) -> Result<(), W::Error> {
    loop {
        let from = state(engine);
        if from == to {
            return Ok(());
        }
        let next = path.next(from, to)?;
        path.prepare(from, next)?;
        arc(engine, port, next).map_err(|refusal| path.failed(state(engine), refusal))?;
        progress.done(from, next);
        path.done(from, next);
    }
}
