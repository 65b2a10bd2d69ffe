// SPDX-License-Identifier: GPL-2.0

//! Get Log Page, section 5.14.

use crate::disk::Trouble;
use crate::driver::{
    log_page,
    Completion,
    Driver,
    Setup,
    Sqe, //
};
use crate::spec::*;

fn u64_at(data: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(data[at..at + 8].try_into().expect("eight bytes"))
}

fn u16_at(data: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([data[at], data[at + 1]])
}

#[test]
fn a_failed_command_is_in_the_error_log() {
    let mut driver = Driver::ready();
    let entries = usize::from(driver.identify(CNS_CTRL, 0)[262]) + 1;
    let empty = driver.log_page(LOG_ERROR, entries * ERROR_ENTRY_SIZE, false);
    assert!(
        empty.iter().all(|&byte| byte == 0),
        "a new controller has an empty error log"
    );

    let buffer = driver.buffer(512, 0);
    let sqe = Sqe::new(CMD_READ)
        .nsid(1)
        .data(&buffer)
        .blocks(0x1_2345_6789, 1);
    let cid = driver.submit(1, sqe);
    driver.pump();
    let failed = driver.take(1, cid).expect("the command completes");
    assert_eq!(failed.status, LBA_RANGE);

    driver.bench.relocate();
    let log = driver.log_page(LOG_ERROR, entries * ERROR_ENTRY_SIZE, false);
    if u64_at(&log, 0) == 0 {
        // The status alone tells the host all that it needs; "more" says that there is an entry.
        return;
    }
    assert_eq!(u64_at(&log, 0), 1, "the first error");
    assert_eq!(u16_at(&log, 8), 1, "its submission queue");
    assert_eq!(u16_at(&log, 10), cid, "its command");
    assert_eq!(
        Status::from_cqe(u16_at(&log, 12)),
        LBA_RANGE,
        "its status field"
    );
    assert_eq!(u64_at(&log, 16), 0x1_2345_6789, "its block");

    for _ in 0..entries + 3 {
        driver.bad(1, Sqe::new(0x7f).nsid(1), &[INVALID_OPCODE]);
    }
    let log = driver.log_page(LOG_ERROR, entries * ERROR_ENTRY_SIZE, false);
    let numbers: Vec<u64> = log
        .chunks(ERROR_ENTRY_SIZE)
        .map(|entry| u64_at(entry, 0))
        .collect();
    let newest = numbers[0];
    assert_eq!(newest, entries as u64 + 4, "the newest error is the first");
    for (age, &number) in numbers.iter().enumerate() {
        assert_eq!(number, newest - age as u64, "error of age {age}");
    }
}

#[test]
fn smart_counts_what_was_done() {
    let mut driver = Driver::ready();
    let before = driver.log_page(LOG_SMART, 512, false);
    assert_eq!(before[0], 0, "no critical warning");
    assert_ne!(u16_at(&before, 1), 0, "the temperature is in kelvins");
    assert_eq!(before[3], 100, "all of the spare is available");

    // 1000 blocks of 512 bytes are one unit, rounded up.
    let data = vec![7; 100 << 10];
    for _ in 0..11 {
        driver.write(1, 0, &data);
        driver.read(1, 0, 100);
    }
    let after = driver.log_page(LOG_SMART, 512, false);
    let more = |at: usize| u64_at(&after, at) - u64_at(&before, at);
    assert_eq!(more(32), 2, "1100 blocks read are two units");
    assert_eq!(more(48), 3, "2200 blocks written are three units");
    assert_eq!(more(64), 11, "host read commands");
    assert_eq!(more(80), 11, "host write commands");

    driver.bench.relocate();
    let moved = driver.log_page(LOG_SMART, 512, false);
    assert_eq!(moved, after, "the counters survive a move");
}

/// Commands that read, commands that wrote, data read and data written in units of 1000 * 512 bytes.
#[track_caller]
fn host_counters(driver: &mut Driver) -> [u64; 4] {
    let log = driver.log_page(LOG_SMART, 512, false);
    [64, 80, 32, 48].map(|at| u64_at(&log, at))
}

