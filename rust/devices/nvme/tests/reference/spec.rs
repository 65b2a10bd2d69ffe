// SPDX-License-Identifier: GPL-2.0

//! Numbers of the NVM Express base specification, revision 1.4, as a driver has them.
//!
//! They are written down a second time here, so that a wrong number in the device is seen. Names are
//! those of `include/linux/nvme.h` where it has one.

// Controller registers, section 3.1.

pub const REG_CAP: u64 = 0x00;
pub const REG_VS: u64 = 0x08;
pub const REG_INTMS: u64 = 0x0c;
pub const REG_INTMC: u64 = 0x10;
pub const REG_CC: u64 = 0x14;
pub const REG_CSTS: u64 = 0x1c;
pub const REG_NSSR: u64 = 0x20;
pub const REG_AQA: u64 = 0x24;
pub const REG_ASQ: u64 = 0x28;
pub const REG_ACQ: u64 = 0x30;
/// First doorbell.
pub const REG_DBS: u64 = 0x1000;

/// Version 1.4.0.
pub const VS_1_4: u32 = 0x0001_0400;

pub const CAP_MQES_MASK: u64 = 0xffff;
pub const CAP_CQR: u64 = 1 << 16;
pub const CAP_TIMEOUT_SHIFT: u32 = 24;
pub const CAP_STRIDE_SHIFT: u32 = 32;
pub const CAP_NSSRC: u64 = 1 << 36;
pub const CAP_CSS_NVM: u64 = 1 << 37;
pub const CAP_MPSMIN_SHIFT: u32 = 48;
pub const CAP_MPSMAX_SHIFT: u32 = 52;

pub const CC_ENABLE: u32 = 1 << 0;
pub const CC_CSS_SHIFT: u32 = 4;
pub const CC_MPS_SHIFT: u32 = 7;
pub const CC_AMS_SHIFT: u32 = 11;
pub const CC_SHN_NORMAL: u32 = 1 << 14;
pub const CC_SHN_ABRUPT: u32 = 2 << 14;
/// Shutdown notification.
pub const CC_SHN_MASK: u32 = 3 << 14;
pub const CC_IOSQES_64: u32 = 6 << 16;
pub const CC_IOCQES_16: u32 = 4 << 20;
/// CC that a driver with 4 KiB pages writes.
pub const CC_USUAL: u32 = CC_ENABLE | CC_IOSQES_64 | CC_IOCQES_16;

pub const CSTS_RDY: u32 = 1 << 0;
pub const CSTS_CFS: u32 = 1 << 1;
pub const CSTS_SHST_MASK: u32 = 3 << 2;
pub const CSTS_SHST_NORMAL: u32 = 0 << 2;
pub const CSTS_SHST_COMPLETE: u32 = 2 << 2;
pub const CSTS_NSSRO: u32 = 1 << 4;

/// "NVMe", which resets the subsystem when it is written to NSSR.
pub const NSSR_MAGIC: u32 = 0x4e56_4d65;

// Sizes.

/// Bytes of a memory page with CC.MPS 0.
pub const PAGE: usize = 4096;
/// Bytes of a submission queue entry.
pub const SQE_SIZE: usize = 64;
/// Bytes of a completion queue entry.
pub const CQE_SIZE: usize = 16;
/// Bytes of a range of Dataset Management.
pub const DSM_RANGE_SIZE: usize = 16;

// Admin commands, section 5.

pub const ADMIN_DELETE_SQ: u8 = 0x00;
pub const ADMIN_CREATE_SQ: u8 = 0x01;
pub const ADMIN_GET_LOG_PAGE: u8 = 0x02;
pub const ADMIN_DELETE_CQ: u8 = 0x04;
pub const ADMIN_CREATE_CQ: u8 = 0x05;
pub const ADMIN_IDENTIFY: u8 = 0x06;
pub const ADMIN_ABORT: u8 = 0x08;
pub const ADMIN_SET_FEATURES: u8 = 0x09;
pub const ADMIN_GET_FEATURES: u8 = 0x0a;
pub const ADMIN_ASYNC_EVENT: u8 = 0x0c;
pub const ADMIN_NS_MANAGEMENT: u8 = 0x0d;
pub const ADMIN_FIRMWARE_COMMIT: u8 = 0x10;
pub const ADMIN_SELF_TEST: u8 = 0x14;
pub const ADMIN_KEEP_ALIVE: u8 = 0x18;
pub const ADMIN_DBBUF: u8 = 0x7c;
pub const ADMIN_FORMAT: u8 = 0x80;
pub const ADMIN_SECURITY_SEND: u8 = 0x81;
pub const ADMIN_VENDOR: u8 = 0xc0;

