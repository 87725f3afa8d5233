//! `modstamp libvirt` beside a made-up libvirt in a scratch root: the verdicts on its cache, the
//! refresh and the eviction. These tests need nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use filetime::FileTime;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::libvirt::*;

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_secs() as i64
}

/// Waits for the clock's next second. For libvirt, a file that changes then has another ctime.
fn next_second() {
    let second = now();
    while now() == second {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(20)); // A file's ctime is by a clock that ticks.
}

#[track_caller]
fn assert_fresh(host: &Host, program: &str) {
    let row = host.row(program);
    assert_eq!(row["modstamp"]["fresh"], true, "{row:#}");
}

/// The act of libvirt at its next look-up.
#[derive(Debug, PartialEq)]
enum Libvirt {
    /// It serves the cached answer.
    Serves,
    /// It probes again.
    Probes,
}
use Libvirt::{Probes, Serves};

/// What follows from a stale answer, in the status.
const ASKS_AGAIN: &str = ": libvirt notices it and asks again at its next look-up; nothing to do\n";
const MAY_SERVE: &str = ": libvirt does not notice it and may still serve the answer; \
     run “modstamp libvirt refresh --root /” as root\n"; // as it is told inside

#[track_caller]
fn assert_says(host: &Host, libvirt: Libvirt, modstamp: &str) {
    let does = match host.serves(X86) {
        true => Serves,
        false => Probes,
    };
    assert_eq!(does, libvirt);
    let verdict = host.words(X86);
    let (out, _) = host.say(&["libvirt", "status"]);
    assert!(does == Probes || !out.contains(ASKS_AGAIN), "{out}");
    assert!(
        does == Probes || verdict == "fresh" || out.contains(MAY_SERVE),
        "{out}"
    );
    match modstamp {
        "fresh" => assert_eq!(verdict, modstamp),
        _ => assert!(
            verdict.contains(modstamp),
            "“{verdict}” has no “{modstamp}”"
        ),
    }
}

#[track_caller]
fn assert_causes(host: &Host, reasons: Value) {
    assert_eq!(host.row(X86)["modstamp"]["reasons"], reasons);
}

/// A host whose libvirt was refreshed and asked again.
fn settled() -> Host {
    let host = Host::new();
    host.refresh();
    host.ask(X86);
    assert_fresh(&host, X86);
    host
}

// The status of what libvirt noted down.

#[test]
fn samples_of_real_libvirts_are_read_as_they_are() {
    for (sample, ctime) in [(SAMPLE, 1_795_311_188_i64), (NEWER_SAMPLE, 1_795_311_179)] {
        let host = Host::new();
        let file = host.keep(SYSTEM, sample);
        host.set_mtime(&file, now() - 100);
        let row = host.row(X86);
        let expected = json!({
            "program": X86,
            "program_ctime": ctime,
            "directories": [{"path": null, "mtime": ctime}],
        });
        assert_eq!(row["recorded"], expected);
        assert_eq!(
            (&row["profile"], &row["owner"]),
            (&json!("qemu"), &json!("system"))
        );
        assert!((100..110).contains(&row["age_seconds"].as_i64().unwrap()));
        assert_eq!(row["path"], format!("/{file}"));
    }
}

#[test]
fn a_users_own_cache_is_shown_beside_the_systems_and_found_where_xdg_says() {
    let host = Host::new();
    assert_eq!(
        host.say(&["libvirt", "status"]).0,
        "libvirt has cached no answers, neither the system's nor your own\n"
    );
    host.ask(X86);
    host.keep(USER, &host.answer(ARM));
    host.keep(
        "srv/cache/libvirt/qemu/cache/capabilities",
        &host.answer(X86),
    );
    let owners = |rows: &[Value]| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        rows.iter()
            .map(|row| (text(&row["owner"]), text(&row["recorded"]["program"])))
            .collect()
    };
    let of = |owner: &str, program: &str| (owner.to_owned(), program.to_owned());
    assert_eq!(
        owners(&host.rows(&[])),
        [of("system", X86), of("user", ARM)]
    );
    let mut status = host.modstamp(&["libvirt", "status", "--json"]);
    let output = status.env("XDG_CACHE_HOME", "/srv/cache").output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = json["files"].as_array().unwrap();
    assert_eq!(owners(rows), [of("system", X86), of("user", X86)]);
}

// modstamp's verdict.

#[test]
fn an_answer_from_after_a_refresh_is_fresh_and_one_from_before_it_is_not() {
    let host = Host::new();
    host.ask(X86);
    assert_says(
        &host,
        Serves,
        "stale: modstamp has not refreshed libvirt yet",
    );
    assert_causes(&host, json!([{"cause": "never-refreshed"}]));
    host.refresh();
    assert_says(&host, Probes, "stale: cached before the last refresh");
    assert_causes(&host, json!([{"cause": "before-refresh"}]));
    host.ask(X86);
    assert_says(&host, Serves, "fresh");
    assert_eq!(
        host.row(X86)["modstamp"],
        json!({"version": 2, "fresh": true, "reasons": []})
    );
}

#[test]
fn a_stale_answer_that_libvirt_rejects_needs_nothing_and_is_told_so() {
    let host = Host::new();
    host.ask(X86);
    host.refresh();
    assert!(!host.serves(X86));
    let (out, _) = host.say(&["libvirt", "status"]);
    assert!(out.ends_with(&format!("\nstale{ASKS_AGAIN}")), "{out}");
    assert!(!out.contains(MAY_SERVE), "{out}");
    host.ask(ARM);
    host.write(QXL, "");
    let (out, _) = host.say(&["libvirt", "status"]);
    let told = format!("\n{ARM}{MAY_SERVE}every other stale answer{ASKS_AGAIN}");
    assert!(host.serves(ARM) && out.ends_with(&told), "{out}");
    host.write(&format!("{SYSTEM}/{}", x86()), "");
    host.refresh();
    let (out, _) = host.say(&["libvirt", "status"]);
    let told = ": no refresh reaches it; run “modstamp libvirt evict --root /” as its owner\n";
    assert!(out.contains(told), "{out}");
    host.say(&["libvirt", "evict"]);
    let (out, _) = host.say(&["libvirt", "status"]);
    assert_eq!(
        out,
        "libvirt has cached no answers, neither the system's nor your own\n"
    );
}

#[test]
fn a_refresh_by_ctimes_makes_libvirt_ask_again_and_the_status_says_so() {
    let host = Host::new();
    host.ask(X86);
    fs::remove_dir_all(host.path(WATCHED)).unwrap();
    next_second();
    let (out, _) = host.say(&["libvirt", "status"]);
    assert!(host.serves(X86) && out.contains(MAY_SERVE), "{out}");
    host.refresh_by_ctime();
    let (out, _) = host.say(&["libvirt", "status"]);
    assert!(!host.serves(X86) && out.contains(ASKS_AGAIN), "{out}");
}

#[test]
fn a_module_that_is_removed_while_the_directorys_mtime_is_put_back_is_told_although_libvirt_sees_nothing()
 {
    let host = settled();
    host.keep_mtime(WATCHED, || host.remove(QXL));
    assert!(host.serves(X86));
    let reason = &host.row(X86)["modstamp"]["reasons"][0];
    assert_eq!(
        (&reason["cause"], &reason["name"]),
        (&json!("removed"), &json!("hw-display-qxl.so"))
    );
    assert_says(
        &host,
        Serves,
        "stale: module hw-display-qxl.so removed from /usr/lib/x86_64-linux-gnu/qemu",
    );
}

