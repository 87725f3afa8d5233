//! Builds from the working tree, each made once for each state of it.

use std::path::PathBuf;
use std::process::Command;

use crate::{kept, sources};

/// Runs a script for bash. No two scripts run at the same time.
///
/// `$1` is the directory `name` among the kept files. `$tree` is git's tree object of the working
/// tree, which leaves no trace in the repository. Returns the path that the script printed, or else
/// its messages and the last lines of `$1/log`.
pub fn of_working_tree(name: &str, script: &str) -> Result<PathBuf, String> {
    const TREE: &str = r#"
        kept=$1
        objects=$(mktemp -d)
        trap 'rm -rf "$objects"' EXIT
        git() { command git -c safe.directory='*' "$@"; }
        export GIT_ALTERNATE_OBJECT_DIRECTORIES=$(git rev-parse --path-format=absolute --git-path objects)
        export GIT_OBJECT_DIRECTORY=$objects GIT_INDEX_FILE=$objects/index
        git add --all
        tree=$(git write-tree)
    "#;
    let kept = kept().join(name);
    std::fs::create_dir_all(&kept).unwrap();
    let output = Command::new("flock")
        .arg(kept.join("lock"))
        .args(["bash", "-euo", "pipefail", "-c"])
        .arg(format!("{TREE}{script}"))
        .arg("bash")
        .arg(&kept)
        .current_dir(sources())
        .env_remove("MAKEFLAGS")
        .env_remove("MFLAGS")
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    let log = std::fs::read_to_string(kept.join("log")).unwrap_or_default();
    let last: Vec<&str> = log.lines().rev().take(30).collect();
    let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
    Err(format!(
        "{}\n{last}",
        String::from_utf8_lossy(&output.stderr)
    ))
}
