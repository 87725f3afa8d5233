//! The remedies of the shipped profiles: which program makes each list, and which files go.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::mounted::Mounted;
use support::named;
use support::test::{self, Needs, Test};

pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&["mount", "timeout", "unshare"]);
    test::tests(&needs, SCENARIOS).collect()
}

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![
    each_list_of_gios_is_made_by_the_program_of_its_architecture,
    each_list_of_vlcs_is_made_by_the_program_of_its_architecture,
    a_cache_that_a_variable_names_is_removed,
];

/// A tree that stands for `/usr`.
struct World(Mounted);

impl World {
    /// A tree with these directories and these programs. Each program records what it was called
    /// with.
    fn new(directories: &[&str], programs: &[&str]) -> World {
        let world = World(Mounted::tmpfs("mode=755"));
        for directory in directories.iter().chain(&["state"]) {
            fs::create_dir_all(world.path(directory)).unwrap();
        }
        let calls = world.path("calls");
        for program in programs {
            let path = world.path(program);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let script = format!("#!/bin/sh\necho {program} $1 >> {}\n", calls.display());
            support::executable(&path, script);
        }
        world
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    /// Runs a verb with the shipped profile, which then names this tree's files.
    #[track_caller]
    fn modstamp(&self, verb: &str, profile: &str, variables: &[(&str, PathBuf)]) {
        let shipped = format!("packaging/profiles/{profile}.toml");
        let text = fs::read_to_string(support::sources().join(shipped)).unwrap();
        let top = self.path("usr/");
        let text = text.replace("\"/usr/", &format!("\"{}", top.display()));
        let file = self.path(&format!("{profile}.toml"));
        fs::write(&file, text).unwrap();
        let script = r#"mount --bind "$0" /var/lib; exec timeout 50 "$@""#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", script]);
        command.arg(self.path("state"));
        command.arg(support::program("modstamp"));
        command.args([verb, "--profile"]).arg(file).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command.envs(variables.iter().cloned());
        let output = command.output().unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
    }

    /// Updates by the shipped profile. Returns the last program that made the list in each
    /// directory, links followed.
    #[track_caller]
    fn makers(&self, profile: &str) -> BTreeMap<String, String> {
        self.modstamp("update", profile, &[]);
        let calls = fs::read_to_string(self.path("calls")).unwrap();
        let real = |directory: &str| {
            let real = fs::canonicalize(directory).unwrap();
            let below = real.strip_prefix(fs::canonicalize(self.0.path()).unwrap());
            below.map(Path::to_owned).unwrap().display().to_string()
        };
        let calls = calls.lines().map(|line| line.split_once(' ').unwrap());
        calls.map(|(by, place)| (real(place), by.into())).collect()
    }
}

/// Asserts that each directory's list was made by the program beside it.
#[track_caller]
fn assert_made(world: &World, profile: &str, expected: &[[&str; 2]]) {
    let expected = expected.iter().map(|[place, by]| [*place, *by]);
    let expected = expected.map(|pair| pair.map(str::to_owned).into());
    assert_eq!(world.makers(profile), expected.collect());
}

fn each_list_of_gios_is_made_by_the_program_of_its_architecture() {
    let [lib, lib64] = ["usr/lib/gio/modules", "usr/lib64/gio/modules"];
    let gtk64 = "usr/lib64/gtk-4.0/4.0.0/immodules";
    let gtk = "usr/lib/gtk-4.0/4.0.0/immodules";
    let [plain, of32, of64] =
        ["", "-32", "-64"].map(|bits| format!("usr/bin/gio-querymodules{bits}"));
    let [plain, of32, of64] = [&*plain, &*of32, &*of64];

    let fedora = World::new(&[lib, lib64, gtk, gtk64], &[of32, of64]);
    let expected = [[lib, of32], [lib64, of64], [gtk, of32], [gtk64, of64]];
    assert_made(&fedora, "gio", &expected);
    let only64 = World::new(&["usr/lib", lib64], &[of64]);
    assert_made(&only64, "gio", &[[lib64, of64]]);

    // The list of /usr/lib32 is none of the profile's.
    let arch = World::new(&[lib, gtk, "usr/lib32/gio/modules"], &[plain, of32]);
    symlink("lib", arch.path("usr/lib64")).unwrap();
    assert_made(&arch, "gio", &[[lib, plain], [gtk, plain]]);
    let alpine = World::new(&[lib, gtk], &[plain]);
    assert_made(&alpine, "gio", &[[lib, plain], [gtk, plain]]);

    for other in ["i386-linux-gnu", "arm-linux-gnueabihf", "aarch64-linux-gnu"] {
        let own = |triple: &str| {
            let place = format!("usr/lib/{triple}/gio/modules");
            (place, format!("usr/lib/{triple}/glib-2.0/gio-querymodules"))
        };
        let (first, second) = (own("x86_64-linux-gnu"), own(other));
        let debian = World::new(&[&first.0, &second.0], &[&first.1, &second.1]);
        let expected = [[&*first.0, &*first.1], [&*second.0, &*second.1]];
        assert_made(&debian, "gio", &expected);
    }
}

fn each_list_of_vlcs_is_made_by_the_program_of_its_architecture() {
    let own = |lib: &str| {
        let [place, by] = ["plugins", "vlc-cache-gen"].map(|it| format!("usr/{lib}/vlc/{it}"));
        (place, by)
    };
    for [first, second] in [
        ["lib64", "lib"],
        ["lib/x86_64-linux-gnu", "lib/i386-linux-gnu"],
        ["lib/aarch64-linux-gnu", "lib/x86_64-linux-gnu"],
    ] {
        let (first, second) = (own(first), own(second));
        let both = World::new(&[&first.0, &second.0], &[&first.1, &second.1]);
        let expected = [[&*first.0, &*first.1], [&*second.0, &*second.1]];
        assert_made(&both, "vlc", &expected);
        let one = World::new(&[&first.0], &[&first.1]);
        assert_made(&one, "vlc", &[[&*first.0, &*first.1]]);
    }
    let (place, by) = own("lib");
    let arch = World::new(&[&place], &[&by]);
    symlink("lib", arch.path("usr/lib64")).unwrap();
    let calls = arch.makers("vlc");
    assert!(calls[&place].ends_with("vlc/vlc-cache-gen"), "{calls:?}");
}

fn a_cache_that_a_variable_names_is_removed() {
    for (profile, variable, value, cache) in [
        (
            "gstreamer",
            "GST_REGISTRY_1_0",
            "own/registry.bin",
            "own/registry.bin",
        ),
        (
            "gstreamer",
            "GST_REGISTRY",
            "own/registry.bin",
            "own/registry.bin",
        ),
        ("gio", "GIO_MODULE_DIR", "own", "own/giomodule.cache"),
        ("gio", "GIO_EXTRA_MODULES", "own", "own/giomodule.cache"),
    ] {
        let world = World::new(&["own"], &[]);
        fs::write(world.path(cache), "answers").unwrap();
        let home = ("HOME", world.path("state"));
        world.modstamp("refresh", profile, std::slice::from_ref(&home));
        assert!(world.path(cache).exists(), "{variable}");
        world.modstamp("refresh", profile, &[home, (variable, world.path(value))]);
        assert!(!world.path(cache).exists(), "{variable}");
    }
}
