//! On each kind of file system, no change is missed, however near to the observation it is. A file
//! that has settled is judged by stat alone.
//!
//! These tests need root: they mount file systems, in a mount namespace of their own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use modstamp::{Profile, Root, Witness};
use rustix::fs::{AtFlags, CWD, StatxFlags, Timespec, Timestamps, UTIME_NOW, statx, utimensat};
use support::libvirt::{Host, QXL, X86};
use support::mounted::Mounted;
use support::named;
use support::test::{Needs, Test, test};
use support::world::{GTK, MODULES, STAMP, World, bytes_read, keep_mtime, sentences};

/// A kind of file system.
struct Kind {
    name: &'static str,
    /// The programs that make one, beside those that mount it.
    needs: &'static [&'static str],
    make: fn() -> Mounted,
    /// Tests for this kind alone.
    more: &'static [(&'static str, Scenario)],
}

type Scenario = fn(&Mounted);

const KINDS: [Kind; 6] = [
    Kind {
        name: "ext2",
        needs: &["mkfs.ext2"],
        make: Mounted::ext2,
        more: &[],
    },
    Kind {
        name: "ext4",
        needs: &["mkfs.ext4"],
        make: || Mounted::image(16, "mkfs.ext4", &["-q"]),
        more: &[],
    },
    Kind {
        name: "xfs",
        needs: &["mkfs.xfs"],
        make: || Mounted::image(300, "mkfs.xfs", &["-q"]),
        more: named![a_redeploy_by_reflinks_is_fresh,],
    },
    Kind {
        name: "btrfs",
        needs: &["mkfs.btrfs"],
        make: || Mounted::image(128, "mkfs.btrfs", &["-q"]),
        more: named![a_redeploy_by_reflinks_is_fresh,],
    },
    Kind {
        name: "tmpfs",
        needs: &[],
        make: || Mounted::tmpfs("mode=755"),
        more: &[],
    },
    Kind {
        name: "overlay",
        needs: &[],
        make: || Mounted::overlay(|_| ()),
        more: named![what_is_copied_up_is_told_by_its_content,],
    },
];

const SCENARIOS: &[(&str, Scenario)] = named![
    a_rewrite_in_the_tick_of_the_observation_is_not_missed,
    a_replacement_in_the_tick_of_the_observation_is_not_missed,
    a_name_in_the_tick_of_the_observation_is_not_missed,
    a_touch_by_hand_in_the_tick_of_the_observation_is_not_missed,
    an_observation_amid_rewrites_is_fresh_for_what_it_read_alone,
    a_change_there_and_back_in_the_tick_of_the_observation_is_told,
    a_change_there_and_back_in_the_tick_of_a_touch_is_not_taken_for_fresh,
    what_has_settled_is_not_read_until_it_changes,
];

pub fn tests() -> Vec<Test> {
    KINDS.iter().flat_map(Kind::tests).collect()
}

impl Kind {
    fn tests(&self) -> impl Iterator<Item = Test> {
        let needs = Needs::root_and(&[&["mount", "unshare"], self.needs].concat());
        let needs = needs.and(self.missing_in_the_kernel());
        let scenarios = SCENARIOS.iter().chain(self.more);
        scenarios.map(move |(name, scenario)| {
            let (make, scenario) = (self.make, *scenario);
            let settles =
                self.name != "overlay" || !name.contains("settled") || mounts_are_told_apart();
            let newer = (!settles).then(|| "Linux 6.8".to_owned());
            let needs = needs.clone().and(newer);
            let name = format!("{}::{name}", self.name);
            test(name, &needs, move || scenario(&make()))
        })
    }

    fn missing_in_the_kernel(&self) -> Option<String> {
        let is_there = || {
            let known = fs::read_to_string("/proc/filesystems").unwrap();
            known
                .lines()
                .any(|line| line.split('\t').next_back() == Some(self.name))
        };
        let load = || {
            std::process::Command::new("modprobe")
                .arg(self.name)
                .output()
        };
        let is_missing = !is_there() && (load().is_err() || !is_there());
        is_missing.then(|| format!("{} in the kernel", self.name))
    }
}

/// Whether the kernel has STATX_MNT_ID_UNIQUE (statx(2)). Without it, stat is no evidence on an
/// overlay.
fn mounts_are_told_apart() -> bool {
    let wanted = StatxFlags::from_bits_retain(0x4000);
    let statx = statx(CWD, "/", AtFlags::empty(), wanted);
    statx.is_ok_and(|statx| statx.stx_mask & wanted.bits() != 0)
}

