//! For other packagers: the macro that gives any spec file its triggers, and packages in which lint
//! finds nothing.
//!
//! The packages are built as for rpm.rs. Then each rpm builds a small package whose spec has one
//! line with the macro, in a throw-away machine with `modstamp-devel`. The package is installed
//! beside modules that come, change and go.

use std::process::Command;

use support::machine::Machine;
use support::rpm::{self, MODULES, PACKAGES, Package};
use support::test::{Needs, Test, test};
use support::{named, run, sources};

/// The rpms, and the suites of Debian that have them.
const RPMS: [(&str, &str); 2] = [("rpm_4_18", "bookworm"), ("rpm_4_20", "trixie")];

/// What the other packager's spec file says.
const LINE: &str = "%modstamp_filetriggers -P gimp %{_libdir}/gimp/3.0";

/// What a spec file says that is also built where there is no modstamp-devel.
const GUARDED: &str =
    "%{?modstamp_filetriggers:%modstamp_filetriggers -P gimp %{_libdir}/gimp/3.0}";

/// Where that is.
const PLUGINS: &str = "/usr/lib64/gimp/3.0";

pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        test(
            "rpmlint_has_nothing_to_say",
            &Needs::root_and(&[&rpm::PROGRAMS[..], &["rpmlint"]].concat()),
            rpmlint_has_nothing_to_say,
        ),
        test(
            "rpmlint_has_nothing_to_say_of_the_spec_alone",
            &Needs::of(&["rpmlint"]),
            rpmlint_has_nothing_to_say_of_the_spec_alone,
        ),
        test(
            "the_library_is_named_as_each_distribution_wants_it",
            &Needs::of(&["rpmspec"]),
            the_library_is_named_as_each_distribution_wants_it,
        ),
        test(
            "systemds_macros_enable_the_units_and_disable_them",
            &Needs::of(&["rpmspec"]),
            systemds_macros_enable_the_units_and_disable_them,
        ),
        test(
            "an_empty_var_gets_the_stamps_directory_at_boot",
            &Needs::root_and(&["systemd-tmpfiles"]),
            an_empty_var_gets_the_stamps_directory_at_boot,
        ),
    ];
    let needs = Needs::root_and(&rpm::PROGRAMS);
    for (rpm, suite) in RPMS {
        tests.extend(SCENARIOS.iter().map(|(name, scenario)| {
            let scenario = *scenario;
            test(format!("{rpm}::{name}"), &needs, move || {
                scenario(&Host::new(suite));
            })
        }));
    }
    tests
}

type Scenario = fn(&Host);

const SCENARIOS: &[(&str, Scenario)] = named![
    a_module_package_moves_its_profiles_stamp_and_no_other,
    each_directory_that_is_named_moves_the_stamp,
    a_stored_witness_goes_stale_by_what_concerns_its_profile_alone,
    the_package_with_the_triggers_requires_modstamp_by_itself,
    a_sub_package_gets_the_triggers_that_are_meant_for_it,
    the_guarded_line_makes_the_same_triggers_and_nothing_without_modstamp_devel,
    the_macro_makes_the_triggers_that_modstamp_qemu_has,
    what_the_macro_cannot_use_stops_the_build_with_a_sentence,
    removing_modstamp_takes_the_stamps_of_every_profile,
];

/// A machine on which packages can be built with modstamp, and on which modstamp and QEMU's
/// triggers are installed.
struct Host {
    machine: Machine,
}

impl Host {
    fn new(suite: &str) -> Host {
        let host = Host {
            machine: Machine::new(suite, &["rpm"]),
        };
        rpm::put(&host.machine);
        host.rpm(&["-i", &own("modstamp"), &own("modstamp-qemu")]);
        // The C library that it requires is there, but not as a package of rpm's.
        host.rpm(&["-i", "--nodeps", &own("modstamp-devel")]);
        host
    }

    /// Runs rpm in the machine; returns whether it succeeded, and what it printed as errors but for
    /// Debian's advice to use another package manager.
    fn try_rpm(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = self.machine.command("rpm");
        let output = command.args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        let advice = |line: &&str| !line.starts_with("rpm: ");
        let errors = errors.split_inclusive('\n').filter(advice).collect();
        (output.status.success(), errors)
    }

