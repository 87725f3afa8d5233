//! Checks and observations: in this process against a bare loop in C, as whole processes against
//! cat(1), and their memory.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use modstamp::{Profile, Witness};
use support::test::Needs;

use crate::on_all_processors;
use crate::table::Table;
use crate::timed::{Timed, measure};

/// The sizes of module directories, and how often each is measured.
const SIZES: [(usize, usize); 3] = [(1_000, 1000), (10_000, 200), (100_000, 30)];

/// A check of a directory with more names than this may use a second processor.
const MANY: usize = 4096;

/// The module directory of this machine's QEMU.
pub fn qemu_modules() -> Option<&'static Path> {
    let candidates = [
        "/usr/lib64/qemu",
        "/usr/lib/x86_64-linux-gnu/qemu",
        "/usr/lib/qemu",
    ];
    let is_there = |path: &&Path| path.join("hw-display-qxl.so").exists();
    candidates.map(Path::new).into_iter().find(is_there)
}

pub fn checks(table: &mut Table, scratch: &Path) {
    let scratch = std::path::absolute(scratch).unwrap();
    let peer = compile_peer(&scratch);
    let many = many_modules(&scratch);
    stamps(table, &peer, &profile(&scratch, &scratch));
    checks_in_process(table, &scratch, &peer, &many, "");
    check_from_c(table, &scratch, &peer);
    match qemu_modules() {
        Some(real) => {
            watch_of_qemu(table, &peer, real);
            observe(table, &scratch, real);
        }
        None => println!("skipped, needs QEMU's modules: observe of them\n"),
    }
    memory(table, &scratch, &many[SIZES.len() - 1]);
    on_all_processors(|| {
        status(table, &scratch, &peer, &many[SIZES.len() - 1]);
        observe_many(table, &scratch);
    });
    image(table, &scratch, &peer);
}

/// The checks alone, in a program that cargo built with its default settings: the Cargo profile
/// `as-a-dependency`.
pub fn as_a_dependency(table: &mut Table, scratch: &Path) {
    let scratch = std::path::absolute(scratch).unwrap();
    let peer = compile_peer(&scratch);
    let many = many_modules(&scratch);
    checks_in_process(table, &scratch, &peer, &many, ", as a dependency");
}

fn checks_in_process(
    table: &mut Table,
    scratch: &Path,
    peer: &Path,
    many: &[PathBuf],
    built: &str,
) {
    match qemu_modules() {
        Some(real) => check(table, peer, &profile(scratch, real), real, 1000, built),
        None => println!("skipped, needs QEMU's modules: check of them\n"),
    }
    for (path, (size, rounds)) in many.iter().zip(SIZES) {
        let profile = profile(scratch, path);
        let mut check = || check(table, peer, &profile, path, rounds, built);
        match size > MANY {
            true => on_all_processors(check),
            false => check(),
        }
    }
}

/// A check of QEMU's modules by the C library. Each call parses the profile and the witness.
fn check_from_c(table: &mut Table, scratch: &Path, peer: &Path) {
    let library = Path::new("target/x86_64-unknown-linux-gnu/ffi/libmodstamp.a");
    let Some(real) = qemu_modules().filter(|_| library.exists()) else {
        return println!("skipped, needs `make library` and QEMU's modules: a check from C\n");
    };
    let (program, witness) = (scratch.join("check"), scratch.join("witness"));
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-Iinclude", "-o"]).arg(&program);
    support::run(cc.arg("benches/check.c").arg(library).arg("-lgcc_s"));
    let profile = profile(scratch, real);
    std::fs::write(&witness, profile.observe().unwrap().to_string()).unwrap();
    let mut ours = Peer::start_with(&program, &scratch.join("qemu.toml"), &[witness]);
    let mut peer = Peer::start(peer, real, &profile);
    let count = std::fs::read_dir(real).unwrap().count();
    let ours = |looks| ours.time(looks);
    let (ours, theirs) = timed_by_turns(ours, &mut peer, 1000, 1000 / count);
    let what = format!("check from C, {count} modules");
    table.ratio(&what, ours, "a bare loop in C", theirs, "at most 1.05");
}

fn compile_peer(scratch: &Path) -> PathBuf {
    let peer = scratch.join("peer");
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-o"]).arg(&peer).arg("benches/peer.c");
    support::run(&mut cc);
    peer
}

/// A directory for each of the [`SIZES`].
fn many_modules(scratch: &Path) -> Vec<PathBuf> {
    let many = SIZES.map(|(size, _)| modules(scratch, size));
    // Right after a change, a check looks more closely.
    std::thread::sleep(Duration::from_secs(5));
    many.into()
}

