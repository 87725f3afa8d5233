//! The manual pages and the completions, held against the program and the header: nothing undocumented, nothing invented.
//!
//! They are made by `make manual`, and read by real shells, man(1) and mandoc(1). What the program takes is what its own
//! `--help` says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use support::test::{self, Needs, Test};
use support::{named, run};

type Scenario = fn();
type Scenarios = &'static [(&'static str, Scenario)];

pub fn tests() -> Vec<Test> {
    let by_needs: [(&[&str], Scenarios); 8] = [
        (
            &[],
            named![
                every_command_has_a_page_and_no_page_is_left_over,
                a_page_has_just_the_options_of_its_command,
                a_documented_option_is_taken_and_an_invented_one_refused,
                a_command_line_in_a_page_is_one_that_the_program_takes,
                the_same_sources_give_the_same_bytes,
                modstamp_profile_names_just_the_keys_that_there_are,
                modstamp_profile_has_the_search_path_in_its_order,
                modstamp_profile_has_examples_that_load,
                libmodstamp_names_just_what_the_header_has,
                make_install_without_cargo_installs_what_was_built_before,
                make_uninstall_removes_what_make_install_installed_and_nothing_else,
            ],
        ),
        (
            &["strace"],
            named![the_program_looks_for_a_profile_only_where_modstamp_profile_says,],
        ),
        (
            &["cc"],
            named![the_example_of_libmodstamp_compiles_without_a_warning,],
        ),
        (
            &["man", "lexgrog"],
            named![
                man_shows_every_page_without_a_warning,
                every_page_is_found_by_its_name_and_what_it_is_for,
            ],
        ),
        (&["mandoc"], named![mandoc_finds_nothing_wrong_with_a_page,]),
        (
            &["bash"],
            named![bash_completes_just_what_the_program_takes,],
        ),
        (&["zsh"], named![zsh_completes_just_what_the_program_takes,]),
        (
            &["fish"],
            named![fish_completes_just_what_the_program_takes,],
        ),
    ];
    let tests = by_needs.iter().flat_map(|(needs, scenarios)| {
        test::tests(&Needs::of(needs), scenarios).collect::<Vec<_>>()
    });
    tests.collect()
}

/// A command and the commands below it, as its own `--help` tells.
struct Verb {
    /// For example `["libvirt", "status"]`.
    path: Vec<String>,
    options: Options,
    below: BTreeSet<String>,
}

/// Options, and whether each takes a value.
type Options = BTreeMap<String, bool>;

impl Verb {
    /// All commands, the program itself first. But for `help`, which takes commands.
    fn all() -> Vec<Verb> {
        let mut all = vec![Verb::ask(&[])];
        let mut next = 0;
        while next < all.len() {
            let Verb { path, below, .. } = &all[next];
            let paths = below.iter().filter(|name| *name != "help");
            let paths = paths.map(|name| [path.as_slice(), std::slice::from_ref(name)].concat());
            let verbs: Vec<Verb> = paths.map(|path| Verb::ask(&path)).collect();
            all.extend(verbs);
            next += 1;
        }
        assert!(all.len() > 8, "few commands were found: {}", all.len());
        all
    }

    fn ask(path: &[String]) -> Verb {
        let help = run(modstamp(path).arg("--help"));
        let section = |name: &'static str| {
            let lines = help.lines().skip_while(move |line| *line != name).skip(1);
            lines.take_while(|line| line.is_empty() || line.starts_with(' '))
        };
        let below = section("Commands:").filter_map(|line| {
            let line = line.strip_prefix("  ")?;
            let name = line.split(' ').next()?;
            (!name.is_empty()).then(|| name.to_owned())
        });
        // An option begins in the third or, without a short one, the seventh column; what it is for further right.
        let options = section("Options:").filter(|line| {
            let text = line.trim_start();
            text.starts_with('-') && line.len() - text.len() <= 6
        });
        Verb {
            path: path.to_vec(),
            options: options.flat_map(heading).collect(),
            below: below.collect(),
        }
    }

    fn page(&self) -> String {
        let path = manual().join("man1").join(self.page_name());
        plain(&fs::read_to_string(path).unwrap())
    }

    fn page_name(&self) -> String {
        let path = self.path.iter().map(|name| format!("-{name}"));
        format!("modstamp{}.1", path.collect::<String>())
    }

    fn arguments(&self, last: &str) -> Vec<String> {
        let before = std::iter::once("modstamp").chain(self.path.iter().map(String::as_str));
        before.chain([last]).map(str::to_owned).collect()
    }

    /// What a shell offers must be just this: the options, and the commands below.
    fn is_completed_by(&self, complete: impl Fn(&[String]) -> Vec<String>) {
        let offered: BTreeSet<String> = complete(&self.arguments("-")).into_iter().collect();
        let options: BTreeSet<String> = self.options.keys().cloned().collect();
        assert_eq!(offered, options, "{:?}", self.path);
        for name in &self.below {
            let begun = &name[..name.len() - 1];
            assert_eq!(complete(&self.arguments(begun)), [name.as_str()]);
        }
        if !self.below.is_empty() {
            let offered = complete(&self.arguments("")).into_iter();
            let offered: BTreeSet<String> = offered.filter(|word| !word.starts_with('-')).collect();
            assert_eq!(offered, self.below, "{:?}", self.path);
        }
    }
}

