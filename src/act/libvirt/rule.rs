//! libvirt's own rule: whether it would take what is in a cache file for still valid.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::act::libvirt::installation::Installation;
use crate::act::libvirt::{Kind, Recorded};
use crate::files::root::Root;
use crate::ground::text::Printable;

/// One clause of libvirt's rule that a cache file does not keep (`virQEMUCapsIsValid` in libvirt's
/// `src/qemu/qemu_capabilities.c`, `virNbdkitCapsIsValid` in `src/qemu/qemu_nbdkit.c`).
///
/// All times are in whole seconds since 1970, as libvirt compares them; it compares for equality. Serde has them, the sentence
/// for people does not.
/// libvirt's clauses about KVM, the processor and the kernel only ever make it probe more often, and are not looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "clause", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Clause {
    /// Another version of libvirt wrote it.
    Version {
        /// Which, as 9000000 is 9.0.0.
        old: i64,
        /// The one that is installed.
        new: i64,
    },
    /// The files of libvirt itself were changed since.
    Libvirt {
        /// The latest ctime of theirs when it was written.
        old: i64,
    },
    /// The module directory has another mtime.
    ModuleDirectory {
        /// The directory.
        path: PathBuf,
        /// What was noted down; `None` where there was no directory.
        old: Option<i64>,
        /// What it is; `None` where the directory is gone.
        new: Option<i64>,
    },
    /// The program has another ctime.
    Program {
        /// The program.
        path: PathBuf,
        /// What was noted down.
        old: i64,
        /// What it is; `None` where the program is gone.
        new: Option<i64>,
    },
}

/// What libvirt's rule says of a cache file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// A daemon that is started now would serve it.
    Valid,
    /// It would probe again, because of these clauses.
    Outdated(Vec<Clause>),
    /// It cannot be told, for the reason that the sentence says.
    Unknown(String),
}

/// What the rule is applied to.
pub(crate) struct Now {
    installation: Option<Installation>,
    /// The module directories that libvirt watches by its own knowledge.
    watched: Vec<PathBuf>,
}

impl Now {
    pub(crate) fn new(installation: Option<Installation>, watched: Vec<PathBuf>) -> Now {
        Now {
            installation,
            watched,
        }
    }

    /// Applies the rule.
    pub(crate) fn judge(&self, root: &Root, kind: &Kind, recorded: &Recorded) -> Rule {
        let mut clauses = Vec::new();
        let mut unknown = Vec::new();
        match &self.installation {
            None => unknown.push("no libvirt with a driver for QEMU is installed"),
            Some(installation) => {
                match installation.version {
                    Some(version) if version != recorded.self_version => {
                        clauses.push(Clause::Version {
                            old: recorded.self_version,
                            new: version,
                        })
                    }
                    Some(_) => {}
                    None => unknown.push("the installed libvirt's version cannot be told"),
                }
                match installation.is_self_ctime(recorded.self_ctime) {
                    Some(true) => {}
                    Some(false) => clauses.push(Clause::Libvirt {
                        old: recorded.self_ctime,
                    }),
                    None => unknown.push("no daemon of libvirt's is installed"),
                }
            }
        }
        let by_name: Vec<(&Path, Option<i64>)> = if kind.is_directory_in_driver() {
            if self.watched.is_empty() {
                unknown.push("which module directory libvirt watches cannot be told");
            }
            let mtime = recorded.directories.first().map(|(_, mtime)| *mtime);
            self.watched.iter().map(|path| (&**path, mtime)).collect()
        } else {
            let directories = recorded.directories.iter();
            directories
                .filter_map(|(path, mtime)| {
                    Some((path.as_deref()?, Some(*mtime).filter(|mtime| *mtime != 0)))
                })
                .collect()
        };
        for (path, old) in by_name {
            // What is not there has the time 0 for libvirt, and of QEMU's it then skips the clause.
            let new = root.target(path).map(|stat| stat.st_mtime);
            let is_asked = new.is_some() || !kind.is_directory_in_driver();
            if is_asked && new.unwrap_or(0) != old.unwrap_or(0) {
                let path = path.to_owned();
                clauses.push(Clause::ModuleDirectory { path, old, new });
            }
        }
        let new = root.target(&recorded.program).map(|stat| stat.st_ctime);
        if new != Some(recorded.program_ctime) {
            clauses.push(Clause::Program {
                path: recorded.program.clone(),
                old: recorded.program_ctime,
                new,
            });
        }
        match (clauses.is_empty(), unknown.first()) {
            (false, _) => Rule::Outdated(clauses),
            (true, Some(first)) => Rule::Unknown((*first).to_owned()),
            (true, None) => Rule::Valid,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Valid => f.write_str("valid"),
            Rule::Unknown(why) => write!(f, "not known: {why}"),
            Rule::Outdated(clauses) => {
                for (index, clause) in clauses.iter().enumerate() {
                    f.write_str(if index == 0 { "outdated: " } else { "; " })?;
                    write!(f, "{clause}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |path: &Path| Printable(path.as_os_str()).to_string();
        let version = |number: i64| {
            let (major, minor) = (number / 1_000_000, number / 1000 % 1000);
            format!("{major}.{minor}.{}", number % 1000)
        };
        match self {
            Clause::Version { old, new } => {
                write!(f, "libvirt was {}, now {}", version(*old), version(*new))
            }
            Clause::Libvirt { .. } => f.write_str("libvirt's own files changed"),
            Clause::ModuleDirectory { path, old, new } => {
                let how = match (old, new) {
                    (_, None) => "is gone",
                    (None, _) => "is new",
                    _ => "changed",
                };
                write!(f, "module directory {} {how}", shown(path))
            }
            Clause::Program { path, new, .. } => {
                let how = if new.is_some() { "changed" } else { "is gone" };
                write!(f, "program {} {how}", shown(path))
            }
        }
    }
}
