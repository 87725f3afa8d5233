//! The command line: parses the arguments and starts the verb.
//!
//! With glibc, the program has no Rust `main`. Rust's set-up for that reads `/proc/self/maps`, and makes a
//! stack for a handler of stack overflows. This would take 4 % of a check's time.
#![cfg_attr(all(target_env = "gnu", not(test)), no_main)]

mod cli;

use cli::{ExitCode, Verb};

/// The function that the C library calls.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)] // The C library has to find this name. std exports its own `main`, too.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn main(_argc: i32, _argv: *const *const u8) -> i32 {
    run()
}

/// Other C libraries give the arguments to std's `main` alone.
#[cfg(not(target_env = "gnu"))]
fn main() {
    run();
}

fn run() -> ! {
    modstamp::trigger::fill_standard_descriptors();
    modstamp::trigger::ignore_signals_of_writes();
    std::process::exit(run_verb().into())
}

fn run_verb() -> ExitCode {
    // rpm passes a trigger's program no arguments, but can start it by another name.
    let mut arguments = std::env::args_os();
    let name = arguments.next().map(std::path::PathBuf::from);
    if name.as_ref().and_then(|name| name.file_name()) == Some("rpm-transaction".as_ref()) {
        return cli::trigger::rpm_transaction(arguments.next());
    }
    let verb = match Verb::parse() {
        Ok(verb) => verb,
        Err(error) => return cli::refuse(error),
    };
    match verb {
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