// NVM commands, section 6.

pub const CMD_FLUSH: u8 = 0x00;
pub const CMD_WRITE: u8 = 0x01;
pub const CMD_READ: u8 = 0x02;
pub const CMD_WRITE_UNCOR: u8 = 0x04;
pub const CMD_COMPARE: u8 = 0x05;
pub const CMD_WRITE_ZEROES: u8 = 0x08;
pub const CMD_DSM: u8 = 0x09;
pub const CMD_VERIFY: u8 = 0x0c;
pub const CMD_RESERVATION_REGISTER: u8 = 0x0d;

/// Flags of byte 1 of a command: fused operation, and SGLs instead of PRPs.
pub const FLAG_FUSE_FIRST: u8 = 0x01;
pub const FLAG_FUSE_SECOND: u8 = 0x02;
pub const FLAG_SGL_METABUF: u8 = 0x40;
pub const FLAG_SGL_METASEG: u8 = 0x80;

/// Create I/O Completion Queue: physically contiguous, interrupts enabled.
pub const QUEUE_PHYS_CONTIG: u32 = 1 << 0;
pub const CQ_IRQ_ENABLED: u32 = 1 << 1;

/// Force unit access, dword 12 of Read, Write, Write Zeroes and Compare.
pub const RW_FUA: u32 = 1 << 30;
/// Limited retry.
pub const RW_LR: u32 = 1 << 31;
/// Deallocate, of Write Zeroes.
pub const WZ_DEAC: u32 = 1 << 25;
/// Deallocate, of Dataset Management.
pub const DSM_AD: u32 = 1 << 2;
/// Integral dataset for read and for write, which are hints.
pub const DSM_IDR: u32 = 1 << 0;
pub const DSM_IDW: u32 = 1 << 1;

pub const NSID_ALL: u32 = u32::MAX;

// Identify, section 5.15.

pub const CNS_NS: u32 = 0x00;
pub const CNS_CTRL: u32 = 0x01;
pub const CNS_NS_ACTIVE_LIST: u32 = 0x02;
pub const CNS_NS_DESC_LIST: u32 = 0x03;

/// NSFEAT of a namespace: it has atomic units of its own.
pub const NSFEAT_NSABP: u8 = 1 << 1;

pub const OACS_FORMAT: u16 = 1 << 1;
pub const OACS_DBBUF: u16 = 1 << 8;
pub const ONCS_COMPARE: u16 = 1 << 0;
pub const ONCS_WRITE_UNCOR: u16 = 1 << 1;
pub const ONCS_DSM: u16 = 1 << 2;
pub const ONCS_WRITE_ZEROES: u16 = 1 << 3;
pub const ONCS_SAVE_SELECT: u16 = 1 << 4;
pub const ONCS_VERIFY: u16 = 1 << 7;

// Features, section 5.21.1.

pub const FEAT_ARBITRATION: u8 = 0x01;
pub const FEAT_POWER_MGMT: u8 = 0x02;
pub const FEAT_TEMP_THRESH: u8 = 0x04;
pub const FEAT_ERR_RECOVERY: u8 = 0x05;
pub const FEAT_VOLATILE_WC: u8 = 0x06;
pub const FEAT_NUM_QUEUES: u8 = 0x07;
pub const FEAT_IRQ_COALESCE: u8 = 0x08;
pub const FEAT_IRQ_CONFIG: u8 = 0x09;
pub const FEAT_WRITE_ATOMIC: u8 = 0x0a;
pub const FEAT_ASYNC_EVENT: u8 = 0x0b;
/// Host memory buffer, which no controller without a use for it has.
pub const FEAT_HOST_MEM_BUF: u8 = 0x0d;
pub const FEAT_KATO: u8 = 0x0f;

