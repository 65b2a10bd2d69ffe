// SPDX-License-Identifier: GPL-2.0

//! The work that a card is given: values in its filters, timers and rings, and frames that wait in its
//! receive ring.

use vfio_client::Device;
use vfio_client::Error as ClientError;
use vfio_client::GuestMemory;

use super::card::Card;
use super::card::Plug;
use super::card::MEMORY_SIZE;
use super::frame::Frame;
use super::frame::Mac;
use super::spec::cause;
use super::spec::register;
use super::spec::Word;
use super::spec::CLEARED;
use super::spec::RCTL_ENABLE;
use super::spec::SET;
use super::spec::TCTL_ENABLE;
use crate::compare::same;
use crate::probe::Ids;
use crate::random::Random;
use crate::Driver;
use crate::Error;
use crate::Result;

const IDS: Ids = Ids {
    vendor: 0x8086,
    device: 0x10d3,
};

/// Frames that wait in the receive ring after a [`Driver::work`].
const WAITING: u32 = 3;
/// Causes that are enabled by a [`Driver::work`]. Nothing raises them.
const MASK: u32 = cause::SRPD | cause::ACK;
/// The entry of the receive address table that the frames of a [`Driver::work`] are for.
const ENTRY: u64 = 3;

/// A station of nobody.
fn mac(seed: u8) -> Mac {
    [0x02, 0x46, 0x65, 0x72, 0x72, seed]
}

/// The length of the rings in descriptors.
fn ring(seed: u8) -> u64 {
    u64::from(seed % 4 + 1) * 8
}

/// The values of registers.
fn values(seed: u8) -> impl Iterator<Item = (Word, u32)> {
    let mut random = Random::new(u64::from(seed) << 8 | 1);
    CLEARED
        .into_iter()
        .chain(SET)
        .map(move |word| (word, (random.number() >> 16) as u32 & word.mask))
}

/// The driver of an 82574L.
#[derive(Debug)]
pub struct NetworkDriver {
    device: Device,
    memory: Option<GuestMemory>,
}

impl NetworkDriver {
    /// Says whether the driver is for devices with some ids.
    pub fn matches(ids: Ids) -> bool {
        ids == IDS
    }

    pub(crate) fn new(device: &Device) -> Self {
        NetworkDriver {
            device: device.clone(),
            memory: None,
        }
    }

    fn card(&self) -> Result<Card> {
        let memory = self.memory.as_ref().ok_or_else(|| {
            Error::Client(ClientError::malformed(
                self.device.name(),
                "no memory for DMA",
            ))
        })?;
        Ok(Card::new(&self.device, memory)?)
    }
}

impl Driver for NetworkDriver {
    fn name(&self) -> String {
        "82574L".to_string()
    }

    fn memory_size(&self) -> usize {
        MEMORY_SIZE
    }

    fn use_memory(&mut self, memory: &GuestMemory) {
        self.memory = Some(memory.clone());
    }

    fn init(&self) -> Result {
        let mut card = self.card()?;
        card.reset()?;
        Ok(card.start(Plug::Loopback, 8)?)
    }

    fn work(&self, seed: u8) -> Result {
        let mut card = self.card()?;
        card.reset()?;
        for (word, value) in values(seed) {
            card.write(word.offset, value)?;
        }
        card.set_mac(ENTRY, mac(seed))?;
        card.start(Plug::Loopback, ring(seed))?;
        card.write(register::IMS, MASK)?;
        for number in 0..WAITING {
            let content = u64::from(seed) << 8 | u64::from(number);
            card.send(&Frame::new(mac(seed), mac(0), content, 100))?;
        }
        Ok(())
    }

    /// The rings are those of the guest that did the work, and the guest may be gone: no frame is sent or taken.
    /// The statistics are read, which clears them.
    fn verify(&self, seed: u8) -> Result {
        let card = self.card()?;
        for (word, value) in values(seed) {
            same(word.name, card.read(word.offset)? & word.mask, value)?;
        }
        same("entry of the MAC", card.mac(ENTRY)?, Some(mac(seed)))?;
        same("IMS", card.read(register::IMS)? & MASK, MASK)?;
        let len = (ring(seed) * 16) as u32;
        for (name, offset, expected) in [
            ("RDLEN", register::RDLEN, len),
            ("RDH", register::RDH, WAITING),
            ("RDT", register::RDT, ring(seed) as u32 - 1),
            ("TDLEN", register::TDLEN, len),
            ("TDH", register::TDH, WAITING),
            ("TDT", register::TDT, WAITING),
            ("GPRC", register::GPRC, WAITING),
            ("GPTC", register::GPTC, WAITING),
        ] {
            same(name, card.read(offset)?, expected)?;
        }
        for (name, offset, bit) in [
            ("RCTL.EN", register::RCTL, RCTL_ENABLE),
            ("TCTL.EN", register::TCTL, TCTL_ENABLE),
        ] {
            same(name, card.read(offset)? & bit, bit)?;
        }
        Ok(())
    }

    fn discard(&self) -> Result {
        Ok(())
    }

    fn verify_fresh(&self) -> Result {
        let card = self.card()?;
        for word in CLEARED {
            same(word.name, card.read(word.offset)? & word.mask, 0)?;
        }
        same("entry of the MAC", card.mac(ENTRY)?, None)?;
        for (name, offset) in [
            ("IMS", register::IMS),
            ("RCTL", register::RCTL),
            ("RDBAL", register::RDBAL),
            ("RDBAH", register::RDBAH),
            ("RDLEN", register::RDLEN),
            ("RDH", register::RDH),
            ("RDT", register::RDT),
            ("TDBAL", register::TDBAL),
            ("TDBAH", register::TDBAH),
            ("TDLEN", register::TDLEN),
            ("TDH", register::TDH),
            ("TDT", register::TDT),
        ] {
            same(name, card.read(offset)?, 0)?;
        }
        same("TCTL.EN", card.read(register::TCTL)? & TCTL_ENABLE, 0)
    }

    fn exercise(&self) -> Result {
        const FRAMES: u64 = 20;
        let mut card = self.card()?;
        card.reset()?;
        card.set_mac(0, mac(0))?;
        card.start(Plug::Loopback, 8)?;
        for number in 0..FRAMES {
            // More frames than there are descriptors, of all lengths.
            let frame = Frame::new(mac(0), mac(0), number, 60 + 70 * number as usize);
            card.send(&frame)?;
            same(format_args!("frame {number}"), card.receive()?, frame)?;
        }
        same("GPTC", card.read(register::GPTC)?, FRAMES as u32)?;
        same("GPRC", card.read(register::GPRC)?, FRAMES as u32)
    }

    fn raise_intx(&self) -> Result {
        let card = self.card()?;
        card.reset()?;
        card.write(register::IMS, cause::LSC)?;
        Ok(card.write(register::ICS, cause::LSC)?)
    }

    /// Registers are mapped, so a write reaches a card in any state; each one writes what is there.
    fn poke(&self) -> Result {
        let card = self.card()?;
        for offset in [register::STATUS, register::TDH, register::RDH] {
            let _ = card.read(offset);
        }
        for offset in [register::VET, register::TDT, register::RDT, register::ITR] {
            if let Ok(value) = card.read(offset) {
                let _ = card.write(offset, value);
            }
        }
        Ok(())
    }

    fn scribble(&self, value: u8) -> Result {
        let _ = self.card()?.write(register::VET, value.into());
        Ok(())
    }
}