/// Executes a command `times` times, and checks its status and how the counters of figure 196 change.
#[track_caller]
fn expect_counted(driver: &mut Driver, sqe: Sqe, status: Status, times: usize, counted: [u64; 4]) {
    let before = host_counters(driver);
    for _ in 0..times {
        driver.bad(1, sqe, &[status]);
    }
    let after = host_counters(driver);
    let more: [u64; 4] = core::array::from_fn(|at| after[at] - before[at]);
    assert_eq!(
        more, counted,
        "{times} times {sqe:?} with {status:?}: reads, writes, data read, data written"
    );
}

/// Figure 196: of Compare and Read, and of Write, every command that the controller completed.
#[test]
fn host_commands_count_whatever_their_status_is() {
    const NOWHERE: u64 = 0x7f00_0000_0000;
    let mut driver = Driver::ready();
    let buffer = driver.buffer(512, 0);
    driver.fill(&buffer, &[1; 512]);
    for (opcode, counted) in [
        (CMD_READ, [2, 0, 0, 0]),
        (CMD_COMPARE, [2, 0, 0, 0]),
        (CMD_WRITE, [0, 2, 0, 0]),
        (CMD_WRITE_ZEROES, [0; 4]),
    ] {
        let good = Sqe::new(opcode).nsid(1).data(&buffer).blocks(0, 1);
        let mut failing = vec![
            (good.blocks(1 << 40, 1), LBA_RANGE),
            // It never got as far as the namespace, and is one that was completed all the same.
            (good.nsid(2), INVALID_NS),
            (good.flags(1), INVALID_FIELD),
        ];
        if opcode != CMD_WRITE_ZEROES {
            failing.push((good.blocks(0, 2000), INVALID_FIELD));
            failing.push((good.prp(buffer.prp1 | 2, 0), PRP_OFFSET_INVALID));
            failing.push((good.prp(NOWHERE, 0), DATA_XFER_ERROR));
        }
        for (sqe, status) in failing {
            expect_counted(&mut driver, sqe, status, 2, counted);
        }
    }
    // Commands that are neither: also opcodes that the controller lacks.
    let dsm = Sqe::new(CMD_DSM).nsid(2).data(&buffer);
    for (sqe, status) in [
        (Sqe::new(CMD_FLUSH).nsid(2), INVALID_NS),
        (dsm, INVALID_NS),
        (Sqe::new(CMD_WRITE_UNCOR).nsid(2), INVALID_NS),
        (Sqe::new(CMD_VERIFY).nsid(2), INVALID_NS),
        (Sqe::new(CMD_VERIFY).nsid(1).blocks(0, 8), SUCCESS),
        (Sqe::new(0x06).nsid(1).blocks(0, 1), INVALID_OPCODE),
        (Sqe::new(0x7f).nsid(1), INVALID_OPCODE),
    ] {
        expect_counted(&mut driver, sqe, status, 2, [0; 4]);
    }
}

#[test]
fn host_commands_count_when_the_medium_fails() {
    let mut driver = Driver::ready();
    let buffer = driver.buffer(512, 0);
    driver.bench.disk.trouble = Some(Trouble::Medium);
    for (opcode, status, counted) in [
        (CMD_READ, READ_ERROR, [3, 0, 0, 0]),
        (CMD_COMPARE, READ_ERROR, [3, 0, 0, 0]),
        (CMD_WRITE, WRITE_FAULT, [0, 3, 0, 0]),
        (CMD_WRITE_ZEROES, WRITE_FAULT, [0; 4]),
    ] {
        let sqe = Sqe::new(opcode).nsid(1).data(&buffer).blocks(0, 1);
        expect_counted(&mut driver, sqe, status, 3, counted);
    }
}

