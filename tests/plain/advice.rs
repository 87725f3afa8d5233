//! A message's advice can be pasted as it is: it names the profile and the root directory, and it is
//! true.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use support::libvirt::{Host, SYSTEM, WATCHED, X86, file_name};
use support::sources;
use support::world::{STAMP, World};

const NBDKIT: &str = "/usr/sbin/nbdkit";
const PLUGINS: &str = "usr/lib/x86_64-linux-gnu/nbdkit/plugins";
const FILTERS: &str = "usr/lib/x86_64-linux-gnu/nbdkit/filters";

/// A host whose QEMU's answers were refreshed, with an answer of nbdkit's that never was.
fn with_an_answer_of_nbdkits() -> Host {
    let host = Host::new();
    host.refresh();
    for directory in [PLUGINS, FILTERS, "usr/sbin"] {
        fs::create_dir_all(host.path(directory)).unwrap();
    }
    host.write(&format!("{PLUGINS}/nbdkit-curl-plugin.so"), "a module");
    host.write(&NBDKIT[1..], "a program");
    let mtime = |path: &str| host.mtime(path);
    let answer = format!(
        "<nbdkitCaps>\n<path>{NBDKIT}</path>\n<nbdkitctime>{}</nbdkitctime>\n\
         <plugindir>/{PLUGINS}</plugindir>\n<plugindirmtime>{}</plugindirmtime>\n\
         <filterdir>/{FILTERS}</filterdir>\n<filterdirmtime>{}</filterdirmtime>\n</nbdkitCaps>\n",
        host.ctime(NBDKIT),
        mtime(PLUGINS),
        mtime(FILTERS),
    );
    host.keep("var/cache/libvirt/qemu/nbdkitcapabilities", &answer);
    host
}

#[test]
fn the_advice_on_a_stale_answer_names_its_profile_and_its_root() {
    let host = with_an_answer_of_nbdkits();
    let (out, _) = host.say(&["libvirt", "status"]);
    let command = "libvirt refresh --profile nbdkit --root /";
    assert!(
        out.contains(&format!("; run “modstamp {command}” as root\n")),
        "{out}"
    );
    host.say(&["libvirt", "refresh", "--profile", "nbdkit"]);
    let (out, _) = host.say(&["libvirt", "status"]);
    assert!(!out.contains("may still serve"), "{out}");
}

#[test]
fn the_doctor_finds_an_answer_that_libvirt_may_serve_whichever_profile_it_is_of() {
    let host = with_an_answer_of_nbdkits();
    let told = || {
        let output = host.modstamp(&["doctor"]).output().unwrap();
        host.said(&output).0
    };
    let finding =
        "problem (libvirt-answers): the answers of nbdkit: libvirt was not refreshed yet\n";
    let remedy = "\n  inside that system: modstamp libvirt refresh --profile nbdkit\n";
    let said = told();
    assert!(said.contains(finding) && said.contains(remedy), "{said}");
    host.say(&["libvirt", "refresh", "--profile", "nbdkit"]);
    assert!(!told().contains("nbdkit: "), "{}", told());
    // Without an answer of nbdkit's, nobody needs a refresh.
    host.sh("rm -r var/cache/libvirt/qemu/nbdkitcapabilities var/lib/modstamp/nbdkit.libvirt");
    assert!(!told().contains("nbdkit: "), "{}", told());
}

#[test]
fn no_advice_contradicts_that_libvirt_asks_again_by_itself() {
    let host = Host::new();
    host.refresh();
    host.ask(X86);
    host.set_mtime(WATCHED, host.mtime(WATCHED) - 100);
    assert!(!host.serves(X86));
    let (out, _) = host.say(&["libvirt", "status"]);
    assert!(out.contains("libvirt notices it and asks again"), "{out}");
    assert!(
        !out.contains("run “") && !out.contains("may still serve"),
        "{out}"
    );
    let output = host.modstamp(&["doctor"]).output().unwrap();
    let (said, _) = host.said(&output);
    let why = "libvirt notices it for each answer that was seen, and asks again;";
    assert!(
        said.contains(why) && !said.contains("libvirt may serve"),
        "{said}"
    );
    // An answer that libvirt does not reject.
    host.ask(X86);
    let (said, _) = host.said(&host.modstamp(&["doctor"]).output().unwrap());
    assert!(said.contains("libvirt may serve an answer"), "{said}");
}