const GTK_DIFFERS: &str = "module ui-gtk.so in /usr/lib64/qemu changed: its content differs";

/// Calls `round` 200 times; less often if observations wait for the next second.
fn rounds(mut round: impl FnMut(u32)) {
    let begun = Instant::now();
    for number in 0..200 {
        round(number);
        if number >= 3 && begun.elapsed() > Duration::from_secs(5) {
            return;
        }
    }
}

fn a_rewrite_in_the_tick_of_the_observation_is_not_missed(disk: &Mounted) {
    let world = World::on(disk.path(), |_| ());
    rounds(|number| {
        world.write(GTK, &format!("{number:08} before"));
        let before = world.observe();
        world.keep_mtime(GTK, || world.write(GTK, &format!("{number:08} after ")));
        assert_eq!(
            sentences(&world.check(&before)),
            [GTK_DIFFERS],
            "round {number}"
        );
    });
}

fn a_replacement_in_the_tick_of_the_observation_is_not_missed(disk: &Mounted) {
    let world = World::on(disk.path(), |_| ());
    let replace = |text: &str| {
        world.write("usr/share/new", text);
        world.rename("usr/share/new", GTK);
    };
    rounds(|number| {
        replace(&format!("{number:08} before"));
        let before = world.observe();
        world.keep_mtime(GTK, || replace(&format!("{number:08} after ")));
        assert_eq!(
            sentences(&world.check(&before)),
            [GTK_DIFFERS],
            "round {number}"
        );
    });
}

fn a_name_in_the_tick_of_the_observation_is_not_missed(disk: &Mounted) {
    let world = World::on(disk.path(), |_| ());
    let directories = [MODULES, "usr/lib64/qemu/below", "usr/bin"];
    let comes = [
        "module below/qemu-system-two added to /usr/lib64/qemu",
        "module qemu-system-two added to /usr/lib64/qemu",
        "program /usr/bin/qemu-system-two added",
    ];
    let goes = comes.map(|line| line.replace("added to", "removed from"));
    let goes = goes.map(|line| line.replace("added", "removed"));
    // No directory's mtime moves.
    let in_all = |name: &str, change: &dyn Fn(&str)| {
        for directory in directories {
            let path = format!("{directory}/qemu-system-{name}");
            world.keep_mtime(directory, || change(&path));
        }
    };
    let (write, remove) = (
        |path: &str| world.write(path, ""),
        |path: &str| world.remove(path),
    );
    rounds(|number| {
        in_all("one", &write);
        let before = world.observe();
        in_all("two", &write);
        assert_eq!(sentences(&world.check(&before)), comes, "round {number}");
        let before = world.observe();
        in_all("two", &remove);
        assert_eq!(sentences(&world.check(&before)), goes, "round {number}");
        in_all("one", &remove);
    });
}

fn a_touch_by_hand_in_the_tick_of_the_observation_is_not_missed(disk: &Mounted) {
    let world = World::on(disk.path(), |_| ());
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    let times = Timestamps {
        last_access: now,
        last_modification: now,
    };
    // Like touch(1), but sooner.
    let touch = || utimensat(CWD, world.path(STAMP), &times, AtFlags::empty()).unwrap();
    rounds(|number| {
        touch();
        let before = world.observe();
        touch();
        let said = sentences(&world.check(&before)).join("\n");
        let expected = "system stamp touched: its time was ";
        assert!(said.starts_with(expected), "round {number}: {said:?}");
    });
}

/// Somebody keeps writing, also between the observation's look at the inode and the tick's end.
fn an_observation_amid_rewrites_is_fresh_for_what_it_read_alone(disk: &Mounted) {
    let world = World::on(disk.path(), |_| ());
    let digest = |witness: &Witness| {
        let text = witness.to_string();
        let line = text.lines().find(|line| line.ends_with(" ui-gtk.so"));
        line.unwrap().split(' ').nth(5).unwrap().to_owned()
    };
    rounds(|number| {
        let before = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for turn in 0..number % 100 {
                    world.write(
                        GTK,
                        if turn % 2 == 0 {
                            "one way "
                        } else {
                            "or other"
                        },
                    );
                }
            });
            let before = world.observe();
            writer.join().unwrap();
            before
        });
        let is_fresh = world.check(&before).is_fresh();
        let same = digest(&before) == digest(&world.observe());
        assert!(same || !is_fresh, "round {number}");
    });
}

