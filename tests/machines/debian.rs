//! The Debian packages as Debian's archive asks for them: lintian is silent, the packages' own
//! tests pass where they are installed, and a purge leaves nothing.
//!
//! The packages that `debian/` builds are installed in throw-away machines, as they are.

use std::collections::BTreeSet;
use std::process::Command;

use support::deb::{self, Host, RELEASES, Release, add_repository, all_built, module};
use support::test::{Needs, Test, test};
use support::{named, run};

pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&[&deb::PROGRAMS[..], &["autopkgtest"]].concat());
    let of = |release: &'static Release| {
        let of = |(name, scenario): &(&str, Scenario)| {
            let (name, scenario) = (format!("{}::{name}", release.suite), *scenario);
            test(name, &needs, move || {
                let host = Host::bare(release, &release.builder());
                scenario(&host);
                host.is_well();
            })
        };
        SCENARIOS.iter().map(of).collect::<Vec<_>>()
    };
    RELEASES.iter().flat_map(of).collect()
}

type Scenario = fn(&Host);

const SCENARIOS: &[(&str, Scenario)] = named![
    lintian_has_nothing_to_say,
    the_packages_own_tests_pass,
    packages_that_come_and_go_leave_nothing,
    packages_that_go_in_the_other_order_leave_nothing,
    packages_that_were_upgraded_leave_nothing,
    every_link_of_the_readme_leads_to_a_file,
    the_program_has_nothing_of_the_c_library_in_it,
];

/// What `debian/` builds, each after what it depends on.
const PACKAGES: [&str; 7] = [
    "modstamp",
    "modstamp-qemu",
    "modstamp-ecosystems",
    "libmodstamp0",
    "libmodstamp-dev",
    "python3-modstamp",
    "dh-modstamp",
];

/// Tags that say nothing about the packages, with a comma between them.
fn suppressed(release: &Release) -> &str {
    // Machine code can look like a misspelt word, and is other code in every build.
    match release.suite {
        // Its policy is of 2022. It knows neither Static-Built-Using nor the standards of 2025, and
        // takes a drop-in for a daemon.
        "bookworm" => {
            "spelling-error-in-binary,newer-standards-version,unknown-field,\
             package-supports-alternative-init-but-no-init.d-script"
        }
        _ => "spelling-error-in-binary",
    }
}

fn lintian_has_nothing_to_say(host: &Host) {
    for file in all_built() {
        let name = file.file_name().unwrap().to_str().unwrap();
        host.machine.put(&file, &format!("/srv/{name}"));
    }
    let suppressed = suppressed(host.release);
    let printed = host.sh(&format!(
        "lintian --allow-root --info --display-info --pedantic --suppress-tags '{suppressed}' /srv/*.changes || true"
    ));
    assert_eq!(printed, "");
    // It did look at all of it: the overridden tags are there.
    let printed =
        host.sh("lintian --allow-root --display-info --pedantic --show-overrides /srv/*.changes");
    for name in ["modstamp", "libmodstamp0"] {
        assert!(printed.contains(&format!("O: {name}: ")), "{printed}");
    }
}

/// In the machine, with apt's packages from a directory in it.
fn the_packages_own_tests_pass(host: &Host) {
    add_repository(host);
    let built = all_built();
    let of_kind = |kind: &'static str| {
        let is_it = move |path: &&std::path::PathBuf| path.extension().is_some_and(|e| e == kind);
        built.iter().filter(is_it)
    };
    let mut command = Command::new("timeout");
    command.args(["240", "autopkgtest", "--no-built-binaries"]);
    command.args(of_kind("deb")).args(of_kind("dsc"));
    command.args(["--", "chroot"]).arg(&host.machine.root);
    let printed = run(&mut command);
    for name in ["qemu-module", "c-library", "debhelper", "python"] {
        let passed = printed
            .lines()
            .any(|line| line.split_whitespace().eq([name, "PASS"]));
        assert!(passed, "{name}: {printed}");
    }
}

