//! The measurements of `make bench`: each against a named peer, in turns in one run, as a ratio of
//! medians.
//!
//! The triggers touch `/var/lib/modstamp` and move the time of QEMU's module directory. So they run
//! in a mount namespace of their own, with scratch directories of this checkout's disk in those
//! places. That needs root.
//!
//! Arguments pick parts: `cargo bench --bench ratios -- checks` measures the checks alone. `make
//! bench` measures all parts, and then `as-a-dependency` in the Cargo profile of that name.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

mod checks;
mod libvirt;
mod rpm;
mod table;
mod timed;

use support::test::Needs;
use table::{Table, show};
use timed::{Timed, measure};

const ROUNDS: usize = 1000;

fn main() {
    // `cargo test --benches` only tests that this builds and starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        support::enter_own_mount_namespace();
    }
    stay_on_one_processor();
    let scratch = tempfile::tempdir_in("target").unwrap();
    let mut table = Table::default();
    let parts: Vec<String> = std::env::args().skip(1).collect();
    let is_named = |part: &str| parts.iter().any(|named| named == part);
    let is_wanted = |part: &str| parts.len() == 1 || is_named(part);
    // This part builds packages, so it comes before the machine's own files are hidden.
    if !Needs::root_and(&support::deb::PROGRAMS).are_met() {
        println!(
            "skipped, needs root and {:?}: libvirt\n",
            support::deb::PROGRAMS
        );
    } else if is_wanted("libvirt") {
        libvirt::libvirt(&mut table);
    }
    let rpm = Needs::root_and(&["cc", "mmdebstrap", "mount", "rpmbuild"]);
    if is_wanted("rpm") && rpm.are_met() {
        rpm::transactions(&mut table, scratch.path());
    } else if !rpm.are_met() {
        println!("skipped, needs root, mmdebstrap and rpmbuild: rpm's transactions\n");
    }
    if is_root {
        stand_in_for(scratch.path(), Path::new("/var/lib"), "lib");
        if let Some(modules) = checks::qemu_modules() {
            let copy = scratch.path().join("modules");
            support::run(Command::new("cp").arg("-a").arg(modules).arg(&copy));
            stand_in_for(scratch.path(), modules, "modules");
        }
    }
    if is_wanted("triggers") && is_root {
        triggers(&mut table, scratch.path());
    } else if !is_root {
        println!("skipped, needs root: the triggers' program\n");
    }
    let qemu = Needs::of(&["qemu-system-x86_64"]).are_met();
    if is_wanted("run") && qemu {
        cached(&mut table, scratch.path());
    } else if !qemu {
        println!("skipped, needs qemu-system-x86_64: modstamp run\n");
    }
    if is_wanted("checks") {
        checks::checks(&mut table, scratch.path());
    }
    if is_named("as-a-dependency") {
        checks::as_a_dependency(&mut table, scratch.path());
    }
    if is_wanted("update") && is_root {
        checks::update(&mut table, scratch.path());
    }
    table.print();
}

/// On a shared machine, others may slow down one processor and not the next.
fn stay_on_one_processor() {
    let mut one = rustix::thread::CpuSet::new();
    one.set(rustix::thread::sched_getcpu());
    rustix::thread::sched_setaffinity(None, &one).unwrap();
}

/// Measures something that may use all processors.
fn on_all_processors<T>(measure: impl FnOnce() -> T) -> T {
    let one = rustix::thread::sched_getaffinity(None).unwrap();
    let mut all = rustix::thread::CpuSet::new();
    (0..rustix::thread::CpuSet::MAX_CPU).for_each(|processor| all.set(processor));
    rustix::thread::sched_setaffinity(None, &all).unwrap();
    let measured = measure();
    rustix::thread::sched_setaffinity(None, &one).unwrap();
    measured
}

/// Mounts a directory of the scratch directory over one of the machine's.
fn stand_in_for(scratch: &Path, directory: &Path, name: &str) {
    let stand_in = std::path::absolute(scratch.join(name)).unwrap();
    std::fs::create_dir_all(&stand_in).unwrap();
    let mut bind = Command::new("mount");
    support::run(bind.arg("--bind").args([&*stand_in, directory]));
}

fn triggers(table: &mut Table, scratch: &Path) {
    let body = scratch.join("body");
    let text = "--profile qemu --no-sync /usr/lib64/qemu /usr/lib64/qemu-kvm\n";
    std::fs::write(&body, text).unwrap();
    let paths = scratch.join("paths");
    std::fs::write(&paths, "/usr/lib64/qemu/hw-display-qxl.so\n").unwrap();
    let paths = Some(paths);

    let program = support::program("modstamp-rpm-trigger");
    let arguments = [body.to_str().unwrap(), "1"];
    let trigger = || Timed::new("rpm-trigger", &program, &arguments, &paths);
    // In turns: the first trigger removes the witness that the last transaction's end kept, and
    // each end finds none.
    let (first, ours, again) = (trigger(), trigger(), trigger());
    let refreshing = transaction(scratch, "refreshing", true);
    let touching = transaction(scratch, "touching", false);
    let file = "/var/lib/file";
    let touch = Timed::new("touch FILE", "touch".as_ref(), &[file], &None);
    let script = ["-c", &format!("touch {file}")];
    let shell = Timed::new("sh -c 'touch FILE'", "sh".as_ref(), &script, &None);
    let all = [
        &first,
        &ours,
        &touch,
        &shell,
        &touching,
        &again,
        &refreshing,
    ];
    let times: [Duration; 7] = measure(&all, ROUNDS).try_into().unwrap();
    let is_touched = Path::new("/var/lib/modstamp/qemu.stamp").exists();
    assert!(is_touched, "the trigger did not touch");

    trigger_ratios(table, times);
    sizes(table, &program, &ours);
}

