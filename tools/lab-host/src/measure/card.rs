// SPDX-License-Identifier: GPL-2.0

//! The cost of moving a guest with a network card.

use std::time::Instant;

use anyhow::Result;
use lab_host::device::CARD_DRIVER;
use lab_host::event::Cost;
use lab_host::event::What;
use lab_host::job::CardLoad;
use lab_host::job::MEASURED_QEMU;

use super::outcome;
use crate::assigned::Assigned;
use crate::recipe::Recipe;
use crate::report;
use crate::scenarios::Running;
use crate::scenarios::DOWNTIME_LIMIT;
use crate::trace::Tracer;
use crate::vm::Hardware;

/// The downtime limit in milliseconds of a guest whose card's DMA is followed. QEMU stops a guest as soon as what is left can be
/// sent in that time; with its default, 300 ms, it stops before following has saved what it can.
const DOWNTIME: u64 = 20;

/// Measures the cost of moving a guest whose card has such a load.
pub fn cost(tracer: &Tracer, load: CardLoad, round: usize) {
    let name = format!("round {}: migration with {}", round + 1, load.name());
    let began = Instant::now();
    outcome(&name, began, measure(tracer, load, round));
}

fn measure(tracer: &Tracer, load: CardLoad, round: usize) -> Result<()> {
    let recipe = Recipe::new(CARD_DRIVER);
    let hardware = Hardware {
        qemu: MEASURED_QEMU,
        machine: MEASURED_QEMU,
        devices: vec![Assigned::create(&recipe)?],
        memory_mib: Some(load.memory_mib),
        ..Hardware::default()
    };
    let mut from = Running::boot(tracer, hardware)?;
    if load.datagrams_per_second > 0 {
        from.traffic.set_rate(load.datagrams_per_second);
        from.traffic.begin(&from.guest, &from.vm.link)?;
    }
    from.wait_alive("before the migration")?;
    let (mut to, uri) = from.destination(from.twins()?)?;
    from.set(DOWNTIME_LIMIT, DOWNTIME)?;
    let migrated = from.migrate(&mut to, &uri)?;
    report::say(What::Cost(Cost {
        disk: load.name(),
        round,
        capacity: load.memory_mib << 20,
        stopped_bytes: migrated.downtime_bytes,
        sent_bytes: migrated.ram_bytes,
        downtime_ms: migrated.downtime_ms,
        total_ms: migrated.total_ms,
        ..Cost::default()
    }));
    // Without a stream through the card, the guest's verdict is that it answers.
    to.traffic.end(&to.guest, &to.vm.link)?;
    to.guest.stop(&to.vm.link)?;
    Ok(())
}