#[test]
fn a_module_that_is_truncated_in_place_is_told_although_libvirt_sees_nothing() {
    let host = settled();
    host.write(QXL, "");
    assert_says(
        &host,
        Serves,
        "stale: module hw-display-qxl.so in /usr/lib/x86_64-linux-gnu/qemu changed",
    );
}

#[test]
fn a_module_directory_that_is_gone_is_told_although_libvirt_sees_nothing() {
    let host = settled();
    host.rename(WATCHED, "usr/share/away");
    assert_says(
        &host,
        Serves,
        "stale: module directory /usr/lib/x86_64-linux-gnu/qemu removed",
    );
}

#[test]
fn an_answer_from_amid_a_change_that_was_undone_is_not_taken_for_fresh() {
    let module = "stale: module hw-display-qxl.so";
    let directory = "stale: module directory /usr/lib/x86_64-linux-gnu/qemu";
    let changes: [(&str, &str, &str); 3] = [
        (": > $QXL", "printf 'a module' > $QXL", module),
        ("mv $QXL away", "mv away $QXL", directory),
        ("touch $DIRECTORY/new.so", "rm $DIRECTORY/new.so", directory),
    ];
    for (change, undo, culprit) in changes {
        let host = Host::new();
        // An old mtime, like a package manager's, lets stat be evidence.
        host.sh(&format!("touch -d yesterday {QXL}"));
        std::thread::sleep(std::time::Duration::from_millis(50));
        host.refresh();
        let before = host.mtime(WATCHED);
        let sh = |script: &str| {
            let script = script.replace("$QXL", QXL).replace("$DIRECTORY", WATCHED);
            host.sh(&script);
            if host.mtime(WATCHED) != before {
                host.set_mtime(WATCHED, before);
            }
        };
        sh(change);
        host.ask(X86);
        assert_says(&host, Serves, "stale: module");
        sh(undo);
        assert_says(&host, Serves, culprit);
        assert_says(&host, Serves, "not known: touched since the last refresh");
        let cause = &host.row(X86)["modstamp"]["reasons"][0]["cause"];
        assert_eq!(cause, "touched-since-refresh");
        host.refresh();
        host.ask(X86);
        assert_says(&host, Serves, "fresh");
    }
}

#[test]
fn an_answer_from_a_time_without_a_directory_is_not_taken_for_one_with_it() {
    let host = settled();
    host.rename(WATCHED, "away");
    host.ask(X86);
    host.rename("away", WATCHED);
    let says = host.words(X86);
    assert!(says.starts_with("stale: "), "{says}");
}

#[test]
fn an_answer_from_a_time_with_a_directory_is_not_taken_for_one_without() {
    let host = Host::new();
    host.rename(WATCHED, "away");
    host.refresh_by_ctime();
    host.rename("away", WATCHED);
    host.ask(X86);
    host.rename(WATCHED, "away");
    let says = host.words(X86);
    assert!(says.starts_with("stale: "), "{says}");
}

#[test]
fn the_callers_environment_is_not_libvirts() {
    let host = settled();
    let mut status = host.modstamp(&["libvirt", "status"]);
    let output = status.env("QEMU_MODULE_DIR", "/usr/bin").output().unwrap();
    let (out, _) = host.said(&output);
    assert!(out.trim_end().ends_with("fresh"), "{out}");
}

#[test]
fn a_touched_stamp_makes_every_answer_stale_until_the_next_refresh() {
    let host = settled();
    host.ask(ARM);
    host.write("var/lib/modstamp/qemu.stamp", "");
    for program in [X86, ARM] {
        let row = host.row(program);
        assert_eq!(row["modstamp"]["reasons"][0]["cause"], "stamp", "{row:#}");
        assert!(host.serves(program));
    }
    host.refresh();
    host.ask(X86);
    assert_fresh(&host, X86);
}

#[test]
fn what_a_user_stamps_is_not_asked_of_libvirt() {
    let host = settled();
    let stamp = "home/me/.local/state/modstamp/qemu.stamp";
    host.sh(&format!(
        "mkdir -p {}; touch {stamp}",
        Path::new(stamp).parent().unwrap().display()
    ));
    assert_fresh(&host, X86);
}

#[test]
fn a_variable_of_the_caller_is_none_of_the_daemons() {
    let host = settled();
    let mut status = host.modstamp(&["libvirt", "status"]);
    let (out, _) = host.said(
        &status
            .env("QEMU_MODULE_DIR", "/opt/nothing")
            .output()
            .unwrap(),
    );
    assert!(out.trim_end().ends_with("  fresh"), "{out}");
}

#[test]
fn another_programs_change_does_not_make_an_answer_stale() {
    let host = settled();
    host.ask(ARM);
    host.write(&ARM[1..], "another program");
    assert_fresh(&host, X86);
    let reason = &host.row(ARM)["modstamp"]["reasons"][0];
    assert_eq!(
        (&reason["input"], &reason["path"]),
        (&json!("program"), &json!(ARM))
    );
}

#[test]
fn a_path_that_the_profile_newly_names_outdates_libvirts_answers_only_if_something_is_there() {
    let host = settled();
    profile(
        &host,
        "files = [\"/etc/qemu/*.conf\", \"/etc/newly-named.conf\"]",
    );
    assert_fresh(&host, X86);
    host.write("etc/newly-named.conf", "");
    let reasons = &host.row(X86)["modstamp"]["reasons"];
    assert_eq!(reasons.as_array().unwrap().len(), 1, "{reasons}");
    assert_eq!(reasons[0]["cause"], "added");
}

#[test]
fn a_program_that_the_profile_does_not_name_is_known_by_its_ctime() {
    let host = Host::new();
    host.write("usr/bin/my-qemu", "a program");
    host.refresh();
    host.ask("/usr/bin/my-qemu");
    assert_fresh(&host, "/usr/bin/my-qemu");
    next_second();
    host.write("usr/bin/my-qemu", "another one");
    let words = host.words("/usr/bin/my-qemu");
    assert_eq!(
        words,
        "stale: program /usr/bin/my-qemu not known: it was touched, and only its ctime is known"
    );
    host.remove("usr/bin/my-qemu");
    assert_eq!(
        host.words("/usr/bin/my-qemu"),
        "stale: program /usr/bin/my-qemu removed"
    );
}

#[test]
fn a_record_that_is_lost_torn_or_of_another_version_makes_every_answer_stale_until_the_next_refresh()
 {
    let host = settled();
    let whole = fs::read(host.path(RECORD)).unwrap();
    let old = b"modstamp-libvirt 1\nlatest 00000000001700000001\nevicted\n\
        modstamp-witness 1 qemu\nstamp system -\nstamp user -\nend 3\n";
    let breaks: [Option<&[u8]>; 7] = [
        None,
        Some(old),
        Some(b""),
        Some(&whole[..whole.len() / 2]),
        Some(&whole[1..]),
        Some(b"\xff\0"),
        Some(&[b'x'; 1 << 20]),
    ];
    for text in breaks {
        let said = match text {
            None => {
                host.remove(RECORD);
                "stale: modstamp has not refreshed libvirt yet"
            }
            Some(text) => {
                fs::write(host.path(RECORD), text).unwrap();
                ": it is torn or of another version; run “modstamp libvirt refresh” as root"
            }
        };
        assert_says(&host, Serves, said);
        host.refresh();
        host.ask(X86);
        assert_fresh(&host, X86);
    }
}

