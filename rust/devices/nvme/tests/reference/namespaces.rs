// SPDX-License-Identifier: GPL-2.0

//! Several namespaces, section 6.1: each has its own size, format and store.

use device_model_rig as rig;
use device_model_rig::Whole;
use nvme::{
    Controller,
    DeviceModel,
    NamespaceParameters,
    Parameters,
    CONFIGURATION_MAX,
    NAMESPACES_MAX, //
};

use crate::bench::{
    from_state,
    parameters, //
};
use crate::disk::{
    Disk,
    Trouble, //
};
use crate::driver::{
    pattern,
    Driver,
    Setup,
    Sqe, //
};
use crate::spec::*;

const RAM: u8 = nvme::STORE_ZEROING;
const FILE: u8 = RAM + 1;

fn namespace(capacity: u64, lba_shift: u8, store: u8) -> Option<NamespaceParameters> {
    Some(NamespaceParameters {
        capacity,
        lba_shift,
        store,
    })
}

/// A controller with three namespaces, whose first one has 1 MiB in memory.
fn three(second: u8) -> Parameters {
    Parameters {
        others: [
            namespace(40 << 20, 12, second),
            namespace(2 << 20, 9, RAM),
            None,
        ],
        ..parameters(9)
    }
}

fn ready(parameters: Parameters) -> Driver {
    let mut driver = Driver::with_parameters(Setup::default(), parameters);
    driver.create_queues(1, 16);
    driver
}

fn disk(driver: &mut Driver, nsid: u32) -> &mut Disk {
    match nsid {
        1 => &mut driver.bench.disk,
        _ => &mut driver.bench.more[nsid as usize - 2],
    }
}

#[track_caller]
fn write(driver: &mut Driver, nsid: u32, start: u64, bytes: &[u8]) {
    let count = bytes.len() / disk(driver, nsid).block;
    let buffer = driver.filled(bytes, 0);
    let sqe = Sqe::new(CMD_WRITE).nsid(nsid).data(&buffer);
    driver.good(1, sqe.blocks(start, count as u32));
    driver.free(&buffer);
}

#[track_caller]
fn read(driver: &mut Driver, nsid: u32, start: u64, count: usize) -> Vec<u8> {
    let length = count * disk(driver, nsid).block;
    let buffer = driver.buffer(length, 0);
    let sqe = Sqe::new(CMD_READ).nsid(nsid).data(&buffer);
    driver.good(1, sqe.blocks(start, count as u32));
    let bytes = driver.content(&buffer);
    driver.free(&buffer);
    bytes
}

fn u64_at(data: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(data[at..at + 8].try_into().expect("eight bytes"))
}

#[test]
fn each_namespace_is_described_by_itself() {
    let parameters = three(FILE);
    let mut driver = ready(parameters);
    let controller = driver.identify(CNS_CTRL, 0);
    assert_eq!(controller[516..520], [3, 0, 0, 0], "NN");
    let mut names = Vec::new();
    for (nsid, namespace) in (1..).zip(parameters.namespaces()) {
        let data = driver.identify(CNS_NS, nsid);
        let blocks = namespace.capacity >> namespace.lba_shift;
        assert_eq!(u64_at(&data, 0), blocks, "NSZE of namespace {nsid}");
        let format = usize::from(data[26]);
        assert_eq!(data[128 + 4 * format + 2], namespace.lba_shift, "LBADS");
        let in_memory = namespace.store == RAM;
        assert_eq!(data[33] & 7, in_memory.into(), "DLFEAT");
        assert_eq!(data[24] & NSFEAT_NSABP != 0, in_memory, "NSABP");
        names.push(driver.identify(CNS_NS_DESC_LIST, nsid)[..24].to_vec());
    }
    for (at, name) in names.iter().enumerate() {
        assert!(!names[..at].contains(name), "the UUID {at} is another one");
    }
    // What a guest knew before there were others stays.
    let mut single = ready(crate::bench::parameters(9));
    assert_eq!(single.identify(CNS_NS_DESC_LIST, 1)[..24], names[0]);

    for after in 0..4 {
        let list = driver.identify(CNS_NS_ACTIVE_LIST, after);
        let mut expected = vec![0; PAGE];
        for (index, nsid) in (after + 1..=3).enumerate() {
            expected[index * 4] = nsid as u8;
        }
        assert_eq!(list, expected, "the namespaces after {after}");
    }
    // One store that is no memory is enough for these.
    assert_ne!(controller[84..88], [0; 4], "RTD3 resume latency");
    let oncs = u16::from(controller[520]);
    assert_eq!(oncs & ONCS_WRITE_UNCOR, 0, "ONCS {oncs:#x}");
}

