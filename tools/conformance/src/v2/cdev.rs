// SPDX-License-Identifier: GPL-2.0

//! Devices that are opened as character devices, with an iommufd.
//!
//! Bind, attach and detach are the VFIO core's. The cases are about what a driver has to survive, and about
//! devices that work and migrate as after an open by group: [`SECOND`] runs cases of other files a second
//! time. [`cdev_dma`](super::cdev_dma) is about the addresses of DMA.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use rustix::fs::open;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use vfio_client::sys;
use vfio_client::sys::Request;
use vfio_client::v1::State as Region;
use vfio_client::v2::Migration;
use vfio_client::v2::State;
use vfio_client::Cdev;
use vfio_client::Container;
use vfio_client::Device;
use vfio_client::Errno;
use vfio_client::GroupSession;
use vfio_client::Iommufd;
use vfio_client::Mapping;
use vfio_drivers::nvme;
use vfio_drivers::nvme::tail_doorbell;
use vfio_drivers::nvme::Controller;
use vfio_drivers::nvme::PAGE;

use crate::case::cases;
use crate::case::Case;
use crate::check::bare;
use crate::check::holds;
use crate::check::refused;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::device::MEMORY;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v2::device::TestDevice;
use crate::v2::device::PATIENCE;
use crate::v2::device::PIECE;
use crate::v2::lifetime;
use crate::v2::logging;
use crate::v2::moving;
use crate::v2::protocol;
use crate::v2::state;

const NEEDS: &[Requirement] = &[Requirement::V2, Requirement::Ferry, Requirement::Iommufd];

/// Cases of Ferry's devices.
pub const CASES: &[Case] = cases![
    NEEDS;
    cdev_does_nothing_before_it_is_bound [Cdev],
    cdev_is_bound_once [Cdev],
    cdev_of_many_that_bind_at_once_one_wins [Cdev],
    cdev_bind_refuses_bad_arguments [Cdev],
    cdev_bind_whose_answer_cannot_be_told_leaves_nothing [Cdev],
    cdev_and_group_keep_each_other_out [Cdev],
    cdev_ioctls_are_not_for_the_file_of_a_group [Cdev, Driver],
    // What a real function reaches without an address space is the IOMMU's, and not the driver's.
    cdev_attaches_detaches_and_attaches_again [Cdev, Driver, Emulated],
    cdev_attach_and_detach_refuse_bad_arguments [Cdev],
    cdev_attach_whose_answer_cannot_be_told_leaves_nothing [Cdev],
    cdev_mapped_window_keeps_the_device_open [Cdev, Driver],
    cdev_removal_waits_for_a_file_that_is_not_bound [Cdev, Driver, Mdev],
    cdev_protocol_is_busy_while_a_file_is_open [Cdev, Mdev],
    cdev_streams_go_to_and_come_from_a_device_of_a_group [PreCopy, Cdev, Driver, Pair],
    cdev_protocol_v1_moves_the_state_through_a_mapped_window [Cdev, Driver, Pair],
    cdev_detach_while_saving_loses_nothing [P2p, PreCopy, Cdev, Driver, Pair],
    cdev_two_devices_share_an_address_space [Cdev, Driver, Emulated],
    cdev_is_not_needed_for_an_iommufd [Driver],
];

/// Makes a case from another case, on a device that is opened as a character device. The requirements in
/// brackets are those of the other case.
macro_rules! through_cdev {
    ($shared:expr; $($module:ident::$function:ident $([$($own:ident),+])?),+ $(,)?) => {
        &[$(Case {
            name: concat!("cdev_", stringify!($function)),
            requires: [$shared, &[$($(Requirement::$own),+)?]],
            run: |target| $module::$function(&target.through_cdev()),
        }),+]
    };
}

const SECOND_NEEDS: &[Requirement] = &[
    Requirement::V2,
    Requirement::Ferry,
    Requirement::Iommufd,
    Requirement::Cdev,
];

