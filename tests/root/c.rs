//! The C library as C programs use it: built with gcc and pkg-config, and run plainly, under
//! valgrind and under the sanitizers of gcc.
//!
//! These tests need root to hide this machine's stamp from their touches.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use support::test::{self, Needs, Test, test};
use support::{kept, named, run};

pub(super) const PROGRAMS: [&str; 10] = [
    "cargo",
    "flock",
    "gcc",
    "make",
    "mount",
    "nm",
    "pkg-config",
    "setpriv",
    "unshare",
    "valgrind",
];

/// A way to build and start tests/root/promises.c.
struct Way {
    name: &'static str,
    options: &'static [&'static str],
    before: &'static [&'static str],
    only: fn(&str) -> bool,
}

/// Only `a_set_user_id_program_believes_no_environment` tries this promise.
const SET_USER_ID: &str = "a_set_user_id_program_believes_no_environment";

/// This promise would take hours under a checker.
const MILLION: &str = "a_million_calls_leave_memory_and_descriptors_where_they_were";

const WAYS: [Way; 5] = [
    Way {
        name: "plain",
        options: &["-O2"],
        before: &[],
        only: |_| true,
    },
    Way {
        name: "valgrind",
        options: &["-O1"],
        before: &[
            "valgrind",
            "--quiet",
            "--error-exitcode=9",
            "--leak-check=full",
            "--show-leak-kinds=definite,indirect,possible",
            "--errors-for-leak-kinds=definite,indirect,possible",
        ],
        // The child loses the memory that the other thread had.
        only: |promise| promise != MILLION && promise != "a_child_after_fork_may_call",
    },
    Way {
        name: "address_sanitizer",
        options: &["-O1", "-fsanitize=address,undefined"],
        before: &[],
        // The sanitizer has signal handlers of its own. A child after fork may find its allocator
        // locked for ever: gcc 12's holds no lock of `PersistentAllocator` during a fork.
        only: |promise| {
            let others = [
                MILLION,
                "signals_are_left_alone",
                "a_child_after_fork_may_call",
            ];
            !others.contains(&promise)
        },
    },
    Way {
        name: "thread_sanitizer",
        options: &["-O1", "-fsanitize=thread"],
        // Before gcc 14 it finds no room for its shadow if addresses are drawn from too many bits.
        before: &["setarch", "--addr-no-randomize"],
        only: |promise| promise == "two_threads_may_call_at_once",
    },
    Way {
        // It also looks into the library, which gcc did not compile.
        name: "helgrind",
        options: &["-O1"],
        before: &[
            "valgrind",
            "--tool=helgrind",
            "--quiet",
            "--error-exitcode=9",
        ],
        only: |promise| promise == "two_threads_may_call_at_once",
    },
];

/// The root directory into which the library and its header are installed.
static INSTALLED: LazyLock<PathBuf> = LazyLock::new(|| {
    let kept = kept().join("c");
    std::fs::create_dir_all(&kept).unwrap();
    let script = r#"
        make install-library DESTDIR="$1" PREFIX=/usr
    "#;
    let installed = PathBuf::from("/var/lib/installed");
    run(Command::new("flock")
        .arg(kept.join("lock"))
        .args(["sh", "-ec", script, "sh"])
        .arg(&installed)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", kept.join("target"))
        .env_remove("MAKEFLAGS")
        .env_remove("MFLAGS")
        .env_remove("RUSTFLAGS"));
    installed
});

