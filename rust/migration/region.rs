// SPDX-License-Identifier: GPL-2.0

//! The migration region: header and data section, tied to the device.
//!
//! This is `VFIO_REGION_TYPE_MIGRATION` of Linux 5.8 to 5.17 as QEMU 5.2 to 7.2 use it. The adapter
//! serialises the accesses of the header (statement 6 of the protocol) and does those of the data
//! section itself, straight on the window.

use crate::{
    device::{
        Device,
        Window, //
    },
    handshake::Handshake,
    header,
    observer::Observer,
    refusal::{
        Reason,
        Refusal, //
    },
    resume::Resume,
    save::{
        Save,
        FIRST_GENERATION, //
    },
    state::DeviceState,
    transition::{
        self,
        Failure,
        Step,
        Steps,
        Transition, //
    },
};
use vfio_uapi::v1::{
    Field,
    State, //
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
    /// Ends the session; `device` is left with nothing of it.
    fn end<D: Device>(&mut self, device: &mut D) {
        match self {
            Self::None => {}
            Self::Save(save) => save.end(device),
            Self::Resume(resume) => resume.unstage(device),
        }
        *self = Self::None;
    }
}

/// The migration region of one open of a device.
///
/// # Invariants
///
/// - `session` is `Save` exactly in the saving states, and `Resume` exactly in RESUMING.
/// - `handshake` is `Idle` exactly outside the saving states.
/// - `parked` is `None` outside a transition.
pub struct MigrationRegion<W: Window, B: AsMut<[u8]> + AsRef<[u8]>> {
    state: DeviceState,
    handshake: Handshake,
    session: Session,
    /// A session that a transition has ended and may yet have to put back.
    parked: Session,
    /// Whether the device initiates no DMA though it may run; only protocol v2 has that.
    p2p: bool,
    /// The generation that the next save has.
    next_generation: u32,
    window: W,
    buffer: B,
}

impl<W: Window, B: AsMut<[u8]> + AsRef<[u8]>> MigrationRegion<W, B> {
    /// Offset of the data section in the region, in bytes: one page, so that it can be mapped.
    /// It is constant (statement 13 of the protocol).
    pub const WINDOW_OFFSET: u64 = 4096;

    /// Returns the region of a device that has just been opened and runs.
    ///
    /// `window` is the data section, filled with zeros and of at least
    /// [`WINDOW_MIN`](crate::save::WINDOW_MIN) bytes. `buffer` takes the state of the device on its
    /// way and has at least [`Device::STATE_SIZE`] bytes. A session cannot begin if they are
    /// smaller.
    ///
    /// Where the device has storage, pre-copy notes in `buffer` which blocks a chunk has, at most 16
    /// bytes for each 4 KiB of the window, and ends a chunk early if there is no room for that; and
    /// a resume takes pieces of storage through it, for which a few blocks
    /// ([`BLOCK_SIZE`](crate::BLOCK_SIZE)) is a good size.
    pub fn new(window: W, buffer: B) -> Self {
        Self {
            state: DeviceState::INITIAL,
            handshake: Handshake::Idle,
            session: Session::None,
            parked: Session::None,
            p2p: false,
            next_generation: FIRST_GENERATION,
            window,
            buffer,
        }
    }

    /// Returns the state that the device is in.
    pub fn state(&self) -> State {
        self.state.state()
    }

    /// Returns whether the device runs.
    pub fn is_running(&self) -> bool {
        self.state().is_running()
    }

    /// Returns the size of the region in bytes, header and data section.
    pub fn size(&self) -> u64 {
        Self::WINDOW_OFFSET.saturating_add(self.window.size() as u64)
    }

    /// Returns the data section.
    pub fn window(&self) -> &W {
        &self.window
    }

    /// Returns the data section.
    pub fn window_mut(&mut self) -> &mut W {
        &mut self.window
    }