    /// Runs rpm in the machine, which must succeed without a word.
    fn rpm(&self, arguments: &[&str]) {
        let done = self.try_rpm(arguments);
        assert_eq!(done, (true, String::new()), "rpm {arguments:?}");
    }

    /// Runs rpmbuild on a packager's spec file, with the file of the profile and `sections`;
    /// returns whether it succeeded, and what it printed as errors.
    fn try_build(&self, name: &str, sections: &str) -> (bool, String) {
        let requires = match sections.starts_with("%{?") {
            true => "",
            false => "BuildRequires: modstamp-devel\n",
        };
        let spec = format!(
            "Name: {name}\nVersion: 1\nRelease: 1\nSummary: Plug-ins\nLicense: MIT\n\
             {requires}%global debug_package %{{nil}}\n%global __os_install_post %{{nil}}\n\
             %description\nPlug-ins.\n\
             %package doc\nSummary: Text\n%description doc\nText.\n\
             %install\nmkdir -p %{{buildroot}}/usr/lib/modstamp/profiles.d\n\
             echo 'module-directories = [\"{PLUGINS}\", \"/opt/plugins\"]' \
                > %{{buildroot}}/usr/lib/modstamp/profiles.d/{name}.toml\n\
             {sections}\n\n# The files.\n%files\n/usr/lib/modstamp/profiles.d/{name}.toml\n%files doc\n"
        );
        std::fs::write(self.machine.root.join("srv/test.spec"), spec).unwrap();
        let output = self
            .machine
            .command("rpmbuild")
            .args(["-bb", "--quiet", "--define", "_libdir /usr/lib64"])
            .args(["--define", "_topdir /srv/top", "--define"])
            .arg(format!("_rpmdir {PACKAGES}"))
            .args(["--define", "_rpmfilename %%{NAME}.rpm"])
            .arg("/srv/test.spec")
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), errors)
    }

    /// Builds such a package; returns its path in the machine.
    fn build(&self, name: &str, sections: &str) -> String {
        let (succeeded, errors) = self.try_build(name, sections);
        assert!(succeeded, "{errors}");
        format!("{PACKAGES}/{name}.rpm")
    }

    /// Installs the packager's package, and one plug-in, so that there is a stamp.
    fn with_triggers(&self, line: &str) {
        self.rpm(&["-i", &self.build("gimp", line)]);
        self.rpm(&["-i", &self.package("first", "1", PLUGINS, "text")]);
        assert!(self.machine.stamp("gimp").is_some());
    }

    /// A package with one file in a directory; returns its path in the machine.
    fn package(&self, name: &str, version: &str, directory: &str, text: &str) -> String {
        let package = Package {
            name,
            version,
            files: &[(&format!("{directory}/{name}.so"), text)],
            ..Package::default()
        };
        let path = format!("{PACKAGES}/{name}-{version}.rpm");
        self.machine.put(&package.build(), &path);
        path
    }

    /// Runs rpm in the machine, which must succeed without a word; returns the profiles whose
    /// stamps moved.
    fn moved(&self, arguments: &[&str]) -> Vec<&'static str> {
        let stamps = || ["gimp", "qemu"].map(|profile| (profile, self.machine.stamp(profile)));
        let before = stamps();
        self.rpm(arguments);
        let moved = before.into_iter().zip(stamps());
        let moved = moved.filter(|(before, after)| before != after);
        moved.map(|((profile, _), _)| profile).collect()
    }

    /// The triggers of a package's file, as rpm shows them, without what is empty or a comment.
    fn triggers(&self, path: &str) -> Vec<String> {
        let mut command = self.machine.command("rpm");
        let text = run(command.args(["-qp", "--filetriggers", path]));
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    }
}

/// The path, in a machine, of one of the packages that modstamp's spec builds.
fn own(name: &str) -> String {
    format!("{PACKAGES}/{name}-1.rpm")
}

