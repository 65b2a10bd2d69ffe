// SPDX-License-Identifier: GPL-2.0

//! A file whose file system answers when the test lets it: this process serves it, through FUSE.
//!
//! C header: `include/uapi/linux/fuse.h`. A request that nobody has read yet ends with the process that made it.

use std::fs;
use std::fs::File;
use std::io::ErrorKind;
use std::io::Read as _;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use rustix::event::poll;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::fs::OFlags;
use rustix::mount::mount;
use rustix::mount::unmount;
use rustix::mount::MountFlags;
use rustix::mount::UnmountFlags;
use vfio_client::mdev::random_uuid;

use crate::check::holds;
use crate::check::Outcome;
use crate::check::Stop;

/// The file's name.
const NAME: &str = "disk";
/// The nodes: the directory, and the file in it.
const ROOT: u64 = 1;
const FILE: u64 = 2;

/// How long to wait for a request that must come. Emulated machines are slow.
const PATIENCE: Timespec = Timespec {
    tv_sec: 20,
    tv_nsec: 0,
};
/// When requests are answered all the same, so that a test which fails ends: longer than a test that passes takes.
const LIMIT: Duration = Duration::from_secs(40);

/// Bytes of the longest request: a header and what is written at once.
const REQUEST_MAX: usize = (1 << 20) + 4096;
/// The most that is written at once.
const WRITE_MAX: u32 = 128 << 10;

/// `enum fuse_opcode`.
mod opcode {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const INIT: u32 = 26;
    pub const SETLK: u32 = 32;
    pub const INTERRUPT: u32 = 36;
    pub const BATCH_FORGET: u32 = 42;
}

/// A file system with one file. It is unmounted when it is dropped.
#[derive(Debug)]
pub struct SlowFile {
    directory: PathBuf,
    path: PathBuf,
    connection: Arc<File>,
    gate: Arc<Gate>,
}

/// Whether the file system answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Serving {
    /// It does.
    Always,
    /// It does not.
    Held,
    /// It does, as the test took too long.
    GaveUp,
}

#[derive(Debug)]
struct Gate {
    serving: Mutex<Serving>,
    changed: Condvar,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, Serving> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the file system answers.
    fn pass(&self) {
        let held = |serving: &mut Serving| *serving == Serving::Held;
        let waited = self.changed.wait_timeout_while(self.lock(), LIMIT, held);
        let (mut serving, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            *serving = Serving::GaveUp;
        }
    }

    fn set(&self, serving: Serving) -> Serving {
        let before = core::mem::replace(&mut *self.lock(), serving);
        self.changed.notify_all();
        before
    }
}

/// While this lives, the file system does not answer.
#[derive(Debug)]
pub struct Held<'a>(&'a SlowFile);

impl SlowFile {
    /// Makes a file of `size` zeros. The test is skipped where the kernel has no FUSE.
    #[track_caller]
    pub fn new(size: usize) -> Outcome<SlowFile> {
        let connection = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32)
            .open("/dev/fuse")
            .map_err(|error| Stop::Skipped(format!("there is no FUSE: {error}")))?;
        let directory = std::env::temp_dir().join(format!("ferry-slow-{}", random_uuid()?));
        fs::create_dir(&directory).map_err(Stop::failed)?;
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0\0",
            connection.as_raw_fd()
        );
        let options =
            core::ffi::CStr::from_bytes_with_nul(options.as_bytes()).map_err(Stop::failed)?;
        let file = SlowFile {
            path: directory.join(NAME),
            connection: Arc::new(connection),
            gate: Arc::new(Gate {
                serving: Mutex::new(Serving::Always),
                changed: Condvar::new(),
            }),
            directory,
        };
        mount(
            "ferry",
            &file.directory,
            "fuse",
            MountFlags::empty(),
            options,
        )
        .map_err(Stop::failed)?;
        let (connection, gate) = (Arc::clone(&file.connection), Arc::clone(&file.gate));
        // It ends with the connection.
        thread::spawn(move || serve(&connection, &gate, vec![0; size]));
        Ok(file)
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path as a string, for an attribute.
    pub fn text(&self) -> &str {
        self.path.to_str().unwrap_or_default()
    }

    /// Has the file system not answer until the return value is dropped.
    pub fn hold(&self) -> Held<'_> {
        self.gate.set(Serving::Held);
        Held(self)
    }
}

impl Held<'_> {
    /// Waits until somebody waits for the file system.
    #[track_caller]
    pub fn await_request(&self) -> Outcome {
        let mut ready = [PollFd::new(&*self.0.connection, PollFlags::IN)];
        let count = poll(&mut ready, Some(&PATIENCE)).map_err(Stop::failed)?;
        holds(count == 1, "nobody has asked the file system for anything")
    }

    /// Has the file system answer.
    ///
    /// # Errors
    ///
    /// What was done meanwhile has waited for the file system.
    #[track_caller]
    pub fn end(self) -> Outcome {
        let serving = self.0.gate.set(Serving::Always);
        holds(
            serving == Serving::Held,
            "expected everything else to go on while the file system does not answer",
        )
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.gate.set(Serving::Always);
    }
}

