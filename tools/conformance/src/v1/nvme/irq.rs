// SPDX-License-Identifier: GPL-2.0

//! A controller's interrupts: an MSI-X vector for each queue, or INTx.

use std::os::fd::AsRawFd;
use std::time::Duration;

use vfio_bindings::bindings::vfio;
use vfio_client::irq::set_argument;
use vfio_client::irq::Action;
use vfio_client::irq::Data;
use vfio_client::irq::Index;
use vfio_client::v1::State;
use vfio_client::EventFd;
use vfio_drivers::nvme::admin;
use vfio_drivers::nvme::feature;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::register;
use vfio_drivers::nvme::Command;
use vfio_drivers::nvme::PAGE;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::config;
use crate::v1::device::PATIENCE;
use crate::v1::nvme::config::VECTORS;
use crate::v1::nvme::disk::create;
use crate::v1::nvme::disk::Disk;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme, Requirement::Mdev];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_msix_signals_the_queues_own_vector [Msix],
    nvme_msix_of_a_queue_without_interrupts_is_silent [Msix],
    nvme_msix_vectors_may_be_shared [Msix],
    nvme_msix_needs_no_enable_bit [Msix],
    nvme_msix_enabled_as_qemu_7_2_does_it [Intx, Msix],
    nvme_msix_enabled_as_qemu_11_does_it [Intx, Msix],
    nvme_msix_set_up_survives_a_reset [Msix],
    nvme_msix_table_is_written_while_stopped [Msix],
    nvme_msix_eventfds_may_be_exchanged [Msix],
    nvme_msix_triggered_by_the_user [Msix],
    nvme_msix_malformed_set_ups_change_nothing [Msix],
    nvme_intx_is_up_while_completions_wait [Intx],
    nvme_intx_does_not_come_again_for_what_was_taken [Intx],
    nvme_intx_is_masked_by_intms [Intx],
    nvme_intx_disable_bit_keeps_it_quiet [Intx],
    nvme_intx_gives_way_to_msix [Intx, Msix],
    nvme_irq_set_ups_while_it_works [Msix],
];

/// A command that changes nothing.
fn harmless() -> Command {
    Command::new(admin::GET_FEATURES).word(10, feature::ARBITRATION.into())
}

/// Enables a controller with MSI-X and some queue pairs, each with the vector of its number.
#[track_caller]
pub fn connected(target: &Target, pairs: u16) -> Outcome<Disk> {
    let mut disk = Disk::disabled(target, create(target, &[])?)?;
    disk.driver.connect(VECTORS)?;
    disk.driver.restart(8)?;
    for number in 1..=pairs {
        disk.driver.create_pair(8, Some(number))?;
    }
    quiet(&disk)?;
    Ok(disk)
}

/// Takes the counters of the vectors' eventfds. The interrupt of a completion follows it, and a stop waits for both.
#[track_caller]
fn quiet(disk: &Disk) -> Outcome<Vec<usize>> {
    if disk.device.migration.state()? == State::RUNNING {
        disk.device.set(State::STOP)?;
        disk.device.set(State::RUNNING)?;
    }
    let mut signalled = Vec::new();
    for vector in 0..VECTORS as usize {
        if disk.driver.event(vector).take()? > 0 {
            signalled.push(vector);
        }
    }
    Ok(signalled)
}

fn nvme_msix_signals_the_queues_own_vector(target: &Target) -> Outcome {
    let mut disk = connected(target, 16)?;
    let buffer = disk.driver.data(0);
    for queue in 0..=16u16 {
        for _ in 0..3 {
            let command = match queue {
                0 => harmless(),
                _ => disk.transfer(queue, nvm::READ, 0, PAGE, buffer),
            };
            disk.driver.submit(queue, command)?;
            let vector = usize::from(queue);
            let signals = disk.driver.event(vector).wait(PATIENCE)?;
            holds(
                signals >= 1,
                format_args!("no interrupt of vector {vector} within {PATIENCE:?}"),
            )?;
            // It comes once the completion is there.
            holds(
                disk.driver.take(queue)?.is_some(),
                format_args!("vector {vector} was signalled, but there is no completion"),
            )?;
            same("other vectors", quiet(&disk)?, vec![])?;
        }
    }
    Ok(())
}

