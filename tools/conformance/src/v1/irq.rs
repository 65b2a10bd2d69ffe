// SPDX-License-Identifier: GPL-2.0

//! Interrupts of the serial card: INTx is a level, MSI is an edge.

use std::os::fd::AsRawFd;

use vfio_bindings::bindings::vfio;
use vfio_client::irq::set_argument;
use vfio_client::irq::Action;
use vfio_client::irq::Data;
use vfio_client::irq::Index;
use vfio_client::v1::State;
use vfio_client::Errno;
use vfio_client::EventFd;
use vfio_drivers::uart::Register;
use vfio_drivers::uart::IER_MSI;
use vfio_drivers::uart::IER_RDI;
use vfio_drivers::uart::IER_THRI;
use vfio_drivers::uart::IIR_NONE;
use vfio_drivers::uart::IIR_RDI;
use vfio_drivers::uart::IIR_SOURCE;
use vfio_drivers::uart::IIR_THRI;
use vfio_drivers::uart::MCR_RTS;
use vfio_drivers::uart::MSR_CTS;
use vfio_drivers::uart::MSR_DCTS;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::same;
use crate::check::Outcome;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::config;
use crate::v1::device::TestDevice;
use crate::v1::device::PATIENCE;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Uart];

pub const CASES: &[Case] = cases![
    NEEDS;
    irq_info_of_every_index [Intx, Msi],
    irq_intx_signals_once_and_masks_itself [Intx],
    irq_intx_comes_again_when_unmasked_while_the_line_is_up [Intx],
    irq_intx_does_not_come_again_when_the_line_is_down [Intx],
    irq_intx_unmasked_by_eventfd [Intx],
    irq_intx_masked_by_the_user_waits [Intx],
    irq_intx_stays_masked_when_its_eventfd_is_replaced [Intx],
    irq_intx_is_signalled_at_set_up_when_already_due [Intx],
    irq_intx_disable_bit_keeps_it_quiet [Intx],
    irq_status_bit_shows_the_line,
    irq_status_bit_is_0_while_msi_is_enabled [Msi],
    irq_of_every_source [Intx],
    irq_of_every_port [Intx],
    irq_msi_signals_every_edge [Msi],
    irq_msi_takes_the_place_of_intx [Intx, Msi],
    irq_triggered_by_the_user [Intx],
    irq_not_signalled_after_its_eventfd_was_taken_away [Intx],
    irq_malformed_set_ups_change_nothing [Intx],
    irq_set_ups_registers_and_states_from_many_threads [Intx, Msi],
    irq_survives_a_migration_in_flight [Intx, Mdev],
    irq_of_msi_survives_a_migration_in_flight [Msi, Mdev],
];

#[track_caller]
fn intx(device: &TestDevice) -> Outcome<EventFd> {
    let event = EventFd::new()?;
    device.vfio().set_trigger(Index::Intx, Some(&event))?;
    Ok(event)
}

/// Has the first port assert its interrupt, because the transmitter has room.
#[track_caller]
fn raise(device: &TestDevice) -> Outcome {
    Ok(device.port(0)?.write(Register::Ier, IER_THRI)?)
}

/// Has the first port deassert its interrupt.
#[track_caller]
fn lower(device: &TestDevice) -> Outcome {
    Ok(device.port(0)?.write(Register::Ier, 0)?)
}

fn irq_info_of_every_index(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let intx = device.vfio().irq_info(Index::Intx as u32)?;
    same("INTx", intx.count, 1)?;
    same(
        "flags of INTx",
        intx.flags,
        vfio::VFIO_IRQ_INFO_EVENTFD | vfio::VFIO_IRQ_INFO_MASKABLE | vfio::VFIO_IRQ_INFO_AUTOMASKED,
    )?;
    let msi = device.vfio().irq_info(Index::Msi as u32)?;
    same("MSI vectors", msi.count, 1)?;
    same(
        "flags of MSI, NORESIZE apart",
        msi.flags & !vfio::VFIO_IRQ_INFO_NORESIZE,
        vfio::VFIO_IRQ_INFO_EVENTFD,
    )?;
    if device.vfio().info()?.irqs > Index::Msix as u32 {
        let msix = device.vfio().irq_info(Index::Msix as u32)?;
        same("MSI-X vectors", msix.count, 0)?;
    }
    Ok(())
}

