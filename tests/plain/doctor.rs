//! `modstamp doctor` finds nothing on a sound host, and finds each fault of a broken one. If a
//! remedy can run here, it mends the host.

mod caches;
mod drop_ins;
mod libvirt;
mod stamps;
mod triggers;
mod units;
mod unseen;

use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::libvirt::{DRIVER, FOREIGN, Host, WATCHED};
use support::world::STAMP;
use support::{executable, program, run};

const POSTINST: &str = "var/lib/dpkg/info/modstamp-qemu.postinst";
const TRIGGERS: &str = "var/lib/dpkg/triggers/File";
const STATUS: &str = "var/lib/dpkg/status";
const LOG: &str = "var/log/dpkg.log";
const PATH_UNIT: &str = "etc/systemd/system/paths.target.wants/modstamp-update@qemu.path";
const SERVICE_UNIT: &str = "etc/systemd/system/basic.target.wants/modstamp-update@qemu.service";
const UNITS: &str = "usr/lib/systemd/system";
const WATCHES: &str = "etc/systemd/system/modstamp-update@qemu.path.d";
const DAEMONS: [&str; 2] = ["libvirtd.service", "virtqemud.service"];

/// A host that is as it should be: Debian's, with systemd, QEMU and libvirt.
struct Sound(Host);

impl Deref for Sound {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.0
    }
}

impl Sound {
    fn new() -> Sound {
        let host = Sound(Host::new());
        fs::remove_file(host.path("etc/modstamp/profiles.d/qemu.toml")).unwrap();
        host.start("usr/bin/modstamp", "");
        host.dpkg();
        host.systemd();
        host.say(&["update"]);
        host
    }

    fn dpkg(&self) {
        let stanza = |name: &str| format!("Package: {name}\nStatus: install ok installed\n");
        let names = ["base-files", "modstamp-qemu", "qemu-system-modules-spice"];
        self.put(STATUS, &names.map(stanza).join("\n"));
        let trigger = format!("/{WATCHED} modstamp-qemu/noawait\n/usr/share/man man-db/noawait\n");
        self.put(TRIGGERS, &trigger);
        let script = "modstamp trigger dpkg --profile qemu \"$2\" || true\n";
        self.start(POSTINST, script);
        let spice = "var/lib/dpkg/info/qemu-system-modules-spice:amd64.list";
        self.put(spice, &format!("/.\n/{WATCHED}\n/{WATCHED}/ui-spice.so\n"));
        self.put(
            "var/lib/dpkg/info/base-files.list",
            &format!("/{WATCHED}\n"),
        );
        let log = [
            "2020-01-01 10:00:00 install qemu-system-modules-spice:amd64 <none> 1",
            "2020-01-01 10:00:00 configure qemu-system-modules-spice:amd64 1 <none>",
            "2020-01-01 10:00:00 trigproc modstamp-qemu:all 0.1.0-1 <none>",
            "2020-01-01 10:00:05 upgrade base-files:amd64 1 2",
        ];
        self.put(LOG, &(log.join("\n") + "\n"));
    }

    fn systemd(&self) {
        self.start("usr/lib/systemd/systemd", "");
        self.install_units(UNITS, "/usr/bin");
        for daemon in DAEMONS {
            let service = "[Service]\nExecStartPre=/bin/true\nExecStart=/usr/sbin/libvirtd\n";
            self.put(&format!("{UNITS}/{daemon}"), service);
        }
        // The units know one architecture, and the administrator added the other one.
        let foreign = format!("[Path]\nPathModified=/{FOREIGN}\n");
        self.put(&format!("{WATCHES}/foreign.conf"), &foreign);
        self.enable("modstamp-update@qemu.path");
        self.enable("modstamp-update@qemu.service");
    }

