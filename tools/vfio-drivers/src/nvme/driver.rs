// SPDX-License-Identifier: GPL-2.0

//! The work that an NVMe controller is given: features, queues, and pages of namespace 1.

use vfio_client::Device;
use vfio_client::Error;
use vfio_client::GuestMemory;

use super::admin;
use super::controller::Controller;
use super::entry::Command;
use super::feature;
use super::head_doorbell;
use super::nvm;
use super::prp::PAGE;
use super::register;
use super::tail_doorbell;
use super::CC_ENABLE;
use super::CC_SIZES;
use super::CSTS_READY;
use crate::compare::same;
use crate::compare::same_bytes;
use crate::probe::Ids;
use crate::random::Random;
use crate::Driver;
use crate::Result;

/// The memory of the driver, in bytes: the queues, and 3.5 MiB for data.
pub const MEMORY_SIZE: usize = 4 << 20;

/// The offsets in the namespace, in bytes, of the pages that [`NvmeDriver::work`] writes.
const FILLED: [u64; 3] = [0, 0x12_3000, 0x7f_f000];
/// The offset of the page that [`NvmeDriver::exercise`] writes.
const SCRATCH: u64 = 0x1_0000;
/// Entries of the queues where the number does not matter.
const DEPTH: u16 = 4;

/// Entries of the admin queues.
fn depth(seed: u8) -> u16 {
    8 + u16::from(seed % 32)
}

/// Returns the content of a page by its offset and a seed.
pub fn content(offset: u64, seed: u64) -> Vec<u8> {
    Random::new(offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (seed + 1) << 32).bytes(PAGE as usize)
}

/// The driver of an NVMe controller whose content may be overwritten.
#[derive(Debug)]
pub struct NvmeDriver {
    device: Device,
    memory: Option<GuestMemory>,
}

/// A controller with an I/O queue pair.
struct Ready {
    controller: Controller,
    queue: u16,
    /// The size of a logical block, as a power of two of bytes.
    shift: u8,
}

impl Ready {
    /// Moves a page between an offset in the namespace and an address.
    fn page(&mut self, opcode: u8, offset: u64, address: u64) -> Result {
        let command = Command::new(opcode)
            .namespace(1)
            .prp(address, 0)
            .blocks(offset >> self.shift, (PAGE >> self.shift) as u32);
        self.controller.succeed(self.queue, command)?;
        Ok(())
    }
}

impl NvmeDriver {
    pub(crate) fn matches(ids: Ids) -> bool {
        (ids.vendor, ids.device) == (0x1af4, 0x10f0)
    }

    pub(crate) fn new(device: &Device) -> Self {
        NvmeDriver {
            device: device.clone(),
            memory: None,
        }
    }

    fn memory(&self) -> Result<&GuestMemory> {
        let none =
            || Error::malformed(format!("{}: NVMe", self.device.name()), "no memory for DMA");
        Ok(self.memory.as_ref().ok_or_else(none)?)
    }

    fn controller(&self) -> Result<Controller> {
        Ok(Controller::new(&self.device, self.memory()?)?)
    }

    /// Resets the controller and makes a queue pair, both with `depth` entries.
    fn ready(&self, mut controller: Controller, depth: u16) -> Result<Ready> {
        controller.restart(depth)?;
        let queue = controller.create_pair(depth, None)?;
        let shift = controller.block_shift(1)?;
        Ok(Ready {
            controller,
            queue,
            shift,
        })
    }
}

impl Driver for NvmeDriver {
    fn name(&self) -> String {
        "NVMe controller".to_string()
    }

    fn memory_size(&self) -> usize {
        MEMORY_SIZE
    }

    fn use_memory(&mut self, memory: &GuestMemory) {
        self.memory = Some(memory.clone());
    }

    fn init(&self) -> Result {
        Ok(self.controller()?.restart(DEPTH)?)
    }