fn nvme_msix_of_a_queue_without_interrupts_is_silent(target: &Target) -> Outcome {
    let mut disk = connected(target, 0)?;
    disk.driver.create_pair(8, None)?;
    quiet(&disk)?;
    let buffer = disk.driver.data(0);
    for _ in 0..20 {
        let command = disk.transfer(1, nvm::READ, 0, PAGE, buffer);
        disk.driver.execute(1, command)?;
    }
    // The admin queue's interrupt comes after all that these could have raised.
    disk.driver.execute(0, harmless())?;
    holds(
        quiet(&disk)?.iter().all(|vector| *vector == 0),
        "expected no vector but the admin queue's",
    )
}

fn nvme_msix_vectors_may_be_shared(target: &Target) -> Outcome {
    let mut disk = connected(target, 0)?;
    for _ in 0..3 {
        disk.driver.create_pair(8, Some(5))?;
    }
    quiet(&disk)?;
    let buffer = disk.driver.data(0);
    for queue in 1..=3 {
        let command = disk.transfer(queue, nvm::READ, 0, PAGE, buffer);
        disk.driver.submit(queue, command)?;
        let signals = disk.driver.event(5).wait(PATIENCE)?;
        holds(signals >= 1, format_args!("no interrupt of queue {queue}"))?;
        disk.driver.wait(queue)?;
    }
    same("other vectors", quiet(&disk)?, vec![])
}

/// A user of vfio-pci cannot set the bit: `VFIO_DEVICE_SET_IRQS` enables the interrupts.
fn nvme_msix_needs_no_enable_bit(target: &Target) -> Outcome {
    let mut disk = Disk::disabled(target, create(target, &[])?)?;
    disk.driver.connect(VECTORS)?;
    let space = config::space(&disk.device)?;
    let control = disk.driver.msix()? + 2;
    space.write(control, &[0, 0])?;
    disk.driver.restart(8)?;
    disk.driver.create_pair(8, Some(9))?;
    quiet(&disk)?;
    let buffer = disk.driver.data(0);
    let command = disk.transfer(1, nvm::READ, 0, PAGE, buffer);
    disk.driver.submit(1, command)?;
    let signals = disk.driver.event(9).wait(PATIENCE)?;
    holds(signals >= 1, "no interrupt without the enable bit")?;
    disk.driver.wait(1)?;

    disk.device.vfio().disable_irqs(Index::Msix)?;
    disk.driver.submit(1, command)?;
    // No eventfd is connected, so the queue is polled.
    while disk.driver.peek(1).is_none() {
        std::thread::yield_now();
    }
    same("vectors once disabled", quiet(&disk)?, vec![])?;
    // An eventfd that is connected again is signalled for the completion that waits.
    disk.driver.signal()?;
    let signals = disk.driver.event(9).wait(PATIENCE)?;
    holds(signals >= 1, "no interrupt for what completed meanwhile")
}

/// What a VMM does while its guest enables MSI-X.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The guest's write of the control word: the enable bit, with or without the function mask.
    Control { masked: bool },
    /// `VFIO_DEVICE_SET_IRQS` that disables an index, enabled or not.
    Disable(Index),
    /// Eventfds for this number of vectors, from the first on.
    Vectors(usize),
    /// No eventfd for the first vector, which enables MSI-X all the same.
    NoVector,
    /// The eventfd of one vector.
    One(usize),
}

