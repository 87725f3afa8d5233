//! A libvirt with a cache of its own: its daemon, started in a throw-away machine, and what it
//! answers.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::deb::{Host, Release};
use crate::machine::inside;
use crate::run;

/// How long a daemon or a probe may take until it is taken for stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// A libvirt with a cache of its own.
pub struct Consumer {
    pub name: &'static str,
    /// Whether its daemon keeps running between two look-ups, with its cache in memory. If not, the
    /// cache is on disk alone.
    pub stays: bool,
    root: PathBuf,
    /// Whose session it is; the system's daemon is root's.
    pub user: Option<&'static str>,
    pub daemon: Option<Child>,
}

/// A machine with libvirt and QEMU, in which daemons can be started.
pub fn host(release: &'static Release) -> Host {
    let host = Host::bare(
        release,
        &[
            "libvirt-clients",
            "libvirt-daemon",
            "libvirt-daemon-driver-qemu",
            "qemu-system-x86",
            "rpm",
            release.devices,
        ],
    );
    // As root: if another user has no access to KVM, libvirt probes at each look-up.
    host.sh(
        r#"getent passwd libvirt-qemu >/dev/null || useradd --system --no-create-home libvirt-qemu
            for user in one two; do
                useradd --create-home --skel /var/empty $user 2>&1
                mkdir -m 700 /home/$user/run
                chown $user:$user /home/$user/run
            done
            mkdir -p /etc/libvirt /run/libvirt /var/log/libvirt
            printf 'user = "root"\ngroup = "root"\n' > /etc/libvirt/qemu.conf"#,
    );
    run(Command::new("mount")
        .args(["-t", "sysfs", "sysfs"])
        .arg(host.machine.root.join("sys")));
    host
}

/// What a look-up answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub lists_qxl: bool,
    pub probes: usize,
}

/// What tells a probe.
struct Trace {
    /// How many answers the log says to have been saved.
    saved: usize,
    /// The cache file's inode and mtime.
    file: Option<(u64, i64, i64)>,
}

impl Consumer {
    /// One in the machine, or the part of one, at `root`.
    pub fn new(
        name: &'static str,
        stays: bool,
        root: &Path,
        user: Option<&'static str>,
    ) -> Consumer {
        Consumer {
            name,
            stays,
            root: root.to_owned(),
            user,
            daemon: None,
        }
    }

    /// The path, from outside, of a place that is the system's or the user's own.
    pub fn outside(&self, system: &str, session: &str) -> PathBuf {
        match self.user {
            None => self.root.join(system),
            Some(user) => self.root.join("home").join(user).join(session),
        }
    }

    pub fn command(&self, program: &str) -> Command {
        let Some(user) = self.user else {
            return inside(&self.root, &[], program);
        };
        let option = format!("--userspec={user}:{user}");
        let mut command = inside(&self.root, &[&option], program);
        command
            .env("HOME", format!("/home/{user}"))
            .env("XDG_RUNTIME_DIR", format!("/home/{user}/run"));
        command
    }

    /// The path, from outside, of its log.
    pub fn log(&self) -> PathBuf {
        self.outside("var/log/libvirt/libvirtd.log", "libvirtd.log")
    }

    /// The same path for itself.
    fn inside(&self, outside: &Path) -> PathBuf {
        Path::new("/").join(outside.strip_prefix(&self.root).unwrap())
    }

    pub fn start(&mut self) {
        if self.daemon.is_some() {
            return;
        }
        let socket = self.outside("run/libvirt/libvirt-sock", "run/libvirt/libvirt-sock");
        let _ = std::fs::remove_file(&socket);
        let own = self.outside("run/libvirt/libvirtd.pid", "libvirtd.pid");
        let (log, own) = (self.inside(&self.log()), self.inside(&own));
        let mut command = self.command("libvirtd");
        // It ends by itself if these tests are killed.
        command
            .arg("--timeout=300")
            .arg("--pid-file")
            .arg(own)
            .env(
                "LIBVIRT_LOG_FILTERS",
                "1:qemu.qemu_capabilities 2:qemu.qemu_monitor_json",
            )
            .env("LIBVIRT_LOG_OUTPUTS", format!("1:file:{}", log.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let daemon = self.daemon.insert(command.spawn().unwrap());
        wait_until("libvirtd listens", || {
            let ended = daemon.try_wait().unwrap();
            assert_eq!(ended, None, "the daemon of {}", self.name);
            socket.exists()
        });
    }

    pub fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let process = rustix::process::Pid::from_child(&daemon);
            rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
            wait_until("libvirtd ends", || daemon.try_wait().unwrap().is_some());
        }
    }

    /// Whether the daemon that was started is the one that runs.
    pub fn still_runs(&mut self) -> bool {
        let ended = self
            .daemon
            .as_mut()
            .map(|daemon| daemon.try_wait().unwrap());
        ended == self.stays.then_some(None)
    }

    pub fn file(&self) -> Option<(u64, i64, i64)> {
        let cache = self.outside(
            "var/cache/libvirt/qemu/capabilities",
            ".cache/libvirt/qemu/cache/capabilities",
        );
        let mut files = std::fs::read_dir(cache).ok()?;
        let file = files.next()?.unwrap().metadata().unwrap();
        assert!(files.next().is_none(), "one emulator was asked about");
        Some((file.ino(), file.mtime(), file.mtime_nsec()))
    }

    fn trace(&self) -> Trace {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        Trace {
            saved: log.matches("virQEMUCapsSaveFile").count(),
            file: self.file(),
        }
    }

    /// Asks for the domain capabilities.
    pub fn look_up(&mut self) -> Answer {
        let before = self.trace();
        self.start();
        let mut virsh = self.command("timeout");
        let uri = match self.user {
            None => "qemu:///system",
            Some(_) => "qemu:///session",
        };
        virsh
            .arg(PATIENCE.as_secs().to_string())
            .args(["virsh", "--connect", uri, "domcapabilities"])
            .env("LIBVIRT_AUTOSTART", "0");
        let answer = run(&mut virsh);
        if !self.stays {
            self.stop();
        }
        let after = self.trace();
        let probes = after.saved - before.saved;
        assert!(
            probes <= 1,
            "{}: {probes} probes for one question",
            self.name
        );
        assert_eq!(
            probes == 1,
            after.file != before.file,
            "{}: the log and the cache file disagree",
            self.name
        );
        let lists_qxl = answer.contains("<value>qxl</value>");
        Answer { lists_qxl, probes }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