/// The cases of other files for which the way in which a device was opened could make a difference.
pub const SECOND: &[Case] = through_cdev![
    SECOND_NEEDS;
    state::state_every_arc_is_taken_or_refused [P2p, PreCopy, Pair],
    // A real function's pages cannot be pinned in an iommufd, so it has no log there.
    logging::logging_is_all_there_or_not_at_all [Emulated],
    logging::logging_is_started_once_and_stopped_once [DirtyLog, Emulated],
    logging::logging_ends_with_the_open [DirtyLog, Emulated],
    moving::moving_carries_the_state_with_and_without_pre_copy [P2p, PreCopy, Pair],
    moving::moving_there_and_back_again_and_again [PreCopy, Pair],
    moving::moving_two_devices_at_once [P2p, PreCopy, Mdev],
    moving::moving_a_stream_of_v1_loads_through_v2 [V1, Pair],
    moving::moving_a_stream_of_v2_loads_through_v1 [V1, PreCopy, Pair],
    moving::moving_a_refused_stream_leaves_the_device_as_it_is [Pair],
    protocol::protocol_a_close_lets_the_other_in [V1],
    lifetime::lifetime_a_reset_in_any_state_leads_to_running [P2p, PreCopy],
    lifetime::lifetime_a_close_in_any_state_leaves_nothing [P2p, PreCopy],
    lifetime::lifetime_a_file_dies_with_the_open_device [PreCopy],
    lifetime::lifetime_a_file_outlives_its_device [PreCopy, Mdev],
    lifetime::lifetime_resets_and_reads_at_once_do_no_harm [PreCopy],
];

const SECOND_STORAGE_NEEDS: &[Requirement] = &[
    Requirement::V2,
    Requirement::Nvme,
    Requirement::Iommufd,
    Requirement::Cdev,
];

/// As [`SECOND`], of a device with storage.
pub const SECOND_STORAGE: &[Case] = through_cdev![
    SECOND_STORAGE_NEEDS;
    state::state_no_dma_is_initiated_in_p2p [P2p, PreCopy],
    state::state_no_memory_is_pinned_in_p2p [P2p, PreCopy],
    logging::logging_shows_what_the_device_writes_and_nothing_else [DirtyLog],
    logging::logging_of_large_pages_shows_them_whole [DirtyLog],
];

/// Where the memory of a second device begins.
pub const SECOND_MEMORY: u64 = MEMORY + (16 << 20);

/// Checks that a device with DMA has no memory to reach, and that a device without DMA works all the same.
#[track_caller]
pub fn expect_cut_off(device: &TestDevice) -> Outcome {
    let Ok(memory) = device.memory() else {
        return device.expect_works();
    };
    let mut driver = Controller::new(device.vfio(), memory)?;
    driver.restart(4)?;
    driver.write(tail_doorbell(0), 1)?;
    let status = driver.wait_status(nvme::CSTS_FATAL, nvme::CSTS_FATAL)?;
    same(
        "CFS once the memory is gone",
        status & nvme::CSTS_FATAL,
        nvme::CSTS_FATAL,
    )
}

/// Does an ioctl whose argument consists of words.
fn ask(device: &Device, request: Request, words: &[u32]) -> Result<u32, Errno> {
    let mut argument: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    device.ioctl(request, &mut argument)
}

fn number(fd: impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd() as u32
}

fn cdev_does_nothing_before_it_is_bound(target: &Target) -> Outcome {
    let iommufd = Iommufd::open()?;
    let mdev = target.subject()?;
    let cdev = Cdev::open(&mdev)?;
    let device = cdev.device();
    let ioas = iommufd.ioas()?;
    refused("VFIO_DEVICE_GET_INFO", device.info(), Errno::INVAL)?;
    refused(
        "VFIO_DEVICE_GET_REGION_INFO",
        device.region(0).map(|region| region.size()),
        Errno::INVAL,
    )?;
    refused("VFIO_DEVICE_RESET", device.reset(), Errno::INVAL)?;
    let migration = Migration::new(device);
    refused("VFIO_DEVICE_FEATURE", migration.flags(), Errno::INVAL)?;
    refused("attach", cdev.attach(&ioas), Errno::INVAL)?;
    refused("detach", cdev.detach(), Errno::INVAL)?;
    let mut bytes = [0; 4];
    for at in [0, 7 << 40, 9 << 40] {
        bare(
            format_args!("read at {at:#x}"),
            rustix::io::pread(device, &mut bytes, at),
            Errno::INVAL,
        )?;
        bare(
            format_args!("write at {at:#x}"),
            rustix::io::pwrite(device, &bytes, at),
            Errno::INVAL,
        )?;
        bare(
            format_args!("mmap at {at:#x}"),
            Mapping::new(device, at, PAGE as usize),
            Errno::INVAL,
        )?;
    }
    // No call before has opened the device.
    cdev.bind(&iommufd)?;
    same(
        "migration region once it is bound",
        vfio_client::v1::Migration::find(device)?.is_some(),
        true,
    )?;
    device.reset()?;
    Ok(())
}

