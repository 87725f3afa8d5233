//! Asks a program of the running system.

use std::process::{Command, Stdio};

/// The seconds that the program may take to answer, for timeout(1).
const PATIENCE: &str = "5";

/// The directories of the programs that are asked.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Asks a program of the running system. Returns its standard output.
///
/// The program gets none of the caller's variables. rpm would run the macros in another user's
/// `$HOME/.rpmmacros`, even as root.
///
/// # Errors
/// A sentence, if the program cannot be started, takes too long, or tells of an error. Its own exit
/// status is no error: rpm's tells how many files no package owns.
pub(crate) fn ask(program: &str, arguments: &[&str]) -> Result<String, String> {
    // The exit statuses by which timeout(1) says that the program did not start or end by itself.
    const NO_ANSWERS: [i32; 4] = [124, 125, 126, 127];
    let mut command = Command::new("timeout");
    command.args(["-k", "1", PATIENCE, program]).args(arguments);
    command.env_clear().stdin(Stdio::null());
    command.envs([("PATH", PATH), ("LC_ALL", "C"), ("HOME", "/")]);
    let output = command
        .output()
        .map_err(|cause| format!("timeout(1) cannot be started: {cause}"))?;
    match output.status.code() {
        // A program that SIGTERM does not end takes timeout(1) with it.
        Some(124 | 137) | None => Err(format!("{program} did not answer in {PATIENCE} seconds")),
        Some(code) if !NO_ANSWERS.contains(&code) => {
            let told = String::from_utf8_lossy(&output.stderr);
            match told.lines().find(|line| is_error(line)) {
                Some(error) => Err(format!("{program} says “{error}”")),
                None => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            }
        }
        _ => Err(format!("{program} cannot be started")),
    }
}

/// Whether a line of rpm's or systemctl's standard error tells that it could not look.
fn is_error(line: &str) -> bool {
    line.starts_with("error: ") || line.starts_with("Failed to ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_doctor_starts_nothing_by_a_users_rpm_macros() {
        let variables = ask("env", &[]).unwrap();
        let mut variables: Vec<&str> = variables.lines().collect();
        variables.sort();
        let path = format!("PATH={PATH}");
        assert_eq!(variables, ["HOME=/", "LC_ALL=C", &path]);
    }

    #[test]
    fn a_program_that_does_not_heed_its_end_is_not_waited_for() {
        let begin = std::time::Instant::now();
        let error = ask("sh", &["-c", "trap '' TERM; sleep 60"]).unwrap_err();
        assert!(begin.elapsed().as_secs() < 30, "{error}");
        assert_eq!(error, "sh did not answer in 5 seconds");
    }
}