/// Figure 196 counts data that the host has read, and has written: of a transfer that failed half way
/// the first half.
#[test]
fn data_units_count_what_was_transferred() {
    const NOWHERE: u64 = 0x7f00_0000_0000;
    let mut driver = Driver::ready();
    // Two pages of eight blocks each.
    let buffer = driver.buffer(2 * PAGE, 0);
    driver.fill(&buffer, &vec![0; 2 * PAGE]);
    let whole = |opcode| Sqe::new(opcode).nsid(1).data(&buffer).blocks(0, 16);
    let half = |opcode| whole(opcode).prp(buffer.prp1, NOWHERE);
    // 125 times 8 blocks fill one unit exactly, so that one block more begins another.
    expect_counted(
        &mut driver,
        half(CMD_READ),
        DATA_XFER_ERROR,
        125,
        [125, 0, 1, 0],
    );
    expect_counted(
        &mut driver,
        half(CMD_COMPARE),
        DATA_XFER_ERROR,
        125,
        [125, 0, 1, 0],
    );
    expect_counted(
        &mut driver,
        half(CMD_WRITE),
        DATA_XFER_ERROR,
        125,
        [0, 125, 0, 1],
    );
    // The second half differs: the first half was compared, and so was the block that differs.
    driver.write(1, 8, &[1; 512]);
    let zeroes = driver.buffer(2 * PAGE, 0);
    driver.fill(&zeroes, &vec![0; 2 * PAGE]);
    let differs = Sqe::new(CMD_COMPARE).nsid(1).data(&zeroes).blocks(0, 16);
    expect_counted(&mut driver, differs, COMPARE_FAILED, 111, [111, 0, 1, 0]);
    expect_counted(&mut driver, differs, COMPARE_FAILED, 1, [1, 0, 1, 0]);
    // Zeroes and deallocation move no data, however many blocks they are about.
    let zeroes = Sqe::new(CMD_WRITE_ZEROES).nsid(1).blocks(0, 2000);
    expect_counted(&mut driver, zeroes, SUCCESS, 5, [0; 4]);
}

/// Executes a command, and returns its completion and how many entries it added to the error log.
#[track_caller]
fn logged(driver: &mut Driver, queue: u16, sqe: Sqe) -> (Completion, u64) {
    let before = u64_at(&driver.log_page(LOG_SMART, 512, false), 176);
    let completion = driver.call(queue, sqe);
    let after = u64_at(&driver.log_page(LOG_SMART, 512, false), 176);
    (completion, after - before)
}

/// A host probes for features at every boot, Linux for instance with CNS 06h. That is no error, and
/// smartd warns of a log that grows.
#[test]
fn asking_for_what_is_not_there_is_no_error() {
    let mut driver = Driver::ready();
    let buffer = driver.buffer(PAGE, 0);
    let identify = Sqe::new(ADMIN_IDENTIFY).nsid(1).data(&buffer);
    let mut asking = Vec::new();
    for cns in (0x04..=0xff).filter(|cns| *cns != CNS_NS_DESC_LIST) {
        asking.push((identify.dword(10, cns), INVALID_FIELD));
        asking.push((identify.nsid(0).dword(10, cns), INVALID_FIELD));
    }
    let logs = [LOG_ERROR, LOG_SMART, LOG_FW_SLOT, LOG_EFFECTS];
    for id in (0..=u8::MAX).filter(|id| !logs.contains(id)) {
        asking.push((log_page(&buffer, id, false), INVALID_LOG_PAGE));
    }
    let features = [0x01, 0x02, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b];
    for id in (0..=u8::MAX).filter(|id| !features.contains(id)) {
        for opcode in [ADMIN_GET_FEATURES, ADMIN_SET_FEATURES] {
            asking.push((Sqe::new(opcode).dword(10, id.into()), INVALID_FIELD));
        }
        let supported = Sqe::new(ADMIN_GET_FEATURES).dword(10, 3 << 8 | u32::from(id));
        asking.push((supported, INVALID_FIELD));
    }
    let opcodes = [
        0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0a, 0x0c, 0x7c, 0x80,
    ];
    for opcode in (0..=u8::MAX).filter(|opcode| !opcodes.contains(opcode)) {
        asking.push((Sqe::new(opcode).nsid(1).data(&buffer), INVALID_OPCODE));
    }
    for (sqe, status) in asking {
        let (completion, entries) = logged(&mut driver, 0, sqe);
        assert_eq!(completion.status, status, "status of {sqe:?}");
        assert!(!completion.more, "{sqe:?}: \"more\", but there is no entry");
        assert_eq!(entries, 0, "entries in the error log after {sqe:?}");
    }
}

