// SPDX-License-Identifier: GPL-2.0

//! Statements 1 to 15: the region, its header and its data window.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering;
use std::thread;

use rustix::mm::MapFlags;
use rustix::mm::ProtFlags;
use vfio_bindings::bindings::vfio;
use vfio_client::capability::u32_at;
use vfio_client::region::Area;
use vfio_client::region::RegionInfo;
use vfio_client::stream::MAGIC;
use vfio_client::sys::Request;
use vfio_client::v1::State;
use vfio_client::v1::DATA_OFFSET;
use vfio_client::v1::DATA_SIZE;
use vfio_client::v1::DEVICE_STATE;
use vfio_client::v1::HEADER_SIZE;
use vfio_client::v1::KIND;
use vfio_client::v1::PENDING_BYTES;
use vfio_client::v1::RESERVED;
use vfio_client::Errno;
use vfio_client::Mapping;
use vfio_drivers::random::Random;

use crate::case::cases;
use crate::case::Case;
use crate::check::bare;
use crate::check::denied;
use crate::check::differs;
use crate::check::holds;
use crate::check::one_of;
use crate::check::refused;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::device::good_stream;
use crate::v1::device::image;
use crate::v1::device::TestDevice;

/// The fields of the header: offset and width.
const FIELDS: [(u64, usize); 5] = [
    (DEVICE_STATE, 4),
    (RESERVED, 4),
    (PENDING_BYTES, 8),
    (DATA_OFFSET, 8),
    (DATA_SIZE, 8),
];

/// Sizes of the window: the smallest, an odd one, the default, the largest.
pub const WINDOWS: [u64; 4] = [4096, 12 * 4096, 1 << 20, 16 << 20];

const NEEDS: &[Requirement] = &[Requirement::V1];

pub const CASES: &[Case] = cases![
    NEEDS;
    v1_01_exactly_one_region_has_the_migration_type,
    v1_01_region_info_asks_for_more_room_and_then_gets_it,
    v1_01_the_standard_regions_have_no_type,
    v1_02_the_fields_are_where_the_header_has_them,
    v1_03_only_a_fields_own_width_and_alignment_is_accepted,
    v1_03_a_refused_access_changes_nothing_in_any_state [Ferry],
    v1_03_an_access_across_header_and_data_is_refused,
    v1_03_an_access_past_the_region_is_refused,
    v1_03_an_access_to_a_bad_address_changes_nothing,
    v1_03_an_access_of_no_bytes_changes_nothing,
    v1_04_reserved_reads_zero_and_takes_any_write,
    v1_05_pending_bytes_and_data_offset_are_read_only,
    v1_06_two_threads_never_see_half_a_state_change [Ferry],
    v1_06_a_polling_thread_does_not_disturb_a_save [Ferry, Driver],
    v1_06_header_data_and_reset_from_many_threads [Ferry, Driver],
    v1_07_errors_are_reported_while_the_window_is_mapped,
    v1_08_the_data_section_is_page_aligned_and_past_the_header [Ferry],
    v1_09_the_sparse_capability_names_the_window_alone [Ferry],
    v1_09_nothing_but_the_window_can_be_mapped [Ferry],
    v1_09_a_mapping_cannot_grow [Ferry],
    v1_09_a_private_or_executable_mapping_is_refused,
    v1_09_a_part_of_the_window_can_be_mapped [Ferry],
    v1_10_data_moves_by_read_and_write_with_and_without_a_mapping,
    v1_10_a_migration_by_read_and_write_alone [Ferry, Driver, Pair],
    v1_10_a_migration_through_the_mapping [Ferry, Driver, Pair],
    v1_11_data_accesses_of_every_width_and_alignment [Ferry],
    v1_11_a_migration_in_the_pieces_that_qemu_makes [Driver, Pair],
    v1_12_every_chunk_is_inside_the_region [Ferry, Driver],
    v1_13_data_offset_is_the_start_of_the_mappable_area,
    v1_14_stores_by_a_second_thread_during_data_size_write [Ferry, Driver],
    v1_14_stores_after_a_chunk_was_consumed_change_nothing [Ferry, Driver],
    v1_14_stores_while_saving_do_not_reach_the_device [Ferry, Driver],
    v1_15_a_first_open_shows_an_empty_window [Ferry],
    v1_15_the_window_is_empty_after_reopen,
    v1_15_the_window_is_empty_after_reset [Driver],
    v1_15_two_devices_do_not_share_a_window [Driver, Pair],
];