/// Set Features: save it across power cycles.
pub const FEATURE_SAVE: u32 = 1 << 31;
/// Interrupt vector configuration: no coalescing on this vector.
pub const IRQ_CONFIG_CD: u32 = 1 << 16;

// Log pages, section 5.14.

pub const LOG_ERROR: u8 = 0x01;
pub const LOG_SMART: u8 = 0x02;
pub const LOG_FW_SLOT: u8 = 0x03;
pub const LOG_EFFECTS: u8 = 0x05;
pub const LOG_DISC: u8 = 0x70;
/// Retain asynchronous event.
pub const LOG_RAE: u32 = 1 << 15;
/// Bytes of an entry of the error log.
pub const ERROR_ENTRY_SIZE: usize = 64;

// Asynchronous events, section 5.2.

pub const AER_ERROR: u32 = 0;
/// Information of an error event: a doorbell of a queue that does not exist.
pub const AER_ERROR_INVALID_DB_REG: u32 = 0;
/// Information of an error event: a value that its queue does not have.
pub const AER_ERROR_INVALID_DB_VALUE: u32 = 1;
pub const AER_SMART: u32 = 1;
/// Information of a SMART event: temperature threshold.
pub const AER_SMART_TEMPERATURE: u32 = 1;

/// The upper half of a completion's last dword: there is more about the command in the error log.
pub const CQE_MORE: u16 = 1 << 14;

/// The status of a completion without phase, retry hints and "more".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Status {
    /// Status code type.
    pub kind: u8,
    /// Status code.
    pub code: u8,
}

impl Status {
    /// Takes the upper half of the last dword of a completion.
    pub fn from_cqe(status: u16) -> Self {
        Self {
            kind: (status >> 9 & 7) as u8,
            code: (status >> 1 & 0xff) as u8,
        }
    }
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}/{:02x}h", self.kind, self.code)
    }
}

const fn generic(code: u8) -> Status {
    Status { kind: 0, code }
}

const fn specific(code: u8) -> Status {
    Status { kind: 1, code }
}

const fn media(code: u8) -> Status {
    Status { kind: 2, code }
}

// Status values, section 4.6.1.2.

pub const SUCCESS: Status = generic(0x00);
pub const INVALID_OPCODE: Status = generic(0x01);
pub const INVALID_FIELD: Status = generic(0x02);
pub const CMDID_CONFLICT: Status = generic(0x03);
pub const DATA_XFER_ERROR: Status = generic(0x04);
pub const INTERNAL: Status = generic(0x06);
pub const ABORT_REQ: Status = generic(0x07);
pub const ABORT_QUEUE: Status = generic(0x08);
pub const INVALID_NS: Status = generic(0x0b);
pub const CMD_SEQ_ERROR: Status = generic(0x0c);
pub const PRP_OFFSET_INVALID: Status = generic(0x13);
pub const LBA_RANGE: Status = generic(0x80);
pub const CAP_EXCEEDED: Status = generic(0x81);
pub const FORMAT_IN_PROGRESS: Status = generic(0x84);

pub const CQ_INVALID: Status = specific(0x00);
pub const QID_INVALID: Status = specific(0x01);
pub const QUEUE_SIZE: Status = specific(0x02);
pub const ASYNC_LIMIT: Status = specific(0x05);
pub const INVALID_VECTOR: Status = specific(0x08);
pub const INVALID_LOG_PAGE: Status = specific(0x09);
pub const INVALID_FORMAT: Status = specific(0x0a);
pub const INVALID_QUEUE_DELETION: Status = specific(0x0c);
pub const FEATURE_NOT_SAVEABLE: Status = specific(0x0d);
pub const FEATURE_NOT_CHANGEABLE: Status = specific(0x0e);
pub const FEATURE_NOT_PER_NS: Status = specific(0x0f);

pub const WRITE_FAULT: Status = media(0x80);
pub const READ_ERROR: Status = media(0x81);
pub const COMPARE_FAILED: Status = media(0x85);
