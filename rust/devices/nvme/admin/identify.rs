// SPDX-License-Identifier: GPL-2.0

//! Identify, section 5.15: the data structures that describe the controller and its namespace.

use device_model::GuestMemory;

use super::Outcome;
use crate::error_log;
use crate::events::REQUESTS_MAX;
use crate::executor::Executor;
use crate::features::{
    TEMPERATURE_CRITICAL,
    TEMPERATURE_WARNING, //
};
use crate::function::VENDOR_REDHAT_QUMRANET;
use crate::identifiers::{
    namespace_uuid,
    subsystem,
    UUID_SIZE, //
};
use crate::names::Names;
use crate::namespace::Selected;
use crate::parameters::{
    Parameters,
    STORE_ZEROING, //
};
use crate::prp::{
    TRANSFER_MAX,
    TRANSFER_SHIFT, //
};
use crate::registers::{
    READY_TIMEOUT,
    VERSION, //
};
use crate::spec::command::{
    Command,
    SQES, //
};
use crate::spec::completion::CQES;
use crate::spec::identify::{
    controller as id_ctrl,
    controller::SN_SIZE,
    descriptor as id_descriptor,
    namespace as id_ns,
    Cns,
    SIZE, //
};
use crate::spec::status::Status;
use crate::window::Window;

/// Commands that can be aborted at the same time, less one, as section 5.15 recommends.
const ABORT_LIMIT: u8 = 3;
/// The largest NSID that Identify takes for a list of those that come after it.
const NSID_LAST: u32 = 0xffff_fffd;
/// RTD3 resume and entry latency, which drivers wait for at a shutdown: the time that the medium of a
/// store may need for all that was written, in microseconds. It is as long as enabling may take.
const FLUSH_TIME_US: u32 = READY_TIMEOUT as u32 * 500_000;

impl Executor {
    /// Identify.
    pub(super) fn identify<M: GuestMemory>(
        &mut self,
        command: &Command,
        memory: &mut M,
    ) -> Outcome {
        let nsid = command.nsid;
        let parameters = &self.parameters;
        let cns = Cns::decode(command.cdw10()).ok_or(Status::INVALID_FIELD.unlogged())?;
        let namespace = self.namespace(nsid);
        let namespace = match cns {
            Cns::Namespace | Cns::Descriptors => Some(namespace.ok_or(Status::INVALID_NAMESPACE)?),
            Cns::ActiveNamespaces if nsid > NSID_LAST => return Err(Status::INVALID_NAMESPACE),
            Cns::ActiveNamespaces | Cns::Controller => None,
        };
        self.give(command, 0, SIZE, memory, |window| match (cns, &namespace) {
            (Cns::Controller, _) => controller(window, parameters, &self.names),
            (Cns::ActiveNamespaces, _) => active_namespaces(window, nsid, parameters.count()),
            (Cns::Namespace, Some(namespace)) => self.describe_namespace(window, nsid, namespace),
            (Cns::Descriptors, Some(_)) => descriptors(window, &parameters.serial, nsid),
            // They name one.
            (Cns::Namespace | Cns::Descriptors, None) => {}
        })?;
        Ok(Some(0))
    }

    /// Describes a namespace, figure 245.
    fn describe_namespace(&self, window: &mut Window<'_>, nsid: u32, namespace: &Selected) {
        let parameters = &namespace.parameters;
        let blocks = namespace.blocks();
        // The guest is not told what the store has allocated.
        for field in [id_ns::NSZE, id_ns::NCAP, id_ns::NUSE] {
            window.put_u64(field, blocks);
        }
        let dlfeat = match parameters.store {
            STORE_ZEROING => id_ns::DLFEAT_READ_ZEROES | id_ns::DLFEAT_WRITE_ZEROES,
            // A file system may not be able to punch a hole.
            _ => id_ns::DLFEAT_WRITE_ZEROES,
        };
        window.put_u8(id_ns::DLFEAT, dlfeat);
        // A write to memory is done as a whole or not at all. What a file has after a loss of power is up to the host's
        // file system and disk, of which nothing is known here. No boundary and no offset: NABSN, NABO and NABSPF
        // stay 0.
        if parameters.store == STORE_ZEROING {
            let most = TRANSFER_MAX >> namespace.lba_shift();
            window.put_u8(id_ns::NSFEAT, id_ns::NSFEAT_ATOMIC);
            window.put_u16(id_ns::NAWUN, id_ctrl::ALWAYS_ATOMIC);
            // It is at most 1024 blocks.
            window.put_u16(id_ns::NAWUPF, (most - 1) as u16);
        }
        let left = self
            .formatting
            .map_or(0, |formatting| formatting.percent_left(nsid, parameters));
        window.put_u8(id_ns::FPI, id_ns::FPI_SUPPORTED | left);
        // NGUID at 104 and EUI64 at 120 stay 0, as both begin with an identifier that the IEEE assigns to
        // a maker. The namespace has a UUID instead, among the descriptors.
        // No format has metadata.
        let formats = parameters.lba_formats();
        window.put_u8(id_ns::NLBAF, formats - 1);
        window.put_u8(id_ns::FLBAS, namespace.state.format);
        for format in 0..formats {
            window.put_u8(id_ns::lbads(format), parameters.lba_shift_of(format));
        }
    }
}