/// All files with kinds, modes, owners and the targets of links. It omits the files of apt, dpkg,
/// ldconfig and man-db, and the directory with the tests' packages.
fn files(host: &Host) -> BTreeSet<String> {
    let printed = host.sh(
        r"find / -xdev \( -path /proc -o -path /srv -o -path /var/lib/dpkg -o -path /var/log \
            -o -path /var/cache/ldconfig -o -path /var/cache/man \) -prune -o -printf '%p %y %m %u:%g %l\n'",
    );
    printed.lines().map(str::to_owned).collect()
}

/// Does something after which all is as it was; what happens in between is `action`'s.
fn leaves_nothing(host: &Host, action: impl FnOnce()) {
    let before = files(host);
    action();
    let after = files(host);
    let different: Vec<_> = before.symmetric_difference(&after).collect();
    assert!(different.is_empty(), "{different:#?}");
    let known = host.sh("grep -rl modstamp /var/lib/dpkg --exclude='*-old' || true");
    assert_eq!(known, "");
}

/// All that makes state: a touch, a trigger, a refresh of libvirt, and what a killed program
/// leaves.
fn use_it(host: &Host) {
    host.sh("modstamp touch; modstamp libvirt refresh");
    let a = host.package("a", "1", &[&module("a.so")]);
    assert!(host.machine.moves(|| host.dpkg(&format!("--install {a}"))));
    assert!(host.machine.moves(|| host.dpkg("--purge a")));
    host.sh(
        "cd /var/lib/modstamp; test -e qemu.stamp; test -e qemu.libvirt; test -e .qemu.lock
         touch .qemu.stamp.new .qemu.stamp.new.123 .qemu.libvirt.new nbdkit.stamp",
    );
}

fn packages_that_come_and_go_leave_nothing(host: &Host) {
    leaves_nothing(host, || {
        host.install_built(&PACKAGES);
        use_it(host);
        host.dpkg(&format!("--remove {}", PACKAGES.join(" ")));
        host.dpkg("--purge modstamp-qemu modstamp-ecosystems");
        host.dpkg("--purge modstamp");
    });
}

fn packages_that_go_in_the_other_order_leave_nothing(host: &Host) {
    leaves_nothing(host, || {
        host.install_built(&PACKAGES);
        use_it(host);
        host.dpkg(&format!("--remove {}", PACKAGES.join(" ")));
        host.dpkg("--purge modstamp");
        host.dpkg("--purge modstamp-qemu modstamp-ecosystems");
    });
}

fn packages_that_were_upgraded_leave_nothing(host: &Host) {
    leaves_nothing(host, || {
        host.install_built(&PACKAGES);
        use_it(host);
        let new = PACKAGES.map(|name| host.rebuilt(name, "99")).join(" ");
        assert!(
            host.machine
                .moves(|| host.dpkg(&format!("--install {new}")))
        );
        use_it(host);
        host.dpkg(&format!("--purge {}", PACKAGES.join(" ")));
    });
}

fn every_link_of_the_readme_leads_to_a_file(host: &Host) {
    host.install_built(&["modstamp"]);
    let directory = host.outside("/usr/share/doc/modstamp");
    let readme = std::fs::read_to_string(directory.join("README.md")).unwrap();
    let targets = readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'));
    let files = targets.map(|(target, _)| target.split('#').next().unwrap());
    let files: Vec<&str> = files
        .filter(|file| !file.is_empty() && !file.contains("://"))
        .collect();
    assert!(files.contains(&"docs/libvirt.md"), "{files:?}");
    for file in files {
        assert!(directory.join(file).is_file(), "{file}");
    }
}

fn the_program_has_nothing_of_the_c_library_in_it(host: &Host) {
    host.install_built(&["modstamp"]);
    let fields = "${Depends} | ${Built-Using}${Static-Built-Using}";
    let fields = host.sh(&format!(
        "dpkg-query --show --showformat '{fields}' modstamp"
    ));
    let (depends, built_using) = fields.split_once(" | ").unwrap();
    assert!(depends.contains("libc6 (>= "), "{depends}");
    assert_eq!(built_using, "");
}