#[test]
fn a_record_that_cannot_be_read_is_told_with_its_path_and_a_remedy_and_is_not_called_missing() {
    let host = settled();
    fs::write(host.path(RECORD), "torn").unwrap();
    let error = "cannot read the record of the last refresh /var/lib/modstamp/qemu.libvirt: \
         it is torn or of another version; \
         run “modstamp libvirt refresh” as root, which writes another";
    assert_eq!(host.words(X86), format!("stale: {error}"));
    assert_causes(&host, json!([{"cause": "useless-record", "error": error}]));
    host.set_permissions(RECORD, 0o622);
    assert_says(&host, Serves, ": it can be written by ");
    host.remove(RECORD);
    assert_causes(&host, json!([{"cause": "never-refreshed"}]));
}

#[test]
fn a_record_that_is_no_file_is_told_and_is_not_waited_for() {
    for (script, problem) in [
        ("mkfifo RECORD", "it is not a regular file; run"),
        ("mkdir RECORD", "it is not a regular file; run"),
        (
            "ln -s loop RECORD",
            "No such file or directory (os error 2); make it readable",
        ),
    ] {
        let host = Host::new();
        host.ask(X86);
        host.sh(&script.replace("RECORD", RECORD));
        assert_says(&host, Serves, problem);
    }
}

#[test]
fn a_change_by_libvirts_own_rule_since_the_refresh_asks_for_another_one() {
    let host = settled();
    // The refresh left the next second, and libvirt compares whole seconds.
    std::thread::sleep(Duration::from_secs(2));
    host.write(&format!("{WATCHED}/new.so"), "a module");
    host.ask(X86); // libvirt does so by itself: the directory has another mtime.
    assert_says(
        &host,
        Serves,
        "a module directory changed since the last refresh",
    );
    assert_causes(&host, json!([{"cause": "since-refresh"}]));
    host.refresh();
    host.ask(X86);
    assert_fresh(&host, X86);
}

// The refresh.

#[test]
fn each_refresh_leaves_a_second_that_the_directory_never_had() {
    let host = Host::new();
    let mut seconds = vec![host.mtime(WATCHED), now()];
    for _ in 0..4 {
        seconds.push(host.refresh()); // Most of them within one second.
    }
    let is_later = |pair: &[i64]| pair[0] < pair[1];
    assert!(seconds[1..].windows(2).all(is_later), "{seconds:?}");
    // The mtime is put back, and the record is lost.
    host.set_mtime(WATCHED, seconds[0]);
    seconds.push(host.refresh());
    host.remove(RECORD);
    seconds.push(host.refresh());
    // The clock was years ahead, and is not any more.
    host.set_mtime(WATCHED, 4_000_000_000);
    seconds.push(host.refresh());
    host.set_mtime(WATCHED, seconds[0]);
    seconds.push(host.refresh());
    assert_eq!(seconds[8], 4_000_000_001);
    assert!(seconds[1..].windows(2).all(is_later), "{seconds:?}");
    // Neither record nor mtime tells the last second. It was no later than the clock.
    host.set_mtime(WATCHED, 1_600_000_000);
    host.remove(RECORD);
    let clock = now();
    assert!(host.refresh() > clock);
}

#[test]
fn a_refresh_after_a_change_in_the_future_second_of_the_last_one_is_a_new_second() {
    let host = Host::new();
    let ahead = host.refresh();
    while now() < ahead {
        std::thread::sleep(Duration::from_millis(5));
    }
    host.write(&format!("{WATCHED}/new.so"), "a module");
    assert!(host.refresh() > ahead);
}

#[test]
fn a_second_that_a_killed_refresh_claimed_is_never_chosen_again() {
    let host = Host::new();
    let mut claimed = host.refresh();
    // The refresh was killed before it moved the directory, or before it wrote the first record.
    let old = fs::read(host.path(RECORD)).unwrap();
    for text in [&old[..], b""] {
        claimed += 50;
        fs::write(host.path(RECORD), text).unwrap();
        host.set_mtime(RECORD, claimed);
        host.set_mtime(WATCHED, 1_600_000_000);
        let next = host.refresh();
        assert!(next > claimed, "{next} is not after {claimed}");
        assert_eq!(host.mtime(RECORD), next);
        claimed = next;
    }
}

#[test]
fn an_update_that_completes_the_record_keeps_the_last_second() {
    let host = Host::new();
    host.settle();
    host.say(&["touch"]); // It has no time to read programs.
    let inode = || fs::metadata(host.path(RECORD)).unwrap().ino();
    let (second, old) = (host.mtime(RECORD), inode());
    host.say(&["update"]);
    assert_ne!(inode(), old);
    assert_eq!((host.mtime(RECORD), host.mtime(WATCHED)), (second, second));
    host.ask(X86);
    assert_fresh(&host, X86);
}

#[test]
fn refreshes_at_once_leave_a_whole_record_and_a_second_each() {
    let host = Host::new();
    let before = now();
    let refresh = host.modstamp(&["libvirt", "refresh"]);
    let start = |_| {
        let mut often = Command::new("sh");
        often.args([
            "-ec",
            "for turn in 1 2 3 4 5 6 7 8 9 10; do \"$0\" \"$@\"; done",
        ]);
        often.arg(refresh.get_program()).args(refresh.get_args());
        at_home(often).stdout(Stdio::null()).spawn().unwrap()
    };
    let mut children: Vec<_> = (0..8).map(start).collect();
    let mut ended = children.iter_mut().map(|child| child.wait().unwrap());
    assert!(ended.all(|status| status.success()));
    let last = host.mtime(WATCHED);
    assert!(
        last >= before + 80,
        "{last} is less than 80 seconds after {before}"
    );
    let record = fs::read_to_string(host.path(RECORD)).unwrap();
    let start = "version = 2\n\n[effect]\nreached = \"by-times\"\n\n[[effect.moved]]\n";
    let moved = format!("path = \"/{WATCHED}\"\nsecond = {last}\n");
    assert!(record.starts_with(&format!("{start}{moved}")), "{record}");
    assert!(
        record.contains("\n\nmodstamp-witness 2 qemu\nscope packages\n"),
        "{record}"
    );
    assert_eq!(host.mtime(RECORD), last);
    host.ask(X86);
    assert_fresh(&host, X86);
    assert_eq!(
        host.sh("ls -A var/lib/modstamp"),
        ".qemu.lock\nqemu.libvirt\nqemu.log\nqemu.stamp\n"
    );
    assert_eq!(
        fs::metadata(host.path(RECORD)).unwrap().mode() & 0o777,
        0o644
    );
}

#[test]
fn only_the_directory_that_libvirt_watches_is_moved() {
    let host = Host::new();
    let moved = host.different(|| {
        let (out, err) = host.say(&["libvirt", "refresh"]);
        assert_eq!(
            (&*out, &*err),
            ("moved the time of /usr/lib/x86_64-linux-gnu/qemu\n", "")
        );
    });
    assert_eq!(moved, [WATCHED]);
}