/// Does the steps for a controller that interrupts by its pin, once for each place that a completion of
/// both queues can have among them, and expects the vectors of both at the end.
fn completions_around(target: &Target, steps: &[Step]) -> Outcome {
    let (mut disk, pin) = pinned(target)?;
    let space = config::space(&disk.device)?;
    let control = disk.driver.msix()? + 2;
    // A queue with a vector that the pin does not have.
    disk.device.vfio().disable_irqs(Index::Intx)?;
    disk.driver.connect(2)?;
    disk.driver.create_pair(8, Some(1))?;
    let events = [EventFd::new()?, EventFd::new()?];
    let vfio = disk.device.vfio().clone();
    let set = |start: usize, events: &[Option<&EventFd>]| {
        let count = events.len() as u32;
        let data = Data::EventFd(events);
        vfio.set_irqs(Index::Msix, Action::Trigger, start as u32, count, data)
    };
    for place in 0..=steps.len() {
        // As a guest's driver that is bound anew finds it, at a VMM like QEMU.
        vfio.disable_irqs(Index::Msix)?;
        space.write(control, &[0, 0])?;
        vfio.set_trigger(Index::Intx, Some(&pin))?;
        for event in &events {
            event.take()?;
        }
        for at in 0..=steps.len() {
            if at == place {
                let buffer = disk.driver.data(0);
                let read = disk.transfer(1, nvm::READ, 0, PAGE, buffer);
                for (queue, command) in [(0, harmless()), (1, read)] {
                    disk.driver.submit(queue, command)?;
                    while disk.driver.peek(queue).is_none() {
                        std::thread::yield_now();
                    }
                }
                // A read of a register returns only after the interrupts are sent.
                disk.driver.status()?;
            }
            match steps.get(at) {
                None => {}
                Some(Step::Control { masked }) => {
                    let value = 1 << 15 | u16::from(*masked) << 14;
                    space.write(control, &value.to_le_bytes())?;
                }
                Some(Step::Disable(index)) => vfio.disable_irqs(*index)?,
                Some(Step::Vectors(count)) => {
                    set(0, &events[..*count].iter().map(Some).collect::<Vec<_>>())?;
                }
                Some(Step::NoVector) => set(0, &[None])?,
                Some(Step::One(vector)) => set(*vector, &[Some(&events[*vector])])?,
            }
        }
        for (queue, event) in (0..).zip(&events) {
            holds(
                event.wait(PATIENCE)? >= 1,
                format_args!(
                    "no interrupt of vector {queue}, completion before step {place} of {steps:?}"
                ),
            )?;
            disk.driver.wait(queue)?;
        }
        pin.take()?;
    }
    disk.driver.disconnect();
    disk.expect_recovers()
}

/// `vfio_msix_enable()` and `vfio_msix_vector_do_use()` up to QEMU 8.1.
fn nvme_msix_enabled_as_qemu_7_2_does_it(target: &Target) -> Outcome {
    completions_around(
        target,
        &[
            Step::Control { masked: true },
            Step::Disable(Index::Intx),
            // For the first vector, and once more for each that is added.
            Step::Disable(Index::Msix),
            Step::Vectors(1),
            Step::Control { masked: false },
            Step::One(0),
            Step::Disable(Index::Msix),
            Step::Vectors(2),
        ],
    )
}

/// The same from QEMU 8.2 on, for a device whose MSI-X is not `VFIO_IRQ_INFO_NORESIZE`.
fn nvme_msix_enabled_as_qemu_11_does_it(target: &Target) -> Outcome {
    completions_around(
        target,
        &[
            Step::Control { masked: true },
            Step::Disable(Index::Intx),
            Step::NoVector,
            Step::Control { masked: false },
            Step::One(0),
            Step::One(1),
        ],
    )
}

fn nvme_msix_set_up_survives_a_reset(target: &Target) -> Outcome {
    let mut disk = connected(target, 1)?;
    disk.device.reset()?;
    // Only the controller is set up anew.
    disk.driver.restart(8)?;
    quiet(&disk)?;
    disk.driver.submit(0, harmless())?;
    let signals = disk.driver.event(0).wait(PATIENCE)?;
    holds(signals >= 1, "no interrupt after a reset")
}

