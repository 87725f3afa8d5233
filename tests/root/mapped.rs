//! Stores through a shared memory mapping: which of them a check sees, and which not.
//!
//! `src/lib.rs` tells this under “What cannot be seen”. These tests need root: they mount file
//! systems, in a mount namespace of their own.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use modstamp::Witness;
use support::mounted::Mounted;
use support::named;
use support::test::{Needs, Test, test};
use support::world::{GTK, SETTLED, World, sentences};

type Scenario = fn(&Mounted, Kind);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Dirty pages are written back to a disk.
    Disk,
    /// The pages are all that there is.
    Memory,
}

const SCENARIOS: &[(&str, Scenario)] = named![
    the_first_store_of_a_mapping_is_seen,
    a_store_into_a_page_that_is_still_dirty_is_seen_once_the_page_was_written_back,
];

type Make = fn() -> Mounted;

fn ext4() -> Mounted {
    Mounted::image(16, "mkfs.ext4", &["-q"])
}

fn xfs() -> Mounted {
    Mounted::image(300, "mkfs.xfs", &["-q"])
}

fn btrfs() -> Mounted {
    Mounted::image(128, "mkfs.btrfs", &["-q"])
}

fn tmpfs() -> Mounted {
    Mounted::tmpfs("mode=755")
}

pub fn tests() -> Vec<Test> {
    let kinds: [(_, &[&str], Make, _); 4] = [
        ("ext4", &["mkfs.ext4"], ext4, Kind::Disk),
        ("xfs", &["mkfs.xfs"], xfs, Kind::Disk),
        ("btrfs", &["mkfs.btrfs"], btrfs, Kind::Disk),
        ("tmpfs", &[], tmpfs, Kind::Memory),
    ];
    let tests = kinds.into_iter().flat_map(|(name, needs, make, kind)| {
        let needs = Needs::root_and(&[&["gcc", "mount", "unshare"], needs].concat());
        SCENARIOS.iter().map(move |(scenario, run)| {
            let run = *run;
            test(format!("{name}::{scenario}"), &needs, move || {
                run(&make(), kind)
            })
        })
    });
    tests.collect()
}

/// Maps the file, and then stores each byte that it is sent. A `!` writes the page back.
const PROGRAM: &str = r#"
    #include <fcntl.h>
    #include <stdio.h>
    #include <sys/mman.h>
    int main(int count, char **arguments) {
        int file = open(arguments[1], O_RDWR);
        volatile char *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (page == MAP_FAILED) return 1;
        for (int byte; (byte = getchar()) != EOF;) {
            if (byte == '!' && msync((void *)page, 4096, MS_SYNC)) return 1;
            if (byte != '!') *page = byte;
            puts("done");
            fflush(stdout);
        }
    }
"#;

/// A program that has the module mapped.
struct Mapping {
    program: Child,
    answers: BufReader<ChildStdout>,
}

impl Mapping {
    fn of(world: &World) -> Mapping {
        let (source, binary) = (world.beside("map.c"), world.beside("map"));
        std::fs::write(&source, PROGRAM).unwrap();
        support::run(Command::new("gcc").arg(&source).arg("-o").arg(&binary));
        Mapping::by(&binary, &world.path(GTK))
    }

    fn by(binary: &Path, file: &Path) -> Mapping {
        let mut command = Command::new(binary);
        command
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut program = command.spawn().unwrap();
        let answers = BufReader::new(program.stdout.take().unwrap());
        Mapping { program, answers }
    }

    fn send(&mut self, byte: u8) {
        self.program
            .stdin
            .as_mut()
            .unwrap()
            .write_all(&[byte])
            .unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n");
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        drop(self.program.stdin.take());
        let _ = self.program.wait();
    }
}

fn is_seen(world: &World, before: &Witness) -> bool {
    let said = sentences(&world.check(before));
    let differs = "module ui-gtk.so in /usr/lib64/qemu changed: its content differs";
    assert!(said.is_empty() || said == [differs], "{said:?}");
    !said.is_empty()
}

fn the_first_store_of_a_mapping_is_seen(disk: &Mounted, _: Kind) {
    let world = World::on(disk.path(), |_| ());
    let mut mapping = Mapping::of(&world);
    world.settle();
    let before = world.observe();
    mapping.send(b'1');
    assert!(is_seen(&world, &before));
    // A mapping of another program, or a later one, has a first store of its own.
    std::thread::sleep(SETTLED);
    let before = world.observe();
    let mut another = Mapping::by(&world.beside("map"), &world.path(GTK));
    another.send(b'2');
    assert!(is_seen(&world, &before));
}

fn a_store_into_a_page_that_is_still_dirty_is_seen_once_the_page_was_written_back(
    disk: &Mounted,
    kind: Kind,
) {
    let world = World::on(disk.path(), |_| ());
    let mut mapping = Mapping::of(&world);
    mapping.send(b'1');
    // While stat is no evidence, the content tells.
    let before = world.observe();
    mapping.send(b'2');
    assert!(is_seen(&world, &before));
    std::thread::sleep(SETTLED);
    let before = world.observe();
    mapping.send(b'3');
    assert!(!is_seen(&world, &before), "the kernel tells no such store");
    mapping.send(b'!');
    assert!(!is_seen(&world, &before), "a write-back moves no ctime");
    mapping.send(b'4');
    assert_eq!(is_seen(&world, &before), kind == Kind::Disk);
}