/// The directory of the library.
pub(super) fn library() -> PathBuf {
    INSTALLED.join("usr/lib")
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Builds a C program as the README tells. Returns its path.
fn build(source_file: &Path, options: &[&str], name: &str) -> PathBuf {
    let program = INSTALLED.join(name);
    let flags = run(Command::new("pkg-config")
        .args(["--cflags", "--libs", "modstamp"])
        .env("PKG_CONFIG_PATH", library().join("pkgconfig"))
        .env("PKG_CONFIG_SYSROOT_DIR", &*INSTALLED));
    run(Command::new("gcc")
        .args(["-Wall", "-Wextra", "-Werror", "-g", "-pthread"])
        .arg(format!("-DVERSION=\"{}\"", env!("CARGO_PKG_VERSION")))
        .args(options)
        .arg("-o")
        .args([&program, source_file])
        .args(flags.split_whitespace()));
    program
}

/// Keeps one promise in an empty directory, as a user with a home there.
fn keep(promise: &str, before: &[&str], program: &Path) {
    let here = tempfile::tempdir().unwrap();
    let nobodys = before.contains(&"setpriv");
    if nobodys {
        std::os::unix::fs::chown(here.path(), Some(65534), Some(65534)).unwrap();
    }
    let mut words = before.iter().map(AsRef::as_ref).collect::<Vec<_>>();
    words.extend([program.as_os_str(), promise.as_ref()]);
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new("timeout")
        .arg("400")
        .args(words)
        .current_dir(here.path())
        .env("HOME", here.path())
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_STATE_HOME")
        .env("LD_LIBRARY_PATH", library())
        // Memory that the C library keeps for later is not in use.
        .env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0")
        .output()
        .unwrap();
    // Neither the library nor a checker has anything to say.
    let said = [stdout, stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(status.success() && said.is_empty(), "{status}\n{said}");
    // The profile was given by its path, so its stamp's name has a number.
    let own = std::fs::read_dir(here.path().join(".local/state/modstamp"));
    let names = own
        .into_iter()
        .flatten()
        .map(|file| file.unwrap().file_name());
    let names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    let is_stamp = |name: &String| name.starts_with("vlc-") && name.ends_with(".stamp");
    assert_eq!(names.iter().any(is_stamp), nobodys, "{names:?}");
}

/// The promises that tests/root/promises.c lists.
fn promises() -> Vec<String> {
    let text = std::fs::read_to_string(source("tests/root/promises.c")).unwrap();
    let names = text.lines().filter_map(|line| {
        let name = line.trim().strip_prefix("PROMISE(")?;
        Some(name.strip_suffix("),")?.to_owned())
    });
    names.filter(|name| name != SET_USER_ID).collect()
}

/// The functions that a file names, each on its own line or followed by its arguments.
fn named(path: &str, is_it: impl Fn(&str) -> bool) -> Vec<String> {
    let text = std::fs::read_to_string(source(path)).unwrap();
    let mut names: Vec<String> = text
        .lines()
        .filter(|line| is_it(line))
        .filter_map(|line| {
            let name = &line[line.find("modstamp_")?..];
            let end = name.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
            Some(name[..end.unwrap_or(name.len())].to_owned())
        })
        .collect();
    names.sort();
    names
}

fn the_library_exports_what_the_list_says_and_nothing_else() {
    let listed = named("include/libmodstamp.map", |line| {
        line.starts_with("    modstamp_")
    });
    assert!(!listed.is_empty());
    let symbols = run(Command::new("nm")
        .args(["--dynamic", "--defined-only", "--with-symbol-versions"])
        .arg(library().join("libmodstamp.so.0")));
    let mut exported: Vec<&str> = symbols
        .lines()
        .filter_map(|line| line.rsplit(' ').next())
        .filter(|name| !name.starts_with("LIBMODSTAMP_")) // a version itself
        .collect();
    exported.sort_unstable();
    let is_later = |name: &str| name.ends_with("_for") || name.contains("_watch_");
    let version = |name: &str| match is_later(name) {
        true => "LIBMODSTAMP_0.2",
        false => "LIBMODSTAMP_0",
    };
    let versioned = listed
        .iter()
        .map(|name| format!("{name}@@{}", version(name)));
    let versioned: Vec<String> = versioned.collect();
    assert_eq!(exported, versioned);
    let declared = named("include/modstamp.h", |line| {
        line.contains('(') && line.starts_with(|c: char| c.is_ascii_lowercase())
    });
    assert_eq!(declared, listed);
}

fn the_library_has_its_soname_and_needs_the_c_library_alone() {
    let dynamic = run(Command::new("readelf")
        .args(["--wide", "--dynamic"])
        .arg(library().join("libmodstamp.so.0")));
    let values = |tag: &str| {
        let of_tag = dynamic
            .lines()
            .filter(|line| line.contains(&format!("({tag})")));
        let name = |line: &str| line.split(['[', ']']).nth(1).unwrap_or_default().to_owned();
        of_tag.map(name).collect::<Vec<String>>()
    };
    assert_eq!(values("SONAME"), ["libmodstamp.so.0"]);
    for needed in values("NEEDED") {
        let known = ["libc.so.", "libgcc_s.so.", "ld-linux"];
        assert!(
            known.iter().any(|start| needed.starts_with(start)),
            "{needed}"
        );
    }
    let link = |name: &str| std::fs::read_link(library().join(name)).unwrap();
    let file = format!("libmodstamp.so.{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(link("libmodstamp.so"), Path::new("libmodstamp.so.0"));
    assert_eq!(link("libmodstamp.so.0"), Path::new(&file));
}

fn the_header_is_plain_c99() {
    run(Command::new("gcc")
        .args(["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"])
        .args(["-fsyntax-only", "-x", "c"])
        .arg(INSTALLED.join("usr/include/modstamp.h")));
}

/// Three requests, with a new module before the last one.
fn the_consumer_in_the_examples_probes_again_only_after_a_change() {
    let program = build(&source("examples/consumer.c"), &["-std=c99"], "consumer");
    let here = tempfile::tempdir().unwrap();
    let [modules, profile, probes] =
        ["modules", "example.toml", "probes"].map(|name| here.path().join(name));
    std::fs::create_dir(&modules).unwrap();
    std::fs::write(modules.join("a.so"), "").unwrap();
    std::fs::write(&profile, format!("module-directories = [{modules:?}]\n")).unwrap();
    let mut child = Command::new(program)
        .arg(profile)
        .arg(format!("echo probe >> {probes:?}; ls {modules:?}"))
        .env("HOME", here.path())
        .env("LD_LIBRARY_PATH", library())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut requests = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ask = || {
        writeln!(requests, "request").unwrap();
        let answer = answers.by_ref().map(Result::unwrap);
        answer.take_while(|line| !line.is_empty()).collect()
    };
    let answers: [Vec<String>; 2] = [ask(), ask()];
    assert_eq!(answers, [["a.so"], ["a.so"]]);
    std::fs::write(modules.join("b.so"), "").unwrap();
    let why = format!("asking again: module b.so added to {}", modules.display());
    assert_eq!(ask(), [&why, "a.so", "b.so"]);
    assert_eq!(std::fs::read_to_string(probes).unwrap(), "probe\nprobe\n");
    drop(requests);
    assert!(child.wait().unwrap().success());
}

fn a_user_touches_their_own_stamp() {
    let program = build(&source("tests/root/promises.c"), &[], "promises-user");
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(&*INSTALLED));
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    keep("a_touch_makes_every_witness_stale", &nobody, &program);
}

fn a_set_user_id_program_believes_no_environment() {
    // The loader does not believe LD_LIBRARY_PATH either.
    let path = format!("-Wl,-rpath,{}", library().display());
    let program = build(&source("tests/root/promises.c"), &[&path], "promises-suid");
    let here = tempfile::tempdir().unwrap();
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(&*INSTALLED));
    for path in [here.path(), &program] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    run(Command::new("chmod").arg("6755").arg(&program));
    run(Command::new(program)
        .arg(SET_USER_ID)
        .current_dir(here.path())
        .env("MODULES", "/root"));
}

/// Root touches the system's stamp. `main` has hidden this machine's `/var/lib`.
pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&PROGRAMS);
    let mut tests = Vec::new();
    for way in WAYS {
        for promise in promises().into_iter().filter(|promise| (way.only)(promise)) {
            let name = format!("{}::{promise}", way.name);
            tests.push(test(name, &needs, move || {
                let name = format!("promises-{}-{promise}", way.name);
                let program = build(&source("tests/root/promises.c"), way.options, &name);
                keep(&promise, way.before, &program);
            }));
        }
    }
    type Scenario = fn();
    let scenarios: &[(&str, Scenario)] = named![
        the_library_exports_what_the_list_says_and_nothing_else,
        the_library_has_its_soname_and_needs_the_c_library_alone,
        the_header_is_plain_c99,
        the_consumer_in_the_examples_probes_again_only_after_a_change,
        a_user_touches_their_own_stamp,
        a_set_user_id_program_believes_no_environment,
    ];
    tests.extend(test::tests(&needs, scenarios));
    tests
}
