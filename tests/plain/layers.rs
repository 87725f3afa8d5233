//! The order of the library's layers, as src/lib.rs lists them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The layers from the lowest to the highest. A file uses its own and lower ones.
const LAYERS: [&str; 6] = ["ground", "files", "stamp", "observe", "judge", "act"];

/// The files of the library's highest layer. The command line uses the public interface alone.
const FRONT: [&str; 1] = ["ffi"];

/// A source file of the library.
struct Source {
    /// Its module, for example "observe::walk".
    module: String,
    /// Without comments and unit tests.
    code: String,
}

/// Every file of the library but its root.
fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for name in LAYERS.iter().chain(&FRONT) {
        collect(&top, &top.join(name), &mut sources);
        collect(&top, &top.join(format!("{name}.rs")), &mut sources);
    }
    assert!(sources.len() > 30, "{} files", sources.len());
    sources
}

fn collect(top: &Path, path: &Path, sources: &mut Vec<Source>) {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap();
        entries.for_each(|entry| collect(top, &entry.unwrap().path(), sources));
    } else if path.exists() {
        let text = fs::read_to_string(path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let lines = text.lines();
        let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
        let module = path.strip_prefix(top).unwrap().with_extension("");
        sources.push(Source {
            module: module.to_str().unwrap().replace('/', "::"),
            code: lines.collect::<Vec<_>>().join("\n"),
        });
    }
}

/// Every `crate::…` path of some code. Each item of a `{…}` list has a path of its own.
fn paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
        let (path, rest) = rest.split_at(rest.find(|c| !is_part(c)).unwrap_or(rest.len()));
        match (path.strip_suffix("::"), rest.strip_prefix('{')) {
            (Some(module), Some(list)) => {
                let list = list.split('}').next().unwrap();
                let items = list
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty());
                paths.extend(items.map(|item| match item {
                    "self" => module.to_owned(),
                    item => format!("{module}::{item}"),
                }));
            }
            _ => paths.push(path.trim_end_matches(':').to_owned()),
        }
    }
    paths
}

/// The file whose module a path begins with, and the item that the path names in it.
fn resolve<'a>(path: &'a str, sources: &'a [Source]) -> Option<(&'a Source, Option<&'a str>)> {
    let is_prefix = |source: &&Source| match path.strip_prefix(&source.module) {
        Some(rest) => rest.is_empty() || rest.starts_with("::"),
        None => false,
    };
    let source = sources.iter().filter(is_prefix);
    let source = source.max_by_key(|source| source.module.len())?;
    let item = path[source.module.len()..].strip_prefix("::");
    Some((source, item.and_then(|item| item.split("::").next())))
}

/// Whether a file defines an item itself, rather than passing on that of another file.
fn defines(source: &Source, item: &str) -> bool {
    let kinds = [
        "fn", "struct", "enum", "const", "static", "type", "trait", "mod",
    ];
    kinds.iter().any(|kind| {
        let definition = format!("{kind} {item}");
        let mut after = source.code.split(&definition).skip(1);
        after.any(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

fn layer(module: &str) -> usize {
    let name = module.split("::").next().unwrap();
    let known = LAYERS.iter().position(|layer| *layer == name);
    known.unwrap_or(LAYERS.len())
}

#[test]
fn a_use_names_the_file_in_which_an_item_lives() {
    let sources = sources();
    let mut wrong = Vec::new();
    for source in &sources {
        for path in paths(&source.code) {
            match resolve(&path, &sources) {
                Some((_, None)) => {}
                Some((file, Some(item))) if defines(file, item) => {}
                _ => wrong.push(format!("{} uses {path}", source.module)),
            }
        }
        if source.code.contains("super::") {
            wrong.push(format!("{} uses super", source.module));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_file_uses_one_of_a_higher_layer() {
    let sources = sources();
    for source in &sources {
        for path in paths(&source.code) {
            let (used, _) = resolve(&path, &sources).expect(&path);
            assert!(
                layer(&used.module) <= layer(&source.module),
                "{} uses {path}, which is higher",
                source.module
            );
        }
    }
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let sources = sources();
    let mut uses: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for source in &sources {
        let used = paths(&source.code).into_iter().filter_map(|path| {
            let (used, _) = resolve(&path, &sources)?;
            (used.module != source.module).then(|| used.module.clone())
        });
        uses.insert(&source.module, used.collect());
    }
    // Remove files as long as there are any that use none of the rest, or that none of the rest
    // uses.
    loop {
        let left: BTreeSet<String> = uses.keys().map(|module| (*module).to_owned()).collect();
        let used: BTreeSet<String> = uses.values().flatten().cloned().collect();
        uses.retain(|module, uses| used.contains(*module) && !uses.is_disjoint(&left));
        if uses.len() == left.len() {
            break;
        }
    }
    assert!(uses.is_empty(), "these use each other: {uses:#?}");
}