fn nvme_msix_table_is_written_while_stopped(target: &Target) -> Outcome {
    const TABLE: u64 = 0x2000;
    let disk = connected(target, 0)?;
    let bar = disk.driver.bar();
    let entry: [u8; 16] = core::array::from_fn(|at| at as u8 + 1);
    disk.device.set(State::STOP)?;
    bar.write(TABLE + 3 * 16, &entry)?;
    // All other registers are those of a stopped device.
    bar.write(register::AQA, &[0xff; 4])?;
    let expect = |when: &str| -> Outcome {
        let mut seen = [0; 16];
        bar.read(TABLE + 3 * 16, &mut seen)?;
        same_bytes(format_args!("entry of the table, {when}"), &seen, &entry)?;
        same("AQA", bar.read_u32(register::AQA)?, 7 << 16 | 7)
    };
    expect("while stopped")?;
    disk.device.set(State::RUNNING)?;
    expect("once it runs")?;

    // A VMM sets interrupts up between the last chunk and the start: that is for the device to come.
    let stream = disk.device.save()?;
    disk.device.set(State::RUNNING)?;
    bar.write(TABLE + 3 * 16, &[0; 16])?;
    disk.device.set(State::RESUMING)?;
    disk.device.migration.feed(&stream, usize::MAX)?;
    let entry: [u8; 16] = core::array::from_fn(|at| at as u8 + 0x81);
    bar.write(TABLE + 3 * 16, &entry)?;
    disk.device.set(State::RUNNING)?;
    let mut seen = [0; 16];
    bar.read(TABLE + 3 * 16, &mut seen)?;
    same_bytes("entry of the received device", &seen, &entry)
}

fn nvme_msix_eventfds_may_be_exchanged(target: &Target) -> Outcome {
    let mut disk = connected(target, 2)?;
    let buffer = disk.driver.data(0);
    let other = EventFd::new()?;
    // Vector 2 alone goes elsewhere, as VMMs do that set up vectors one by one.
    let exchange = |disk: &Disk, event: Option<&EventFd>| {
        disk.device
            .vfio()
            .set_irqs(Index::Msix, Action::Trigger, 2, 1, Data::EventFd(&[event]))
    };
    exchange(&disk, Some(&other))?;
    let command = disk.transfer(2, nvm::READ, 0, PAGE, buffer);
    disk.driver.submit(2, command)?;
    holds(
        other.wait(PATIENCE)? >= 1,
        "no interrupt at the other eventfd",
    )?;
    disk.driver.take(2)?;
    same("the first eventfds", quiet(&disk)?, vec![])?;
    exchange(&disk, None)?;
    disk.driver.submit(2, command)?;
    while disk.driver.peek(2).is_none() {
        std::thread::yield_now();
    }
    disk.driver.take(2)?;
    // The next interrupt of another queue comes after one of these would have come.
    let command = disk.transfer(1, nvm::READ, 0, PAGE, buffer);
    disk.driver.execute(1, command)?;
    same(
        "interrupts at an eventfd that was taken away",
        other.take()?,
        0,
    )
}

fn nvme_msix_triggered_by_the_user(target: &Target) -> Outcome {
    let disk = connected(target, 0)?;
    let vfio = disk.device.vfio();
    let fire = |start, count, data| vfio.set_irqs(Index::Msix, Action::Trigger, start, count, data);
    fire(3, 2, Data::None)?;
    same("vectors", quiet(&disk)?, vec![3, 4])?;
    fire(7, 3, Data::Bool(&[1, 0, 1]))?;
    same("vectors", quiet(&disk)?, vec![7, 9])?;
    fire(0, 0, Data::None)?;
    same("vectors", quiet(&disk)?, vec![])
}

