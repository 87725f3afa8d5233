//! Holds the pages' links against the files, and the code of docs/developers.md against the programs in
//! `examples/`, which it runs.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use support::{executable, run, sources};

/// The text without the spaces that all its lines begin with.
fn unindented(lines: &[&str]) -> String {
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let filled = lines.iter().filter(|line| !line.trim().is_empty());
    let least = filled.map(indent).min().unwrap_or(0);
    let lines = lines.iter().map(|line| line.get(least..).unwrap_or(""));
    lines.map(|line| format!("{line}\n")).collect()
}

/// The parts of a text between a line that `begins` one and the next line that `ends` it.
fn parts(text: &str, begins: impl Fn(&str) -> bool, ends: impl Fn(&str) -> bool) -> Vec<String> {
    let mut lines = text.lines().map(|line| (line.trim(), line));
    let mut parts = Vec::new();
    while lines.any(|(trimmed, _)| begins(trimmed)) {
        let part = lines.by_ref().take_while(|(trimmed, _)| !ends(trimmed));
        let part: Vec<&str> = part.map(|(_, line)| line).collect();
        parts.push(unindented(&part));
    }
    parts
}

/// The page's blocks of code in a language: `rust`, `c` or `python`.
fn blocks(language: &str) -> Vec<String> {
    let page = fs::read_to_string(sources().join("docs/developers.md")).unwrap();
    let fence = format!("```{language}");
    parts(&page, |line| line == fence, |line| line == "```")
}

/// The marked parts of the examples with this file name extension.
fn marked(extension: &str) -> Vec<String> {
    let files = fs::read_dir(sources().join("examples")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|own| own == extension));
    let mark = |line: &str| {
        line.trim_start_matches(['/', '*', '#', ' '])
            .starts_with("developers.md: ")
    };
    let is_end = |line: &str| mark(line) && line.contains("developers.md: end");
    let marked = files.flat_map(|file| parts(&fs::read_to_string(file).unwrap(), mark, is_end));
    marked.collect()
}

#[test]
fn the_code_in_the_page_for_developers_is_cut_from_the_examples() {
    for (language, extension) in [("rust", "rs"), ("c", "c"), ("python", "py")] {
        let (blocks, marked) = (blocks(language), marked(extension));
        assert!(
            !blocks.is_empty(),
            "docs/developers.md has no ```{language}"
        );
        for block in &blocks {
            assert!(
                marked.contains(block),
                "docs/developers.md has code that no compiled program has. It begins:\n\n    {}\n\nWrite the same code into a file \
                 examples/*.{extension}, after a line “developers.md: NAME” and before a line “developers.md: end”, both comments.",
                block.lines().next().unwrap_or_default()
            );
        }
        for part in &marked {
            assert!(
                blocks.contains(part),
                "docs/developers.md lacks code that examples/*.{extension} mark for it. It begins:\n\n    {}\n\nCopy it into a block \
                 ```{language} of docs/developers.md, or remove the comments “developers.md: …” around it.",
                part.lines().next().unwrap_or_default()
            );
        }
    }
}