fn modstamp(arguments: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_modstamp"));
    command.args(arguments);
    command
}

/// The options of one line, such as `-h, --help` or `--profile <NAME|FILE> [default: qemu]`.
fn heading(line: &str) -> Vec<(String, bool)> {
    let line = line.trim().split("  ").next().unwrap();
    let takes_value = line.contains('<');
    let words = line.split([' ', ',']).filter(|word| word.starts_with('-'));
    words.map(|word| (word.to_owned(), takes_value)).collect()
}

/// A page's source without what only tells how it looks: see groff_char(7).
fn plain(source: &str) -> String {
    let looks = [
        ("\\fB", ""),
        ("\\fI", ""),
        ("\\fR", ""),
        ("\\&", ""),
        ("\\-", "-"),
        ("\\(ti", "~"),
        ("\\(dq", "\""),
        ("\\(aq", "'"),
        ("\\*(Aq", "'"),
        ("\\e", "\\"),
    ];
    looks
        .iter()
        .fold(source.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The lines of a page's section.
fn section<'a>(page: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (bare, quoted) = (format!(".SH {name}"), format!(".SH \"{name}\""));
    let lines = page.lines();
    let lines = lines.skip_while(move |line| *line != bare && *line != quoted);
    lines.skip(1).take_while(|line| !line.starts_with(".SH "))
}

/// What is said of in a section's tagged paragraphs.
fn tags<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let lines: Vec<&str> = section(page, name).collect();
    let tags = lines.windows(2).filter(|two| two[0] == ".TP");
    tags.map(|two| two[1]).collect()
}

/// The examples of a page, between `.EX` and `.EE`.
fn examples(page: &str) -> Vec<String> {
    let page = plain(page);
    let examples = page.split("\n.EX\n").skip(1);
    let examples = examples.map(|text| text.split("\n.EE\n").next().unwrap().to_owned() + "\n");
    examples.collect()
}

/// Runs make(1) here.
fn make(arguments: &[&str]) -> Command {
    let mut make = Command::new("make");
    make.arg("--silent")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("MAKEFLAGS")
        .env_remove("MFLAGS");
    make
}

/// Where `make manual` wrote to.
fn manual() -> &'static Path {
    static MANUAL: OnceLock<PathBuf> = OnceLock::new();
    MANUAL.get_or_init(|| make_manual("manual", &[]))
}

fn make_manual(name: &str, environment: &[(&str, &str)]) -> PathBuf {
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let arguments = ["manual", &format!("MANUAL={}", to.display())];
    run(make(&arguments).envs(environment.iter().copied()));
    to
}

/// The files below a directory, each with what is in it.
fn files(below: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => drop(files.insert(path.clone(), fs::read(path).unwrap())),
        }
    }
    files
}

fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages that are written by hand.
fn written(name: &str) -> String {
    fs::read_to_string(sources().join("man").join(name)).unwrap()
}

/// All pages.
fn pages() -> Vec<PathBuf> {
    let made = files(&manual().join("man1")).into_keys();
    let written = files(&sources().join("man")).into_keys();
    let is_page = |path: &PathBuf| path.extension().is_some_and(|name| name.len() == 1);
    let pages: Vec<PathBuf> = made.chain(written).filter(is_page).collect();
    assert!(pages.len() > 10, "{pages:?}");
    pages
}