fn cdev_is_bound_once(target: &Target) -> Outcome {
    let iommufd = [Iommufd::open()?, Iommufd::open()?];
    let mdev = target.subject()?;
    let first = Cdev::open(&mdev)?;
    let second = Cdev::open(&mdev)?;
    for _ in 0..3 {
        let first = Cdev::open(&mdev)?;
        first.bind(&iommufd[0])?;
        refused("second bind", first.bind(&iommufd[0]), Errno::INVAL)?;
        refused("bind to another", first.bind(&iommufd[1]), Errno::INVAL)?;
        refused("bind of another", second.bind(&iommufd[1]), Errno::INVAL)?;
        refused("what is not bound", second.device().info(), Errno::INVAL)?;
        // The bound file is not affected.
        first.device().info()?;
        first.device().reset()?;
    }
    // The other file can be bound once the first one is closed.
    second.bind(&iommufd[1])?;
    second.device().info()?;
    refused("bind", first.bind(&iommufd[0]), Errno::INVAL)
}

fn cdev_of_many_that_bind_at_once_one_wins(target: &Target) -> Outcome {
    let iommufd = Iommufd::open()?;
    let mdev = target.subject()?;
    for _ in 0..30 {
        let files = [Cdev::open(&mdev)?, Cdev::open(&mdev)?, Cdev::open(&mdev)?];
        let won = thread::scope(|scope| {
            let threads = files
                .each_ref()
                .map(|file| scope.spawn(|| file.bind(&iommufd).is_ok()));
            threads
                .into_iter()
                .filter_map(|thread| thread.join().ok())
                .filter(|won| *won)
                .count()
        });
        same("files that were bound", won, 1)?;
        let open = files
            .iter()
            .filter(|file| file.device().info().is_ok())
            .count();
        same("files of an open device", open, 1)?;
    }
    Ok(())
}

fn cdev_bind_refuses_bad_arguments(target: &Target) -> Outcome {
    const SIZE: u32 = 24;
    /// More files than a process can have.
    const CLOSED: u32 = 0x7fff_0000;
    let iommufd = Iommufd::open()?;
    let mdev = target.subject()?;
    let cdev = Cdev::open(&mdev)?;
    let null =
        open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(Stop::failed)?;
    let good = number(&iommufd);
    let token = if target.kind.is_emulated() {
        // A mediated device has none, wherever it may be.
        Errno::INVAL
    } else {
        // vfio-pci reads it.
        Errno::FAULT
    };
    for (what, words, errno) in [
        ("no argsz", &[0, 0, good, 0, 0, 0][..], Errno::INVAL),
        ("argsz of 15", &[15, 0, good, 0, 0, 0], Errno::INVAL),
        ("unknown flags", &[SIZE, 2, good, 0, 0, 0], Errno::INVAL),
        ("all flags", &[SIZE, !0, good, 0, 0, 0], Errno::INVAL),
        ("token", &[SIZE, 1, good, 0, 0, 0], token),
        ("token nowhere", &[SIZE, 1, good, 0, 8, 0], token),
        (
            "more than there is",
            &[32, 0, good, 0, 0, 0, 1, 0],
            Errno::TOOBIG,
        ),
        ("no iommufd", &[SIZE, 0, !0, 0, 0, 0], Errno::INVAL),
        ("a closed file", &[SIZE, 0, CLOSED, 0, 0, 0], Errno::BADF),
        (
            "another file",
            &[SIZE, 0, number(&null), 0, 0, 0],
            Errno::BADFD,
        ),
        (
            "itself",
            &[SIZE, 0, number(cdev.device()), 0, 0, 0],
            Errno::BADFD,
        ),
    ] {
        bare(
            what,
            ask(cdev.device(), Request::DEVICE_BIND_IOMMUFD, words),
            errno,
        )?;
        refused(
            format_args!("after {what}"),
            cdev.device().info(),
            Errno::INVAL,
        )?;
    }
    bare(
        "an argument that is not there",
        sys::ioctl_value(cdev.device(), Request::DEVICE_BIND_IOMMUFD, 0),
        Errno::FAULT,
    )?;
    // There are zeros for a while, and then whatever there is.
    let endless = ask(
        cdev.device(),
        Request::DEVICE_BIND_IOMMUFD,
        &[!0, 0, good, 0, 0, 0],
    );
    holds(
        matches!(endless, Err(Errno::TOOBIG | Errno::FAULT)),
        format_args!("endless argsz: expected E2BIG or EFAULT, seen {endless:?}"),
    )?;
    // None of them has kept anything; and there may be more of zeros.
    let long = [40, 0, good, 0, 0, 0, 0, 0, 0, 0];
    same(
        "a longer one",
        ask(cdev.device(), Request::DEVICE_BIND_IOMMUFD, &long),
        Ok(0),
    )?;
    cdev.device().info()?;
    Ok(())
}

