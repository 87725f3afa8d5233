//! The command line: parses the arguments and starts the verb.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use cli::{Arguments, Verb};

fn main() -> ExitCode {
    modstamp::trigger::ignore_signals_of_writes();
    // rpm passes a trigger's program no arguments, but can start it by another name.
    let mut arguments = std::env::args_os();
    let name = arguments.next().map(std::path::PathBuf::from);
    if name.as_ref().and_then(|name| name.file_name()) == Some("rpm-transaction".as_ref()) {
        return cli::trigger::rpm_transaction(arguments.next());
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return cli::refuse(error),
    };
    match arguments.verb {
        Verb::Touch(arguments) => arguments.run(),
        Verb::Trigger(arguments) => arguments.run(),
        Verb::Update(arguments) => arguments.run(),
        Verb::Refresh(arguments) => arguments.run(),
        Verb::Observe(arguments) => arguments.run(),
        Verb::Check(arguments) => arguments.run(),
        Verb::Run(arguments) => arguments.run(),
        Verb::Status(arguments) => arguments.run(),
        Verb::Doctor(arguments) => arguments.run(),
        Verb::Log(arguments) => arguments.run(),
        Verb::Libvirt(arguments) => arguments.run(),
    }
}