fn v1_01_exactly_one_region_has_the_migration_type(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let mut found = Vec::new();
    for region in device.vfio().regions()? {
        let index = region.info().index;
        if region.info().kind == Some(KIND) {
            holds(
                region.size() != 0,
                format_args!("region {index}: expected a size, seen 0"),
            )?;
            found.push(index);
        }
    }
    same("regions of type 3, subtype 1", found.len(), 1)
}

fn v1_01_region_info_asks_for_more_room_and_then_gets_it(target: &Target) -> Outcome {
    const SIZE: usize = size_of::<vfio::vfio_region_info>();
    let device = TestDevice::new(target)?;
    let index = device.migration.region().info().index;
    let ask = |argsz: usize| {
        let mut answer = vec![0; argsz];
        answer[..4].copy_from_slice(&(argsz as u32).to_ne_bytes());
        answer[8..12].copy_from_slice(&index.to_ne_bytes());
        device
            .vfio()
            .ioctl(Request::DEVICE_GET_REGION_INFO, &mut answer)
            .map(|_| answer)
            .map_err(|errno| Stop::failed(format_args!("argsz {argsz}: {errno}")))
    };
    let field = |answer: &[u8], at| u32_at(answer, at).unwrap_or(0);

    let first = ask(SIZE)?;
    let wanted = field(&first, 0) as usize;
    holds(
        wanted > SIZE,
        format_args!("expected argsz above {SIZE}, seen {wanted}"),
    )?;
    same(
        "CAPS flag without room",
        field(&first, 4) & vfio::VFIO_REGION_INFO_FLAG_CAPS,
        vfio::VFIO_REGION_INFO_FLAG_CAPS,
    )?;
    same("cap_offset without room", field(&first, 12), 0)?;
    // One byte less is refused, one byte more does no harm.
    same("cap_offset, a byte short", field(&ask(wanted - 1)?, 12), 0)?;
    for room in [wanted, wanted + 1, wanted + 4096] {
        let info = RegionInfo::parse(&ask(room)?).map_err(Stop::failed)?;
        same(
            format_args!("type with argsz {room}"),
            info.kind,
            Some(KIND),
        )?;
        holds(
            info.sparse.is_some(),
            format_args!("argsz {room}: expected a sparse mmap capability, seen none"),
        )?;
    }
    Ok(())
}

fn v1_01_the_standard_regions_have_no_type(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    for region in device.vfio().regions()? {
        let index = region.info().index;
        if index < vfio::VFIO_PCI_NUM_REGIONS {
            same(
                format_args!("type of region {index}"),
                region.info().kind,
                None,
            )?;
        }
    }
    let index = device.migration.region().info().index;
    holds(
        index >= vfio::VFIO_PCI_NUM_REGIONS,
        format_args!("expected a device-specific index, seen {index}"),
    )
}

fn v1_02_the_fields_are_where_the_header_has_them(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let region = device.migration.region();
    same("header size", HEADER_SIZE, 32)?;
    same("device_state at 0", region.read_u32(0)?, State::RUNNING.0)?;
    same("reserved at 4", region.read_u32(4)?, 0)?;
    same("pending_bytes at 8", region.read_u64(8)?, 0)?;
    region.write(0, &State::STOP_COPY.0.to_ne_bytes())?;
    same("device_state at 0", region.read_u32(0)?, State::STOP_COPY.0)?;
    let pending = region.read_u64(8)?;
    let offset = region.read_u64(16)?;
    let size = region.read_u64(24)?;
    same(
        "data_offset at 16",
        offset,
        device.migration.window().offset,
    )?;
    holds(
        size > 0 && size <= pending,
        format_args!("expected data_size at 24 within 1..={pending}, seen {size}"),
    )?;
    same("first bytes of the data", region.read_u32(offset)?, MAGIC)
}

fn v1_03_only_a_fields_own_width_and_alignment_is_accepted(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let region = device.migration.region();
    for offset in 0..HEADER_SIZE + 16 {
        for len in [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 33, 64] {
            if FIELDS.contains(&(offset, len)) {
                region.read(offset, &mut vec![0; len])?;
                continue;
            }
            refused(
                format_args!("read of {len} at {offset}"),
                region.read(offset, &mut vec![0; len]),
                Errno::INVAL,
            )?;
            refused(
                format_args!("write of {len} at {offset}"),
                region.write(offset, &vec![0; len]),
                Errno::INVAL,
            )?;
            device.expect(State::RUNNING)?;
        }
    }
    Ok(())
}

