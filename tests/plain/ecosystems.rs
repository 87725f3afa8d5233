//! The triggers of the package modstamp-ecosystems, against the profiles: each directory in which a
//! package may have a plug-in has a trigger, and no trigger is of another directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use support::sources;

/// Profile names, each with paths.
type Paths = BTreeMap<String, BTreeSet<String>>;

/// Why a profile has no trigger on any distribution.
const WITHOUT: [(&str, &str); 3] = [
    (
        "fontconfig",
        "Debian's own trigger believes equal mtimes, so only a look helps",
    ),
    ("va-api", "libva keeps no answers, and `run` asks anew"),
    ("vulkan", "the loader keeps no answers, and `run` asks anew"),
];

/// Why a further profile has no trigger of rpm's.
const WITHOUT_ON_RPM: [(&str, &str); 4] = [
    (
        "gdk-pixbuf",
        "Fedora's trigger and openSUSE's scriptlets rebuild its list",
    ),
    (
        "gio",
        "Fedora's trigger and openSUSE's scriptlets rebuild its list",
    ),
    ("gtk3", "the distributions' own triggers rebuild its list"),
    ("vlc", "the packages' own scriptlets rebuild its list"),
];

fn read(path: &str) -> String {
    fs::read_to_string(sources().join(path)).unwrap()
}

/// The paths below `/usr` in which packages may have plug-ins, by the profiles.
fn of_profiles() -> Paths {
    let files = fs::read_dir(sources().join("packaging/profiles")).unwrap();
    let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files = files.map(|name| format!("packaging/profiles/{name}"));
    let paths = |file: String| {
        let profile: toml::Table = read(&file).parse().unwrap();
        let listed = ["module-directories", "files"].into_iter();
        let listed = listed.filter_map(|key| profile.get(key)?.as_array());
        let listed = listed.flatten().map(|path| path.as_str().unwrap());
        let of_packages =
            |path: &&str| path.starts_with("/usr/") && !path.starts_with("/usr/local/");
        let paths = listed.filter(of_packages).flat_map(names);
        let name = file.rsplit_once('/').unwrap().1.strip_suffix(".toml");
        (name.unwrap().to_owned(), paths.collect())
    };
    let built_in = "packaging/nbdkit.toml".to_owned();
    files.chain([built_in]).map(paths).collect()
}

/// Both names of the directory that a profile calls `/usr/lib*`.
fn names(path: &str) -> Vec<String> {
    match path.strip_prefix("/usr/lib*/") {
        Some(rest) => ["lib", "lib64"]
            .map(|lib| format!("/usr/{lib}/{rest}"))
            .to_vec(),
        None => vec![path.to_owned()],
    }
}

/// Whether only Debian and its like have this path.
fn is_debians(path: &str) -> bool {
    path.contains("/*-linux-*/") || path.contains("/dist-packages/")
}

/// The paths that dpkg's triggers are on, as the profiles write them.
fn of_dpkg() -> Paths {
    let text = read("debian/modstamp-ecosystems.modstamp");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.map(|line| {
        let mut words = line.split_whitespace().map(str::to_owned);
        let name = words.next().unwrap();
        let paths = words.map(|path| path.replace("${DEB_HOST_MULTIARCH}", "*-linux-*") + "/");
        (name, paths.collect())
    });
    lines.collect()
}

/// The prefixes that rpm's triggers are on, where libraries are in `/usr/lib64`.
fn of_rpm() -> Paths {
    let text = read("rpm/modstamp.spec");
    let lists = text.lines().filter_map(|line| {
        let list = line.trim().strip_prefix("{\"")?.strip_suffix("\"},")?;
        let mut words = list.split("\", \"").map(str::to_owned);
        let name = words.next()?;
        let paths = words.map(|path| {
            let path = path.replace("%{_prefix}", "/usr");
            path.replace("%{_libdir}", "/usr/lib64")
        });
        Some((name, paths.collect()))
    });
    lists.collect()
}

/// Holds the triggers against the profiles' paths. `without` names the profiles that have none.
#[track_caller]
fn assert_covered(triggers: &Paths, profiles: &Paths, without: &BTreeSet<&str>) {
    let with: BTreeSet<&str> = triggers.keys().map(String::as_str).collect();
    let all: BTreeSet<&str> = profiles.keys().map(String::as_str).collect();
    assert_eq!(
        &all - without,
        with,
        "each profile has triggers, or tests/plain/ecosystems.rs says why not"
    );
    for (name, prefixes) in triggers {
        let paths = &profiles[name];
        let covers = |prefix: &str, path: &str| format!("{path}/").starts_with(prefix);
        for path in paths {
            let is_covered = prefixes.iter().any(|prefix| covers(prefix, path));
            assert!(is_covered, "{name}: {path} has no trigger");
        }
        for prefix in prefixes {
            let is_known = paths.iter().any(|path| covers(prefix, path));
            assert!(is_known, "{name}: no profile has what is in {prefix}");
        }
    }
}

/// The profiles' paths on Debian, or those elsewhere.
fn where_debian_is(it: bool) -> Paths {
    let mut profiles = of_profiles();
    let lists = profiles.values_mut();
    lists.for_each(|paths| paths.retain(|path| is_debians(path) == it));
    profiles
}

#[test]
fn each_directory_of_a_profile_has_a_trigger_of_dpkgs() {
    let without = WITHOUT.iter().map(|(name, _)| *name).collect();
    assert_covered(&of_dpkg(), &where_debian_is(true), &without);
}

#[test]
fn each_directory_of_a_profile_has_a_trigger_of_rpms() {
    let without = WITHOUT.iter().chain(&WITHOUT_ON_RPM);
    let without = without.map(|(name, _)| *name).collect();
    assert_covered(&of_rpm(), &where_debian_is(false), &without);
}
