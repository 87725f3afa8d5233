//! What a profile can name as an input, each seen when it changes, and nothing beside it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use modstamp::{Profile, Root, Verdict, Witness};
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

/// A scratch root with a profile `x`.
pub struct World(tempfile::TempDir);

impl World {
    pub fn new(files: &[&str]) -> World {
        let world = World(tempfile::tempdir().unwrap());
        files.iter().for_each(|file| world.write(file, "before"));
        world
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn profile(&self) -> Profile {
        let root = Root::open(self.0.path()).unwrap();
        Profile::new("x").unwrap().in_root(&root)
    }

    /// What a change makes the answers of `profile` stale by.
    pub fn after(&self, profile: &Profile, change: impl FnOnce()) -> Vec<String> {
        let witness = profile.observe().unwrap();
        assert_eq!(sentences(&witness.check(profile).unwrap()), NOTHING);
        change();
        sentences(&witness.check(profile).unwrap())
    }

    /// Runs `modstamp VERB` with the profile of this text, and no variables but `variables`.
    pub fn modstamp(&self, text: &str, verb: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
        let file = self.path("etc/modstamp/profiles.d/x.toml");
        if !fs::read_to_string(&file).is_ok_and(|it| it == text) {
            self.write("etc/modstamp/profiles.d/x.toml", text);
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_modstamp"));
        command.env_clear().env("HOME", "/home/me");
        command.envs(variables.iter().copied()).args(verb);
        command
            .args(["--profile", "x", "--root"])
            .arg(self.0.path());
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), text + &err)
    }

    /// What a change makes the answers of a profile's text stale by.
    pub fn told(
        &self,
        text: &str,
        variables: &[(&str, &str)],
        change: impl FnOnce(),
        later: &[(&str, &str)],
    ) -> String {
        let (status, witness) = self.modstamp(text, &["observe"], variables);
        assert_eq!(status, 0, "{witness}");
        fs::write(self.path("witness"), &witness).unwrap();
        let check = ["check", &self.path("witness").display().to_string()];
        let fresh = (0, "fresh\n".to_owned());
        assert_eq!(self.modstamp(text, &check, variables), fresh, "{witness}");
        change();
        self.modstamp(text, &check, later).1
    }
}

pub const NOTHING: [String; 0] = [];

pub fn sentences(verdict: &Verdict) -> Vec<String> {
    verdict.reasons().iter().map(ToString::to_string).collect()
}

#[test]
fn a_directory_among_files_or_programs_counts_with_all_that_is_in_it() {
    let world = World::new(&["opt/files/a.json", "opt/programs/tool"]);
    symlink("/opt/files", world.path("opt/link")).unwrap();
    for (profile, changed) in [
        (world.profile().files(["/opt/files"]), "opt/files/a.json"),
        (world.profile().files(["/opt/li*"]), "opt/files/a.json"),
        (
            world.profile().programs(["/opt/programs"]),
            "opt/programs/tool",
        ),
    ] {
        let profile = profile.unwrap();
        let told = world.after(&profile, || world.write(changed, "another"));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("module "), "{told:?}");
        world.write(changed, "before");
    }
}