#[test]
fn all_module_directories_are_moved_where_no_driver_tells_which_is_watched() {
    let host = Host::new();
    host.remove(DRIVER);
    let moved = host.different(|| host.refresh());
    assert_eq!(
        moved,
        [FOREIGN, WATCHED, "usr/lib64/qemu", "usr/share/modules"]
    );
    let ahead = host.mtime(WATCHED);
    assert_eq!(
        [FOREIGN, "usr/lib64/qemu", "usr/share/modules"].map(|path| host.mtime(path)),
        [ahead; 3]
    );
}

/// Meson's and others' places of state with the prefix /usr/local.
#[test]
fn the_cache_of_a_libvirt_below_usr_local_is_seen_and_cleaned() {
    for top in ["var/local/cache", "usr/local/var/cache"] {
        let host = Host::new();
        host.ask(X86);
        fs::create_dir_all(host.path(top)).unwrap();
        fs::rename(
            host.path("var/cache/libvirt"),
            host.path(&format!("{top}/libvirt")),
        )
        .unwrap();
        assert!(host.words(X86).starts_with("stale"), "{top}");
        host.say(&["libvirt", "evict"]);
        let (out, _) = host.say(&["libvirt", "status"]);
        assert!(!out.contains(X86), "{top}: {out}");
    }
}

/// Debian's own group may write to /var/local.
#[test]
fn a_place_below_usr_local_that_has_no_cache_is_no_trouble() {
    use std::os::unix::fs::PermissionsExt;
    let host = Host::new();
    host.ask(X86);
    let local = host.path("var/local");
    fs::create_dir_all(&local).unwrap();
    let _ = std::os::unix::fs::chown(&local, None, Some(50)); // as root
    fs::set_permissions(&local, fs::Permissions::from_mode(0o2775)).unwrap();
    let (_, err) = host.say(&["libvirt", "status"]);
    assert_eq!(err, "");
    host.say(&["libvirt", "refresh"]);
}

#[test]
fn a_refresh_keeps_the_directorys_atime_and_ctimes_of_programs() {
    let host = Host::new();
    // An atime later than the other times stays, whoever reads (relatime in mount(8)).
    let read = FileTime::from_unix_time(now() + 3600, 7);
    filetime::set_file_atime(host.path(WATCHED), read).unwrap();
    let ctime = |path: &str| fs::metadata(host.path(&path[1..])).unwrap().ctime_nsec();
    let before = [X86, ARM].map(ctime);
    host.refresh();
    let stat = fs::metadata(host.path(WATCHED)).unwrap();
    assert_eq!(FileTime::from_last_access_time(&stat), read);
    assert_eq!([X86, ARM].map(ctime), before);
}

#[test]
fn where_the_directory_is_gone_the_programs_get_another_ctime_and_nothing_else_changes() {
    let host = Host::new();
    host.set_permissions(&X86[1..], 0o4755);
    host.set_permissions(&ARM[1..], 0o6711);
    fs::remove_dir_all(host.path(WATCHED)).unwrap();
    host.ask(X86);
    let paths = [X86, ARM, "/usr/share/kvm-1"]; // /usr/libexec/qemu-kvm is a link to the last one.
    for _ in 0..2 {
        let before = paths.map(|path| host.ctime(path));
        let moved = host.different(|| {
            let (out, err) = host.say(&["libvirt", "refresh"]);
            let expected = [ARM, X86, "/usr/libexec/qemu-kvm"]
                .map(|path| format!("moved the ctime of {path}\n"));
            let mut lines: Vec<String> = out.lines().map(|line| format!("{line}\n")).collect();
            lines.sort();
            assert_eq!((lines.as_slice(), &*err), (&expected[..], ""));
        });
        assert_eq!(moved, [""; 0]);
        let after = paths.map(|path| host.ctime(path));
        assert!(
            before
                .iter()
                .zip(after)
                .all(|(before, after)| *before != after),
            "{before:?}, {after:?}"
        );
        assert_says(&host, Probes, "stale: cached before the last refresh");
        host.ask(X86);
        assert_says(&host, Serves, "fresh");
    }
}

#[test]
fn a_program_of_two_names_is_known_by_both_where_the_directory_is_gone() {
    let host = Host::new();
    let names = [
        X86,
        "/usr/bin/qemu-system-hard",
        "/usr/bin/qemu-system-link",
    ];
    fs::hard_link(host.path(&X86[1..]), host.path(&names[1][1..])).unwrap();
    host.link(&names[2][1..], "qemu-system-x86_64");
    fs::remove_dir_all(host.path(WATCHED)).unwrap();
    host.refresh_by_ctime();
    for name in names {
        host.ask(name);
        assert_fresh(&host, name);
    }
}

#[test]
fn a_module_directory_that_others_can_write_is_not_moved_but_the_programs_are() {
    let host = Host::new();
    host.set_permissions(WATCHED, 0o777);
    let moved = host.different(|| {
        let (out, _) = host.say(&["libvirt", "refresh"]);
        assert!(
            out.contains("moved the ctime of /usr/bin/qemu-system-x86_64\n"),
            "{out}"
        );
    });
    assert_eq!(moved, [""; 0]);
    host.ask(X86);
    assert_fresh(&host, X86);
}

#[test]
fn a_module_directory_that_is_a_link_is_moved_where_it_leads() {
    let host = Host::new();
    host.rename(WATCHED, "usr/share/x86");
    for target in ["/usr/share/x86", "../../share/x86"] {
        host.link(WATCHED, target);
        let moved = host.different(|| drop(host.say(&["libvirt", "refresh"])));
        assert_eq!(moved, ["usr/share/x86"]);
    }
}

#[test]
fn a_refresh_never_leaves_the_root() {
    let host = Host::new();
    let outside = host.beside("outside");
    fs::create_dir(&outside).unwrap();
    for gone in [WATCHED, "usr/bin", "usr/share"] {
        // Without programs, no refresh waits for their ctimes.
        fs::remove_dir_all(host.path(gone)).unwrap();
    }
    let up = "../".repeat(9);
    let stat = || {
        let stat = fs::metadata(&outside).unwrap();
        (
            stat.mtime(),
            stat.mtime_nsec(),
            stat.ctime(),
            stat.ctime_nsec(),
        )
    };
    let before = stat();
    let outside = outside.display();
    for target in [
        outside.to_string(),
        format!("{up}{outside}"),
        format!("{up}outside"),
    ] {
        host.link(WATCHED, &target);
        let (out, err) = host.say(&["libvirt", "refresh"]);
        assert_eq!(
            (&*out, &*err),
            ("there was nothing to move or to remove\n", ""),
            "{target}"
        );
        assert_eq!(stat(), before, "{target}");
    }
}