    fn work(&self, seed: u8) -> Result {
        let mut ready = self.ready(self.controller()?, depth(seed))?;
        let threshold = 0x150 + u32::from(seed);
        ready
            .controller
            .set_feature(feature::TEMPERATURE, threshold)?;
        let address = ready.controller.data(0);
        for offset in FILLED {
            self.memory()?.write(address, &content(offset, seed.into()));
            ready.page(nvm::WRITE, offset, address)?;
        }
        Ok(())
    }

    /// The queues are those of the guest that did the work, and the guest may be gone. So they are set up
    /// anew, once the registers are checked.
    fn verify(&self, seed: u8) -> Result {
        let controller = self.controller()?;
        let memory = self.memory()?;
        let size = u32::from(depth(seed) - 1);
        let bar = controller.bar();
        same("AQA", bar.read_u32(register::AQA)?, size << 16 | size)?;
        same("ASQ", bar.read_u64(register::ASQ)?, memory.start())?;
        same("CC", bar.read_u32(register::CC)?, CC_SIZES | CC_ENABLE)?;
        same("CSTS", controller.status()?, CSTS_READY)?;
        let mut ready = self.ready(controller, depth(seed))?;
        let address = ready.controller.data(0);
        for offset in FILLED {
            ready.page(nvm::READ, offset, address)?;
            same_bytes(
                format_args!("page at {offset:#x} of the namespace"),
                &memory.bytes(address, PAGE as usize),
                &content(offset, seed.into()),
            )?;
        }
        Ok(())
    }

    fn discard(&self) -> Result {
        Ok(())
    }

    fn verify_fresh(&self) -> Result {
        let controller = self.controller()?;
        let bar = controller.bar();
        same("CC", bar.read_u32(register::CC)?, 0)?;
        same("CSTS", bar.read_u32(register::CSTS)?, 0)?;
        same("AQA", bar.read_u32(register::AQA)?, 0)?;
        same("ASQ", bar.read_u64(register::ASQ)?, 0)
    }

    fn exercise(&self) -> Result {
        let memory = self.memory()?;
        let mut ready = self.ready(self.controller()?, DEPTH)?;
        for round in 0..2 {
            let (from, to) = (ready.controller.data(0), ready.controller.data(PAGE));
            let expected = content(SCRATCH, 1000 + round);
            memory.write(from, &expected);
            ready.page(nvm::WRITE, SCRATCH, from)?;
            ready.page(nvm::READ, SCRATCH, to)?;
            same_bytes(
                "what was written, read back",
                &memory.bytes(to, PAGE as usize),
                &expected,
            )?;
        }
        Ok(())
    }

    /// Leaves a completion in the admin queue, which asserts INTx until it is taken.
    fn raise_intx(&self) -> Result {
        let mut controller = self.controller()?;
        controller.restart(8)?;
        let command = Command::new(admin::GET_FEATURES).word(10, feature::ARBITRATION.into());
        controller.submit(0, command)?;
        controller.await_completion(0)?;
        Ok(())
    }

    fn poke(&self) -> Result {
        let controller = self.controller()?;
        for queue in 0..3 {
            for value in [3, 0xffff, 1, 0] {
                let _ = controller.write(tail_doorbell(queue), value);
                let _ = controller.write(head_doorbell(queue), value);
            }
        }
        for mask in [u32::MAX, 1] {
            let _ = controller.write(register::INTMS, mask);
            let _ = controller.write(register::INTMC, mask);
        }
        let _ = controller.write(register::CC, 0);
        let _ = controller.write(register::AQA, 0x0003_0003);
        let _ = controller.write_long(register::ASQ, self.memory()?.start());
        let _ = controller.write(register::CC, CC_SIZES | CC_ENABLE);
        let _ = controller.bar().read_u64(register::CAP);
        let _ = controller.status();
        Ok(())
    }

    fn scribble(&self, value: u8) -> Result {
        let _ = self.controller()?.write(register::INTMS, value.into());
        Ok(())
    }
}
