//! The sources with all crates, as `make dist-vendored` packs them, built as distributions do: by
//! Debian 13's own toolchain, with no network and no cargo's home.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use support::machine::Machine;
use support::test::{self, Needs, Test};
use support::{built, named, run};

pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&PROGRAMS);
    let long = needs.clone().of_release();
    test::tests(&needs, SCENARIOS)
        .chain(test::tests(&long, LONG))
        .collect()
}

const PROGRAMS: [&str; 9] = [
    "cargo",
    "chroot",
    "dpkg-deb",
    "flock",
    "git",
    "make",
    "mmdebstrap",
    "mount",
    "unshare",
];

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![
    debian_13s_own_toolchain_builds_the_packages_offline,
    the_oldest_rustc_that_is_promised_compiles_everything,
    rpms_trigger_without_std_runs_on_aarch64,
    the_same_commit_gives_the_same_sources,
    the_sources_have_no_binaries,
];

const LONG: &[(&str, Scenario)] = named![
    two_builds_with_tests_and_without_in_different_paths_give_the_same_bytes,
    rpmbuild_takes_the_sources_and_their_tests_pass,
];

fn debian_13s_own_toolchain_builds_the_packages_offline() {
    assert_ne!(names(&SECOND, ".deb"), [""; 0]);
}

fn two_builds_with_tests_and_without_in_different_paths_give_the_same_bytes() {
    let (second, first) = (&*SECOND, &*FIRST);
    let packages = names(first, ".deb");
    assert_eq!(packages, names(second, ".deb"));
    for name in packages {
        let [one, other] = [first, second].map(|directory| directory.join(&name));
        if fs::read(&one).unwrap() != fs::read(&other).unwrap() {
            panic!("{name} differs: {}", difference(&one, &other));
        }
    }
}

fn rpmbuild_takes_the_sources_and_their_tests_pass() {
    // --nodeps: the requirements are there, but not as rpm packages. Debian's rpm has no macros of
    // systemd's.
    let script = r#"
        rpmbuild -ta --nodeps --define '_topdir /srv/top' \
            --define '_tmpfilesdir /usr/lib/tmpfiles.d' \
            --define '_unitdir /usr/lib/systemd/system' --define '_presetdir /usr/lib/systemd/system-preset' \
            --define '_userunitdir /usr/lib/systemd/user' --define '_userpresetdir /usr/lib/systemd/user-preset' \
            "$SOURCES"
        cp /srv/top/SRPMS/*.rpm /srv/top/RPMS/*/*.rpm "$1"
    "#;
    let packages = once("rpm", |machine, to| {
        run(offline(machine).args(["sh", "-exc", script, "sh", to]));
    });
    let packages = names(&packages, ".rpm");
    for package in ["modstamp-0", "modstamp-qemu-0"] {
        let is_there = packages.iter().any(|name| name.starts_with(package));
        assert!(is_there, "{packages:?}");
    }
}

fn the_oldest_rustc_that_is_promised_compiles_everything() {
    let promised = env!("CARGO_PKG_RUST_VERSION");
    let script = r#"
        rustc --version | grep -F "rustc $1."
        cd /tmp
        tar -xf "$SOURCES"
        cd modstamp-*
        cargo check --all-targets --all-features --locked
    "#;
    once("checked", |machine, _| {
        run(offline(machine).args(["sh", "-exc", script, "sh", promised]));
    });
}