#[test]
fn a_file_among_module_directories_counts_by_its_content() {
    let world = World::new(&["opt/driver.json"]);
    let profile = world.profile().module_directories(["/opt/driver.json"]);
    let profile = profile.unwrap();
    let told = world.after(&profile, || world.write("opt/driver.json", "another"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("file /opt/driver.json changed"),
        "{told:?}"
    );
    let told = world.after(&profile, || {
        fs::remove_file(world.path("opt/driver.json")).unwrap()
    });
    assert_eq!(told, ["file /opt/driver.json removed"]);
}

#[test]
fn a_variable_that_is_no_path_counts_by_its_value() {
    let world = World::new(&["etc/x"]);
    let text = "files = [\"/etc/x\"]\nvariables = [\"LIBVA_DRIVER_NAME\"]";
    let told = world.told(text, &[], || (), &[("LIBVA_DRIVER_NAME", "iHD")]);
    let expected = "stale: variable LIBVA_DRIVER_NAME changed: it was not set, now “iHD”\n";
    assert_eq!(told, expected);
}

#[test]
fn the_variables_that_move_gstreamers_registry_or_gios_modules_count() {
    let modules = ["usr/lib64/gstreamer-1.0/a.so", "usr/lib64/gio/modules/a.so"];
    let world = World::new(&[modules[0], modules[1], "opt/gio/a.so"]);
    let gstreamer = include_str!("../../packaging/profiles/gstreamer.toml");
    for name in ["GST_REGISTRY_1_0", "GST_REGISTRY"] {
        let told = world.told(gstreamer, &[], || (), &[(name, "/srv/registry.bin")]);
        assert!(told.contains(&format!("variable {name} changed")), "{told}");
    }
    let gio = include_str!("../../packaging/profiles/gio.toml");
    let moved = [("GIO_MODULE_DIR", "/opt/gio")];
    let told = world.told(gio, &[], || (), &moved);
    assert!(told.contains("variable GIO_MODULE_DIR changed"), "{told}");
    let told = world.told(gio, &moved, || world.write("opt/gio/b.so", ""), &moved);
    assert!(told.contains("module b.so added to /opt/gio"), "{told}");
}

#[test]
fn a_list_of_files_in_a_variable_counts_by_each_of_them() {
    let world = World::new(&["opt/a.json", "opt/b.json", "opt/more/c.json"]);
    let text = "files = [\"$VK_DRIVER_FILES\"]";
    let list = [("VK_DRIVER_FILES", "/opt/a.json:/opt/b.json:/opt/more")];
    for changed in ["opt/a.json", "opt/b.json", "opt/more/c.json"] {
        let told = world.told(text, &list, || world.write(changed, "another"), &list);
        let name = changed.rsplit('/').next().unwrap();
        assert!(told.starts_with("stale: ") && told.contains(name), "{told}");
    }
}

#[test]
fn a_path_below_a_variable_begins_at_its_value_or_at_its_specified_default() {
    let world = World::new(&[
        "usr/share/vulkan/icd.d/a.json",
        "opt/share/vulkan/icd.d/b.json",
        "home/me/.local/share/vulkan/icd.d/c.json",
        "home/me/.x/d.so",
    ]);
    let text = "files = [\"$XDG_DATA_DIRS/vulkan/icd.d/*.json\", \
                \"$XDG_DATA_HOME/vulkan/icd.d\"]\nmodule-directories = [\"~/.x\"]";
    let list = [("XDG_DATA_DIRS", "/opt/share:relative")];
    for (variables, changed, is_seen) in [
        (&[][..], "usr/share/vulkan/icd.d/a.json", true),
        (&[], "home/me/.local/share/vulkan/icd.d/c.json", true),
        (&[], "home/me/.x/d.so", true),
        (&[], "opt/share/vulkan/icd.d/b.json", false),
        (&list, "opt/share/vulkan/icd.d/b.json", true),
        (&list, "usr/share/vulkan/icd.d/a.json", false),
    ] {
        let told = world.told(text, variables, || world.write(changed, changed), variables);
        assert_eq!(told.starts_with("stale: "), is_seen, "{changed}: {told}");
        world.write(changed, "before");
    }
    let told = world.told(text, &list, || (), &[]);
    assert!(
        told.contains("variable XDG_DATA_DIRS changed: it was “/opt/share:relative”"),
        "{told}"
    );
}

#[test]
fn what_packages_bring_below_a_variables_default_is_covered_by_a_trigger() {
    let world = World::new(&[]);
    let text = "module-directories = [\"$XDG_DATA_DIRS/vulkan/icd.d\", \"$MY_PATH\"]";
    world.write("etc/modstamp/profiles.d/x.toml", text);
    let root = Root::open(world.0.path()).unwrap();
    let profile = Profile::load_in("x", &root).unwrap();
    assert!(profile.covers(Path::new("/usr/share/vulkan/icd.d/a.json")));
    assert!(!profile.covers(Path::new("/usr/share/vulkan/layer.d/a.json")));
}

/// It was stale for ever, because the kernel takes no path of that length.
#[test]
fn a_long_value_of_a_variable_is_fresh_while_it_is_the_same() {
    let world = World::new(&["opt/a.so"]);
    let long = format!("/opt{}", ":/nowhere/of/some/length".repeat(300));
    let list = [("MY_PATH", &*long)];
    let text = "module-directories = [\"$MY_PATH\"]";
    let told = world.told(text, &list, || (), &list);
    assert_eq!(told, "fresh\n");
    let told = world.told(text, &list, || world.write("opt/a.so", "another"), &list);
    assert!(
        told.starts_with("stale: module a.so in /opt changed"),
        "{told}"
    );
}

#[test]
fn what_is_excluded_makes_nothing_stale_and_no_trigger_touch() {
    let world = World::new(&["opt/a.so", "opt/plugins.dat", "opt/b/__pycache__/c.pyc"]);
    let profile = world.profile().module_directories(["/opt"]).unwrap();
    let profile = profile.exclude(["/plugins.dat", "__pycache__"]).unwrap();
    let told = world.after(&profile, || {
        world.write("opt/plugins.dat", "another");
        world.write("opt/b/__pycache__/d.pyc", "");
    });
    assert_eq!(told, NOTHING);
    for (path, is_covered) in [
        ("/opt/a.so", true),
        ("/opt/b/plugins.dat", true),
        ("/opt/b", true),
        ("/opt/plugins.dat", false),
        ("/opt/b/__pycache__/d.pyc", false),
    ] {
        assert_eq!(profile.covers(Path::new(path)), is_covered, "{path}");
    }
    let told = world.after(&profile, || world.write("opt/b/plugins.dat", ""));
    assert_eq!(told, ["module b/plugins.dat added to /opt"]);
}

fn qemu(world: &World) -> Profile {
    let root = Root::open(world.0.path()).unwrap();
    Profile::load_in("qemu", &root).unwrap()
}

const ARM: &str = "usr/bin/qemu-system-arm";
const X86: &str = "/usr/bin/qemu-system-x86_64";

#[test]
fn an_upgrade_of_one_program_leaves_the_answers_of_the_others_fresh() {
    let world = World::new(&[ARM, X86, "usr/lib/qemu/a.so"]);
    let profile = qemu(&world);
    let [arm, x86] = [format!("/{ARM}"), X86.to_owned()];
    let [of_arm, of_x86] = [&arm, &x86].map(|path| profile.observe_for(path).unwrap());
    let of_all = profile.observe().unwrap();
    world.write(ARM, "upgraded");
    // One look serves all of them.
    let now = profile.inputs().unwrap();
    let judged = |witness: &Witness| {
        let stored: Witness = witness.to_string().parse().unwrap();
        let verdicts = [stored.judge(&now), stored.check(&profile).unwrap()];
        let [judged, checked] = verdicts.map(|verdict| sentences(&verdict));
        assert_eq!(judged, checked);
        assert_eq!(stored.disturbed(&now).is_none(), judged.is_empty());
        judged
    };
    assert_eq!(judged(&of_x86), NOTHING);
    assert_eq!(judged(&of_arm).len(), 1);
    assert_eq!(judged(&of_all).len(), 1);
    world.write("usr/lib/qemu/b.so", "");
    let told = sentences(&of_x86.check(&profile).unwrap());
    assert_eq!(told, ["module b.so added to /usr/lib/qemu"]);
    let question = qemu(&world).of_program(X86);
    let told = sentences(&of_arm.check(&question).unwrap());
    let other = format!("the witness is of {arm}, and the question about {X86}");
    assert!(told.contains(&other), "{told:?}");
    fs::remove_file(world.path(X86)).unwrap();
    let told = sentences(&of_x86.check(&profile).unwrap());
    assert!(told.contains(&format!("program {X86} removed")), "{told:?}");
}

/// QEMU finds its modules relative to its program (`get_relocated_path`, util/cutils.c).
#[test]
fn a_program_elsewhere_brings_the_modules_beside_it() {
    let program = "/opt/qemu/bin/qemu-system-x86_64";
    let world = World::new(&[program, "opt/qemu/lib/qemu/a.so", "opt/other/lib/qemu/a.so"]);
    let profile = qemu(&world).of_program(program);
    let told = world.after(&profile, || world.write("opt/other/lib/qemu/b.so", ""));
    assert_eq!(told, NOTHING);
    let told = world.after(&profile, || world.write("opt/qemu/lib/qemu/b.so", ""));
    assert_eq!(told, ["module b.so added to /opt/qemu/lib/qemu"]);
    let told = world.after(&profile, || world.write(program, "another"));
    assert_eq!(told.len(), 1, "{told:?}");
    // So does one that the profile names.
    let profile = qemu(&world).programs(["/opt/*/bin/qemu-system-*"]).unwrap();
    let told = world.after(&profile, || world.write("opt/qemu/lib/qemu/c.so", ""));
    assert_eq!(told, ["module c.so added to /opt/qemu/lib/qemu"]);
    assert!(profile.covers(Path::new("/opt/any/lib/x86_64-linux-gnu/qemu/a.so")));
}

/// QEMU looks beside its own file, wherever links to it are (`qemu_init_exec_dir`, util/cutils.c).
#[test]
fn each_program_behind_a_link_brings_the_modules_beside_its_own_file() {
    let [arm, x86] = ["arm", "x86_64"].map(|name| format!("/opt/{name}/bin/qemu-system-{name}"));
    let world = World::new(&[
        &arm,
        &x86,
        "opt/arm/lib/qemu/a.so",
        "opt/x86_64/lib/qemu/a.so",
    ]);
    fs::create_dir_all(world.path("usr/bin")).unwrap();
    // As update-alternatives(1) does it.
    fs::create_dir_all(world.path("etc/alternatives")).unwrap();
    symlink(&x86, world.path("etc/alternatives/qemu")).unwrap();
    symlink("/etc/alternatives/qemu", world.path(X86)).unwrap();
    symlink("../../opt/arm/bin/qemu-system-arm", world.path(ARM)).unwrap();
    let profile = qemu(&world);
    let [of_arm, of_x86] = [&format!("/{ARM}"), X86].map(|it| profile.observe_for(it).unwrap());
    let told = world.after(&profile, || world.write("opt/x86_64/lib/qemu/b.so", ""));
    assert_eq!(told, ["module b.so added to /opt/x86_64/lib/qemu"]);
    // One look serves all of them, and the directories of others do not count.
    let now = profile.inputs().unwrap();
    let judged = |witness: &Witness| {
        let verdicts = [witness.judge(&now), witness.check(&profile).unwrap()];
        let [judged, checked] = verdicts.map(|verdict| sentences(&verdict));
        assert_eq!(judged, checked);
        judged
    };
    assert_eq!(judged(&of_arm), NOTHING);
    assert!(of_arm.disturbed(&now).is_none());
    assert_eq!(judged(&of_x86), told);
    let status = world.modstamp(
        "programs = [\"/usr/bin/qemu-*\"]\nfiles = \
        [\"{program}/../lib/qemu/b.so\"]",
        &["status"],
        &[],
    );
    assert!(!status.1.contains("missing"), "{status:?}");
}

/// A look at all programs walks the shared directory by the first program's name for it.
#[test]
fn a_directory_that_links_of_two_programs_lead_to_counts_for_both() {
    let [arm, x86] = [
        "/opt/a/bin/qemu-system-arm",
        "/opt/z/bin/qemu-system-x86_64",
    ];
    let world = World::new(&[arm, x86, "opt/a/lib/qemu/a.so"]);
    fs::create_dir_all(world.path("usr/bin")).unwrap();
    symlink("../a/lib", world.path("opt/z/lib")).unwrap();
    symlink(arm, world.path(ARM)).unwrap();
    symlink(x86, world.path(X86)).unwrap();
    let profile = qemu(&world);
    let witnesses = [&format!("/{ARM}"), X86].map(|it| profile.observe_for(it).unwrap());
    let judged = |witness: &Witness| {
        let now = profile.inputs().unwrap();
        let judged = sentences(&witness.judge(&now));
        assert_eq!(judged, sentences(&witness.check(&profile).unwrap()));
        assert_eq!(witness.disturbed(&now).is_none(), judged.is_empty());
        judged
    };
    assert_eq!(witnesses.each_ref().map(judged), [NOTHING, NOTHING]);
    world.write("opt/a/lib/qemu/b.so", "");
    let added = ["a", "z"].map(|it| [format!("module b.so added to /opt/{it}/lib/qemu")]);
    assert_eq!(witnesses.each_ref().map(judged), added);
}

#[test]
fn another_tag_of_the_consumers_is_stale_with_that_reason() {
    let world = World::new(&["opt/a.so"]);
    let profile = world.profile().module_directories(["/opt"]).unwrap();
    let before = profile.clone().tagged("libvirt 11.2.0\nbuild 1");
    let witness: Witness = before.observe().unwrap().to_string().parse().unwrap();
    assert_eq!(witness.tag(), Some("libvirt 11.2.0\nbuild 1"));
    assert!(witness.check(&before).unwrap().is_fresh());
    let after = profile.clone().tagged("libvirt 11.3.0");
    let told = sentences(&witness.check(&after).unwrap());
    let expected = "consumer changed: it was “libvirt 11.2.0\\x0abuild 1”, now “libvirt 11.3.0”";
    assert_eq!(told, [expected]);
    let untagged = profile.observe().unwrap();
    let told = sentences(&untagged.check(&after).unwrap());
    assert_eq!(
        told,
        ["consumer changed: it was no tag, now “libvirt 11.3.0”"]
    );
}

#[test]
fn a_witness_that_lacks_what_the_profile_names_now_is_stale_with_that_reason() {
    let world = World::new(&["etc/x"]);
    let before = "files = [\"/etc/x\"]";
    let after = "files = [\"/etc/x\", \"$MY_FILES\"]\nvariables = [\"LIBVA_DRIVER_NAME\"]";
    let (_, witness) = world.modstamp(before, &["observe"], &[]);
    fs::write(world.path("witness"), &witness).unwrap();
    let check = ["check", &world.path("witness").display().to_string()];
    let (status, told) = world.modstamp(after, &check, &[]);
    let line =
        |what: &str| format!("stale: {what} was not observed, and the profile names it now\n");
    let variables = ["variable LIBVA_DRIVER_NAME", "variable MY_FILES"].map(line);
    assert_eq!(
        (status, told),
        (1, line("file $MY_FILES") + &variables.concat())
    );
}

/// Only of the running system is it known what the host gives.
#[test]
fn what_the_running_host_gives_counts_by_what_it_is_now() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("nested");
    let path = file.to_str().unwrap();
    let profile = Profile::new("x").unwrap().files(["/nowhere/x"]).unwrap();
    let profile = profile.host(["kernel", "cpu", "/dev/null", path]).unwrap();
    let witness: Witness = profile.observe().unwrap().to_string().parse().unwrap();
    for line in [
        "\nhost kernel =",
        "\nhost cpu =",
        "\nhost /dev/null =device\\x201:3,",
    ] {
        assert!(witness.to_string().contains(line), "{witness}");
    }
    assert_eq!(sentences(&witness.check(&profile).unwrap()), NOTHING);
    fs::write(&file, "Y\n").unwrap();
    let told = sentences(&witness.check(&profile).unwrap());
    assert_eq!(
        told,
        [format!("host's {path} changed: it was absent, now “Y”")]
    );
    let witness = profile.observe().unwrap();
    fs::write(&file, "N\n").unwrap();
    let told = sentences(&witness.check(&profile).unwrap());
    assert_eq!(
        told,
        [format!("host's {path} changed: it was “Y”, now “N”")]
    );
    let other = World::new(&[]);
    let root = Root::open(other.0.path()).unwrap();
    let elsewhere = profile.in_root(&root);
    assert!(!elsewhere.observe().unwrap().to_string().contains("\nhost "));
}

