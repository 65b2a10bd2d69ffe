// SPDX-License-Identifier: GPL-2.0

//! Writes an initramfs: a cpio archive in the "newc" format of the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;

const MAGIC: &str = "070701";
const TRAILER: &str = "TRAILER!!!";
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive that is being written.
pub struct Initramfs {
    out: BufWriter<File>,
    inode: u32,
    directories: BTreeSet<String>,
    files: BTreeSet<String>,
}

impl Initramfs {
    /// Creates the file `path`, and the archive in it.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        let mut archive = Self {
            out: BufWriter::new(file),
            inode: 0,
            directories: BTreeSet::new(),
            files: BTreeSet::new(),
        };
        // Without this device a first process has no standard output.
        archive.parents("dev/console")?;
        archive.entry("dev/console", CHARACTER_DEVICE | 0o600, (5, 1), &[])?;
        Ok(archive)
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) -> Result<()> {
        let size = u32::try_from(data.len())
            .with_context(|| format!("{name} is too large for an initramfs"))?;
        let fields = [
            self.inode,
            mode,
            0, // user
            0, // group
            1, // links
            0, // time of modification: none, so that the same input gives the same archive
            size,
            0,
            0,
            device.0,
            device.1,
            name.len() as u32 + 1,
            0, // checksum, unused in this format
        ];
        self.inode += 1;
        let mut header = MAGIC.to_owned();
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        header.push_str(name);
        header.push('\0');
        self.padded(header.as_bytes())?;
        self.padded(data)
    }

    /// Writes `data` and fills up to a multiple of four bytes.
    fn padded(&mut self, data: &[u8]) -> Result<()> {
        const PADDING: [u8; 3] = [0; 3];
        self.out.write_all(data).context("writing an initramfs")?;
        let short = data.len().next_multiple_of(4) - data.len();
        self.out
            .write_all(&PADDING[..short])
            .context("writing an initramfs")
    }

    fn parents(&mut self, name: &str) -> Result<()> {
        for (end, _) in name.match_indices('/') {
            if self.directories.insert(name[..end].to_owned()) {
                self.entry(&name[..end], DIRECTORY | 0o755, (0, 0), &[])?;
            }
        }
        Ok(())
    }

    /// Adds a file. `name` is an absolute path in the archive. A second file of the same name is ignored: programs share
    /// libraries.
    pub fn data(&mut self, name: &str, content: &[u8], executable: bool) -> Result<()> {
        let name = relative(name)?;
        if !self.files.insert(name.to_owned()) {
            return Ok(());
        }
        self.parents(name)?;
        let mode = if executable { 0o755 } else { 0o644 };
        self.entry(name, REGULAR | mode, (0, 0), content)
    }

    /// Adds a file of this machine.
    pub fn file(&mut self, name: &str, from: &Path, executable: bool) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        self.data(name, &content, executable)
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, name: &str, target: &str) -> Result<()> {
        let name = relative(name)?;
        self.parents(name)?;
        self.entry(name, SYMLINK | 0o777, (0, 0), target.as_bytes())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Result<()> {
        self.entry(TRAILER, 0, (0, 0), &[])?;
        self.out.flush().context("writing an initramfs")
    }
}

fn relative(name: &str) -> Result<&str> {
    match name.strip_prefix('/') {
        Some(relative) if !relative.is_empty() => Ok(relative),
        _ => bail!("\"{name}\" is not an absolute path"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_the_format_says() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("cpio");
        let mut archive = Initramfs::create(&path).expect("create");
        archive.data("/a/b", b"hello", true).expect("data");
        archive.data("/a/b", b"again", true).expect("data");
        archive.symlink("/a/c", "b").expect("symlink");
        archive.finish().expect("finish");
        let bytes = fs::read(&path).expect("read");

        let mut names = Vec::new();
        let mut at = 0;
        loop {
            let field = |index: usize| {
                let from = at + 6 + index * 8;
                let digits = std::str::from_utf8(&bytes[from..from + 8]).expect("digits");
                usize::from_str_radix(digits, 16).expect("a number")
            };
            assert_eq!(&bytes[at..at + 6], MAGIC.as_bytes(), "magic at {at}");
            let (mode, size, length) = (field(1), field(6), field(11));
            let name = &bytes[at + 110..at + 110 + length - 1];
            let data = (at + 110 + length).next_multiple_of(4);
            let name = String::from_utf8_lossy(name).into_owned();
            if name == "a/b" {
                assert_eq!(
                    (&bytes[data..data + size], mode),
                    (&b"hello"[..], 0o100_755)
                );
            }
            at = (data + size).next_multiple_of(4);
            if name == TRAILER {
                break;
            }
            names.push(name);
        }
        assert_eq!(names, ["dev", "dev/console", "a", "a/b", "a/c"]);
        assert_eq!(at, bytes.len());
    }

    #[test]
    fn a_relative_path_is_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut archive = Initramfs::create(&directory.path().join("cpio")).expect("create");
        assert!(archive.data("a", b"", false).is_err());
        assert!(archive.data("/", b"", false).is_err());
    }
}