fn nvme_msix_malformed_set_ups_change_nothing(target: &Target) -> Outcome {
    let mut disk = connected(target, 1)?;
    let vfio = disk.device.vfio().clone();
    let event = EventFd::new()?;
    let fd = event.as_fd_bytes();
    let flags = vfio::VFIO_IRQ_SET_DATA_EVENTFD | vfio::VFIO_IRQ_SET_ACTION_TRIGGER;
    let index = Index::Msix as u32;
    for (what, start, count, data) in [
        ("past the last", VECTORS, 1, fd.clone()),
        ("across the end", VECTORS - 1, 2, fd.repeat(2)),
        ("more than there are", 0, VECTORS + 1, fd.repeat(18)),
        ("a sum that wraps", u32::MAX, 2, fd.repeat(2)),
        ("very many", 0, u32::MAX, fd.clone()),
        (
            "an fd that is none",
            0,
            1,
            0x7fff_fff0i32.to_ne_bytes().to_vec(),
        ),
        (
            "an fd that is no eventfd",
            0,
            1,
            0i32.to_ne_bytes().to_vec(),
        ),
        (
            "a bad fd behind a good one",
            1,
            2,
            [fd.clone(), 0x7fff_fff0i32.to_ne_bytes().to_vec()].concat(),
        ),
    ] {
        let argsz = size_of::<vfio::vfio_irq_set>() + data.len();
        let mut argument = set_argument(argsz as u32, flags, index, start, count, &data);
        let seen = vfio.set_irqs_raw(&mut argument);
        holds(
            seen.is_err(),
            format_args!("{what}: expected a refusal, seen success"),
        )?;
    }
    // All vectors signal where they did.
    let buffer = disk.driver.data(0);
    let command = disk.transfer(1, nvm::READ, 0, PAGE, buffer);
    disk.driver.execute(1, command)?;
    same("interrupts at the bad set-ups' eventfd", event.take()?, 0)
}

trait FdBytes {
    fn as_fd_bytes(&self) -> Vec<u8>;
}

impl FdBytes for EventFd {
    fn as_fd_bytes(&self) -> Vec<u8> {
        std::os::fd::AsFd::as_fd(self)
            .as_raw_fd()
            .to_ne_bytes()
            .to_vec()
    }
}

/// Enables a controller that interrupts by its pin.
#[track_caller]
fn pinned(target: &Target) -> Outcome<(Disk, EventFd)> {
    let mut disk = Disk::disabled(target, create(target, &[])?)?;
    let event = EventFd::new()?;
    disk.device.vfio().set_trigger(Index::Intx, Some(&event))?;
    disk.driver.restart(8)?;
    Ok((disk, event))
}

fn nvme_intx_is_up_while_completions_wait(target: &Target) -> Outcome {
    let (mut disk, event) = pinned(target)?;
    let space = config::space(&disk.device)?;
    for _ in 0..3 {
        disk.driver.submit(0, harmless())?;
        same("interrupts", event.wait(PATIENCE)?, 1)?;
        same(
            "interrupt bit of the status, with a completion waiting",
            space.read_u16(0x06)? & config::STATUS_INTERRUPT,
            config::STATUS_INTERRUPT,
        )?;
        // It masked itself, and comes again as long as nobody takes the completion.
        disk.device.vfio().unmask(Index::Intx)?;
        same("interrupts after unmask", event.wait(PATIENCE)?, 1)?;
        disk.driver.wait(0)?;
        // The doorbell goes through the worker, so the pin is down some time after.
        let down =
            || -> Outcome<bool> { Ok(space.read_u16(0x06)? & config::STATUS_INTERRUPT == 0) };
        let start = std::time::Instant::now();
        while !down()? && start.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        holds(
            down()?,
            "expected the pin down once the completion is taken",
        )?;
        disk.device.vfio().unmask(Index::Intx)?;
        same("interrupts after the last unmask", event.take()?, 0)?;
    }
    Ok(())
}