fn every_command_has_a_page_and_no_page_is_left_over() {
    let verbs = Verb::all();
    let wanted: BTreeSet<String> = verbs.iter().map(Verb::page_name).collect();
    let found = files(&manual().join("man1")).into_keys();
    let found = found.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    assert_eq!(found.collect::<BTreeSet<String>>(), wanted);
    for verb in &verbs {
        let page = verb.page();
        let prefix = verb.page_name().replace(".1", "-");
        let listed = tags(&page, "COMMANDS").into_iter();
        let listed = listed.map(|tag| tag.strip_prefix(&prefix).unwrap().replace("(1)", ""));
        let mut below = verb.below.clone();
        below.remove("help");
        assert_eq!(listed.collect::<BTreeSet<String>>(), below);
        assert!(
            section(&page, "EXIT STATUS").any(|line| line.contains("2 if")),
            "{page}"
        );
        assert!(section(&page, "SEE ALSO").count() > 0, "{page}");
    }
}

/// The options that a page documents.
fn documented(page: &str) -> Options {
    let tags = tags(page, "OPTIONS").into_iter();
    tags.filter(|tag| tag.starts_with('-'))
        .flat_map(heading)
        .collect()
}

fn a_page_has_just_the_options_of_its_command() {
    for verb in Verb::all() {
        assert_eq!(documented(&verb.page()), verb.options, "{:?}", verb.path);
    }
}

/// Whether the program takes an option: it comes to the `--help` behind it.
fn is_taken(verb: &Verb, option: &str) -> bool {
    let output = modstamp(&verb.path)
        .args([option, "--help"])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => true,
        Some(2) if error.contains("invalid value") => true,
        Some(2) if error.contains("unexpected argument") => false,
        _ => panic!("{:?} {option}: {output:?}", verb.path),
    }
}

fn a_documented_option_is_taken_and_an_invented_one_refused() {
    for verb in Verb::all() {
        for (name, takes_value) in documented(&verb.page()) {
            let option = match takes_value {
                true => format!("{name}=x"),
                false => name,
            };
            assert!(is_taken(&verb, &option), "{:?} {option}", verb.path);
        }
        for option in ["--invented", "--invented=x", "-y"] {
            assert!(!is_taken(&verb, option), "{:?} {option}", verb.path);
        }
    }
}

fn a_command_line_in_a_page_is_one_that_the_program_takes() {
    let options: BTreeSet<String> = Verb::all()
        .into_iter()
        .flat_map(|verb| verb.options.into_keys())
        .collect();
    let mut tried = 0;
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        let lines = plain(&page);
        let lines = lines.lines().filter(|line| {
            // The options of other programs.
            let others = ["pkg-config", "systemctl", "gdk-pixbuf-query-loaders"];
            !others.iter().any(|other| line.contains(other))
        });
        for word in lines.flat_map(|line| line.split(|c: char| c != '-' && !c.is_ascii_lowercase()))
        {
            if word.starts_with("--") && word != "--" {
                assert!(options.contains(word), "{path:?} tells of {word}");
            }
        }
        for line in examples(&page).iter().flat_map(|example| example.lines()) {
            let line = line.trim_start_matches(['$', '#']).trim_start();
            if !line.starts_with("modstamp ") {
                continue;
            }
            let ends = [" > ", " || ", " -- "].map(|end| line.find(end).unwrap_or(line.len()));
            let line = &line[..ends.into_iter().min().unwrap()];
            let program = Path::new(env!("CARGO_BIN_EXE_modstamp"));
            let script = format!("{} --help", line.replacen("modstamp", "\"$0\"", 1));
            run(Command::new("sh").args(["-c", &script]).arg(program));
            tried += 1;
        }
    }
    assert!(tried > 5, "{tried}");
}

fn the_same_sources_give_the_same_bytes() {
    let elsewhere = [
        ("TZ", "Asia/Tokyo"),
        ("LC_ALL", "C"),
        ("COLUMNS", "40"),
        ("SOURCE_DATE_EPOCH", "1"),
    ];
    let again = make_manual("manual-again", &elsewhere);
    let bare = |top: &Path| -> BTreeMap<PathBuf, Vec<u8>> {
        let files = files(top).into_iter();
        files
            .map(|(path, text)| (path.strip_prefix(top).unwrap().to_owned(), text))
            .collect()
    };
    assert!(bare(&again) == bare(manual()));
}