/// A made-up module directory, and a profile that names it.
struct Scratch {
    top: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Scratch {
        let top = tempfile::tempdir().unwrap();
        let modules = top.path().join("modules");
        fs::create_dir(&modules).unwrap();
        fs::write(modules.join("a.so"), "").unwrap();
        let profile = format!("module-directories = [{modules:?}]\n");
        fs::write(top.path().join("readme-example.toml"), profile).unwrap();
        Scratch { top }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    fn add_a_module(&self) {
        fs::write(self.path("modules/b.so"), "").unwrap();
    }

    /// The reason that a check has after [`Scratch::add_a_module`].
    fn why(&self) -> String {
        format!("module b.so added to {}", self.path("modules").display())
    }

    /// An example, built without default features. It gets the profile, and then `arguments`.
    fn example(&self, name: &str, arguments: &[&Path]) -> Command {
        let mut command = Command::new(env!("CARGO"));
        command
            .current_dir(sources())
            .args(["run", "--quiet", "--offline", "--locked"])
            .args(["--no-default-features", "--example", name, "--"])
            .arg(self.path("readme-example.toml"))
            .args(arguments)
            // A user's own stamp would count, too.
            .env("XDG_STATE_HOME", self.top.path())
            .stderr(Stdio::piped());
        command
    }

    /// A program that tells its modules.
    fn program(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let script = format!("#!/bin/sh\nls {:?}\n", self.path("modules"));
        executable(&path, script);
        path
    }
}

#[test]
fn the_cached_probe_serves_an_answer_and_asks_again_after_a_change() {
    let scratch = Scratch::new();
    let (file, program) = (scratch.path("answer"), scratch.program("program"));
    let ask = || {
        let output = scratch.example("cached", &[&file, &program]).output();
        let output = output.unwrap();
        let texts = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success(), "{texts:?}");
        texts
    };
    assert_eq!(ask(), ["a.so\n", ""]);
    executable(&program, "#!/bin/sh\necho not asked\n");
    assert_eq!(ask(), ["a.so\n", ""]);
    scratch.program("program");
    scratch.add_a_module();
    let why = format!("asked again: {}\n", scratch.why());
    assert_eq!(ask(), ["a.so\nb.so\n", &why]);
    assert_eq!(ask(), ["a.so\nb.so\n", ""]);
}

