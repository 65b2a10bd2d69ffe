// SPDX-License-Identifier: GPL-2.0

//! The devices at addresses that a target has, each of which one user has at a time.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use vfio_client::Address;

/// The addresses of devices of the same kind. Clones are the same devices.
#[derive(Clone, Debug)]
pub struct Pool {
    addresses: Arc<[Address]>,
    /// Whether the device at the same place among the addresses is in use.
    taken: Arc<Mutex<Vec<bool>>>,
}

impl Pool {
    /// Takes the devices at some addresses.
    pub fn new(addresses: impl IntoIterator<Item = Address>) -> Self {
        let addresses: Arc<[Address]> = addresses.into_iter().collect();
        Pool {
            taken: Arc::new(Mutex::new(vec![false; addresses.len()])),
            addresses,
        }
    }

    /// Returns the addresses.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    fn taken(&self) -> MutexGuard<'_, Vec<bool>> {
        // A flag is written at once.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the first device that nobody has. `None` if there is none.
    pub fn lease(&self) -> Option<(&Address, Lease)> {
        let mut taken = self.taken();
        let index = taken.iter().position(|taken| !taken)?;
        taken[index] = true;
        let lease = Lease {
            pool: self.clone(),
            index,
        };
        Some((self.addresses.get(index)?, lease))
    }
}

/// A device of a [`Pool`] that is in use until this object goes.
#[derive(Debug)]
pub struct Lease {
    pool: Pool,
    index: usize,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.taken()[self.index] = false;
    }
}

#[cfg(test)]
mod tests {
    use vfio_client::Address;

    use super::Pool;

    #[test]
    fn a_device_has_one_user_at_a_time() {
        let addresses = ["0000:00:05.0", "0000:00:06.0"].map(|text| {
            let address: Address = text.parse().expect("a PCI address");
            address
        });
        let pool = Pool::new(addresses.clone());
        let other = pool.clone();
        let (first, lease) = pool.lease().expect("a free device");
        assert_eq!(first, &addresses[0]);
        let (second, _held) = other.lease().expect("another free device");
        assert_eq!(second, &addresses[1]);
        assert!(pool.lease().is_none(), "both are in use");
        drop(lease);
        let (again, _held) = other.lease().expect("the first one again");
        assert_eq!(again, &addresses[0]);
    }
}
