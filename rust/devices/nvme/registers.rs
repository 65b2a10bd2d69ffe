// SPDX-License-Identifier: GPL-2.0

//! The values of the controller's registers, section 3.1, and their meaning for this controller.

use device_model::saved_state::{
    check_range,
    StateError,
    StateReader,
    StateWriter, //
};

use crate::spec::command::SQES;
use crate::spec::completion::CQES;
use crate::spec::registers::{
    AdminBase,
    Aqa,
    Cap,
    Cc,
    Csts,
    Register,
    ShutdownStatus,
    PAGE_SHIFT_MIN,
    VS_1_4, //
};

/// VS: revision 1.4 of the specification.
pub(crate) const VERSION: u32 = VS_1_4;

/// The most entries of an I/O queue.
pub(crate) const QUEUE_ENTRIES_MAX: u32 = 1024;

/// CAP.TO: 30 s, as the host of the guest may be busy.
pub(crate) const READY_TIMEOUT: u64 = 60;
/// CAP.MPSMAX: pages have up to 64 KiB.
const PAGE_SIZE_MAX: u64 = 4;

/// CAP.
const CAPABILITIES: Cap = Cap::CQR
    .set(Cap::NSSRS)
    .set(Cap::CSS_NVM)
    .with(Cap::MQES, QUEUE_ENTRIES_MAX as u64 - 1)
    .with(Cap::TO, READY_TIMEOUT)
    .with(Cap::MPSMAX, PAGE_SIZE_MAX);

/// What software wrote to the registers, and the controller's answers in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registers {
    /// The interrupt mask that INTMS sets and INTMC clears.
    pub(crate) interrupt_mask: u32,
    pub(crate) cc: Cc,
    pub(crate) csts: Csts,
    pub(crate) aqa: Aqa,
    pub(crate) asq: AdminBase,
    pub(crate) acq: AdminBase,
}

impl Registers {
    /// Bytes of the saved registers.
    pub(crate) const STATE_SIZE: usize = 32;

    /// Returns whether software wants the controller enabled.
    pub(crate) fn enabled(&self) -> bool {
        self.cc.intersects(Cc::EN)
    }

    /// Returns whether the controller is ready and has not failed.
    pub(crate) fn running(&self) -> bool {
        self.csts.only(Csts::RDY.set(Csts::CFS)) == Csts::RDY
    }

    /// Returns whether the controller is to be enabled, and neither is nor has failed.
    pub(crate) fn enabling(&self) -> bool {
        self.enabled() && self.is_idle()
    }

    /// Returns whether the controller is neither ready nor has failed.
    pub(crate) fn is_idle(&self) -> bool {
        !self.csts.intersects(Csts::RDY.set(Csts::CFS))
    }

    /// Returns whether a shutdown is to be completed.
    pub(crate) fn shutting_down(&self) -> bool {
        self.csts.is_shutdown(ShutdownStatus::Occurring)
    }

    /// Returns whether a shutdown has been completed.
    pub(crate) fn is_shut_down(&self) -> bool {
        self.csts.is_shutdown(ShutdownStatus::Complete)
    }

    /// Binary logarithm of the page size: of one that the controller has, once it is enabled.
    pub(crate) fn page_shift(&self) -> u32 {
        PAGE_SHIFT_MIN + self.cc.field(Cc::MPS)
    }

    /// Returns whether CC.IOSQES is the only size that entries have.
    pub(crate) fn submission_entries_fit(&self) -> bool {
        self.cc.field(Cc::IOSQES) == SQES
    }

    /// Returns whether CC.IOCQES is the only size that entries have.
    pub(crate) fn completion_entries_fit(&self) -> bool {
        self.cc.field(Cc::IOCQES) == CQES
    }

    /// Returns whether the controller can be enabled with what software wrote.
    pub(crate) fn can_enable(&self) -> bool {
        // A queue of one entry would be empty and full at the same time.
        let sizes_fit = self.aqa.submission_entries() > 1 && self.aqa.completion_entries() > 1;

        u64::from(self.cc.field(Cc::MPS)) <= PAGE_SIZE_MAX
            && !self.cc.intersects(Cc::CSS.set(Cc::AMS))
            && sizes_fit
            && is_aligned(self.asq.bits(), self.page_shift())
            && is_aligned(self.acq.bits(), self.page_shift())
    }

    /// Returns the bytes of the registers as reads do.
    pub(crate) fn image(&self) -> [u8; Register::END] {
        let mut image = [0; Register::END];
        let mut put = |register: Register, bytes: &[u8]| {
            image[register.offset()..register.offset() + bytes.len()].copy_from_slice(bytes);
        };
        put(Register::Cap, &CAPABILITIES.bits().to_le_bytes());
        put(Register::Vs, &VERSION.to_le_bytes());
        put(Register::Intms, &self.interrupt_mask.to_le_bytes());
        put(Register::Intmc, &self.interrupt_mask.to_le_bytes());
        put(Register::Cc, &self.cc.bits().to_le_bytes());
        put(Register::Csts, &self.csts.bits().to_le_bytes());
        put(Register::Aqa, &self.aqa.bits().to_le_bytes());
        put(Register::Asq, &self.asq.bits().to_le_bytes());
        put(Register::Acq, &self.acq.bits().to_le_bytes());
        image
    }

    /// Saves the registers.
    pub(crate) fn save(&self, state: &mut StateWriter<'_>) {
        state.u32(self.cc.bits());
        state.u32(self.csts.bits());
        state.u32(self.interrupt_mask);
        state.u32(self.aqa.bits());
        state.u64(self.asq.bits());
        state.u64(self.acq.bits());
    }

    /// Loads what [`Self::save`] saved.
    pub(crate) fn load(state: &mut StateReader<'_>) -> Result<Self, StateError> {
        let cc = state.u32_of("CC", Cc::ALL.bits())?;
        let csts = state.u32_of("CSTS", Csts::ALL.bits())?;
        let interrupt_mask = state.u32()?;
        let aqa = state.u32_of("AQA", Aqa::ALL.bits())?;
        let asq = state.u64_of("ASQ", AdminBase::ALL.bits())?;
        let acq = state.u64_of("ACQ", AdminBase::ALL.bits())?;

        let csts = Csts::from_bits(csts);
        check_range(
            "CSTS.SHST",
            csts.only(Csts::SHST).bits().into(),
            Csts::default()
                .with_shutdown(ShutdownStatus::Complete)
                .bits()
                .into(),
        )?;
        Ok(Self {
            interrupt_mask,
            cc: Cc::from_bits(cc),
            csts,
            aqa: Aqa::from_bits(aqa),
            asq: AdminBase::from_bits(asq),
            acq: AdminBase::from_bits(acq),
        })
    }
}

/// Returns whether `address` is a multiple of 2 to the power of `shift`.
pub(crate) fn is_aligned(address: u64, shift: u32) -> bool {
    address.trailing_zeros() >= shift
}
