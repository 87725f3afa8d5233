//! The items of a profile, in a file and in code, and the errors of a wrong one.

use std::fs;
use std::path::Path;
use std::process::Command;

use modstamp::{Profile, Root, Verdict};
use support::sources;

/// A scratch root with profiles' files in it.
struct World(tempfile::TempDir);

impl World {
    fn new(files: &[(&str, &str)]) -> World {
        let world = World(tempfile::tempdir().unwrap());
        for (path, text) in files {
            let path = world.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        world
    }

    fn root(&self) -> Root {
        Root::open(self.0.path()).unwrap()
    }

    fn load(&self, name: &str) -> modstamp::Result<Profile> {
        Profile::load_in(name, &self.root())
    }

    fn error(&self, name: &str) -> String {
        let error = self.load(name).unwrap_err().to_string();
        error.replace(&self.0.path().display().to_string(), "")
    }
}

fn covers(profile: &Profile, path: &str) -> bool {
    profile.covers(Path::new(path))
}

#[test]
fn qemu_is_built_in_and_its_file_says_the_same() {
    let world = World::new(&[]);
    let built_in = format!("{:?}", world.load("qemu").unwrap());
    let text = include_str!("../../packaging/qemu.toml");
    let same = World::new(&[("etc/modstamp/profiles.d/qemu.toml", text)]);
    let strip = |text: String| text.split_once("directories: ").unwrap().1.to_owned();
    assert_eq!(
        strip(format!("{:?}", same.load("qemu").unwrap())),
        strip(built_in)
    );
}

#[test]
fn qemu_covers_the_module_directories_of_every_distribution_and_nothing_beside_them() {
    let qemu = World::new(&[]).load("qemu").unwrap();
    for path in [
        "/usr/lib64/qemu/hw-display-qxl.so",
        "/usr/lib64/qemu-kvm/accel-tcg-x86_64.so",
        "/usr/lib/qemu/a.so",
        "/usr/lib/x86_64-linux-gnu/qemu/block-rbd.so",
        "/usr/lib/x86_64-linux-gnu/qemu",
        "/usr/local/lib64/qemu/a.so",
        "/usr/local/lib/qemu/below/a.so",
        "/run/qemu/8.2.0/a.so",
        "//usr//lib64/qemu//a.so",
        "/usr/lib64/x/../qemu/a.so", // Nobody sends this. A needless touch does no harm.
    ] {
        assert!(covers(&qemu, path), "{path}");
    }
    for path in [
        "/usr/lib64/qemu-anything/a.so",
        "/usr/lib64/qemu.so",
        "/usr/lib64",
        "/usr/bin/qemu-system-x86_64",
        "/usr/lib/a/b/qemu/a.so",
        "/usr/lib/ipxe/qemu/efi-e1000.rom",
        "/opt/usr/lib64/qemu/a.so",
        "/run/qemu",
        "usr",
    ] {
        assert!(!covers(&qemu, path), "{path}");
    }
}

#[test]
fn a_later_file_overrides_an_earlier_one_key_by_key() {
    let world = World::new(&[
        (
            "usr/lib/modstamp/profiles.d/gst.toml",
            "module-directories = [\"/a\"]\nprograms = [\"/p\"]",
        ),
        (
            "run/modstamp/profiles.d/gst.toml",
            "module-directories = [\"/b\"]",
        ),
        (
            "etc/modstamp/profiles.d/gst.toml",
            "module-directories = [\"/c\", \"$GST_PLUGIN_PATH\"]",
        ),
        (
            "etc/modstamp/profiles.d/qemu.toml",
            "programs = [\"/opt/qemu\"]",
        ),
    ]);
    let gst = world.load("gst").unwrap();
    assert_eq!(
        ["/a/x", "/b/x", "/c/x"].map(|path| covers(&gst, path)),
        [false, false, true]
    );
    assert!(format!("{gst:?}").contains("GST_PLUGIN_PATH"));
    assert!(
        format!("{gst:?}").contains("\"/p\""),
        "the key that only the first file has stays"
    );
    let qemu = world.load("qemu").unwrap();
    assert!(covers(&qemu, "/usr/lib64/qemu/a.so") && format!("{qemu:?}").contains("opt"));
    assert_eq!(Profile::names(&world.root()), ["gst", "nbdkit", "qemu"]);
}

#[test]
fn a_users_own_profile_overrides_the_systems() {
    let world = World::new(&[
        (
            "etc/modstamp/profiles.d/x.toml",
            "module-directories = [\"/a\"]",
        ),
        (
            "home/me/.config/modstamp/profiles.d/x.toml",
            "module-directories = [\"/mine\"]",
        ),
        ("mine/a.so", ""),
        ("a/a.so", ""),
    ]);
    let status = |home: &str, user: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_modstamp"));
        command
            .args(["status", "--json", "--profile", "x", "--root"])
            .arg(world.0.path());
        command.env_remove("XDG_CONFIG_HOME").env("HOME", home);
        let output = command.output().unwrap();
        assert!(output.status.success());
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).contains("\"/mine\""),
            user
        );
    };
    status("/home/me", true);
    status("/home/you", false);
}

