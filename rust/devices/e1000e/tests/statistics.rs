// SPDX-License-Identifier: GPL-2.0

//! Statistics lose nothing and never go back.

use crate::bench::{
    packet,
    Format,
    Guest,
    Host,
    MEMORY, //
};
use crate::model::Memory;
use crate::spec::*;

fn set_up() -> (Host, Guest) {
    let memory = Memory::new(MEMORY);
    let mut host = Host::new(memory.clone());
    let mut guest = Guest::new(memory);
    guest.set_up(&mut host, Format::Extended(0), 32, 0);
    guest.post(&mut host, 0, 31, 0);
    (host, guest)
}

fn read64(host: &mut Host, offset: u32) -> u64 {
    let low = host.read(offset);
    let high = host.read(offset + 4);
    u64::from(high) << 32 | u64::from(low)
}

#[test]
fn what_the_source_counted_is_read_at_the_destination_once() {
    let (mut host, mut guest) = set_up();
    for counter in 0..5 {
        host.model.arrive(&packet(counter, 0, 96));
        guest.send(&mut host, 0, 60, 1, false);
    }
    host.model.run(1_000);
    for _ in 0..3 {
        host = host.migrate();
        host.resume().unwrap();
    }
    host.model.arrive(&packet(9, 0, 96));
    host.model.run(1_000);
    assert_eq!(host.read(GPRC), 6, "packets received at all hosts");
    assert_eq!(host.read(GPRC), 0, "a read clears");
    assert_eq!(host.read(GPTC), 5, "packets sent at all hosts");
    assert_eq!(read64(&mut host, GORCL), 600);
    assert_eq!(read64(&mut host, GORCL), 0);
    assert_eq!(read64(&mut host, TORL), 600);
    assert_eq!(read64(&mut host, GOTCL), 320);
    host.expect_no_faults();
}

#[test]
fn a_cancelled_migration_loses_none() {
    let (mut host, _) = set_up();
    host.model.arrive(&packet(1, 0, 96));
    host.model.run(1_000);
    host.quiesce().unwrap();
    host.save().unwrap();
    host.save().unwrap();
    host.resume().unwrap();
    host.model.arrive(&packet(2, 0, 96));
    host.model.run(1_000);
    assert_eq!(host.read(GPRC), 2);
    assert_eq!(read64(&mut host, GORCL), 200);
}

#[test]
fn a_pair_is_one_number_even_across_a_migration() {
    let (mut host, _) = set_up();
    host.model.arrive(&packet(1, 0, 96));
    host.model.run(1_000);
    assert_eq!(host.read(GORCL), 100);
    // This one comes between the halves.
    host.model.arrive(&packet(2, 0, 96));
    host.model.run(1_000);
    let mut host = host.migrate();
    host.resume().unwrap();
    assert_eq!(host.read(GORCL + 4), 0);
    assert_eq!(
        read64(&mut host, GORCL),
        100,
        "what was counted between the halves is still there"
    );
    host.expect_no_faults();
}

#[test]
fn registers_stick_at_their_largest_value() {
    let (mut host, _) = set_up();
    host.model.arrive(&packet(1, 0, 96));
    host.model.run(1_000);
    host.quiesce().unwrap();
    let mut state = host.save().unwrap();
    // The only count of 1 is that of good packets; its place is found by the value.
    let places: Vec<_> = state
        .windows(4)
        .enumerate()
        .skip(state.len() - 300)
        .filter(|(_, bytes)| *bytes == [1, 0, 0, 0])
        .map(|(at, _)| at)
        .collect();
    assert_eq!(places.len(), 1, "one counter has 1");
    state[places[0]..places[0] + 4].fill(0xff);
    let mut other = Host::new(host.memory.clone());
    other.quiesce().unwrap();
    other.apply(&state).unwrap();
    other.resume().unwrap();
    other.model.arrive(&packet(2, 0, 96));
    other.model.run(1_000);
    assert_eq!(other.read(GPRC), u32::MAX);
}

#[test]
fn parts_and_pairs_of_registers_can_be_read() {
    use device_model::hardware::Hardware;
    let (mut host, _) = set_up();
    host.model.arrive(&packet(1, 0, 96));
    host.model.run(1_000);
    let mut bytes = [0; 8];
    host.run(|controller, context| controller.read(context, 0, GORCL.into(), &mut bytes))
        .unwrap();
    assert_eq!(u64::from_le_bytes(bytes), 100);
    let mut byte = [0xff];
    host.run(|controller, context| controller.read(context, 0, u64::from(GPRC) + 1, &mut byte))
        .unwrap();
    assert_eq!(byte, [0]);
    host.run(|controller, context| controller.write(context, 0, 0x2818, &[7]))
        .unwrap();
    assert_ne!(host.read(RDT) & 0xff, 7, "a write of a part is none");
}
