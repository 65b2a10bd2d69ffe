// SPDX-License-Identifier: GPL-2.0

//! The dirty pages of a range of IOVAs, `VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP`.

/// The size of the pages in the dirty bitmap of a type1 IOMMU, in bytes.
pub const DIRTY_PAGE: u64 = 4096;

/// The pages of a range that a device has written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DirtyPages {
    iova: u64,
    words: Vec<u64>,
}

impl DirtyPages {
    /// Takes the dirty bitmap of the range that starts at `iova`.
    pub fn new(iova: u64, words: Vec<u64>) -> Self {
        DirtyPages { iova, words }
    }

    /// Says whether the page at an IOVA was written. A page outside the range was not.
    pub fn has(&self, iova: u64) -> bool {
        let Some(page) = iova
            .checked_sub(self.iova)
            .map(|offset| offset / DIRTY_PAGE)
        else {
            return false;
        };
        usize::try_from(page / u64::from(u64::BITS))
            .ok()
            .and_then(|word| self.words.get(word))
            .is_some_and(|word| word >> (page % u64::from(u64::BITS)) & 1 != 0)
    }

    /// Returns the IOVAs of the written pages.
    pub fn pages(&self) -> Vec<u64> {
        (0..self.words.len() as u64 * u64::from(u64::BITS))
            .map(|page| self.iova + page * DIRTY_PAGE)
            .filter(|iova| self.has(*iova))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::DirtyPages;
    use super::DIRTY_PAGE;

    #[test]
    fn a_bit_is_the_page_at_its_place_in_the_range() {
        const START: u64 = 0x10_0000;
        let dirty = DirtyPages {
            iova: START,
            words: vec![1 << 63 | 1, 0b100],
        };
        let expected = [0, 63, 66].map(|page| START + page * DIRTY_PAGE);
        assert_eq!(dirty.pages(), expected);
        assert!(dirty.has(START + 0xfff), "the last byte of a dirty page");
        for clean in [
            0,
            START - 1,
            START + 0x1000,
            START + 128 * DIRTY_PAGE,
            u64::MAX,
        ] {
            assert!(!dirty.has(clean), "{clean:#x}");
        }
    }
}