/// The kernel numbers miscellaneous devices anew at each boot. libvirt asks whether it may open one.
#[test]
fn a_device_counts_by_whether_the_caller_may_open_it() {
    let text = |device: &str| {
        let profile = Profile::new("x").unwrap().files(["/nowhere/x"]).unwrap();
        let witness = profile
            .host([device])
            .unwrap()
            .observe()
            .unwrap()
            .to_string();
        let start = format!("host {device} =");
        let line = witness.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("{witness}"))
            .replace("\\x20", " ")
    };
    let null = text("/dev/null");
    assert!(
        null.starts_with("device 1:3, mode 0666, ") && null.ends_with(", open to the caller"),
        "{null}"
    );
    // Nobody writes to the directory itself; root may.
    let directory = text("/dev");
    assert!(directory.starts_with("no device or file, "), "{directory}");
    let is_root = rustix::process::geteuid().is_root();
    let access = if is_root { "open" } else { "closed" };
    assert!(
        directory.ends_with(&format!(", {access} to the caller")),
        "{directory}"
    );
    if Path::new("/dev/fuse").exists() {
        let fuse = text("/dev/fuse");
        assert!(fuse.starts_with("device, mode "), "{fuse}");
    }
}

/// At boot a device may not be there yet, and libvirt compares what the host gives by itself.
#[test]
fn an_update_of_the_stamp_does_not_look_at_variables_or_the_host() {
    let world = World::new(&["opt/a.so"]);
    let text = "module-directories = [\"/opt\", \"$MY_PATH\"]\nvariables = [\"A\"]";
    let (status, text_of_update) = world.modstamp(text, &["update"], &[]);
    assert_eq!(status, 0, "{text_of_update}");
    let kept = fs::read_to_string(world.path("var/lib/modstamp/x.witness")).unwrap();
    assert!(kept.contains("\nscope packages\n"), "{kept}");
    let stamp = || {
        fs::metadata(world.path("var/lib/modstamp/x.stamp"))
            .unwrap()
            .modified()
            .unwrap()
    };
    let before = stamp();
    let (status, _) = world.modstamp(text, &["update"], &[("A", "1"), ("MY_PATH", "/opt")]);
    assert_eq!((status, stamp()), (0, before));
    // A person can ask by it what changed since.
    let check = [
        "check",
        &world
            .path("var/lib/modstamp/x.witness")
            .display()
            .to_string(),
    ];
    assert_eq!(world.modstamp(text, &check, &[("A", "1")]).1, "fresh\n");
}

