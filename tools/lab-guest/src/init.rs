// SPDX-License-Identifier: GPL-2.0

//! The tasks of a first process: mounting file systems, and waiting for a virtio-serial port.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use rustix::event::poll;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::fs::inotify;
use rustix::io::Errno;
use rustix::mount::mount;
use rustix::mount::MountFlags;

/// File systems that every VM needs, as (type, mount point).
const FILE_SYSTEMS: [(&str, &str); 3] =
    [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")];

/// Mounts `kind` at `target`, which is created if missing. An existing mount is no error.
pub fn mount_at(kind: &str, target: &str) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("creating {target}"))?;
    match mount(kind, target, kind, MountFlags::empty(), None) {
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(errno) => Err(errno).with_context(|| format!("mounting {kind} at {target}")),
    }
}

/// Mounts the kernel's file systems.
pub fn mount_all() -> Result<()> {
    for (kind, target) in FILE_SYSTEMS {
        mount_at(kind, target)?;
    }
    Ok(())
}

/// Opens the virtio-serial port called `name` for reading and writing.
///
/// The host announces its ports while the first process runs already, so this waits, and fails after `limit`.
pub fn open_virtio_port(name: &str, limit: Duration) -> Result<File> {
    let deadline = Instant::now() + limit;
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .context("inotify")?;
    inotify::add_watch(&watch, "/dev", inotify::WatchFlags::CREATE).context("watching /dev")?;
    loop {
        if let Some(path) = find_virtio_port(name)? {
            return OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .with_context(|| format!("opening {}", path.display()));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("no virtio-serial port is called {name} after {limit:?}");
        }
        // The port's name appears in sysfs shortly after its node, so look again soon even if no other
        // node follows.
        let slice = left.min(Duration::from_millis(50));
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(slice.subsec_nanos()),
        };
        poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&timeout)).context("poll")?;
        let mut events = [0u8; 4096];
        // The read empties the queue. All ports are looked at, whichever node was created.
        match rustix::io::read(&watch, &mut events) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno).context("reading inotify"),
        }
    }
}

fn find_virtio_port(name: &str) -> Result<Option<PathBuf>> {
    let Ok(ports) = fs::read_dir("/sys/class/virtio-ports") else {
        return Ok(None);
    };
    for port in ports {
        let port = port.context("listing virtio ports")?;
        let found = fs::read_to_string(port.path().join("name")).unwrap_or_default();
        let node = Path::new("/dev").join(port.file_name());
        if found.trim_end() == name && node.exists() {
            return Ok(Some(node));
        }
    }
    Ok(None)
}