#[test]
fn each_namespace_has_its_own_content_and_end() {
    let parameters = three(FILE);
    let mut driver = ready(parameters);
    for nsid in 1..=3 {
        write(&mut driver, nsid, 2, &pattern(nsid as u8, 8192));
    }
    for (nsid, namespace) in (1..).zip(parameters.namespaces()) {
        let count = 8192 >> namespace.lba_shift;
        let seen = read(&mut driver, nsid, 2, count);
        assert_eq!(seen, pattern(nsid as u8, 8192), "namespace {nsid}");
        let at = 2 << namespace.lba_shift;
        let bytes = &disk(&mut driver, nsid).bytes[at..at + 8192];
        assert_eq!(bytes, pattern(nsid as u8, 8192), "its store");

        let end = namespace.capacity >> namespace.lba_shift;
        let last = pattern(9, 1 << namespace.lba_shift);
        write(&mut driver, nsid, end - 1, &last);
        assert_eq!(read(&mut driver, nsid, end - 1, 1), last);
        let buffer = driver.buffer(8192, 0);
        for opcode in [
            CMD_READ,
            CMD_WRITE,
            CMD_COMPARE,
            CMD_WRITE_ZEROES,
            CMD_VERIFY,
        ] {
            let sqe = Sqe::new(opcode).nsid(nsid).data(&buffer);
            driver.bad(1, sqe.blocks(end - 1, 2), &[LBA_RANGE]);
        }
    }
    // Deallocation and zeros are of one namespace.
    let mut range = vec![0; 16];
    range[4] = 1;
    range[8] = 2;
    let ranges = driver.filled(&range, 0);
    let dsm = Sqe::new(CMD_DSM).nsid(2).data(&ranges);
    driver.good(1, dsm.dword(11, DSM_AD));
    let zeroes = Sqe::new(CMD_WRITE_ZEROES).nsid(3).blocks(2, 1);
    driver.good(1, zeroes);
    assert_eq!(read(&mut driver, 1, 2, 1), pattern(1, 8192)[..512]);
    assert_eq!(read(&mut driver, 2, 2, 1), [0; 4096]);
    assert_eq!(read(&mut driver, 3, 2, 1), [0; 512]);
}

#[test]
fn only_namespaces_that_are_there_have_commands() {
    let mut driver = ready(three(FILE));
    let buffer = driver.buffer(4096, 0);
    for nsid in [0, 4, 5, 0x8000_0001, 0xffff_fffe] {
        for opcode in [
            CMD_FLUSH,
            CMD_READ,
            CMD_WRITE,
            CMD_COMPARE,
            CMD_WRITE_ZEROES,
            CMD_DSM,
            CMD_VERIFY,
        ] {
            let sqe = Sqe::new(opcode).nsid(nsid).data(&buffer).blocks(0, 1);
            driver.bad(1, sqe, &[INVALID_NS]);
        }
        for cns in [CNS_NS, CNS_NS_DESC_LIST] {
            let sqe = Sqe::new(ADMIN_IDENTIFY).nsid(nsid).data(&buffer);
            driver.bad(0, sqe.dword(10, cns), &[INVALID_NS]);
        }
        driver.bad(0, Sqe::new(ADMIN_FORMAT).nsid(nsid), &[INVALID_NS]);
    }
    // A namespace has no part of a feature of the controller.
    let get = Sqe::new(ADMIN_GET_FEATURES).dword(10, FEAT_ERR_RECOVERY.into());
    for nsid in [0, 4, NSID_ALL] {
        driver.bad(0, get.nsid(nsid), &[INVALID_NS]);
    }
    let set = Sqe::new(ADMIN_SET_FEATURES).dword(10, FEAT_VOLATILE_WC.into());
    driver.bad(0, set.nsid(2), &[FEATURE_NOT_PER_NS]);
}

