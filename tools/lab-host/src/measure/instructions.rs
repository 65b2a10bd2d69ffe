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
use vfio_client::GroupSession;
use vfio_client::GuestMemory;
use vfio_client::Session;
use vfio_drivers::nvme;
use vfio_drivers::nvme::content;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::polling::Load;
use vfio_drivers::nvme::polling::Polling;
use vfio_drivers::nvme::polling::MAX_SIZE;
use vfio_drivers::nvme::polling::MAX_UNDER_WAY;
use vfio_drivers::nvme::polling::MEMORY_SIZE;
use vfio_drivers::nvme::polling::RANGE;
use vfio_drivers::nvme::Controller;
use vfio_drivers::nvme::MAX_DEPTH;

use super::outcome;
use crate::mdev::Mdev;
use crate::recipe::Recipe;
use crate::report;
use crate::report::doing;

/// The IOVA of the driver's memory.
const MEMORY: u64 = 0x100_0000;

/// Entries of the admin queues.
const ADMIN_DEPTH: u16 = 16;

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

/// A controller of which a queue is polled.
struct Disk {
    memory: GuestMemory,
    controller: Controller,
}

impl Disk {
    /// Starts the controller anew, and makes a queue.
    fn start(&mut self, shadows: bool) -> Result<Polling> {
        self.controller.restart(ADMIN_DEPTH)?;
        let shift = self.controller.block_shift(1)?;
        let queue = self.controller.create_pair(MAX_DEPTH, None)?;
        let mut polling = Polling::new(&self.controller, queue, shift);
        if shadows {
            let config = Polling::doorbell_buffer_config(&self.memory);
            self.controller.succeed(0, config)?;
            polling.use_shadows();
        }
        Ok(polling)
    }

    /// The client's own instructions for a load.
    fn rehearse(&mut self, load: &Load, shadows: bool) -> Result<u64> {
        // The controller must not see what is posted.
        let mut polling = self.start(false)?;
        if shadows {
            polling.use_shadows();
        }
        // The first time, memory is touched that was never there.
        polling.rehearse(load)?;
        Ok(polling.rehearse(load)?.time.as_nanos() as u64)
    }
}

fn run(device: &str, round: usize) -> Result<()> {
    let mdev = Mdev::create(&Recipe::new(device))?;
    let session = GroupSession::open(&vfio_client::Mdev::existing(mdev.uuid()))?;
    let memory = GuestMemory::new(MEMORY, MEMORY_SIZE)?;
    memory.attach(session.space())?;
    let mut disk = Disk {
        controller: Controller::new(&session.device, &memory)?,
        memory,
    };
    for slot in 0..MAX_UNDER_WAY {
        // A disk in memory keeps nothing of a block of zeros.
        let bytes = content(slot.into(), 1).repeat((MAX_SIZE / nvme::PAGE) as usize);
        disk.memory
            .write(Polling::buffer(&disk.memory, slot), &bytes);
    }
    let fill = Load {
        opcode: nvm::WRITE,
        size: MAX_SIZE,
        under_way: MAX_UNDER_WAY,
        commands: RANGE / MAX_SIZE,
    };
    disk.start(false)?.measure(&disk.controller, &fill)?;
    for shadow_doorbells in [false, true] {
        for (writes, opcode) in [(false, nvm::READ), (true, nvm::WRITE)] {
            for (size, under_way, commands) in LOADS {
                let load = Load {
                    opcode,
                    size,
                    under_way,
                    commands,
                };
                let client = disk.rehearse(&load, shadow_doorbells)?;
                let mut polling = disk.start(shadow_doorbells)?;
                let warm_up = Load {
                    commands: commands / 8,
                    ..load
                };
                polling.measure(&disk.controller, &warm_up)?;
                let took = polling.measure(&disk.controller, &load)?;
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