/// A directory of `size` modules of a few bytes.
fn modules(scratch: &Path, size: usize) -> PathBuf {
    let directory = scratch.join(size.to_string());
    std::fs::create_dir(&directory).unwrap();
    for number in 0..size {
        let name = format!("hw-display-virtio-{number:06}.so");
        std::fs::write(directory.join(name), number.to_string()).unwrap();
    }
    directory
}

/// A profile of one module directory, with the stamps of the real one.
fn profile(scratch: &Path, directory: &Path) -> Profile {
    let file = scratch.join("qemu.toml");
    let text = format!("module-directories = [\"{}\"]\n", directory.display());
    std::fs::write(&file, text).unwrap();
    Profile::load(file.to_str().unwrap()).unwrap()
}

/// A witness that was stored and read back.
fn stored(profile: &Profile) -> Witness {
    profile.observe().unwrap().to_string().parse().unwrap()
}

fn check(
    table: &mut Table,
    peer: &Path,
    profile: &Profile,
    directory: &Path,
    rounds: usize,
    built: &str,
) {
    let witness = stored(profile);
    let mut peer = Peer::start(peer, directory, profile);
    let ours = || assert!(witness.check(profile).unwrap().is_fresh());
    let count = std::fs::read_dir(directory).unwrap().count();
    let (ours, theirs) = by_turns(ours, &mut peer, rounds, (1000 / count).max(1));
    let what = format!("check in process, {count} modules{built}");
    let wanted = match count >= 100_000 {
        true => "at most 0.7",
        false => "at most 1.05",
    };
    table.ratio(&what, ours, "a bare loop in C", theirs, wanted);
    let watch = RefCell::new(profile.watch().unwrap());
    let ours = || assert!(watch.borrow_mut().check(&witness).unwrap().is_fresh());
    let (ours, theirs) = by_turns(ours, &mut peer, rounds.min(200), (1000 / count).max(1));
    let what = match watch.borrow().limit() {
        None => format!("check by a watch, nothing happened, {count} modules{built}"),
        Some(limit) => format!("check by a watch, {count} modules{built} ({limit})"),
    };
    table.ratio(&what, ours, "a bare loop in C", theirs, "at most 0.02");
}

/// A check by a watch of the built-in profile. Each check reads its host inputs in /proc and /sys.
fn watch_of_qemu(table: &mut Table, peer: &Path, modules: &Path) {
    let profile = Profile::load("qemu").unwrap();
    let witness = stored(&profile);
    let watch = RefCell::new(profile.watch().unwrap());
    let ours = || assert!(watch.borrow_mut().check(&witness).unwrap().is_fresh());
    let mut peer = Peer::start(peer, modules, &profile);
    let (ours, theirs) = by_turns(ours, &mut peer, 200, 30);
    let what = "check by a watch, the profile qemu";
    let what = match watch.borrow().limit() {
        None => what.to_owned(),
        Some(limit) => format!("{what} ({limit})"),
    };
    table.ratio(&what, ours, "a bare loop in C", theirs, "at most 0.5");
}

fn stamps(table: &mut Table, peer: &Path, profile: &Profile) {
    let stamp = &profile.stamps()[0];
    let recorded = stamp.mtime().unwrap();
    let one = || assert!(std::hint::black_box(stamp).mtime().unwrap() == recorded);
    let mut stat = Peer::start_with(peer, Path::new("-"), &[stamp.path()]);
    let (ours, theirs) = by_turns(one, &mut stat, 1000, 1000);
    let what = "one stamp's mtime against the recorded";
    table.ratio(what, ours, "stat(2)", theirs, "at most 1.2");

    let witness = stored(profile);
    let all = || assert!(witness.check_stamps(profile).is_fresh());
    let mut stat = Peer::start(peer, Path::new("-"), profile);
    let (ours, theirs) = by_turns(all, &mut stat, 1000, 1000);
    let what = "check of the stamps alone";
    let peer = format!("{} stat(2)", profile.stamps().len());
    table.ratio(what, ours, &peer, theirs, "at most 1.2");
}

