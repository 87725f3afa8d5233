//! The package managers that start triggers.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;

/// The package manager that started a trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[non_exhaustive]
pub enum Manager {
    /// Sends the paths on standard input, one a line
    Rpm,
    /// Sends no paths, but the directories that fired, as one argument
    Dpkg,
    /// Sends the paths as rpm does, but without the leading slash
    Pacman,
    /// Sends no paths, but the directories that changed, as arguments
    Apk,
}

impl Manager {
    const ALL: [Manager; 4] = [Manager::Rpm, Manager::Dpkg, Manager::Pacman, Manager::Apk];

    fn name(self) -> &'static str {
        match self {
            Manager::Rpm => "rpm",
            Manager::Dpkg => "dpkg",
            Manager::Pacman => "pacman",
            Manager::Apk => "apk",
        }
    }

    /// The manager of a name in a profile.
    ///
    /// # Errors
    /// The fault of the name, for people.
    pub(crate) fn parse(name: &str) -> Result<Manager, String> {
        let found = Manager::ALL.into_iter().find(|it| it.name() == name);
        found.ok_or_else(|| {
            "which starts no trigger of modstamp's; write \"rpm\", \"dpkg\", \"pacman\" or \"apk\""
                .to_owned()
        })
    }
}

impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
