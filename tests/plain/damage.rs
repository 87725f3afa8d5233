//! Damage by disks, tools and sudden ends: a damaged answer is asked for again, and leftovers go.

use std::cell::Cell;
use std::fs::{self, File};

use modstamp::{Answer, Verdict, Witness, cached};
use support::world::{self, sentences};

use crate::run;

#[test]
fn a_flipped_byte_of_a_stored_answer_is_never_served() {
    let world = world::World::new();
    let file = world.beside("cache").join("answer");
    let probes = Cell::new(0);
    let ask = || -> Answer {
        let probe = || {
            probes.set(probes.get() + 1);
            Ok::<_, ()>("an answer".repeat(20))
        };
        cached(&world.profile, &file, probe).unwrap()
    };
    let right = ask().bytes;
    let whole = fs::read(&file).unwrap();
    for at in (0..whole.len())
        .step_by(11)
        .chain(whole.len() - 250..whole.len())
    {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&file, damaged).unwrap();
        let before = probes.get();
        let answer = ask();
        assert_eq!(probes.get(), before + 1, "byte {at} was flipped");
        assert_eq!(answer.bytes, right, "byte {at} was flipped");
        assert!(answer.verdict != Some(Verdict::Fresh) || answer.not_kept.is_some());
    }
    fs::write(&file, &whole).unwrap();
    assert_eq!(
        ask().verdict,
        Some(Verdict::Fresh),
        "the file as it was is served"
    );
    let mut damaged = whole.clone();
    let in_answer = whole.len() - 30;
    damaged[in_answer] ^= 1;
    fs::write(&file, damaged).unwrap();
    let told = sentences(&ask().verdict.unwrap());
    let sentence = format!(
        "the answer in {} is damaged: its checksum is another",
        file.display()
    );
    assert_eq!(told, [sentence]);
}

#[test]
fn a_damaged_answer_of_a_command_is_asked_again_and_told() {
    let world = run::World::new();
    world.ask();
    let mut names = fs::read_dir(world.path("cache"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let file = names.find(|path| path.extension().is_none()).unwrap();
    let mut damaged = fs::read(&file).unwrap();
    let at = damaged
        .windows(6)
        .rposition(|bytes| bytes == b"qxl.so")
        .unwrap();
    damaged[at] = b'Q';
    fs::write(&file, damaged).unwrap();
    assert_eq!(world.ask().0, "asked\nqxl.so\n");
}

#[test]
fn a_witness_that_lost_a_program_or_a_file_is_stale() {
    let world = world::World::new();
    world.settle();
    let text = world.profile.observe().unwrap().to_string();
    let lines: Vec<&str> = text.lines().collect();
    let (_, lines) = lines.split_last().unwrap();
    for what in ["program ", "file "] {
        let at = lines.iter().position(|line| line.starts_with(what));
        let mut rest = lines.to_vec();
        let lost = rest.remove(at.unwrap());
        let rest = format!("{}\nend {}\n", rest.join("\n"), rest.len());
        let verdict = rest.parse::<Witness>().unwrap().check(&world.profile);
        assert!(!verdict.unwrap().is_fresh(), "this line was lost: {lost}");
    }
}

#[test]
fn the_next_touch_removes_what_killed_runs_left_and_nothing_of_living_ones() {
    let world = world::World::new();
    let path = |name: &str| world.path("var/lib/modstamp").join(name);
    let dead = [
        ".qemu.stamp.new.1.0",
        ".qemu.witness.new.77.2",
        ".qemu.libvirt.new.5.1",
        ".qemu.witness.new",
    ];
    let stay = [
        ".qemu.stamp.new.2.0",
        ".nbdkit.stamp.new.1.0",
        ".qemu.stamp.new.1",
        "qemu.stamp.new.1.0",
    ];
    for name in dead.iter().chain(&stay) {
        fs::write(path(name), "").unwrap();
    }
    let living = File::open(path(stay[0])).unwrap();
    rustix::fs::flock(&living, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(world.output(&["touch"]).status.success());
    let are_there = |names: [&str; 4]| names.map(|name| path(name).exists());
    assert_eq!((are_there(dead), are_there(stay)), ([false; 4], [true; 4]));
    // A program that another test is just starting still has the file, so its drop is too little.
    rustix::fs::flock(&living, rustix::fs::FlockOperation::Unlock).unwrap();
    assert!(world.output(&["touch"]).status.success());
    assert_eq!(are_there(stay), [false, true, true, true]);
}