/// Update and check of the real profile with its programs, as whole processes.
pub fn update(table: &mut Table, scratch: &Path) {
    let program = support::release("modstamp");
    let witness = scratch.join("update-witness");
    let run = |arguments: &[&str]| support::run(Command::new(&program).args(arguments));
    // The first update moves times. The second one records them when they have settled.
    run(&["update"]);
    std::thread::sleep(Duration::from_secs(5));
    run(&["update"]);
    std::fs::write(&witness, run(&["observe"])).unwrap();
    assert_eq!(run(&["update"]), "nothing changed since the last touch\n");
    let check = ["check", witness.to_str().unwrap()];
    let check = Timed::new("check", &program, &check, &None);
    let update = Timed::new("update", &program, &["update"], &None);
    // What the drop-in of libvirt's daemon runs.
    let timeout = |name, rest: &[&str]| {
        let arguments = [&["--signal=KILL", "10"], rest].concat();
        Timed::new(name, "timeout".as_ref(), &arguments, &None)
    };
    let drop_in = [program.to_str().unwrap(), "update", "--profile", "qemu"];
    let drop_in = timeout("the drop-in", &drop_in);
    let nothing = timeout("timeout 10 true", &["true"]);
    let times = measure(&[&update, &check, &drop_in, &nothing], 1000);
    let what = "modstamp update, nothing changed";
    table.ratio(what, times[0], "modstamp check", times[1], "at most 1.5");
    let what = "the look before libvirt's daemon starts, nothing changed";
    table.ratio(what, times[2], &nothing.name, times[3], "-");
}

fn observe(table: &mut Table, scratch: &Path, directory: &Path) {
    let file = scratch.join("qemu.toml");
    let file = file.to_str().unwrap();
    let witness = scratch.join("witness");
    std::fs::write(
        &witness,
        profile(scratch, directory).observe().unwrap().to_string(),
    )
    .unwrap();
    let program = support::release("modstamp");
    let first = Timed::new("observe", &program, &["observe", "--profile", file], &None);
    let again = [
        "observe",
        "--profile",
        file,
        "--trust",
        witness.to_str().unwrap(),
    ];
    let again = Timed::new("observe --trust", &program, &again, &None);
    let files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let bytes: u64 = files
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .sum();
    let files: Vec<&str> = files.iter().map(|path| path.to_str().unwrap()).collect();
    let cat = Timed::new("cat", "cat".as_ref(), &files, &None);
    let times = measure(&[&first, &again, &cat], 1000);
    let what = format!("observe, {} modules, {bytes} bytes", files.len());
    table.ratio(&what, times[0], "cat of them", times[2], "at most 1.5");
    table.ratio(
        "the same with --trust",
        times[1],
        "cat of them",
        times[2],
        "-",
    );
}

/// Large files, by all processors. Both are whole processes.
fn observe_many(table: &mut Table, scratch: &Path) {
    if !Needs::of(&["b3sum"]).are_met() {
        return println!("skipped, needs b3sum: observe of large files\n");
    }
    let directory = scratch.join("large");
    std::fs::create_dir(&directory).unwrap();
    let (count, size) = (3_000, 137 << 10);
    let names = (0..count).map(|number| directory.join(format!("{number:04}.ttf")));
    let names: Vec<PathBuf> = names.collect();
    for (number, name) in names.iter().enumerate() {
        std::fs::write(name, (number as u32).to_le_bytes().repeat(size / 4)).unwrap();
    }
    let file = scratch.join("qemu.toml");
    profile(scratch, &directory);
    let file = file.to_str().unwrap();
    let program = support::release("modstamp");
    let observe = Timed::new("observe", &program, &["observe", "--profile", file], &None);
    let names: Vec<&str> = names.iter().map(|name| name.to_str().unwrap()).collect();
    // b3sum takes longer with several threads, because they share each file.
    let names = [&["--num-threads", "1"], &names[..]].concat();
    let b3sum = Timed::new("b3sum", "b3sum".as_ref(), &names, &None);
    let times = measure(&[&observe, &b3sum], 20);
    let what = format!("observe, {} MB in {count} files", count * size / 1_000_000);
    table.ratio(&what, times[0], "b3sum of them", times[1], "at most 0.6");
}

/// A check of QEMU's modules on an image, which nobody can write.
fn image(table: &mut Table, scratch: &Path, peer: &Path) {
    let needs = Needs::root_and(&["mkfs.erofs", "mount", "umount"]);
    let Some(real) = qemu_modules().filter(|_| needs.are_met()) else {
        return println!("skipped, needs root, mkfs.erofs and QEMU's modules: an image\n");
    };
    let (image, at) = (scratch.join("image"), scratch.join("mounted"));
    std::fs::create_dir(&at).unwrap();
    support::run(Command::new("mkfs.erofs").args([&image, &real.to_owned()]));
    support::run(
        Command::new("mount")
            .args(["-o", "loop,ro"])
            .args([&image, &at]),
    );
    let profile = profile(scratch, &at);
    let witness = stored(&profile);
    let ours = || assert!(witness.check(&profile).unwrap().is_fresh());
    let mut peer = Peer::start(peer, &at, &profile);
    let count = std::fs::read_dir(&at).unwrap().count();
    let (ours, theirs) = by_turns(ours, &mut peer, 1000, 1000 / count);
    let what = format!("check on an image, {count} modules");
    table.ratio(&what, ours, "a bare loop in C", theirs, "at most 0.15");
    support::run(Command::new("umount").arg(&at));
}

