// SPDX-License-Identifier: GPL-2.0

//! The engine of one open device: its state, the transitions between states, and the open session.
//!
//! The engine knows neither a region nor a file. A front end ([`v1`](crate::v1), [`v2`](crate::v2)) asks it
//! for a state, for the next chunk of a save, or to take a chunk of a resume. The caller serialises all
//! calls and passes the [`Port`] of the one device that the engine was made for.

use crate::{
    port::{
        Port,
        Sink,
        Source, //
    },
    refusal::{
        Reason,
        Refusal, //
    },
    session::{
        resume::Resume,
        save::{
            Save,
            FIRST_GENERATION, //
        },
    },
    transition::{
        self,
        Failure,
        Step,
        StepError,
        Steps,
        Transition, //
    },
};
use vfio_uapi::{
    v1::State,
    Errno, //
};

pub use crate::session::{
    save::ROOM_MIN,
    STATE_MAX, //
};

/// A save or a resume that goes on.
#[derive(Default)]
enum Session {
    #[default]
    None,
    Save(Save),
    Resume(Resume),
}

impl Session {
    /// Ends the session. The device is left with nothing of it.
    fn end<P: Port>(&mut self, port: &mut P) {
        match self {
            Self::None => {}
            Self::Save(save) => save.end(port),
            Self::Resume(resume) => resume.unstage(port),
        }
        *self = Self::None;
    }
}

/// Whether the user has the last chunk of a save, as the front end knows it when it asks for a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LastChunk {
    /// The user has it, or there was none.
    Taken,
    /// The user may have taken it or not: the save has to be right in both cases.
    Unacknowledged,
}

/// The engine of one open of a device.
///
/// # Invariants
///
/// - `session` is `Save` exactly in the saving states, and `Resume` exactly in RESUMING.
/// - `parked` is `None` outside a transition.
pub struct Engine<B: AsMut<[u8]> + AsRef<[u8]>> {
    state: State,
    session: Session,
    /// The session that a transition has ended, and puts back if a later step fails.
    parked: Session,
    /// Whether the device initiates no DMA though it may run.
    p2p: bool,
    /// The generation that the next save has.
    next_generation: u32,
    buffer: B,
}

impl<B: AsMut<[u8]> + AsRef<[u8]>> Engine<B> {
    /// Returns the engine of a device that has just been opened and runs.
    ///
    /// `buffer` takes the state of the device on its way and has at least [`Port::state_size`] bytes. A
    /// session cannot begin if it is smaller.
    ///
    /// Where the device has blocks that migrate, pre-copy notes in `buffer` which blocks a chunk has, at
    /// most 16 bytes for each 4 KiB of the chunk, and ends a chunk early if there is no room for that.
    pub fn new(buffer: B) -> Self {
        Self {
            state: State::Running,
            session: Session::None,
            parked: Session::None,
            p2p: false,
            next_generation: FIRST_GENERATION,
            buffer,
        }
    }

    /// Returns the state that the device is in.
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns whether the device initiates no DMA though it may run.
    pub fn is_p2p(&self) -> bool {
        self.p2p
    }

    /// Brings the device to the state `to`.
    ///
    /// # Errors
    ///
    /// [`Reason::InErrorState`] where either state is ERROR, or why a step fails. The device is in the
    /// state that it was in, or in ERROR.
    pub(crate) fn transition<P: Port>(
        &mut self,
        port: &mut P,
        to: State,
        last_chunk: LastChunk,
    ) -> Result<(), Refusal> {
        let from = self.state;
        let transition = Transition::new(from, to).ok_or(Reason::InErrorState)?;
        if from == to {
            return Ok(());
        }

        let mut performer = Performer {
            engine: self,
            port,
            to,
            last_chunk,
        };
        let result = match transition::run(transition, &mut performer) {
            Ok(()) => {
                self.state = to;
                Ok(())
            }
            Err(Failure::Unwound { refusal }) => Err(refusal),
            Err(Failure::Irreversible { step, refusal }) => {
                self.fail(port);
                Err(Refusal::from(Reason::Irreversible {
                    step,
                    errno: refusal.errno,
                }))
            }
            Err(Failure::Broken {
                step,
                refusal,
                undo,
                undo_refusal,
            }) => {
                self.fail(port);
                Err(Refusal::from(Reason::NotUnwound {
                    step,
                    errno: refusal.errno,
                    undo,
                    undo_errno: undo_refusal.errno,
                }))
            }
        };
        let told = match self.state {
            State::Error => State::Error,
            _ => to,
        };
        port.on_transition(from, told, result.as_ref().copied());
        result
    }