#[test]
fn a_status_without_a_profile_that_cannot_be_loaded_does_not_call_its_cache_empty() {
    let host = Host::new();
    host.ask(X86);
    host.write("etc/modstamp/profiles.d/qemu.toml", "program = []\n");
    let (out, _) = host.fail(&["libvirt", "status"]);
    let expected = "libvirt has cached no answers of nbdkit, neither the system's nor your own\n\
                    the answers of qemu are not shown, because of the error above\n";
    assert_eq!(out, expected);
    assert!(host.path(SYSTEM).join(file_name(X86)).exists());
}

#[test]
fn the_journal_gets_the_line_of_the_log_from_a_refresh_too() {
    let host = Host::new();
    let journal = host.path("journal");
    let file = fs::File::create(&journal).unwrap();
    let stat = file.metadata().unwrap();
    let stream = format!("{}:{}", stat.dev(), stat.ino());
    let mut refresh = host.modstamp(&["refresh"]);
    let status = refresh.env("JOURNAL_STREAM", stream).stdout(file).status();
    assert!(status.unwrap().success());
    let text = fs::read_to_string(&journal).unwrap();
    let last = text.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("refresh by ") || last.contains(" refresh by "),
        "{text}"
    );
    assert!(
        last.contains("(asked for), ") && last.contains(" ms"),
        "{text}"
    );
}

#[test]
fn an_empty_name_of_sudos_is_no_author() {
    let world = World::new();
    let mut touch = world.modstamp(&["touch"]);
    assert!(touch.env("SUDO_USER", "").status().unwrap().success());
    let note = fs::read_to_string(world.path(STAMP)).unwrap();
    assert!(!note.contains("by sudo"), "{note}");
}

#[test]
fn a_guess_and_what_follows_it_are_two_sentences() {
    let world = World::new();
    let output = world
        .modstamp(&["run", "--profile", "quemu", "--", "true"])
        .output();
    let said = String::from_utf8(output.unwrap().stderr).unwrap();
    let end = "did you mean “qemu”? Running the command without a cache\n";
    assert!(said.ends_with(end), "{said}");
}

#[test]
fn a_touch_that_fails_says_why_once() {
    let host = Host::new();
    host.sh("rm -r var/lib/modstamp; touch var/lib/modstamp");
    let (_, err) = host.fail(&["touch"]);
    let errors = err
        .lines()
        .filter(|line| line.contains("cannot touch the stamp"));
    assert_eq!(errors.count(), 1, "{err}");
}

#[test]
fn a_restart_of_libvirts_daemon_looks_for_each_profile_whose_answers_libvirt_caches() {
    for unit in ["libvirtd", "virtqemud"] {
        let path = format!("packaging/systemd/system/{unit}.service.d/modstamp.conf.in");
        let text = fs::read_to_string(sources().join(path)).unwrap();
        let looks: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("ExecStartPre="))
            .collect();
        assert_eq!(looks.len(), modstamp::libvirt::profiles().count());
        for profile in modstamp::libvirt::profiles() {
            let command = format!("@BINDIR@/modstamp update --no-commands --profile {profile}");
            let of_profile = |line: &&&str| line.contains(&command);
            let look = looks.iter().find(of_profile).expect(profile);
            assert!(
                look.starts_with("ExecStartPre=-+timeout --signal=KILL 10 "),
                "{look}"
            );
        }
    }
}

#[test]
fn the_look_for_nbdkit_before_a_daemon_starts_is_made_only_if_nbdkit_is_installed() {
    let path = "packaging/systemd/system/libvirtd.service.d/modstamp.conf.in";
    let text = fs::read_to_string(sources().join(path)).unwrap();
    let line = text.lines().find(|line| line.contains("nbdkit;")).unwrap();
    let (_, command) = line.split_once("=-+").unwrap();
    let here = tempfile::tempdir().unwrap();
    let seen = here.path().join("seen");
    let modstamp = format!("#!/bin/sh\necho \"$@\" > {}\n", seen.display());
    support::executable(&here.path().join("modstamp"), modstamp);
    let command = command.replace("@BINDIR@", here.path().to_str().unwrap());
    let path = format!("{}:/usr/bin:/bin", here.path().display());
    let start = || {
        let mut shell = Command::new("sh");
        assert!(
            shell
                .args(["-c", &command])
                .env("PATH", &path)
                .status()
                .unwrap()
                .success()
        );
    };
    if Command::new("sh")
        .args(["-c", "command -v nbdkit"])
        .env("PATH", &path)
        .output()
        .unwrap()
        .stdout
        .is_empty()
    {
        start();
        assert!(!seen.exists());
    }
    support::executable(&here.path().join("nbdkit"), "#!/bin/sh\n");
    start();
    let seen = fs::read_to_string(&seen).unwrap();
    assert_eq!(seen, "update --no-commands --profile nbdkit\n");
}