fn irq_intx_signals_once_and_masks_itself(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let event = intx(&device)?;
    raise(&device)?;
    same("interrupts", event.wait(PATIENCE)?, 1)?;
    // More reasons while the line is up are no more signals.
    device.port(0)?.write(Register::Ier, IER_THRI | IER_RDI)?;
    device.port(0)?.send(b"more")?;
    lower(&device)?;
    raise(&device)?;
    same("interrupts while masked", event.take()?, 0)
}

fn irq_intx_comes_again_when_unmasked_while_the_line_is_up(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let event = intx(&device)?;
    raise(&device)?;
    for _ in 0..5 {
        same("interrupts", event.wait(PATIENCE)?, 1)?;
        device.vfio().unmask(Index::Intx)?;
    }
    same("interrupts after the last unmask", event.wait(PATIENCE)?, 1)
}

fn irq_intx_does_not_come_again_when_the_line_is_down(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let event = intx(&device)?;
    raise(&device)?;
    same("interrupts", event.wait(PATIENCE)?, 1)?;
    // The driver in the guest reads IIR, which names the source and clears it.
    let iir = device.port(0)?.read(Register::IirFcr)?;
    same("source", iir & IIR_SOURCE, IIR_THRI)?;
    device.vfio().unmask(Index::Intx)?;
    same("interrupts after unmask", event.take()?, 0)?;
    lower(&device)?;
    raise(&device)?;
    same("interrupts at the next cause", event.wait(PATIENCE)?, 1)
}

fn irq_intx_unmasked_by_eventfd(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let event = intx(&device)?;
    let unmask = EventFd::new()?;
    device.vfio().set_irqs(
        Index::Intx,
        Action::Unmask,
        0,
        1,
        Data::EventFd(&[Some(&unmask)]),
    )?;
    raise(&device)?;
    for _ in 0..5 {
        same("interrupts", event.wait(PATIENCE)?, 1)?;
        unmask.signal()?;
    }
    same("interrupts after the last unmask", event.wait(PATIENCE)?, 1)?;
    // Taken away, it does nothing any more; the ioctl still does.
    device
        .vfio()
        .set_irqs(Index::Intx, Action::Unmask, 0, 1, Data::EventFd(&[None]))?;
    unmask.signal()?;
    device.vfio().unmask(Index::Intx)?;
    same("interrupts after unmask", event.wait(PATIENCE)?, 1)?;
    same("interrupts after that", event.take()?, 0)
}

fn irq_intx_masked_by_the_user_waits(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let event = intx(&device)?;
    device.vfio().mask(Index::Intx)?;
    raise(&device)?;
    same("interrupts while masked", event.take()?, 0)?;
    device.vfio().unmask(Index::Intx)?;
    same("interrupts after unmask", event.wait(PATIENCE)?, 1)?;
    // The same with a truth value instead of no data; a false one does nothing.
    device
        .vfio()
        .set_irqs(Index::Intx, Action::Unmask, 0, 1, Data::Bool(&[0]))?;
    same("interrupts after a false unmask", event.take()?, 0)?;
    device
        .vfio()
        .set_irqs(Index::Intx, Action::Unmask, 0, 1, Data::Bool(&[1]))?;
    same("interrupts after a true unmask", event.wait(PATIENCE)?, 1)
}

fn irq_intx_stays_masked_when_its_eventfd_is_replaced(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let vfio = device.vfio();
    let first = intx(&device)?;
    vfio.mask(Index::Intx)?;
    raise(&device)?;
    let second = intx(&device)?;
    same("interrupts while masked", second.take()?, 0)?;
    vfio.unmask(Index::Intx)?;
    same("interrupts after unmask", second.wait(PATIENCE)?, 1)?;
    // Which has masked it again.
    vfio.set_trigger(Index::Intx, None)?;
    vfio.set_trigger(Index::Intx, Some(&first))?;
    same("interrupts after another interrupt", first.take()?, 0)?;
    vfio.unmask(Index::Intx)?;
    same("interrupts after unmask", first.wait(PATIENCE)?, 1)
}

