//! A machine that runs: a QEMU with disks, and the serial line over which it takes orders.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::image::{Filesystem, Image};
use support::run;

/// What running a machine takes.
pub const PROGRAMS: [&str; 6] = [
    "debugfs",
    "mkfs.erofs",
    "mkfs.xfs",
    "qemu-img",
    "qemu-system-x86_64",
    "setpriv",
];

/// How long a boot, an order or a shutdown may take until it is taken for stuck.
const PATIENCE: Duration = Duration::from_secs(600);

/// How many machines run at once. Each keeps one processor busy, and other tests run beside them.
const AT_ONCE: usize = 2;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// The right to run one of these machines.
struct Turn;

impl Turn {
    /// Waits until another machine ends if too many run.
    fn take() -> Turn {
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let running = ENDED.wait_while(running, |running| *running >= AT_ONCE);
        *running.unwrap_or_else(PoisonError::into_inner) += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_one();
    }
}

/// What is written while the tests run. It is in the memory of this program's own mounts, so that nothing is left of it
/// even where the program is killed.
static SCRATCH: LazyLock<PathBuf> = LazyLock::new(|| {
    let at = std::env::temp_dir().join("modstamp-lab");
    std::fs::create_dir_all(&at).unwrap();
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", "mode=755,size=75%", "tmpfs"])
        .arg(&at));
    at
});

fn scratch() -> TempDir {
    tempfile::tempdir_in(&*SCRATCH).unwrap()
}

/// A disk, gone with this.
pub struct Disk {
    directory: TempDir,
    format: &'static str,
}

impl Disk {
    /// One that has what the image has.
    pub fn over(image: &Image) -> Disk {
        let disk = Disk::new("qcow2");
        disk.create(&["-F", "raw", "-b", image.disk().to_str().unwrap()]);
        disk
    }

    /// One of so many megabytes that a command, such as `["mkfs.ext4", "-q"]`, which gets the file's name as its last
    /// argument, makes a file system on.
    pub fn formatted(megabytes: u64, mkfs: &[&str]) -> Disk {
        let disk = Disk::new("raw");
        File::create(disk.path())
            .unwrap()
            .set_len(megabytes << 20)
            .unwrap();
        run(Command::new(mkfs[0]).args(&mkfs[1..]).arg(disk.path()));
        disk
    }

    /// One that has what this has, and that loses with the power what was not flushed, as a disk does that has a cache of
    /// its own: where new data are in it is in QEMU's memory until then.
    pub fn with_cache(&self) -> Disk {
        let disk = Disk::new("qcow2");
        disk.create(&["-F", self.format, "-b", self.path().to_str().unwrap()]);
        disk
    }

    /// One that is an image of all that is in a directory, with every time 0.
    pub fn erofs(from: &Path) -> Disk {
        let disk = Disk::new("raw");
        run(Command::new("mkfs.erofs")
            .args(["--quiet", "-T0", "-U00000000-0000-0000-0000-000000000000"])
            .args([&disk.path(), from]));
        disk
    }

    /// One that has what the image has but for what debugfs(8) changes, which leaves all times as they are.
    pub fn edited(image: &Image, command: &str) -> Disk {
        let disk = Disk::new("raw");
        run(Command::new("cp")
            .arg("--sparse=always")
            .args([&image.disk(), &disk.path()]));
        run(Command::new("debugfs")
            .args(["-w", "-R", command])
            .arg(disk.path()));
        disk
    }

    fn new(format: &'static str) -> Disk {
        let directory = scratch();
        Disk { directory, format }
    }

    fn create(&self, arguments: &[&str]) {
        let mut create = Command::new("qemu-img");
        create.args(["create", "-q", "-f", self.format]);
        run(create.args(arguments).arg(self.path()));
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("disk")
    }
}

/// How a machine is to boot.
pub struct Boot<'a> {
    image: &'a Image,
    /// In the machine `/dev/vda`, `/dev/vdb` and so on. The first has the root.
    disks: Vec<&'a Disk>,
    subvolume: &'a str,
    words: String,
    clock: Option<&'a str>,
    is_bare: bool,
}