#[test]
fn a_profile_that_matches_nothing_is_told_by_observe_and_status() {
    let world = World::new(&["opt/a.so"]);
    let nothing = "module-directories = [\"/op\"]";
    let warning = "modstamp: warning: nothing that the profile “x” names is on this host, ";
    for verb in ["observe", "status"] {
        let (status, told) = world.modstamp(nothing, &[verb], &[]);
        assert!(status == 0 && told.contains(warning), "{told}");
        let (_, told) = world.modstamp("module-directories = [\"/opt\"]", &[verb], &[]);
        assert!(!told.contains("warning"), "{told}");
    }
}

#[test]
fn status_lists_what_a_profile_names_and_what_is_missing() {
    let world = World::new(&["opt/a.so"]);
    let text = "module-directories = [\"/opt\", \"/op/*/x\", \"$MY_PATH/y\"]\n\
                programs = [\"/usr/bin/x\"]\nfiles = [\"{program}/../etc/x\"]";
    let (_, told) = world.modstamp(text, &["status"], &[]);
    let rows: Vec<Vec<&str>> = told
        .lines()
        .filter(|line| line.ends_with("missing"))
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|it| !it.is_empty())
                .collect()
        })
        .collect();
    let row = |what, item| vec!["x", what, item, "missing"];
    assert_eq!(
        rows,
        [
            row("module directory", "/op/*/x"),
            row("module directory", "$MY_PATH/y"),
            row("program", "/usr/bin/x"),
            row("file", "{program}/../etc/x"),
        ],
        "{told}"
    );
    let (_, json) = world.modstamp(text, &["status", "--json"], &[]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let missing = json["profiles"][0]["missing"].as_array().unwrap();
    assert_eq!(missing.len(), 4, "{json}");
    assert_eq!(
        missing[3],
        serde_json::json!({"input": "file", "item": "{program}/../etc/x"})
    );
}

