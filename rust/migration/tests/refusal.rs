// SPDX-License-Identifier: GPL-2.0

//! Error numbers and texts of all refusals.

use migration::transition::Step;
use migration::Reason;
use migration::Refusal;
use vfio_uapi::v1::Field;
use vfio_uapi::v1::State;
use vfio_uapi::Errno;

#[test]
fn error_numbers_are_those_of_the_kernel() {
    // include/uapi/asm-generic/errno-base.h and errno.h.
    let numbers = [
        (Errno::EPERM, 1, "EPERM"),
        (Errno::EIO, 5, "EIO"),
        (Errno::ENOMEM, 12, "ENOMEM"),
        (Errno::EBUSY, 16, "EBUSY"),
        (Errno::EXDEV, 18, "EXDEV"),
        (Errno::ENODEV, 19, "ENODEV"),
        (Errno::EINVAL, 22, "EINVAL"),
        (Errno::ENODATA, 61, "ENODATA"),
        (Errno::EBADMSG, 74, "EBADMSG"),
        (Errno::EMSGSIZE, 90, "EMSGSIZE"),
        (Errno::EPROTONOSUPPORT, 93, "EPROTONOSUPPORT"),
    ];
    for (errno, number, name) in numbers {
        assert_eq!(errno.to_errno(), -number, "{name}");
        assert_eq!(errno.to_string(), name);
        assert_eq!(format!("{errno:?}"), name);
    }
}