impl<'a> Boot<'a> {
    /// From a disk with the image's root.
    pub fn new(image: &'a Image, disk: &'a Disk) -> Boot<'a> {
        Boot {
            image,
            disks: vec![disk],
            subvolume: "@",
            words: String::new(),
            clock: None,
            is_bare: false,
        }
    }

    /// With nothing but what takes orders: no systemd, and no more mounted than the root and /dev.
    pub fn bare(self) -> Boot<'a> {
        Boot {
            is_bare: true,
            ..self.word("init=/usr/local/lib/lab/shell")
        }
    }

    /// With the root in this subvolume.
    pub fn subvolume(mut self, name: &'a str) -> Boot<'a> {
        self.subvolume = name;
        self
    }

    /// With one disk more.
    pub fn disk(mut self, disk: &'a Disk) -> Boot<'a> {
        self.disks.push(disk);
        self
    }

    /// With one disk more that is mounted before all services start, with options as mount(8) takes them.
    pub fn mounted(
        mut self,
        disk: &'a Disk,
        at: &str,
        filesystem: &str,
        options: &str,
    ) -> Boot<'a> {
        let device = format!("/dev/vd{}", char::from(b'a' + self.disks.len() as u8));
        self.disks.push(disk);
        self.word(&format!(
            "systemd.mount-extra={device}:{at}:{filesystem}:{options}"
        ))
    }

    /// With something more that the kernel or systemd is told, such as `systemd.mask=UNIT`.
    pub fn word(mut self, word: &str) -> Boot<'a> {
        self.words += &format!(" {word}");
        self
    }

    /// At this time, as `1970-01-01T00:00:00`.
    pub fn clock(mut self, clock: &'a str) -> Boot<'a> {
        self.clock = Some(clock);
        self
    }

    /// What the kernel and systemd are told: kernel-command-line(7).
    fn command_line(&self) -> String {
        let kind = format!("{:?}", self.image.filesystem).to_lowercase();
        // On a busy host the emulated timer ticks late, and Linux gives it up without no_timer_check. Devices and
        // services may be late, too. A boot is a tenth shorter without mitigations, init_on_alloc and other LSMs.
        let mut line = format!(
            "console=ttyS0 quiet panic=-1 no_timer_check systemd.default_device_timeout_sec=600 \
             systemd.default_timeout_start_sec=600 mitigations=off init_on_alloc=0 lsm=capability root=/dev/vda rw rootfstype={kind}"
        );
        if self.image.filesystem == Filesystem::Btrfs {
            let subvolume = self.subvolume;
            line += &format!(
                " rootflags=subvol={subvolume} systemd.mount-extra=/dev/vda:/var:btrfs:subvol=@var"
            );
        }
        line + &self.words
    }

    /// Starts the machine, and returns when all its services run.
    pub fn start(self) -> Machine {
        Machine::start(&self)
    }
}

/// A machine that runs. It ends with this, as if its power were cut.
pub struct Machine {
    qemu: Child,
    line: Option<BufReader<UnixStream>>,
    directory: TempDir,
    /// How long it took until all services ran.
    pub boot_time: Duration,
    _turn: Turn,
}