    /// Installs the units as `make install-units` does, for a program in the directory `programs`.
    fn install_units(&self, place: &str, programs: &str) {
        let source = support::sources().join("packaging/systemd/system");
        let mut directories = vec![source.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).unwrap() {
                let file = entry.unwrap().path();
                if file.is_dir() {
                    directories.push(file);
                    continue;
                }
                let name = file.strip_prefix(&source).unwrap().to_str().unwrap();
                let name = name.strip_suffix(".in").unwrap_or(name);
                let text = fs::read_to_string(&file).unwrap();
                let text = text.replace("@MULTIARCH@", "x86_64-linux-gnu");
                self.put(
                    &format!("{place}/{name}"),
                    &text.replace("@BINDIR@", programs),
                );
            }
        }
    }

    /// Takes away systemd with all units.
    fn remove_units(&self) {
        for directory in ["usr/lib/systemd", "etc/systemd"] {
            fs::remove_dir_all(self.path(directory)).unwrap();
        }
        self.put(&format!("{WATCHES}/foreign.conf"), "[Path]\n");
    }

    /// Enables a unit, as systemctl(1) does.
    fn enable(&self, unit: &str) {
        let (name, suffix) = unit.rsplit_once('.').unwrap();
        let target = match suffix {
            "path" => "paths",
            _ => "basic",
        };
        let wants = format!("etc/systemd/system/{target}.target.wants");
        fs::create_dir_all(self.path(&wants)).unwrap();
        let template = name.split('@').next().unwrap();
        let file = format!("/usr/lib/systemd/system/{template}@.{suffix}");
        self.link(&format!("{wants}/{unit}"), &file);
    }

    /// Writes a file, and makes its directory.
    fn put(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        self.write(path, text);
    }

    /// Writes a script that can be started.
    fn start(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        executable(&self.path(path), format!("#!/bin/sh\n{text}"));
    }

    /// The report as data, with paths as seen from inside the root; and the exit status.
    fn examine(&self) -> (Value, i32) {
        let output = self.modstamp(&["doctor", "--json"]).output().unwrap();
        let report = serde_json::from_slice(&output.stdout);
        let report = report.unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (report, output.status.code().unwrap())
    }

    #[track_caller]
    fn assert_well(&self) {
        let (report, status) = self.examine();
        assert_eq!((&report["well"], status), (&true.into(), 0), "{report:#}");
        assert_eq!(report["findings"].as_array().unwrap().len(), 0);
        assert_eq!(report["unseen"].as_array().unwrap().len(), 0);
    }

    /// The only finding, as its check, what was seen, and the remedy.
    #[track_caller]
    fn finding(&self) -> [String; 3] {
        let (report, status) = self.examine();
        assert_eq!((&report["well"], status), (&false.into(), 1), "{report:#}");
        let [finding] = &report["findings"].as_array().unwrap()[..] else {
            panic!("{report:#}");
        };
        assert!(!text(&finding["why"]).is_empty(), "{finding}");
        let [check, seen, remedy] = ["check", "seen", "remedy"].map(|key| text(&finding[key]));
        self.assert_is_for_inside(finding);
        [check, seen, remedy]
    }

    /// Asserts that a finding names the system inside which its remedy has to be run.
    #[track_caller]
    fn assert_is_for_inside(&self, finding: &Value) {
        let inside = text(&finding["inside"]);
        assert_eq!(Path::new(&inside), self.path(""), "{finding}");
    }

    /// The checks that found something.
    fn checks(&self) -> Vec<String> {
        let (report, status) = self.examine();
        assert_eq!(status, 1, "{report:#}");
        let findings = report["findings"].as_array().unwrap().iter();
        findings.map(|it| text(&it["check"])).collect()
    }

    /// Asserts that there is one finding alone, of `check`. Returns what was seen, and the remedy.
    #[track_caller]
    fn assert_ill(&self, check: &str) -> (String, String) {
        let [found, seen, remedy] = self.finding();
        assert_eq!(found, check, "{seen}");
        (seen, remedy)
    }

    /// Runs a remedy in a shell that takes the root's paths for its own, as chroot(1) would.
    fn paste(&self, remedy: &str) {
        let (own, top) = (program("modstamp"), self.path(""));
        let top = top.to_str().unwrap().trim_end_matches('/');
        let modstamp = format!("modstamp() {{ {} \"$@\" --root {top}; }}", own.display());
        // systemctl(1), as it acts in a system that does not run.
        let systemctl = format!(
            r#"systemctl() {{
                verb=$1; shift
                cd {top}/etc/systemd/system
                for unit; do case $verb-$unit in
                    unmask-*) rm $unit ;;
                    enable-*.path) mkdir -p paths.target.wants; ln -s x paths.target.wants/$unit ;;
                    enable-*) mkdir -p basic.target.wants; ln -s x basic.target.wants/$unit ;;
                esac; done
            }}"#
        );
        let remedy = remedy.replace(" /", &format!(" {top}/"));
        let mut bash = Command::new("bash");
        bash.args(["-ec", &format!("{modstamp}\n{systemctl}\n{remedy}")]);
        run(bash.env("EDITOR", "false")); // A test does not wait for an editor.
    }

    /// Like `assert_ill`. Then runs the remedy, after which all must be well.
    #[track_caller]
    fn assert_mended(&self, check: &str) {
        let (_, remedy) = self.assert_ill(check);
        self.paste(&remedy);
        self.assert_well();
    }

    /// The kinds and texts of the notes.
    fn notes(&self) -> Vec<(String, String)> {
        let (report, _) = self.examine();
        let notes = report["notes"].as_array().unwrap().iter();
        let note = |note: &Value| (text(&note["check"]), text(&note["why"]));
        notes.map(note).collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn the_doctor_finds_nothing_on_a_sound_host() {
    let host = Sound::new();
    host.assert_well();
    let (out, err) = host.say(&["doctor"]);
    assert_eq!((&*out, &*err), ("all is well: 14 checks\n", ""));
    assert_eq!(host.notes(), []);
}

#[test]
fn status_begins_with_the_health_of_the_host() {
    let host = Sound::new();
    let first = || host.say(&["status"]).0.lines().next().unwrap().to_owned();
    assert_eq!(first(), "well");
    fs::remove_file(host.path(TRIGGERS)).unwrap();
    let doctor = "“modstamp doctor --root /”"; // as it is told inside
    assert_eq!(first(), format!("1 problem; see {doctor}"));
    unseen::circle(&host, LOG);
    let place = "and could not check 1 place";
    assert_eq!(first(), format!("1 problem, {place}; see {doctor}"));
    host.remove(LOG);
    host.dpkg();
    unseen::circle(&host, LOG);
    let no_problem = "no problem found, but could not check 1 place";
    assert_eq!(first(), format!("{no_problem}; see {doctor}"));
}

#[test]
fn the_status_of_one_profile_and_its_json_tell_the_health_of_the_host() {
    let host = Sound::new();
    host.put(
        "etc/modstamp/profiles.d/toy.toml",
        "files = [\"/etc/toy\"]\n",
    );
    let told = || {
        let (table, _) = host.say(&["status", "--profile", "toy"]);
        let of = |arguments: &[&str]| {
            let (json, _) = host.say(&[&["status", "--json"], arguments].concat());
            let json: Value = serde_json::from_str(&json).unwrap();
            (
                json["well"].as_bool().unwrap(),
                json["problems"].as_u64().unwrap(),
            )
        };
        assert_eq!(of(&[]), of(&["--profile", "toy"]));
        (table.lines().next().unwrap().to_owned(), of(&[]))
    };
    assert_eq!(told(), ("well".to_owned(), (true, 0)));
    host.set_permissions(STAMP, 0o600);
    host.remove(PATH_UNIT);
    let see = "see “modstamp doctor --root /”";
    assert_eq!(told(), (format!("2 problems; {see}"), (false, 2)));
    host.set_permissions(STAMP, 0o644);
    host.enable("modstamp-update@qemu.path");
    unseen::circle(&host, LOG);
    let (line, numbers) = told();
    assert!(
        line.starts_with("no problem found, but could not check"),
        "{line}"
    );
    assert_eq!(numbers, (false, 0), "something could not be looked at");
}

#[test]
fn a_finding_has_three_lines_and_the_last_one_can_be_pasted() {
    let host = Sound::new();
    host.set_permissions(STAMP, 0o600);
    let (out, _) = host.fail(&["doctor"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines,
        [
            "problem (stamp-rights): /var/lib/modstamp/qemu.stamp has mode 0600, so other users cannot read it",
            "  why it matters: a touch is hidden from other users, and from their libvirt daemons",
            "  inside that system: chmod 0644 /var/lib/modstamp/qemu.stamp",
            "1 problem found: 14 checks",
        ]
    );
}

#[test]
fn on_a_host_with_nothing_of_any_profile_there_is_nothing_to_check() {
    let world = tempfile::tempdir().unwrap();
    let say = |verb: &str| {
        let mut command = Command::new(program("modstamp"));
        let command = command.args([verb, "--root"]).arg(world.path());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    let nothing = "nothing to check: no profile's program or module directory is installed\n";
    assert_eq!(say("doctor"), format!("there is {nothing}"));
    assert!(say("status").starts_with(nothing));
    fs::create_dir_all(world.path().join("etc/modstamp/profiles.d")).unwrap();
    let wrong = world.path().join("etc/modstamp/profiles.d/wrong.toml");
    fs::write(wrong, "program = []\n").unwrap();
    let mut command = Command::new(program("modstamp"));
    let command = command.args(["doctor", "--root"]).arg(world.path());
    assert_eq!(command.output().unwrap().status.code(), Some(1));
}

#[test]
fn a_root_that_cannot_be_entered_could_not_be_looked_at() {
    let mut command = Command::new(program("modstamp"));
    let output = command
        .args(["doctor", "--root", "/such/a/directory"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty() && !output.stderr.is_empty());
}

#[test]
fn a_place_that_cannot_be_read_is_told_and_the_status_is_2() {
    let host = Sound::new();
    // Not even root can read a file that is a directory.
    fs::remove_file(host.path(LOG)).unwrap();
    fs::create_dir(host.path(LOG)).unwrap();
    let (report, status) = host.examine();
    assert_eq!((status, &report["well"]), (2, &false.into()), "{report:#}");
    let unseen = &report["unseen"][0];
    assert_eq!(text(&unseen["check"]), "dpkg-last-run");
    assert!(
        text(&unseen["seen"]).contains("dpkg.log: Is a directory"),
        "{unseen}"
    );
    host.set_permissions(STAMP, 0o600);
    assert_eq!(host.examine().1, 1, "something needs mending");
}

#[test]
fn the_doctor_does_not_read_the_processes_of_another_root() {
    let host = Sound::new();
    host.put("proc/sys/fs/inotify/max_user_instances", "0\n");
    host.put("proc/1/fd/3", "");
    host.assert_well();
}

#[test]
fn no_remedy_leads_out_of_another_root() {
    let host = Sound::new();
    let outside = tempfile::tempdir().unwrap();
    fs::remove_dir_all(host.path("var/lib/modstamp")).unwrap();
    let target = outside.path().to_str().unwrap();
    host.link("var/lib/modstamp", target);
    host.remove(TRIGGERS);
    host.remove(PATH_UNIT);
    host.put("etc/modstamp/profiles.d/wrong.toml", "program = []\n");
    host.put("opt/$(id)/qemux/ui-gtk.so", "a module");
    let driver = fs::read_to_string(host.path(DRIVER)).unwrap();
    host.write(DRIVER, &(driver + "/opt/$(id)/qemux\0"));
    let (report, _) = host.examine();
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.len() >= 6, "{report:#}");
    let top = host.path("");
    for finding in findings {
        host.assert_is_for_inside(finding);
        let command = text(&finding["remedy"]);
        assert!(!command.contains(top.to_str().unwrap()), "{command}");
        assert!(!command.contains("chroot"), "{command}");
    }
}

#[test]
fn the_checks_of_a_profile_that_cannot_be_loaded_are_told_as_not_made() {
    let host = Sound::new();
    host.put("etc/modstamp/profiles.d/qemu.toml", "program = []\n");
    let (report, status) = host.examine();
    assert_eq!(status, 1, "{report:#}");
    let why = text(&report["findings"][0]["why"]);
    assert!(
        why.contains("a trigger touches the stamp and warns"),
        "{why}"
    );
    let seen = text(&report["unseen"][0]["seen"]);
    let expected = "the stamp, the triggers and all else of the profile qemu, ";
    assert!(seen.starts_with(expected), "{seen}");
    // As the finding says: the trigger touches, and a touch by hand fails.
    host.set_mtime(STAMP, 1_600_000_000);
    let fired = format!("/{WATCHED}");
    let (_, err) = host.say(&["trigger", "dpkg", "--profile", "qemu", &fired]);
    assert!(
        err.contains("warning: ") && host.mtime(STAMP) > 1_600_000_000,
        "{err}"
    );
    host.fail(&["touch"]);
}

#[test]
fn a_wrong_profile_is_found_and_hides_no_other_finding() {
    let host = Sound::new();
    host.put("etc/modstamp/profiles.d/wrong.toml", "program = []\n");
    let (seen, remedy) = host.assert_ill("profile");
    assert!(
        seen.contains("wrong.toml:1: there is no key “program”"),
        "{seen}"
    );
    let edit = "\"${EDITOR:-vi}\" /etc/modstamp/profiles.d/wrong.toml";
    assert_eq!(remedy, edit);
}

#[test]
fn a_profile_that_nobody_reads_is_no_finding() {
    let host = Sound::new();
    let directory = "home/me/.config/modstamp/profiles.d";
    host.put(&format!("{directory}/foo.toml"), "files = []\n");
    // As if it were another user's: somebody else can replace it.
    host.set_permissions(directory, 0o777);
    host.assert_well();
}

#[test]
fn a_directory_that_a_profile_names_and_nobody_has_is_found_with_the_one_that_was_meant() {
    let host = Sound::new();
    fs::create_dir_all(host.path("usr/lib64/gstreamer-1.0")).unwrap();
    let profile = |directories: &str| {
        let text = format!("module-directories = [{directories}]\nprograms = [\"/usr/bin/gst\"]");
        host.put("etc/modstamp/profiles.d/gst.toml", &text);
    };
    profile("\"/usr/lib64/gstreamer-10\"");
    let (seen, _) = host.assert_ill("profile-directory");
    assert!(
        seen.ends_with("which does not exist, but /usr/lib64/gstreamer-1.0 does"),
        "{seen}"
    );
    // Those of other distributions are no typos.
    profile("\"/usr/lib64/gstreamer-1.0\", \"/usr/lib/x/gstreamer-1.0\", \"/usr/lib/gst\"");
    host.assert_well();
    profile("\"/usr/lib/x/gstreamer-1.0\"");
    host.assert_well();
    // Nor are other versions.
    profile("\"/usr/lib64/gstreamer-2.0\"");
    host.assert_well();
    profile("\"/usr/lib/x/gstreamer-1.0\"");
    host.start("usr/bin/gst", "");
    let (seen, _) = host.assert_ill("profile-directory");
    assert!(seen.starts_with("none of the module directories"), "{seen}");
}

#[test]
fn a_missing_directory_of_an_administrators_profile_is_noted_and_one_of_a_packages_is_not() {
    let host = Sound::new();
    host.put("usr/lib/toy/a.so", "a module");
    let named = |directories: &str| format!("module-directories = [{directories}]\n");
    let own = "etc/modstamp/profiles.d/toy.toml";
    host.put(
        own,
        &named("\"/usr/lib/toy\", \"/opt/toy\", \"/opt/*/toy\""),
    );
    host.assert_well();
    let (check, why) = host.notes().remove(0);
    assert_eq!(check, "profile-directory");
    let expected = "a change of the modules there goes unnoticed, if that is a typo in ";
    assert!(why.starts_with(expected), "{why}");
    let (report, _) = host.examine();
    let seen = text(&report["notes"][0]["seen"]);
    assert_eq!(seen, "nothing is at /opt/toy, which the profile toy names");
    // Nothing of it is installed.
    host.remove("usr/lib/toy/a.so");
    fs::remove_dir(host.path("usr/lib/toy")).unwrap();
    assert_eq!(host.notes(), []);
    host.put("usr/lib/toy/a.so", "a module");
    let text = fs::read_to_string(host.path(own)).unwrap();
    host.remove(own);
    host.put("usr/lib/modstamp/profiles.d/toy.toml", &text);
    host.assert_well();
    assert_eq!(host.notes(), []);
}

#[test]
fn a_profile_that_replaces_another_is_noted() {
    let host = Sound::new();
    host.put("etc/modstamp/profiles.d/qemu.toml", "files = []\n");
    host.put(
        "etc/modstamp/profiles.d/gst.toml",
        "files = [\"/etc/gst\"]\n",
    );
    host.assert_well();
    let note = (
        "profile-override".to_owned(),
        "the profile qemu is not as it was packaged".to_owned(),
    );
    assert_eq!(host.notes(), [note]);
    host.put(
        "usr/lib/modstamp/profiles.d/gst.toml",
        "files = [\"/etc/gst\"]\n",
    );
    assert_eq!(host.notes().len(), 2);
}