#[test]
fn v1_46_a_refusal_says_why_with_its_numbers() {
    let mut name = [0; 16];
    name[..7].copy_from_slice(b"other\n\x80");
    let kind = 4;
    let sequence = 7;
    let (stored, computed) = (0x1234, 0xabcd);
    let reasons = [
        (
            Reason::Access { offset: 40, len: 3 },
            Errno::EINVAL,
            "an access of 3 bytes at offset 0x28 is not one header field at its width",
        ),
        (
            Reason::ReadOnly {
                field: Field::PendingBytes,
            },
            Errno::EPERM,
            "pending_bytes is read-only",
        ),
        (
            Reason::InvalidState { word: 0xf5 },
            Errno::EINVAL,
            "0xf5 is not a device state that can be entered",
        ),
        (
            Reason::InErrorState,
            Errno::EIO,
            "the device is in the ERROR state and needs a reset",
        ),
        (
            Reason::StepFailed {
                step: Step::Stop,
                errno: Errno::EBUSY,
            },
            Errno::EBUSY,
            "the device failed to stop: EBUSY",
        ),
        (
            Reason::NotUnwound {
                step: Step::Capture,
                errno: Errno::ENOMEM,
                undo: Step::Stop,
                undo_errno: Errno::EBUSY,
            },
            Errno::EIO,
            "the device failed to save its state (ENOMEM) and then to undo 'stop' (EBUSY)",
        ),
        (
            Reason::Irreversible {
                step: Step::FinishResume,
                errno: Errno::EBUSY,
            },
            Errno::EIO,
            "the device failed to finish the resume and cannot go back: EBUSY",
        ),
        (
            Reason::P2pFailed {
                p2p: true,
                errno: Errno::EBUSY,
            },
            Errno::EBUSY,
            "the device failed to enter P2P: EBUSY",
        ),
        (
            Reason::P2pFailed {
                p2p: false,
                errno: Errno::EIO,
            },
            Errno::EIO,
            "the device failed to leave P2P: EIO",
        ),
        (
            Reason::WindowTooSmall { size: 1, least: 2 },
            Errno::EIO,
            "the data window of 1 bytes is smaller than the 2 bytes that are needed",
        ),
        (
            Reason::BufferTooSmall { size: 1, least: 2 },
            Errno::EIO,
            "the state buffer of 1 bytes is smaller than the 2 bytes that are needed",
        ),
        (
            Reason::StateTooLong { len: 2, most: 1 },
            Errno::EIO,
            "the device saved 2 bytes, where 1 is the most",
        ),
        (
            Reason::ConfigurationTooLong { len: 65, most: 64 },
            Errno::EIO,
            "the device's configuration has 65 bytes, where 64 is the most",
        ),
        (
            Reason::NotResuming {
                state: State::PreCopy,
            },
            Errno::EINVAL,
            "data_size was written in the PRE_COPY state, not RESUMING",
        ),
        (
            Reason::ChunkTooLarge { size: 9, most: 8 },
            Errno::EMSGSIZE,
            "data_size is 9, but the data section has 8 bytes",
        ),
        (
            Reason::Magic {
                found: 0xabcd,
                sequence,
            },
            Errno::EBADMSG,
            "record 7 begins with 0x0000abcd, not the magic number",
        ),
        (
            Reason::HeaderChecksum {
                stored,
                computed,
                sequence,
            },
            Errno::EBADMSG,
            "the header of record 7 says checksum 0x00001234, its bytes give 0x0000abcd",
        ),
        (
            Reason::PayloadChecksum {
                stored,
                computed,
                sequence,
            },
            Errno::EBADMSG,
            "the payload of record 7 has checksum 0x0000abcd, its header says 0x00001234",
        ),
        (
            Reason::Flags { kind, flags: 1 },
            Errno::EBADMSG,
            "a record of type 4 has the flags 0x0001",
        ),
        (
            Reason::Flags { kind, flags: 2 },
            Errno::EPROTONOSUPPORT,
            "a record of type 4 has the flags 0x0002",
        ),
        (
            Reason::UnknownRecord { kind: 5, sequence },
            Errno::EPROTONOSUPPORT,
            "record 7 has the unknown type 5 and is not optional",
        ),
        (
            Reason::PayloadLength { kind, len: 8 },
            Errno::EBADMSG,
            "a record of type 4 claims a payload of 8 bytes",
        ),
        (
            Reason::Argument {
                kind,
                argument: 0x10,
            },
            Errno::EBADMSG,
            "a record of type 4 has the argument 0x10",
        ),
        (
            Reason::Sequence {
                expected: 3,
                found: 4,
            },
            Errno::EBADMSG,
            "record 4 came where record 3 was expected",
        ),
        (
            Reason::Misplaced { kind, sequence },
            Errno::EBADMSG,
            "record 7 of type 4 may not come at this place",
        ),
        (
            Reason::Generation { found: 2, last: 3 },
            Errno::EBADMSG,
            "a save of generation 2 begins after one of generation 3",
        ),
        (
            Reason::HeaderChanged { sequence },
            Errno::EBADMSG,
            "the header sent again as record 7 differs from the first",
        ),
        (
            Reason::Version { major: 2, minor: 1 },
            Errno::EPROTONOSUPPORT,
            "the stream has version 2.1, which is not known here",
        ),
        (
            Reason::DeviceType { found: name },
            Errno::ENODEV,
            "the stream is of device type 'other\\n\\x80'",
        ),
        (
            Reason::ConfigurationLength {
                expected: 1,
                found: 2,
            },
            Errno::EXDEV,
            "the stream's device has a configuration of 2 bytes, this one of 1",
        ),
        (
            Reason::Configuration {
                offset: 3,
                expected: 4,
                found: 2,
            },
            Errno::EXDEV,
            "byte 3 of the configuration is 0x02 in the stream, 0x04 here",
        ),
        (
            Reason::StateOffset {
                expected: 60,
                found: 61,
            },
            Errno::EBADMSG,
            "a piece of device state for offset 61 came where 60 was next",
        ),
        (
            Reason::StateOverflow { end: 11, most: 10 },
            Errno::EBADMSG,
            "the stream has at least 11 bytes of device state, where 10 is the most",
        ),
        (
            Reason::TotalRecords {
                expected: 3,
                found: 4,
            },
            Errno::EBADMSG,
            "the end record counts 4 records, 3 were received",
        ),
        (
            Reason::TotalBytes {
                expected: 3,
                found: 4,
            },
            Errno::EBADMSG,
            "the end record counts 4 bytes, 3 were received",
        ),
        (
            Reason::TotalChecksum { stored, computed },
            Errno::EBADMSG,
            "the device state has checksum 0x0000abcd, the end record says 0x00001234",
        ),
        (
            Reason::StateRefused {
                errno: Errno::EBADMSG,
            },
            Errno::EBADMSG,
            "the device does not accept the state in the stream: EBADMSG",
        ),
        (
            Reason::RefusedBefore {
                errno: Errno::EBADMSG,
            },
            Errno::EBADMSG,
            "the stream was refused before, with EBADMSG",
        ),
        (
            Reason::Incomplete {
                bytes: 100,
                records: 2,
            },
            Errno::ENODATA,
            "the stream is not complete: 100 bytes came, the last save has 2 records",
        ),
    ];

    for (reason, errno, text) in reasons {
        let refusal = Refusal::from(reason);
        assert_eq!(refusal.errno, errno, "{text}");
        assert_eq!(refusal.to_string(), text);
    }
}