/// `modstamp status` of 100,000 modules in another root directory, before and after a touch.
fn status(table: &mut Table, scratch: &Path, peer: &Path, modules: &Path) {
    let root = scratch.join("root");
    let directory = root.join("usr/lib64/qemu");
    std::fs::create_dir_all(directory.parent().unwrap()).unwrap();
    std::fs::rename(modules, &directory).unwrap();
    let program = support::release("modstamp");
    let root = root.to_str().unwrap();
    let status = Timed::new("status", &program, &["status", "--root", root], &None);
    let mut peer = Peer::start_with(peer, &directory, &[Path::new("/").to_owned()]);
    for when in ["never touched", "touched"] {
        let (ours, theirs) = by_turns(|| drop(status.output()), &mut peer, 20, 1);
        let what = format!("status, 100,000 modules, {when}, whole process");
        table.ratio(&what, ours, "a bare loop in C", theirs, "at most 2.0");
        peak(table, &format!("status, {when},"), &status, 30);
        support::run(Command::new(&program).args(["update", "--root", root]));
    }
}

fn memory(table: &mut Table, scratch: &Path, directory: &Path) {
    let file = scratch.join("qemu.toml");
    let file = file.to_str().unwrap();
    let witness = scratch.join("witness");
    let text = profile(scratch, directory).observe().unwrap().to_string();
    let entry = text.len() / text.lines().count();
    std::fs::write(&witness, text).unwrap();
    table.row(
        "a witness's size for an entry",
        format!("{entry} bytes"),
        "120 bytes",
        format!("{:.2}", entry as f64 / 120.0),
        "at most 1.0",
    );
    let program = support::release("modstamp");
    let witness = witness.to_str().unwrap();
    let check = ["check", "--profile", file, witness];
    for arguments in [&["observe", "--profile", file][..], &check] {
        let command = Timed::new("", &program, arguments, &None);
        peak(table, arguments[0], &command, 40);
    }
}

/// The peak memory of a command on 100,000 modules, against so many MiB.
fn peak(table: &mut Table, verb: &str, command: &Timed, mebibytes: u64) {
    let Some(peak) = command.peak() else {
        return println!("skipped, needs GNU time: peak memory of {verb}\n");
    };
    table.row(
        &format!("{verb} of 100,000 modules, peak memory"),
        format!("{peak} KiB"),
        &format!("{mebibytes} MiB"),
        format!("{:.2}", peak as f64 / (mebibytes * 1024) as f64),
        "at most 1.0",
    );
}

/// The program in C, which measures its own time.
struct Peer(Child, BufReader<std::process::ChildStdout>);

impl Peer {
    fn start(program: &Path, directory: &Path, profile: &Profile) -> Peer {
        let stamps: Vec<PathBuf> = profile.stamps().iter().map(|stamp| stamp.path()).collect();
        Peer::start_with(program, directory, &stamps)
    }

    fn start_with(program: &Path, directory: &Path, stamps: &[PathBuf]) -> Peer {
        let mut command = Command::new(program);
        command.arg(directory).args(stamps);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Peer(child, answers)
    }

    fn time(&mut self, times: usize) -> Duration {
        writeln!(self.0.stdin.as_mut().unwrap(), "{times}").unwrap();
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        Duration::from_nanos(line.trim().parse().unwrap())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The median times of our look and the peer's. They take turns, of so many looks each.
fn by_turns(ours: impl Fn(), peer: &mut Peer, turns: usize, looks: usize) -> (Duration, Duration) {
    let ours = |looks| {
        let start = Instant::now();
        (0..looks).for_each(|_| ours());
        start.elapsed()
    };
    timed_by_turns(ours, peer, turns, looks)
}

/// Like [`by_turns`], but `ours` makes so many looks and returns their time.
fn timed_by_turns(
    mut ours: impl FnMut(usize) -> Duration,
    peer: &mut Peer,
    turns: usize,
    looks: usize,
) -> (Duration, Duration) {
    let mut times = (Vec::new(), Vec::new());
    for turn in 0..turns + turns / 10 {
        let (own, theirs) = (ours(looks), peer.time(looks));
        if turn >= turns / 10 {
            times.0.push(own);
            times.1.push(theirs);
        }
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2] / looks as u32
    };
    (median(times.0), median(times.1))
}