#[test]
fn a_flush_is_of_one_namespace_or_of_all() {
    let mut driver = ready(three(FILE));
    let write_all = |driver: &mut Driver| {
        for nsid in 1..=3 {
            write(driver, nsid, 0, &pattern(1, 4096));
        }
    };
    let dirty = |driver: &mut Driver| [1, 2, 3].map(|nsid| disk(driver, nsid).unflushed != 0);
    write_all(&mut driver);
    driver.good(1, Sqe::new(CMD_FLUSH).nsid(2));
    assert_eq!(
        dirty(&mut driver),
        [true, false, true],
        "namespace 2 is flushed"
    );
    driver.good(1, Sqe::new(CMD_FLUSH).nsid(NSID_ALL));
    assert_eq!(dirty(&mut driver), [false; 3], "all are flushed");

    write_all(&mut driver);
    let wcd = Sqe::new(ADMIN_SET_FEATURES).dword(10, FEAT_VOLATILE_WC.into());
    driver.good(0, wcd.dword(11, 0));
    assert_eq!(
        dirty(&mut driver),
        [false; 3],
        "without the cache all is safe"
    );
    driver.good(0, wcd.dword(11, 1));

    // One that fails does not keep the others from it.
    write_all(&mut driver);
    disk(&mut driver, 2).trouble = Some(Trouble::Medium);
    driver.bad(1, Sqe::new(CMD_FLUSH).nsid(NSID_ALL), &[WRITE_FAULT]);
    driver.bad(1, Sqe::new(CMD_FLUSH).nsid(2), &[WRITE_FAULT]);
    assert_eq!(
        dirty(&mut driver),
        [false, true, false],
        "only 2 has failed"
    );
    disk(&mut driver, 2).trouble = None;

    write_all(&mut driver);
    driver.bench.write32(REG_CC, CC_USUAL | 1 << 14);
    driver.bench.settle();
    assert_eq!(
        dirty(&mut driver),
        [false; 3],
        "a shutdown has everything written"
    );
}

#[test]
fn each_namespace_has_its_own_marks() {
    let mut driver = ready(three(RAM));
    for nsid in 1..=3 {
        write(&mut driver, nsid, 0, &pattern(1, 8192));
    }
    driver.good(1, Sqe::new(CMD_WRITE_UNCOR).nsid(3).blocks(1, 1));
    driver.good(1, Sqe::new(CMD_WRITE_UNCOR).nsid(2).blocks(0, 1));
    driver.bench.relocate();
    let buffer = driver.buffer(4096, 0);
    for (nsid, block, status) in [
        (1, 0, SUCCESS),
        (1, 1, SUCCESS),
        (2, 0, READ_ERROR),
        (2, 1, SUCCESS),
        (3, 0, SUCCESS),
        (3, 1, READ_ERROR),
    ] {
        let sqe = Sqe::new(CMD_VERIFY).nsid(nsid).data(&buffer);
        let seen = driver.call(1, sqe.blocks(block, 1)).status;
        assert_eq!(seen, status, "block {block} of namespace {nsid}");
    }
}

#[test]
fn each_namespace_has_its_own_error_recovery_which_moves() {
    let mut driver = ready(three(FILE));
    let set = |nsid, value| {
        Sqe::new(ADMIN_SET_FEATURES)
            .nsid(nsid)
            .dword(10, FEAT_ERR_RECOVERY.into())
            .dword(11, value)
    };
    let get = Sqe::new(ADMIN_GET_FEATURES).dword(10, FEAT_ERR_RECOVERY.into());
    let values = |driver: &mut Driver| [1, 2, 3].map(|nsid| driver.call(0, get.nsid(nsid)).result);
    driver.good(0, set(NSID_ALL, 7));
    assert_eq!(values(&mut driver), [7, 7, 7]);
    driver.good(0, set(2, 0x1234));
    driver.bench.relocate();
    assert_eq!(values(&mut driver), [7, 0x1234, 7]);
    driver.reset();
    driver.enable();
    assert_eq!(values(&mut driver), [0, 0, 0], "after a reset");
}

