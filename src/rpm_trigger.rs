//! The interpreter of rpm's file triggers: `modstamp trigger rpm` for where every tenth of a millisecond counts.
//!
//! Why a program of its own: rpm starts triggers several times for each package, and the promise is to be quicker than
//! touch(1) and no larger than 1 MiB. The first needs a static program (loading libraries is most of a dynamic one's
//! time), and a static `modstamp`, with its option parser, TOML and JSON, is too large for the second. So this one reads
//! no profile: it is told the module directories. It has no Rust `main`, because the standard library's set-up for
//! one adds another 150 KiB. `make bench` measures both.
//!
//! rpm passes no arguments to a trigger's interpreter but the path of a file with the scriptlet's body, and counts. So the
//! body is the arguments:
//!
//! ```text
//! %filetriggerin -p /usr/libexec/modstamp/rpm-trigger -- /usr/lib64/qemu
//! --profile qemu --no-sync /usr/lib64/qemu /usr/lib64/qemu-kvm
//! ```
//!
//! Where the administrator has a say in the profile (`/etc` or `/run/modstamp/profiles.d`), any path that rpm sends may
//! lie in a module directory, and touches.
#![no_main]

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use modstamp::trigger::{self, Manager};
use modstamp::{Durability, Root};

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
    let mut warnings = Vec::new();
    let mut name = "qemu";
    let mut directories: Vec<PathBuf> = Vec::new();
    let mut durability = Durability::Synced;
    let body = match script.map(std::fs::read_to_string) {
        Some(Ok(body)) => body,
        Some(Err(error)) => {
            warnings.push(format!("cannot read the body of rpm's trigger: {error}"));
            String::new()
        }
        None => String::new(),
    };
    let mut words = body.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "--no-sync" => durability = Durability::NotSynced,
            "--profile" => name = words.next().unwrap_or(name),
            _ if word.starts_with('/') => directories.push(word.into()),
            _ => warnings.push(format!(
                "the body of rpm's trigger has “{word}”; it may have --profile NAME, --no-sync and directories"
            )),
        }
    }
    let root = match Root::system() {
        Ok(root) => root,
        Err(error) => return vec![error.to_string()],
    };
    let any = directories.is_empty() || has_administrators_file(name);
    let covers = |path: &Path| {
        any || directories
            .iter()
            .any(|directory| path.starts_with(directory))
    };
    let done = trigger::run(Manager::Rpm, &root, name, covers, &[], durability);
    warnings.extend(done.warnings);
    warnings
}

fn has_administrators_file(profile: &str) -> bool {
    ["/etc", "/run"]
        .iter()
        .any(|top| Path::new(&format!("{top}/modstamp/profiles.d/{profile}.toml")).exists())
}