#[test]
fn a_wrong_profile_is_told_with_file_line_key_and_what_would_be_right() {
    for (text, expected) in [
        (
            "\nmodule-dirs = [\"/a\"]",
            ":2: there is no key “module-dirs”; the keys are module-directories, programs, files",
        ),
        (
            "files = []\nprograms = \"/usr/bin/x\"",
            ":2: “programs” is of type string; write a list, programs = [\"/usr/…\"]",
        ),
        (
            "programs = [\n  \"/a\",\n  7,\n]",
            ":3: “programs” holds something of type integer; write \"/usr/…\"",
        ),
        (
            "files = [\"etc/x\"]",
            ":1: “files” holds “etc/x”, a relative path; begin it with “/”",
        ),
        (
            "files = [\"/etc/../x\"]",
            ":1: “files” holds “/etc/../x”, a path with “..”; write it without",
        ),
        (
            "files = [\"/etc/[a\"]",
            ":1: “files” holds “/etc/[a”, a bad pattern: ",
        ),
        (
            "module-directories = [\"/usr/**/qemu\"]",
            "a bad pattern: “*” matches within one name",
        ),
        (
            "module-directories = [\"/\"]",
            "the root directory; name one below it",
        ),
        (
            "programs = [\"{program}/../a\"]",
            "which is {program} itself; write the program's path",
        ),
        (
            "files = [\"{program}\"]",
            "no path; write \"{program}/../lib/NAME\"",
        ),
        (
            "variables = [\"$A\"]",
            "which names no environment variable; write its name without “$”",
        ),
        (
            "host = [\"memory\"]",
            "which is none; write \"kernel\", \"cpu\", or an absolute path without “*”",
        ),
        (
            "exclude = [\"a/../b\"]",
            "a path with “..”; write it without",
        ),
        (
            "module-directories = [\"$\"]",
            "which names no environment variable",
        ),
        ("programs = [", ":1: "),
        ("a\0b", ":1: "),
        ("= = =", ":1: "),
    ] {
        let world = World::new(&[("etc/modstamp/profiles.d/x.toml", text)]);
        let error = world.error("x");
        let start = "/etc/modstamp/profiles.d/x.toml:";
        assert!(
            error.starts_with(start) && error.contains(expected),
            "{text:?}: {error}"
        );
    }
}