#[test]
fn a_format_is_of_one_namespace_and_the_others_go_on() {
    let mut driver = ready(three(RAM));
    for nsid in 1..=3 {
        write(&mut driver, nsid, 0, &pattern(1, 8192));
    }
    let cid = driver.submit(0, Sqe::new(ADMIN_FORMAT).nsid(2).dword(10, 1));
    driver.step(7);
    let buffer = driver.buffer(4096, 0);
    let verify = Sqe::new(CMD_VERIFY).data(&buffer).blocks(0, 1);
    let commands = [
        (driver.enqueue(1, verify.nsid(1)), SUCCESS),
        (driver.enqueue(1, verify.nsid(2)), FORMAT_IN_PROGRESS),
        (driver.enqueue(1, verify.nsid(3)), SUCCESS),
        (
            driver.enqueue(1, Sqe::new(CMD_FLUSH).nsid(NSID_ALL)),
            FORMAT_IN_PROGRESS,
        ),
    ];
    driver.ring_sq(1);
    driver.step(7);
    // A flush has a round of its own.
    driver.step(7);
    for (cid, status) in commands {
        let seen = driver
            .take(1, cid)
            .expect("it does not wait for the format");
        assert_eq!(seen.status, status);
    }
    driver.pump();
    let seen = driver.take(0, cid).expect("the format completes");
    assert_eq!(seen.status, SUCCESS);
    assert_eq!(read(&mut driver, 1, 0, 16), pattern(1, 8192));
    assert_eq!(read(&mut driver, 3, 0, 16), pattern(1, 8192));
    assert!(disk(&mut driver, 2).bytes.iter().all(|&byte| byte == 0));
    let data = driver.identify(CNS_NS, 2);
    assert_eq!(
        (data[26], u64_at(&data, 0)),
        (1, 40 << 20 >> 9),
        "512-byte blocks"
    );
    let data = driver.identify(CNS_NS, 3);
    assert_eq!((data[26], u64_at(&data, 0)), (0, 2 << 20 >> 9), "as before");
}

#[test]
fn a_format_of_all_namespaces_goes_on_where_it_is_moved_to() {
    let format = Sqe::new(ADMIN_FORMAT).nsid(NSID_ALL).dword(10, 1);
    // A file has no other format, so nothing is done.
    let mut driver = ready(three(FILE));
    write(&mut driver, 1, 0, &pattern(1, 8192));
    driver.bad(0, format, &[INVALID_FORMAT]);
    assert_eq!(read(&mut driver, 1, 0, 16), pattern(1, 8192));
    driver.good(0, format.dword(10, 0));
    assert_eq!(read(&mut driver, 1, 0, 16), [0; 8192]);

    for round in 0..12 {
        let mut driver = ready(three(RAM));
        for nsid in 1..=3 {
            write(&mut driver, nsid, 0, &pattern(1, 8192));
        }
        driver.bench.move_before = Some(driver.bench.rounds + round);
        driver.good(0, format);
        for (nsid, shift) in [(1, 12), (2, 9), (3, 12)] {
            let data = driver.identify(CNS_NS, nsid);
            assert_eq!(
                data[128 + 4 * usize::from(data[26]) + 2],
                shift,
                "moved in {round}"
            );
            assert!(disk(&mut driver, nsid).bytes.iter().all(|&byte| byte == 0));
        }
    }
}

#[test]
fn moving_all_the_time_changes_nothing() {
    let run = |moving| {
        let mut driver = ready(three(FILE));
        driver.bench.moving = moving;
        for index in 0..20u64 {
            let nsid = index as u32 % 3 + 1;
            write(&mut driver, nsid, index, &pattern(index as u8, 4096));
        }
        driver.bad(1, Sqe::new(CMD_FLUSH).nsid(4), &[INVALID_NS]);
        let last = driver.log_page(LOG_ERROR, ERROR_ENTRY_SIZE, false);
        assert_eq!(last[24..28], [4, 0, 0, 0], "the namespace of the error");
        [1, 2, 3].map(|nsid| disk(&mut driver, nsid).bytes.clone())
    };
    assert!(run(false) == run(true));
}