#[test]
fn more_says_whether_an_error_is_in_the_log() {
    let mut driver = Driver::ready();
    let buffer = driver.buffer(PAGE, 0);
    let identify = Sqe::new(ADMIN_IDENTIFY).data(&buffer);
    let read = Sqe::new(CMD_READ).nsid(1).data(&buffer);
    for (queue, sqe, status) in [
        // Existing features in wrong commands.
        (0, identify.nsid(2).dword(10, CNS_NS), INVALID_NS),
        (0, identify.flags(1).dword(10, 0x06), INVALID_FIELD),
        (
            0,
            identify.prp(2, 0).dword(10, CNS_CTRL),
            PRP_OFFSET_INVALID,
        ),
        (
            0,
            log_page(&buffer, LOG_SMART, false).nsid(2),
            INVALID_FIELD,
        ),
        (
            0,
            log_page(&buffer, LOG_SMART, false).dword(12, 2),
            INVALID_FIELD,
        ),
        (
            0,
            Sqe::new(ADMIN_GET_FEATURES).dword(10, 7 << 8 | 1),
            INVALID_FIELD,
        ),
        (
            0,
            Sqe::new(ADMIN_SET_FEATURES).dword(10, FEATURE_SAVE | 1),
            FEATURE_NOT_SAVEABLE,
        ),
        (0, Sqe::new(ADMIN_DELETE_SQ).dword(10, 9), QID_INVALID),
        // I/O commands are not how a host asks.
        (1, Sqe::new(0x7f).nsid(1), INVALID_OPCODE),
        (1, read.blocks(1 << 40, 1), LBA_RANGE),
    ] {
        let (completion, entries) = logged(&mut driver, queue, sqe);
        assert_eq!(completion.status, status, "status of {sqe:?}");
        assert!(completion.more, "{sqe:?}: no \"more\"");
        assert_eq!(entries, 1, "entries in the error log after {sqe:?}");
        let entry = driver.log_page(LOG_ERROR, ERROR_ENTRY_SIZE, false);
        assert_eq!(u16_at(&entry, 8), queue, "queue of {sqe:?}");
        assert_eq!(u16_at(&entry, 10), completion.cid, "command of {sqe:?}");
        assert_ne!(u16_at(&entry, 12) & CQE_MORE, 0, "its status field");
    }
    let (completion, entries) = logged(&mut driver, 1, read.blocks(0, 1));
    assert_eq!((completion.more, entries), (false, 0), "a success");
}

#[test]
fn the_firmware_slot_has_the_revision_that_identify_names() {
    let mut driver = Driver::new(Setup::default());
    let revision = driver.identify(CNS_CTRL, 0)[64..72].to_vec();
    let log = driver.log_page(LOG_FW_SLOT, 512, false);
    assert_eq!(log[0] & 7, 1, "slot 1 is active");
    assert_eq!(&log[8..16], &revision, "revision in slot 1");
    assert!(
        log[16..].iter().all(|&byte| byte == 0),
        "there is no other slot"
    );
}

#[test]
fn the_effects_log_names_what_is_not_an_invalid_opcode() {
    const IO: usize = 1024;
    const SUPPORTED: u32 = 1 << 0;
    const CONTENT_CHANGES: u32 = 1 << 1;

    let mut driver = Driver::ready();
    let log = driver.log_page(LOG_EFFECTS, 4096, false);
    let effects = |at: usize| u32::from_le_bytes(log[at..at + 4].try_into().expect("four bytes"));
    assert_eq!(driver.identify(CNS_CTRL, 0)[261] & 1 << 1, 1 << 1, "LPA");
    for queue in [0, 1] {
        for opcode in 0..=u8::MAX {
            let mut driver = Driver::ready();
            let cid = driver.submit(queue, Sqe::new(opcode).nsid(1));
            driver.pump();
            let invalid = driver
                .take(queue, cid)
                .is_some_and(|completion| completion.status == INVALID_OPCODE);
            let at = usize::from(queue) * IO + usize::from(opcode) * 4;
            assert_eq!(
                effects(at) & SUPPORTED == 0,
                invalid,
                "opcode {opcode:#04x} of queue {queue}"
            );
        }
    }
    let writes =
        [CMD_WRITE, CMD_WRITE_UNCOR, CMD_WRITE_ZEROES, CMD_DSM].map(|it| IO + usize::from(it) * 4);
    for at in (0..IO * 2).step_by(4) {
        let changes = if writes.contains(&at) {
            CONTENT_CHANGES
        } else if at == usize::from(ADMIN_FORMAT) * 4 {
            // What Linux knows of the command as well: no other command of the namespace, and another format.
            CONTENT_CHANGES | 1 << 2 | 1 << 16
        } else {
            0
        };
        assert_eq!(effects(at) & !SUPPORTED, changes, "effects at {at}");
    }
    assert!(log[IO * 2..].iter().all(|&byte| byte == 0), "reserved");
}