fn a_module_package_moves_its_profiles_stamp_and_no_other(host: &Host) {
    host.with_triggers(LINE);
    let [one, other] = ["text", "other"].map(|text| host.package("ogg", text, PLUGINS, text));
    assert_eq!(host.moved(&["-i", &other]), ["gimp"]);
    assert_eq!(host.moved(&["-U", &one]), ["gimp"]);
    assert_eq!(host.moved(&["-e", "ogg"]), ["gimp"]);

    let qemu = host.package("qxl", "1", MODULES, "text");
    assert_eq!(host.moved(&["-i", &qemu]), ["qemu"]);
    assert_eq!(host.moved(&["-e", "qxl"]), ["qemu"]);

    for directory in ["/usr/share/elsewhere", "/usr/lib64/gimp/3.0-tools"] {
        let elsewhere = host.package("elsewhere", "1", directory, "text");
        assert!(host.moved(&["-i", &elsewhere]).is_empty());
        assert!(host.moved(&["-e", "elsewhere"]).is_empty());
    }
}

fn each_directory_that_is_named_moves_the_stamp(host: &Host) {
    // On some architectures two names are one.
    host.with_triggers(&format!("{LINE} /opt/plugins/ /opt/plugins"));
    let triggers = host.triggers(&format!("{PACKAGES}/gimp.rpm"));
    assert_eq!(triggers.len(), 2 * (5 + 5));
    for directory in [PLUGINS, "/opt/plugins", "/opt/plugins/further/below"] {
        let module = host.package("ogg", "1", directory, "text");
        assert_eq!(host.moved(&["-i", &module]), ["gimp"]);
        assert_eq!(host.moved(&["-e", "ogg"]), ["gimp"]);
    }
}

fn a_stored_witness_goes_stale_by_what_concerns_its_profile_alone(host: &Host) {
    host.with_triggers(LINE);
    let observe = || {
        host.machine
            .sh("modstamp observe --profile gimp > /srv/witness")
    };
    let check = || {
        host.machine
            .sh("modstamp check --profile gimp /srv/witness || test $? = 1")
    };
    observe();
    host.rpm(&["-i", &host.package("qxl", "1", MODULES, "text")]);
    host.rpm(&[
        "-i",
        &host.package("elsewhere", "1", "/usr/share/elsewhere", "text"),
    ]);
    assert_eq!(check(), "fresh\n");

    host.rpm(&["-i", &host.package("ogg", "1", PLUGINS, "text")]);
    let reasons = check();
    assert!(
        reasons.contains("module ogg.so added to /usr/lib64/gimp/3.0"),
        "{reasons}"
    );
    assert!(reasons.contains("system stamp touched"), "{reasons}");

    // The same modules, and the stamp alone that tells.
    observe();
    host.rpm(&["-U", "--replacepkgs", "/srv/ogg-1.rpm"]);
    let reasons = check();
    assert!(reasons.contains("system stamp touched"), "{reasons}");
    assert_eq!(reasons.lines().count(), 1, "{reasons}");
}

fn the_package_with_the_triggers_requires_modstamp_by_itself(host: &Host) {
    let package = host.build("gimp", LINE);
    host.rpm(&["-e", "modstamp-qemu", "modstamp"]);
    let (succeeded, errors) = host.try_rpm(&["-i", &package]);
    assert!(!succeeded);
    assert!(
        errors.contains("/usr/libexec/modstamp/rpm-trigger is needed by gimp"),
        "{errors}"
    );
    host.rpm(&["-i", &package, &own("modstamp")]);

    // A solver that has no list of all files finds these requirements among the provides.
    let provided = host.machine.sh("rpm -q --provides modstamp");
    for program in ["rpm-trigger", "rpm-transaction"] {
        let path = format!("/usr/libexec/modstamp/{program}");
        assert!(provided.lines().any(|line| line == path), "{provided}");
    }
}

fn a_sub_package_gets_the_triggers_that_are_meant_for_it(host: &Host) {
    let main = host.build("gimp", &format!("{LINE} -n gimp-doc"));
    assert!(host.triggers(&main).is_empty());
    assert_eq!(
        host.triggers(&format!("{PACKAGES}/gimp-doc.rpm")).len(),
        2 * 5
    );
}

