//! Shows a daemon that checks its answer before each use, and says why it asks again.
//!
//!     cargo run --example daemon -- qemu qemu-system-x86_64 -device help
//!
//! Each line of standard input is a request for the answer.

use std::error::Error;
use std::io;
use std::process::Command;

use modstamp::{Profile, Verdict, Witness};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, program, rest @ ..] = &arguments[..] else {
        return Err("usage: daemon PROFILE PROGRAM [ARGUMENT]...".into());
    };
    let profile = Profile::load(name)?;
    let probe = || {
        let output = Command::new(program).args(rest).output()?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(io::Error::other(format!("{program}: {}", output.status))),
        }
    };

    let mut kept: Option<(String, Witness)> = None;
    for request in io::stdin().lines() {
        request?;
        if let Some((_, witness)) = &kept {
            // developers.md: check
            if let Verdict::Stale(reasons) = witness.check(&profile)? {
                println!("asking again: {}", reasons[0]);
                kept = None;
            }
            // developers.md: end
        }
        if let Some((answer, _)) = &kept {
            println!("kept: {answer}");
            continue;
        }
        // developers.md: by hand
        let before = profile.observe()?; // before the probe
        let answer = probe()?;
        println!("new: {answer}");
        match before.disturbed(&profile.inputs()?) {
            None => kept = Some((answer, before)), // or store both, with the witness as text
            Some(reason) => println!("used once: {reason}"),
        }
        // developers.md: end
    }
    Ok(())
}
