//! An input: something at a path that a profile's answers depend on.

use std::fmt;

/// The kind of an input of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Input {
    /// A directory that modules are loaded from.
    ModuleDirectory,
    /// Something in a module directory.
    Module,
    /// A program that loads modules.
    Program,
    /// A further file of the profile.
    File,
    /// The program whose output is cached.
    Command,
    /// A shared library that a module, a program or a manifest needs.
    Library,
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Input::ModuleDirectory => "module directory",
            Input::Module => "module",
            Input::Program => "program",
            Input::File => "file",
            Input::Command => "command",
            Input::Library => "library",
        })
    }
}
