//! The interpreter of rpm's file triggers: `modstamp trigger rpm` for where every tenth of a millisecond counts.
//!
//! Why a program of its own: rpm starts triggers several times for each package, and the promise is to be quicker than
//! touch(1) and no larger than 1 MiB. The first needs a static program (loading libraries is most of a dynamic one's
//! time), and a static `modstamp`, with its option parser, TOML and JSON, is too large for the second. So this one reads
//! no profile: it is told the module directories. It has no Rust `main`, because the standard library's set-up for
//! one adds another 150 KiB. `make bench` measures both.
//!
//! [`trigger::Body`] tells how it is told. At the end of a transaction rpm starts `modstamp` itself, by the name
//! `rpm-transaction`, which reads the profile and can refresh libvirt.
//!
//! Where the administrator has a say in the profile (`/etc` or `/run/modstamp/profiles.d`), any path that rpm sends may
//! lie in a module directory, and touches.
#![no_main]

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use modstamp::trigger::{self, Body, Manager};
use modstamp::{Root, Stamp};

/// What C calls. Always returns 0: a transaction is never failed.
#[allow(unsafe_code)] // The one name that C has to find; std's own `main` does the same.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, _argv: *const *const u8) -> i32 {
    trigger::fill_standard_descriptors();
    for warning in run(std::env::args_os().nth(1)) {
        let _ = writeln!(std::io::stderr(), "modstamp: warning: {warning}");
    }
    0
}

/// Runs the trigger whose scriptlet's body is in the file `script`. Returns warnings.
fn run(script: Option<OsString>) -> Vec<String> {
    let mut body = Body::read(script);
    let root = match Root::system() {
        Ok(root) => root,
        Err(error) => return vec![error.to_string()],
    };
    let any = body.directories.is_empty() || has_administrators_file(&body.profile);
    let covers = |path: &Path| {
        let mut directories = body.directories.iter();
        any || directories.any(|directory| path.starts_with(directory))
    };
    let (name, durability) = (&body.profile, body.durability);
    let touch = |stamp: &Stamp, by: &str, why: &str| stamp.touch(by, why, durability);
    let done = trigger::run(Manager::Rpm, &root, name, covers, &[], touch);
    body.warnings.extend(done.warnings);
    body.warnings
}

fn has_administrators_file(profile: &str) -> bool {
    ["/etc", "/run"]
        .iter()
        .any(|top| Path::new(&format!("{top}/modstamp/profiles.d/{profile}.toml")).exists())
}
