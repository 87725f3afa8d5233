//! Holds SECURITY.md's table of threats against the tests.

use std::fs;
use std::path::Path;

use support::sources;

/// The text of every test in a directory and below it.
fn texts(directory: &Path, into: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_threat_has_a_test_that_shows_what_comes_of_it() {
    let page = fs::read_to_string(sources().join("SECURITY.md")).unwrap();
    let (_, table) = page.split_once("| who |").unwrap();
    let rows: Vec<&str> = table
        .lines()
        .skip(2)
        .take_while(|line| !line.is_empty())
        .collect();
    let mut tests = String::new();
    texts(&sources().join("tests"), &mut tests);
    assert!(rows.len() > 20, "{rows:?}");
    for row in rows {
        let name = row.trim_end_matches("` |").rsplit('`').next().unwrap();
        assert!(
            tests.contains(&format!("fn {name}(")),
            "there is no test of this threat: {row}"
        );
    }
}
