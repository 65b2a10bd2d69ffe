// SPDX-License-Identifier: GPL-2.0

//! Offsets and bits of the controller's registers, section 3.1.
//!
//! Names are those of the specification and of `include/linux/nvme.h`.

/// Controller capabilities, 64 bits.
pub(crate) const CAP: usize = 0x00;
/// Version, 32 bits.
pub(crate) const VS: usize = 0x08;
/// Interrupt mask set, 32 bits.
pub(crate) const INTMS: usize = 0x0c;
/// Interrupt mask clear, 32 bits.
pub(crate) const INTMC: usize = 0x10;
/// Controller configuration, 32 bits.
pub(crate) const CC: usize = 0x14;
/// Controller status, 32 bits.
pub(crate) const CSTS: usize = 0x1c;
/// NVM subsystem reset, 32 bits.
pub(crate) const NSSR: usize = 0x20;
/// Admin queue attributes, 32 bits.
pub(crate) const AQA: usize = 0x24;
/// Admin submission queue base address, 64 bits.
pub(crate) const ASQ: usize = 0x28;
/// Upper half of ASQ.
pub(crate) const ASQ_HIGH: usize = ASQ + 4;
/// Admin completion queue base address, 64 bits.
pub(crate) const ACQ: usize = 0x30;
/// Upper half of ACQ.
pub(crate) const ACQ_HIGH: usize = ACQ + 4;
/// Where the registers that the controller has end.
pub(crate) const REGISTERS_END: usize = 0x38;

/// Where the doorbells begin.
pub(crate) const DOORBELLS: u64 = 0x1000;
/// Where the area of the doorbells ends.
pub(crate) const DOORBELLS_END: u64 = 0x2000;
/// Bytes of a doorbell: CAP.DSTRD is 0.
pub(crate) const DOORBELL_SIZE: u64 = 4;

/// Where the MSI-X table is.
pub(crate) const MSIX_TABLE: u64 = 0x2000;
/// Where the pending bits of MSI-X are.
pub(crate) const MSIX_PENDING: u64 = 0x3000;

/// Binary logarithm of the smallest page size.
pub(crate) const PAGE_SHIFT_MIN: u32 = 12;
/// CAP.MPSMAX: pages have up to 64 KiB.
const PAGE_SIZE_MAX: u64 = 4;

/// The most entries of an I/O queue.
pub(crate) const QUEUE_ENTRIES_MAX: u32 = 1024;

/// The most entries of an admin queue: AQA has 12 bits for each.
pub(crate) const ADMIN_ENTRIES_MAX: u32 = AQA_ASQS + 1;

/// The capabilities: contiguous queues, round robin, subsystem reset, the NVM command set.
pub(crate) const CAPABILITIES: u64 = (QUEUE_ENTRIES_MAX as u64 - 1)
    | CAP_CQR
    | (READY_TIMEOUT << CAP_TO_SHIFT)
    | CAP_NSSRS
    | CAP_CSS_NVM
    | (PAGE_SIZE_MAX << CAP_MPSMAX_SHIFT);
/// CAP: queues have to be contiguous in memory.
const CAP_CQR: u64 = 1 << 16;
/// CAP: how long enabling and disabling takes at most, in units of 500 ms.
const CAP_TO_SHIFT: u32 = 24;
/// 30 s: the host of the guest may be busy.
pub(crate) const READY_TIMEOUT: u64 = 60;
/// CAP: the subsystem can be reset.
const CAP_NSSRS: u64 = 1 << 36;
/// CAP: the NVM command set is there.
const CAP_CSS_NVM: u64 = 1 << 37;
/// CAP: binary logarithm of the largest page size, from 4 KiB on.
const CAP_MPSMAX_SHIFT: u32 = 52;

/// Revision 1.4 of the specification.
pub(crate) const VERSION: u32 = 0x0001_0400;

/// CC: the controller is to be enabled.
pub(crate) const CC_EN: u32 = 1 << 0;
/// CC: I/O command set, 0 for NVM.
const CC_CSS: u32 = 0x7 << 4;
/// CC: page size.
const CC_MPS: u32 = 0xf << CC_MPS_SHIFT;
const CC_MPS_SHIFT: u32 = 7;
/// CC: arbitration, 0 for round robin.
const CC_AMS: u32 = 0x7 << 11;
/// CC: shutdown notification.
pub(crate) const CC_SHN: u32 = 0x3 << 14;
/// CC: size of an I/O submission queue entry.
const CC_IOSQES: u32 = 0xf << CC_IOSQES_SHIFT;
const CC_IOSQES_SHIFT: u32 = 16;
/// CC: size of an I/O completion queue entry.
const CC_IOCQES: u32 = 0xf << CC_IOCQES_SHIFT;
const CC_IOCQES_SHIFT: u32 = 20;
/// The bits that CC has.
pub(crate) const CC_ALL: u32 = CC_EN | CC_CSS | CC_MPS | CC_AMS | CC_SHN | CC_IOSQES | CC_IOCQES;
/// The bits that can only be changed while the controller is disabled.
pub(crate) const CC_FIXED: u32 = CC_CSS | CC_MPS | CC_AMS;

/// CSTS: commands are executed.
pub(crate) const CSTS_RDY: u32 = 1 << 0;
/// CSTS: a fatal error happened.
pub(crate) const CSTS_CFS: u32 = 1 << 1;
/// CSTS: how far a shutdown is.
pub(crate) const CSTS_SHST: u32 = 0x3 << 2;
/// CSTS: a shutdown is going on.
pub(crate) const CSTS_SHST_OCCURRING: u32 = 0x1 << 2;
/// CSTS: a shutdown is complete.
pub(crate) const CSTS_SHST_COMPLETE: u32 = 0x2 << 2;
/// CSTS: the subsystem was reset.
pub(crate) const CSTS_NSSRO: u32 = 1 << 4;
/// The bits that CSTS has.
pub(crate) const CSTS_ALL: u32 = CSTS_RDY | CSTS_CFS | CSTS_SHST | CSTS_NSSRO;