/// Describes the controller, figure 247.
fn controller(window: &mut Window<'_>, parameters: &Parameters, names: &Names) {
    window.put_u16(id_ctrl::VID, VENDOR_REDHAT_QUMRANET);
    window.put_u16(id_ctrl::SSVID, VENDOR_REDHAT_QUMRANET);
    window.put(id_ctrl::SN, &parameters.serial);
    window.put(id_ctrl::MN, &names.model);
    window.put(id_ctrl::FR, &names.firmware);
    // IEEE at 73 stays 0: the makers of this controller have no such identifier.
    window.put_u8(id_ctrl::MDTS, TRANSFER_SHIFT as u8);
    window.put_u32(id_ctrl::VER, VERSION);
    // A shutdown waits until the medium has everything.
    let all_in_memory = parameters
        .namespaces()
        .all(|namespace| namespace.store == STORE_ZEROING);
    if !all_in_memory {
        window.put_u32(id_ctrl::RTD3R, FLUSH_TIME_US);
        window.put_u32(id_ctrl::RTD3E, FLUSH_TIME_US);
    }
    window.put_u8(id_ctrl::CNTRLTYPE, id_ctrl::CNTRLTYPE_IO);

    // FNA at 524 stays 0: a format, and an erasure, is about one namespace, and is not cryptographic.
    window.put_u16(
        id_ctrl::OACS,
        id_ctrl::OACS_FORMAT | id_ctrl::OACS_DOORBELL_BUFFER,
    );
    window.put_u8(id_ctrl::ACL, ABORT_LIMIT);
    window.put_u8(id_ctrl::AERL, REQUESTS_MAX as u8 - 1);
    window.put_u8(id_ctrl::FRMW, id_ctrl::FRMW_ONE_READ_ONLY_SLOT);
    window.put_u8(
        id_ctrl::LPA,
        id_ctrl::LPA_EFFECTS | id_ctrl::LPA_EXTENDED_DATA,
    );
    window.put_u8(id_ctrl::ELPE, error_log::ENTRIES as u8 - 1);
    window.put_u16(id_ctrl::WCTEMP, TEMPERATURE_WARNING);
    window.put_u16(id_ctrl::CCTEMP, TEMPERATURE_CRITICAL);

    window.put_u8(id_ctrl::SQES, id_ctrl::entry_size(SQES));
    window.put_u8(id_ctrl::CQES, id_ctrl::entry_size(CQES));
    // There are few.
    window.put_u32(id_ctrl::NN, parameters.count() as u32);
    let uncorrectable = match parameters.keeps_marks() {
        true => id_ctrl::ONCS_WRITE_UNCORRECTABLE,
        false => 0,
    };
    window.put_u16(
        id_ctrl::ONCS,
        id_ctrl::ONCS_COMPARE
            | uncorrectable
            | id_ctrl::ONCS_DATASET_MANAGEMENT
            | id_ctrl::ONCS_WRITE_ZEROES
            | id_ctrl::ONCS_SAVE_SELECT
            | id_ctrl::ONCS_VERIFY,
    );
    window.put_u8(id_ctrl::VWC, id_ctrl::VWC_PRESENT | id_ctrl::VWC_FLUSH_ALL);
    // One command is executed after the other. AWUPF at 528 stays 0, as it is about every store; fused commands, and
    // with them ACWU at 532, are not there.
    window.put_u16(id_ctrl::AWUN, id_ctrl::ALWAYS_ATOMIC);
    window.put(id_ctrl::SUBNQN, &subsystem(&parameters.serial));
    // Power state 0 at 2048 claims nothing: no power, no latency.
}

/// Lists the namespaces of `count` that come after `nsid`, figure 241.
fn active_namespaces(window: &mut Window<'_>, nsid: u32, count: usize) {
    let last = count as u32;
    for (index, active) in (nsid.saturating_add(1)..=last).enumerate() {
        window.put_u32(index * size_of::<u32>(), active);
    }
}

/// Lists the identifiers of a namespace, figure 244: its UUID.
fn descriptors(window: &mut Window<'_>, serial: &[u8; SN_SIZE], nsid: u32) {
    window.put_u8(id_descriptor::NIDT, id_descriptor::NIDT_UUID);
    window.put_u8(id_descriptor::NIDL, UUID_SIZE as u8);
    window.put(id_descriptor::NID, &namespace_uuid(serial, nsid));
}