fn the_guarded_line_makes_the_same_triggers_and_nothing_without_modstamp_devel(host: &Host) {
    let plain = host.triggers(&host.build("gimp", LINE));
    let for_doc =
        "%{?modstamp_filetriggers:%modstamp_filetriggers -P gimp -n gimp-doc %{_libdir}/gimp/3.0}";
    let doc = format!("{PACKAGES}/gimp-doc.rpm");
    assert_eq!(plain, host.triggers(&host.build("gimp", GUARDED)));
    let main = host.build("gimp", for_doc);
    assert_eq!((host.triggers(&main), host.triggers(&doc)), (vec![], plain));
    let (_, errors) = host.try_build(
        "gimp",
        "%{?modstamp_filetriggers:%modstamp_filetriggers lib}",
    );
    assert!(
        errors.contains("error: %modstamp_filetriggers: "),
        "{errors}"
    );

    host.rpm(&["-e", "modstamp-devel"]);
    assert!(!host.try_build("gimp", LINE).0);
    for line in [GUARDED, for_doc] {
        let main = host.build("gimp", line);
        assert_eq!(
            (host.triggers(&main), host.triggers(&doc)),
            (vec![], vec![])
        );
        let described = host
            .machine
            .sh(&format!("rpm -qp --qf '%{{description}}' {main} {doc}"));
        assert_eq!(described, "Plug-ins.Text.", "nothing is left of the line");
    }
}

fn the_macro_makes_the_triggers_that_modstamp_qemu_has(host: &Host) {
    let line = "%modstamp_filetriggers -P qemu %{_libdir}/qemu %{_libdir}/qemu-kvm";
    let made = host.triggers(&host.build("other-qemu", line));
    assert_eq!(made.len(), 2 * 7);
    assert_eq!(made, host.triggers(&own("modstamp-qemu")));
}

fn what_the_macro_cannot_use_stops_the_build_with_a_sentence(host: &Host) {
    let not_a_path =
        |what: &str| format!("“{what}” is not the plain, absolute path of a directory");
    let not_a_name =
        |what: &str| format!("“{what}” cannot be a profile's name; write one, as in -P gimp");
    let cases = [
        (
            "-P gimp",
            "name a directory, as in %{_libdir}/gimp/3.0".into(),
        ),
        ("-P gimp usr/lib/plugins", not_a_path("usr/lib/plugins")),
        ("-P gimp /usr/plugins lib", not_a_path("lib")),
        (
            "-P gimp %{quote:/usr/my plugins}",
            not_a_path("/usr/my plugins"),
        ),
        ("-P gimp /usr/100%%", not_a_path("/usr/100%")),
        (
            "-P gimp %{_nowhere}/plugins",
            not_a_path("%{_nowhere}/plugins"),
        ),
        (
            "-P gimp /usr/lib/../plugins",
            not_a_path("/usr/lib/../plugins"),
        ),
        ("-P gimp /usr//plugins", not_a_path("/usr//plugins")),
        ("-P gimp /usr/a,/usr/b", not_a_path("/usr/a,/usr/b")),
        ("-P gimp /usr/*/plugins", not_a_path("/usr/*/plugins")),
        ("-P gimp /", not_a_path("/")),
        ("/usr/plugins", not_a_name("")),
        ("-P ../gimp /usr/plugins", not_a_name("../gimp")),
    ];
    for (arguments, sentence) in cases {
        let (succeeded, errors) =
            host.try_build("gimp", &format!("%modstamp_filetriggers {arguments}"));
        assert!(!succeeded, "{arguments}");
        let sentence = format!("error: %modstamp_filetriggers: {sentence}\n");
        assert!(errors.contains(&sentence), "{arguments}: {errors}");
    }
    // rpm itself tells these.
    for arguments in ["-x -P gimp /usr/plugins", "-P"] {
        let (succeeded, errors) =
            host.try_build("gimp", &format!("%modstamp_filetriggers {arguments}"));
        assert!(!succeeded, "{arguments}");
        assert!(errors.contains("Unknown option"), "{arguments}: {errors}");
    }
}