/// A probe may have seen the state in between, and no later check can see that.
fn a_change_there_and_back_in_the_tick_of_the_observation_is_told(disk: &Mounted) {
    let world = World::on(disk.path(), |_| ());
    rounds(|number| {
        world.write(GTK, "one way ");
        let before = world.profile.observe().unwrap();
        world.keep_mtime(GTK, || {
            world.write(GTK, "or other");
            world.write(GTK, "one way ");
        });
        let after = world.profile.inputs().unwrap();
        assert!(before.judge(&after).is_fresh());
        let told = "module ui-gtk.so was touched during the probe, or changed and changed back";
        assert_eq!(
            before
                .disturbed(&after)
                .map(|why| why.to_string())
                .as_deref(),
            Some(told),
            "round {number}"
        );
    });
}

/// A touch waits for no tick of a second. libvirt may have probed the state in between.
fn a_change_there_and_back_in_the_tick_of_a_touch_is_not_taken_for_fresh(disk: &Mounted) {
    let host = Host::on(disk.path());
    host.settle();
    rounds(|number| {
        host.write(QXL, "one way ");
        host.say(&["trigger", "dpkg", "/usr/lib/x86_64-linux-gnu/qemu"]);
        host.keep_mtime(QXL, || host.write(QXL, "or other"));
        host.ask(X86);
        host.keep_mtime(QXL, || host.write(QXL, "one way "));
        assert!(host.serves(X86), "round {number}");
        let says = host.words(X86);
        let expected = "stale: module hw-display-qxl.so";
        assert!(says.starts_with(expected), "round {number}: {says}");
    });
}

fn what_has_settled_is_not_read_until_it_changes(disk: &Mounted) {
    const SIZE: usize = 1 << 16;
    let world = World::on(disk.path(), |world| world.write(GTK, &"1".repeat(SIZE)));
    let is_read = |before: &Witness| {
        let mut said = Vec::new();
        let read = bytes_read(|| said = sentences(&world.check(before)));
        (read >= SIZE as u64, said)
    };
    // The clock's tick is over, but the write may still be under way.
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(is_read(&world.observe()), (true, Vec::new()));
    world.settle();
    let before = world.observe();
    assert_eq!(is_read(&before), (false, Vec::new()));
    world.keep_mtime(GTK, || world.write(GTK, &"2".repeat(SIZE)));
    assert_eq!(is_read(&before), (true, vec![GTK_DIFFERS.to_owned()]));
}

fn a_redeploy_by_reflinks_is_fresh(disk: &Mounted) {
    let world = World::on(disk.path(), |_| ());
    let inode = || fs::metadata(world.path(GTK)).unwrap().ino();
    let redeploy = || {
        let (before, old) = (world.observe(), inode());
        world.sh("cp -r --reflink=always usr/lib64/qemu usr/new");
        fs::remove_dir_all(world.path(MODULES)).unwrap();
        world.rename("usr/new", MODULES);
        assert_ne!(inode(), old);
        assert_eq!(sentences(&world.check(&before)), [""; 0]);
    };
    redeploy();
    world.settle();
    redeploy();
}

/// A write to a file that only the lower directory has copies it to the upper one first.
fn what_is_copied_up_is_told_by_its_content(_: &Mounted) {
    let mut lower = None;
    let disk = Mounted::overlay(|layer| lower = Some(World::on(layer, |_| ())));
    let root = disk.path().join("root");
    let profile = Profile::load_in("qemu", &Root::open(&root).unwrap()).unwrap();
    let see = |as_it_is: &str, rewritten: &str| {
        let path = |name| root.join(MODULES).join(name);
        let before = profile.observe().unwrap();
        let check = || sentences(&before.check(&profile).unwrap());
        fs::File::options()
            .append(true)
            .open(path(as_it_is))
            .unwrap();
        assert_eq!(check(), [""; 0]);
        keep_mtime(&path(rewritten), || {
            fs::write(path(rewritten), "after  1").unwrap()
        });
        let differs = format!("module {rewritten} in /usr/lib64/qemu changed: its content differs");
        assert_eq!(check(), [differs]);
    };
    see("ui-sdl.so", "ui-gtk.so");
    lower.unwrap().settle();
    see("below/b.so", "below/a.so");
}