#[test]
fn a_profile_that_is_none_is_told() {
    let large = format!("# {}", "x".repeat(10 << 20));
    let world = World::new(&[
        ("etc/modstamp/profiles.d/empty.toml", ""),
        ("etc/modstamp/profiles.d/large.toml", &large),
    ]);
    let directory = world.0.path().join("etc/modstamp/profiles.d");
    fs::write(
        directory.join("binary.toml"),
        b"files = []\n\xff\xfe\x00\x01",
    )
    .unwrap();
    fs::create_dir(directory.join("directory.toml")).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(directory.join("fifo.toml"))
            .status()
            .unwrap()
            .success()
    );
    for (name, expected) in [
        (
            "empty",
            "the profile empty names nothing to watch; give it module-directories",
        ),
        (
            "large",
            "/large.toml: it is larger than 1 MiB; name a text file of a few lines",
        ),
        (
            "binary",
            "/etc/modstamp/profiles.d/binary.toml:2: this is not text in UTF-8",
        ),
        ("directory", "/directory.toml: it is not a regular file"),
        ("fifo", "/fifo.toml: it is not a regular file"),
        (
            directory.join("fifo.toml").to_str().unwrap(),
            "/fifo.toml: it is not a regular file",
        ),
        (
            "missing",
            "there is no profile “missing”; write it to /etc/modstamp/profiles.d/missing.toml, or name one of: ",
        ),
        ("../etc", "cannot read the profile ../etc: "),
        ("", "“” cannot be a profile's name"),
        ("-x", "“-x” cannot be a profile's name"),
        ("a b\n", "“a b\\x0a” cannot be a profile's name"),
    ] {
        let error = world.error(name);
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn a_profile_named_by_a_path_is_read_alone() {
    let world = World::new(&[("here/own.toml", "module-directories = [\"/own\"]")]);
    let path = world.0.path().join("here/own.toml");
    let profile = world.load(path.to_str().unwrap()).unwrap();
    assert!(profile.name().starts_with("own-"), "{}", profile.name());
    assert!(covers(&profile, "/own/a.so"));
}

#[test]
fn two_files_of_one_name_share_neither_a_stamp_nor_answers() {
    let text = "module-directories = [\"/opt\"]";
    let files = ["one/x.toml", "two/x.toml"];
    let world = World::new(&files.map(|file| (file, text)));
    let path = |file: &str| world.0.path().join(file).display().to_string();
    let names = files.map(|file| world.load(&path(file)).unwrap().name().to_owned());
    assert_ne!(names[0], names[1]);
    // A file has one name, however its path is written.
    std::os::unix::fs::symlink(path("one"), path("link")).unwrap();
    for same in ["link/x.toml", "two/../one/x.toml"] {
        assert_eq!(world.load(&path(same)).unwrap().name(), names[0], "{same}");
    }
    let [one, two] = files.map(|file| world.load(&path(file)).unwrap());
    let stamps = [&one, &two].map(|it| it.stamps()[0].path().to_owned());
    assert_ne!(stamps[0], stamps[1]);
    let witness = one.observe().unwrap();
    assert!(witness.check(&one).unwrap().is_fresh());
    assert!(!witness.check(&two).unwrap().is_fresh());
}

#[test]
fn a_system_profile_that_anybody_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new(&[("etc/modstamp/profiles.d/x.toml", "files = [\"/a\"]")]);
    let directory = world.0.path().join("etc/modstamp/profiles.d");
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
    let error = world.error("x");
    assert!(
        error.contains("refused to read the profile") && error.contains("by every user"),
        "{error}"
    );
}

fn thumbnails(world: &World) -> modstamp::Result<Profile> {
    Profile::new("thumbnails")?
        .in_root(&world.root())
        .module_directories(["/usr/lib/thumbnailers"])?
        .programs(["/usr/bin/thumb*"])?
        .files(vec![String::from("/etc/thumbnails.conf")])
}