impl Machine {
    fn start(boot: &Boot) -> Machine {
        let turn = Turn::take();
        let started = Instant::now();
        let directory = scratch();
        let socket = directory.path().join("line");
        let at = |name| directory.path().join(name).display().to_string();
        let mut qemu = Command::new("setpriv");
        // It ends with this program, even if that is killed. In one thread a second processor only costs time. In
        // two threads Linux may panic (“Oops: int3”): one processor runs code that the other one is changing.
        // Emulated page tables of four levels, without la57, are quicker than those of five.
        qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
            .args([
                "-accel",
                "tcg,thread=single",
                "-cpu",
                "max,-la57",
                "-smp",
                "1",
                "-m",
                "2048",
            ])
            .args(["-nographic", "-nodefaults", "-no-reboot"])
            .arg("-kernel")
            .arg(boot.image.kernel())
            .arg("-initrd")
            .arg(boot.image.initrd())
            .args(["-append", &boot.command_line()])
            .args(["-serial", &format!("file:{}", at("console"))])
            .args(["-serial", &format!("file:{}", at("said"))])
            .args([
                "-chardev",
                &format!("socket,id=line,path={},server=on,wait=off", at("line")),
            ])
            .args([
                "-device",
                "virtio-serial",
                "-device",
                "virtserialport,chardev=line",
            ]);
        for disk in &boot.disks {
            let (path, format) = (disk.path(), disk.format);
            qemu.args([
                "-drive",
                &format!("file={},format={format},if=virtio", path.display()),
            ]);
        }
        if let Some(clock) = &boot.clock {
            qemu.args(["-rtc", &format!("base={clock}")]);
        }
        let errors = File::create(at("qemu")).unwrap();
        qemu.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors);
        let mut machine = Machine {
            qemu: qemu.spawn().unwrap(),
            line: None,
            directory,
            boot_time: Duration::ZERO,
            _turn: turn,
        };
        let line = loop {
            match UnixStream::connect(&socket) {
                Ok(line) => break line,
                Err(_) => machine.go_on(started, "QEMU listens"),
            }
        };
        line.set_read_timeout(Some(PATIENCE)).unwrap();
        let line = machine.line.insert(BufReader::new(line));
        let mut ready = String::new();
        let heard = line.read_line(&mut ready);
        assert_eq!(ready, "ready\n", "{heard:?}: {}", machine.console());
        if !boot.is_bare {
            let (status, state) = machine.try_sh("systemctl is-system-running --wait");
            if status != 0 {
                let failed = machine
                    .sh("systemctl --failed --no-legend; journalctl -b -p warning --no-pager");
                panic!("{state}\n{failed}");
            }
        }
        machine.boot_time = started.elapsed();
        machine
    }

    /// Waits a moment.
    fn go_on(&mut self, since: Instant, until: &str) {
        let ended = self.qemu.try_wait().unwrap();
        assert!(
            ended.is_none(),
            "QEMU {}: {}",
            ended.unwrap(),
            self.console()
        );
        assert!(
            since.elapsed() < PATIENCE,
            "waited in vain until {until}: {}",
            self.console()
        );
        std::thread::sleep(Duration::from_millis(10));
    }

    /// Runs a script for bash as root, to whose end it is waited for; returns what it printed, errors too. Panics where it fails.
    #[track_caller]
    pub fn sh(&mut self, script: &str) -> String {
        let (status, output) = self.try_sh(script);
        assert_eq!(status, 0, "{script}\n{output}\n{}", self.console());
        output
    }

    /// The same; returns the exit status as well, above 128 where it was killed.
    #[track_caller]
    pub fn try_sh(&mut self, script: &str) -> (i32, String) {
        self.begin(script);
        self.end()
    }

    /// Begins to run a script. Before the next one, wait for its [`Machine::end`].
    #[track_caller]
    pub fn begin(&mut self, script: &str) {
        let line = self.line.as_mut().unwrap().get_mut();
        let sent = line.write_all(format!("{}\n{script}", script.len()).as_bytes());
        assert!(sent.is_ok(), "{sent:?}: {}", self.console());
    }

    /// Waits for the end of the script that was begun last; returns its exit status and what it printed.
    #[track_caller]
    pub fn end(&mut self) -> (i32, String) {
        self.answer()
            .unwrap_or_else(|error| panic!("{error}: {}", self.console()))
    }

    fn answer(&mut self) -> std::io::Result<(i32, String)> {
        let line = self.line.as_mut().unwrap();
        let mut head = String::new();
        line.read_line(&mut head)?;
        let numbers = head.trim_end().split_once(' ').unwrap_or_default();
        let [status, length] = [numbers.0, numbers.1].map(str::parse);
        let (Ok(status), Ok(length)) = (status, length) else {
            return Err(std::io::Error::other(format!("“{head}” is no answer")));
        };
        let mut output = vec![0; length as usize];
        line.read_exact(&mut output)?;
        Ok((status, String::from_utf8_lossy(&output).into_owned()))
    }

    /// Writes a file in the machine.
    pub fn put(&mut self, path: &str, content: &str) {
        self.sh(&format!(
            "mkdir -p $(dirname {path}); cat > {path} <<'END OF FILE'\n{content}\nEND OF FILE"
        ));
    }

    /// Shuts it down, as an administrator does.
    pub fn shut_down(mut self) {
        self.begin("systemctl poweroff --no-block");
        let started = Instant::now();
        while self.qemu.try_wait().unwrap().is_none() {
            assert!(
                started.elapsed() < PATIENCE,
                "it does not end: {}",
                self.console()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Cuts its power.
    pub fn cut(self) {}

    /// What was written to its /dev/ttyS1 since it was started, in whole lines.
    pub fn said(&self) -> String {
        let said = std::fs::read(self.directory.path().join("said")).unwrap();
        let said = String::from_utf8_lossy(&said).replace('\r', "");
        let whole = said.rfind('\n').map_or(0, |end| end + 1);
        said[..whole].to_owned()
    }

    /// Waits until what was written there is so.
    pub fn wait_until(&mut self, is_so: impl Fn(&str) -> bool) {
        let started = Instant::now();
        while !is_so(&self.said()) {
            self.go_on(started, "it says what is waited for");
        }
    }

    /// The last lines of what it and QEMU said.
    fn console(&self) -> String {
        let said = ["qemu", "console", "said"].map(|name| {
            let said = std::fs::read(self.directory.path().join(name)).unwrap_or_default();
            let said = String::from_utf8_lossy(&said).into_owned();
            let last: Vec<&str> = said.lines().rev().take(40).collect();
            last.into_iter().rev().collect::<Vec<_>>().join("\n")
        });
        said.join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