fn v1_03_a_refused_access_changes_nothing_in_any_state(target: &Target) -> Outcome {
    for state in State::VALID {
        let device = TestDevice::new(target)?;
        device.set(state)?;
        let region = device.migration.region();
        if state.is_saving() {
            device.migration.pending()?;
            device.migration.data_offset()?;
        }
        let size = device.migration.data_size()?;
        // What each of these would do, were it taken for an access of a field: stop the device,
        // take the chunk, prepare the next, consume data.
        for (offset, len) in [
            (0, 2),
            (0, 8),
            (8, 4),
            (8, 16),
            (12, 8),
            (16, 4),
            (24, 4),
            (28, 4),
        ] {
            refused(
                format_args!("{state}: read of {len} at {offset}"),
                region.read(offset, &mut vec![0xa5; len]),
                Errno::INVAL,
            )?;
            refused(
                format_args!("{state}: write of {len} at {offset}"),
                region.write(offset, &vec![0; len]),
                Errno::INVAL,
            )?;
        }
        device.expect(state)?;
        same(
            format_args!("{state}: data_size"),
            device.migration.data_size()?,
            size,
        )?;
        if state == State::STOP_COPY {
            let (_, bytes) = device.migration.presented()?;
            let rest = device.migration.save()?;
            // The next read of pending_bytes takes the chunk that was read before it, so the whole
            // stream is that chunk and the rest.
            image(&[bytes, rest].concat())?;
        }
    }
    Ok(())
}

fn v1_03_an_access_across_header_and_data_is_refused(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let region = device.migration.region();
    let window = device.migration.window().offset;
    for (offset, len) in [
        (window - 1, 2),
        (window - 2, 4),
        (window - 4, 8),
        (window - 7, 8),
        (DATA_SIZE, (window - DATA_SIZE) as usize + 8),
        (0, window as usize + 4096),
        (HEADER_SIZE, 8),
        (window - 8, 8),
        (window - 1, 1),
    ] {
        refused(
            format_args!("read of {len} at {offset}"),
            region.read(offset, &mut vec![0; len]),
            Errno::INVAL,
        )?;
        refused(
            format_args!("write of {len} at {offset}"),
            region.write(offset, &vec![0xff; len]),
            Errno::INVAL,
        )?;
    }
    let mut bytes = [0xff; 64];
    region.read(window, &mut bytes)?;
    same_bytes("start of the window", &bytes, &[0; 64])
}

fn v1_03_an_access_past_the_region_is_refused(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let region = device.migration.region();
    let end = region.size();
    for (offset, len) in [
        (end, 1),
        (end, 8),
        (end - 1, 2),
        (end - 4, 8),
        (end - 4096, 4097),
        (end + 4096, 8),
        (1 << 32, 8),
        ((1 << 40) - 1, 1),
    ] {
        refused(
            format_args!("read of {len} at {offset:#x}"),
            region.read(offset, &mut vec![0; len]),
            Errno::INVAL,
        )?;
        refused(
            format_args!("write of {len} at {offset:#x}"),
            region.write(offset, &vec![0; len]),
            Errno::INVAL,
        )?;
    }
    Ok(())
}

fn v1_03_an_access_to_a_bad_address_changes_nothing(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let region = device.migration.region();
    for (offset, len) in FIELDS {
        refused(
            format_args!("read of {len} at {offset} to nowhere"),
            region.read_nowhere(offset, len),
            Errno::FAULT,
        )?;
    }
    refused(
        "device_state from nowhere",
        region.write_nowhere(DEVICE_STATE, 4),
        Errno::FAULT,
    )?;
    device.expect(State::RUNNING)?;
    let window = device.migration.window().offset;
    refused(
        "data to nowhere",
        region.read_nowhere(window, 4096),
        Errno::FAULT,
    )?;
    refused(
        "data from nowhere",
        region.write_nowhere(window, 4096),
        Errno::FAULT,
    )?;
    device.set(State::RESUMING)?;
    refused(
        "data_size from nowhere",
        region.write_nowhere(DATA_SIZE, 8),
        Errno::FAULT,
    )?;
    device.expect(State::RESUMING)
}

fn v1_03_an_access_of_no_bytes_changes_nothing(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.set(State::STOP_COPY)?;
    device.migration.pending()?;
    let before = device.migration.presented()?;
    let region = device.migration.region();
    for offset in [0, 1, 8, 16, 24, 32, 4096, region.size()] {
        region.read(offset, &mut [])?;
        region.write(offset, &[])?;
    }
    device.expect(State::STOP_COPY)?;
    same("the presented chunk", device.migration.presented()?, before)
}

fn v1_04_reserved_reads_zero_and_takes_any_write(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let region = device.migration.region();
    for state in [
        State::RUNNING,
        State::STOP,
        State::STOP_COPY,
        State::PRE_COPY,
        State::RESUMING,
    ] {
        device.set(state)?;
        for value in [u32::MAX, 1, 0x8000_0004, 0] {
            region.write(RESERVED, &value.to_ne_bytes())?;
            same(
                format_args!("{state}: reserved after {value:#x}"),
                region.read_u32(RESERVED)?,
                0,
            )?;
        }
        device.expect(state)?;
    }
    Ok(())
}

