//! The interpreter of rpm's file triggers: `modstamp trigger rpm`, but quicker and smaller.
//!
//! rpm starts triggers several times for each package. So this program has to be much quicker than
//! touch(1). Most of a small program's time is its start: it loads libraries, and libc sets itself
//! up, even in a static program. So `make` builds this program without libc and std. It has at most
//! 64 KiB, and the library's lowest layers are its sources (`--cfg modstamp_no_std`).
//!
//! Such a start needs code for each processor (src/ground/start.rs). On a processor without that
//! code, or with `make TRIGGER=std`, this is a dynamic program with std.
//!
//! This program reads no profile: [`trigger::Body`] gives it the module directories. At the end of
//! a transaction rpm starts `modstamp` itself, by the name `rpm-transaction`. That one reads the
//! profile, and can refresh libvirt.
//!
//! If the administrator has a file of the profile (in `/etc` or `/run/modstamp/profiles.d`), any
//! path that rpm sends may lie in a module directory. Each of them then makes this program touch.
//! If the body cannot be read, each path makes it touch all stamps, because it cannot know whose
//! modules these are.
#![cfg_attr(any(modstamp_no_std, target_env = "gnu"), no_main)]
#![cfg_attr(modstamp_no_std, no_std)]

extern crate alloc;

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use modstamp::Root;
use modstamp::trigger::{self, Body, Due, Manager};

/// The function that the program's start calls. Always returns 0, because no transaction may fail.
#[cfg(any(modstamp_no_std, target_env = "gnu"))]
#[allow(unsafe_code)] // The start has to find this name. std exports its own `main`, too.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, _argv: *const *const u8) -> i32 {
    run_and_warn();
    0
}

/// Other C libraries give the arguments to std's `main` alone.
#[cfg(not(any(modstamp_no_std, target_env = "gnu")))]
fn main() {
    run_and_warn();
}

fn run_and_warn() {
    trigger::fill_standard_descriptors();
    trigger::ignore_signals_of_writes();
    run().iter().for_each(|warning| trigger::warn(warning));
}

/// Runs the trigger. Its first argument is the file with the scriptlet's body. Returns warnings.
fn run() -> Vec<String> {
    let mut body = Body::read(trigger::first_argument());
    let root = match Root::system() {
        Ok(root) => root,
        Err(error) => return vec![error.to_string()],
    };
    let profiles = body.profiles(&root);
    let mut names = profiles.iter();
    let any = body.directories.is_empty()
        || names.any(|name| trigger::has_administrators_file(&root, name));
    let directories = &body.directories;
    let durability = body.durability;
    let touch = |due: &Due, warnings: &mut Vec<String>| {
        let (stamp, by, why) = (&due.stamp, due.by, due.why);
        stamp.touch_by(by, why, durability, due.deadline, warnings)
    };
    let warnings = trigger::run(
        Manager::Rpm,
        &root,
        &profiles,
        |path| {
            any || directories
                .iter()
                .any(|directory| path.starts_with(directory))
        },
        &[],
        touch,
    );
    body.warnings.extend(warnings);
    body.warnings
}
