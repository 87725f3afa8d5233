//! `dh --with modstamp` for a package of the tests' own: is its stamp moved exactly when it should
//! be?
//!
//! It is built by the real dpkg-buildpackage in a throw-away machine, with dh-modstamp as `debian/`
//! builds it.

use std::sync::LazyLock;

use support::deb::{self, Host, MODULES, RELEASES, Release, module};
use support::named;
use support::test::{Needs, Test, test};

pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&deb::PROGRAMS);
    let of = |release: &'static Release| {
        let of = |(name, scenario): &(&str, Scenario)| {
            let (name, scenario) = (format!("{}::{name}", release.suite), *scenario);
            test(name, &needs, move || {
                let host = Host::bare(release, &release.builder());
                host.install_built(&["modstamp", "modstamp-qemu", "dh-modstamp"]);
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
    one_line_moves_the_stamp_of_its_profile_and_no_other,
    what_the_package_has_of_its_own_is_kept,
    two_lines_are_two_profiles,
    a_profile_of_the_packages_own_is_kept,
    the_profiles_that_modstamp_has_are_not_made_again,
    a_package_of_two_architectures_has_one_stamp,
    a_profile_that_is_wrong_fails_no_run,
    a_line_that_is_wrong_stops_the_build_with_a_sentence,
    a_directory_that_nothing_has_is_a_warning_with_what_may_be_meant,
];

/// Where the plug-ins of the package are.
static PLUG_INS: LazyLock<String> = LazyLock::new(|| MODULES.replace("/qemu", "/gimp/3.0"));

/// The path of a plug-in.
fn plug_in(name: &str) -> String {
    format!("{}/{name}", *PLUG_INS)
}

/// All that makes a package that adopts modstamp, but for the line itself.
const SOURCE: [(&str, &str); 3] = [
    (
        "debian/control",
        "Source: player\nMaintainer: Nobody <nobody@example.org>\n\
         Build-Depends: debhelper-compat (= 13), dh-sequence-modstamp\n\n\
         Package: player\nArchitecture: any\nMulti-Arch: same\nDepends: ${misc:Depends}\nDescription: loads plug-ins\n",
    ),
    (
        "debian/changelog",
        "player (1) unstable; urgency=medium\n\n  * First release.\n\n \
         -- Nobody <nobody@example.org>  Thu, 01 Jan 2026 00:00:00 +0000\n",
    ),
    ("debian/rules", "#!/usr/bin/make -f\n%:\n\tdh $@\n"),
];

const LINE: (&str, &str) = (
    "debian/player.modstamp",
    "gimp /usr/lib/${DEB_HOST_MULTIARCH}/gimp/3.0\n",
);

/// Writes the source of a package to /srv/player; `files` are its own.
fn write(host: &Host, files: &[(&str, &str)]) {
    host.sh("rm -rf /srv/player");
    for (path, text) in SOURCE.iter().chain(files) {
        let path = host.outside(&format!("/srv/player/{path}"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    host.sh("chmod +x /srv/player/debian/rules");
}

/// Builds and installs it.
fn install(host: &Host, files: &[(&str, &str)]) {
    write(host, files);
    host.sh("cd /srv/player; dpkg-buildpackage -b -us -uc");
    host.dpkg("--install /srv/player_1_*.deb");
}

/// Whether the stamp of a profile moves while `action` runs.
fn moves<T>(host: &Host, profile: &str, action: impl FnOnce() -> T) -> bool {
    let before = host.machine.stamp(profile);
    action();
    let after = host.machine.stamp(profile);
    assert!(after >= before, "{profile}");
    after > before
}

/// What moves while `action` runs: a package's stamp, and QEMU's.
fn moved<T>(host: &Host, action: impl FnOnce() -> T) -> (bool, bool) {
    let mut own = false;
    let qemu = moves(host, "qemu", || own = moves(host, "gimp", action));
    (own, qemu)
}

const OWN: (bool, bool) = (true, false);
const QEMUS: (bool, bool) = (false, true);
const NONE: (bool, bool) = (false, false);

fn one_line_moves_the_stamp_of_its_profile_and_no_other(host: &Host) {
    assert_eq!(moved(host, || install(host, &[LINE])), OWN);
    let fields = host.sh("dpkg-query --show --showformat '${Depends}' player");
    assert_eq!(fields, "modstamp");
    let script = host.sh("cat /var/lib/dpkg/info/player*.postinst");
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        script.contains(&format!("dh_modstamp/{version}\n")),
        "{script}"
    );
    let note = host.sh("cat /var/lib/modstamp/gimp.stamp");
    assert!(note.contains("why: player was configured"), "{note}");

    let old = host.package("a", "1", &[&plug_in("a.so")]);
    let new = host.package("a", "2", &[&plug_in("a.so"), &plug_in("b.so")]);
    let steps = [
        format!("--install {old}"),
        format!("--install {new}"),
        format!("--install {new}"),
        "--remove a".to_owned(),
    ];
    for step in steps {
        host.sh("modstamp observe --profile gimp > /srv/witness");
        assert_eq!(moved(host, || host.dpkg(&step)), OWN, "{step}");
        let reasons = host.sh("modstamp check --profile gimp /srv/witness || test $? = 1");
        assert!(reasons.contains("system stamp touched"), "{reasons}");
    }

    let aliased = plug_in("c.so").replace("/usr", "");
    let aliased = host.package("c", "1", &[&aliased]);
    assert_eq!(
        moved(host, || host.dpkg(&format!("--install {aliased}"))),
        OWN
    );
    let elsewhere = host.package("elsewhere", "1", &["/usr/lib/gimp/3.0/a.so"]);
    assert_eq!(
        moved(host, || host.dpkg(&format!("--install {elsewhere}"))),
        NONE
    );
    let qemus = host.package("qemus", "1", &[&module("a.so")]);
    assert_eq!(
        moved(host, || host.dpkg(&format!("--install {qemus}"))),
        QEMUS
    );

    host.sh("cd /var/lib/modstamp; touch .gimp.stamp.new.1");
    host.dpkg("--remove player");
    assert!(host.machine.stamp("gimp").is_some());
    host.dpkg("--purge player");
    let left =
        host.sh("find / -xdev -path /srv -prune -o \\( -name '*gimp.*' -o -name player \\) -print");
    assert_eq!(left, "");
    assert!(host.machine.stamp("qemu").is_some());
}

fn what_the_package_has_of_its_own_is_kept(host: &Host) {
    let note =
        "#!/bin/sh\nset -eu\necho own \"$@\" >> /srv/calls\n#DEBHELPER#\necho end >> /srv/calls\n";
    install(
        host,
        &[
            LINE,
            ("debian/player.postinst", note),
            (
                "debian/player.triggers",
                "interest-noawait /usr/share/skins\n",
            ),
        ],
    );
    let skin = host.package("skin", "1", &["/usr/share/skins/a"]);
    assert_eq!(
        moved(host, || host.dpkg(&format!("--install {skin}"))),
        NONE
    );
    let a = host.package("a", "1", &[&plug_in("a.so"), "/usr/share/skins/b"]);
    assert_eq!(moved(host, || host.dpkg(&format!("--install {a}"))), OWN);
    let calls = host.sh("cat /srv/calls");
    let calls: Vec<&str> = calls.lines().collect();
    assert_eq!(
        calls[..3],
        ["own configure ", "end", "own triggered /usr/share/skins"]
    );
    assert!(
        calls[4].contains(&*PLUG_INS) && calls[4].contains("/usr/share/skins"),
        "{calls:?}"
    );
}

fn two_lines_are_two_profiles(host: &Host) {
    let lines = "# Plug-ins.\n\ngimp /usr/lib/${DEB_HOST_MULTIARCH}/gimp/3.0/ /opt/plug-ins\n\n  \
                 # Codecs.\n  codecs\t/lib//codecs\n";
    install(host, &[("debian/player.modstamp", lines)]);
    let both = |action: &str| {
        let mut codecs = false;
        let gimp = moves(host, "gimp", || {
            codecs = moves(host, "codecs", || host.dpkg(action))
        });
        (gimp, codecs)
    };
    let a = host.package("a", "1", &[&plug_in("a.so")]);
    let b = host.package("b", "1", &["/opt/plug-ins/b.so"]);
    let c = host.package("c", "1", &["/usr/lib/codecs/c.so"]);
    assert_eq!(both(&format!("--install {a}")), (true, false));
    assert_eq!(both(&format!("--install {b}")), (true, false));
    assert_eq!(both(&format!("--install {c}")), (false, true));
    assert_eq!(both("--remove b c"), (true, true));
    host.dpkg("--purge player");
    assert_eq!(host.machine.stamp("gimp"), None);
    assert_eq!(host.machine.stamp("codecs"), None);
}

fn a_profile_of_the_packages_own_is_kept(host: &Host) {
    install(
        host,
        &[
            LINE,
            ("gimp.toml", "module-directories = [\"/opt/own\"]\n"),
            (
                "debian/player.install",
                "gimp.toml usr/lib/modstamp/profiles.d\n",
            ),
        ],
    );
    let profile = host.sh("cat /usr/lib/modstamp/profiles.d/gimp.toml");
    assert_eq!(profile, "module-directories = [\"/opt/own\"]\n");
}

fn the_profiles_that_modstamp_has_are_not_made_again(host: &Host) {
    let root = modstamp::Root::open(&host.machine.root).unwrap();
    let names = modstamp::Profile::names(&root);
    assert!(names.len() > 2, "{names:?}");
    let lines = names.iter().map(|name| format!("{name} /opt/{name}\n"));
    install(
        host,
        &[("debian/player.modstamp", &lines.collect::<String>())],
    );
    let files = host.dpkg("--listfiles player");
    assert!(!files.contains("/usr/lib/modstamp"), "{files}");
    assert!(moves(host, &names[0], || {
        let a = host.package("a", "1", &[&format!("/opt/{}/a.so", names[0])]);
        host.dpkg(&format!("--install {a}"))
    }));
}

fn a_package_of_two_architectures_has_one_stamp(host: &Host) {
    host.sh("dpkg --add-architecture i386");
    install(host, &[LINE]);
    host.sh("cd /srv/player; dpkg-buildpackage -b -us -uc -d --host-arch i386");
    host.dpkg("--install /srv/player_1_i386.deb");
    let profile = host.sh("cat /usr/lib/modstamp/profiles.d/gimp.toml");
    assert_eq!(profile, "module-directories = [\"/usr/lib/*/gimp/3.0\"]\n");

    let other = host.package("other", "1", &["/usr/lib/i386-linux-gnu/gimp/3.0/a.so"]);
    assert_eq!(
        moved(host, || host.dpkg(&format!("--install {other}"))),
        OWN
    );
    host.dpkg("--purge player:amd64");
    assert!(host.machine.stamp("gimp").is_some());
    host.dpkg("--purge player:i386");
    assert_eq!(host.machine.stamp("gimp"), None);
}

fn a_profile_that_is_wrong_fails_no_run(host: &Host) {
    install(host, &[LINE]);
    host.sh("mkdir -p /etc/modstamp/profiles.d; echo wrong > /etc/modstamp/profiles.d/gimp.toml");
    let a = host.package("a", "1", &[&plug_in("a.so")]);
    let mut printed = String::new();
    assert_eq!(
        moved(host, || printed = host.dpkg(&format!("--install {a}"))),
        OWN
    );
    assert!(printed.contains("gimp.toml"), "{printed}");
    let printed = host.dpkg("--install /srv/player_1_amd64.deb");
    assert!(printed.contains("gimp.toml"), "{printed}");
}

fn a_line_that_is_wrong_stops_the_build_with_a_sentence(host: &Host) {
    let cases = [
        ("", "it names no profile; write: PROFILE /usr/lib/DIRECTORY"),
        ("# gimp /usr/lib/gimp\n\n", "it names no profile"),
        (
            "gimp\n",
            "the profile gimp has no directory; write: gimp /usr/lib/DIRECTORY",
        ),
        (
            "gimp lib\n",
            "the profile gimp has the directory “lib”, which is not an absolute path",
        ),
        (
            "/usr/lib/gimp\n",
            "“/usr/lib/gimp” cannot be a profile's name; use letters",
        ),
        ("-x /usr/lib/x\n", "“-x” cannot be a profile's name"),
        (".x /usr/lib/x\n", "“.x” cannot be a profile's name"),
        (
            "caf\u{e9} /usr/lib/x\n",
            "“caf\u{e9}” cannot be a profile's name",
        ),
        (
            "a /usr/lib/a\na /usr/lib/b\n",
            "debian/player.modstamp has the profile a already; write all of its directories",
        ),
        (
            "a /usr/lib/*/a\n",
            "the directory “/usr/lib/*/a”, a pattern",
        ),
        (
            "a /usr/lib/../a\n",
            "the directory “/usr/lib/../a”, a path with “.” or “..”",
        ),
        ("a /\n", "the directory “/”, the root directory"),
        (
            "a /usr/lib/`id`\n",
            "the directory “/usr/lib/`id`”, with a character that has a meaning",
        ),
        (
            "a /usr/lib/$HOME\n",
            "the directory “/usr/lib/$HOME”, a variable that nothing filled in",
        ),
        ("a /usr/lib/${DEB_HOST_MULTIARC}/a\n", "Cannot expand"),
    ];
    for (text, sentence) in cases {
        write(host, &[("debian/player.modstamp", text)]);
        let printed = host.sh("cd /srv/player; ! dh_modstamp");
        assert!(printed.contains(sentence), "{text}: {printed}");
    }
    let misnamed = [
        ("debian/player.modstamp", "a /a\n"),
        ("debian/palyer.modstamp", "a /a\n"),
    ];
    write(host, &misnamed);
    let printed = host.sh("cd /srv/player; ! dh_modstamp; rm debian/palyer.modstamp");
    let sentence = "debian/palyer.modstamp: there is no package palyer in debian/control";
    assert!(printed.contains(sentence), "{printed}");
    // And the whole build with it.
    let printed = host
        .sh("cd /srv/player; echo wrong > debian/player.modstamp; ! dpkg-buildpackage -b -us -uc");
    let sentence = "dh_modstamp: error: debian/player.modstamp: the profile wrong has no directory";
    assert!(printed.contains(sentence), "{printed}");
    // Two packages with one profile, which could not be installed together.
    write(host, &[("debian/player.modstamp", "a /usr/lib/a\n")]);
    let printed = host.sh("cd /srv/player
         printf '\nPackage: other\nArchitecture: all\nDescription: other\n' >> debian/control
         cp debian/player.modstamp debian/other.modstamp
         ! dh_modstamp");
    let sentence = "debian/other.modstamp: debian/player.modstamp has the profile a already";
    assert!(printed.contains(sentence), "{printed}");
}

fn a_directory_that_nothing_has_is_a_warning_with_what_may_be_meant(host: &Host) {
    host.sh("mkdir -p /opt/plug-ins/codecs /opt/filters /usr/lib/aliased");
    // In the line, and expected; without a sentence there is no warning.
    let cases = [
        ("/opt/plug-ins/codecs", ""),
        ("/lib/aliased", ""),
        ("/opt/brought/by-it", ""),
        ("/usr/lib/brought", ""),
        (
            "/opt/plug-ins/codes",
            "“/opt/plug-ins/codes”; did you mean “/opt/plug-ins/codecs”?",
        ),
        (
            "/opt/plugins/codecs",
            "“/opt/plugins”; did you mean “/opt/plug-ins”?",
        ),
        (
            "/opt/brought/by-him",
            "“/opt/brought/by-him”; did you mean “/opt/brought/by-it”?",
        ),
        ("/srv/nowhere/at/all", "“/srv/nowhere”; is it spelt right?"),
    ];
    for (directory, sentence) in cases {
        write(
            host,
            &[("debian/player.modstamp", &format!("a {directory}\n"))],
        );
        let printed = host.sh(
            "cd /srv/player; mkdir -p debian/player/opt/brought/by-it debian/player/lib/brought; dh_modstamp",
        );
        match sentence {
            "" => assert_eq!(printed, "", "{directory}"),
            _ => {
                let begin = format!(
                    "dh_modstamp: warning: debian/player.modstamp: the profile a has the directory “{directory}”, "
                );
                let end = format!("has {sentence}\n");
                assert!(
                    printed.starts_with(&begin) && printed.ends_with(&end),
                    "{printed}"
                );
            }
        }
    }
    // In a build that has it all the same.
    write(host, &[("debian/player.modstamp", "a /opt/plug-in\n")]);
    let printed = host.sh("cd /srv/player; dpkg-buildpackage -b -us -uc");
    assert!(
        printed.contains("did you mean “/opt/plug-ins”?"),
        "{printed}"
    );
}