fn v1_05_pending_bytes_and_data_offset_are_read_only(target: &Target) -> Outcome {
    for state in State::VALID {
        let device = TestDevice::new(target)?;
        device.set(state)?;
        let region = device.migration.region();
        for (field, name) in [
            (PENDING_BYTES, "pending_bytes"),
            (DATA_OFFSET, "data_offset"),
        ] {
            for value in [0u64, 1, 4096, u64::MAX] {
                one_of(
                    format_args!("{state}: write of {value} to {name}"),
                    region.write(field, &value.to_ne_bytes()),
                    &[Errno::PERM, Errno::INVAL],
                )?;
            }
        }
        device.expect(state)?;
        if state.is_saving() {
            let pending = device.migration.pending()?;
            let presented = device.migration.presented()?;
            denied(
                "write of pending_bytes",
                region.write(PENDING_BYTES, &[0; 8]),
            )?;
            denied("write of data_offset", region.write(DATA_OFFSET, &[0; 8]))?;
            same(
                format_args!("{state}: the presented chunk"),
                device.migration.presented()?,
                presented.clone(),
            )?;
            let left = device.migration.pending()?;
            holds(
                left < pending || pending == 0,
                format_args!("{state}: expected less than {pending} pending, seen {left}"),
            )?;
        } else {
            same(
                format_args!("{state}: pending_bytes"),
                device.migration.pending()?,
                0,
            )?;
        }
    }
    Ok(())
}

fn v1_06_two_threads_never_see_half_a_state_change(target: &Target) -> Outcome {
    const ROUNDS: usize = 300;
    let device = TestDevice::new(target)?;
    let migration = &device.migration;
    let cycle = |states: &[State]| -> Outcome {
        for _ in 0..ROUNDS {
            for state in states {
                migration.set_state(*state)?;
                let seen = migration.state()?;
                holds(
                    State::VALID.contains(&seen),
                    format_args!("expected a valid device_state, seen {seen}"),
                )?;
            }
        }
        Ok(())
    };
    let poll = || -> Outcome {
        for _ in 0..ROUNDS {
            let pending = migration.pending()?;
            migration.data_offset()?;
            let size = migration.data_size()?;
            let most = device.migration.region().size();
            holds(
                size <= most && pending <= most,
                format_args!("expected sizes up to {most}, seen {pending} and {size}"),
            )?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads = [
            scope.spawn(|| cycle(&[State::STOP, State::RUNNING])),
            scope.spawn(|| cycle(&[State::STOP_COPY, State::PRE_COPY, State::STOP])),
            scope.spawn(poll),
        ];
        threads.into_iter().try_for_each(joined)
    })?;
    device.set(State::RUNNING)?;
    let image = device.image()?;
    same_bytes("a second image of the state", &device.image()?, &image)
}

fn v1_06_a_polling_thread_does_not_disturb_a_save(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(6)?;
    let expected = device.image()?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let poll = scope.spawn(|| -> Outcome {
            while !done.load(Ordering::Relaxed) {
                device.migration.state()?;
                device.migration.region().read_u32(RESERVED)?;
            }
            Ok(())
        });
        let save = || -> Outcome {
            for _ in 0..50 {
                same_bytes("image while polled", &device.image()?, &expected)?;
            }
            Ok(())
        };
        let saved = save();
        done.store(true, Ordering::Relaxed);
        saved.and(joined(poll))
    })
}

fn v1_06_header_data_and_reset_from_many_threads(target: &Target) -> Outcome {
    const ROUNDS: usize = 400;
    let good = good_stream(target, 66)?.bytes();
    let device = TestDevice::new(target)?;
    let mapping = device.migration.map_window()?;
    // A refusal is fine here, since the threads pull in different directions; the machine has to
    // survive it, and the device has to be usable afterwards.
    let header = |seed: u64| {
        let mut random = Random::new(seed);
        for _ in 0..ROUNDS {
            let state = State::VALID[random.below(State::VALID.len())];
            let _ = match random.below(6) {
                0 | 1 => device.migration.set_state(state),
                2 => device.migration.pending().map(drop),
                3 => device.migration.data_offset().map(drop),
                4 => device.migration.set_data_size(random.below(8192) as u64),
                _ => device.migration.feed_chunk(&good),
            };
        }
    };
    let data = |seed: u64| {
        let mut random = Random::new(seed);
        for _ in 0..ROUNDS {
            let at = random.below(mapping.len() - 64);
            mapping.write(at, &random.bytes(64));
            let mut bytes = [0; 64];
            let _ = device
                .migration
                .read_data(device.migration.window().offset, &mut bytes);
        }
    };
    let reset = || {
        for _ in 0..ROUNDS {
            let _ = device.vfio().reset();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| header(1));
        scope.spawn(|| header(2));
        scope.spawn(|| data(3));
        scope.spawn(reset);
    });
    device.reset()?;
    device.resume(&good)?;
    device.expect_filled(66)
}

