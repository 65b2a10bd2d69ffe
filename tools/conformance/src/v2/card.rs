// SPDX-License-Identifier: GPL-2.0

//! A network card's own log of its DMA.

use std::collections::BTreeSet;

use vfio_client::dirty::DirtyPages;
use vfio_client::dirty::DIRTY_PAGE;

use crate::case::cases;
use crate::case::Case;
use crate::check::same;
use crate::check::Outcome;
use crate::network::receive_and_look;
use crate::network::station;
use crate::network::GUEST;
use crate::network::PEER;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v2::device::TestDevice;

const NEEDS: &[Requirement] = &[
    Requirement::V2,
    Requirement::DirtyLog,
    Requirement::E1000e,
    Requirement::Pair,
];

pub const CASES: &[Case] = cases![
    NEEDS;
    card_logs_all_that_it_writes,
    card_logs_replaced_buffers,
];

fn receives(target: &Target, replace: bool) -> Outcome {
    let device = TestDevice::new(target)?;
    let mut guest = station(&device, GUEST)?;
    if replace {
        guest.replace_buffers();
    }
    let peer_device = TestDevice::new(target)?;
    let mut peer = station(&peer_device, PEER)?;
    let (start, size) = (device.memory()?.start(), device.memory()?.size());
    let log = &device.migration;
    same(
        "size of a page",
        log.start_logging(DIRTY_PAGE, &[(start, size)])?,
        DIRTY_PAGE,
    )?;
    let look = || -> Outcome<BTreeSet<u64>> {
        let words = log.take_logged(start, size, DIRTY_PAGE)?;
        Ok(DirtyPages::new(start, words).pages().into_iter().collect())
    };
    receive_and_look(&device, &mut guest, &mut peer, look)?;
    Ok(log.stop_logging()?)
}

fn card_logs_all_that_it_writes(target: &Target) -> Outcome {
    receives(target, false)
}

fn card_logs_replaced_buffers(target: &Target) -> Outcome {
    receives(target, true)
}