fn modstamp_profile_names_just_the_keys_that_there_are() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("invented.toml");
    fs::write(&file, "invented = 1").unwrap();
    let status = ["status", "--profile", file.to_str().unwrap()].map(str::to_owned);
    let output = modstamp(&status).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    let (_, keys) = error
        .trim_end()
        .split_once("the keys are ")
        .unwrap_or_else(|| panic!("{error}"));
    let keys: BTreeSet<&str> = keys.split(", ").collect();
    let page = plain(&written("modstamp-profile.5"));
    let tags = tags(&page, "KEYS").into_iter();
    let tags: BTreeSet<&str> = tags.map(|tag| tag.strip_prefix(".B ").unwrap()).collect();
    assert_eq!(tags, keys);
}

/// The places of a profile's files that modstamp-profile(5) tells.
fn search_path() -> Vec<String> {
    let page = plain(&written("modstamp-profile.5"));
    let lines = section(&page, "SYNOPSIS").filter_map(|line| line.strip_prefix(".I "));
    lines
        .map(|line| line.replace('~', "/home/you").replace("NAME", "qemu"))
        .collect()
}

fn modstamp_profile_has_the_search_path_in_its_order() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for path in search_path() {
        let file = format!("/srv{path}");
        write(&file, "");
        write(&path, &format!("files = [\"{file}\"]"));
        let mut status = modstamp(&["status".to_owned(), "--json".to_owned()]);
        status
            .args(["--profile", "qemu", "--root"])
            .arg(root.path());
        status
            .env("HOME", "/home/you")
            .env_remove("XDG_CONFIG_HOME");
        let status: serde_json::Value = serde_json::from_str(&run(&mut status)).unwrap();
        assert_eq!(status["profiles"][0]["files"], serde_json::json!([file]));
    }
}

fn the_program_looks_for_a_profile_only_where_modstamp_profile_says() {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=%file", env!("CARGO_BIN_EXE_modstamp")]);
    strace.args(["status", "--profile", "unheard-of"]);
    strace
        .env("HOME", "/home/you")
        .env_remove("XDG_CONFIG_HOME");
    let traced = String::from_utf8(strace.output().unwrap().stderr).unwrap();
    let paths = traced
        .split('"')
        .filter(|text| text.ends_with("/unheard-of.toml"));
    let paths: Vec<String> = paths
        .map(|path| path.replace("unheard-of", "qemu"))
        .collect();
    assert_eq!(paths, search_path(), "{traced}");
}

fn modstamp_profile_has_examples_that_load() {
    let examples = examples(&written("modstamp-profile.5")).into_iter();
    let examples: Vec<String> = examples.filter(|text| !text.starts_with('$')).collect();
    assert!(examples.len() > 2);
    for example in examples {
        let root = tempfile::tempdir().unwrap();
        let profiles = root.path().join("etc/modstamp/profiles.d");
        fs::create_dir_all(&profiles).unwrap();
        fs::write(profiles.join("qemu.toml"), &example).unwrap();
        let status = ["status", "--profile", "qemu", "--root"].map(str::to_owned);
        run(modstamp(&status).arg(root.path()));
    }
}

fn libmodstamp_names_just_what_the_header_has() {
    let header = fs::read_to_string(sources().join("include/modstamp.h")).unwrap();
    let page = plain(&written("libmodstamp.3"));

    // Spaces and quotes apart, for .BI joins its arguments.
    let squeezed = |text: &str| text.replace([' ', '"'], "");
    let prototypes = header
        .lines()
        .filter(|line| line.ends_with(");") && !line.starts_with(' '));
    let prototypes: BTreeSet<String> = prototypes.map(squeezed).collect();
    assert!(prototypes.len() > 5, "{prototypes:?}");
    let synopsis = section(&page, "SYNOPSIS").filter_map(|line| {
        let line = squeezed(line.strip_prefix(".BI ").or(line.strip_prefix(".B "))?);
        line.ends_with([',', ';']).then_some(line)
    });
    let synopsis = synopsis.collect::<String>().replace(';', ";\n");
    let synopsis: BTreeSet<String> = synopsis.lines().map(str::to_owned).collect();
    assert_eq!(synopsis, prototypes);

    let functions = prototypes.iter().map(|prototype| {
        let (before, _) = prototype.split_once('(').unwrap();
        before[before.find("modstamp_").unwrap()..].to_owned()
    });
    let functions: BTreeSet<String> = functions.collect();
    let described = tags(&page, "DESCRIPTION").into_iter();
    let described = described.map(|tag| tag.replace(".BR ", "").replace(" ()", ""));
    assert_eq!(described.collect::<BTreeSet<String>>(), functions);
    let listed: Vec<&str> = section(&page, "NAME").collect();
    let listed = listed.join(" ");
    let (listed, _) = listed.split_once(" - ").unwrap();
    let listed = listed
        .split(", ")
        .filter(|name| *name != "libmodstamp")
        .map(str::to_owned);
    assert_eq!(listed.collect::<BTreeSet<String>>(), functions);

    let codes = header.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("    MODSTAMP_")?.split_once(" = ")?;
        let value = rest.split([',', ' ']).next()?;
        Some(format!(".BR MODSTAMP_{name} \" ({value})\""))
    });
    let codes: BTreeSet<String> = codes.collect();
    assert!(codes.len() > 4, "{codes:?}");
    let documented = tags(&page, "RETURN VALUE").into_iter();
    assert_eq!(
        documented.map(str::to_owned).collect::<BTreeSet<String>>(),
        codes
    );
}

