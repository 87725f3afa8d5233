//! What `make bench` prints: whole processes, each against a named peer, by turns in one run, as a ratio of medians.
//!
//! The triggers' program touches the real `/var/lib/modstamp`, so it is measured in a mount namespace of its own with a scratch
//! directory, on this checkout's disk, in the place of `/var/lib`. That needs root.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[path = "../tests/support/mod.rs"]
mod support;

const ROUNDS: usize = 1000;

fn main() {
    // `cargo test --benches` only wants to know that this builds and starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        support::enter_own_mount_namespace();
    }
    let scratch = tempfile::tempdir_in("target").unwrap();
    let mut table = Table::default();
    if is_root {
        triggers(&mut table, scratch.path());
    } else {
        println!("skipped, needs root: the triggers' program\n");
    }
    if support::missing(&["qemu-system-x86_64"]).is_none_or(|missing| missing == "root") {
        cached(&mut table, scratch.path());
    } else {
        println!("skipped, needs qemu-system-x86_64: modstamp run\n");
    }
    table.print();
}

fn triggers(table: &mut Table, scratch: &Path) {
    let lib = std::path::absolute(scratch.join("lib")).unwrap();
    std::fs::create_dir(&lib).unwrap();
    support::run(
        Command::new("mount")
            .arg("--bind")
            .arg(&lib)
            .arg("/var/lib"),
    );
    let body = scratch.join("body");
    std::fs::write(
        &body,
        "--profile qemu --no-sync /usr/lib64/qemu /usr/lib64/qemu-kvm\n",
    )
    .unwrap();
    let paths = scratch.join("paths");
    std::fs::write(&paths, "/usr/lib64/qemu/hw-display-qxl.so\n").unwrap();
    let paths = Some(paths);

    let program = support::release().join("modstamp-rpm-trigger");
    let ours = Timed::new(
        "rpm-trigger",
        &program,
        &[body.to_str().unwrap(), "1"],
        &paths,
    );
    let full = support::release().join("modstamp");
    let full = Timed::new(
        "modstamp trigger rpm",
        &full,
        &["trigger", "rpm", "--no-sync"],
        &paths,
    );
    let file = "/var/lib/file";
    let touch = Timed::new("touch FILE", "touch".as_ref(), &[file], &None);
    let shell = Timed::new(
        "sh -c 'touch FILE'",
        "sh".as_ref(),
        &["-c", &format!("touch {file}")],
        &None,
    );
    let times = measure(&[&ours, &full, &touch, &shell], ROUNDS);
    assert!(
        Path::new("/var/lib/modstamp/qemu.stamp").exists(),
        "the trigger did not touch"
    );
    table.ratio(
        "rpm-trigger, whole process",
        times[0],
        "touch FILE",
        times[2],
        "at most 0.8",
    );
    table.ratio(
        "rpm-trigger, whole process",
        times[0],
        "sh -c 'touch FILE'",
        times[3],
        "at most 0.5",
    );
    table.ratio(
        "modstamp trigger rpm (why there are two)",
        times[1],
        "touch FILE",
        times[2],
        "-",
    );

    let size = std::fs::metadata(&program).unwrap().len();
    table.row(
        "rpm-trigger, stripped size",
        format!("{size} bytes"),
        "1 MiB",
        format!("{:.2}", size as f64 / 1048576.0),
        "at most 1.0",
    );
    match (ours.peak(), touch.peak()) {
        (Some(ours), Some(touch)) => table.row(
            "rpm-trigger, peak memory",
            format!("{ours} KiB"),
            "touch FILE + 1 MiB",
            format!("{:.2}", ours as f64 / (touch + 1024) as f64),
            "at most 1.0",
        ),
        _ => println!("skipped, needs GNU time: peak memory\n"),
    }
}