/// NSSR: "NVMe", which resets the subsystem.
pub(crate) const NSSR_RESET: u32 = 0x4e56_4d65;

/// AQA: entries of the admin submission queue less one.
const AQA_ASQS: u32 = 0xfff;
/// AQA: entries of the admin completion queue less one.
const AQA_ACQS: u32 = 0xfff << AQA_ACQS_SHIFT;
const AQA_ACQS_SHIFT: u32 = 16;
/// The bits that AQA has.
pub(crate) const AQA_ALL: u32 = AQA_ASQS | AQA_ACQS;
/// The bits that ASQ and ACQ have.
pub(crate) const ADMIN_BASE_ALL: u64 = !0xfff;

/// Binary logarithm of the bytes of a submission queue entry.
pub(crate) const SQES: u32 = 6;
/// Binary logarithm of the bytes of a completion queue entry.
pub(crate) const CQES: u32 = 4;

/// What software wrote to the registers and the controller answers in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registers {
    /// The interrupt mask that INTMS and INTMC set and clear.
    pub(crate) interrupt_mask: u32,
    /// Controller configuration.
    pub(crate) cc: u32,
    /// Controller status.
    pub(crate) csts: u32,
    /// Admin queue attributes.
    pub(crate) aqa: u32,
    /// Admin submission queue base address.
    pub(crate) asq: u64,
    /// Admin completion queue base address.
    pub(crate) acq: u64,
}

impl Registers {
    /// Whether software wants the controller enabled.
    pub(crate) fn enabled(&self) -> bool {
        self.cc & CC_EN != 0
    }

    /// Whether commands are executed.
    pub(crate) fn running(&self) -> bool {
        self.csts & (CSTS_RDY | CSTS_CFS) == CSTS_RDY
    }

    /// Whether the controller is to be enabled and neither is nor failed.
    pub(crate) fn enabling(&self) -> bool {
        self.enabled() && self.csts & (CSTS_RDY | CSTS_CFS) == 0
    }

    /// Whether a shutdown is to be completed.
    pub(crate) fn shutting_down(&self) -> bool {
        self.csts & CSTS_SHST == CSTS_SHST_OCCURRING
    }

    /// Whether a shutdown has been completed.
    pub(crate) fn is_shut_down(&self) -> bool {
        self.csts & CSTS_SHST == CSTS_SHST_COMPLETE
    }

    /// Binary logarithm of the page size, which is one that the controller has once it is enabled.
    pub(crate) fn page_shift(&self) -> u32 {
        PAGE_SHIFT_MIN + ((self.cc & CC_MPS) >> CC_MPS_SHIFT)
    }

    /// Whether software chose the only entry size of I/O submission queues.
    pub(crate) fn submission_entries_fit(&self) -> bool {
        (self.cc & CC_IOSQES) >> CC_IOSQES_SHIFT == SQES
    }

    /// Whether software chose the only entry size of I/O completion queues.
    pub(crate) fn completion_entries_fit(&self) -> bool {
        (self.cc & CC_IOCQES) >> CC_IOCQES_SHIFT == CQES
    }

    /// Entries of the admin submission queue.
    pub(crate) fn admin_submission_entries(&self) -> u32 {
        (self.aqa & AQA_ASQS) + 1
    }

    /// Entries of the admin completion queue.
    pub(crate) fn admin_completion_entries(&self) -> u32 {
        ((self.aqa & AQA_ACQS) >> AQA_ACQS_SHIFT) + 1
    }

    /// Whether the controller can be enabled with what software wrote.
    pub(crate) fn can_enable(&self) -> bool {
        let mps = (self.cc & CC_MPS) >> CC_MPS_SHIFT;
        // A queue of one entry would be empty and full at the same time.
        let sizes_fit = self.admin_submission_entries() > 1 && self.admin_completion_entries() > 1;

        u64::from(mps) <= PAGE_SIZE_MAX
            && self.cc & (CC_CSS | CC_AMS) == 0
            && sizes_fit
            && is_aligned(self.asq, self.page_shift())
            && is_aligned(self.acq, self.page_shift())
    }

    /// The registers' bytes as reads return them.
    pub(crate) fn image(&self) -> [u8; REGISTERS_END] {
        let mut image = [0; REGISTERS_END];
        image[CAP..CAP + 8].copy_from_slice(&CAPABILITIES.to_le_bytes());
        image[VS..VS + 4].copy_from_slice(&VERSION.to_le_bytes());
        image[INTMS..INTMS + 4].copy_from_slice(&self.interrupt_mask.to_le_bytes());
        image[INTMC..INTMC + 4].copy_from_slice(&self.interrupt_mask.to_le_bytes());
        image[CC..CC + 4].copy_from_slice(&self.cc.to_le_bytes());
        image[CSTS..CSTS + 4].copy_from_slice(&self.csts.to_le_bytes());
        image[AQA..AQA + 4].copy_from_slice(&self.aqa.to_le_bytes());
        image[ASQ..ASQ + 8].copy_from_slice(&self.asq.to_le_bytes());
        image[ACQ..ACQ + 8].copy_from_slice(&self.acq.to_le_bytes());
        image
    }
}

/// Whether `address` is a multiple of 2 to the power of `shift`.
pub(crate) fn is_aligned(address: u64, shift: u32) -> bool {
    address.trailing_zeros() >= shift
}