#[test]
fn a_refresh_of_a_host_with_nothing_is_no_failure() {
    let scratch = tempfile::tempdir().unwrap();
    let mut refresh = Command::new(env!("CARGO_BIN_EXE_modstamp"));
    refresh
        .args(["libvirt", "refresh", "--root"])
        .arg(scratch.path());
    let output = at_home(refresh).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "there was nothing to move or to remove\n"
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

// The touch and the triggers.

fn profile(host: &Host, text: &str) {
    host.write("etc/modstamp/profiles.d/qemu.toml", text);
}

#[test]
fn a_touch_refreshes_libvirt_where_the_profile_says_so() {
    let host = settled();
    let (out, err) = host.say(&["touch"]);
    let moved = format!("moved the time of /{WATCHED}\n");
    assert!(out.ends_with(&moved) && err.is_empty(), "{out}{err}");
    assert_says(&host, Probes, "stale: cached before the last refresh");
    host.ask(X86);
    assert_fresh(&host, X86);
    profile(&host, "refresh-libvirt = false");
    let second = host.mtime(WATCHED);
    host.say(&["touch"]);
    assert_eq!(host.mtime(WATCHED), second);
    assert_says(&host, Serves, "stale: system stamp touched");
    profile(&host, "refresh-libvirt = true");
    host.say(&["touch"]);
    assert!(host.mtime(WATCHED) > second);
}

#[test]
fn a_profile_of_ones_own_refreshes_nothing() {
    let host = Host::new();
    let text = format!("module-directories = [\"/{WATCHED}\"]\nprograms = [\"{X86}\"]");
    host.write("etc/modstamp/profiles.d/own.toml", &text);
    let moved = host.different(|| drop(host.say(&["touch", "--profile", "own"])));
    assert_eq!(moved, [""; 0]);
    profile(&host, "refresh-libvirt = 1");
    let error = host.fail(&["touch"]).1;
    assert!(error.contains("qemu.toml:1: “refresh-libvirt” is of type integer; write refresh-libvirt = true or false"), "{error}");
}

#[test]
fn dpkgs_trigger_moves_the_directory_that_fired() {
    let host = settled();
    let fired = format!("/{WATCHED} /usr/lib/nothing");
    let moved = host.different(|| {
        let (out, err) = host.say(&["trigger", "dpkg", &fired]);
        assert_eq!((&*out, &*err), ("", ""));
    });
    assert_eq!(moved, [WATCHED]);
    host.ask(X86);
    assert_fresh(&host, X86);
}

#[test]
fn triggers_for_two_directories_leave_what_is_cached_after_both_fresh() {
    let host = settled();
    for fired in [WATCHED, FOREIGN] {
        host.say(&["trigger", "dpkg", &format!("/{fired}")]);
    }
    host.ask(X86);
    assert_fresh(&host, X86);
}

#[test]
fn a_trigger_refreshes_by_what_is_built_in_where_the_profile_is_wrong() {
    let host = settled();
    profile(&host, "refresh-libvirt = yes");
    let fired = format!("/{WATCHED}");
    let moved = host.different(|| {
        let (_, err) = host.say(&["trigger", "dpkg", &fired]);
        assert!(err.contains("qemu.toml:1: "), "{err}");
    });
    assert_eq!(moved, [WATCHED]);
}

#[test]
fn a_program_is_known_by_its_new_ctime_by_whatever_link_it_was_asked() {
    let host = Host::new();
    host.link("usr/bin/kvm", "qemu-system-x86_64");
    fs::remove_dir_all(host.path(WATCHED)).unwrap();
    host.refresh_by_ctime();
    host.ask("/usr/bin/kvm");
    assert_fresh(&host, "/usr/bin/kvm");
}

#[test]
fn a_chmod_during_a_refresh_is_not_undone() {
    let host = Host::new();
    fs::remove_dir_all(host.path(WATCHED)).unwrap();
    let program = host.path(&X86[1..]);
    // Within the second of the program's last change, a refresh waits for the next one.
    next_second();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let mut refresh = host.modstamp(&["libvirt", "refresh"]).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
    assert!(refresh.wait().unwrap().success());
    assert_eq!(fs::metadata(&program).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_terminal_gets_nothing_that_an_xml_error_quotes() {
    let host = Host::new();
    host.write(
        &format!("{SYSTEM}/{}", x86()),
        "<qemuCaps><a></\x1b]0;owned\x07\n></qemuCaps>",
    );
    let (out, _) = host.say(&["libvirt", "status"]);
    assert!(out.contains("it is not XML as libvirt writes it"), "{out}");
    assert!(!out.contains(['\x1b', '\x07']), "{out:?}");
    assert_eq!(out.lines().count(), 3, "{out}");
}

#[test]
fn dpkgs_trigger_for_a_directory_that_is_gone_moves_the_programs() {
    let host = settled();
    fs::remove_dir_all(host.path(WATCHED)).unwrap();
    assert_says(&host, Serves, "stale: module directory");
    let fired = format!("/{WATCHED}");
    // libvirt compares whole seconds, and the refresh moved the programs in this one.
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(
        host.different(|| drop(host.say(&["trigger", "dpkg", &fired]))),
        [""; 0]
    );
    assert_says(&host, Probes, "stale: ");
    host.ask(X86);
    assert_fresh(&host, X86);
}

#[test]
fn rpms_trigger_refreshes_for_a_modules_path_and_for_no_other() {
    let host = settled();
    let send = |path: &str| {
        let list = host.beside("list");
        fs::write(&list, path).unwrap();
        let mut trigger = host.modstamp(&["trigger", "rpm"]);
        let output = trigger
            .stdin(fs::File::open(list).unwrap())
            .output()
            .unwrap();
        assert_eq!(host.said(&output), (String::new(), String::new()));
    };
    assert_eq!(
        host.different(|| send("/usr/lib/x86_64-linux-gnu/qemu-anything/a.so")),
        [""; 0]
    );
    assert_fresh(&host, X86);
    assert_eq!(host.different(|| send(&format!("/{QXL}"))), [WATCHED]);
    profile(&host, "refresh-libvirt = false");
    assert_eq!(host.different(|| send(&format!("/{QXL}"))), [""; 0]);
}

// The eviction.

/// A host with stale answers of `ARM`, and fresh ones of `X86`, for the system and for the user.
fn half_stale() -> (Host, [String; 4]) {
    let host = Host::new();
    let stale = [SYSTEM, USER].map(|cache| host.keep(cache, &host.answer(ARM)));
    host.refresh();
    let fresh = [SYSTEM, USER].map(|cache| host.keep(cache, &host.answer(X86)));
    let [a, b] = stale;
    let [c, d] = fresh;
    (host, [a, b, c, d])
}

fn are_there(host: &Host, files: &[String; 4]) -> [bool; 4] {
    files.each_ref().map(|file| host.path(file).exists())
}

#[test]
fn only_what_is_stale_is_removed() {
    let (host, files) = half_stale();
    let (out, err) = host.say(&["libvirt", "evict"]);
    let line = |file: &str| format!("removed /{file} ({ARM}): cached before the last refresh\n");
    assert_eq!(
        (out, err),
        (line(&files[0]) + &line(&files[1]), String::new())
    );
    assert_eq!(are_there(&host, &files), [false, false, true, true]);
    assert_eq!(host.say(&["libvirt", "evict"]).0, "nothing to remove\n");
    assert_fresh(&settled(), X86);
}

#[test]
fn all_is_removed_where_that_is_asked_for() {
    let (host, files) = half_stale();
    host.write(&format!("{SYSTEM}/notes.txt"), "no cache file");
    let (out, _) = host.say(&["libvirt", "evict", "--all"]);
    assert!(
        out.contains(&format!("removed /{} ({X86}): fresh\n", files[2])),
        "{out}"
    );
    assert_eq!(are_there(&host, &files), [false; 4]);
    assert!(host.path(SYSTEM).join("notes.txt").exists());
}

#[test]
fn a_dry_run_says_what_would_be_removed_and_changes_nothing() {
    for all in [&["libvirt", "evict"][..], &["libvirt", "evict", "--all"]] {
        let (host, files) = half_stale();
        let caches = || host.sh("find var home -printf '%p %T@ %C@\n'");
        let before = caches();
        let (would, _) = host.say(&[all, &["--dry-run"]].concat());
        assert_eq!(caches(), before);
        assert_eq!(are_there(&host, &files), [true; 4]);
        let (removed, _) = host.say(all);
        assert!(would.starts_with("would remove /"), "{would}");
        assert_eq!(would.replace("would remove", "removed"), removed);
    }
}

#[test]
fn what_is_no_regular_file_is_shown_named_and_left_alone() {
    for script in ["ln -s /etc/qemu/a.conf FILE", "mkdir FILE", "mkfifo FILE"] {
        let host = Host::new();
        let file = format!("{SYSTEM}/{}", file_name(X86));
        host.sh(&script.replace("FILE", &file));
        let row = host.rows(&[]).remove(0);
        assert_eq!(sentence(&row), "it is not a regular file");
        assert_eq!(
            host.words(&format!("/{file}")),
            "stale: it is not a regular file"
        );
        for all in [
            &["libvirt", "evict", "--all", "--dry-run"][..],
            &["libvirt", "evict", "--all"],
            &["libvirt", "evict"],
        ] {
            let (out, err) = host.fail(all);
            assert_eq!(out, "nothing to remove\n");
            let expected = format!(
                "modstamp: cannot remove libvirt's cache file /{file}: it is not a regular file; look at it, and remove it by hand if that is right\n"
            );
            assert_eq!(err, expected, "{script}");
        }
        assert!(fs::symlink_metadata(host.path(&file)).is_ok(), "{script}");
        assert!(host.path("etc/qemu/a.conf").exists());
    }
}

/// `/var/cache/libvirt/qemu` can belong to the user that QEMU runs as, and be bent by that user.
#[test]
fn a_cache_directory_that_is_a_link_is_not_followed() {
    for link in [SYSTEM, "var/cache/libvirt/qemu", "var/cache/libvirt"] {
        let (host, files) = half_stale();
        host.rename(link, "srv");
        host.link(link, "/srv");
        let refused = "cannot look at libvirt's cache in /var/cache/libvirt/qemu: Not a directory";
        let (out, err) = host.fail(&["libvirt", "status"]);
        assert!(
            err.starts_with(&format!("modstamp: {refused}")),
            "{link}: {err}"
        );
        assert_eq!(out.matches("  system  ").count(), 0, "{out}");
        let (out, err) = host.fail(&["libvirt", "evict", "--all"]);
        assert!(err.contains(refused), "{link}: {err}");
        assert_eq!(out.matches(SYSTEM).count(), 0, "{out}");
        assert_eq!(host.sh("find srv -name '*.xml'").lines().count(), 2);
        assert!(!host.path(&files[1]).exists() && !host.path(&files[3]).exists());
    }
}

#[test]
fn caches_of_other_roots_are_not_looked_at() {
    let host = Host::new();
    let outside = host.beside("outside");
    fs::create_dir_all(outside.join("libvirt/qemu/cache/capabilities")).unwrap();
    let file = outside
        .join("libvirt/qemu/cache/capabilities")
        .join(file_name(X86));
    fs::write(&file, host.answer(X86)).unwrap();
    host.link("srv", "../outside");
    for cache in [&outside.display().to_string(), "/srv", "srv", "/../outside"] {
        let mut evict = host.modstamp(&["libvirt", "evict", "--all"]);
        let output = evict.env("XDG_CACHE_HOME", cache).output().unwrap();
        assert_eq!(host.said(&output).0, "nothing to remove\n");
        assert!(file.exists(), "{cache}");
    }
}

// Files that libvirt did not write.

/// Writes files into the system's cache. Returns their status, made in little memory and time.
#[track_caller]
fn rows_of<'a>(host: &Host, files: impl IntoIterator<Item = (String, &'a [u8])>) -> Vec<Value> {
    let _ = fs::remove_dir_all(host.path(SYSTEM));
    fs::create_dir_all(host.path(SYSTEM)).unwrap();
    for (name, text) in files {
        fs::write(host.path(SYSTEM).join(name), text).unwrap();
    }
    let status = host.modstamp(&["libvirt", "status", "--json"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -v 150000; exec timeout 20 \"$0\" \"$@\""]);
    limited.arg(status.get_program()).args(status.get_args());
    let output = at_home(limited).output().unwrap();
    let (out, err) = host.said(&output);
    assert_eq!((output.status.code(), &*err), (Some(0), ""), "{out}");
    let json: Value = serde_json::from_str(&out).unwrap();
    json["files"].as_array().unwrap().clone()
}

/// The sentence that tells why a file cannot be read.
#[track_caller]
fn sentence(row: &Value) -> &str {
    assert_eq!(row["recorded"], Value::Null, "{row:#}");
    let sentence = row["modstamp"]["reasons"][0]["error"].as_str().unwrap();
    let reasons = json!([{"cause": "cache-file", "error": sentence}]);
    assert_eq!(row["modstamp"]["reasons"], reasons);
    assert_eq!(row["modstamp"]["fresh"], false);
    sentence
}

fn x86() -> String {
    file_name(X86)
}

#[test]
fn a_cache_file_that_is_cut_off_is_not_known() {
    let host = Host::new();
    let whole = SAMPLE.trim_end().len();
    let pieces =
        (0..whole).map(|length| (format!("{length:04}.xml"), &SAMPLE.as_bytes()[..length]));
    let rows = rows_of(&host, pieces);
    assert_eq!(rows.len(), whole);
    for row in rows {
        let sentence = sentence(&row);
        let is_right = sentence == "it is cut off"
            || sentence.starts_with("it is not XML as libvirt writes it: ");
        assert!(is_right, "{}: {sentence}", row["path"]);
    }
    let whole = &SAMPLE.as_bytes()[..whole];
    assert_eq!(
        rows_of(&host, [(x86(), whole)])[0]["recorded"]["program"],
        X86
    );
}

#[test]
fn what_is_no_cache_file_is_told_in_a_sentence() {
    let host = Host::new();
    let sample = |name: &str, value: Option<&str>| set(SAMPLE, name, value);
    let in_sample = |text: &str| SAMPLE.replacen("<flag", &format!("{text}<flag"), 1);
    let deep = "<a>".repeat(100_000);
    let entity = |declared: &str, used: &str| {
        let emulator = sample("emulator", Some(used));
        format!("<!DOCTYPE qemuCaps [{declared}]>{emulator}")
    };
    let laughs: String = (1..30)
        .map(|n| format!("<!ENTITY l{n} \"&l{0};&l{0};&l{0};&l{0};&l{0};\">", n - 1))
        .collect();
    let declares = "it declares a document type";
    let cases: Vec<(String, &str)> = vec![
        (String::new(), "it is cut off"),
        ("\n".repeat(1 << 20), "it is cut off"),
        ("no XML at all".to_owned(), "it is cut off"),
        (
            "</qemuCaps>".to_owned(),
            "it is not XML as libvirt writes it: ",
        ),
        (
            "<qemuCaps></emulator>".to_owned(),
            "it is not XML as libvirt writes it: ",
        ),
        (
            SAMPLE.replace("</qemuCaps>", "</qemucaps>"),
            "it is not XML as libvirt writes it: ",
        ),
        (
            SAMPLE.replace("</emulator>", ""),
            "it is not XML as libvirt writes it: ",
        ),
        (in_sample("<!--"), "it is not XML as libvirt writes it: "),
        (deep.clone(), "its one element should be “qemuCaps”"),
        (
            in_sample(&deep),
            "its elements are nested more than 64 deep",
        ),
        (
            in_sample(&(deep + &"</a>".repeat(100_000))),
            "its elements are nested more than 64 deep",
        ),
        (
            entity("<!ENTITY x \"/usr/bin/qemu-system-x86_64\">", "&x;"),
            declares,
        ),
        (
            entity(&format!("<!ENTITY l0 \"ha\">{laughs}"), "&l29;"),
            declares,
        ),
        (
            entity("<!ENTITY x SYSTEM \"file:///etc/passwd\">", "&x;"),
            declares,
        ),
        (
            sample("emulator", Some("/&x;")),
            "it has an entity that is not one of XML's own",
        ),
        (
            sample("emulator", Some("/&#xD800;")),
            "it has an entity that is not one of XML's own",
        ),
        (SAMPLE.repeat(2), "its one element should be “qemuCaps”"),
        (
            format!("{SAMPLE}<a/>"),
            "its one element should be “qemuCaps”",
        ),
        (
            SAMPLE.replace("qemuCaps", "nbdkitCaps"),
            "its one element should be “qemuCaps”",
        ),
        ("<a/>".to_owned(), "its one element should be “qemuCaps”"),
        ("<qemuCaps/>".to_owned(), "it has no element “emulator”"),
        (sample("emulator", None), "it has no element “emulator”"),
        (
            SAMPLE.replace("emulator>", "Emulator>"),
            "it has no element “emulator”",
        ),
        (
            in_sample("<a><emulator>/x</emulator></a>").replacen(
                &format!("<emulator>{X86}</emulator>"),
                "",
                1,
            ),
            "it has no element “emulator”",
        ),
        (
            sample("emulator", Some("usr/bin/qemu-system-x86_64")),
            "“emulator” is no absolute path",
        ),
        (
            sample("emulator", Some("")),
            "“emulator” is no absolute path",
        ),
        (
            sample("emulator", Some("/a\0b")),
            "“emulator” is no absolute path",
        ),
        (
            sample("emulator", Some("/&#0;")),
            "it has an entity that is not one of XML's own",
        ),
        (sample("qemuctime", None), "it has no element “qemuctime”"),
        (
            sample("qemuctime", Some("")),
            "“qemuctime” is no whole number",
        ),
        (
            sample("qemuctime", Some("9223372036854775808")),
            "“qemuctime” is no whole number",
        ),
        (
            sample("qemumoddirmtime", Some("-99999999999999999999")),
            "“qemumoddirmtime” is no whole number",
        ),
        (
            sample("qemuctime", Some("1.5")),
            "“qemuctime” is no whole number",
        ),
        (
            sample("qemuctime", Some("1e9")),
            "“qemuctime” is no whole number",
        ),
        (
            sample("qemuctime", Some(&"9".repeat(1 << 20))),
            "“qemuctime” is no whole number",
        ),
        (
            sample("emulator", Some(ARM)),
            "its name is not the SHA-256 digest of “/usr/bin/qemu-system-arm”",
        ),
        (
            sample("emulator", Some(&format!("/{}", "a".repeat(1 << 20)))),
            "“emulator” is longer than any path",
        ),
        (
            sample("emulator", Some("/\u{1b}[31m\n/x")),
            "its name is not the SHA-256 digest of “/\\x1b[31m\\x0a/x”",
        ),
        (
            format!("{SAMPLE}{}", " ".repeat(5 << 20)),
            "it is larger than 4 MiB",
        ),
    ];
    for (text, expected) in cases {
        let start: String = text.chars().take(200).collect();
        let rows = rows_of(&host, [(x86(), text.as_bytes())]);
        assert_eq!(
            rows[0]["recorded"],
            Value::Null,
            "{start}: is not known: {expected}"
        );
        let sentence = sentence(&rows[0]);
        assert!(sentence.starts_with(expected), "{start}: {sentence}");
    }
}

#[test]
fn what_is_no_text_is_told_in_a_sentence() {
    let host = Host::new();
    let latin = |name: &str| {
        let text = set(SAMPLE, name, Some("/EMULATOR")).into_bytes();
        let at = text
            .windows(8)
            .position(|window| window == b"EMULATOR")
            .unwrap();
        [&text[..at], b"\xff\xfe", &text[at + 8..]].concat()
    };
    let utf_16: Vec<u8> = SAMPLE.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (text, expected) in [
        (latin("qemuctime"), "“qemuctime” is no whole number"),
        (
            latin("emulator"),
            "its name is not the SHA-256 digest of “/",
        ),
        (utf_16, "it"),
        (vec![0; 1 << 20], "it is cut off"),
        ((0..=255).cycle().take(1 << 20).collect(), "it"),
    ] {
        let rows = rows_of(&host, [(x86(), &*text)]);
        let sentence = sentence(&rows[0]);
        assert!(sentence.starts_with(expected), "{sentence}");
    }
}

#[test]
fn what_a_cache_file_says_comes_to_a_terminal_in_printable_characters() {
    let host = Host::new();
    let program = "/\u{1b}[31m\nsystem\tvalid\tfresh";
    host.keep(SYSTEM, &set(SAMPLE, "emulator", Some(program)));
    let name = host.path(SYSTEM).join("\u{1b}[32m\n.xml");
    fs::write(name, "").unwrap();
    for arguments in [
        &["libvirt", "status"][..],
        &["libvirt", "evict", "--dry-run"],
        &["libvirt", "evict"],
    ] {
        let (out, err) = host.say(arguments);
        let is_plain = |text: &str| !text.contains(|c: char| c.is_control() && c != '\n');
        assert!(
            is_plain(&out) && is_plain(&err),
            "{arguments:?}: {out:?} {err:?}"
        );
        let lines = out.lines().count();
        assert_eq!(
            lines,
            if arguments[1] == "status" { 5 } else { 2 },
            "{out:?}"
        );
    }
}

#[test]
fn what_libvirt_puts_into_its_files_beside_what_counts_does_not_matter() {
    let host = Host::new();
    let text = host.answer(X86);
    host.ask(X86);
    let expected = host.row(X86)["recorded"].take();
    for other in [
        text.replace("<emulator>/usr", "<emulator>&#x2f;<![CDATA[usr]]>"),
        text.replace("  <", "<!-- <emulator>/x</emulator> --><?x y?>\r\n\t<"),
        format!("\u{feff}<?xml version='1.0' encoding='UTF-8'?>\n{text}\n<!-- the end -->\n"),
        text.replacen(
            "<flag",
            "<machine><emulator>/x</emulator></machine><emulator>/x</emulator><flag",
            1,
        ),
        text.replace("<qemuCaps>", "<qemuCaps a='&amp;' b=\"<'>\">")
            .replace("<'>", "&lt;'&gt;"),
    ] {
        fs::write(host.path(SYSTEM).join(x86()), &other).unwrap();
        let row = host.rows(&[]).remove(0);
        assert_eq!(row["recorded"], expected, "{other}: {row:#}");
    }
}

// nbdkit.

const NBDKIT: &str = "/usr/sbin/nbdkit";
const NBDKIT_CACHE: &str = "var/cache/libvirt/qemu/nbdkitcapabilities";
const PLUGINS: &str = "usr/lib/x86_64-linux-gnu/nbdkit/plugins";
const FILTERS: &str = "usr/lib/x86_64-linux-gnu/nbdkit/filters";

/// A host with nbdkit.
fn with_nbdkit() -> Host {
    let host = Host::new();
    for (directory, name) in [
        (PLUGINS, "nbdkit-curl-plugin.so"),
        (FILTERS, "nbdkit-cow-filter.so"),
    ] {
        fs::create_dir_all(host.path(directory)).unwrap();
        host.write(&format!("{directory}/{name}"), "a module");
    }
    fs::create_dir_all(host.path("usr/sbin")).unwrap();
    host.write(&NBDKIT[1..], "a program");
    host
}

/// The cache file of a libvirt that is built with nbdkit (`qemuNbdkitCapsFormatCache` in its
/// src/qemu/qemu_nbdkit.c). Debian's is built without, so this is written by hand.
fn nbdkit_answer(host: &Host) -> String {
    let mtime = |path: &str| fs::metadata(host.path(path)).map_or(0, |stat| stat.mtime());
    format!(
        "<nbdkitCaps>\n  <path>{NBDKIT}</path>\n  <nbdkitctime>{}</nbdkitctime>\n  \
         <plugindir>/{PLUGINS}</plugindir>\n  <plugindirmtime>{}</plugindirmtime>\n  \
         <filterdir>/{FILTERS}</filterdir>\n  <filterdirmtime>{}</filterdirmtime>\n  \
         <selfctime>1795311187</selfctime>\n  <selfvers>9000000</selfvers>\n  <flag name='plugin-curl'/>\n  \
         <flag name='filter-readahead'/>\n  <version>1.32.5</version>\n</nbdkitCaps>\n",
        host.ctime(NBDKIT),
        mtime(PLUGINS),
        mtime(FILTERS),
    )
}

#[test]
fn nbdkits_answer_is_read_with_its_two_directories() {
    let host = with_nbdkit();
    host.set_mtime(PLUGINS, 7);
    fs::remove_dir_all(host.path(FILTERS)).unwrap();
    host.keep(NBDKIT_CACHE, &nbdkit_answer(&host));
    let expected = json!({
        "program": NBDKIT,
        "program_ctime": host.ctime(NBDKIT),
        "directories": [
            {"path": format!("/{PLUGINS}"), "mtime": 7},
            {"path": format!("/{FILTERS}"), "mtime": 0},
        ],
    });
    assert_eq!(host.row(NBDKIT)["recorded"], expected);
}

#[test]
fn a_refresh_for_nbdkit_moves_nbdkits_directories_and_makes_what_comes_after_fresh() {
    let host = with_nbdkit();
    host.keep(NBDKIT_CACHE, &nbdkit_answer(&host));
    host.ask(X86);
    let refresh = ["libvirt", "refresh", "--profile", "nbdkit"];
    assert_eq!(host.different(|| host.say(&refresh)), [FILTERS, PLUGINS]);
    assert_eq!(host.words(NBDKIT), "stale: cached before the last refresh");
    assert!(host.serves(X86));
    host.keep(NBDKIT_CACHE, &nbdkit_answer(&host));
    assert_fresh(&host, NBDKIT);
    host.keep_mtime(FILTERS, || {
        host.remove(&format!("{FILTERS}/nbdkit-cow-filter.so"))
    });
    let expected = format!("stale: module nbdkit-cow-filter.so removed from /{FILTERS}");
    assert_eq!(host.words(NBDKIT), expected);
    // A touch refreshes, too. A status of one profile shows no other.
    host.say(&["touch", "--profile", "nbdkit"]);
    assert_eq!(host.words(NBDKIT), "stale: cached before the last refresh");
    assert_eq!(host.rows(&["--profile", "nbdkit"]).len(), 1);
    assert_eq!(host.rows(&[]).len(), 2);
    let (out, _) = host.say(&["libvirt", "evict", "--profile", "nbdkit", "--all"]);
    assert_eq!(out.lines().count(), 1);
    assert_eq!(host.rows(&[])[0]["recorded"]["program"], X86);
}

#[test]
fn what_is_no_cache_file_of_nbdkits_is_told_in_a_sentence() {
    let host = with_nbdkit();
    let text = nbdkit_answer(&host);
    for (text, expected) in [
        (SAMPLE.to_owned(), "its one element should be “nbdkitCaps”"),
        (set(&text, "path", None), "it has no element “path”"),
        (
            set(&text, "plugindir", None),
            "it has no element “plugindir”",
        ),
        (
            set(&text, "filterdir", Some("filters")),
            "“filterdir” is no absolute path",
        ),
        (
            set(&text, "filterdirmtime", Some("-")),
            "“filterdirmtime” is no whole number",
        ),
        (text[..text.len() / 2].to_owned(), "it is cut off"),
    ] {
        fs::create_dir_all(host.path(NBDKIT_CACHE)).unwrap();
        fs::write(host.path(NBDKIT_CACHE).join(file_name(NBDKIT)), &text).unwrap();
        assert_eq!(sentence(&host.rows(&[])[0]), expected);
    }
}

#[test]
fn a_profile_that_libvirt_does_not_ask_has_no_cache() {
    let host = Host::new();
    host.ask(X86);
    host.write("etc/modstamp/profiles.d/own.toml", "files = [\"/etc/x\"]");
    for verb in ["status", "refresh", "evict"] {
        let output = host
            .modstamp(&["libvirt", verb, "--profile", "own"])
            .output();
        let (_, said) = host.said(output.as_ref().unwrap());
        let expected =
            "modstamp: libvirt caches nothing of the profile “own”; name one of: qemu, nbdkit\n";
        assert_eq!((output.unwrap().status.code(), &*said), (Some(1), expected));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// A file gives a row, whatever is in it.
    #[test]
    fn any_mutation_of_a_cache_file_gives_a_row(
        mutations in proptest::collection::vec(
            proptest::collection::vec((0..SAMPLE.len(), 0..40_usize, any::<prop::sample::Index>(), 0..4_u8, any::<u8>()), 1..6),
            16,
        ),
    ) {
        thread_local! { static HOST: Host = Host::new(); }
        let files: Vec<(String, Vec<u8>)> = mutations.iter().enumerate().map(|(number, mutations)| {
            let mut text = SAMPLE.as_bytes().to_vec();
            for (at, length, from, how, byte) in mutations {
                let at = (*at).min(text.len());
                let end = (at + length).min(text.len());
                let piece = match how {
                    0 => Vec::new(),
                    1 => vec![*byte; end - at],
                    2 => vec![*byte],
                    _ => {
                        let from = from.index(SAMPLE.len());
                        SAMPLE.as_bytes()[from..(from + length).min(SAMPLE.len())].to_vec()
                    }
                };
                text.splice(at..end, piece);
            }
            // One has the right name, and so is not refused by its name.
            (if number == 0 { x86() } else { format!("{number}.xml") }, text)
        }).collect();
        HOST.with(|host| {
            let rows = rows_of(host, files.iter().map(|(name, text)| (name.clone(), &**text)));
            assert_eq!(rows.len(), files.len());
            for row in rows.iter().filter(|row| row["recorded"]["program"] != X86) {
                assert!(!sentence(row).is_empty());
            }
        });
    }
}