fn v1_07_errors_are_reported_while_the_window_is_mapped(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let mapping = device.migration.map_window()?;
    mapping.write(0, b"mapped");
    let region = device.migration.region();
    for state in State::INVALID {
        refused(
            format_args!("write of {state}"),
            device.migration.set_state(state),
            Errno::INVAL,
        )?;
    }
    refused("read of 2 at 0", region.read(0, &mut [0; 2]), Errno::INVAL)?;
    denied(
        "write of pending_bytes",
        region.write(PENDING_BYTES, &[0; 8]),
    )?;
    refused(
        "read past the end",
        region.read(region.size() - 4, &mut [0; 8]),
        Errno::INVAL,
    )?;
    device.set(State::RESUMING)?;
    refused(
        "data_size beyond the window",
        device
            .migration
            .set_data_size(device.migration.window().size + 1),
        Errno::MSGSIZE,
    )?;
    mapping.write(0, &[0xff; 64]);
    refused(
        "64 bytes of 0xff",
        device.migration.set_data_size(64),
        Errno::BADMSG,
    )
}

fn v1_08_the_data_section_is_page_aligned_and_past_the_header(target: &Target) -> Outcome {
    let page = rustix::param::page_size() as u64;
    for window in WINDOWS {
        let device = TestDevice::with_window(target, window)?;
        for state in [State::STOP_COPY, State::PRE_COPY, State::RESUMING] {
            device.set(state)?;
            let offset = device.migration.data_offset()?;
            holds(
                offset >= HEADER_SIZE && offset.is_multiple_of(page),
                format_args!("{state}: expected a page past the header, seen {offset:#x}"),
            )?;
        }
    }
    Ok(())
}

fn v1_09_the_sparse_capability_names_the_window_alone(target: &Target) -> Outcome {
    for window in WINDOWS {
        let device = TestDevice::with_window(target, window)?;
        let info = device.migration.region().info().clone();
        let flags = vfio::VFIO_REGION_INFO_FLAG_READ
            | vfio::VFIO_REGION_INFO_FLAG_WRITE
            | vfio::VFIO_REGION_INFO_FLAG_MMAP
            | vfio::VFIO_REGION_INFO_FLAG_CAPS;
        same("flags", info.flags, flags)?;
        let area = Area {
            offset: 4096,
            size: window,
        };
        same("areas that can be mapped", info.sparse, Some(vec![area]))?;
        same("size of the region", info.size, 4096 + window)?;
    }
    Ok(())
}

fn v1_09_nothing_but_the_window_can_be_mapped(target: &Target) -> Outcome {
    const PAGE: usize = 4096;
    let device = TestDevice::with_window(target, 4 * 4096)?;
    let region = device.migration.region();
    let window = device.migration.window();
    let size = window.size as usize;
    for (offset, len) in [
        (0, PAGE),
        (0, PAGE + size),
        (0, 2 * PAGE),
        (window.offset, size + PAGE),
        (window.offset + window.size - 4096, 2 * PAGE),
        (window.offset + window.size, PAGE),
        (window.offset + (1 << 30), PAGE),
        ((1 << 40) - 4096, PAGE),
        ((1 << 40) - 4096, 2 * PAGE),
    ] {
        denied(
            format_args!("mmap of {len} bytes at {offset:#x}"),
            region.map(offset, len),
        )?;
    }
    for other in device.vfio().regions()? {
        let info = other.info();
        // The registers of a real function can be mapped, those of an emulated one cannot.
        let may_map =
            !target.kind.is_emulated() && info.flags & vfio::VFIO_REGION_INFO_FLAG_MMAP != 0;
        if info.index < vfio::VFIO_PCI_NUM_REGIONS && !may_map {
            denied(
                format_args!("mmap of region {}", info.index),
                other.map(0, PAGE),
            )?;
        }
    }
    // Offsets in the file that belong to no region at all.
    for offset in [1u64 << 50, 1 << 62, (1 << 63) - 4096] {
        let mapped = Mapping::new(device.vfio(), offset, PAGE);
        holds(
            mapped.is_err(),
            format_args!("mmap at file offset {offset:#x}: expected a refusal, seen success"),
        )?;
    }
    Ok(())
}