    /// The user reads `bytes.len()` bytes of the header at `offset`, which become `bytes` in the
    /// byte order of the machine.
    ///
    /// # Errors
    ///
    /// [`Reason::Access`] for anything but one field at its width; the ERROR state has no
    /// `data_offset` and `data_size`. `bytes` is as before.
    pub fn read_header<D: Device, O: Observer>(
        &mut self,
        device: &mut D,
        observer: &mut O,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<(), Refusal> {
        let state = self.state();

        header::decode(offset, bytes.len())
            .and_then(|field| self.read_field(device, observer, field, bytes))
            .inspect_err(|refusal| observer.refused(state, refusal))
    }

    /// The user writes `bytes` in the byte order of the machine to the header at `offset`. Returns
    /// when all that it asks for is done.
    ///
    /// # Errors
    ///
    /// [`Reason::Access`] for anything but one field at its width, [`Reason::ReadOnly`], why a
    /// transition cannot be done, or why a chunk is refused.
    pub fn write_header<D: Device, O: Observer>(
        &mut self,
        device: &mut D,
        observer: &mut O,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), Refusal> {
        let state = self.state();

        header::decode(offset, bytes.len())
            .and_then(|field| match field {
                Field::DeviceState => {
                    let word = u32::from_ne_bytes(value(offset, bytes)?);
                    self.write_device_state(device, observer, word)
                }
                Field::Reserved => Ok(()),
                Field::PendingBytes | Field::DataOffset => Err(Reason::ReadOnly { field }.into()),
                Field::DataSize => {
                    let size = u64::from_ne_bytes(value(offset, bytes)?);
                    self.write_data_size(device, observer, size)
                }
            })
            .inspect_err(|refusal| observer.refused(state, refusal))
    }

    /// Resets the device: any session ends, and the device runs (statement 21 of the protocol).
    ///
    /// Generations go on counting: the stream that the user has may go on with the next save.
    pub fn reset<D: Device, O: Observer>(&mut self, device: &mut D, observer: &mut O) {
        let from = self.state();

        self.end_sessions(device);
        self.p2p = false;
        device.reset();
        self.state = DeviceState::INITIAL;
        if from != State::Running {
            observer.state(from, State::Running, Ok(()));
        }
    }

    fn end_sessions<D: Device>(&mut self, device: &mut D) {
        for session in [&mut self.session, &mut self.parked] {
            session.end(device);
        }
        self.handshake = Handshake::Idle;
        self.window.clear();
    }

    fn read_field<D: Device, O: Observer>(
        &mut self,
        device: &mut D,
        observer: &mut O,
        field: Field,
        bytes: &mut [u8],
    ) -> Result<(), Refusal> {
        match field {
            Field::DeviceState => fill(bytes, &self.state.word().to_ne_bytes()),
            Field::Reserved => fill(bytes, &0u32.to_ne_bytes()),
            Field::PendingBytes => {
                let pending = self.read_pending_bytes(device);
                observer.pending(self.state(), pending);
                fill(bytes, &pending.to_ne_bytes());
            }
            Field::DataOffset => {
                let offset = self.read_data_offset(device, observer)?;
                fill(bytes, &offset.to_ne_bytes());
            }
            Field::DataSize => fill(bytes, &self.read_data_size()?.to_ne_bytes()),
        }
        Ok(())
    }

    fn read_pending_bytes<D: Device>(&mut self, device: &mut D) -> u64 {
        self.handshake.pending_was_read();

        match &self.session {
            Session::Save(save) => save.pending(device, self.window.size()),
            Session::None | Session::Resume(_) => 0,
        }
    }

    fn read_data_offset<D: Device, O: Observer>(
        &mut self,
        device: &mut D,
        observer: &mut O,
    ) -> Result<u64, Refusal> {
        self.refuse_in_error()?;

        if let Session::Save(save) = &mut self.session {
            if self.handshake.wants_chunk() {
                let size = save.next_chunk(device, &mut self.window, self.buffer.as_mut())?;
                self.handshake = Handshake::Presented { size };
                if size > 0 {
                    observer.chunk(self.state.state(), size, save.total());
                }
            }
        }

        Ok(Self::WINDOW_OFFSET)
    }

    fn read_data_size(&self) -> Result<u64, Refusal> {
        self.refuse_in_error()?;

        Ok(self.handshake.size())
    }

    fn write_data_size<D: Device, O: Observer>(
        &mut self,
        device: &mut D,
        observer: &mut O,
        size: u64,
    ) -> Result<(), Refusal> {
        self.refuse_in_error()?;

        let state = self.state();
        let Session::Resume(resume) = &mut self.session else {
            return Err(Reason::NotResuming { state }.into());
        };
        if size == 0 {
            return Ok(());
        }

        let most = self.window.size();
        let bytes = match usize::try_from(size) {
            Ok(bytes) if bytes <= most => bytes,
            _ => return Err(Reason::ChunkTooLarge { size, most }.into()),
        };
        resume.consume(device, &self.window, bytes, self.buffer.as_mut())?;
        observer.chunk(state, size, resume.total());
        Ok(())
    }

    fn write_device_state<D: Device, O: Observer>(
        &mut self,
        device: &mut D,
        observer: &mut O,
        word: u32,
    ) -> Result<(), Refusal> {
        // In the ERROR state even a request that makes no sense gets this answer.
        self.refuse_in_error()?;

        self.change(device, observer, DeviceState::from_word(word)?)
    }

    /// Brings the device to the state `wanted`.
    fn change<D: Device, O: Observer>(
        &mut self,
        device: &mut D,
        observer: &mut O,
        wanted: DeviceState,
    ) -> Result<(), Refusal> {
        let from = self.state();
        let to = wanted.state();
        let transition = Transition::new(from, to).ok_or(Reason::InErrorState)?;
        if from == to {
            self.state = wanted;
            return Ok(());
        }

        let mut performer = Performer {
            region: self,
            device,
        };
        let (reached, result) = match transition::run(transition, &mut performer) {
            Ok(()) => {
                self.state = wanted;
                if transition.steps().any(Step::is_of_session) {
                    self.window.clear();
                }
                (to, Ok(()))
            }
            Err(Failure::Unwound { refusal }) => (to, Err(refusal)),
            Err(Failure::Broken {
                step,
                refusal,
                undo,
                undo_refusal,
            }) => {
                self.state = self.state.with_state(State::Error);
                self.end_sessions(device);
                let refusal = Refusal::from(Reason::NotUnwound {
                    step,
                    errno: refusal.errno,
                    undo,
                    undo_errno: undo_refusal.errno,
                });
                (State::Error, Err(refusal))
            }
        };
        observer.state(from, reached, result.as_ref().copied());
        result
    }

    /// Returns whether the device initiates no DMA though it may run.
    pub(crate) fn is_p2p(&self) -> bool {
        self.p2p
    }

    /// Has the device initiate no DMA, or initiate DMA again.
    pub(crate) fn set_p2p<D: Device>(&mut self, device: &mut D, p2p: bool) {
        if self.p2p != p2p {
            device.set_p2p(p2p);
            self.p2p = p2p;
        }
    }

    /// Brings the device to the state `to`; reserved bits are as they are.
    pub(crate) fn set_state<D: Device, O: Observer>(
        &mut self,
        device: &mut D,
        observer: &mut O,
        to: State,
    ) -> Result<(), Refusal> {
        self.refuse_in_error()?;

        self.change(device, observer, self.state.with_state(to))
    }

    /// Puts the next records of the save session into `window`, as many as fit, and returns their
    /// size in bytes. They count as read.
    pub(crate) fn read_stream<D: Device, O: Observer, F: Window>(
        &mut self,
        device: &mut D,
        observer: &mut O,
        window: &mut F,
    ) -> Result<u64, Refusal> {
        self.refuse_in_error()?;

        let state = self.state();
        let Session::Save(save) = &mut self.session else {
            return Err(Reason::NotSaving { state }.into());
        };
        let size = save.next_chunk(device, window, self.buffer.as_mut())?;
        if size > 0 {
            observer.chunk(state, size, save.total());
        }
        Ok(size)
    }

    /// Takes the first `size` bytes of `window` for the next ones of the stream.
    pub(crate) fn write_stream<D: Device, O: Observer, F: Window>(
        &mut self,
        device: &mut D,
        observer: &mut O,
        window: &F,
        size: usize,
    ) -> Result<(), Refusal> {
        self.refuse_in_error()?;

        let state = self.state();
        let Session::Resume(resume) = &mut self.session else {
            return Err(Reason::NotResuming { state }.into());
        };
        resume.consume(device, window, size, self.buffer.as_mut())?;
        observer.chunk(state, size as u64, resume.total());
        Ok(())
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

    /// Counts the generation that the save session has begun, so that no other save has its number.
    /// After four milliards of them the count stands still: then a stream that has two saves is
    /// refused by its reader, which is the user's own loss.
    fn count_generation(&mut self) {
        if let Session::Save(save) = &self.session {
            self.next_generation = save.generation().saturating_add(1);
        }
    }

    fn refuse_in_error(&self) -> Result<(), Refusal> {
        match self.state() {
            State::Error => Err(Reason::InErrorState.into()),
            _ => Ok(()),
        }
    }
}

/// Carries out the steps of a transition on the region and its device.
struct Performer<'a, D, W: Window, B: AsMut<[u8]> + AsRef<[u8]>> {
    region: &'a mut MigrationRegion<W, B>,
    device: &'a mut D,
}

impl<D: Device, W: Window, B: AsMut<[u8]> + AsRef<[u8]>> Steps for Performer<'_, D, W, B> {
    fn perform(&mut self, step: Step) -> Result<(), Refusal> {
        let Self { region, device } = self;
        let failed = |errno| Refusal::from(Reason::StepFailed { step, errno });

        match step {
            Step::Stop => device.stop().map_err(failed)?,
            Step::EndSave => core::mem::swap(&mut region.session, &mut region.parked),
            Step::FinishResume => {
                if let Session::Resume(resume) = &mut region.session {
                    resume.finish(*device)?;
                }
                core::mem::swap(&mut region.session, &mut region.parked);
            }
            Step::BeginResume => {
                region.session = Session::Resume(Resume::begin(*device, region.buffer.as_mut())?);
            }
            Step::BeginSave => {
                region.session = Session::Save(Save::begin(
                    *device,
                    &region.window,
                    region.next_generation,
                )?);
            }
            Step::Capture => {
                if let Session::Save(save) = &mut region.session {
                    // Before the state takes the place of the notes about the chunk. Should this
                    // step fail, some blocks are given twice.
                    if region.handshake.size() > 0 {
                        save.resend_unacknowledged(*device, region.buffer.as_ref());
                    }
                    save.capture(*device, region.buffer.as_mut())?;
                }
            }
            Step::Start => device.start().map_err(failed)?,
        }
        Ok(())
    }