/// The rows of the triggers' times, in the order in which they were measured.
fn trigger_ratios(table: &mut Table, times: [Duration; 7]) {
    let [first, whole, touched, shelled, touching, _, refreshing] = times;
    let refresh = refreshing.saturating_sub(touching);
    for (what, time, peer, theirs, wanted) in [
        (
            "rpm-trigger, whole process",
            whole,
            "touch FILE",
            touched,
            "at most 0.4",
        ),
        (
            "rpm-trigger, the first of a transaction",
            first,
            "touch FILE",
            touched,
            "-",
        ),
        (
            "rpm-trigger, whole process",
            whole,
            "sh -c 'touch FILE'",
            shelled,
            "at most 0.5",
        ),
        (
            "rpm-transaction, without libvirt (why there are two)",
            touching,
            "touch FILE",
            touched,
            "-",
        ),
        (
            "rpm-transaction, with a refresh of libvirt",
            refreshing,
            "touch FILE",
            touched,
            "at most 1.0",
        ),
        (
            "what a refresh of libvirt adds to it",
            refresh,
            "touch FILE",
            touched,
            "at most 0.3",
        ),
    ] {
        table.ratio(what, time, peer, theirs, wanted);
    }
}

/// The size of rpm's program, and its peak memory.
fn sizes(table: &mut Table, program: &Path, ours: &Timed) {
    let size = std::fs::metadata(program).unwrap().len();
    table.row(
        "rpm-trigger, stripped size",
        format!("{size} bytes"),
        "64 KiB",
        format!("{:.2}", size as f64 / 65536.0),
        "at most 1.0",
    );
    match ours.peak() {
        Some(ours) => table.row(
            "rpm-trigger, peak memory",
            format!("{ours} KiB"),
            "512 KiB",
            format!("{:.2}", ours as f64 / 512.0),
            "at most 1.0",
        ),
        None => println!("skipped, needs GNU time: peak memory\n"),
    }
}

/// The command that rpm starts at the end of a transaction.
fn transaction(scratch: &Path, name: &str, refreshes: bool) -> Timed {
    let directory = std::path::absolute(scratch.join(name)).unwrap();
    std::fs::create_dir(&directory).unwrap();
    let (profile, body) = (directory.join("qemu.toml"), directory.join("body"));
    let text = include_str!("../packaging/qemu.toml");
    let refresh = "[[cache]]\nremedy = \"libvirt\"\n";
    assert!(text.contains(refresh), "the profile has another remedy");
    let text = match refreshes {
        true => text.to_owned(),
        false => text.replace(refresh, ""),
    };
    std::fs::write(&profile, text).unwrap();
    let modules = checks::qemu_modules().unwrap_or(Path::new("/usr/lib64/qemu"));
    let (profile, modules) = (profile.display(), modules.display());
    std::fs::write(&body, format!("--profile {profile} --no-sync {modules}\n")).unwrap();
    let program = directory.join("rpm-transaction");
    let modstamp = std::path::absolute(support::release("modstamp")).unwrap();
    std::os::unix::fs::symlink(modstamp, &program).unwrap();
    Timed::new(name, &program, &[body.to_str().unwrap(), "1"], &None)
}

fn cached(table: &mut Table, scratch: &Path) {
    let question = ["qemu-system-x86_64", "-device", "help"];
    let modules = checks::qemu_modules().unwrap_or(Path::new("/usr/lib"));
    let cache = std::path::absolute(scratch.join("cache")).unwrap();
    let cache = cache.to_str().unwrap();
    let program = support::release("modstamp");
    let ours: Vec<&str> = ["run", "--cache", cache, "--"]
        .into_iter()
        .chain(question)
        .collect();
    let ours = Timed::new("modstamp run, a hit", &program, &ours, &None);
    let bkt = std::path::absolute("target/bench/bin/bkt").unwrap();
    let modtime = format!("--modtime={}", modules.display());
    let theirs = ["--cache-dir", cache, "--ttl=1h", &modtime, "--"];
    let theirs: Vec<&str> = theirs.into_iter().chain(question).collect();
    let theirs = Timed::new("bkt --ttl=1h --modtime=DIR, its hit", &bkt, &theirs, &None);
    let qemu = Timed::new(
        "qemu-system-x86_64 -device help",
        question[0].as_ref(),
        &question[1..],
        &None,
    );
    assert!(!qemu.output().is_empty());
    assert_eq!(ours.output(), qemu.output());
    assert_eq!(theirs.output(), qemu.output());
    let qemu = measure(&[&qemu], ROUNDS / 10)[0];
    let witness = scratch.join("checked");
    let observed = support::run(Command::new(&program).arg("observe"));
    std::fs::write(&witness, observed).unwrap();
    let check = ["check", witness.to_str().unwrap()];
    let check = Timed::new("modstamp check", &program, &check, &None);
    let times = measure(&[&ours, &theirs, &check], ROUNDS);
    table.ratio(
        "modstamp run, a hit, all inputs verified",
        times[0],
        &theirs.name,
        times[1],
        "at most 0.6",
    );
    table.row(
        "modstamp run, a hit, all inputs verified",
        show(times[0]),
        &format!("qemu -device help, {}", show(qemu)),
        format!("1/{:.0}", qemu.as_secs_f64() / times[0].as_secs_f64()),
        "at most 1/40",
    );
    let what = "modstamp check of the profile qemu, whole process";
    table.ratio(what, times[2], &theirs.name, times[1], "at most 0.6");
}
