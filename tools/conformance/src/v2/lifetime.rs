// SPDX-License-Identifier: GPL-2.0

//! Resets, closes and removals at any time, and the data files that outlive them.

use std::ffi::CString;

use rustix::event::PollFlags;
use rustix::fs::open;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::system::delete_module;
use rustix::system::finit_module;
use vfio_client::sysfs::write_file;
use vfio_client::v2::DataFile;
use vfio_client::v2::State;
use vfio_client::Errno;

use crate::case::cases;
use crate::case::Case;
use crate::check::bare;
use crate::check::denied;
use crate::check::holds;
use crate::check::refused;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v2::device::TestDevice;
use crate::v2::device::PIECE;

const NEEDS: &[Requirement] = &[Requirement::V2, Requirement::PreCopy];

/// Cases of any device.
pub const CASES: &[Case] = cases![
    NEEDS;
    lifetime_a_reset_in_any_state_leads_to_running [P2p, Driver],
    lifetime_a_close_in_any_state_leaves_nothing [P2p, Driver],
    lifetime_a_file_dies_with_its_session [Driver],
    lifetime_precopy_info_looks_at_the_state_before_the_session,
    lifetime_a_file_dies_with_a_reset [Driver],
    lifetime_a_file_dies_with_the_open_device [Driver],
    lifetime_a_file_does_not_serve_the_next_session [Driver],
    lifetime_files_may_be_closed_early [Driver],
];
const FERRY_NEEDS: &[Requirement] = &[Requirement::V2, Requirement::Ferry];

/// Cases of Ferry's devices. With the sample device they would access freed memory.
pub const FERRY: &[Case] = cases![
    FERRY_NEEDS;
    lifetime_a_file_outlives_its_device [PreCopy, Mdev],
    lifetime_a_file_outlives_the_binding_of_its_driver [Mdev],
    lifetime_resets_and_reads_at_once_do_no_harm [PreCopy, Driver],
    lifetime_a_file_outlives_the_module_of_its_driver [Driver, Mdev],
];

/// Checks that a file refuses reads and writes, and that a poll of it is ready.
fn expect_dead(when: &str, state: State, file: &DataFile) -> Outcome {
    if state == State::RESUMING {
        refused(
            format_args!("write {when}"),
            file.write(&[0; 8]),
            Errno::NODEV,
        )?;
    } else {
        refused(
            format_args!("read {when}"),
            file.read(&mut [0; 8]),
            Errno::NODEV,
        )?;
    }
    let ready = file.poll(PollFlags::IN | PollFlags::OUT, None)?;
    let expected = if state == State::RESUMING {
        PollFlags::OUT
    } else {
        PollFlags::IN
    };
    // A poll must not wait for ever.
    holds(
        ready.contains(expected),
        format_args!("poll {when}: expected {expected:?}, seen {ready:?}"),
    )
}

/// The sessions: their first state, and whether to use the file before it dies.
const SESSIONS: [(State, bool); 8] = [
    (State::PRE_COPY, false),
    (State::PRE_COPY, true),
    (State::PRE_COPY_P2P, false),
    (State::PRE_COPY_P2P, true),
    (State::STOP_COPY, false),
    (State::STOP_COPY, true),
    (State::RESUMING, false),
    (State::RESUMING, true),
];

/// Begins a session and uses its file a little, if it is to be used.
fn session(device: &TestDevice, state: State, used: bool, stream: &[u8]) -> Outcome<DataFile> {
    let file = device.begin(state)?;
    match state {
        State::RESUMING if used => file.write_all(&stream[..50], PIECE)?,
        State::RESUMING => {}
        // Much of what was not read is in the file already.
        _ if used => same("read", file.read(&mut [0; 10])?, 10)?,
        _ => {}
    }
    Ok(file)
}

pub fn lifetime_a_reset_in_any_state_leads_to_running(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    for state in State::ALL {
        device.fill(1)?;
        let file = device.set(state)?;
        device.reset()?;
        drop(file);
        device.expect_works()?;
        // And once more, with the file closed before.
        drop(device.set(state)?);
        device.reset()?;
        device.expect_works()?;
    }
    Ok(())
}

pub fn lifetime_a_close_in_any_state_leaves_nothing(target: &Target) -> Outcome {
    let mut mdev = target.subject()?;
    for state in State::ALL {
        let device = TestDevice::open(mdev, target)?;
        device.fill(1)?;
        let file = device.set(state)?;
        mdev = device.close();
        let device = TestDevice::open(mdev, target)?;
        device.expect(State::RUNNING)?;
        device.expect_works()?;
        drop(file);
        mdev = device.close();
    }
    Ok(())
}

fn lifetime_a_file_dies_with_its_session(target: &Target) -> Outcome {
    let stream = TestDevice::new(target)?.save()?;
    let device = TestDevice::new(target)?;
    for (state, used) in SESSIONS {
        let file = session(&device, state, used, &stream)?;
        if state == State::RESUMING {
            // The rest, so that the state can be left.
            let rest = if used { &stream[50..] } else { &stream[..] };
            file.write_all(rest, PIECE)?;
        }
        device.set(State::RUNNING)?;
        expect_dead(&format!("after {state}"), state, &file)?;
    }
    device.expect_works()
}

fn lifetime_precopy_info_looks_at_the_state_before_the_session(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let old = device.begin(State::PRE_COPY)?;
    for state in [State::RUNNING, State::STOP, State::STOP_COPY] {
        let _file = device.set(state)?;
        let info = old.precopy_info_with(24, 0);
        same(
            format_args!("precopy info in {state}"),
            info,
            Err(Errno::INVAL),
        )?;
    }
    device.reset()?;
    let _new = device.begin(State::PRE_COPY)?;
    let info = old.precopy_info_with(24, 0);
    same("precopy info in the next pre-copy", info, Err(Errno::NODEV))?;
    device.reset()
}