fn irq_intx_is_signalled_at_set_up_when_already_due(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    raise(&device)?;
    let event = intx(&device)?;
    same("interrupts", event.wait(PATIENCE)?, 1)
}

fn irq_intx_disable_bit_keeps_it_quiet(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let event = intx(&device)?;
    let space = config::space(&device)?;
    let command = config::COMMAND_IO | config::COMMAND_INTX_DISABLE;
    space.write(config::COMMAND, &command.to_le_bytes())?;
    raise(&device)?;
    same("interrupts while disabled", event.take()?, 0)?;
    space.write(config::COMMAND, &config::COMMAND_IO.to_le_bytes())?;
    same("interrupts once enabled", event.wait(PATIENCE)?, 1)
}

fn irq_status_bit_shows_the_line(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = config::space(&device)?;
    let status = |what: &str, expected: u16| -> Outcome {
        same(
            format_args!("interrupt status {what}"),
            space.read_u16(config::COMMAND + 2)? & config::STATUS_INTERRUPT,
            expected,
        )
    };
    status("at first", 0)?;
    raise(&device)?;
    status("with the line up", config::STATUS_INTERRUPT)?;
    lower(&device)?;
    status("with the line down", 0)
}

/// In both ways in which it can be enabled: by the guest in configuration space, or by `VFIO_DEVICE_SET_IRQS`.
fn irq_status_bit_is_0_while_msi_is_enabled(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = config::space(&device)?;
    let status = |what: &str, expected: u16| -> Outcome {
        same(
            format_args!("interrupt status {what}"),
            space.read_u16(config::COMMAND + 2)? & config::STATUS_INTERRUPT,
            expected,
        )
    };
    raise(&device)?;
    status("for the line", config::STATUS_INTERRUPT)?;
    let event = EventFd::new()?;
    device.vfio().set_trigger(Index::Msi, Some(&event))?;
    same("messages", event.wait(PATIENCE)?, 1)?;
    status("with a listener", 0)?;
    device.vfio().disable_irqs(Index::Msi)?;
    status("without one", config::STATUS_INTERRUPT)?;
    config::enable_msi(&device)?;
    status("with the enable bit", 0)
}

fn irq_of_every_source(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let event = intx(&device)?;
    let port = device.byte_port(0)?;

    port.write(Register::Ier, IER_RDI)?;
    same("interrupts before a byte", event.take()?, 0)?;
    port.send(b"x")?;
    same("interrupts of a received byte", event.wait(PATIENCE)?, 1)?;
    same("source", port.read(Register::IirFcr)? & IIR_SOURCE, IIR_RDI)?;
    same("the byte", port.read(Register::Data)?, b'x')?;
    device.vfio().unmask(Index::Intx)?;
    same("interrupts after the byte was read", event.take()?, 0)?;

    port.read(Register::Msr)?;
    port.write(Register::Ier, IER_MSI)?;
    let before = port.read(Register::Msr)? & MSR_CTS;
    let other = if before == 0 { MCR_RTS } else { 0 };
    port.write(Register::Mcr, other)?;
    same("interrupts of the modem status", event.wait(PATIENCE)?, 1)?;
    same("source", port.read(Register::IirFcr)? & IIR_SOURCE, 0)?;
    same(
        "change of CTS",
        port.read(Register::Msr)? & (MSR_DCTS | MSR_CTS),
        MSR_DCTS | (before ^ MSR_CTS),
    )?;
    same(
        "IIR afterwards",
        port.read(Register::IirFcr)? & IIR_SOURCE,
        IIR_NONE,
    )
}

fn irq_of_every_port(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let event = intx(&device)?;
    for number in 0..target.ports() {
        let port = device.port(number)?;
        port.write(Register::Ier, IER_THRI)?;
        same(
            format_args!("interrupts of port {number}"),
            event.wait(PATIENCE)?,
            1,
        )?;
        port.write(Register::Ier, 0)?;
        device.vfio().unmask(Index::Intx)?;
    }
    same("interrupts at the end", event.take()?, 0)
}

fn irq_msi_signals_every_edge(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let event = EventFd::new()?;
    config::enable_msi(&device)?;
    device.vfio().set_trigger(Index::Msi, Some(&event))?;
    for _ in 0..5 {
        raise(&device)?;
        same("interrupts", event.wait(PATIENCE)?, 1)?;
        lower(&device)?;
    }
    same("interrupts at the end", event.take()?, 0)
}