    /// Has the device initiate no DMA, or initiate DMA again.
    ///
    /// # Errors
    ///
    /// [`Reason::P2pFailed`]. The device is in P2P, or not, as before; or it is in ERROR.
    pub(crate) fn set_p2p<P: Port>(&mut self, port: &mut P, p2p: bool) -> Result<(), Refusal> {
        if self.p2p == p2p {
            return Ok(());
        }

        let Err(error) = port.set_p2p(p2p) else {
            self.p2p = p2p;
            return Ok(());
        };
        let reason = |errno| Refusal::from(Reason::P2pFailed { p2p, errno });
        Err(match error {
            StepError::Unchanged(errno) => reason(errno),
            StepError::Irreversible(errno) => {
                let refusal = reason(errno);
                let from = self.state;
                self.fail(port);
                self.p2p = false;
                if from != State::Error {
                    port.on_transition(from, State::Error, Err(&refusal));
                }
                refusal
            }
        })
    }

    /// Resets the device: any session ends, and the device runs (statement 21 of the protocol).
    ///
    /// Generations go on counting: the stream that the user has may go on with the next save.
    pub fn reset<P: Port>(&mut self, port: &mut P) {
        let from = self.state;

        self.end_sessions(port);
        self.p2p = false;
        port.reset();
        self.state = State::Running;
        if from != State::Running {
            port.on_transition(from, State::Running, Ok(()));
        }
    }

    /// Puts the next records of the save session into `sink`, as many as fit, and returns their
    /// size in bytes; zero only if nothing is pending.
    ///
    /// # Errors
    ///
    /// [`Reason::InErrorState`], [`Reason::NotSaving`] in other states, or why the device's blocks fail.
    pub(crate) fn read_chunk<P: Port, S: Sink + ?Sized>(
        &mut self,
        port: &mut P,
        sink: &mut S,
    ) -> Result<u64, Refusal> {
        self.refuse_in_error()?;

        let state = self.state;
        let Session::Save(save) = &mut self.session else {
            return Err(Reason::NotSaving { state }.into());
        };
        let size = save.next_chunk(port, sink, self.buffer.as_mut())?;
        if size > 0 {
            port.on_chunk(state, size, save.total());
        }
        Ok(size)
    }

    /// Takes the first `size` bytes of `source` for the next ones of the resume session's stream.
    ///
    /// # Errors
    ///
    /// [`Reason::InErrorState`], [`Reason::NotResuming`] in other states, or why the stream is refused.
    pub(crate) fn write_chunk<P: Port, S: Source + ?Sized>(
        &mut self,
        port: &mut P,
        source: &S,
        size: usize,
    ) -> Result<(), Refusal> {
        let state = self.state;
        let (resume, buffer) = self.resume()?;

        resume.consume(port, source, size, buffer)?;
        port.on_chunk(state, size as u64, resume.total());
        Ok(())
    }

    /// Checks that the device is in RESUMING.
    ///
    /// # Errors
    ///
    /// [`Reason::InErrorState`], or [`Reason::NotResuming`] in other states.
    pub(crate) fn check_resuming(&mut self) -> Result<(), Refusal> {
        self.resume().map(|_| ())
    }

    fn resume(&mut self) -> Result<(&mut Resume, &mut [u8]), Refusal> {
        self.refuse_in_error()?;

        let state = self.state;
        match &mut self.session {
            Session::Resume(resume) => Ok((resume, self.buffer.as_mut())),
            Session::None | Session::Save(_) => Err(Reason::NotResuming { state }.into()),
        }
    }

    /// Returns the save session.
    pub(crate) fn save(&self) -> Option<&Save> {
        match &self.session {
            Session::Save(save) => Some(save),
            Session::None | Session::Resume(_) => None,
        }
    }

    /// Returns the save session, to be changed.
    pub(crate) fn save_mut(&mut self) -> Option<&mut Save> {
        match &mut self.session {
            Session::Save(save) => Some(save),
            Session::None | Session::Resume(_) => None,
        }
    }