fn v1_09_a_mapping_cannot_grow(target: &Target) -> Outcome {
    let device = TestDevice::with_window(target, 4 * 4096)?;
    let region = device.migration.region();
    let mut mapping = region.map(device.migration.window().offset, 2 * 4096)?;
    bare(
        "mremap to four times the size",
        mapping.resize(8 * 4096),
        Errno::FAULT,
    )
}

fn v1_09_a_private_or_executable_mapping_is_refused(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let region = device.migration.region().info().offset;
    let at = region + device.migration.window().offset;
    let read_write = ProtFlags::READ | ProtFlags::WRITE;
    // A private mapping's stores would go to a copy, and the driver would never see them.
    for (what, protection, flags) in [
        ("private", read_write, MapFlags::PRIVATE),
        ("executable", read_write | ProtFlags::EXEC, MapFlags::SHARED),
    ] {
        let mapped = Mapping::with(device.vfio(), at, 4096, protection, flags);
        holds(
            mapped.is_err(),
            format_args!("a mapping that is {what}: expected a refusal, seen success"),
        )?;
    }
    Ok(())
}

fn v1_09_a_part_of_the_window_can_be_mapped(target: &Target) -> Outcome {
    let device = TestDevice::with_window(target, 4 * 4096)?;
    let region = device.migration.region();
    let window = device.migration.window().offset;
    let parts = [(0, 1), (1, 2), (3, 1)];
    for (page, pages) in parts {
        let at = window + page * 4096;
        let mapping = region.map(at, pages * 4096)?;
        mapping.write(pages * 4096 - 8, &[page as u8 + 1; 8]);
        let mut bytes = [0; 8];
        region.read(at + pages as u64 * 4096 - 8, &mut bytes)?;
        same_bytes(
            format_args!("{pages} pages from page {page}"),
            &bytes,
            &[page as u8 + 1; 8],
        )?;
    }
    Ok(())
}

fn v1_10_data_moves_by_read_and_write_with_and_without_a_mapping(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let window = device.migration.window();
    let region = device.migration.region();
    let mut random = Random::new(10);
    let len = window.size as usize;
    let written = random.bytes(len);
    region.write(window.offset, &written)?;
    let mut seen = vec![0; len];
    region.read(window.offset, &mut seen)?;
    same_bytes("read of what was written", &seen, &written)?;

    let mapping = device.migration.map_window()?;
    mapping.read(0, &mut seen);
    same_bytes("mapping of what was written", &seen, &written)?;
    let stored = random.bytes(len);
    mapping.write(0, &stored);
    region.read(window.offset, &mut seen)?;
    same_bytes("read of what was stored", &seen, &stored)?;
    region.write(window.offset + 4093, &written[..9])?;
    mapping.read(4093, &mut seen[..9]);
    same_bytes("mapping of a write across pages", &seen[..9], &written[..9])
}

fn v1_10_a_migration_by_read_and_write_alone(target: &Target) -> Outcome {
    migrate(target, false, false)
}

fn v1_10_a_migration_through_the_mapping(target: &Target) -> Outcome {
    migrate(target, true, true)?;
    migrate(target, true, false)?;
    migrate(target, false, true)
}

fn migrate(target: &Target, map_source: bool, map_destination: bool) -> Outcome {
    let mut source = TestDevice::new(target)?;
    if map_source {
        source.migration.map()?;
    }
    source.fill(10)?;
    let stream = source.save()?;
    let mut destination = TestDevice::new(target)?;
    if map_destination {
        destination.migration.map()?;
    }
    destination.resume(&stream)?;
    same_bytes(
        "image of the destination",
        &destination.image()?,
        &image(&stream)?,
    )?;
    destination.expect_filled(10)
}

/// Cuts an access into what QEMU's memory core makes of it: the widest pieces that the absolute
/// offset's alignment allows.
fn pieces(mut offset: u64, mut len: usize) -> Vec<(u64, usize)> {
    let mut pieces = Vec::new();
    while len > 0 {
        let width = [8, 4, 2, 1]
            .into_iter()
            .find(|width| *width <= len && offset.is_multiple_of(*width as u64))
            .unwrap_or(1);
        pieces.push((offset, width));
        offset += width as u64;
        len -= width;
    }
    pieces
}

