// SPDX-License-Identifier: GPL-2.0

//! `VFIO_DEVICE_FEATURE`, well formed and malformed.

use vfio_bindings::bindings::vfio;
use vfio_client::sys;
use vfio_client::sys::Request;
use vfio_client::v2::Feature;
use vfio_client::v2::State;
use vfio_client::v2::FEATURE_SIZE;
use vfio_client::v2::GET;
use vfio_client::v2::PROBE;
use vfio_client::v2::SET;
use vfio_client::Errno;

use crate::case::cases;
use crate::case::Case;
use crate::check::bare;
use crate::check::refused;
use crate::check::same;
use crate::check::Outcome;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v2::device::TestDevice;

const NEEDS: &[Requirement] = &[Requirement::V2];

/// Cases of any device.
pub const CASES: &[Case] = cases![
    NEEDS;
    feature_flags_say_stop_copy_p2p_and_pre_copy [P2p, PreCopy],
    feature_probes_say_what_there_is,
    feature_malformed_requests_are_refused,
    feature_a_session_whose_file_cannot_be_told_is_no_leak [PreCopy, Driver],
];

/// The features of migration: how they are used, and how much data they have.
const FEATURES: [(Feature, u32, usize); 4] = [
    (Feature::MIGRATION, GET, 8),
    (Feature::STATE, GET | SET, 8),
    (Feature::DATA_SIZE, GET, 8),
    (Feature::PRECOPY_INFO_V2, SET, 0),
];

fn feature_flags_say_stop_copy_p2p_and_pre_copy(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let expected =
        vfio::VFIO_MIGRATION_STOP_COPY | vfio::VFIO_MIGRATION_P2P | vfio::VFIO_MIGRATION_PRE_COPY;
    same("flags", device.migration.flags()?, expected.into())
}

fn feature_probes_say_what_there_is(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    for (feature, how, _) in FEATURES {
        for wanted in [0, GET, SET, GET | SET] {
            let probe = device.migration.probe(feature, wanted);
            if wanted & !how == 0 {
                probe?;
            } else {
                refused(
                    format_args!("probe of {feature:?} for {wanted:#x}"),
                    probe,
                    Errno::INVAL,
                )?;
            }
        }
    }
    for number in [13, 100, vfio::VFIO_DEVICE_FEATURE_MASK] {
        refused(
            format_args!("probe of feature {number}"),
            device.migration.probe(Feature(number), GET),
            Errno::NOTTY,
        )?;
    }
    device.expect(State::RUNNING)
}

fn feature_malformed_requests_are_refused(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let ask = |flags: u32, argsz: usize, data: &mut [u8]| {
        device.migration.feature(flags, argsz as u32, data)
    };
    for (feature, how, size) in FEATURES {
        for wanted in [GET, SET] {
            let what = |how: &str| format!("{feature:?} for {wanted:#x} {how}");
            // The state that would be set.
            let mut data = [0; 16];
            data[..4].copy_from_slice(&State::STOP.0.to_ne_bytes());
            if how & wanted == 0 {
                let full = ask(feature.0 | wanted, FEATURE_SIZE + size, &mut data);
                bare(what("which it is not for"), full, Errno::INVAL)?;
                continue;
            }
            for argsz in 0..FEATURE_SIZE + size {
                let short = ask(feature.0 | wanted, argsz, &mut data);
                bare(what(&format!("with {argsz} bytes")), short, Errno::INVAL)?;
            }
            for bit in 19..32 {
                let flags = feature.0 | wanted | 1 << bit;
                let flag = ask(flags, FEATURE_SIZE + size, &mut data);
                bare(what(&format!("with bit {bit}")), flag, Errno::INVAL)?;
            }
        }
        for (how, flags) in [("neither way", 0), ("both ways", GET | SET)] {
            let mut data = [0; 16];
            let seen = ask(feature.0 | flags, FEATURE_SIZE + size, &mut data);
            bare(format_args!("{feature:?} {how}"), seen, Errno::INVAL)?;
        }
        // A probe changes nothing.
        let mut data = [0xff; 16];
        same(
            format_args!("probe of {feature:?}"),
            ask(feature.0 | PROBE | how, FEATURE_SIZE + size, &mut data),
            Ok(()),
        )?;
        same("data of a probe", data, [0xff; 16])?;
    }
    bare(
        "no address",
        sys::ioctl_value(device.vfio(), Request::DEVICE_FEATURE, 0),
        Errno::FAULT,
    )?;
    // A larger `argsz` does no harm.
    let mut data = [0; 64];
    same(
        "state with room to spare",
        ask(Feature::STATE.0 | GET, FEATURE_SIZE + 64, &mut data),
        Ok(()),
    )?;
    same("state", &data[..4], &State::RUNNING.0.to_ne_bytes()[..])?;
    device.expect(State::RUNNING)
}

fn feature_a_session_whose_file_cannot_be_told_is_no_leak(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let files = || std::fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
    let before = files();
    for state in [State::STOP_COPY, State::RESUMING, State::PRE_COPY] {
        device.reset()?;
        let mut argument = Vec::new();
        for word in [
            (FEATURE_SIZE + 8) as u32,
            Feature::STATE.0 | SET,
            state.0,
            u32::MAX,
        ] {
            argument.extend(word.to_ne_bytes());
        }
        bare(
            format_args!("{state} in memory that cannot be written"),
            sys::ioctl_read_only(device.vfio(), Request::DEVICE_FEATURE, &argument),
            Errno::FAULT,
        )?;
        same("open files", files(), before)?;
    }
    device.reset()?;
    device.expect_works()
}