    /// Checks that the device is not in ERROR, where a reset is the only request that is served.
    ///
    /// # Errors
    ///
    /// [`Reason::InErrorState`].
    pub(crate) fn refuse_in_error(&self) -> Result<(), Refusal> {
        match self.state {
            State::Error => Err(Reason::InErrorState.into()),
            _ => Ok(()),
        }
    }

    /// Enters ERROR: the device is neither what it was nor what was asked for.
    fn fail<P: Port>(&mut self, port: &mut P) {
        self.state = State::Error;
        self.end_sessions(port);
    }

    fn end_sessions<P: Port>(&mut self, port: &mut P) {
        for session in [&mut self.session, &mut self.parked] {
            session.end(port);
        }
    }

    /// Counts the generation that the save session has begun, so that no other save has its number.
    /// After 2^32 - 1 generations the count stands still: a stream that has two saves of that number is
    /// refused by its reader.
    fn count_generation(&mut self) {
        if let Session::Save(save) = &self.session {
            self.next_generation = save.generation().saturating_add(1);
        }
    }
}

/// Carries out the steps of a transition on the engine and its device.
struct Performer<'a, P, B: AsMut<[u8]> + AsRef<[u8]>> {
    engine: &'a mut Engine<B>,
    port: &'a mut P,
    to: State,
    last_chunk: LastChunk,
}

impl<P: Port, B: AsMut<[u8]> + AsRef<[u8]>> Steps for Performer<'_, P, B> {
    type Refusal = Refusal;

    fn perform(&mut self, step: Step) -> Result<(), StepError<Refusal>> {
        let Self {
            engine,
            port,
            to,
            last_chunk,
        } = self;
        let failed = |error: StepError<Errno>| {
            error.map(|errno| Refusal::from(Reason::StepFailed { step, errno }))
        };

        match step {
            Step::Stop => port.stop().map_err(failed)?,
            Step::EndSave => core::mem::swap(&mut engine.session, &mut engine.parked),
            Step::FinishResume => {
                if let Session::Resume(resume) = &mut engine.session {
                    resume.finish(*port)?;
                }
                core::mem::swap(&mut engine.session, &mut engine.parked);
            }
            Step::BeginResume => {
                let resume = Resume::begin(*port, engine.buffer.as_mut())?;
                engine.session = Session::Resume(resume);
            }
            Step::BeginSave => {
                if to.is_running() {
                    port.begin_pre_copy().map_err(failed)?;
                }
                engine.session = Session::Save(Save::begin(*port, engine.next_generation)?);
            }
            Step::Capture => {
                if let Session::Save(save) = &mut engine.session {
                    // Before the state takes the place of the notes about the chunk. Should this
                    // step fail, some blocks are given twice.
                    if *last_chunk == LastChunk::Unacknowledged {
                        save.resend_unacknowledged(*port, engine.buffer.as_ref());
                    }
                    save.capture(*port, engine.buffer.as_mut())?;
                }
            }
            Step::Start => port.start().map_err(failed)?,
        }
        Ok(())
    }

    fn undo(&mut self, step: Step) -> Result<(), Refusal> {
        let Self { engine, port, .. } = self;
        let failed = |error: StepError<Errno>| {
            let errno = error.into_reason();
            Refusal::from(Reason::StepFailed { step, errno })
        };

        match step {
            Step::Stop => port.start().map_err(failed)?,
            Step::EndSave | Step::FinishResume => {
                core::mem::swap(&mut engine.session, &mut engine.parked);
            }
            Step::BeginResume | Step::BeginSave => engine.session.end(*port),
            Step::Capture => {
                if let Session::Save(save) = &mut engine.session {
                    save.release();
                }
            }
            Step::Start => port.stop().map_err(failed)?,
        }
        Ok(())
    }

    fn commit(&mut self, step: Step) {
        let Self {
            engine,
            port,
            last_chunk,
            ..
        } = self;

        match step {
            Step::EndSave | Step::FinishResume => engine.parked.end(*port),
            Step::BeginSave => engine.count_generation(),
            Step::Capture => {
                if let Session::Save(save) = &mut engine.session {
                    if *last_chunk == LastChunk::Unacknowledged {
                        save.cover_chunk(engine.next_generation);
                    }
                }
                engine.count_generation();
            }
            Step::Start => {
                if let Session::Save(save) = &mut engine.session {
                    if save.is_captured() {
                        save.restart(*port, engine.next_generation);
                    }
                }
                engine.count_generation();
            }
            Step::Stop | Step::BeginResume => {}
        }
    }
}
