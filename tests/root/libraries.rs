//! The libraries of real programs, built by gcc, are those that the dynamic loader itself lists.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::named;
use support::run;
use support::test::{self, Needs, Test};

pub fn tests() -> Vec<Test> {
    test::tests(&Needs::root_and(&["gcc", "ldd", "strace"]), SCENARIOS).collect()
}

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![
    the_libraries_of_this_machines_programs_are_those_that_its_loader_lists,
    run_paths_of_a_linker_lead_to_the_libraries_that_the_loader_lists,
    a_program_behind_links_has_the_libraries_that_its_loader_lists,
    the_loaders_variable_leads_to_the_libraries_that_it_lists,
    a_check_of_unchanged_libraries_opens_none_of_them,
];

/// The libraries of a program, links followed, as `ldd` and as a profile find them.
fn both(program: &Path, variable: Option<&str>) -> [BTreeSet<PathBuf>; 2] {
    let mut ldd = Command::new("ldd");
    ldd.arg(program).env_remove("LD_LIBRARY_PATH");
    let mut observe = Command::new(support::program("modstamp"));
    let text = format!("programs = [{program:?}]\nlibraries = true\n");
    let profile = tempfile::Builder::new()
        .prefix("x")
        .suffix(".toml")
        .tempfile()
        .unwrap();
    fs::write(profile.path(), text).unwrap();
    observe.arg("observe").arg("--profile").arg(profile.path());
    observe.env_remove("LD_LIBRARY_PATH");
    if let Some(variable) = variable {
        ldd.env("LD_LIBRARY_PATH", variable);
        observe.env("LD_LIBRARY_PATH", variable);
    }
    let observed = run(&mut observe);
    let lines = observed.lines().filter(|line| line.starts_with("library "));
    let observed = lines
        .map(|line| fs::canonicalize(line.rsplit(' ').next().unwrap()).unwrap())
        .collect();
    [listed(&mut ldd), observed]
}

/// The libraries that the loader lists, links followed.
fn listed(loader: &mut Command) -> BTreeSet<PathBuf> {
    let listed = run(loader);
    // “NAME => PATH (ADDRESS)”, or “PATH (ADDRESS)”
    let paths = listed.lines().filter_map(|line| line.split(" (").next());
    let paths = paths.map(|line| line.rsplit(" => ").next().unwrap().trim());
    let paths = paths.filter(|path| path.starts_with('/'));
    paths.map(|path| fs::canonicalize(path).unwrap()).collect()
}

fn the_libraries_of_this_machines_programs_are_those_that_its_loader_lists() {
    for name in ["bash", "gcc", "ld", "mount", "strace"] {
        let program = run(Command::new("which").arg(name));
        let program = fs::canonicalize(program.trim()).unwrap();
        let [listed, observed] = both(&program, None);
        assert!(!listed.is_empty());
        assert_eq!(observed, listed, "{name}");
    }
}

/// A tree with libraries that gcc built: `inner` is needed by `outer`, and each is there twice.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Tree {
        let tree = Tree(tempfile::tempdir().unwrap());
        for directory in ["bin", "one", "two"] {
            fs::create_dir(tree.path(directory)).unwrap();
        }
        for directory in ["one", "two"] {
            tree.gcc(
                &format!("{directory}/libinner.so"),
                "int inner(void) { return 1; }",
                &["-shared"],
            );
        }
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn gcc(&self, to: &str, code: &str, options: &[&str]) {
        let source = self.path("source.c");
        fs::write(&source, code).unwrap();
        let mut gcc = Command::new("gcc");
        gcc.current_dir(self.0.path()).args(["-fPIC", "-o", to]);
        run(gcc.arg(source).args(options).arg("-Wl,--no-as-needed"));
    }

    fn program(&self, options: &[&str]) -> PathBuf {
        let links = ["-Lone", "-Wl,--no-as-needed", "-louter", "-linner"];
        let options = [options, &links].concat();
        self.gcc("bin/tool", "int main(void) { return 0; }", &options);
        self.path("bin/tool")
    }

    fn outer(&self, options: &[&str]) {
        let options = [
            options,
            &["-shared", "-Lone", "-Wl,--no-as-needed", "-linner"],
        ]
        .concat();
        for directory in ["one", "two"] {
            self.gcc(
                &format!("{directory}/libouter.so"),
                "int outer(void) { return 1; }",
                &options,
            );
        }
    }
}

