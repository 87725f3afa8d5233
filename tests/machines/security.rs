//! Holds docs/security.md against what the programs do, traced by strace(1), and against Debian's
//! SELinux policy and AppArmor. The machine is a root of Debian's with its libvirt and QEMU in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use support::machine::{Machine, inside};
use support::named;
use support::test::{self, Needs, Test};

const PAGE: &str = include_str!("../../docs/security.md");

const PROGRAMS: [&str; 4] = ["mmdebstrap", "chroot", "unshare", "strace"];

const PACKAGES: [&str; 5] = [
    "apparmor",
    "libvirt-daemon-system",
    "selinux-policy-default",
    "selinux-utils",
    "setools",
];

const POLICY: &str = "/etc/selinux/default/policy/policy.*";
const CONTEXTS: &str = "/etc/selinux/default/contexts/files/file_contexts";

/// The module directory that libvirt watches.
const MODULES: &str = "/usr/lib/x86_64-linux-gnu/qemu";

const RPM_TRIGGER: &str = "/usr/libexec/modstamp/rpm-trigger";
const RPM_TRANSACTION: &str = "/usr/libexec/modstamp/rpm-transaction";

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![
    each_program_changes_what_the_page_says_and_nothing_else,
    paths_have_the_labels_that_the_page_says,
    a_confined_libvirtd_may_check_by_the_rules_that_the_page_gives_and_not_without,
    the_apparmor_lines_of_the_page_are_right_and_enough_for_a_check,
    another_users_home_gives_root_neither_profiles_nor_answers,
];

pub fn tests() -> Vec<Test> {
    test::tests(&Needs::root_and(&PROGRAMS), SCENARIOS).collect()
}

/// The cells of the page's tables whose first line has these.
fn rows<const N: usize>(head: [&str; N]) -> Vec<[&'static str; N]> {
    let cells = |line: &'static str| -> Option<[&'static str; N]> {
        let cells: Vec<&str> = line
            .strip_prefix("| ")?
            .strip_suffix(" |")?
            .split(" | ")
            .collect();
        cells.try_into().ok()
    };
    let mut lines = PAGE.lines();
    assert!(
        lines.any(|line| cells(line) == Some(head)),
        "the page has no table with {head:?}"
    );
    lines.skip(1).map_while(cells).collect()
}

