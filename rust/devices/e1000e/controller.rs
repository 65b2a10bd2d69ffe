// SPDX-License-Identifier: GPL-2.0

//! An 82574: how it is stopped, written down, reset, given a state, and started.
//!
//! # Stop
//!
//! 1. IMC masks all causes. Their bits in ICR stay.
//! 2. RCTL.EN is cleared, and the receive FIFO empties into the buffers that are posted. Packets that
//!    find no buffer, and those that arrive from now on, are lost, as with a cable that is unplugged.
//! 3. The transmitter sends what the guest has posted: heads reach tails and the FIFO empties. A
//!    transmitter that cannot send, because the guest has not enabled it, or bus mastering, or because
//!    the link is down, is not waited for. One that could and does not in time, as when its link partner
//!    pauses it, makes the stop fail; the function then goes on.
//! 4. TIDV.FPD and RDTR.FPD flush descriptors that wait to be written back.
//! 5. TCTL.EN is cleared. After a while, CTRL has GIO Master Disable set, and STATUS tells when the last
//!    request on PCIe is complete (section 3.1.3.10 of the data sheet).
//! 6. ICR is read. With all causes masked the read clears them (10.2.4.1); they are kept here and set by
//!    ICS later.
//!
//! # Apply
//!
//! CTRL.RST, unless the function is as the last reset has left it; the registers of the table, with receiver
//! and transmitter disabled; base, length, head and tail of each ring; the PHY. Heads are written between a
//! reset and the enable bits and at no other time.
//!
//! # Start
//!
//! TCTL, RCTL, CTRL, IMS, and at last ICS, with the causes that were pending and those that make the guest
//! look at rings and link. A function whose guest has not enabled bus mastering keeps GIO Master
//! Disable until it has.

mod access;
mod program;
mod reset;
mod stop;

use core::ops::DerefMut;

use device_model::hardware::{
    AccessError,
    Context,
    Failure,
    FollowDma,
    Hardware,
    Trap, //
};
use device_model::CONFIGURATION_MAX;

use crate::ctrl_reset::replace;
use crate::error::Error;
use crate::follower::{
    FollowError,
    Follower,
    Slot,
    View, //
};
use crate::phy::{
    Mdio,
    Settings, //
};
use crate::registers::{
    cause,
    ctrl,
    rctl,
    tctl,
    Register,
    QUEUES, //
};
use crate::ring::Direction;
use crate::state::{
    self,
    Identity,
    State,
    StateError,
    STATE_SIZE, //
};
use crate::statistics::Statistics;
use crate::table::{
    Order,
    Word,
    TABLE, //
};

use reset::{
    is_fresh,
    reset_function, //
};

/// Which DMA writes are followed for the dirty bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Following {
    /// None. No page is trapped, so the guest's statistics lack what the source has counted since it read them last.
    Off,
    /// Those of guests that set up a transmit ring along with the receive rings, or after a reset.
    ReceiveTrapped,
    /// Those of any guest. A write of TDT costs as much as one of RDT.
    BothTrapped,
}

/// What the guest has set that the stop has changed.
#[derive(Clone, Copy, Debug)]
struct Stopped {
    /// CTRL.GIO Master Disable.
    master_disable: u32,
    /// RCTL.EN.
    receive: u32,
    /// TCTL.EN.
    transmit: u32,
    /// IMS.
    mask: u32,
    /// ICR.
    causes: u32,
    /// TDH, at the beginning of a packet.
    heads: [u32; QUEUES],
}

/// Whether the function does DMA.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Running {
        /// CTRL.GIO Master Disable is not the guest's: it waits for bus mastering.
        held: bool,
    },
    Stopped(Stopped),
}

/// An 82574. `S` has room for the descriptors of a receive ring.
pub struct Controller<S> {
    identity: Identity,
    following: Following,
    phase: Phase,
    statistics: Statistics,
    io_address: u32,
    /// The function has been reset and not been given a state since.
    fresh: bool,
    /// The settings that the PHY had when the function was first reset.
    phy: Option<Settings>,
    follower: Follower<S>,
}

impl<S: DerefMut<Target = [Slot]>> Controller<S> {
    /// Returns the controller of a function that has yet to be [reset](Hardware::reset). With
    /// [`Following::Off`] the slots may be empty.
    pub fn new(identity: Identity, following: Following, slots: [S; QUEUES]) -> Self {
        Self {
            identity,
            following,
            phase: Phase::Running { held: false },
            statistics: Statistics::new(),
            io_address: 0,
            fresh: false,
            phy: None,
            follower: Follower::new(slots),
        }
    }

    fn stopped(&self) -> Result<Stopped, Error> {
        match self.phase {
            Phase::Stopped(stopped) => Ok(stopped),
            Phase::Running { .. } => Err(Error::Running),
        }
    }
}

impl<S: DerefMut<Target = [Slot]>> Hardware for Controller<S> {
    const TYPE: &'static str = "82574l";

    type State<'a> = State<'a>;
    type Error = Error;
    type StateError = StateError;