fn irq_msi_takes_the_place_of_intx(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let line = intx(&device)?;
    device.vfio().disable_irqs(Index::Intx)?;
    config::enable_msi(&device)?;
    let message = EventFd::new()?;
    device.vfio().set_trigger(Index::Msi, Some(&message))?;
    raise(&device)?;
    same("messages", message.wait(PATIENCE)?, 1)?;
    same("signals of the line", line.take()?, 0)?;
    lower(&device)?;
    device.vfio().disable_irqs(Index::Msi)?;
    raise(&device)?;
    same("messages after they were disabled", message.take()?, 0)
}

fn irq_triggered_by_the_user(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let event = intx(&device)?;
    let vfio = device.vfio();
    vfio.set_irqs(Index::Intx, Action::Trigger, 0, 1, Data::None)?;
    same("interrupts after a trigger", event.wait(PATIENCE)?, 1)?;
    // That was not the device, whose own interrupt is still to come.
    raise(&device)?;
    same("interrupts of the device", event.wait(PATIENCE)?, 1)?;
    vfio.set_irqs(Index::Intx, Action::Trigger, 0, 1, Data::Bool(&[0]))?;
    same("interrupts after a false trigger", event.take()?, 0)?;
    vfio.set_irqs(Index::Intx, Action::Trigger, 0, 1, Data::Bool(&[1]))?;
    same("interrupts after a true trigger", event.wait(PATIENCE)?, 1)
}

fn irq_not_signalled_after_its_eventfd_was_taken_away(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let event = intx(&device)?;
    device.vfio().set_trigger(Index::Intx, None)?;
    raise(&device)?;
    same("interrupts without an eventfd", event.take()?, 0)?;
    lower(&device)?;
    let event = intx(&device)?;
    device.vfio().disable_irqs(Index::Intx)?;
    raise(&device)?;
    same("interrupts of a disabled index", event.take()?, 0)?;
    let event = intx(&device)?;
    same("interrupts once set up again", event.wait(PATIENCE)?, 1)
}

/// A call of `VFIO_DEVICE_SET_IRQS`: what is wrong with it, `argsz`, flags, index, start, count, data.
type SetUp<'a> = (&'a str, u32, u32, u32, u32, u32, &'a [u8]);

