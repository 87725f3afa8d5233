//! Shows many caches over one look: the answers of many programs that load the same modules.
//!
//!     cargo run --example many -- qemu DIRECTORY /usr/bin/qemu-system-*
//!
//! DIRECTORY keeps a file for each program: the witness, a NUL and the answer.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use modstamp::{Inputs, Profile, Verdict, Witness};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [name, directory, programs @ ..] = &arguments[..] else {
        return Err("usage: many PROFILE DIRECTORY PROGRAM...".into());
    };
    let file = |program: &str| Path::new(directory).join(program.replace('/', "_"));
    let profile = Profile::load(name)?;

    // developers.md: many
    let now = profile.inputs()?; // one look, however many programs there are
    let mut stale = Vec::new();
    for program in programs {
        match judge(&file(program), &now) {
            Verdict::Fresh => println!("{program}: fresh"),
            Verdict::Stale(reasons) => {
                println!("{program}: asked again, {}", reasons[0]);
                stale.push(program);
            }
        }
    }
    // developers.md: end
    for program in stale {
        let before = profile.observe()?; // before the probe
        let output = Command::new(program).args(["-device", "help"]).output()?;
        match before.disturbed(&profile.inputs()?) {
            _ if !output.status.success() => println!("{program}: failed, {}", output.status),
            None => store(&file(program), &before, &output.stdout)?,
            Some(reason) => println!("{program}: not kept, {reason}"),
        }
    }
    Ok(())
}

fn judge(file: &Path, now: &Inputs) -> Verdict {
    let stored = fs::read(file).unwrap_or_default();
    let text = stored.split(|byte| *byte == 0).next().unwrap_or_default();
    Witness::from_bytes(text).map_or_else(Verdict::from, |witness| witness.judge(now))
}

/// Replaces the whole file at once, so that no reader sees a witness with another answer.
fn store(file: &Path, witness: &Witness, answer: &[u8]) -> io::Result<()> {
    let new = PathBuf::from(format!("{}.new", file.display()));
    fs::write(&new, [format!("{witness}\0").as_bytes(), answer].concat())?;
    fs::rename(new, file)
}