fn the_example_of_libmodstamp_compiles_without_a_warning() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("example.c");
    let examples = examples(&written("libmodstamp.3"));
    assert_eq!(examples.len(), 1);
    fs::write(&file, &examples[0]).unwrap();
    let mut cc = Command::new("cc");
    cc.args([
        "-std=c99",
        "-pedantic",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-c",
        "-o",
        "/dev/null",
    ]);
    run(cc.arg("-I").arg(sources().join("include")).arg(file));
}

/// Runs `make install` below `root` without a cargo, on files that stand for what was built.
fn make_install(root: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let target = scratch.path().join("target");
    let rustc = run(Command::new("rustc").arg("-vV"));
    let host = rustc
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap();
    // Any file will do for the programs and the library.
    for built in [
        "release/modstamp",
        "trigger/modstamp-rpm-trigger",
        "ffi/libmodstamp.so.0.1.0",
    ] {
        let path = target.join(host).join(built);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, built).unwrap();
    }
    run(Command::new("cp")
        .arg("-r")
        .arg(manual())
        .arg(target.join("manual")));

    let mut install = make(&["install", "CARGO=no-cargo", "PREFIX=/usr"]);
    install.arg(format!("DESTDIR={}", root.display()));
    install
        .env("CARGO_TARGET_DIR", &target)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    run(&mut install);
}

fn make_uninstall_removes_what_make_install_installed_and_nothing_else() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    let kept = [
        "usr/bin/other",
        "usr/lib/systemd/system/libvirtd.service.d/other.conf",
        "usr/share/man/man1/modstampede.1",
        "var/lib/modstamp/qemu.stamp",
    ];
    for path in kept {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), "").unwrap();
    }
    make_install(&root);
    let mut of_python = make(&["install-python", "PYTHONDIR=/usr/lib/python3/dist-packages"]);
    run(of_python.arg(format!("DESTDIR={}", root.display())));
    let uninstall = || {
        let mut uninstall = make(&["uninstall", "CARGO=no-cargo", "PREFIX=/usr"]);
        uninstall.arg("PYTHONDIR=/usr/lib/python3/dist-packages");
        run(uninstall.arg(format!("DESTDIR={}", root.display())))
    };
    uninstall();
    let left = run(Command::new("find")
        .args([".", "-not", "-type", "d"])
        .current_dir(&root));
    let mut left: Vec<&str> = left.lines().map(|path| &path[2..]).collect();
    left.sort_unstable();
    assert_eq!(left, kept);
    let own = run(Command::new("find")
        .args([".", "-name", "*modstamp*", "-type", "d"])
        .current_dir(&root));
    assert_eq!(
        own, "./var/lib/modstamp\n",
        "a directory of its own is left"
    );
    uninstall();
}

fn make_install_without_cargo_installs_what_was_built_before() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    make_install(&root);

    let installed = files(&root).into_keys();
    let installed =
        installed.map(|path| format!("/{}", path.strip_prefix(&root).unwrap().display()));
    let installed: BTreeSet<String> = installed.collect();
    assert!(installed.contains("/usr/bin/modstamp"), "{installed:#?}");
    let shared = installed
        .into_iter()
        .filter(|path| path.starts_with("/usr/share/"));
    let pages = Verb::all()
        .into_iter()
        .map(|verb| format!("/usr/share/man/man1/{}", verb.page_name()));
    let others = [
        "/usr/share/man/man3/libmodstamp.3",
        "/usr/share/man/man5/modstamp-profile.5",
        "/usr/share/bash-completion/completions/modstamp",
        "/usr/share/zsh/site-functions/_modstamp",
        "/usr/share/fish/vendor_completions.d/modstamp.fish",
    ];
    let wanted: BTreeSet<String> = pages.chain(others.map(str::to_owned)).collect();
    assert_eq!(shared.collect::<BTreeSet<String>>(), wanted);
}