    fn configuration(&self, out: &mut [u8; CONFIGURATION_MAX]) -> usize {
        let bytes = self.identity.bytes();

        for (out, byte) in out.iter_mut().zip(bytes) {
            *out = byte;
        }
        bytes.len()
    }

    fn state_size(&self) -> usize {
        STATE_SIZE
    }

    fn traps(&self) -> &[Trap] {
        access::traps(self.following)
    }

    /// Registers have 32 bits. An access of 64 bits is two, the lower first; one of fewer gives a part of the
    /// register that is read, and is not a write.
    fn read(
        &mut self,
        context: &mut Context<'_>,
        bar: u32,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<(), AccessError> {
        self.check_access(bar, offset, bytes.len())?;
        if bytes.len() < 4 {
            let value = self.read_trapped(context, bar, offset & !3).to_le_bytes();
            let from = value.iter().skip((offset & 3) as usize);
            for (byte, value) in bytes.iter_mut().zip(from) {
                *byte = *value;
            }
            return Ok(());
        }
        for (part, offset) in bytes.chunks_exact_mut(4).zip([offset, offset | 4]) {
            let value = self.read_trapped(context, bar, offset);
            part.copy_from_slice(&value.to_le_bytes());
        }
        Ok(())
    }

    fn write(
        &mut self,
        context: &mut Context<'_>,
        bar: u32,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), AccessError> {
        self.check_access(bar, offset, bytes.len())?;
        for (part, offset) in bytes.chunks_exact(4).zip([offset, offset | 4]) {
            if let Some(&part) = part.first_chunk() {
                self.write_trapped(context, bar, offset, u32::from_le_bytes(part));
            }
        }
        Ok(())
    }

    fn quiesce(&mut self, context: &mut Context<'_>) -> Result<(), Failure<Error>> {
        let Phase::Running { held } = self.phase else {
            return Ok(());
        };
        let registers = &mut *context.registers;
        let control = registers.read32(Register::CTRL.0);
        if control == u32::MAX {
            return Err(Failure::Undone(Error::Gone));
        }
        let receive = registers.read32(Register::RCTL.0);
        let transmit = registers.read32(Register::TCTL.0);
        let mask = registers.read32(Register::IMS.0) & cause::ALL;

        registers.write32(Register::IMC.0, u32::MAX);
        let (causes, heads) = match stop::stop(context, control) {
            Ok(stopped) => stopped,
            Err(error) => {
                stop::go_on(context.registers, control, receive, transmit, mask);
                return Err(Failure::Undone(error));
            }
        };
        // The stop has cleared these.
        if (receive & rctl::EN) | (transmit & tctl::EN) | mask != 0 {
            self.fresh = false;
        }
        let guests = if held {
            0
        } else {
            control & ctrl::GIO_MASTER_DISABLE
        };
        self.phase = Phase::Stopped(Stopped {
            master_disable: guests,
            receive: receive & rctl::EN,
            transmit: transmit & tctl::EN,
            mask,
            causes,
            heads,
        });
        self.follower
            .look(&mut view(context), receive & rctl::EN != 0);
        Ok(())
    }

    fn resume(&mut self, context: &mut Context<'_>) -> Result<(), Failure<Error>> {
        let bus_master = context.bus_master;
        let registers = &mut *context.registers;

        match self.phase {
            Phase::Running { held } => {
                if held && bus_master {
                    replace(registers, Register::CTRL, ctrl::GIO_MASTER_DISABLE, 0);
                    self.phase = Phase::Running { held: false };
                }
            }
            Phase::Stopped(stopped) => {
                if registers.read32(Register::CTRL.0) == u32::MAX {
                    return Err(Failure::Undone(Error::Gone));
                }
                let held = !bus_master && stopped.master_disable == 0;
                let master_disable = if held {
                    ctrl::GIO_MASTER_DISABLE
                } else {
                    stopped.master_disable
                };
                // What a peer has set since the stop stays.
                replace(registers, Register::TCTL, 0, stopped.transmit);
                replace(registers, Register::RCTL, 0, stopped.receive);
                replace(
                    registers,
                    Register::CTRL,
                    ctrl::GIO_MASTER_DISABLE,
                    master_disable,
                );
                registers.write32(Register::IMS.0, stopped.mask);
                let causes = stopped.causes | (stopped.mask & cause::LOOK);
                if causes != 0 {
                    registers.write32(Register::ICS.0, causes);
                }
                self.phase = Phase::Running { held };
            }
        }
        Ok(())
    }

    fn save(&mut self, context: &mut Context<'_>, out: &mut [u8]) -> Result<usize, Error> {
        let stopped = self.stopped()?;
        let room = Error::Room { found: out.len() };
        let out = out.get_mut(..STATE_SIZE).ok_or(room)?;
        let registers = &mut *context.registers;
        if registers.read32(Register::CTRL.0) == u32::MAX {
            return Err(Error::Gone);
        }

        let extra = program::extra(registers, stopped.causes, self.io_address)?;
        self.statistics.absorb(registers);
        state::write(
            out,
            &self.identity,
            |entry, register| {
                let value = registers.read32(register.0);
                let head = (0..QUEUES)
                    .position(|queue| Direction::Transmit.head(queue) == register)
                    .and_then(|queue| stopped.heads.get(queue));
                match register {
                    Register::CTRL => (value & !ctrl::GIO_MASTER_DISABLE) | stopped.master_disable,
                    Register::RCTL => value | stopped.receive,
                    Register::TCTL => value | stopped.transmit,
                    Register::IMS => stopped.mask,
                    _ => head.copied().unwrap_or(value & entry.mask),
                }
            },
            &extra,
            &self.statistics,
        )
        .ok_or(room)?;
        // A guest may have programmed what the data sheet forbids: the destination would refuse it.
        self.parse(out).map_err(Error::State)?;
        Ok(STATE_SIZE)
    }

    fn parse<'a>(&self, state: &'a [u8]) -> Result<State<'a>, StateError> {
        State::parse(&self.identity, state)
    }

    fn apply(
        &mut self,
        context: &mut Context<'_>,
        state: &State<'_>,
    ) -> Result<(), Failure<Error>> {
        self.stopped().map_err(Failure::Undone)?;
        let registers = &mut *context.registers;
        if registers.read32(Register::CTRL.0) == u32::MAX {
            return Err(Failure::Undone(Error::Gone));
        }

        let extra = state.extra();
        // A destination has been reset when it was opened, which need not be paid for again in the downtime.
        if !(core::mem::take(&mut self.fresh) && is_fresh(registers)) {
            reset_function(registers).map_err(Failure::Broken)?;
        }
        program::program(registers, state, &extra).map_err(Failure::Broken)?;
        self.statistics.clear(registers);
        state.read_statistics(&mut self.statistics);
        self.io_address = extra.io_address;
        self.phase = Phase::Stopped(Stopped {
            master_disable: state.word(Word::<{ Register::CTRL.0 }>::AT) & ctrl::GIO_MASTER_DISABLE,
            receive: state.word(Word::<{ Register::RCTL.0 }>::AT) & rctl::EN,
            transmit: state.word(Word::<{ Register::TCTL.0 }>::AT) & tctl::EN,
            mask: state.word(Word::<{ Register::IMS.0 }>::AT),
            causes: extra.causes,
            heads: core::array::from_fn(|queue| {
                let [_, _, _, head, _] = state.ring(Direction::Transmit, queue);
                head
            }),
        });
        let enabled = state.word(Word::<{ Register::RCTL.0 }>::AT) & rctl::EN != 0;
        self.follower.restart(&mut view(context), enabled);
        Ok(())
    }

    fn reset(&mut self, context: &mut Context<'_>) -> Result<(), Error> {
        let registers = &mut *context.registers;
        if registers.read32(Register::CTRL.0) == u32::MAX {
            return Err(Error::Gone);
        }

        // Should a step fail: what the stop has kept is not the function's any more, and the next stop looks anew.
        self.fresh = false;
        self.phase = Phase::Running { held: false };
        reset_function(registers)?;
        for entry in TABLE {
            let zeros = match entry.first {
                // The card's own address is in entry 0.
                Register::RAL | Register::RAH => 1,
                _ if entry.order == Order::Cleared => 0,
                _ => continue,
            };
            for register in entry.registers().skip(zeros) {
                registers.write32(register.0, 0);
            }
        }
        {
            let mut mdio = Mdio::acquire(registers).map_err(|_| Error::Phy)?;
            match &self.phy {
                Some(settings) => mdio.set(settings).map_err(|_| Error::Phy)?,
                None => self.phy = Some(mdio.settings().map_err(|_| Error::Phy)?),
            }
            mdio.leave(0);
        }
        registers.read32(Register::ICR.0);
        self.statistics.clear(registers);
        self.io_address = 0;
        self.fresh = true;
        self.follower.restart(&mut view(context), false);
        Ok(())
    }
}

impl<S: DerefMut<Target = [Slot]>> FollowDma for Controller<S> {
    type Lost = FollowError;

    fn can_follow(&self) -> bool {
        self.following != Following::Off
    }

    fn is_following(&self) -> bool {
        self.follower.is_following()
    }

    fn follow(&mut self, context: &mut Context<'_>) -> Result<(), FollowError> {
        if self.follower.is_following() {
            return Ok(());
        }
        self.follower.start(&mut view(context))
    }

    fn unfollow(&mut self, context: &mut Context<'_>) {
        if self.follower.is_following() {
            self.follower.stop(context.pins);
        }
    }

    fn unmapped(&mut self, first: u64, count: u64) {
        if self.follower.is_following() {
            self.follower.unmapped(first, count);
        }
    }

    fn lost(&self) -> Option<&FollowError> {
        self.follower.lost()
    }
}

/// What the follower needs of a context.
fn view<'a>(context: &'a mut Context<'_>) -> View<'a> {
    View {
        registers: context.registers,
        memory: context.memory,
        pins: context.pins,
    }
}
