//! Writes the manual pages of the command line, and its completions for bash, zsh and fish, into
//! the directory that its argument names.
//!
//! They come from the definition that `modstamp` itself parses by, so they document exactly its
//! options. The other sections of modstamp(1), such as FILES, are in `man/modstamp.1.tail`. `make`
//! runs this program, and no package ships it.

#[allow(dead_code)] // This program uses the definitions of the arguments and runs no verb.
mod cli;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};

fn main() -> anyhow::Result<()> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    let directory = directory.context("name the directory to write to")?;
    fs_err::create_dir_all(directory.join("man1"))?;

    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut command = cli::Arguments::command();
        clap_complete::generate_to(shell, &mut command, "modstamp", &directory)?;
    }

    // `modstamp help` shows the same text as the pages, so it needs none.
    let mut command = cli::Arguments::command().disable_help_subcommand(true);
    command.build();
    write_pages(command, &directory.join("man1"), "")
}

/// Writes the page of a command, and the pages of its subcommands. `above` has the references to
/// the pages of the commands above it.
fn write_pages(mut command: Command, directory: &Path, above: &str) -> anyhow::Result<()> {
    let name = command.get_name().to_owned();
    let name = command.get_display_name().unwrap_or(&name).to_owned();
    let usage = command.render_usage().to_string();
    let command = command
        .override_usage(usage.trim_start_matches("Usage: ").to_owned())
        .subcommand_help_heading("COMMANDS");

    let man = Man::new(command.clone());
    let mut sections = Vec::new();
    man.render_name_section(&mut sections)?;
    man.render_synopsis_section(&mut sections)?;
    man.render_description_section(&mut sections)?;
    man.render_options_section(&mut sections)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut sections)?;
    }
    let exit_status = command.get_after_help().map(ToString::to_string);
    let exit_status = exit_status.unwrap_or_default();
    let exit_status = roman(exit_status.trim_start_matches("Exit status: "));
    let mut section = Roff::new();
    section.control("SH", ["EXIT STATUS"]).text([exit_status]);
    section.to_writer(&mut sections)?;
    // Each section begins with the same definitions, and the page needs them once.
    let definitions = Roff::new().render();
    let sections = String::from_utf8(sections)?.replace(&definitions, "");
    // groff shows a plain tilde as an accent.
    let sections = sections.replace('~', "\\(ti");

    // Without a date, the same sources give the same bytes.
    let (title, version) = (name.to_uppercase(), env!("CARGO_PKG_VERSION"));
    let tail = match above {
        "" => include_str!("../man/modstamp.1.tail").to_owned(),
        _ => format!(".SH \"SEE ALSO\"\n{above}.BR modstamp\\-profile (5)\n"),
    };
    let page = format!(
        ".TH {title} 1 \"\" \"modstamp {version}\" \"User Commands\"\n\
         {definitions}{sections}{tail}"
    );
    fs_err::write(directory.join(format!("{name}.1")), page)?;

    let reference = name.replace('-', "\\-");
    let above = format!("{above}.BR {reference} (1),\n");
    for below in command.get_subcommands() {
        write_pages(below.clone(), directory, &above)?;
    }
    Ok(())
}