/// The configuration that both ends of a migration have in common.
fn configuration(parameters: &Parameters) -> Vec<u8> {
    let controller = Controller::new(*parameters).expect("the parameters are good");
    let mut out = [0xff; CONFIGURATION_MAX];
    let size = controller.configuration(&mut out);
    out[..size].to_vec()
}

#[test]
fn the_configuration_tells_all_controllers_apart_and_is_as_it_was_with_one_namespace() {
    let mut single = vec![1, 9, RAM, 0, 16, 0, 0, 0];
    single.extend((1u64 << 20).to_le_bytes());
    assert_eq!(configuration(&parameters(9)), single);

    let mut double = vec![2, 2, 0, 0, 16, 0, 0, 0];
    for (shift, store, capacity) in [(9, RAM, 1u64 << 20), (12, FILE, 40 << 20)] {
        double.extend([shift, store, 0, 0]);
        double.extend(capacity.to_le_bytes());
    }
    let with = |others| Parameters {
        others,
        ..parameters(9)
    };
    let second = namespace(40 << 20, 12, FILE);
    assert_eq!(configuration(&with([second, None, None])), double);

    let all = [
        parameters(9),
        with([second, None, None]),
        with([namespace(40 << 20, 9, FILE), None, None]),
        with([namespace(40 << 20, 12, RAM), None, None]),
        with([namespace(41 << 20, 12, FILE), None, None]),
        with([second, second, None]),
        with([second, second, second]),
    ];
    for (at, one) in all.iter().enumerate() {
        for two in &all[..at] {
            assert_ne!(configuration(one), configuration(two), "{one:?}");
        }
    }
}

#[test]
fn namespaces_have_no_gaps_and_are_each_as_large_as_they_may_be() {
    let with = |others| {
        let parameters = Parameters {
            others,
            ..parameters(9)
        };
        Controller::new(parameters).map_err(|error| error.to_string())
    };
    let good = namespace(1 << 20, 9, RAM);
    assert!(with([good; NAMESPACES_MAX - 1]).is_ok());
    for (others, refused) in [
        (
            [None, good, None],
            "there is a namespace 3, but none before it",
        ),
        (
            [good, None, good],
            "there is a namespace 4, but none before it",
        ),
        (
            [None, None, good],
            "there is a namespace 4, but none before it",
        ),
    ] {
        assert_eq!(with(others).expect_err("there is a gap"), refused);
    }
    for bad in [
        namespace(0, 9, RAM),
        namespace((1 << 20) + 512, 9, RAM),
        namespace(nvme::CAPACITY_MAX + 4096, 9, RAM),
        namespace(1 << 20, 10, RAM),
    ] {
        assert!(with([good, bad, None]).is_err(), "{bad:?} is refused");
    }
    assert!(with([namespace(1 << 40, 9, FILE), None, None]).is_ok());
}

#[test]
fn a_controller_with_namespaces_passes_the_checks_of_every_model() {
    let parameters = three(RAM);
    let mut driver = ready(parameters);
    driver.good(1, Sqe::new(CMD_WRITE_UNCOR).nsid(2).blocks(0, 1));
    driver.good(0, Sqe::new(ADMIN_FORMAT).nsid(3).dword(10, 1));
    driver.submit(0, Sqe::new(ADMIN_FORMAT).nsid(2));
    driver.step(7);
    driver.bench.save();
    let controller = driver.bench.controller.clone();
    rig::check(&parameters, &controller);
    let new = Whole::power_on(&parameters).expect("the parameters are good");
    rig::check_load_replaces(&parameters, &controller, &new);
    rig::check_load_replaces(&parameters, &new, &controller);
    let accepted = rig::check_hostile(&parameters, &controller, &[0x01, 0x80], |loaded| {
        rig::check_room(&loaded);
    });
    assert!(accepted > 100, "only {accepted} states are accepted");

    // A controller without these namespaces cannot have the state.
    let state = driver.bench.save();
    assert!(from_state(&crate::bench::parameters(9), &state).is_err());
}