fn v1_11_data_accesses_of_every_width_and_alignment(target: &Target) -> Outcome {
    let device = TestDevice::with_window(target, 4096)?;
    let region = device.migration.region();
    let window = device.migration.window();
    let mut expected = vec![0; window.size as usize];
    let mut random = Random::new(11);
    let ends = [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 4000, 4087, 4088, 4090, 4091, 4092, 4094, 4095,
    ];
    for at in ends {
        for width in [1, 2, 4, 8, 3, 5, 7, 16, 31] {
            if at + width > expected.len() {
                continue;
            }
            let bytes = random.bytes(width);
            region.write(window.offset + at as u64, &bytes)?;
            expected[at..at + width].copy_from_slice(&bytes);
            let mut seen = vec![0; width];
            region.read(window.offset + at as u64, &mut seen)?;
            same_bytes(format_args!("{width} bytes at {at}"), &seen, &bytes)?;
        }
    }
    let mut seen = vec![0; expected.len()];
    region.read(window.offset, &mut seen)?;
    same_bytes("the whole window", &seen, &expected)
}

fn v1_11_a_migration_in_the_pieces_that_qemu_makes(target: &Target) -> Outcome {
    let source = TestDevice::new(target)?;
    source.fill(11)?;
    source.set(State::STOP_COPY)?;
    let mut stream = Vec::new();
    while source.migration.pending()? != 0 {
        let offset = source.migration.data_offset()?;
        let size = source.migration.data_size()? as usize;
        for (at, width) in pieces(offset, size) {
            let mut bytes = vec![0; width];
            source.migration.region().read(at, &mut bytes)?;
            stream.extend(bytes);
        }
    }
    let destination = TestDevice::new(target)?;
    destination.set(State::RESUMING)?;
    let offset = destination.migration.data_offset()?;
    // An odd size, so that every chunk ends with each of the widths.
    for chunk in stream.chunks(255) {
        let mut rest = chunk;
        for (at, width) in pieces(offset, chunk.len()) {
            let (piece, others) = rest.split_at(width);
            destination.migration.region().write(at, piece)?;
            rest = others;
        }
        destination.migration.data_offset()?;
        destination.migration.set_data_size(chunk.len() as u64)?;
    }
    destination.set(State::RUNNING)?;
    destination.expect_filled(11)
}

fn v1_12_every_chunk_is_inside_the_region(target: &Target) -> Outcome {
    for window in WINDOWS {
        let device = TestDevice::with_window(target, window)?;
        device.fill(12)?;
        let size = device.migration.region().size();
        for state in [State::PRE_COPY, State::STOP_COPY] {
            device.set(state)?;
            while device.migration.pending()? != 0 {
                let at = device.migration.data_offset()?;
                let len = device.migration.data_size()?;
                let end = at.checked_add(len);
                holds(
                    end.is_some_and(|end| end <= size) && len < 1 << 31,
                    format_args!("{state}: {len} bytes at {at:#x} of a region of {size}"),
                )?;
                holds(len > 0, format_args!("{state}: an empty chunk"))?;
            }
            let (at, len) = (
                device.migration.data_offset()?,
                device.migration.data_size()?,
            );
            holds(
                at.checked_add(len).is_some_and(|end| end <= size),
                format_args!("{state}, at the end: {len} bytes at {at:#x} of {size}"),
            )?;
        }
    }
    Ok(())
}

fn v1_13_data_offset_is_the_start_of_the_mappable_area(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let expected = device.migration.window().offset;
    for state in [State::PRE_COPY, State::STOP_COPY] {
        device.set(state)?;
        while let Some(chunk) = device.migration.next_chunk()? {
            same(format_args!("{state}: data_offset"), chunk.offset, expected)?;
        }
    }
    device.set(State::RESUMING)?;
    same(
        "RESUMING: data_offset",
        device.migration.data_offset()?,
        expected,
    )
}

fn v1_14_stores_by_a_second_thread_during_data_size_write(target: &Target) -> Outcome {
    const ROUNDS: usize = 150;
    let good = good_stream(target, 14)?.bytes();
    let device = TestDevice::new(target)?;
    let mapping = device.migration.map_window()?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let scribble = scope.spawn(|| {
            let mut random = Random::new(14);
            while !done.load(Ordering::Relaxed) {
                mapping.flip(random.below(good.len()), 1 << random.below(8));
            }
        });
        let resume = || -> Outcome {
            for round in 0..ROUNDS {
                device.set(State::RESUMING)?;
                mapping.write(0, &good);
                match device.migration.set_data_size(good.len() as u64) {
                    // The copy was taken at a lucky moment. What was validated is what arrives.
                    Ok(()) => {
                        device.set(State::RUNNING)?;
                        device.expect_filled(14)?;
                    }
                    Err(error) => {
                        let known = [
                            Errno::BADMSG,
                            Errno::PROTONOSUPPORT,
                            Errno::NODEV,
                            Errno::XDEV,
                            Errno::INVAL,
                        ];
                        holds(
                            error.errno().is_some_and(|errno| known.contains(&errno)),
                            format_args!("round {round}: expected a refusal, seen {error}"),
                        )?;
                        device.expect(State::RESUMING)?;
                    }
                }
                device.reset()?;
            }
            Ok(())
        };
        let resumed = resume();
        done.store(true, Ordering::Relaxed);
        scribble
            .join()
            .map_err(|_| Stop::failed("the scribbling thread panicked"))?;
        resumed
    })?;
    device.resume(&good)?;
    device.expect_filled(14)
}

