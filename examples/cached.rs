//! Shows a cached probe: a command's output is kept in a file, and asked for again after a change.
//!
//!     cargo run --example cached -- qemu FILE qemu-system-x86_64 -device help
//!
//! Instead of `qemu`, name any profile, or the path of a profile's file.

use std::error::Error;
use std::process::Command;

// developers.md: uses
use std::io::{self, Write};

use modstamp::{Profile, Verdict};
// developers.md: end

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, file, program, rest @ ..] = &arguments[..] else {
        return Err("usage: cached PROFILE FILE PROGRAM [ARGUMENT]...".into());
    };
    let probe = || {
        let output = Command::new(program).args(rest).output()?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(io::Error::other(format!("{program}: {}", output.status))),
        }
    };

    // developers.md: cached
    let profile = Profile::load(name)?; // for example "qemu"
    let answer = modstamp::cached(&profile, file, probe)?;
    if let Some(Verdict::Stale(reasons)) = &answer.verdict {
        eprintln!("asked again: {}", reasons[0]);
    }
    if let Some(why) = &answer.not_kept {
        eprintln!("not kept: {why}");
    }
    io::stdout().write_all(&answer.bytes)?;
    // developers.md: end
    Ok(())
}