/// Does `work` in a thread that may use one processor alone. A look then starts no other thread.
fn on_one_processor<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let pinned = || {
        let mut one = CpuSet::new();
        one.set(sched_getcpu());
        sched_setaffinity(None, &one).unwrap();
        work()
    };
    std::thread::scope(|scope| scope.spawn(pinned).join().unwrap())
}

#[test]
fn several_threads_see_what_one_sees_and_tell_it_in_the_same_order() {
    let world = World::new(&["below/other.so"]);
    for number in 0..9_000 {
        let module = format!("modules/{number}.so");
        match number % 1000 {
            1 => world.write(&format!("modules/{number}/below.so"), "before"),
            2 => symlink("1.so", world.path(&module)).unwrap(),
            3 => symlink("../below", world.path(&module)).unwrap(),
            _ => world.write(&module, "before"),
        }
    }
    let profile = world.profile().module_directories(["/modules"]).unwrap();
    let witness = profile.observe().unwrap();
    let of_one = on_one_processor(|| profile.observe().unwrap());
    let reasons = || {
        let [by_many, by_one] = [&witness, &of_one].map(|witness| {
            let by_one = on_one_processor(|| sentences(&witness.check(&profile).unwrap()));
            assert_eq!(sentences(&witness.check(&profile).unwrap()), by_one);
            by_one
        });
        assert_eq!(by_many, by_one);
        by_one
    };
    assert_eq!(reasons(), NOTHING);
    world.write("below/other.so", "after!");
    for number in (10..9_000).step_by(100) {
        world.write(&format!("modules/{number}.so"), "after!");
    }
    // The nine links to the directory lead to one module.
    assert_eq!(reasons().len(), 90 + 1, "{:?}", reasons());
}