fn cdev_bind_whose_answer_cannot_be_told_leaves_nothing(target: &Target) -> Outcome {
    let iommufd = Iommufd::open()?;
    let mdev = target.subject()?;
    let cdev = Cdev::open(&mdev)?;
    let words = [24, 0, number(&iommufd), 0, 0, 0u32];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    for _ in 0..5 {
        // The device is open by then.
        bare(
            "bind with an answer into read-only memory",
            sys::ioctl_read_only(cdev.device(), Request::DEVICE_BIND_IOMMUFD, &bytes),
            Errno::FAULT,
        )?;
        refused("what is not bound", cdev.device().info(), Errno::INVAL)?;
        // The device is free, and so is its group.
        let session = GroupSession::open(&mdev)?;
        session.device.info()?;
    }
    cdev.bind(&iommufd)?;
    cdev.device().info()?;
    Ok(())
}

fn cdev_and_group_keep_each_other_out(target: &Target) -> Outcome {
    let iommufd = Iommufd::open()?;
    let mdev = target.subject()?;
    let first = Cdev::open(&mdev)?;
    for _ in 0..3 {
        // An open file that is not bound keeps nobody out.
        let session = GroupSession::open(&mdev)?;
        session.device.info()?;
        refused(
            "bind while the group is open",
            first.bind(&iommufd),
            Errno::BUSY,
        )?;
        refused("what is not bound", first.device().info(), Errno::INVAL)?;
        session.device.reset()?;
        drop(session);

        let second = Cdev::open(&mdev)?;
        second.bind(&iommufd)?;
        refused(
            "group while the device is bound",
            GroupSession::open(&mdev).map(|session| session.device.info()),
            Errno::BUSY,
        )?;
        second.device().reset()?;
    }
    first.bind(&iommufd)?;
    Ok(())
}

fn cdev_ioctls_are_not_for_the_file_of_a_group(target: &Target) -> Outcome {
    let iommufd = Iommufd::open()?;
    let device = TestDevice::new(target)?;
    let bind = [24, 0, number(&iommufd), 0, 0, 0];
    bare(
        "bind",
        ask(device.vfio(), Request::DEVICE_BIND_IOMMUFD, &bind),
        Errno::INVAL,
    )?;
    let ioas = iommufd.ioas()?;
    for (what, request, words) in [
        (
            "attach",
            Request::DEVICE_ATTACH_IOMMUFD_PT,
            &[12, 0, ioas.id()][..],
        ),
        ("detach", Request::DEVICE_DETACH_IOMMUFD_PT, &[8, 0]),
    ] {
        bare(what, ask(device.vfio(), request, words), Errno::NOTTY)?;
    }
    device.expect_works()
}