fn v1_14_stores_after_a_chunk_was_consumed_change_nothing(target: &Target) -> Outcome {
    let good = good_stream(target, 41)?.bytes();
    let device = TestDevice::new(target)?;
    let mapping = device.migration.map_window()?;
    device.set(State::RESUMING)?;
    for chunk in good.chunks(100) {
        device.migration.data_offset()?;
        mapping.write(0, chunk);
        device.migration.set_data_size(chunk.len() as u64)?;
        mapping.write(0, &[0xee; 200]);
    }
    device.set(State::RUNNING)?;
    mapping.write(0, &vec![0xee; mapping.len()]);
    device.expect_filled(41)
}

fn v1_14_stores_while_saving_do_not_reach_the_device(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(24)?;
    let expected = device.image()?;
    let mapping = device.migration.map_window()?;
    for state in [State::PRE_COPY, State::STOP_COPY] {
        device.set(state)?;
        device.migration.pending()?;
        device.migration.data_offset()?;
        mapping.write(0, &vec![0xdd; mapping.len()]);
        device.migration.pending()?;
        device.migration.data_offset()?;
        mapping.write(0, &vec![0xdd; mapping.len()]);
        device.set(State::RUNNING)?;
        same_bytes(
            format_args!("image after stores in {state}"),
            &device.image()?,
            &expected,
        )?;
    }
    device.expect_filled(24)
}

/// Checks that a window is all zeros, by reads and by a mapping.
#[track_caller]
fn expect_empty(device: &TestDevice, what: &str) -> Outcome {
    let window = device.migration.window();
    let mut bytes = vec![0xff; window.size as usize];
    let empty = vec![0; bytes.len()];
    device.migration.region().read(window.offset, &mut bytes)?;
    same_bytes(format_args!("{what}, read"), &bytes, &empty)?;
    device.migration.map_window()?.read(0, &mut bytes);
    same_bytes(format_args!("{what}, mapped"), &bytes, &empty)
}

fn v1_15_a_first_open_shows_an_empty_window(target: &Target) -> Outcome {
    for window in WINDOWS {
        let device = TestDevice::with_window(target, window)?;
        expect_empty(&device, &format!("a window of {window}"))?;
    }
    Ok(())
}

fn v1_15_the_window_is_empty_after_reopen(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let mapping = device.migration.map_window()?;
    mapping.write(0, &vec![0x5a; mapping.len()]);
    drop(mapping);
    let device = device.reopen()?;
    expect_empty(&device, "after a window full of 0x5a")?;
    device.save()?;
    let device = device.reopen()?;
    expect_empty(&device, "after a save")
}

fn v1_15_the_window_is_empty_after_reset(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(15)?;
    device.save()?;
    device.reset()?;
    expect_empty(&device, "after a save and a reset")
}

fn v1_15_two_devices_do_not_share_a_window(target: &Target) -> Outcome {
    let one = TestDevice::new(target)?;
    let other = TestDevice::new(target)?;
    let mapping = one.migration.map_window()?;
    mapping.write(0, &vec![0x11; mapping.len()]);
    expect_empty(&other, "the other device's window")?;
    one.fill(1)?;
    other.fill(2)?;
    one.set(State::STOP_COPY)?;
    other.set(State::STOP_COPY)?;
    one.migration.pending()?;
    other.migration.pending()?;
    let (_, first) = one.migration.presented()?;
    let (_, second) = other.migration.presented()?;
    differs("streams of different devices", &first, &second)?;
    same_bytes(
        "a second look at the first",
        &one.migration.presented()?.1,
        &first,
    )?;
    // The bytes behind the chunk are the user's own, or zeros.
    let mut behind = vec![0; mapping.len() - first.len()];
    mapping.read(first.len(), &mut behind);
    let strange = behind.iter().position(|byte| !matches!(byte, 0 | 0x11));
    same("a byte behind the chunk that is nobody's", strange, None)
}

/// Waits for a thread and takes its outcome.
pub fn joined(thread: thread::ScopedJoinHandle<'_, Outcome>) -> Outcome {
    thread
        .join()
        .unwrap_or_else(|_| Err(Stop::failed("a thread panicked")))
}