fn man_shows_every_page_without_a_warning() {
    for page in pages() {
        for (locale, device) in [("C.UTF-8", "utf8"), ("C", "ascii")] {
            let mut man = Command::new("man");
            man.args(["--warnings=w", "--local-file"]).arg(&page);
            man.env("LC_ALL", locale)
                .env("MANWIDTH", "80")
                .env_remove("MANROFFOPT");
            let output = man.output().unwrap();
            let warnings = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success() && warnings.is_empty(),
                "{page:?}, {device}: {warnings}"
            );
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains("SEE ALSO"), "{text}");
        }
    }
}

fn every_page_is_found_by_its_name_and_what_it_is_for() {
    for page in pages() {
        let name = page.file_stem().unwrap().to_str().unwrap();
        let found = run(Command::new("lexgrog").arg(&page));
        assert!(found.contains(&format!("\"{name} - ")), "{found}");
    }
}

fn mandoc_finds_nothing_wrong_with_a_page() {
    for page in pages() {
        let mut mandoc = Command::new("mandoc");
        let output = mandoc
            .args(["-T", "lint", "-W", "warning"])
            .arg(&page)
            .output()
            .unwrap();
        let found = String::from_utf8(output.stdout).unwrap();
        // No date, so that the bytes are the same each time. The other is how clap_mangen lists possible values.
        let known = ["missing date", "skipping paragraph macro: br"];
        let found = found
            .lines()
            .filter(|line| !known.iter().any(|known| line.contains(known)));
        let found: Vec<&str> = found.collect();
        assert!(found.is_empty(), "{found:#?}");
    }
}

/// Runs a shell's script on the completions and the words of a command line. Returns the words that it offers.
fn complete(shell: &[&str], script: &str, completions: &str, words: &[String]) -> Vec<String> {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).args(["-c", script]);
    if shell[0] != "fish" {
        command.arg(shell[0]); // What $0 is.
    }
    let offered = run(command.arg(manual().join(completions)).args(words));
    offered.lines().map(str::to_owned).collect()
}

fn bash_completes_just_what_the_program_takes() {
    let script = r#"
        source "$1"
        shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        [[ $(complete -p modstamp) == *" -F _modstamp "* ]]
        _modstamp modstamp "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    for verb in Verb::all() {
        verb.is_completed_by(|words| {
            complete(&["bash", "--norc", "-e"], script, "modstamp.bash", words)
        });
    }
}

fn fish_completes_just_what_the_program_takes() {
    run(Command::new("fish")
        .arg("--no-execute")
        .arg(manual().join("modstamp.fish")));
    let script = r#"
        source $argv[1]
        complete --do-complete "$argv[2..]" | string replace --regex '\t.*' ''
    "#;
    for verb in Verb::all() {
        verb.is_completed_by(|words| {
            complete(&["fish", "--no-config"], script, "modstamp.fish", words)
        });
    }
}

/// zsh's own functions for completion want a terminal. Those that the completions call are stood in for: they print what
/// they are given for the last word, and lead the way there.
fn zsh_completes_just_what_the_program_takes() {
    run(Command::new("zsh")
        .args(["-f", "-n"])
        .arg(manual().join("_modstamp")));
    let script = r#"
        compdef() { }
        source "$1"
        last=$@[-1]
        wanted=("${@[3,-2]}")
        _arguments() {
            (( level += 1 ))
            if (( level <= $#wanted )); then
                line=($wanted[level])
                state=${${(M)@:#\*:::*}##*->}
                return
            fi
            local specification
            for specification in "$@"; do
                # Before an option can be those that exclude it, and a star if it can be repeated.
                specification=${${specification#\(*\)}#\*}
                case $specification in
                    -*\[*) print -r -- ${specification%%[=\[]*} ;;
                    :*_commands) ${specification##*:} ;;
                esac
            done
        }
        _describe() { print -rl -- ${${(P)4}%%:*} }
        _modstamp | while read -r word; do
            [[ $word == ${last}* ]] && print -r -- $word
        done
        true
    "#;
    for verb in Verb::all() {
        verb.is_completed_by(|words| complete(&["zsh", "-f"], script, "_modstamp", words));
    }
}
