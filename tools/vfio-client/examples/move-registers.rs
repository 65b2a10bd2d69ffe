// SPDX-License-Identifier: GPL-2.0

//! Moves the state of one 82574L to another and back by protocol v1, and compares registers. Both are bound to
//! `ferry_e1000e`: `move-registers 0000:00:05.0 0000:00:06.0`.

use std::env;
use std::error::Error;
use std::process::ExitCode;

use vfio_client::v1::Migration;
use vfio_client::v1::State;
use vfio_client::Address;
use vfio_client::Backend;
use vfio_client::Region;
use vfio_client::Session;

type Result<T> = core::result::Result<T, Box<dyn Error>>;

/// Registers that take any value of these bits while the card stands still. A reset clears them.
const REGISTERS: [(&str, u64, u32); 13] = [
    ("RDBAL0", 0x2800, 0xffff_f000),
    ("RDBAH0", 0x2804, 0x0000_00ff),
    ("RDLEN0", 0x2808, 0x0000_1000),
    ("RDH0", 0x2810, 0x0000_001f),
    ("RDT0", 0x2818, 0x0000_001f),
    ("TDBAL0", 0x3800, 0xffff_f000),
    ("TDBAH0", 0x3804, 0x0000_00ff),
    ("TDLEN0", 0x3808, 0x0000_1000),
    ("MTA 5", 0x5214, 0xffff_ffff),
    ("VFTA 3", 0x560c, 0xffff_ffff),
    ("RAL 3", 0x5418, 0xffff_ffff),
    ("RETA 7", 0x5c1c, 0x8080_8080),
    ("RADV", 0x282c, 0x0000_ffff),
];

/// The state of VFIO_DEVICE_RESET and of an open.
const NOTHING: u32 = 0;

struct Card {
    session: Box<dyn Session>,
    name: String,
}

impl Card {
    fn open(address: &str) -> Result<Self> {
        let parsed: Address = address.parse()?;
        Ok(Self {
            session: parsed.open(Backend::Type1)?,
            name: address.to_string(),
        })
    }

    fn registers(&self) -> Result<Region> {
        Ok(self.session.device().region(0)?)
    }

    fn migration(&self) -> Result<Migration> {
        Ok(Migration::find(self.session.device())?.ok_or("there is no migration region")?)
    }

    /// Values that differ by `seed`.
    fn fill(&self, seed: u32) -> Result<()> {
        let registers = self.registers()?;
        for (at, (_, offset, mask)) in (1_u32..).zip(REGISTERS) {
            registers.write(offset, &(pattern(seed, at) & mask).to_ne_bytes())?;
        }
        Ok(())
    }

    fn expect(&self, when: &str, wanted: impl Fn(u32) -> u32) -> Result<()> {
        let registers = self.registers()?;
        let mut wrong = 0;
        for (at, (name, offset, mask)) in (1_u32..).zip(REGISTERS) {
            let (found, wanted) = (registers.read_u32(offset)?, wanted(at) & mask);
            if found & mask != wanted {
                println!(
                    "{}: {when}: {name} is {found:#x}, expected {wanted:#x}",
                    self.name
                );
                wrong += 1;
            }
        }
        println!(
            "{}: {when}: {} registers, {wrong} differ",
            self.name,
            REGISTERS.len()
        );
        if wrong == 0 {
            Ok(())
        } else {
            Err("registers differ".into())
        }
    }
}

fn pattern(seed: u32, at: u32) -> u32 {
    // RDT and RDH are 16 bits, and have to lie in the ring: the mask does that. RDLEN and TDLEN are the mask.
    if matches!(REGISTERS[at as usize - 1].0, "RDLEN0" | "TDLEN0") {
        return u32::MAX;
    }
    0x9e37_79b9_u32
        .wrapping_mul(at)
        .wrapping_add(seed.wrapping_mul(0x0101_0101))
}

/// Moves the state as QEMU 7.2 does.
fn move_state(from: &Card, to: &Card) -> Result<usize> {
    let (source, destination) = (from.migration()?, to.migration()?);
    source.set_state(State::PRE_COPY)?;
    let mut stream = source.save()?;
    source.set_state(State::STOP_COPY)?;
    stream.extend(source.save()?);
    destination.set_state(State::RESUMING)?;
    destination.feed(&stream, usize::MAX)?;
    destination.set_state(State::RUNNING)?;
    source.set_state(State::STOP)?;
    println!(
        "{} to {}: {} bytes, states {:?} and {:?}",
        from.name,
        to.name,
        stream.len(),
        source.state()?,
        destination.state()?
    );
    Ok(stream.len())
}

fn run() -> Result<()> {
    let addresses: Vec<String> = env::args().skip(1).collect();
    let [a, b] = addresses.as_slice() else {
        return Err("usage: move-registers ADDRESS ADDRESS".into());
    };
    let (a, b) = (Card::open(a)?, Card::open(b)?);
    for card in [&a, &b] {
        let device = card.session.device();
        println!("{}: {:?}", card.name, device.info()?);
        for region in device.regions()? {
            println!("    {:?}", region.info());
        }
        let registers = card.registers()?;
        println!(
            "    map page 0 {}, page 4 {}, migration header {}",
            registers.map(0, 0x1000).is_ok(),
            registers.map(0x4000, 0x1000).is_ok(),
            card.migration()?.region().map(0, 0x1000).is_ok()
        );
    }
    a.expect("after open", |_| NOTHING)?;

    a.fill(1)?;
    a.expect("filled", |at| pattern(1, at))?;
    move_state(&a, &b)?;
    b.expect("moved", |at| pattern(1, at))?;

    a.session.device().reset()?;
    println!("{}: reset: {:?}", a.name, a.migration()?.state()?);
    a.expect("after reset", |_| NOTHING)?;
    b.fill(2)?;
    move_state(&b, &a)?;
    a.expect("moved back", |at| pattern(2, at))?;

    let mut damaged = {
        let source = a.migration()?;
        source.set_state(State::STOP_COPY)?;
        source.save()?
    };
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    b.session.device().reset()?;
    b.fill(3)?;
    let destination = b.migration()?;
    destination.set_state(State::RESUMING)?;
    let refused = destination
        .feed(&damaged, usize::MAX)
        .and_then(|()| destination.set_state(State::RUNNING));
    println!("{}: a damaged state: {refused:?}", b.name);
    if refused.is_ok() {
        return Err("a damaged state was taken".into());
    }
    b.expect("after the refusal", |at| pattern(3, at))?;
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => {
            println!("move-registers: passed");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("move-registers: FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}
