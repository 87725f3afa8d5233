//! rpm's trigger program, which `make trigger` builds without std for some processors.
//!
//! For the tests, cargo also builds a program with std. No user gets that one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::{run, sources};

/// How `make` builds rpm's trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// In the usual way: without std, if `make` can for this machine's processor.
    Usual,
    /// With std, as a dynamic program (`TRIGGER=std`).
    Std,
}

/// rpm's trigger, built by `make` in the usual way, once for each run of the tests.
pub fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build(Build::Usual))
}

/// The machine that rustc builds for, such as `x86_64-unknown-linux-gnu`.
pub fn machine() -> String {
    let version = run(Command::new("rustc").arg("-vV"));
    let machine = version.lines().find_map(|line| line.strip_prefix("host: "));
    machine.unwrap().to_owned()
}

/// Whether the usual build has no std. On other machines the tests take the program with std.
pub fn is_without_std() -> bool {
    let known = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];
    known.contains(&&*machine())
}

/// Builds the program in a directory of its own below cargo's.
pub fn build(build: Build) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let target = own.ancestors().nth(3).unwrap().join(match build {
        Build::Usual => "rpm-trigger",
        Build::Std => "rpm-trigger-std",
    });
    let mut make = Command::new("make");
    make.args(["--silent", "trigger"]).current_dir(sources());
    if build == Build::Std {
        make.arg("TRIGGER=std");
    }
    for variable in [
        "MAKEFLAGS",
        "MFLAGS",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
    ] {
        make.env_remove(variable);
    }
    run(make.env("CARGO_TARGET_DIR", &target));
    if build == Build::Usual && !is_without_std() {
        eprintln!("rpm's trigger has std, because this processor has no start without it");
    }
    target.join(machine()).join("trigger/modstamp-rpm-trigger")
}