fn removing_modstamp_takes_the_stamps_of_every_profile(host: &Host) {
    host.with_triggers(LINE);
    host.machine
        .sh("modstamp touch --profile qemu --reason 'a test'
         ls -A /var/lib/modstamp | grep -q gimp.stamp");
    host.rpm(&["-e", "gimp", "modstamp-qemu", "modstamp"]);
    host.machine.sh("! test -e /var/lib/modstamp");
}

/// As a packager runs it, without options.
fn rpmlint_has_nothing_to_say_of_the_spec_alone() {
    let mut rpmlint = Command::new("rpmlint");
    let said = run(rpmlint.arg("rpm/modstamp.spec").current_dir(sources()));
    let nothing = "0 packages and 1 specfiles checked; 0 errors, 0 warnings";
    assert!(said.contains(nothing), "{said}");
}

/// Neither on the spec nor on any package, by Fedora's names (release 1) or by openSUSE's
/// (1.again).
fn rpmlint_has_nothing_to_say() {
    let scratch = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(rpm::built()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rpm") {
            let name = ["-qp", "--qf", "%{nvr}.%|sourcerpm?{%{arch}}:{src}|.rpm"];
            let name = run(Command::new("rpm").args(name).arg(&path));
            files.push(scratch.path().join(name));
            std::fs::copy(&path, files.last().unwrap()).unwrap();
        }
    }
    assert_eq!(files.len(), 6 + 6 + 1, "{files:?}");
    let filters = ["rpm/modstamp.rpmlintrc", "rpm/rpmlintrc.packages"];
    let filters = filters.map(|path| std::fs::read_to_string(sources().join(path)).unwrap());
    let all = scratch.path().join("rpmlintrc");
    std::fs::write(&all, filters.concat()).unwrap();
    let output = Command::new("rpmlint")
        .args(["-c", "rpm/rpmlint.toml", "-r"])
        .arg(all)
        .arg("rpm/modstamp.spec")
        .args(files)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let nothing = "13 packages and 1 specfiles checked; 0 errors, 0 warnings";
    assert!(output.status.success() && said.contains(nothing), "{said}");
}

fn the_library_is_named_as_each_distribution_wants_it() {
    let packages = |defines: &[&str]| {
        let defines = defines.iter().flat_map(|define| ["--define", define]);
        let spec = concat!(env!("CARGO_MANIFEST_DIR"), "/rpm/modstamp.spec");
        let names = run(Command::new("rpmspec")
            .args(["-q", "--qf", "%{name} %{postinprog}\n"])
            .args(defines)
            .arg(spec));
        names.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(packages(&["fedora 43"])[2], "modstamp-libs (none)");
    // What such a macro may come to.
    let scriptlets = "ldconfig_scriptlets(n:) %{expand:%post -n %{-n*} -p /sbin/ldconfig}";
    let opensuse = packages(&["suse_version 1600", scriptlets]);
    assert_eq!(opensuse[2], "libmodstamp0 /sbin/ldconfig");
}

/// Debian's rpm has none of these.
fn systemds_macros_enable_the_units_and_disable_them() {
    let scriptlets = |defines: &[String]| {
        let query = "%{name}\n%{postin}\n%{preun}\n%{postun}\n";
        let said = run(Command::new("rpmspec")
            .args(["-q", "--qf", query])
            .args(defines)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/rpm/modstamp.spec")));
        let (_, qemu) = said.split_once("\nmodstamp-qemu\n").unwrap();
        let lines = qemu.lines().filter(|line| !line.is_empty()).take(6);
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut defines = Vec::new();
    let mut expected = Vec::new();
    for when in ["post", "preun", "postun"] {
        for (manager, units) in [
            ("", "modstamp-update@qemu.path modstamp-update@qemu.service"),
            (
                "_user",
                "modstamp-update@qemu.path modstamp-update@qemu.service",
            ),
        ] {
            let name = format!("systemd{manager}_{when}");
            defines.push(format!("--define={name}() {name} %{{*}}"));
            expected.push(format!("{name} {units}"));
        }
    }
    assert_eq!(scriptlets(&defines), expected);
    assert_eq!(scriptlets(&[])[..3], ["(none)"; 3]);
}

/// On a host that is an image, the package is installed into the image alone.
fn an_empty_var_gets_the_stamps_directory_at_boot() {
    let root = tempfile::tempdir().unwrap();
    run(Command::new("systemd-tmpfiles")
        .arg("--create")
        .arg(format!("--root={}", root.path().display()))
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/packaging/modstamp.tmpfiles"
        )));
    let made = root.path().join("var/lib/modstamp");
    let seen = run(Command::new("stat").args(["-c", "%F %a %U"]).arg(made));
    assert_eq!(seen, "directory 755 root\n");
}