/// A user that unmasks right after the doorbell, as a VMM does for its guest, is faster than the worker
/// that looks at the doorbell.
fn nvme_intx_does_not_come_again_for_what_was_taken(target: &Target) -> Outcome {
    const ROUNDS: usize = 200;
    let (mut disk, event) = pinned(target)?;
    for round in 0..ROUNDS {
        disk.driver.submit(0, harmless())?;
        same(
            format_args!("interrupts of round {round}"),
            event.wait(PATIENCE)?,
            1,
        )?;
        holds(disk.driver.take(0)?.is_some(), "no completion")?;
        disk.device.vfio().unmask(Index::Intx)?;
    }
    same("interrupts after the last round", event.take()?, 0)
}

fn nvme_intx_is_masked_by_intms(target: &Target) -> Outcome {
    let (mut disk, event) = pinned(target)?;
    disk.driver.write(register::INTMS, 1)?;
    same("INTMS", disk.driver.bar().read_u32(register::INTMS)?, 1)?;
    disk.driver.submit(0, harmless())?;
    disk.driver.await_completion(0)?;
    same("interrupts while masked", event.take()?, 0)?;
    disk.driver.write(register::INTMC, 1)?;
    same("INTMC", disk.driver.bar().read_u32(register::INTMC)?, 0)?;
    same("interrupts once unmasked", event.wait(PATIENCE)?, 1)
}

fn nvme_intx_disable_bit_keeps_it_quiet(target: &Target) -> Outcome {
    let (mut disk, event) = pinned(target)?;
    let space = config::space(&disk.device)?;
    let command = space.read_u16(config::COMMAND)?;
    let disabled = command | config::COMMAND_INTX_DISABLE;
    space.write(config::COMMAND, &disabled.to_le_bytes())?;
    disk.driver.submit(0, harmless())?;
    disk.driver.await_completion(0)?;
    same("interrupts while disabled", event.take()?, 0)?;
    space.write(config::COMMAND, &command.to_le_bytes())?;
    same("interrupts once enabled", event.wait(PATIENCE)?, 1)
}

fn nvme_intx_gives_way_to_msix(target: &Target) -> Outcome {
    let (mut disk, event) = pinned(target)?;
    disk.device.vfio().disable_irqs(Index::Intx)?;
    disk.driver.connect(VECTORS)?;
    disk.driver.execute(0, harmless())?;
    same("interrupts of the pin", event.take()?, 0)?;
    // And back, as a guest's driver does that is bound anew without MSI-X.
    let control = disk.driver.msix()? + 2;
    disk.device.vfio().disable_irqs(Index::Msix)?;
    config::space(&disk.device)?.write(control, &[0, 0])?;
    disk.device.vfio().set_trigger(Index::Intx, Some(&event))?;
    disk.driver.submit(0, harmless())?;
    same("interrupts of the pin", event.wait(PATIENCE)?, 1)
}

fn nvme_irq_set_ups_while_it_works(target: &Target) -> Outcome {
    const ROUNDS: usize = 300;
    let mut disk = connected(target, 0)?;
    disk.driver.create_pair(32, Some(1))?;
    let vfio = disk.device.vfio().clone();
    let buffer = disk.driver.data(0);
    let (first, second) = (EventFd::new()?, EventFd::new()?);
    std::thread::scope(|scope| {
        let set_ups = scope.spawn(|| -> Outcome {
            for round in 0..ROUNDS {
                let event = [None, Some(&first), Some(&second)][round % 3];
                let data = Data::EventFd(&[event]);
                vfio.set_irqs(Index::Msix, Action::Trigger, 1, 1, data)?;
                if round % 50 == 49 {
                    vfio.disable_irqs(Index::Msix)?;
                }
            }
            Ok(())
        });
        let mut work = || -> Outcome {
            for i in 0..ROUNDS as u64 {
                let command = disk.transfer(1, nvm::READ, i * PAGE, PAGE, buffer);
                disk.driver.submit(1, command)?;
                while disk.driver.take(1)?.is_none() {
                    // The eventfds come and go, so nobody waits at one for long.
                    first.wait(Duration::from_millis(1))?;
                }
            }
            Ok(())
        };
        let worked = work();
        crate::v1::region::joined(set_ups).and(worked)
    })?;
    disk.expect_recovers()
}
