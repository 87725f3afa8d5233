//! Times of whole processes, in turns.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A command whose whole run is timed.
pub struct Timed {
    pub name: String,
    program: PathBuf,
    arguments: Vec<String>,
    input: Option<PathBuf>,
}

impl Timed {
    pub fn new(name: &str, program: &Path, arguments: &[&str], input: &Option<PathBuf>) -> Timed {
        Timed {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments: arguments
                .iter()
                .map(|argument| argument.to_string())
                .collect(),
            input: input.clone(),
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.stdin(match &self.input {
            Some(path) => Stdio::from(std::fs::File::open(path).unwrap()),
            None => Stdio::null(),
        });
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn time(&self) -> Duration {
        let mut command = self.command(&self.program);
        command.args(&self.arguments);
        let start = Instant::now();
        let status = command.status().unwrap();
        let time = start.elapsed();
        assert!(status.success(), "{}: {status}", self.name);
        time
    }

    pub fn output(&self) -> Vec<u8> {
        let mut command = self.command(&self.program);
        command
            .args(&self.arguments)
            .stdout(Stdio::piped())
            .output()
            .unwrap()
            .stdout
    }

    /// The peak of its resident memory in KiB, by GNU time: the least of some runs, because the
    /// kernel counts pages in portions.
    pub fn peak(&self) -> Option<u64> {
        (0..10).map(|_| self.one_peak()).min().flatten()
    }

    fn one_peak(&self) -> Option<u64> {
        let mut command = self.command("/usr/bin/time".as_ref());
        command
            .args(["-f", "%M"])
            .arg(&self.program)
            .args(&self.arguments);
        let output = command.stderr(Stdio::piped()).output().ok()?;
        String::from_utf8(output.stderr).ok()?.trim().parse().ok()
    }
}

/// The median time of each command. They take turns, so that the machine's other load falls on all.
pub fn measure(commands: &[&Timed], rounds: usize) -> Vec<Duration> {
    let mut times = vec![Vec::with_capacity(rounds); commands.len()];
    for round in 0..rounds + 20 {
        for (command, times) in commands.iter().zip(&mut times) {
            let time = command.time();
            if round >= 20 {
                times.push(time);
            }
        }
    }
    times.iter_mut().for_each(|times| times.sort());
    times.iter().map(|times| times[times.len() / 2]).collect()
}
