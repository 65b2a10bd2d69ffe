// SPDX-License-Identifier: GPL-2.0

//! The instructions for a command of a disk, with this process as the disk's only user.
//!
//! The VM's clock goes on with each instruction of the only processor, so a difference of times is a number of instructions. All
//! of them are counted: the disk's worker, the system calls of the client, and the switches between both. The client's own part
//! is what a rehearsal without the disk takes.

use std::time::Instant;

use anyhow::Result;
use lab_host::event::Instructions;
use lab_host::event::What;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::polling::Load;
use vfio_drivers::nvme::polling::MAX_SIZE;
use vfio_drivers::nvme::polling::MAX_UNDER_WAY;
use vfio_drivers::nvme::polling::RANGE;

use super::outcome;
use super::polled::Polled;
use crate::recipe::Recipe;
use crate::report;
use crate::report::doing;

/// Bytes of a command, commands under way, and the number of commands.
const LOADS: [(u64, u16, u64); 4] = [
    (4096, 1, 2048),
    (4096, MAX_UNDER_WAY, 2048),
    (MAX_SIZE, 1, 256),
    (MAX_SIZE, MAX_UNDER_WAY, 256),
];

/// Measures a disk of the type `device`.
pub fn measure(device: &str, round: usize) {
    outcome("instructions", Instant::now(), run(device, round));
}

/// The client's own instructions for a load.
fn rehearse(disk: &mut Polled, load: &Load, shadows: bool) -> Result<u64> {
    // The controller must not see what is posted.
    let mut polling = disk.start()?;
    if shadows {
        polling.use_shadows();
    }
    // The first time, memory is touched that was never there.
    polling.rehearse(load)?;
    Ok(polling.rehearse(load)?.time.as_nanos() as u64)
}

fn run(device: &str, round: usize) -> Result<()> {
    let mut disk = Polled::open(&Recipe::new(device))?;
    disk.fill()?;
    for shadow_doorbells in [false, true] {
        for (writes, opcode) in [(false, nvm::READ), (true, nvm::WRITE)] {
            for (size, under_way, commands) in LOADS {
                let load = Load {
                    opcode,
                    size,
                    under_way,
                    commands,
                    range: RANGE,
                    step: 1,
                };
                let client = rehearse(&mut disk, &load, shadow_doorbells)?;
                let mut polling = disk.start()?;
                if shadow_doorbells {
                    disk.share_doorbells(&mut polling)?;
                }
                let warm_up = Load {
                    commands: commands / 8,
                    ..load
                };
                polling.measure(disk.controller(), &warm_up)?;
                let took = polling.measure(disk.controller(), &load)?;
                let seen = Instructions {
                    writes,
                    size,
                    under_way,
                    shadow_doorbells,
                    round,
                    commands,
                    all: took.time.as_nanos() as u64,
                    client,
                    exits: took.exits,
                    looks: took.looks,
                };
                doing(seen.workload());
                report::say(What::Instructions(seen));
            }
        }
    }
    Ok(())
}
