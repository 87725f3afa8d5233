//! The command line: parses it and picks the verb.

mod cli;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Keeps caches of what a program's plug-ins can do from going stale when packages come and go.
#[derive(Parser)]
#[command(version, disable_help_subcommand = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Touch(cli::touch::Arguments),
    Trigger(cli::trigger::Arguments),
    Observe(cli::observe::Arguments),
    Check(cli::check::Arguments),
    Run(cli::run::Arguments),
    Status(cli::status::Arguments),
    Libvirt(cli::libvirt::Arguments),
}

fn main() -> ExitCode {
    // rpm passes no arguments to what it starts for a trigger, but it can start it by another name.
    let mut arguments = std::env::args_os();
    let name = arguments.next().map(std::path::PathBuf::from);
    if name.as_ref().and_then(|name| name.file_name()) == Some("rpm-transaction".as_ref()) {
        return cli::trigger::rpm_transaction(arguments.next());
    }
    match Arguments::parse().verb {
        Verb::Touch(arguments) => arguments.run(),
        Verb::Trigger(arguments) => arguments.run(),
        Verb::Observe(arguments) => arguments.run(),
        Verb::Check(arguments) => arguments.run(),
        Verb::Run(arguments) => arguments.run(),
        Verb::Status(arguments) => arguments.run(),
        Verb::Libvirt(arguments) => arguments.run(),
    }
}
