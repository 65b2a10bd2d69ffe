// SPDX-License-Identifier: GPL-2.0

//! The cost of moving a guest with a network card, and the speed of such a card beside one that plain vfio-pci passes through.

use std::time::Instant;

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use lab_guest::datagram::JUMBO;
use lab_guest::datagram::ORDINARY;
use lab_guest::network::GUEST;
use lab_guest::network::PREFIX;
use lab_host::device::CARD_DRIVER;
use lab_host::device::PLAIN_DRIVER;
use lab_host::event::Cost;
use lab_host::event::Speed;
use lab_host::event::What;
use lab_host::job::CardLoad;
use lab_host::job::MEASURED_QEMU;

use super::outcome;
use crate::assigned::Assigned;
use crate::network::BRIDGE;
use crate::program;
use crate::recipe::Recipe;
use crate::report;
use crate::report::doing;
use crate::scenarios::Running;
use crate::scenarios::ALL_DIRTY_DOWNTIME;
use crate::scenarios::DOWNTIME_LIMIT;
use crate::trace::Tracer;
use crate::vm::Hardware;

/// The downtime limit in milliseconds of a guest whose card's DMA is followed, at first. QEMU stops a guest as soon as what is left can
/// be sent in that time; with its default, 300 ms, it stops before following has saved what it can. What the card owns is dirty in
/// each pass, so that QEMU never stops a guest if it cannot send as much in that time: then the limit is raised.
const DOWNTIME: u64 = 20;

/// The longest datagrams in bytes with which the speed is measured. With short ones the share of the trap is largest.
const LENGTHS: [usize; 3] = [64, ORDINARY, JUMBO];

/// The names of the guest's interfaces: of a card with the variant driver, and of one that plain vfio-pci passes through.
const INTERFACES: [&str; 2] = ["variant", "plain"];

/// Measures the cost of moving a guest whose card has such a load.
pub fn cost(tracer: &Tracer, load: CardLoad, round: usize) {
    let name = format!("round {}: migration with {}", round + 1, load.name());
    let began = Instant::now();
    outcome(&name, began, measure_cost(tracer, load, round));
}

/// A guest's hardware with a card for each of `kinds`.
fn hardware(kinds: &[&str]) -> Result<Hardware> {
    let devices = kinds
        .iter()
        .map(|kind| Assigned::create(&Recipe::new(kind)));
    Ok(Hardware {
        qemu: MEASURED_QEMU,
        machine: MEASURED_QEMU,
        devices: devices.collect::<Result<_>>()?,
        ..Hardware::default()
    })
}

fn measure_cost(tracer: &Tracer, load: CardLoad, round: usize) -> Result<()> {
    let hardware = Hardware {
        memory_mib: Some(load.memory_mib),
        ..hardware(&[CARD_DRIVER])?
    };
    let mut from = Running::boot(tracer, hardware)?;
    if load.percent > 0 {
        doing("measuring what the link carries");
        let rates = from.traffic.measure(&from.guest, &from.vm.link)?;
        doing(format!(
            "the link carries {:.0} datagrams/s to the guest and {:.0} to the host",
            rates.to_guest, rates.to_host
        ));
        from.traffic.set_share(rates, load.percent);
        from.traffic.begin(&from.guest, &from.vm.link)?;
    }
    from.wait_alive("before the migration")?;
    let (mut to, uri) = from.destination(from.twins()?)?;
    from.set(DOWNTIME_LIMIT, DOWNTIME)?;
    from.rising_downtime = Some(if load.followed {
        DOWNTIME
    } else {
        ALL_DIRTY_DOWNTIME
    });
    let migrated = from.migrate(&mut to, &uri)?;
    report::say(What::Cost(Cost {
        disk: load.name(),
        round,
        capacity: load.memory_mib << 20,
        stopped_bytes: migrated.downtime_bytes,
        sent_bytes: migrated.ram_bytes,
        downtime_ms: migrated.downtime_ms,
        total_ms: migrated.total_ms,
        downtime_limit_ms: from.rising_downtime.unwrap_or_default(),
        ..Cost::default()
    }));
    // Without a stream through the card, the guest's verdict is that it answers.
    to.traffic.end(&to.guest, &to.vm.link)?;
    to.guest.stop(&to.vm.link)?;
    Ok(())
}

/// Measures a card with the variant driver beside one that plain vfio-pci passes through.
pub fn speed(tracer: &Tracer, rounds: usize) {
    let began = Instant::now();
    outcome(
        "speed of a network card",
        began,
        measure_speed(tracer, rounds),
    );
}

fn measure_speed(tracer: &Tracer, rounds: usize) -> Result<()> {
    let kinds = [CARD_DRIVER, PLAIN_DRIVER];
    let running = Running::boot(tracer, hardware(&kinds)?)?;
    name_interfaces(&running)?;
    let mut cards = [(kinds[0], INTERFACES[0]), (kinds[1], INTERFACES[1])];
    for round in 0..rounds {
        for length in LENGTHS {
            running.traffic.set_longest(length);
            for (driver, interface) in cards {
                let workload = format!("datagrams of at most {length} bytes");
                doing(format!("round {}: {driver}: {workload}", round + 1));
                use_card(&running, interface)?;
                let rates = running.traffic.measure(&running.guest, &running.vm.link)?;
                report::say(What::Speed(Speed {
                    disk: driver.to_owned(),
                    workload,
                    round,
                    per_second: rates.to_guest + rates.to_host,
                    bytes_per_second: rates.bytes_to_host,
                    ..Speed::default()
                }));
            }
        }
        cards.reverse();
    }
    running.guest.stop(&running.vm.link)?;
    Ok(())
}

/// Names the guest's interfaces after the drivers of its devices, whose order is that of their ports. The guest reports the
/// statistics of its usual interface several times a second, and each report would be many accesses of trapped registers.
fn name_interfaces(running: &Running) -> Result<()> {
    let script = format!(
        "set -e
         set -- {}
         for path in $(for path in /sys/class/net/eth*; do
             echo $(readlink -f $path/device):${{path##*/}}
         done | sort); do
             ip link set ${{path##*:}} down
             ip link set ${{path##*:}} name $1 mtu 9000
             shift
         done
         ls -d {}",
        INTERFACES.join(" "),
        INTERFACES
            .map(|name| format!("/sys/class/net/{name}"))
            .join(" ")
    );
    running.script(&script).context("naming the interfaces")?;
    Ok(())
}

/// Gives the guest's address to `interface` alone, and waits until the host answers there.
fn use_card(running: &Running, interface: &str) -> Result<()> {
    running.script(&format!(
        "set -e
         for other in {}; do
             ip addr flush dev $other
             ip link set $other down
         done
         ip addr add {GUEST}/{PREFIX} dev {interface}
         ip link set {interface} up
         until [ \"$(cat /sys/class/net/{interface}/carrier)\" = 1 ]; do sleep 0.1; done",
        INTERFACES.join(" ")
    ))?;
    // The host has the other card's Ethernet address.
    let status = program::run("/bin/sh", &["-c", &format!("ip neigh flush dev {BRIDGE}")])?;
    ensure!(
        status == 0,
        "ip neigh flush: expected exit status 0, saw {status}"
    );
    Ok(())
}