/// Debian 13's rustc builds the program, and qemu(1) runs it: this machine's processor is another.
fn rpms_trigger_without_std_runs_on_aarch64() {
    let packages = [
        "cargo",
        "gcc",
        "gcc-aarch64-linux-gnu",
        "libc6-dev",
        "make",
        "qemu-user",
    ];
    let machine = Machine::new("trixie", &[&packages[..], &["rustc"]].concat());
    machine.put(sources(), SOURCES);
    // core and alloc for aarch64, without the packages that this one requires.
    machine.sh("dpkg --add-architecture arm64
        cd /tmp
        apt-get -qq update
        apt-get -qq download libstd-rust-dev:arm64
        dpkg -x libstd-rust-dev_*_arm64.deb /");
    let build = r#"
        cd /tmp
        tar -xf "$SOURCES"
        cd modstamp-*
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
        make --silent trigger HOST=aarch64-unknown-linux-gnu
        cp target/aarch64-unknown-linux-gnu/trigger/modstamp-rpm-trigger /srv/trigger
    "#;
    run(offline(&machine).args(["sh", "-exc", build]));
    let program = machine.root.join("srv/trigger");
    let size = fs::metadata(&program).unwrap().len();
    assert!(size <= 64 << 10, "{size} bytes");
    machine.sh("echo --profile qemu /usr/lib64/qemu x > /srv/body");
    let trigger = |environment: &str, path: &str| {
        let command = format!("echo {path} | {environment} qemu-aarch64 /srv/trigger /srv/body");
        let warnings = machine.sh(&format!("{command} 2>&1"));
        assert_eq!(
            warnings.trim_end(),
            "modstamp: warning: the body of rpm's trigger has “x”; it may have --profile NAME, \
             --no-sync and directories"
        );
        fs::read_to_string(machine.root.join("var/lib/modstamp/qemu.stamp")).ok()
    };
    assert_eq!(trigger("", "/usr/lib64/qemu-x/a.so"), None);
    assert_eq!(trigger("SOURCE_DATE_EPOCH=1", "/usr/lib64/qemu/a.so"), None);
    let stamp = trigger("", "/usr/lib64/qemu/a.so").unwrap();
    let why = "why: /usr/lib64/qemu/a.so came, went or was replaced\n";
    assert!(stamp.contains(why), "{stamp}");
    let again = trigger("", "/usr/lib64/qemu/a.so").unwrap();
    assert_ne!(again, stamp);
}

fn the_same_commit_gives_the_same_sources() {
    let [one, other] = PACKED.each_ref().map(|file| fs::read(file).unwrap());
    assert!(one == other, "{PACKED:?} differ");
}

fn the_sources_have_no_binaries() {
    let directory = tempfile::tempdir().unwrap();
    run(Command::new("tar")
        .arg("-xf")
        .arg(sources())
        .current_dir(directory.path()));
    let files = run(Command::new("find")
        .args([".", "-type", "f"])
        .current_dir(directory.path()));
    let endings = [
        ".a", ".dll", ".dylib", ".exe", ".lib", ".o", ".rlib", ".so", ".wasm",
    ];
    let beginnings: [&[u8]; 5] = [
        b"\x7fELF",
        b"!<arch>\n",
        b"MZ",
        b"\0asm",
        b"\xcf\xfa\xed\xfe",
    ];
    let is_binary = |file: &&str| {
        let content = fs::read(directory.path().join(file)).unwrap();
        endings.iter().any(|ending| file.ends_with(ending))
            || beginnings.iter().any(|bytes| content.starts_with(bytes))
    };
    let binaries: Vec<&str> = files.lines().filter(is_binary).collect();
    assert_eq!(binaries, [""; 0]);
    assert!(files.contains("/vendor/"), "{files}");
}

/// One way to build the packages of Debian's.
struct Build {
    name: &'static str,
    directory: &'static str,
    user: &'static str,
    umask: &'static str,
    host: &'static str,
    environment: [(&'static str, &'static str); 4],
}

static FIRST: LazyLock<PathBuf> = LazyLock::new(|| {
    Build {
        name: "first",
        directory: "/srv/a",
        user: "builder",
        umask: "022",
        host: "one",
        environment: [
            ("DEB_BUILD_OPTIONS", ""),
            ("HOME", "/nonexistent"),
            ("LC_ALL", "C"),
            ("TZ", "UTC"),
        ],
    }
    .build()
});

/// All that may differ from one builder to another does.
static SECOND: LazyLock<PathBuf> = LazyLock::new(|| {
    Build {
        name: "second",
        directory: "/srv/some/longer/path.d",
        user: "root",
        umask: "002",
        host: "other.example.org",
        environment: [
            ("DEB_BUILD_OPTIONS", "nocheck"),
            ("HOME", "/srv/home"),
            ("LC_ALL", "C.UTF-8"),
            ("TZ", "Pacific/Auckland"),
        ],
    }
    .build()
});

impl Build {
    /// Builds them, unless they were built before.
    fn build(&self) -> PathBuf {
        let script = r#"
            hostname "$4"
            umask "$3"
            id "$2" || useradd "$2"
            mkdir -p "$1"
            cd "$1"
            tar --no-same-permissions -xf "$SOURCES"
            chown -R "$2:" .
            cd modstamp-*
            runuser -u "$2" -- dpkg-buildpackage -us -uc -b
            cp ../*.deb "$5"
        "#;
        once(self.name, |machine, to| {
            run(offline(machine)
                .args(["sh", "-exc", script, "sh", self.directory, self.user])
                .args([self.umask, self.host, to])
                .envs(self.environment));
        })
    }
}

/// A machine with Debian 13's own toolchain, and the packages that those of `debian/` are built
/// with.
fn machine() -> Machine {
    let (source, _) = include_str!("../../debian/control")
        .split_once("\n\n")
        .unwrap();
    let source = source.replace("\n ", " ");
    let fields = source.lines().filter_map(|line| line.split_once(": "));
    let mut packages: Vec<&str> = fields
        .filter(|(field, _)| field.starts_with("Build-Depends"))
        .flat_map(|(_, needs)| needs.split(','))
        // Without versions, architectures and profiles.
        .filter_map(|need| need.trim().split([' ', ':']).next())
        .collect();
    packages.extend(["build-essential", "rpm"]);
    Machine::new("trixie", &packages)
}

/// Where machines have the sources. rpmbuild wants them to have the name that the spec has for
/// them.
const SOURCES: &str = concat!(
    "/srv/modstamp-",
    env!("CARGO_PKG_VERSION"),
    "-vendored.tar.gz"
);

/// A command of the machine, with no network.
fn offline(machine: &Machine) -> Command {
    let mut command = machine.command("unshare");
    command
        .args(["--net", "--uts", "--"])
        .env("SOURCES", SOURCES);
    command
}

/// What `build` leaves in the directory that it is given, for these sources and this toolchain.
fn once(name: &str, build: impl FnOnce(&Machine, &str)) -> PathBuf {
    let machine = machine();
    let toolchain = fs::read(machine.root.join("var/lib/dpkg/status")).unwrap();
    let toolchain = &blake3::hash(&toolchain).to_hex()[..16];
    let built = sources().with_file_name(format!("{name}-{toolchain}"));
    if !built.exists() {
        machine.put(sources(), SOURCES);
        fs::create_dir(machine.root.join("srv/built")).unwrap();
        build(&machine, "/srv/built");
        let new = built.with_extension("new");
        let _ = fs::remove_dir_all(&new);
        run(Command::new("cp")
            .arg("-r")
            .arg(machine.root.join("srv/built"))
            .arg(&new));
        fs::rename(new, &built).unwrap();
    }
    built
}

/// The sources of the working tree, packed once for each state of it.
fn sources() -> &'static Path {
    &PACKED[0]
}

/// The sources, and the same packed again by somebody else.
static PACKED: LazyLock<[PathBuf; 2]> = LazyLock::new(|| {
    let script = r#"
        packed=$1/$tree-$(rustc -V | sha256sum | cut -c -16)
        echo "$packed"
        if [ -e "$packed" ]; then exit; fi

        exec >&2
        find "$1" -mindepth 1 -maxdepth 1 ! -name lock -mmin +600 -exec rm -r {} +
        export GIT_AUTHOR_NAME=test GIT_AUTHOR_EMAIL= GIT_AUTHOR_DATE='1700000000 +0000'
        export GIT_COMMITTER_NAME=test GIT_COMMITTER_EMAIL= GIT_COMMITTER_DATE='1700000000 +0000'
        commit=$(git commit-tree -m test "$tree")
        make dist-vendored TREE="$commit" DISTDIR="$packed.new"
        umask 077
        TZ=Asia/Tokyo make dist-vendored TREE="$commit" DISTDIR="$packed.new/again"
        mv "$packed.new" "$packed"
    "#;
    let packed = built::of_working_tree("vendored", script)
        .unwrap_or_else(|error| panic!("the sources cannot be packed: {error}"));
    let name = concat!("modstamp-", env!("CARGO_PKG_VERSION"), "-vendored.tar.gz");
    ["", "again"].map(|directory| packed.join(directory).join(name))
});

/// The names of the files in a directory that end so, in their order.
fn names(directory: &Path, ending: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(ending)).collect();
    names.sort_unstable();
    names
}

/// Which files of two packages differ.
fn difference(one: &Path, other: &Path) -> String {
    let script = r#"
        scratch=$(mktemp -d)
        trap 'rm -rf "$scratch"' EXIT
        dpkg-deb -R "$1" "$scratch/one"
        dpkg-deb -R "$2" "$scratch/other"
        cd "$scratch"
        diff -r one other || :
        for side in one other; do (cd $side && find . -printf '%p %m %s %T@ %l\n' | sort > ../$side.list); done
        diff one.list other.list || :
    "#;
    run(Command::new("sh")
        .args(["-ec", script, "sh"])
        .args([one, other]))
}