#[test]
fn a_profile_that_is_built_in_code_is_observed_and_checked_like_any_other() {
    let world = World::new(&[
        ("usr/lib/thumbnailers/png.so", "png"),
        ("usr/bin/thumbnailer", "program"),
        ("etc/thumbnails.conf", "size = 1"),
    ]);
    let profile = thumbnails(&world).unwrap();
    assert!(covers(&profile, "/usr/lib/thumbnailers/svg.so"));
    let stamp = world.0.path().join("var/lib/modstamp/thumbnails.stamp");
    assert_eq!(profile.stamps()[0].path(), stamp);
    for (changed, reason) in [
        ("usr/lib/thumbnailers/png.so", "module png.so in "),
        ("usr/bin/thumbnailer", "program /usr/bin/thumbnailer "),
        ("etc/thumbnails.conf", "file /etc/thumbnails.conf "),
    ] {
        let before = profile.observe().unwrap();
        assert_eq!(before.check(&profile).unwrap(), Verdict::Fresh);
        fs::write(world.0.path().join(changed), "another content").unwrap();
        let verdict = before.check(&profile).unwrap();
        let reasons = verdict.reasons_for_people(10).join("; ");
        assert!(reasons.starts_with(reason), "{reasons}");
    }
}

#[test]
fn a_profile_that_is_built_in_code_is_the_one_that_a_file_of_the_same_text_is() {
    let text = "module-directories = [\"/usr/lib/thumbnailers\"]\n\
                programs = [\"/usr/bin/thumb*\"]\n\
                files = [\"/etc/thumbnails.conf\"]";
    let world = World::new(&[("etc/modstamp/profiles.d/thumbnails.toml", text)]);
    let of_file = format!("{:?}", world.load("thumbnails").unwrap());
    let built = format!("{:?}", thumbnails(&world).unwrap());
    // The descriptors of the roots differ.
    let strip = |text: String| text.split_once("directories: ").unwrap().1.to_owned();
    assert_eq!(strip(built), strip(of_file));
}

#[test]
fn a_wrong_item_in_code_is_told_with_the_item_and_what_would_be_right() {
    let errors = [
        Profile::new("a b"),
        Profile::new("x").unwrap().module_directories(["usr/lib"]),
        Profile::new("x")
            .unwrap()
            .programs(["/usr/bin", "{program}/x"]),
        Profile::new("x").unwrap().files(["/etc/../x"]),
        Profile::new("x").unwrap().module_directories(["$A B"]),
    ]
    .map(|profile| profile.unwrap_err().to_string());
    let expected = [
        "“a b” cannot be a profile's name; use letters, digits, “-”, “_”, “.” and “+”, as in “qemu”",
        "the profile x is wrong: “module-directories” holds “usr/lib”, a relative path; begin it with “/”",
        "the profile x is wrong: “programs” holds “{program}/x”, which is {program} itself; write the program's path",
        "the profile x is wrong: “files” holds “/etc/../x”, a path with “..”; write it without",
        "the profile x is wrong: “module-directories” holds “$A B”, which names no environment variable; write \"$NAME\" or \"$NAME/…\"",
    ];
    assert_eq!(errors, expected);
}

#[test]
fn a_profile_that_names_nothing_is_refused_in_code_too() {
    let world = World::new(&[]);
    let profile = Profile::new("x").unwrap().in_root(&world.root());
    let error = profile.observe().unwrap_err().to_string();
    assert!(
        error.starts_with("the profile x names nothing to watch; "),
        "{error}"
    );
    let profile = profile.files(["/etc/x"]).unwrap();
    assert!(profile.observe().is_ok());
}

#[test]
fn each_profile_that_is_shipped_loads_and_packages_bring_no_other_of_its_name() {
    let packaging = sources().join("packaging");
    let tool = fs::read_to_string(packaging.join("debhelper/dh_modstamp")).unwrap();
    let (_, list) = tool.split_once("qw(").unwrap();
    let list = list.split(')').next().unwrap().split_whitespace();
    let mut known: Vec<&str> = list.collect();
    let files = fs::read_dir(packaging.join("profiles")).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    let loaded = files.iter().map(|file| {
        Profile::load(file.to_str().unwrap()).unwrap();
        file.file_stem().unwrap().to_str().unwrap().to_owned()
    });
    let mut shipped: Vec<String> = loaded.collect();
    shipped.extend(["nbdkit", "qemu"].map(str::to_owned));
    shipped.sort();
    known.sort_unstable();
    assert_eq!(known, shipped);
}
