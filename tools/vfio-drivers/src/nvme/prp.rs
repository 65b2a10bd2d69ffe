// SPDX-License-Identifier: GPL-2.0

//! PRP entries and lists (section 4.3).

use vfio_client::GuestMemory;

/// The size of a memory page, which is what PRP entries count in.
pub const PAGE: u64 = 4096;

/// Returns both PRP entries for `len` bytes at an address. The list for more than two pages is written
/// to `list`.
pub(super) fn prps(memory: &GuestMemory, address: u64, len: u64, list: u64) -> (u64, u64) {
    const ENTRY: u64 = size_of::<u64>() as u64;
    let end = address + len;
    let mut pages: Vec<u64> = Vec::new();
    let mut page = address / PAGE * PAGE + PAGE;
    while page < end {
        pages.push(page);
        page += PAGE;
    }
    if let [] | [_] = pages[..] {
        return (address, pages.first().copied().unwrap_or(0));
    }
    let mut at = list;
    for (i, page) in pages.iter().enumerate() {
        if at % PAGE == PAGE - ENTRY && i + 1 < pages.len() {
            // The last entry of a page leads to the next page of the list.
            let next = at + ENTRY;
            memory.write(at, &next.to_le_bytes());
            at = next;
        }
        memory.write(at, &page.to_le_bytes());
        at += ENTRY;
    }
    (address, list)
}

#[cfg(test)]
mod tests {
    use vfio_client::GuestMemory;

    use super::prps;
    use super::PAGE;

    const START: u64 = 0x10_0000;
    const LIST: u64 = START + 3 * PAGE;

    fn list(memory: &GuestMemory, at: u64, entries: u64) -> Vec<u64> {
        (0..entries).map(|i| memory.read_u64(at + i * 8)).collect()
    }

    #[test]
    fn up_to_two_pages_need_no_list() {
        let memory = GuestMemory::new(START, 64 * 1024).expect("memory");
        for (address, len, second) in [
            (0x5000, 1, 0),
            (0x5000, PAGE, 0),
            (0x5ffc, 4, 0),
            (0x5ffc, 5, 0x6000),
            (0x5000, 2 * PAGE, 0x6000),
            (0x5200, PAGE, 0x6000),
        ] {
            let seen = prps(&memory, address, len, LIST);
            assert_eq!(seen, (address, second), "{len} bytes at {address:#x}");
        }
        assert_eq!(list(&memory, LIST, 4), [0; 4]);
    }

    #[test]
    fn a_list_goes_on_in_the_next_page() {
        let memory = GuestMemory::new(START, 64 * 1024).expect("memory");
        let tight = LIST + PAGE - 16;
        assert_eq!(prps(&memory, 0x5000, 3 * PAGE, tight), (0x5000, tight));
        assert_eq!(list(&memory, tight, 3), [0x6000, 0x7000, 0]);
        assert_eq!(prps(&memory, 0x5008, 3 * PAGE, tight), (0x5008, tight));
        assert_eq!(
            list(&memory, tight, 4),
            [0x6000, LIST + PAGE, 0x7000, 0x8000]
        );
    }
}