fn irq_malformed_set_ups_change_nothing(target: &Target) -> Outcome {
    const NONE: u32 = vfio::VFIO_IRQ_SET_DATA_NONE;
    const BOOL: u32 = vfio::VFIO_IRQ_SET_DATA_BOOL;
    const EVENTFD: u32 = vfio::VFIO_IRQ_SET_DATA_EVENTFD;
    const MASK: u32 = vfio::VFIO_IRQ_SET_ACTION_MASK;
    const UNMASK: u32 = vfio::VFIO_IRQ_SET_ACTION_UNMASK;
    const TRIGGER: u32 = vfio::VFIO_IRQ_SET_ACTION_TRIGGER;
    const SIZE: u32 = size_of::<vfio::vfio_irq_set>() as u32;

    let device = TestDevice::new(target)?;
    let event = intx(&device)?;
    let plain = std::fs::File::open("/proc/self/status").map_err(crate::check::Stop::failed)?;
    let plain = plain.as_raw_fd().to_ne_bytes();
    let closed = 100_000i32.to_ne_bytes();
    let cases: &[SetUp] = &[
        ("argsz 0", 0, NONE | UNMASK, 0, 0, 1, &[]),
        ("argsz a byte short", SIZE - 1, NONE | UNMASK, 0, 0, 1, &[]),
        ("no flags", SIZE, 0, 0, 0, 1, &[]),
        ("no action", SIZE, NONE, 0, 0, 1, &[]),
        ("no data type", SIZE, TRIGGER, 0, 0, 1, &[]),
        ("two actions", SIZE, NONE | MASK | UNMASK, 0, 0, 1, &[]),
        (
            "three actions",
            SIZE,
            NONE | MASK | UNMASK | TRIGGER,
            0,
            0,
            1,
            &[],
        ),
        (
            "two data types",
            SIZE + 4,
            BOOL | EVENTFD | TRIGGER,
            0,
            0,
            1,
            &closed,
        ),
        ("unknown flag", SIZE, NONE | UNMASK | 0x40, 0, 0, 1, &[]),
        (
            "highest flag",
            SIZE,
            NONE | UNMASK | 0x8000_0000,
            0,
            0,
            1,
            &[],
        ),
        ("index past the end", SIZE, NONE | UNMASK, 100, 0, 1, &[]),
        (
            "index of all ones",
            SIZE,
            NONE | UNMASK,
            u32::MAX,
            0,
            1,
            &[],
        ),
        ("start past the end", SIZE, NONE | UNMASK, 0, 1, 1, &[]),
        (
            "start of all ones",
            SIZE,
            NONE | UNMASK,
            0,
            u32::MAX,
            1,
            &[],
        ),
        (
            "start and count overflow",
            SIZE,
            NONE | UNMASK,
            0,
            u32::MAX - 1,
            3,
            &[],
        ),
        ("count too large", SIZE, NONE | UNMASK, 0, 0, 2, &[]),
        (
            "count of all ones",
            SIZE,
            NONE | UNMASK,
            0,
            0,
            u32::MAX,
            &[],
        ),
        ("nothing to mask", SIZE, NONE | MASK, 0, 0, 0, &[]),
        (
            "no room for a truth value",
            SIZE,
            BOOL | TRIGGER,
            0,
            0,
            1,
            &[],
        ),
        (
            "no room for an eventfd",
            SIZE + 3,
            EVENTFD | TRIGGER,
            0,
            0,
            1,
            &closed,
        ),
        (
            "closed eventfd",
            SIZE + 4,
            EVENTFD | TRIGGER,
            0,
            0,
            1,
            &closed,
        ),
        (
            "no eventfd at all",
            SIZE + 4,
            EVENTFD | TRIGGER,
            0,
            0,
            1,
            &plain,
        ),
        (
            "closed eventfd to unmask",
            SIZE + 4,
            EVENTFD | UNMASK,
            0,
            0,
            1,
            &closed,
        ),
        (
            "no eventfd to unmask",
            SIZE + 4,
            EVENTFD | UNMASK,
            0,
            0,
            1,
            &plain,
        ),
        (
            "negative eventfd",
            SIZE + 4,
            EVENTFD | TRIGGER,
            0,
            0,
            1,
            &[0xfe, 0xff, 0xff, 0xff],
        ),
        (
            "closed eventfd of MSI",
            SIZE + 4,
            EVENTFD | TRIGGER,
            1,
            0,
            1,
            &closed,
        ),
        (
            "second MSI vector",
            SIZE + 4,
            EVENTFD | TRIGGER,
            1,
            1,
            1,
            &closed,
        ),
        (
            "MSI-X vector",
            SIZE + 4,
            EVENTFD | TRIGGER,
            2,
            0,
            1,
            &closed,
        ),
        ("trigger of MSI-X", SIZE, NONE | TRIGGER, 2, 0, 1, &[]),
    ];
    for (what, argsz, flags, index, start, count, data) in cases {
        let mut argument = set_argument(*argsz, *flags, *index, *start, *count, data);
        let result = device.vfio().set_irqs_raw(&mut argument);
        holds(
            matches!(result, Err(Errno::INVAL | Errno::BADF | Errno::NOTTY)),
            format_args!("{what}: expected EINVAL, EBADF or ENOTTY, seen {result:?}"),
        )?;
    }
    same("interrupts by now", event.take()?, 0)?;
    raise(&device)?;
    same("interrupts", event.wait(PATIENCE)?, 1)?;
    device.vfio().unmask(Index::Intx)?;
    same("interrupts after unmask", event.wait(PATIENCE)?, 1)
}

