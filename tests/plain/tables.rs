//! Tables fit the terminal, and their commands can be pasted. Needs pseudo-terminals: pty(7).

use std::fs::File;
use std::io::Read;
use std::process::Command;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use support::libvirt::{Host, SYSTEM, X86};
use unicode_width::UnicodeWidthStr;

const LONG: &str = "usr/lib64/qemu-with-a-name-so-long-that-no-terminal-of-eighty-columns-has-room";
const WIDE: &str =
    "usr/bin/qemu-system-日本日本日本日本日本日本日本日本日本日本日本日本日本日本日本";
const IN_FULL: &str = "commands shortened above:";

/// A host with long paths, wide names, a long command with a stale answer, and libvirt's answers.
fn host() -> Host {
    let host = Host::new();
    host.sh(&format!("mkdir {LONG}; touch {LONG}/a.so {WIDE}"));
    let profile = "module-directories = [\"/usr/lib64/qemu*\"]\n";
    host.write("etc/modstamp/profiles.d/qemu.toml", profile);
    let mut run = host.modstamp(&["run", "--profile", "qemu"]);
    run.args(["--", "printf", "%s,", "it's", "$x; y", "a\\b", "*", ""]);
    let long = "a long argument ".repeat(10);
    assert!(run.arg(long).output().unwrap().status.success());
    host.keep(SYSTEM, &host.answer(X86));
    host.sh(&format!("echo > {LONG}/added.so"));
    host
}

/// The output of a command whose standard output is a terminal of that many columns.
fn on_terminal(command: &mut Command, columns: u16) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let terminal = File::options().write(true).open(name.to_str().unwrap());
    let terminal = terminal.unwrap();
    let size = Winsize {
        ws_row: 50,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&terminal, size).unwrap();
    let mut child = command.stdout(terminal).spawn().unwrap();
    command.stdout(std::process::Stdio::null()); // Closes our terminal, so that the reading ends.
    let mut text = Vec::new();
    // The end of a terminal is EIO.
    let _ = File::from(master).read_to_end(&mut text);
    child.wait().unwrap();
    String::from_utf8(text).unwrap().replace("\r\n", "\n")
}

fn command(host: &Host, arguments: &[&str]) -> Command {
    let mut command = host.modstamp(arguments);
    command.env("TERM", "xterm").env_remove("NO_COLOR");
    command
}

/// The lines without colours.
fn lines(text: &str) -> Vec<String> {
    let mut plain = String::new();
    for (index, piece) in text.split("\u{1b}[").enumerate() {
        plain += match index {
            0 => piece,
            _ => piece.split_once('m').unwrap().1,
        };
    }
    plain.lines().map(str::to_owned).collect()
}

#[test]
fn a_table_fits_the_terminal() {
    let host = host();
    for verb in [&["status"][..], &["libvirt", "status"]] {
        for columns in [40, 80, 100, 200] {
            let text = on_terminal(&mut command(&host, verb), columns);
            let table: Vec<String> = lines(&text);
            let table: Vec<&String> = table.iter().take_while(|line| *line != IN_FULL).collect();
            assert!(table.len() > 2, "{verb:?}: {text}");
            for line in table {
                assert!(line.width() <= columns.into(), "{columns}: {line}");
            }
        }
    }
    let text = on_terminal(&mut command(&host, &["status"]), 80);
    assert!(
        text.contains('…') && text.contains("\u{1b}[33mstale\u{1b}[0m: "),
        "{text}"
    );
}

#[test]
fn a_terminal_too_narrow_for_columns_gets_a_line_for_each_cell() {
    let text = on_terminal(&mut command(&host(), &["libvirt", "status"]), 40);
    let start = ["PROGRAM  /usr/bin/qemu-system-x86_64", "WHOSE    system"];
    assert_eq!(lines(&text)[..2], start, "{text}");
}

#[test]
fn the_variable_columns_counts_more_than_the_terminal() {
    let host = host();
    let mut status = command(&host, &["status"]);
    let text = on_terminal(status.env("COLUMNS", "200"), 80);
    assert!(text.contains(WIDE), "{text}");
    for wrong in ["0", "", "many"] {
        let text = on_terminal(status.env("COLUMNS", wrong), 80);
        assert!(!text.contains(WIDE), "{text}");
    }
}

#[test]
fn a_pipe_gets_whole_lines_without_colours() {
    let host = host();
    let (out, _) = host.say(&["status"]);
    for path in [LONG, WIDE] {
        assert!(out.contains(path), "{out}");
    }
    assert!(
        !out.contains(['…', '\u{1b}']) && !out.contains(IN_FULL),
        "{out}"
    );
}

#[test]
fn colours_are_left_out_where_the_user_or_the_terminal_wants_none() {
    let host = host();
    let has_colours = |name: &str, value: &str| {
        let mut status = command(&host, &["status"]);
        on_terminal(status.env(name, value), 80).contains('\u{1b}')
    };
    assert!(has_colours("TERM", "xterm") && has_colours("NO_COLOR", ""));
    assert!(!has_colours("NO_COLOR", "1") && !has_colours("TERM", "dumb"));
}

#[test]
fn a_command_is_shown_as_a_shell_takes_it_and_whole_at_any_width() {
    let host = host();
    for columns in [40, 80, 100, 200] {
        let text = on_terminal(&mut command(&host, &["status"]), columns);
        let lines = lines(&text);
        let mut below = lines.iter().skip_while(|line| *line != IN_FULL).skip(1);
        let command = below.next().unwrap();
        let pasted = host.sh(command);
        let expected = format!("it's,$x; y,a\\b,*,,{},", "a long argument ".repeat(10));
        assert_eq!(pasted, expected, "{command}");
    }
}

#[test]
fn a_command_in_a_sentence_is_in_one_line() {
    let host = host();
    let root = host.path("");
    let refresh = format!("“modstamp libvirt refresh --root {}”", root.display());
    let columns = u16::try_from(refresh.width() + 2).unwrap();
    let text = on_terminal(&mut command(&host, &["libvirt", "status"]), columns);
    assert!(text.contains(&refresh), "{text}");
}
