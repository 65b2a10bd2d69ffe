// SPDX-License-Identifier: GPL-2.0

//! Interrupts of each kind: those that are pending when the card is stopped come where it runs next, and none
//! comes while it is stopped.

use vfio_client::irq::Action;
use vfio_client::irq::Data;
use vfio_client::irq::Index;
use vfio_client::v1::State;
use vfio_client::EventFd;
use vfio_drivers::e1000e::cause;
use vfio_drivers::e1000e::register;
use vfio_drivers::e1000e::IVAR_RECEIVE_0;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::network::card;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::device::TestDevice;
use crate::v1::device::PATIENCE;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::E1000e, Requirement::Pair];

pub const CASES: &[Case] = cases![
    NEEDS;
    card_intx_moves [Intx],
    card_msi_moves [Msi],
    card_msix_moves [Msix],
];

/// The vector of MSI-X that the receive queue has.
const VECTOR: u32 = 3;
/// The number of vectors.
const VECTORS: usize = 5;

/// The event of a received frame, by some kind of interrupt.
struct Interrupt {
    index: Index,
    event: EventFd,
}

impl Interrupt {
    fn new(device: &TestDevice, index: Index) -> Outcome<Self> {
        let event = EventFd::new()?;
        if index == Index::Msix {
            let mut events = [None; VECTORS];
            events[VECTOR as usize] = Some(&event);
            let data = Data::EventFd(&events);
            let count = VECTORS as u32;
            device
                .vfio()
                .set_irqs(index, Action::Trigger, 0, count, data)?;
        } else {
            device.vfio().set_trigger(index, Some(&event))?;
        }
        Ok(Interrupt { index, event })
    }

    /// The cause of a received frame.
    fn cause(&self) -> u32 {
        match self.index {
            Index::Msix => cause::RXQ0,
            _ => cause::RXT0,
        }
    }

    /// Waits for the interrupt, and handles it.
    #[track_caller]
    fn handle(&self, device: &TestDevice, what: &str) -> Outcome {
        let signals = self.event.wait(PATIENCE)?;
        holds(
            signals > 0,
            format_args!("{:?}: {what}: expected an interrupt, seen none", self.index),
        )?;
        let card = card(device)?;
        card.write(register::ICR, u32::MAX)?;
        card.read(register::ICR)?;
        if self.index == Index::Intx {
            device.vfio().unmask(Index::Intx)?;
        }
        Ok(())
    }
}

/// How often a masked cause is raised.
const TRIES: usize = 5;

fn interrupts_move(target: &Target, index: Index) -> Outcome {
    let source = TestDevice::new(target)?;
    let guest = card(&source)?;
    guest.reset()?;
    let interrupt = Interrupt::new(&source, index)?;
    if index == Index::Msix {
        guest.write(register::IVAR, IVAR_RECEIVE_0 | VECTOR)?;
    }
    guest.write(register::IMS, interrupt.cause())?;
    guest.write(register::ICS, interrupt.cause())?;
    interrupt.handle(&source, "at the source")?;
    // Nothing comes while the card is stopped, and what is pending comes afterwards.
    source.set(State::STOP)?;
    interrupt.event.take()?;
    guest.write(register::ICS, interrupt.cause())?;
    same("interrupts while stopped", interrupt.event.take()?, 0)?;
    source.set(State::RUNNING)?;
    interrupt.handle(&source, "once it runs again")?;

    let stream = source.save()?;
    let device = TestDevice::new(target)?;
    device.set(State::RESUMING)?;
    device.migration.feed(&stream, usize::MAX)?;
    // A VMM restores configuration space and interrupts before it starts the device.
    let moved = card(&device)?;
    moved.decode()?;
    let interrupt = Interrupt::new(&device, index)?;
    same("interrupts while resuming", interrupt.event.take()?, 0)?;
    device.set(State::RUNNING)?;
    interrupt.handle(&device, "for a look at the ring")?;
    for _ in 0..3 {
        moved.write(register::ICS, interrupt.cause())?;
        interrupt.handle(&device, "at the destination")?;
    }
    moved.write(register::IMC, u32::MAX)?;
    // The card holds interrupts back for a while, so one that was raised before may still be on its way.
    for _ in 0..TRIES {
        interrupt.event.take()?;
        moved.write(register::ICS, interrupt.cause())?;
        if interrupt.event.take()? == 0 {
            return Ok(());
        }
    }
    Err(Stop::failed(format_args!(
        "a cause that is masked interrupted {TRIES} times"
    )))
}

fn card_intx_moves(target: &Target) -> Outcome {
    interrupts_move(target, Index::Intx)
}

fn card_msi_moves(target: &Target) -> Outcome {
    interrupts_move(target, Index::Msi)
}

fn card_msix_moves(target: &Target) -> Outcome {
    interrupts_move(target, Index::Msix)
}
