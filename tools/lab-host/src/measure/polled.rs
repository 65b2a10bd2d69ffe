// SPDX-License-Identifier: GPL-2.0

//! A disk whose only user is this process.

use anyhow::Result;
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

use crate::mdev::Mdev;
use crate::recipe::Recipe;

/// The IOVA of the driver's memory. That of further clients follows.
const MEMORY: u64 = 0x100_0000;

/// Entries of the admin queues.
const ADMIN_DEPTH: u16 = 16;

/// Such a disk. The mdev is dropped last: its removal waits for the last user.
pub struct Polled {
    controller: Controller,
    memory: GuestMemory,
    _session: GroupSession,
    _mdev: Mdev,
}

impl Polled {
    /// Makes a disk and opens it.
    pub fn open(recipe: &Recipe) -> Result<Self> {
        let mdev = Mdev::create(recipe)?;
        let session = GroupSession::open(&vfio_client::Mdev::existing(mdev.uuid()))?;
        let memory = GuestMemory::new(MEMORY, MEMORY_SIZE)?;
        memory.attach(session.space())?;
        let controller = Controller::new(&session.device, &memory)?;
        // A disk in memory keeps nothing of a block of zeros.
        for slot in 0..MAX_UNDER_WAY {
            let bytes = content(slot.into(), 1).repeat((MAX_SIZE / nvme::PAGE) as usize);
            memory.write(Polling::buffer(&memory, slot), &bytes);
        }
        Ok(Self {
            controller,
            memory,
            _session: session,
            _mdev: mdev,
        })
    }

    pub fn controller(&self) -> &Controller {
        &self.controller
    }

    /// Starts the controller anew, and makes a queue pair whose client polls. MSI-X is on, as it is in a guest: with the pin in use
    /// the controller asks for every doorbell.
    pub fn start(&mut self) -> Result<Polling> {
        self.controller.connect(1)?;
        self.controller.restart(ADMIN_DEPTH)?;
        self.add_queue(None)
    }

    /// Starts the controller anew, and makes a queue pair whose client waits for interrupts.
    pub fn start_with_interrupts(&mut self) -> Result<Polling> {
        self.controller.connect(2)?;
        self.controller.restart(ADMIN_DEPTH)?;
        self.add_queue(Some(1))
    }

    /// Makes one more queue pair.
    pub fn add_queue(&mut self, vector: Option<u16>) -> Result<Polling> {
        let shift = self.controller.block_shift(1)?;
        let queue = self.controller.create_pair(MAX_DEPTH, vector)?;
        Ok(Polling::new(&self.controller, queue, shift))
    }

    /// Uses shadow doorbells for all queues.
    pub fn share_doorbells(&mut self, polling: &mut Polling) -> Result<()> {
        let config = Polling::doorbell_buffer_config(&self.memory);
        self.controller.succeed(0, config)?;
        polling.use_shadows();
        Ok(())
    }

    /// Writes [`RANGE`], so that no read finds a block that was never written.
    pub fn fill(&mut self) -> Result<()> {
        let fill = Load {
            opcode: nvm::WRITE,
            size: MAX_SIZE,
            under_way: MAX_UNDER_WAY,
            commands: RANGE / MAX_SIZE,
            range: RANGE,
            step: 1,
        };
        self.start()?.measure(&self.controller, &fill)?;
        Ok(())
    }
}
