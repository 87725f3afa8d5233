//! A file system that hangs below a module directory: its server never answers the kernel (FUSE).

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::libvirt::WATCHED;
use support::mounted::Mounted;
use support::named;
use support::tally::Promise;
use support::test::{self, Needs, Test};
use support::world::STAMP;

use super::ground::{Ground, Programs, View};
use super::guarded::{Ran, TRIGGER_BOUND, within};

pub fn tests() -> Vec<Test> {
    let fuse = Path::new("/dev/fuse");
    let missing = (!fuse.exists()).then(|| "/dev/fuse".to_owned());
    let needs = Needs::root_and(&["chroot", "mount"]).and(missing);
    test::tests(&needs, SCENARIOS).collect()
}

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![
    a_module_directory_that_hangs_holds_up_no_transaction_and_no_touch,
    a_look_that_hangs_can_be_ended_and_changes_nothing,
];

/// A file system whose server has opened the kernel's end, and reads no request from it.
struct Hanging {
    server: Child,
    at: PathBuf,
}

impl Hanging {
    fn on(at: &Path) -> Hanging {
        std::fs::create_dir_all(at).unwrap();
        let script = r#"
            exec 9<>/dev/fuse
            mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 hangs "$1"
            echo mounted
            exec sleep 600
        "#;
        let mut server = Command::new("sh");
        server.args(["-euc", script, "sh"]).arg(at);
        let mut server = server.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(server.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "mounted\n");
        Hanging {
            server,
            at: at.to_owned(),
        }
    }
}

impl Drop for Hanging {
    /// Without a server, each request that waits is an error.
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let mut unmount = Command::new("umount");
        let _ = unmount.arg("--lazy").arg(&self.at).status();
    }
}

/// A ground with such a file system. That ends first: nothing could remove the ground before.
struct Hung {
    _hanging: Hanging,
    ground: Ground,
}

fn hung(disk: &Mounted) -> Hung {
    let programs = Programs::below(disk.path());
    let ground = Ground::new(disk.path(), View::System, &programs);
    let _hanging = Hanging::on(&ground.step(WATCHED).join("hung"));
    Hung { _hanging, ground }
}

fn stamp_of(ground: &Ground) -> std::time::SystemTime {
    let stamp = ground.step(STAMP).metadata().unwrap();
    stamp.modified().unwrap()
}

fn a_module_directory_that_hangs_holds_up_no_transaction_and_no_touch() {
    let disk = Mounted::tmpfs("mode=755");
    let hung = hung(&disk);
    let ground = &hung.ground;
    let modstamp = "modstamp";
    let slow = "the modules could not be looked at within";
    let verbs: [(&str, &[&str], &str); 4] = [
        (modstamp, &["touch"], slow),
        (modstamp, &["trigger", "dpkg"], slow),
        (modstamp, &["trigger", "rpm"], slow),
        ("rpm-trigger", &["/body", "1"], ""),
    ];
    for (program, arguments, sentence) in verbs {
        let before = stamp_of(ground);
        let ran = within(TRIGGER_BOUND, || Ran::of(ground.root(program, arguments)));
        assert_eq!(
            ran.status.code(),
            Some(0),
            "{program} {arguments:?}: {ran:?}"
        );
        assert!(
            ran.err.contains(sentence),
            "{program} {arguments:?}: {ran:?}"
        );
        assert!(
            stamp_of(ground) > before,
            "{program} {arguments:?}: {ran:?}"
        );
        Promise::NoWait.held();
        Promise::TransactionCompletes.held();
        Promise::StampKept.held();
    }
}

/// Such a look may wait as long as the file system does: nothing waits for it but its caller.
fn a_look_that_hangs_can_be_ended_and_changes_nothing() {
    let disk = Mounted::tmpfs("mode=755");
    let hung = hung(&disk);
    let ground = &hung.ground;
    for arguments in [
        &["update"][..],
        &["observe"],
        &["status"],
        &["libvirt", "status"],
    ] {
        let before = stamp_of(ground);
        let mut command = ground.root("modstamp", arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut look = command.spawn().unwrap();
        std::thread::sleep(Duration::from_secs(1));
        let id = rustix::process::Pid::from_child(&look);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        let start = Instant::now();
        while look.try_wait().unwrap().is_none() {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{arguments:?} does not end"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(stamp_of(ground), before, "{arguments:?}");
        Promise::StampKept.held();
    }
}