fn cached(table: &mut Table, scratch: &Path) {
    let question = ["qemu-system-x86_64", "-device", "help"];
    let modules = [
        "/usr/lib64/qemu",
        "/usr/lib/qemu",
        "/usr/lib/x86_64-linux-gnu/qemu",
    ];
    let modules = modules
        .iter()
        .rfind(|path| Path::new(path).exists())
        .unwrap_or(&"/usr/lib");
    let cache = std::path::absolute(scratch.join("cache")).unwrap();
    let cache = cache.to_str().unwrap();
    let program = support::release().join("modstamp");
    let ours: Vec<&str> = ["run", "--cache", cache, "--"]
        .into_iter()
        .chain(question)
        .collect();
    let ours = Timed::new("modstamp run, a hit", &program, &ours, &None);
    let bkt = std::path::absolute("target/bench/bin/bkt").unwrap();
    let modtime = format!("--modtime={modules}");
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
    let times = measure(&[&ours, &theirs], ROUNDS);
    table.ratio(
        "modstamp run, a hit, all inputs verified",
        times[0],
        &theirs.name,
        times[1],
        "at most 0.8",
    );
    table.row(
        "modstamp run, a hit, all inputs verified",
        milliseconds(times[0]),
        &format!("qemu -device help, {}", milliseconds(qemu)),
        format!("1/{:.0}", qemu.as_secs_f64() / times[0].as_secs_f64()),
        "at most 1/25",
    );
}

/// A command that is started and waited for.
struct Timed {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    input: Option<PathBuf>,
}

impl Timed {
    fn new(name: &str, program: &Path, arguments: &[&str], input: &Option<PathBuf>) -> Timed {
        Timed {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments: arguments
                .iter()
                .map(|argument| argument.to_string())
                .collect(),
            input: input.clone(),
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.stdin(match &self.input {
            Some(path) => Stdio::from(std::fs::File::open(path).unwrap()),
            None => Stdio::null(),
        });
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn time(&self) -> Duration {
        let mut command = self.command(&self.program);
        command.args(&self.arguments);
        let start = Instant::now();
        let status = command.status().unwrap();
        let time = start.elapsed();
        assert!(status.success(), "{}: {status}", self.name);
        time
    }

    fn output(&self) -> Vec<u8> {
        let mut command = self.command(&self.program);
        command
            .args(&self.arguments)
            .stdout(Stdio::piped())
            .output()
            .unwrap()
            .stdout
    }

    /// The peak of its resident memory in KiB, as GNU time tells it.
    fn peak(&self) -> Option<u64> {
        let mut command = self.command("/usr/bin/time".as_ref());
        command
            .args(["-f", "%M"])
            .arg(&self.program)
            .args(&self.arguments);
        let output = command.stderr(Stdio::piped()).output().ok()?;
        String::from_utf8(output.stderr).ok()?.trim().parse().ok()
    }
}

/// The median time of each, all of them by turns, so that what else the machine does falls on all.
fn measure(commands: &[&Timed], rounds: usize) -> Vec<Duration> {
    let mut times = vec![Vec::with_capacity(rounds); commands.len()];
    for round in 0..rounds + 20 {
        for (command, times) in commands.iter().zip(&mut times) {
            let time = command.time();
            if round >= 20 {
                times.push(time);
            }
        }
    }
    times.iter_mut().for_each(|times| times.sort());
    times.iter().map(|times| times[times.len() / 2]).collect()
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

#[derive(Default)]
struct Table(Vec<[String; 5]>);

impl Table {
    fn ratio(&mut self, what: &str, time: Duration, peer: &str, theirs: Duration, wanted: &str) {
        let ratio = format!("{:.2}", time.as_secs_f64() / theirs.as_secs_f64());
        let peer = format!("{peer}, {}", milliseconds(theirs));
        self.row(what, milliseconds(time), &peer, ratio, wanted);
    }

    fn row(&mut self, what: &str, ours: String, peer: &str, ratio: String, wanted: &str) {
        self.0.push([
            what.to_owned(),
            ours,
            peer.to_owned(),
            ratio,
            wanted.to_owned(),
        ]);
    }

    fn print(&self) {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name\t: "))
            .unwrap_or("?");
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let date = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        println!(
            "{cpu}, {cores} cores, Linux {}, {}\n",
            kernel.trim(),
            &date[..10]
        );
        let head = ["what", "ours", "peer", "ratio", "wanted"].map(str::to_owned);
        let rows: Vec<&[String; 5]> = std::iter::once(&head).chain(&self.0).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<usize> = (0..5).filter_map(width).collect();
        for (number, row) in rows.iter().enumerate() {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"));
            println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
            if number == 0 {
                let rules = widths.iter().map(|width| "-".repeat(*width));
                println!("| {} |", rules.collect::<Vec<_>>().join(" | "));
            }
        }
    }
}
