// SPDX-License-Identifier: GPL-2.0

//! The settings of a namespace as attributes in sysfs: in the directory `nvme` those of namespace 1, in `nvme-ns2` and so on
//! those of another one.
//!
//! Described in `Documentation/ABI/testing/sysfs-bus-mdev-ferry`.

use super::{
    Cache,
    NamespaceSettings,
    NvmeSettings,
    StoreKind, //
};
use crate::backend::file::measure;
use core::fmt::{
    self,
    Display, //
};
use ferry_core::settings::Setting;
use kernel::{
    prelude::*,
    str::CString,
    sync::Arc, //
};
use kernel_ext::file::FileName;
use nvme::{
    CAPACITY_MAX,
    CAPACITY_MIN,
    CAPACITY_UNIT, //
};

/// The settings of the namespace with identifier `NSID`.
fn of<const NSID: usize>(settings: &NvmeSettings) -> Result<&NamespaceSettings> {
    settings.namespaces.get(NSID - 1).ok_or(EINVAL)
}

fn of_mut<const NSID: usize>(settings: &mut NvmeSettings) -> Result<&mut NamespaceSettings> {
    settings.namespaces.get_mut(NSID - 1).ok_or(EINVAL)
}

/// `store`: the kind of backend, `ram` or `file`; also `none` of a namespace other than the first one.
pub(crate) struct StoreAttribute<const NSID: usize>;

impl<const NSID: usize> Setting for StoreAttribute<NSID> {
    type Settings = NvmeSettings;
    type Shown = StoreKind;
    type Parsed = StoreKind;

    const NAME: &'static CStr = c"store";
    const ALLOWED: &'static str = match NSID {
        1 => "ram or file",
        _ => "none, ram or file",
    };

    fn show(settings: &NvmeSettings) -> Result<StoreKind> {
        Ok(of::<NSID>(settings)?.store)
    }

    fn parse(text: &str) -> Result<StoreKind> {
        match text {
            "ram" => Ok(StoreKind::Ram),
            "file" => Ok(StoreKind::File),
            "none" if NSID > 1 => Ok(StoreKind::None),
            _ => Err(EINVAL),
        }
    }

    fn store(settings: &mut NvmeSettings, store: StoreKind) -> Result {
        of_mut::<NSID>(settings)?.store = store;
        Ok(())
    }
}

/// `capacity`: size of the namespace in bytes. A namespace in a file has the size of the file.
pub(crate) struct Capacity<const NSID: usize>;

impl<const NSID: usize> Setting for Capacity<NSID> {
    type Settings = NvmeSettings;
    type Shown = u64;
    type Parsed = u64;

    const NAME: &'static CStr = c"capacity";
    const ALLOWED: &'static str =
        "a multiple of 4096 from 1048576 to 68719476736; only a file can be larger";

    fn show(settings: &NvmeSettings) -> Result<u64> {
        let namespace = of::<NSID>(settings)?;
        match namespace.store {
            StoreKind::Ram | StoreKind::None => Ok(namespace.capacity),
            StoreKind::File => measure(namespace.file.as_ref().ok_or(ENOENT)?),
        }
    }

    fn parse(text: &str) -> Result<u64> {
        let capacity = text.parse().map_err(|_| EINVAL)?;
        if !(CAPACITY_MIN..=CAPACITY_MAX).contains(&capacity) || capacity % CAPACITY_UNIT != 0 {
            return Err(EINVAL);
        }

        Ok(capacity)
    }

    fn store(settings: &mut NvmeSettings, capacity: u64) -> Result {
        let namespace = of_mut::<NSID>(settings)?;
        if namespace.store == StoreKind::File {
            return Err(EPERM);
        }

        namespace.capacity = capacity;
        Ok(())
    }
}

/// `block_size`: bytes of a logical block of a namespace other than the first one, of which the type says it.
pub(crate) struct BlockSize<const NSID: usize>;

impl<const NSID: usize> Setting for BlockSize<NSID> {
    type Settings = NvmeSettings;
    type Shown = u32;
    type Parsed = u8;

    const NAME: &'static CStr = c"block_size";
    const ALLOWED: &'static str = "512 or 4096";

    fn show(settings: &NvmeSettings) -> Result<u32> {
        Ok(1 << of::<NSID>(settings)?.lba_shift)
    }

    fn parse(text: &str) -> Result<u8> {
        match text {
            "512" => Ok(9),
            "4096" => Ok(12),
            _ => Err(EINVAL),
        }
    }

    fn store(settings: &mut NvmeSettings, lba_shift: u8) -> Result {
        of_mut::<NSID>(settings)?.lba_shift = lba_shift;
        Ok(())
    }
}

/// `cache`: how a namespace in a file uses the host's page cache, `writeback` or `none`. Memory has none.
pub(crate) struct CacheAttribute<const NSID: usize>;

impl<const NSID: usize> Setting for CacheAttribute<NSID> {
    type Settings = NvmeSettings;
    type Shown = Cache;
    type Parsed = Cache;

    const NAME: &'static CStr = c"cache";
    const ALLOWED: &'static str = "writeback or none";

    fn show(settings: &NvmeSettings) -> Result<Cache> {
        Ok(of::<NSID>(settings)?.cache)
    }

    fn parse(text: &str) -> Result<Cache> {
        match text {
            "writeback" => Ok(Cache::WriteBack),
            "none" => Ok(Cache::None),
            _ => Err(EINVAL),
        }
    }

    fn store(settings: &mut NvmeSettings, cache: Cache) -> Result {
        of_mut::<NSID>(settings)?.cache = cache;
        Ok(())
    }
}

/// `file`: absolute path of the file or block device; empty for none.
pub(crate) struct FilePath<const NSID: usize>;

/// The path of a file; empty for none.
pub(crate) struct Path(Option<CString>);

impl Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            // A path is made of a `str`.
            Some(path) => f.write_str(path.to_str().unwrap_or_default()),
            None => Ok(()),
        }
    }
}

impl<const NSID: usize> Setting for FilePath<NSID> {
    type Settings = NvmeSettings;
    type Shown = Path;
    type Parsed = Option<Arc<FileName>>;

    const NAME: &'static CStr = c"file";
    const ALLOWED: &'static str = "an absolute path of a regular file or block device";

    fn show(settings: &NvmeSettings) -> Result<Path> {
        let path = of::<NSID>(settings)?
            .file
            .as_ref()
            .map(|file| CString::try_from_fmt(fmt!("{}", file.name())))
            .transpose()?;
        Ok(Path(path))
    }

    fn parse(text: &str) -> Result<Option<Arc<FileName>>> {
        match text {
            "" => Ok(None),
            path => Ok(Some(Arc::new(FileName::new(path)?, GFP_KERNEL_ACCOUNT)?)),
        }
    }

    fn store(settings: &mut NvmeSettings, file: Option<Arc<FileName>>) -> Result {
        of_mut::<NSID>(settings)?.file = file;
        Ok(())
    }
}