fn lifetime_a_file_dies_with_a_reset(target: &Target) -> Outcome {
    let stream = TestDevice::new(target)?.save()?;
    let device = TestDevice::new(target)?;
    for (state, used) in SESSIONS {
        let file = session(&device, state, used, &stream)?;
        device.reset()?;
        expect_dead(&format!("after a reset in {state}"), state, &file)?;
    }
    device.expect_works()
}

pub fn lifetime_a_file_dies_with_the_open_device(target: &Target) -> Outcome {
    let stream = TestDevice::new(target)?.save()?;
    let mut mdev = target.subject()?;
    for (state, used) in SESSIONS {
        let device = TestDevice::open(mdev, target)?;
        let file = session(&device, state, used, &stream)?;
        mdev = device.close();
        expect_dead(&format!("after a close in {state}"), state, &file)?;
        // The file has no access to the session of the next user.
        let device = TestDevice::open(mdev, target)?;
        expect_dead(&format!("after a close in {state}"), state, &file)?;
        device.expect_works()?;
        mdev = device.close();
    }
    Ok(())
}

fn lifetime_a_file_does_not_serve_the_next_session(target: &Target) -> Outcome {
    let stream = TestDevice::new(target)?.save()?;
    let device = TestDevice::new(target)?;
    for (state, used) in SESSIONS {
        let old = session(&device, state, used, &stream)?;
        device.reset()?;
        for next in [State::PRE_COPY, State::STOP_COPY, State::RESUMING] {
            let new = session(&device, next, true, &stream)?;
            expect_dead(&format!("{state}, then {next}"), state, &old)?;
            if next == State::RESUMING {
                new.write_all(&stream[50..], PIECE)?;
            } else {
                new.read_all(PIECE)?;
            }
            device.reset()?;
        }
    }
    device.expect_works()
}

fn lifetime_files_may_be_closed_early(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(30)?;
    drop(device.begin(State::PRE_COPY)?);
    device.expect(State::PRE_COPY)?;
    device.set(State::STOP_COPY)?;
    device.set(State::RUNNING)?;
    drop(device.begin(State::STOP_COPY)?);
    device.set(State::RUNNING)?;
    device.expect_filled(30)?;
    drop(device.begin(State::RESUMING)?);
    denied("STOP", device.migration.set_state(State::STOP))?;
    device.reset()?;
    device.expect_works()
}

pub fn lifetime_a_file_outlives_its_device(target: &Target) -> Outcome {
    let stream = TestDevice::new(target)?.save()?;
    for (state, used) in SESSIONS {
        let device = TestDevice::new(target)?;
        let file = session(&device, state, used, &stream)?;
        device.close().remove()?;
        expect_dead(&format!("after a removal in {state}"), state, &file)?;
        let info = file.precopy_info_with(24, 0);
        let expected = if state == State::RESUMING {
            Errno::NOTTY
        } else {
            Errno::NODEV
        };
        same("precopy info", info, Err(expected))?;
    }
    Ok(())
}

fn lifetime_a_file_outlives_the_binding_of_its_driver(target: &Target) -> Outcome {
    let stream = TestDevice::new(target)?.save()?;
    let driver = std::path::Path::new("/sys/bus/mdev/drivers").join(target.kind.driver());
    let device = TestDevice::new(target)?;
    let file = session(&device, State::STOP_COPY, true, &stream)?;
    let mdev = device.close();
    write_file(&driver.join("unbind"), mdev.name().as_bytes())?;
    expect_dead("after unbind", State::STOP_COPY, &file)?;
    // It cannot be bound again: devices of this bus are bound as they are created.
    mdev.remove()?;
    expect_dead("after a removal", State::STOP_COPY, &file)
}

pub fn lifetime_resets_and_reads_at_once_do_no_harm(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(2)?;
    for round in 0..40 {
        let state = [State::PRE_COPY, State::STOP_COPY][round % 2];
        let file = device.begin(state)?;
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| file.read_all(100));
            let poller = scope.spawn(|| file.poll(PollFlags::IN, None));
            let sizer = scope.spawn(|| device.migration.data_size());
            let reset = device.reset();
            // Their results depend on the order.
            let _ = (reader.join(), poller.join(), sizer.join());
            reset
        })?;
        expect_dead("after a reset", state, &file)?;
    }
    device.expect_works()
}

fn lifetime_a_file_outlives_the_module_of_its_driver(target: &Target) -> Outcome {
    let name = target.kind.driver();
    // Where a virtual machine of these tests has its modules.
    let path = format!("/lib/modules/{name}.ko");
    let module = open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Stop::Skipped(format!("{path}, to load it again: {errno}")))?;
    let bare_name = CString::new(name).map_err(Stop::failed)?;
    let unload = || delete_module(&bare_name, OFlags::NONBLOCK.bits() as i32);

    let stream = TestDevice::new(target)?.save()?;
    let device = TestDevice::new(target)?;
    let file = session(&device, State::STOP_COPY, true, &stream)?;
    bare("rmmod with an open device", unload(), Errno::AGAIN)?;
    device.close().remove()?;
    unload().map_err(|errno| Stop::failed(format_args!("rmmod: {errno}")))?;
    let dead = expect_dead("after rmmod", State::STOP_COPY, &file);
    finit_module(&module, c"", 0).map_err(|errno| Stop::failed(format_args!("insmod: {errno}")))?;
    dead?;
    expect_dead("after insmod", State::STOP_COPY, &file)?;
    TestDevice::new(target)?.expect_works()
}