fn run_paths_of_a_linker_lead_to_the_libraries_that_the_loader_lists() {
    let tree = Tree::new();
    let old = "-Wl,--disable-new-dtags";
    for (outer, program) in [
        (
            &["-Wl,-rpath,$ORIGIN"][..],
            &["-Wl,-rpath,$ORIGIN/../one"][..],
        ),
        (
            &["-Wl,-rpath,$ORIGIN/../two"],
            &["-Wl,-rpath,$ORIGIN/../two"],
        ),
        (&[], &[old, "-Wl,-rpath,$ORIGIN/../two:$ORIGIN/../one"]),
        (
            &[old, "-Wl,-rpath,$ORIGIN"],
            &[old, "-Wl,-rpath,${ORIGIN}/../one"],
        ),
    ] {
        tree.outer(outer);
        let tool = tree.program(program);
        let [listed, observed] = both(&tool, None);
        assert!(
            listed.iter().any(|path| path.ends_with("libouter.so")),
            "{listed:?}"
        );
        assert!(
            listed.iter().any(|path| path.ends_with("libinner.so")),
            "{listed:?}"
        );
        assert_eq!(observed, listed, "{outer:?} {program:?}");
    }
}

fn a_program_behind_links_has_the_libraries_that_its_loader_lists() {
    let tree = Tree::new();
    tree.outer(&["-Wl,-rpath,$ORIGIN"]);
    let tool = tree.program(&["-Wl,-rpath,$ORIGIN/../one"]);
    // Beside a link are other libraries than beside the program.
    for below in ["links", "links/bin"] {
        fs::create_dir(tree.path(below)).unwrap();
    }
    symlink("../two", tree.path("links/one")).unwrap();
    symlink(&tool, tree.path("links/bin/tool")).unwrap();
    symlink("bin", tree.path("links/other")).unwrap();
    for link in ["links/bin/tool", "links/other/tool"] {
        let link = tree.path(link);
        let [_, observed] = both(&link, None);
        // ldd(1) names the program to the loader, which then takes the link for the program.
        let mut program = Command::new(&link);
        let program = program.env_remove("LD_LIBRARY_PATH");
        let listed = listed(program.env("LD_TRACE_LOADED_OBJECTS", "1"));
        assert!(listed.contains(&fs::canonicalize(tree.path("one/libouter.so")).unwrap()));
        assert_eq!(observed, listed, "{link:?}");
    }
}

fn the_loaders_variable_leads_to_the_libraries_that_it_lists() {
    let tree = Tree::new();
    tree.outer(&[]);
    let tool = tree.program(&["-Wl,-rpath,$ORIGIN/../one"]);
    let two = tree.path("two").display().to_string();
    for variable in [two.clone(), format!("/nowhere;{two}:")] {
        let [listed, observed] = both(&tool, Some(&variable));
        assert!(listed.contains(&fs::canonicalize(tree.path("two/libouter.so")).unwrap()));
        assert_eq!(observed, listed, "{variable}");
    }
}

fn a_check_of_unchanged_libraries_opens_none_of_them() {
    let bash = fs::canonicalize("/bin/bash").unwrap();
    let profile = tempfile::Builder::new()
        .prefix("x")
        .suffix(".toml")
        .tempfile()
        .unwrap();
    fs::write(
        profile.path(),
        format!("programs = [{bash:?}]\nlibraries = true\n"),
    )
    .unwrap();
    let modstamp = support::program("modstamp");
    let named = |command: &mut Command| {
        command.arg("--profile").arg(profile.path());
        run(command.env_remove("LD_LIBRARY_PATH"))
    };
    let witness = tempfile::NamedTempFile::new().unwrap();
    let observed = named(Command::new(&modstamp).arg("observe"));
    fs::write(witness.path(), observed).unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=open,openat", "-o", "/dev/stdout"]);
    let calls = named(strace.arg(modstamp).arg("check").arg(witness.path()));
    let opened = |name: &str| {
        let mut calls = calls.lines().filter(|call| !call.contains("O_PATH"));
        // The program itself may be linked dynamically. It opens its own libraries first.
        let behind = calls.by_ref().skip_while(|call| !call.contains(".toml"));
        behind.filter(|call| call.contains(name)).count()
    };
    assert!(calls.contains(".toml"), "{calls}");
    for name in ["bash", "libc.so.6", "ld.so.cache"] {
        assert_eq!(opened(name), 0, "{name}: {calls}");
    }
}