#[test]
fn many_caches_are_judged_by_one_look() {
    let scratch = Scratch::new();
    let names = ["arm", "riscv", "x86"];
    let programs = names.map(|name| scratch.program(name));
    let caches = scratch.path("caches");
    fs::create_dir(&caches).unwrap();
    let ask = |programs: &[PathBuf]| {
        let programs = programs.iter().map(PathBuf::as_path);
        let arguments: Vec<&Path> = [&*caches].into_iter().chain(programs).collect();
        let said = run(&mut scratch.example("many", &arguments));
        let said = said.replace(&*scratch.path("").to_string_lossy(), "");
        said.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    ask(&programs[..2]);
    let said = ask(&programs);
    assert_eq!(said[..2], ["arm: fresh", "riscv: fresh"]);
    assert!(said[2].starts_with("x86: asked again, "), "{said:?}");
    scratch.add_a_module();
    let why = "asked again, module b.so added to modules";
    assert_eq!(ask(&programs), names.map(|name| format!("{name}: {why}")));
    assert_eq!(ask(&programs), names.map(|name| format!("{name}: fresh")));
    let stored = fs::read_dir(&caches).unwrap();
    for file in stored.map(|file| file.unwrap().path()) {
        let stored = fs::read(&file).unwrap();
        assert!(stored.ends_with(b"\0a.so\nb.so\n"), "{}", file.display());
    }
}

/// A running daemon, and the two ends of its conversation.
struct Daemon {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Daemon {
    fn start(command: &mut Command) -> Daemon {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let requests = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Daemon {
            child,
            requests,
            answers,
        }
    }

    /// Sends a request; returns the lines of the answer, as many as are expected.
    fn ask<const N: usize>(&mut self) -> [String; N] {
        writeln!(self.requests, "request").unwrap();
        std::array::from_fn(|_| {
            let mut line = String::new();
            self.answers.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        })
    }

    fn end(self) {
        drop(self.requests);
        let output = self.child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn the_daemon_checks_before_each_answer_and_says_why_it_asks_again() {
    let scratch = Scratch::new();
    let program = scratch.program("program");
    let mut daemon = Daemon::start(&mut scratch.example("daemon", &[&program]));
    assert_eq!(daemon.ask(), ["new: a.so", ""]);
    assert_eq!(daemon.ask(), ["kept: a.so", ""]);
    scratch.add_a_module();
    let why = format!("asking again: {}", scratch.why());
    assert_eq!(daemon.ask(), [&why, "new: a.so", "b.so", ""]);
    assert_eq!(daemon.ask(), ["kept: a.so", "b.so", ""]);
    daemon.end();
}

#[test]
fn the_daemon_uses_an_answer_once_if_a_module_came_during_the_probe() {
    let scratch = Scratch::new();
    let script = format!(
        "#!/bin/sh\nls {0:?}\n> {0:?}/b.so\n",
        scratch.path("modules")
    );
    let program = scratch.path("program");
    executable(&program, script);
    let mut daemon = Daemon::start(&mut scratch.example("daemon", &[&program]));
    let why = format!("used once: {}", scratch.why());
    assert_eq!(daemon.ask(), ["new: a.so", "", &why]);
    scratch.program("program");
    assert_eq!(daemon.ask(), ["new: a.so", "b.so", ""]);
    assert_eq!(daemon.ask(), ["kept: a.so", "b.so", ""]);
    daemon.end();
}

#[test]
fn the_consumer_in_c_is_plain_c99() {
    run(Command::new("cc")
        .current_dir(sources())
        .args(["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"])
        .args(["-fsyntax-only", "-Iinclude", "examples/consumer.c"]));
}

/// The targets of a page's links: a file, and the place in it, each empty if it is not named.
fn targets(page: &str) -> Vec<(&str, &str)> {
    let targets = page.split("](").skip(1);
    let targets = targets.filter_map(|rest| Some(rest.split_once(')')?.0));
    let own = targets.filter(|target| !target.contains("://"));
    own.map(|target| target.split_once('#').unwrap_or((target, "")))
        .collect()
}

/// The anchors of a page: of its headings, as GitHub and mdBook make them, and those in its HTML.
fn anchors(page: &str) -> Vec<String> {
    let mut is_code = false;
    let prose = page.lines().filter(|line| {
        is_code ^= line.starts_with("```");
        !is_code
    });
    let headings = prose.filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        text.chars()
            .filter(kept)
            .collect::<String>()
            .replace(' ', "-")
    };
    let marks = page.split("<a id=\"").skip(1);
    let marks = marks.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()));
    headings.map(anchor).chain(marks).collect()
}

#[test]
fn every_link_of_a_page_leads_to_a_file_and_to_a_place_in_it() {
    let docs = fs::read_dir(sources().join("docs")).unwrap();
    let docs = docs.map(|file| file.unwrap().path());
    let first = [
        "README.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
    ];
    let first = first.map(|name| sources().join(name));
    let (mut files, mut places) = (0, 0);
    for page in docs.chain(first) {
        let text = fs::read_to_string(&page).unwrap();
        for (target, place) in targets(&text) {
            let file = match target {
                "" => page.clone(),
                _ => page.parent().unwrap().join(target),
            };
            let link = format!("{}: {target}#{place}", page.display());
            assert!(file.exists(), "{link}");
            files += 1;
            if !place.is_empty() {
                let anchors = anchors(&fs::read_to_string(&file).unwrap());
                assert!(anchors.iter().any(|anchor| anchor == place), "{link}");
                places += 1;
            }
        }
    }
    assert!(files > 10 && places > 3, "{files} links, {places} places");
}

/// `make site`, a part of `make check-release`, checks the links in the book that mdBook makes.
#[test]
fn the_book_has_every_page() {
    let docs = sources().join("docs");
    let order = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let listed = targets(&order);
    for file in fs::read_dir(docs).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let is_page = name.ends_with(".md") && name != "SUMMARY.md";
        assert!(
            !is_page || listed.contains(&(name.as_str(), "")),
            "docs/SUMMARY.md lacks {name}"
        );
    }
}

#[test]
fn the_first_page_is_short() {
    let readme = fs::read_to_string(sources().join("README.md")).unwrap();
    assert!(readme.lines().count() <= 120);
}