fn cdev_attaches_detaches_and_attaches_again(target: &Target) -> Outcome {
    let device = TestDevice::new(&target.through_cdev())?;
    let session = device.cdev()?;
    let ioas = &session.ioas;
    let busy = || refused("destruction while attached", ioas.destroy(), Errno::BUSY);
    for _ in 0..5 {
        device.expect_works()?;
        busy()?;
        // An attach to the same IOAS changes nothing.
        session.cdev.attach(ioas)?;
        device.expect_works()?;
        session.cdev.detach()?;
        expect_cut_off(&device)?;
        // Nor does a detach of a device that is not attached.
        session.cdev.detach()?;
        let empty = session.iommufd.ioas()?;
        session.cdev.attach(&empty)?;
        expect_cut_off(&device)?;
        refused("destruction while attached", empty.destroy(), Errno::BUSY)?;
        // One instead of the other, without a detach.
        session.cdev.attach(ioas)?;
        empty.destroy()?;
        device.expect_works()?;
        device.reset()?;
    }
    busy()?;
    session.cdev.detach()?;
    ioas.destroy()?;
    refused(
        "attach to what is gone",
        session.cdev.attach(ioas),
        Errno::NOENT,
    )?;
    expect_cut_off(&device)
}

fn cdev_attach_and_detach_refuse_bad_arguments(target: &Target) -> Outcome {
    const ATTACH: Request = Request::DEVICE_ATTACH_IOMMUFD_PT;
    const DETACH: Request = Request::DEVICE_DETACH_IOMMUFD_PT;
    let iommufd = Iommufd::open()?;
    let mdev = target.subject()?;
    let cdev = Cdev::open(&mdev)?;
    let id = cdev.bind(&iommufd)?;
    let ioas = iommufd.ioas()?;
    let good = ioas.id();
    refused("destruction of a device", iommufd.destroy(id), Errno::BUSY)?;
    // An emulated device takes an IOAS alone. A real one takes page tables, too, and says that this is none.
    let itself = if target.kind.is_emulated() {
        Errno::NOENT
    } else {
        Errno::INVAL
    };
    for attached in [false, true] {
        for (what, request, words, errno) in [
            (
                "attach, no argsz",
                ATTACH,
                &[0, 0, good, 0][..],
                Errno::INVAL,
            ),
            (
                "attach, argsz of 11",
                ATTACH,
                &[11, 0, good, 0],
                Errno::INVAL,
            ),
            (
                "attach, unknown flag",
                ATTACH,
                &[16, 2, good, 0],
                Errno::INVAL,
            ),
            (
                "attach, all flags",
                ATTACH,
                &[16, !0, good, 0],
                Errno::INVAL,
            ),
            ("attach, PASID", ATTACH, &[16, 1, good, 1], Errno::OPNOTSUPP),
            ("attach, nothing", ATTACH, &[12, 0, 0], Errno::NOENT),
            (
                "attach, unknown id",
                ATTACH,
                &[12, 0, 0x7fff_ffff],
                Errno::NOENT,
            ),
            ("attach, any id", ATTACH, &[12, 0, !0], Errno::NOENT),
            ("attach, itself", ATTACH, &[12, 0, id], itself),
            ("detach, no argsz", DETACH, &[0, 0, 0], Errno::INVAL),
            ("detach, argsz of 7", DETACH, &[7, 0, 0], Errno::INVAL),
            ("detach, unknown flag", DETACH, &[12, 2, 0], Errno::INVAL),
            ("detach, all flags", DETACH, &[12, !0, 0], Errno::INVAL),
            ("detach, PASID", DETACH, &[12, 1, 1], Errno::OPNOTSUPP),
        ] {
            bare(what, ask(cdev.device(), request, words), errno)?;
        }
        for request in [ATTACH, DETACH] {
            bare(
                "an argument that is not there",
                sys::ioctl_value(cdev.device(), request, 0),
                Errno::FAULT,
            )?;
        }
        // It is attached exactly if it was.
        if attached {
            refused("destruction", ioas.destroy(), Errno::BUSY)?;
        } else {
            iommufd.ioas()?.destroy()?;
            cdev.attach(&ioas)?;
        }
    }
    cdev.detach()?;
    ioas.destroy()?;
    cdev.device().reset()?;
    Ok(())
}

fn cdev_attach_whose_answer_cannot_be_told_leaves_nothing(target: &Target) -> Outcome {
    let iommufd = Iommufd::open()?;
    let mdev = target.subject()?;
    let cdev = Cdev::open(&mdev)?;
    cdev.bind(&iommufd)?;
    let ioas = iommufd.ioas()?;
    let words = [12, 0, ioas.id()];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bare(
        "attach with an answer into read-only memory",
        sys::ioctl_read_only(cdev.device(), Request::DEVICE_ATTACH_IOMMUFD_PT, &bytes),
        Errno::FAULT,
    )?;
    ioas.destroy()?;
    Ok(())
}

