// SPDX-License-Identifier: GPL-2.0

//! The removal of a device in use: the kernel asks the user through `VFIO_PCI_REQ_IRQ_INDEX`.

use std::fs;
use std::thread;
use std::thread::JoinHandle;

use vfio_bindings::bindings::vfio;
use vfio_client::irq::Action;
use vfio_client::irq::Data;
use vfio_client::irq::Index;
use vfio_client::v1::State;
use vfio_client::Errno;
use vfio_client::EventFd;
use vfio_client::Mdev;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::refused;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::kmsg::await_line;
use crate::requirement::Requirement;
use crate::subject::Subject;
use crate::target::Target;
use crate::v1::device::TestDevice;
use crate::v1::device::PATIENCE;

const NEEDS: &[Requirement] = &[Requirement::V1];

pub const CASES: &[Case] = cases![
    NEEDS;
    request_info,
    request_is_set_up_as_for_vfio_pci [Intx],
    request_by_the_removal_of_the_device [Mdev],
    request_by_the_unbinding_of_its_driver [Ferry],
    request_without_anybody_to_ask_is_logged [Ferry, Mdev],
    request_is_forgotten_when_the_device_is_closed,
];

fn request_info(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let request = device.vfio().irq_info(Index::Request as u32)?;
    same("count", request.count, 1)?;
    same(
        "flags",
        request.flags,
        vfio::VFIO_IRQ_INFO_EVENTFD | vfio::VFIO_IRQ_INFO_NORESIZE,
    )?;
    // A device without a link has no errors of a link. A function of PCI Express has one.
    let error = device.vfio().irq_info(Index::Error as u32)?;
    let expected = u32::from(!target.kind.is_emulated());
    same("count of errors", error.count, expected)
}

fn request_is_set_up_as_for_vfio_pci(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let set = |action, count, data: Data<'_>| {
        device
            .vfio()
            .set_irqs(Index::Request, action, 0, count, data)
    };
    // Without an eventfd there is nothing to signal and nothing to remove.
    for count in [0, 1] {
        refused(
            format_args!("{count} without an eventfd"),
            set(Action::Trigger, count, Data::None),
            Errno::INVAL,
        )?;
    }
    set(Action::Trigger, 1, Data::Bool(&[1]))?;
    for action in [Action::Mask, Action::Unmask] {
        refused(
            format_args!("{action:?}"),
            set(action, 1, Data::None),
            Errno::NOTTY,
        )?;
    }
    let event = EventFd::new()?;
    refused(
        "two of them",
        set(
            Action::Trigger,
            2,
            Data::EventFd(&[Some(&event), Some(&event)]),
        ),
        Errno::INVAL,
    )?;
    device.vfio().set_trigger(Index::Request, Some(&event))?;
    set(Action::Trigger, 1, Data::None)?;
    same("signals by NONE", event.take()?, 1)?;
    set(Action::Trigger, 1, Data::Bool(&[0]))?;
    same("signals by a BOOL that is not set", event.take()?, 0)?;
    set(Action::Trigger, 1, Data::Bool(&[1]))?;
    same("signals by a BOOL that is set", event.take()?, 1)?;
    // The request does not exclude the device's interrupts, which exclude each other.
    let intx = EventFd::new()?;
    device.vfio().set_trigger(Index::Intx, Some(&intx))?;
    device.vfio().disable_irqs(Index::Intx)?;
    set(Action::Trigger, 1, Data::None)?;
    same("signals beside INTx", event.take()?, 1)?;
    device.vfio().set_trigger(Index::Request, None)?;
    refused(
        "once the eventfd is taken away",
        set(Action::Trigger, 1, Data::None),
        Errno::INVAL,
    )?;
    device.vfio().set_trigger(Index::Request, Some(&event))?;
    set(Action::Trigger, 0, Data::None)?;
    set(Action::Trigger, 1, Data::Bool(&[1]))?;
    same("signals once it is disabled", event.take()?, 0)
}

/// Removes a device in use with `take_away`. Checks that the user is asked, and that the removal waits for
/// the close.
fn asks(
    target: &Target,
    take_away: impl FnOnce(&Subject) -> JoinHandle<Result<(), String>>,
) -> Outcome<Subject> {
    let device = TestDevice::new(target)?;
    let event = EventFd::new()?;
    device.vfio().set_trigger(Index::Request, Some(&event))?;
    let taker = take_away(&device.subject);
    let asked = event.wait(PATIENCE);
    // The device works as long as it is open.
    let works = asked.and_then(|_| device.vfio().info());
    let state = device.migration.state();
    let mdev = device.close();
    let taken = taker
        .join()
        .map_err(|_| Stop::failed("a thread panicked"))?;
    works?;
    same("device_state", state?, State::RUNNING)?;
    taken.map_err(Stop::failed)?;
    Ok(mdev)
}

fn request_by_the_removal_of_the_device(target: &Target) -> Outcome {
    let mdev = asks(target, |device| {
        let uuid = device.name().to_string();
        thread::spawn(move || {
            let removed = Mdev::existing(&uuid).remove();
            removed.map_err(|error| error.to_string())
        })
    })?;
    holds(
        !mdev.path().exists(),
        format_args!("expected that {} is gone", mdev.path().display()),
    )
}

fn request_by_the_unbinding_of_its_driver(target: &Target) -> Outcome {
    let device = asks(target, |device| {
        let unbind = device.path().join("driver/unbind");
        let name = device.name().to_string();
        thread::spawn(move || {
            fs::write(&unbind, name).map_err(|error| format!("{}: {error}", unbind.display()))
        })
    })?;
    let unbound = device.path().exists() && !device.path().join("driver").exists();
    let unbound = holds(
        unbound,
        format_args!("expected {} without a driver", device.path().display()),
    );
    if target.is_type() {
        return unbound;
    }
    // A device that exists without the case is needed by the next one.
    let probe = device.path().join("subsystem/drivers_probe");
    fs::write(&probe, device.name())
        .map_err(|error| Stop::failed(format_args!("{}: {error}", probe.display())))?;
    unbound?;
    same(
        "driver once it is probed again",
        device.driver()?,
        target.kind.driver().to_string(),
    )
}

fn request_without_anybody_to_ask_is_logged(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let uuid = device.subject.name().to_string();
    let mut remover = None;
    let logged = await_line(
        &[target.kind.driver(), &uuid, "nobody can be asked"],
        || {
            let uuid = uuid.clone();
            remover.get_or_insert_with(|| thread::spawn(move || Mdev::existing(&uuid).remove()));
            Ok(())
        },
    );
    drop(device);
    if let Some(remover) = remover {
        remover
            .join()
            .map_err(|_| Stop::failed("a thread panicked"))??;
    }
    logged.map(drop)
}

fn request_is_forgotten_when_the_device_is_closed(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let event = EventFd::new()?;
    device.vfio().set_trigger(Index::Request, Some(&event))?;
    let device = TestDevice::open(device.close())?;
    device
        .vfio()
        .set_irqs(Index::Request, Action::Trigger, 0, 1, Data::Bool(&[1]))?;
    same("signals to who had it open before", event.take()?, 0)
}
