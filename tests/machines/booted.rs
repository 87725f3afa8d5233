//! A machine in which a real systemd runs, booted by systemd-nspawn(1).

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use support::consumer::{self, wait_until};
use support::deb::{Host, MODULES, Release};
use support::run;

/// Installs the units into a tree.
pub fn install_units(destination: &Path, variables: &[&str]) {
    run(Command::new("make")
        .args(["-s", "install-units"])
        .arg(format!("DESTDIR={}", destination.display()))
        .args(variables)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("MAKEFLAGS")
        .env_remove("MFLAGS"));
}

/// A machine with QEMU in which systemd runs, with the units for the profile “qemu” enabled. They
/// are there before it is booted.
pub struct Booted {
    pub host: Host,
    nspawn: Option<Child>,
    /// The number of its first process.
    init: String,
}

/// How libvirt's socket looks to the units, and what there was when it came.
const SOCKET: &str = "[Socket]\nListenStream=/run/virtqemud\n\
    ExecStartPre=/bin/sh -c 'cp -a /var/lib/modstamp /run/seen; ls /var/cache/libvirt/qemu/capabilities > /run/cached; true'\n\
    [Install]\nWantedBy=sockets.target\n";

impl Booted {
    pub fn new(release: &'static Release) -> Booted {
        let host = consumer::host(release);
        let program = Path::new(env!("CARGO_BIN_EXE_modstamp"));
        host.machine.put(program, "/usr/bin/modstamp");
        install_units(&host.machine.root, &["PREFIX=/usr"]);
        let at = |name: &str| host.outside(&format!("/etc/systemd/system/{name}"));
        fs::write(at("virtqemud.socket"), SOCKET).unwrap();
        let service = "[Service]\nExecStart=/bin/true\n";
        fs::write(at("virtqemud.service"), service).unwrap();
        host.sh(
            "rm -f /etc/machine-id; touch /etc/machine-id
             systemctl disable libvirtd.service libvirtd.socket || true
             systemctl enable virtqemud.socket modstamp-update@qemu.service modstamp-update@qemu.path
             systemctl --global enable modstamp-update@qemu.service",
        );
        // It has its own.
        let mounted = ["proc", "run", "sys", "tmp"];
        let mounted = mounted.map(|name| host.machine.root.join(name));
        run(Command::new("umount").args(mounted));
        Booted {
            host,
            nspawn: None,
            init: String::new(),
        }
    }

    /// Boots it, with further options of systemd-nspawn(1).
    pub fn boot(&mut self, options: &[&str]) {
        assert!(self.nspawn.is_none());
        let console = fs::File::create(self.host.machine.beside("console")).unwrap();
        // Each in a control group of its own, in which its systemd looks for what it has started.
        let script = r#"
            for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
                test -e $hierarchy/cgroup.procs || continue
                mkdir -p "$hierarchy/$0"
                echo $$ > "$hierarchy/$0/cgroup.procs"
            done
            exec systemd-nspawn --quiet --register=no --keep-unit --console=pipe --resolv-conf=off --timezone=off \
                --link-journal=no "$@" --boot
        "#;
        let nspawn = Command::new("/bin/sh")
            .args(["-ec", script, &self.control_group()])
            .arg("--directory")
            .arg(&self.host.machine.root)
            .args(options)
            .stdin(Stdio::null())
            .stdout(console.try_clone().unwrap())
            .stderr(console)
            .spawn()
            .unwrap();
        let parent = nspawn.id();
        self.nspawn = Some(nspawn);
        let is_up = || {
            let is_init = |child: &String| {
                let name = fs::read_to_string(format!("/proc/{child}/comm"));
                name.is_ok_and(|name| name == "systemd\n")
            };
            let Some(found) = children(parent).into_iter().find(is_init) else {
                return false;
            };
            self.init = found;
            let state = inside(&self.init, "systemctl is-system-running").output();
            matches!(&*state.unwrap().stdout, b"running\n" | b"degraded\n")
        };
        wait_until("the machine is up", is_up);
    }

    /// The name of its control group.
    fn control_group(&self) -> String {
        let scratch = self.host.machine.root.ancestors().nth(2).unwrap();
        let scratch = scratch.file_name().unwrap().to_str().unwrap();
        format!("modstamp-test-{scratch}")
    }

    /// Ends it at once. What is in /run is gone then.
    pub fn stop(&mut self) {
        let Some(mut nspawn) = self.nspawn.take() else {
            return;
        };
        for process in children(nspawn.id()) {
            let process = rustix::process::Pid::from_raw(process.parse().unwrap());
            let _ = rustix::process::kill_process(process.unwrap(), rustix::process::Signal::KILL);
        }
        let _ = nspawn.wait();
        let groups = ["", "systemd/", "unified/"];
        let groups = groups.map(|of| format!("/sys/fs/cgroup/{of}{}", self.control_group()));
        let _ = Command::new("find")
            .args(groups)
            .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"])
            .stderr(Stdio::null())
            .status();
    }

    /// Runs a script in the machine that was booted; returns what it printed.
    pub fn sh(&self, script: &str) -> String {
        run(&mut inside(&self.init, script))
    }

    /// How often the profile was looked at since the boot.
    pub fn looks(&self) -> usize {
        let log = self.sh("journalctl -q -b -o cat -u modstamp-update@qemu.service");
        log.lines()
            .filter(|line| line.starts_with("Starting"))
            .count()
    }

    /// Waits until nothing of modstamp's is under way any more.
    pub fn wait(&self) {
        let is_quiet = || {
            let states = self.sh("systemctl show --property SubState --value modstamp-update@qemu.path \
                modstamp-settle@qemu.service modstamp-update@qemu.service; systemctl list-jobs --no-legend");
            states.split_whitespace().eq(["waiting", "dead", "dead"])
        };
        let mut times = 0;
        wait_until("all is quiet", || {
            times = if is_quiet() { times + 1 } else { 0 };
            std::thread::sleep(std::time::Duration::from_millis(100));
            times == 3
        });
    }

    /// Whether what a script does is looked at.
    pub fn is_seen(&self, script: &str) -> bool {
        self.wait();
        let before = self.looks();
        self.sh(script);
        self.wait();
        self.looks() > before
    }

    /// Has QEMU's modules change. The times of their directory are what they were.
    pub fn change(&self) {
        let directory = self.host.outside(&MODULES);
        let reference = self.host.machine.beside("reference");
        run(Command::new("touch")
            .arg("-r")
            .arg(&directory)
            .arg(&reference));
        fs::write(directory.join("more.so"), "a module").unwrap();
        run(Command::new("touch")
            .arg("-r")
            .arg(&reference)
            .arg(&directory));
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        if std::thread::panicking() && self.nspawn.is_some() {
            let log = "journalctl -q -b -o short-precise --no-hostname -u 'modstamp-*'";
            let log = inside(&self.init, log).output();
            eprintln!("{}", String::from_utf8_lossy(&log.unwrap().stdout));
        }
        self.stop();
    }
}

/// The numbers of a process's children.
fn children(process: u32) -> Vec<String> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let children = children.unwrap_or_default();
    children.split_whitespace().map(str::to_owned).collect()
}

/// A script that runs where that process does.
fn inside(process: &str, script: &str) -> Command {
    let mut command = Command::new("nsenter");
    command
        .args([
            "--target", process, "--all", "timeout", "60", "/bin/sh", "-ec",
        ])
        .arg(script)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C");
    command
}