impl Drop for SlowFile {
    fn drop(&mut self) {
        // A device of a test that failed may still use the file.
        let _ = unmount(&self.directory, UnmountFlags::DETACH);
        let _ = fs::remove_dir(&self.directory);
    }
}

/// Answers one request after the other until the file system is gone.
fn serve(mut connection: &File, gate: &Gate, mut content: Vec<u8>) {
    let mut request = vec![0; REQUEST_MAX];
    loop {
        let mut ready = [PollFd::new(connection, PollFlags::IN)];
        if poll(&mut ready, None).is_err() {
            return;
        }
        gate.pass();
        let answer = match connection.read(&mut request) {
            Ok(len) => answer(&request[..len], &mut content),
            // It was taken back.
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(_) => return,
        };
        if let Some(answer) = answer {
            // Nobody waits for an answer that is refused.
            let _ = connection.write(&answer);
        }
    }
}

/// Returns the number of `N` bytes at `offset`.
fn bytes<const N: usize>(request: &[u8], offset: usize) -> [u8; N] {
    let range = request.get(offset..offset + N);
    range
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or([0; N])
}

/// Returns the answer to a request, if one is due.
fn answer(request: &[u8], content: &mut Vec<u8>) -> Option<Vec<u8>> {
    /// Bytes of `struct fuse_in_header`.
    const HEADER: usize = 40;
    /// Bytes of `struct fuse_out_header`.
    const OUT_HEADER: usize = 16;
    const ENOENT: i32 = -2;
    const ENOSYS: i32 = -38;
    let word = |offset| u32::from_ne_bytes(bytes(request, offset));
    let long = |offset| u64::from_ne_bytes(bytes(request, offset));
    let (unique, node) = (long(8), long(16));
    let body = request.get(HEADER..).unwrap_or_default();

    let (error, out) = match word(4) {
        opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT => return None,
        opcode::INIT => (0, init()),
        opcode::LOOKUP if body == [NAME.as_bytes(), b"\0"].concat() => (0, entry(content.len())),
        opcode::LOOKUP => (ENOENT, Vec::new()),
        opcode::GETATTR | opcode::SETATTR => (0, valid_attributes(node, content.len())),
        opcode::OPEN => (0, vec![0; 16]),
        opcode::READ => {
            let begin = (long(HEADER + 8) as usize).min(content.len());
            let end = (begin + word(HEADER + 16) as usize).min(content.len());
            (0, content[begin..end].to_vec())
        }
        opcode::WRITE => {
            let (begin, len) = (long(HEADER + 8) as usize, word(HEADER + 16) as usize);
            let written = body.get(40..40 + len).unwrap_or_default();
            if content.len() < begin + len {
                content.resize(begin + len, 0);
            }
            content[begin..begin + written.len()].copy_from_slice(written);
            (0, [(written.len() as u32).to_ne_bytes(), [0; 4]].concat())
        }
        opcode::FSYNC | opcode::SETLK | opcode::RELEASE => (0, Vec::new()),
        _ => (ENOSYS, Vec::new()),
    };
    let mut answer = Vec::new();
    answer.extend(((OUT_HEADER + out.len()) as u32).to_ne_bytes());
    answer.extend(error.to_ne_bytes());
    answer.extend(unique.to_ne_bytes());
    answer.extend(out);
    Some(answer)
}

/// `struct fuse_init_out`: version 7.31, with locks of this file system's own, and writes that are written back later.
fn init() -> Vec<u8> {
    const POSIX_LOCKS: u32 = 1 << 1;
    const WRITEBACK_CACHE: u32 = 1 << 16;
    const SIZE: usize = 64;
    let mut out = Vec::new();
    for word in [7, 31, 0, POSIX_LOCKS | WRITEBACK_CACHE, 0, WRITE_MAX, 1] {
        out.extend(u32::to_ne_bytes(word));
    }
    out.resize(SIZE, 0);
    out
}

/// How long an answer holds, in seconds: for ever.
const VALID: u64 = 1 << 30;

/// `struct fuse_entry_out` of the file.
fn entry(size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for long in [FILE, 0, VALID, VALID, 0] {
        out.extend(u64::to_ne_bytes(long));
    }
    out.extend(attributes(FILE, size));
    out
}

/// `struct fuse_attr_out` of a node.
fn valid_attributes(node: u64, size: usize) -> Vec<u8> {
    let mut out = [VALID, 0].map(u64::to_ne_bytes).concat();
    out.extend(attributes(node, size));
    out
}

/// `struct fuse_attr` of a node.
fn attributes(node: u64, size: usize) -> Vec<u8> {
    const SECTOR: u64 = 512;
    const REGULAR: u32 = 0o100_600;
    const DIRECTORY: u32 = 0o040_700;
    let (size, mode) = match node {
        ROOT => (0, DIRECTORY),
        _ => (size as u64, REGULAR),
    };
    let mut out = [node, size, size / SECTOR, 0, 0, 0]
        .map(u64::to_ne_bytes)
        .concat();
    out.extend(
        [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0]
            .map(u32::to_ne_bytes)
            .concat(),
    );
    out
}