fn cdev_mapped_window_keeps_the_device_open(target: &Target) -> Outcome {
    let iommufd = Iommufd::open()?;
    let device = TestDevice::new(&target.through_cdev())?;
    let mut mapping = device.region()?.map_window()?;
    let text = b"what is in the window";
    mapping.write(0, text);
    bare(
        "mremap to twice the size",
        mapping.resize(2 * mapping.len()),
        Errno::FAULT,
    )?;
    let mut seen = [0; 21];
    mapping.read(0, &mut seen);
    same_bytes("window", &seen, text)?;
    let mdev = device.close();
    let next = Cdev::open(&mdev)?;
    refused(
        "bind while a mapping is left",
        next.bind(&iommufd),
        Errno::INVAL,
    )?;
    refused(
        "group while a mapping is left",
        GroupSession::open(&mdev).map(|session| session.device.info()),
        Errno::BUSY,
    )?;
    mapping.read(0, &mut seen);
    same_bytes("window once all files are closed", &seen, text)?;
    drop(mapping);
    drop(next);
    let device = TestDevice::open(mdev, &target.through_cdev())?;
    let mapping = device.region()?.map_window()?;
    mapping.read(0, &mut seen);
    same_bytes("window of the next user", &seen, &[0; 21])?;
    device.expect_works()
}

fn cdev_protocol_is_busy_while_a_file_is_open(target: &Target) -> Outcome {
    const PROTOCOL: &str = "migration/protocol";
    let mdev = target.subject()?;
    let file = Cdev::open(&mdev)?;
    // It takes another VFIO device, and to wait for who has this one can take for ever.
    refused(
        "v1 while a file is open that is not bound",
        mdev.set_attribute(PROTOCOL, b"v1"),
        Errno::BUSY,
    )?;
    same(PROTOCOL, mdev.attribute(PROTOCOL)?, "any".to_string())?;
    // This does not.
    mdev.set_attribute(PROTOCOL, b"v2")?;
    drop(file);
    mdev.set_attribute(PROTOCOL, b"v1")?;
    same(PROTOCOL, mdev.attribute(PROTOCOL)?, "v1".to_string())?;
    // The new one has a character device, too.
    Cdev::open(&mdev)?;
    Ok(())
}

fn cdev_removal_waits_for_a_file_that_is_not_bound(target: &Target) -> Outcome {
    let iommufd = Iommufd::open()?;
    let through_cdev = target.through_cdev();
    for binds in [false, true] {
        let mdev = target.subject()?;
        let path = mdev.path().to_path_buf();
        let first = Cdev::open(&mdev)?;
        let second = Cdev::open(&mdev)?;
        thread::scope(|scope| {
            let removal = scope.spawn(|| mdev.remove());
            // Its attributes are the first to go.
            let start = Instant::now();
            while path.join("migration").exists() && start.elapsed() < PATIENCE {
                thread::yield_now();
            }
            // A file that was open before may still be bound, or is refused.
            let bound = binds && first.bind(&iommufd).is_ok();
            if bound {
                first.device().reset()?;
                refused("bind of another", second.bind(&iommufd), Errno::INVAL)?;
                let file = Migration::new(first.device()).begin(State::STOP_COPY)?;
                file.read_all(PIECE)?;
            }
            same("removal has ended", removal.is_finished(), false)?;
            drop((first, second));
            removal
                .join()
                .map_err(|_| Stop::failed("the removing thread panicked"))??;
            Ok::<(), Stop>(())
        })?;
    }
    TestDevice::new(&through_cdev)?.expect_works()
}

fn cdev_streams_go_to_and_come_from_a_device_of_a_group(target: &Target) -> Outcome {
    let through_cdev = target.through_cdev();
    for (seed, [from, to]) in (1..).zip([[target, &through_cdev], [&through_cdev, target]]) {
        let source = TestDevice::new(from)?;
        source.fill(seed)?;
        let file = source.begin(State::PRE_COPY)?;
        let mut stream = file.read_all(PIECE)?;
        source.set(State::STOP_COPY)?;
        stream.extend(file.read_all(PIECE)?);
        let device = TestDevice::new(to)?;
        device.resume(&stream)?;
        device.expect_filled(seed)?;
        device.expect_works()?;
    }
    Ok(())
}