#[test]
fn a_part_of_a_log_is_the_beginning_of_it() {
    let mut driver = Driver::new(Setup::default());
    for id in [LOG_SMART, LOG_FW_SLOT, LOG_EFFECTS] {
        let whole = driver.log_page(id, 512, false);
        for length in [4, 8, 64, 508] {
            assert_eq!(
                driver.log_page(id, length, false),
                whole[..length],
                "{length} bytes of log {id}"
            );
        }
    }
}

#[test]
fn more_than_a_log_has_harms_nobody() {
    let mut driver = Driver::new(Setup::default());
    for id in [LOG_ERROR, LOG_SMART, LOG_FW_SLOT, LOG_EFFECTS] {
        for length in [516, 4096, 8192, 512 << 10] {
            let buffer = driver.buffer(length, 0);
            let status = driver.admin(log_page(&buffer, id, false)).status;
            assert!(
                [SUCCESS, INVALID_FIELD].contains(&status),
                "{length} bytes of log {id} give {status:?}"
            );
            driver.content(&buffer);
            driver.free(&buffer);
        }
        // All ones in both halves: 16 GiB.
        let buffer = driver.buffer(4096, 0);
        let sqe = log_page(&buffer, id, false)
            .dword(10, 0xffff_0000 | u32::from(id))
            .dword(11, 0xffff);
        let status = driver.admin(sqe).status;
        assert_ne!(status, SUCCESS, "16 GiB of log {id} do not fit");
    }
}

#[test]
fn offsets_work_where_they_are_promised() {
    let mut driver = Driver::new(Setup::default());
    let lpa = driver.identify(CNS_CTRL, 0)[261];
    let whole = driver.log_page(LOG_FW_SLOT, 512, false);
    let buffer = driver.buffer(8, 0);
    let sqe = log_page(&buffer, LOG_FW_SLOT, false);
    if lpa & 1 << 2 != 0 {
        driver.good(0, sqe.dword(12, 8));
        assert_eq!(driver.content(&buffer), whole[8..16], "8 bytes at 8");
        driver.bad(0, sqe.dword(12, 513 * 4), &[INVALID_FIELD]);
        driver.bad(0, sqe.dword(13, 1), &[INVALID_FIELD]);
        driver.bad(0, sqe.dword(12, !3).dword(13, u32::MAX), &[INVALID_FIELD]);
        driver.bad(0, sqe.dword(12, 2), &[INVALID_FIELD]);
    }
}

#[test]
fn logs_that_are_not_there_are_refused() {
    let mut driver = Driver::new(Setup::default());
    let buffer = driver.buffer(512, 0);
    for id in [
        0x00, 0x06, 0x07, 0x08, 0x09, 0x0d, 0x0e, LOG_DISC, 0x80, 0xc0, 0xff,
    ] {
        driver.bad(
            0,
            log_page(&buffer, id, false),
            &[INVALID_LOG_PAGE, INVALID_FIELD],
        );
    }
}

#[test]
fn a_namespace_that_is_not_there_has_no_log() {
    let mut driver = Driver::new(Setup::default());
    let buffer = driver.buffer(512, 0);
    for nsid in [2, 0xffff_fffe] {
        driver.bad(
            0,
            log_page(&buffer, LOG_SMART, false).nsid(nsid),
            &[INVALID_NS, INVALID_FIELD],
        );
    }
    for nsid in [0, NSID_ALL] {
        driver.good(0, log_page(&buffer, LOG_SMART, false).nsid(nsid));
    }
}

#[test]
fn a_log_goes_to_any_dword_boundary() {
    let mut driver = Driver::new(Setup::default());
    let whole = driver.log_page(LOG_SMART, 512, false);
    for offset in [4, 3584, 3588, 4092] {
        let buffer = driver.buffer(512, offset);
        driver.good(0, log_page(&buffer, LOG_SMART, false));
        assert_eq!(driver.content(&buffer), whole, "at offset {offset}");
    }
}