fn irq_set_ups_registers_and_states_from_many_threads(target: &Target) -> Outcome {
    const ROUNDS: usize = 300;
    let device = TestDevice::new(target)?;
    let vfio = device.vfio();
    let events = [EventFd::new()?, EventFd::new()?, EventFd::new()?];
    let [line, message, unmask] = &events;
    let port = device.port(0)?;
    let space = config::space(&device)?;
    // Refusals are right, since each thread removes the set-up of another one. The kernel must not
    // complain, and no interrupt may be lost for good.
    let set_up = || {
        for _ in 0..ROUNDS {
            let _ = vfio.set_trigger(Index::Intx, Some(line));
            let fds = [Some(unmask)];
            let _ = vfio.set_irqs(Index::Intx, Action::Unmask, 0, 1, Data::EventFd(&fds));
            let _ = vfio.unmask(Index::Intx);
            let _ = unmask.signal();
            let _ = vfio.disable_irqs(Index::Intx);
            let _ = vfio.set_trigger(Index::Msi, Some(message));
            let _ = vfio.disable_irqs(Index::Msi);
        }
    };
    let registers = || {
        for i in 0..ROUNDS {
            let _ = port.write(Register::Ier, IER_THRI);
            let _ = port.read(Register::IirFcr);
            let _ = port.write(Register::Ier, 0);
            let command = if i % 2 == 0 {
                config::COMMAND_IO | config::COMMAND_INTX_DISABLE
            } else {
                config::COMMAND_IO
            };
            let _ = space.write(config::COMMAND, &command.to_le_bytes());
        }
    };
    let states = || {
        for _ in 0..ROUNDS {
            for state in [
                State::STOP,
                State::STOP_COPY,
                State::PRE_COPY,
                State::RUNNING,
            ] {
                let _ = device.migration.set_state(state);
            }
        }
    };
    let reset = || {
        for _ in 0..ROUNDS / 10 {
            let _ = vfio.reset();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(set_up);
        scope.spawn(registers);
        scope.spawn(states);
        scope.spawn(reset);
    });
    device.reset()?;
    vfio.disable_irqs(Index::Intx)?;
    vfio.disable_irqs(Index::Msi)?;
    for event in &events {
        event.take()?;
    }
    let event = intx(&device)?;
    raise(&device)?;
    same("interrupts", event.wait(PATIENCE)?, 1)?;
    vfio.unmask(Index::Intx)?;
    same("interrupts after unmask", event.wait(PATIENCE)?, 1)?;
    same("interrupts for the last user", line.take()?, 0)
}

fn irq_survives_a_migration_in_flight(target: &Target) -> Outcome {
    let source = TestDevice::new(target)?;
    let event = intx(&source)?;
    source.byte_port(0)?.write(Register::Ier, IER_RDI)?;
    source.port(0)?.send(b"in flight")?;
    same("interrupts at the source", event.wait(PATIENCE)?, 1)?;
    let stream = source.save()?;

    let destination = TestDevice::new(target)?;
    destination.set(State::RESUMING)?;
    destination.migration.feed(&stream, usize::MAX)?;
    let event = intx(&destination)?;
    same("interrupts while resuming", event.take()?, 0)?;
    destination.set(State::RUNNING)?;
    same("interrupts at the destination", event.wait(PATIENCE)?, 1)?;
    let port = destination.port(0)?;
    // The device was a 16450 at the source, its FIFOs off: one byte in the register, the rest still on
    // the wire, held back by the plug.
    let bytes = port.receive()?;
    holds(
        bytes.starts_with(b"i"),
        format_args!("expected what was in flight, seen {bytes:02x?}"),
    )
}

fn irq_of_msi_survives_a_migration_in_flight(target: &Target) -> Outcome {
    let source = TestDevice::new(target)?;
    config::enable_msi(&source)?;
    source.set(State::STOP)?;
    source.set(State::RUNNING)?;
    let message = EventFd::new()?;
    source.vfio().set_trigger(Index::Msi, Some(&message))?;
    raise(&source)?;
    same("messages at the source", message.wait(PATIENCE)?, 1)?;
    lower(&source)?;
    let stream = source.save()?;

    let destination = TestDevice::new(target)?;
    destination.set(State::RESUMING)?;
    destination.migration.feed(&stream, usize::MAX)?;
    config::enable_msi(&destination)?;
    let message = EventFd::new()?;
    destination.vfio().set_trigger(Index::Msi, Some(&message))?;
    destination.set(State::RUNNING)?;
    // One more may come, since a message too many is harmless and one too few is a hang.
    message.take()?;
    raise(&destination)?;
    same("messages at the destination", message.wait(PATIENCE)?, 1)
}