fn cdev_protocol_v1_moves_the_state_through_a_mapped_window(target: &Target) -> Outcome {
    let target = &target.through_cdev();
    let source = TestDevice::new(target)?;
    source.fill(5)?;
    let mut region = source.region()?;
    region.map()?;
    let mut stream = Vec::new();
    for state in [Region::PRE_COPY, Region::STOP_COPY] {
        region.set_state(state)?;
        stream.extend(region.save()?);
    }
    region.set_state(Region::STOP)?;

    let device = TestDevice::new(target)?;
    let mut region = device.region()?;
    region.map()?;
    region.set_state(Region::RESUMING)?;
    region.feed(&stream, 4096)?;
    region.set_state(Region::RUNNING)?;
    device.expect_filled(5)?;
    device.expect_works()
}

fn cdev_detach_while_saving_loses_nothing(target: &Target) -> Outcome {
    let target = &target.through_cdev();
    let source = TestDevice::new(target)?;
    source.fill(6)?;
    let session = source.cdev()?;
    let file = source.begin(State::PRE_COPY)?;
    let mut stream = vec![0; 10];
    same("read", file.read(&mut stream)?, 10)?;
    session.cdev.detach()?;
    stream.extend(file.read_all(1000)?);
    for state in [State::PRE_COPY_P2P, State::STOP_COPY] {
        session.cdev.attach(&session.ioas)?;
        source.set(state)?;
        session.cdev.detach()?;
    }
    stream.extend(file.read_all(1000)?);

    // A load needs no address space before the device runs, either.
    let device = TestDevice::new(target)?;
    let session = device.cdev()?;
    session.cdev.detach()?;
    let file = device.begin(State::RESUMING)?;
    file.write_all(&stream, PIECE)?;
    device.set(State::STOP)?;
    session.cdev.attach(&session.ioas)?;
    device.set(State::RUNNING)?;
    device.expect_filled(6)?;
    // The source continues.
    source.set(State::STOP)?;
    source.cdev()?.cdev.attach(&source.cdev()?.ioas)?;
    source.set(State::RUNNING)?;
    source.expect_filled(6)
}

fn cdev_two_devices_share_an_address_space(target: &Target) -> Outcome {
    let iommufd = Iommufd::open()?;
    let ioas = Arc::new(iommufd.ioas()?);
    let first = TestDevice::new_in(target, &iommufd, &ioas, MEMORY)?;
    let second = TestDevice::new_in(target, &iommufd, &ioas, SECOND_MEMORY)?;
    first.fill(1)?;
    second.fill(2)?;
    first.expect_filled(1)?;
    second.expect_filled(2)?;
    // One device loses its mapping, the other one keeps its own.
    if let Ok(memory) = first.memory() {
        memory.detach(&*ioas)?;
    }
    expect_cut_off(&first)?;
    second.expect_works()?;
    if let Ok(memory) = first.memory() {
        memory.attach(&*ioas)?;
    }
    first.expect_works()?;
    second.cdev()?.cdev.detach()?;
    expect_cut_off(&second)?;
    first.fill(3)?;
    let stream = first.save()?;
    second.cdev()?.cdev.attach(&ioas)?;
    second.resume(&stream)?;
    drop(first.close());
    refused("destruction", ioas.destroy(), Errno::BUSY)?;
    second.reset()?;
    second.expect_works()?;
    drop(second.close());
    ioas.destroy()?;
    Ok(())
}

fn cdev_is_not_needed_for_an_iommufd(target: &Target) -> Outcome {
    // A group takes it for a container.
    let mdev = target.subject()?;
    let session = GroupSession::open_in(&mdev, Container::open_iommufd()?)?;
    let source = TestDevice::with(mdev, Box::new(session), MEMORY)?;
    source.fill(9)?;
    let stream = source.save()?;
    let device = TestDevice::new(target)?;
    device.resume(&stream)?;
    device.expect_filled(9)?;
    source.reset()?;
    if let Ok(memory) = source.memory() {
        memory.detach(source.space())?;
        expect_cut_off(&source)?;
        memory.attach(source.space())?;
    }
    source.expect_works()
}
