//! Parts that the test programs and the benchmarks share.
//!
//! - [`test`]: a test that names its needs, and the run of many.
//! - [`world`], [`libvirt`]: scratch roots with all of a profile's inputs, and a made-up libvirt.
//! - [`mounted`]: scratch file systems of many kinds.
//! - [`machine`]: throw-away Debian machines. [`deb`] and [`rpm`] bring our packages into them, and
//!   [`consumer`] starts real libvirts there.
//! - [`tally`]: how often each promise was tried.
//! - [`rpm_trigger`]: rpm's trigger, as users get it.
//! - [`built`]: files that are built from the working tree.

pub mod built;
pub mod consumer;
pub mod deb;
pub mod libvirt;
pub mod machine;
pub mod mounted;
pub mod rpm;
pub mod rpm_trigger;
pub mod tally;
pub mod test;
pub mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The directory of the project's sources.
pub fn sources() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap().to_owned()
}

/// One of the project's programs, as cargo built it for the tests. Cargo puts it one directory
/// above the test program. rpm's trigger is the one that `make` builds.
pub fn program(name: &str) -> PathBuf {
    if name == "modstamp-rpm-trigger" {
        return rpm_trigger::program().to_owned();
    }
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(2).unwrap().join(name)
}

/// One of the programs that `make programs` built.
pub fn release(name: &str) -> PathBuf {
    let directory = std::env::var_os("MODSTAMP_RELEASE").expect("run this by `make bench`");
    Path::new(&directory).join(name)
}

/// Runs the rest of the program in a mount namespace of its own, so that no mount outlives it. Call
/// it first in `main`.
pub fn enter_own_mount_namespace() {
    use std::os::unix::process::CommandExt;
    const MARK: &str = "MODSTAMP_OWN_MOUNT_NAMESPACE";
    if std::env::var_os(MARK).is_none() {
        let own = std::env::current_exe().unwrap();
        let error = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--"])
            .arg(own)
            .args(std::env::args_os().skip(1))
            .env(MARK, "1")
            .exec();
        panic!("cannot start unshare(1) of util-linux: {error}");
    }
}

/// The directory with files that are slow to make: `$XDG_CACHE_HOME/modstamp-tests`.
pub fn kept() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache =
        cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    let kept = cache.join("modstamp-tests");
    std::fs::create_dir_all(&kept).unwrap();
    kept
}

/// Makes a program, or a script, that can be started at once.
///
/// A child process writes it. If this process did, children of other tests could inherit its
/// descriptor for a moment, and execve(2) refuses a file that is open for writing (`ETXTBSY`).
pub fn executable(path: &Path, content: impl AsRef<[u8]>) {
    use std::io::Write;
    let script = r#"cat > "$1"; chmod 755 "$1""#;
    let mut command = Command::new("sh");
    command.args(["-ec", script, "sh"]).arg(path);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut to = child.stdin.take().unwrap();
    to.write_all(content.as_ref()).unwrap();
    drop(to);
    assert!(child.wait().unwrap().success(), "{}", path.display());
}

/// Runs a command and returns what it printed. If it fails, panics with all that it printed.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output: Output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{out}\n{err}",
        output.status
    );
    out
}