    fn undo(&mut self, step: Step) -> Result<(), Refusal> {
        let Self { region, device } = self;
        let failed = |errno| Refusal::from(Reason::StepFailed { step, errno });

        match step {
            Step::Stop => device.start().map_err(failed)?,
            Step::EndSave | Step::FinishResume => {
                core::mem::swap(&mut region.session, &mut region.parked);
            }
            Step::BeginResume | Step::BeginSave => region.session.end(*device),
            Step::Capture => {
                if let Session::Save(save) = &mut region.session {
                    save.release();
                }
            }
            Step::Start => device.stop().map_err(failed)?,
        }
        Ok(())
    }

    fn commit(&mut self, step: Step) {
        let Self { region, device } = self;

        match step {
            Step::EndSave | Step::FinishResume => {
                region.parked.end(*device);
                region.handshake = Handshake::Idle;
            }
            Step::BeginSave => {
                region.count_generation();
                region.handshake = Handshake::Prepared;
            }
            Step::Capture => {
                if let Session::Save(save) = &mut region.session {
                    if region.handshake.size() > 0 {
                        save.cover_chunk(region.next_generation);
                    }
                }
                region.count_generation();
                region.handshake = Handshake::Prepared;
            }
            Step::Start => {
                if let Session::Save(save) = &mut region.session {
                    if save.is_captured() {
                        save.restart(*device, region.next_generation);
                        region.handshake = Handshake::Prepared;
                    }
                }
                region.count_generation();
            }
            Step::Stop | Step::BeginResume => {}
        }
    }
}

/// Makes `bytes` the `value` of a field, which `header::decode` has found to be as wide.
fn fill(bytes: &mut [u8], value: &[u8]) {
    for (byte, value) in bytes.iter_mut().zip(value) {
        *byte = *value;
    }
}

/// Returns the value in `bytes`, which `header::decode` has found to be as wide.
fn value<const WIDTH: usize>(offset: u64, bytes: &[u8]) -> Result<[u8; WIDTH], Refusal> {
    let len = bytes.len();
    bytes
        .try_into()
        .map_err(|_| Reason::Access { offset, len }.into())
}