/// The paths that a cell of the table of changes has.
fn patterns(cell: &str) -> impl Iterator<Item = &str> {
    quoted(cell)
        .filter(|text| text.starts_with(['/', '~']) || matches!(*text, "MODULES" | "PROGRAMS"))
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The page's block of code in a language.
fn block(language: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

fn machine() -> Machine {
    let machine = Machine::new("trixie", &PACKAGES);
    machine.put(
        Path::new(env!("CARGO_BIN_EXE_modstamp")),
        "/usr/bin/modstamp",
    );
    machine.put(&support::program("modstamp-rpm-trigger"), RPM_TRIGGER);
    machine.sh(&format!("ln -s ../../bin/modstamp {RPM_TRANSACTION}"));
    machine.sh("install -d -o 65534 -g 65534 /home/nobody");
    machine.sh(&format!(
        "echo --profile qemu {MODULES} > /tmp/body; echo {MODULES}/a.so > /tmp/paths"
    ));
    machine
}

/// What a process did, as strace(1) says it.
#[derive(Default)]
struct Trace {
    changed: BTreeSet<String>,
    /// Opened for reading, or looked at by stat(2): files, and directories.
    read: BTreeSet<String>,
    started: Vec<String>,
    network: Vec<String>,
}

/// Traces a command in the machine, from the start of its program on.
fn trace(machine: &Machine, options: &[&str], home: &str, command: &[&str]) -> Trace {
    let logs = tempfile::tempdir().unwrap();
    let program = match command[0] {
        "modstamp" => "/usr/bin/modstamp",
        other => other,
    };
    let chroot = inside(&machine.root, options, program);
    let output = Command::new("strace")
        .args([
            "--follow-forks",
            "--output-separately",
            "--decode-fds=path",
            "--string-limit=4096",
        ])
        .args(["--trace=%file,%desc,%network,%process", "--output"])
        .arg(logs.path().join("log"))
        .arg(chroot.get_program())
        .args(chroot.get_args())
        .args(&command[1..])
        .env_clear()
        .env("HOME", home)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(fs::File::open(machine.root.join("tmp/paths")).unwrap())
        .stdout(Stdio::null())
        .output()
        .unwrap();
    let top = machine.root.to_str().unwrap();
    let mut trace = Trace::default();
    let mut is_started = false;
    for log in fs::read_dir(logs.path()).unwrap() {
        let log = fs::read(log.unwrap().path()).unwrap();
        let log = String::from_utf8_lossy(&log).replace(top, "");
        let own = format!("execve(\"{program}\"");
        let is_own = |line: &&str| line.starts_with(&own) && line.ends_with(" = 0");
        let skipped = log
            .lines()
            .position(|line| is_own(&line))
            .map_or(0, |at| at + 1);
        is_started |= skipped > 0;
        for line in log.lines().skip(skipped) {
            if line.starts_with("execve(") && line.ends_with(" = 0") {
                trace.started.push(line.to_owned());
                break; // What it does is its own affair.
            }
            trace.add(line);
        }
    }
    assert!(is_started, "{command:?} was not started: {output:?}");
    trace
}

impl Trace {
    fn add(&mut self, line: &str) {
        let Some((call, arguments)) = line.split_once('(') else {
            return;
        };
        let Some((arguments, result)) = arguments.rsplit_once(" = ") else {
            return;
        };
        match call {
            "socket" | "connect" | "bind" | "sendto" => self.network.push(line.to_owned()),
            _ if result.starts_with('-') || result.starts_with('?') => {}
            "open" | "openat" | "openat2" | "creat" => {
                let path = between(result, "<", ">").unwrap_or(result).to_owned();
                let is_write = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "creat"];
                if is_write.iter().any(|flag| line.contains(flag)) {
                    self.changed.insert(path);
                } else if !arguments.contains("O_PATH") {
                    self.read.insert(path);
                }
            }
            "mkdir" | "mkdirat" | "rmdir" | "unlink" | "unlinkat" | "rename" | "renameat"
            | "renameat2" | "link" | "linkat" | "symlink" | "symlinkat" | "mknod" | "mknodat"
            | "chmod" | "fchmod" | "fchmodat" | "fchmodat2" | "chown" | "lchown" | "fchown"
            | "fchownat" | "utimensat" | "truncate" | "ftruncate" | "fallocate" | "setxattr"
            | "fsetxattr" | "lsetxattr" => self.changed.extend(paths(arguments)),
            "stat" | "lstat" | "fstat" | "newfstatat" | "statx" => {
                self.read.extend(paths(arguments).into_iter().take(1));
            }
            _ => {}
        }
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?
        .1
        .split_once(end)
        .map(|(found, _)| found)
}

/// The paths in a call's arguments: `6</a>, "b"` is /a/b, `6</a>` alone is /a.
fn paths(arguments: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut directory: Option<String> = None;
    for argument in arguments.split(", ") {
        if let Some(path) = between(argument, "<", ">") {
            found.extend(directory.replace(path.to_owned()));
        } else if let Some(name) = between(argument, "\"", "\"") {
            let directory = directory.take().unwrap_or_default();
            found.push(match name {
                "" => directory,
                name => Path::new(&directory)
                    .join(name)
                    .to_str()
                    .unwrap()
                    .to_owned(),
            });
        }
    }
    found.extend(directory);
    found
}

/// A traced run: the program and its starter, as in the page's table; the preparation; and the
/// command.
type Case = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const BY_ROOT: &str = "root";
const BY_USER: &str = "a user";

/// Something in each of libvirt's caches that is none of its files, and so stale.
const CACHED: &str = "for d in /var/cache/libvirt/qemu /root/.cache/libvirt/qemu/cache /home/nobody/.cache/libvirt/qemu/cache; do
    mkdir -p $d/capabilities; echo '<qemuCaps/>' > $d/capabilities/a.xml
done; chown -R 65534:65534 /home/nobody";

const WITNESS: &str = "modstamp observe > /tmp/witness";
const GONE: &str = "mv /usr/lib/x86_64-linux-gnu/qemu /usr/lib/away";
const READ_ONLY: &str = "mount --bind /usr /usr; mount -o remount,bind,ro /usr";

const CASES: &[Case] = &[
    ("modstamp observe", BY_ROOT, &[], &["modstamp", "observe"]),
    ("modstamp observe", BY_USER, &[], &["modstamp", "observe"]),
    (
        "modstamp check",
        BY_USER,
        &[WITNESS],
        &["modstamp", "check", "/tmp/witness"],
    ),
    (
        "modstamp status",
        BY_ROOT,
        &["modstamp run --profile qemu -- true"],
        &["modstamp", "status"],
    ),
    (
        "modstamp status",
        BY_USER,
        &[],
        &["modstamp", "status", "--json"],
    ),
    ("modstamp doctor", BY_ROOT, &[], &["modstamp", "doctor"]),
    (
        "modstamp libvirt status",
        BY_ROOT,
        &[CACHED],
        &["modstamp", "libvirt", "status"],
    ),
    ("modstamp touch", BY_ROOT, &[], &["modstamp", "touch"]),
    (
        "modstamp touch",
        BY_ROOT,
        &["modstamp touch"],
        &["modstamp", "touch"],
    ),
    ("modstamp touch", BY_USER, &[], &["modstamp", "touch"]),
    (
        "modstamp trigger",
        BY_ROOT,
        &[],
        &["modstamp", "trigger", "dpkg", MODULES],
    ),
    (
        "modstamp trigger",
        BY_ROOT,
        &[],
        &["modstamp", "trigger", "rpm"],
    ),
    (
        "rpm-transaction",
        BY_ROOT,
        &[],
        &[RPM_TRANSACTION, "/tmp/body"],
    ),
    ("rpm-trigger", BY_ROOT, &[], &[RPM_TRIGGER, "/tmp/body"]),
    (
        "rpm-trigger",
        BY_ROOT,
        &["modstamp touch"],
        &[RPM_TRIGGER, "/tmp/body"],
    ),
    ("modstamp update", BY_ROOT, &[], &["modstamp", "update"]),
    ("modstamp update", BY_ROOT, &[GONE], &["modstamp", "update"]),
    (
        "modstamp update",
        BY_ROOT,
        &[CACHED, READ_ONLY],
        &["modstamp", "update"],
    ),
    ("modstamp update", BY_USER, &[], &["modstamp", "update"]),
    (
        "modstamp update",
        BY_USER,
        &[CACHED, READ_ONLY, "modstamp update"],
        &["modstamp", "update"],
    ),
    (
        "modstamp run",
        BY_USER,
        &[],
        &[
            "modstamp",
            "run",
            "--profile",
            "qemu",
            "--",
            "cat",
            "/etc/passwd",
        ],
    ),
    (
        "modstamp run",
        BY_ROOT,
        &["modstamp run --profile qemu -- true"],
        &["modstamp", "run", "--profile", "qemu", "--", "true"],
    ),
    (
        "modstamp libvirt refresh",
        BY_ROOT,
        &[CACHED],
        &["modstamp", "libvirt", "refresh"],
    ),
    (
        "modstamp refresh",
        BY_ROOT,
        &[CACHED],
        &["modstamp", "refresh"],
    ),
    (
        "modstamp libvirt refresh",
        BY_ROOT,
        &[GONE],
        &["modstamp", "libvirt", "refresh"],
    ),
    (
        "modstamp libvirt refresh",
        BY_ROOT,
        &[CACHED, READ_ONLY],
        &["modstamp", "libvirt", "refresh"],
    ),
    (
        "modstamp libvirt evict",
        BY_ROOT,
        &[CACHED],
        &["modstamp", "libvirt", "evict"],
    ),
    (
        "modstamp libvirt evict",
        BY_USER,
        &[CACHED],
        &["modstamp", "libvirt", "evict"],
    ),
];

fn each_program_changes_what_the_page_says_and_nothing_else() {
    let rows = rows(["program", "started by", "changes"]);
    let mut used = BTreeSet::new();
    let mut wrong = String::new();
    for (program, who, before, command) in CASES {
        let is_row =
            |row: &&[&str; 3]| quoted(row[0]).any(|name| name == *program) && row[1].contains(who);
        let row = rows
            .iter()
            .find(is_row)
            .unwrap_or_else(|| panic!("no row for {program} by {who}"));
        let machine = machine();
        for script in *before {
            machine.sh(script);
        }
        let (options, home): (&[&str], &str) = match *who {
            BY_ROOT => (&[], "/root"),
            _ => (&["--userspec=65534:65534", "--groups="], "/home/nobody"),
        };
        let trace = trace(&machine, options, home, command);
        let mut matches = |path: &String| {
            let matching = patterns(row[2]).filter(|pattern| is_match(pattern, home, path));
            let matching: Vec<&str> = matching.collect();
            used.extend(matching.iter().map(|pattern| (row[0], row[1], *pattern)));
            !matching.is_empty()
        };
        for path in trace.changed.iter().filter(|path| !matches(path)) {
            wrong += &format!("{command:?} by {who} changes {path}\n");
        }
        for call in &trace.network {
            wrong += &format!("{command:?} by {who} uses the network: {call}\n");
        }
        let may_start = usize::from(*program == "modstamp run");
        if trace.started.len() > may_start {
            wrong += &format!("{command:?} by {who} starts {:?}\n", trace.started);
        }
    }
    for row in &rows {
        let is_idle = |pattern: &&str| !used.contains(&(row[0], row[1], *pattern));
        for pattern in patterns(row[2]).filter(is_idle) {
            wrong += &format!("{} by {} does not change {pattern}\n", row[0], row[1]);
        }
    }
    assert!(wrong.is_empty(), "docs/security.md is wrong:\n{wrong}");
}

/// Whether a path is one that the page writes so: PROFILE, MODULES and PROGRAMS are those of
/// QEMU's.
fn is_match(pattern: &str, home: &str, path: &str) -> bool {
    let pattern = pattern
        .replace("PROFILE", "qemu")
        .replace("MODULES", "/usr/lib/*-linux-*/qemu")
        .replace("PROGRAMS", "/usr/bin/qemu-system-*");
    let pattern = match pattern.strip_prefix('~') {
        Some(rest) => format!("{home}{rest}"),
        None => pattern,
    };
    let options = glob::MatchOptions {
        require_literal_separator: true,
        ..glob::MatchOptions::new()
    };
    glob::Pattern::new(&pattern)
        .unwrap()
        .matches_with(path, options)
}

fn another_users_home_gives_root_neither_profiles_nor_answers() {
    let machine = machine();
    machine.sh(
        "setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/home/nobody sh -ec '
            mkdir -p ~/.config/modstamp/profiles.d
            echo \"module-directories = [\\\"/etc\\\"]\" > ~/.config/modstamp/profiles.d/qemu.toml
            modstamp run --profile qemu -- true
            modstamp observe | grep -q /etc'",
    );
    let by_root = |command: &str| machine.sh(&format!("HOME=/home/nobody {command} 2>&1"));
    let witness = by_root("modstamp observe");
    assert!(
        witness.contains(MODULES) && !witness.contains("/etc"),
        "{witness}"
    );
    let said = by_root("modstamp run --profile qemu -- echo asked");
    assert!(
        said.contains("asked") && said.contains("belongs to user 65534"),
        "{said}"
    );
}

/// A path's SELinux type by Debian's policy, for a file or a directory.
fn label(machine: &Machine, kind: &str, path: &str) -> String {
    let label = machine.sh(&format!("matchpathcon -n -m {kind} -f {CONTEXTS} {path}"));
    label
        .trim()
        .split(':')
        .nth(2)
        .unwrap_or(label.trim())
        .to_owned()
}

fn paths_have_the_labels_that_the_page_says() {
    let machine = machine();
    let mut wrong = String::new();
    for [path, expected] in rows(["path", "label"]) {
        for path in quoted(path) {
            let example = path.replace("PROFILE", "qemu").replace('~', "/home/me");
            let found = label(&machine, "file", &example);
            if quoted(expected).next() != Some(&*found) {
                wrong += &format!("{path} is {found}\n");
            }
        }
    }
    assert!(wrong.is_empty(), "docs/security.md is wrong:\n{wrong}");
}

/// All that a consumer reads for an observation and a check, but for what every program does.
fn read_by_a_consumer(machine: &Machine) -> BTreeSet<String> {
    machine.sh("modstamp touch; modstamp observe > /tmp/witness");
    let observe = trace(machine, &[], "/root", &["modstamp", "observe"]);
    let check = trace(
        machine,
        &[],
        "/root",
        &["modstamp", "check", "/tmp/witness"],
    );
    let is_any_programs = |path: &str| {
        path.contains(".so") && !path.contains("/qemu/")
            || path.starts_with("/tmp/")
            || path.starts_with("/dev/")
            || path.ends_with("/maps")
            || !path.starts_with('/')
    };
    let read = observe.read.into_iter().chain(check.read);
    let read: BTreeSet<String> = read.filter(|path| !is_any_programs(path)).collect();
    assert!(read.contains("/var/lib/modstamp/qemu.stamp"), "{read:?}");
    assert!(read.contains(MODULES), "{read:?}");
    read
}

fn a_confined_libvirtd_may_check_by_the_rules_that_the_page_gives_and_not_without() {
    let machine = machine();
    let mut wanted: BTreeMap<(String, &str), &[&str]> = BTreeMap::new();
    for path in read_by_a_consumer(&machine) {
        if path.starts_with("/proc/") {
            continue; // Labelled by the kernel's name for it, and not by its path.
        }
        let stat = fs::symlink_metadata(machine.root.join(&path[1..])).unwrap();
        let (kind, class, permissions): (_, _, &[&str]) = match stat.is_dir() {
            true => ("dir", "dir", &["getattr", "open", "read", "search"]),
            false if stat.is_symlink() => ("symlink", "lnk_file", &["getattr", "read"]),
            false if path.ends_with(".stamp") => ("file", "file", &["getattr"]),
            false => ("file", "file", &["getattr", "open", "read"]),
        };
        wanted.insert((label(&machine, kind, &path), class), permissions);
    }
    wanted.insert(("sysctl_kernel_t".to_owned(), "file"), &["open", "read"]);
    let denied = || -> Vec<String> {
        let mut denied = Vec::new();
        for ((kind, class), permissions) in &wanted {
            let query = format!("sesearch -A -s virtd_t -t {kind} -c {class} {POLICY}");
            let rules = machine.sh(&query);
            // What depends on a boolean ends with its name.
            let rules = rules.lines().filter_map(|rule| rule.strip_suffix(';'));
            let allowed: BTreeSet<&str> = rules.flat_map(str::split_whitespace).collect();
            let missing = permissions
                .iter()
                .filter(|permission| !allowed.contains(*permission));
            denied.extend(missing.map(|permission| format!("{kind} {class} {permission}")));
        }
        denied
    };
    let without = [
        "var_lib_t file getattr",
        "virt_bridgehelper_exec_t file getattr",
        "virt_bridgehelper_exec_t file open",
        "virt_bridgehelper_exec_t file read",
    ];
    assert_eq!(denied(), without, "of {wanted:?}");
    fs::write(machine.root.join("tmp/modstamp.cil"), block("lisp")).unwrap();
    machine.sh("semodule -n -s default -i /tmp/modstamp.cil");
    assert_eq!(denied(), [""; 0], "of {wanted:?}");
}

fn the_apparmor_lines_of_the_page_are_right_and_enough_for_a_check() {
    let machine = machine();
    let lines = block("apparmor");
    machine.sh("modstamp touch");
    let local = machine.root.join("etc/apparmor.d/local/usr.sbin.libvirtd");
    fs::write(local, lines).unwrap();
    machine.sh("apparmor_parser --skip-kernel-load --skip-cache /etc/apparmor.d/usr.sbin.libvirtd");

    let rules = lines
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with(['/', '@', 'o']));
    let patterns = rules.map(|rule| {
        let path = rule
            .strip_suffix(" r,")
            .unwrap_or_else(|| panic!("“{rule}” is not for reading"));
        let path = path
            .trim_start_matches("owner ")
            .replace("@{HOME}", "/root")
            .replace("@{PROC}", "/proc");
        path.trim_end_matches('/').to_owned()
    });
    let patterns: Vec<String> = patterns.collect();
    let is_covered = |path: &&String| {
        !patterns
            .iter()
            .any(|pattern| is_match(pattern, "/root", path))
    };
    let denied: Vec<String> = read_by_a_consumer(&machine)
        .iter()
        .filter(is_covered)
        .cloned()
        .collect();
    assert_eq!(denied, [""; 0]);
}
