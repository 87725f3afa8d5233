//! The files of systemd's units and their drop-ins, found and merged by systemd's own rules
//! (systemd.unit(5)).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::act::doctor::host::Host;
use crate::act::doctor::report::Seen;

/// The directories of units, the most important one first.
pub(crate) const DIRECTORIES: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The directories of units for users' managers, the most important one first.
pub(crate) const USERS_DIRECTORIES: [&str; 4] = [
    "/etc/systemd/user",
    "/run/systemd/user",
    "/usr/local/lib/systemd/user",
    "/usr/lib/systemd/user",
];

/// The state of a unit's file, or of a drop-in.
pub(crate) enum UnitFile {
    Missing,
    /// The path is that of the mask: a link to /dev/null, or an empty file.
    Masked(PathBuf),
    Installed(PathBuf),
}

/// A unit's name, such as `modstamp-update@qemu.path`.
pub(crate) struct Name {
    pub(crate) whole: String,
    /// The name without the instance, such as `modstamp-update@.path`. `None` without an instance.
    template: Option<String>,
    instance: String,
}

impl Name {
    pub(crate) fn of(whole: &str) -> Name {
        let parts = whole.split_once('@').and_then(|(prefix, rest)| {
            let (instance, suffix) = rest.rsplit_once('.')?;
            Some((format!("{prefix}@.{suffix}"), instance.to_owned()))
        });
        let (template, instance) = parts.unzip();
        Name {
            whole: whole.to_owned(),
            template,
            instance: instance.unwrap_or_default(),
        }
    }

    /// The names that directories of drop-ins have, without `.d`. Those of several units come last:
    /// a prefix that ends with a dash, such as `modstamp-.path`, and the kind alone.
    fn of_drop_ins(&self) -> Vec<String> {
        let mut names: Vec<String> = self.of_files().cloned().collect();
        if let Some((stem, kind)) = self.whole.rsplit_once('.') {
            let dashes = stem.rmatch_indices('-').map(|(at, _)| at);
            names.extend(dashes.map(|at| format!("{}.{kind}", &stem[..=at])));
            names.push(kind.to_owned());
        }
        names
    }

    /// The section that the unit's kind has, such as `[Path]`.
    fn section(&self) -> String {
        let kind = self.whole.rsplit_once('.').map_or("", |(_, kind)| kind);
        let mut letters = kind.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        format!("[{}{}]", first.unwrap_or_default(), letters.as_str())
    }

    /// The names of the unit's files. The instance's own comes before the template's.
    fn of_files(&self) -> impl Iterator<Item = &String> {
        [&self.whole].into_iter().chain(&self.template)
    }
}

/// Finds a unit's file.
pub(crate) fn find(host: &Host, unit: &Name) -> Seen<UnitFile> {
    for name in unit.of_files() {
        for directory in DIRECTORIES.map(Path::new) {
            match state(host, directory.join(name))? {
                UnitFile::Missing => {}
                found => return Ok(found),
            }
        }
    }
    Ok(UnitFile::Missing)
}

/// Finds a drop-in of a unit by its own name, such as `modstamp.conf`.
pub(crate) fn find_drop_in(host: &Host, unit: &Name, name: &str) -> Seen<UnitFile> {
    match drop_ins(host, unit)?.remove(Path::new(name)) {
        Some(file) => state(host, file),
        None => Ok(UnitFile::Missing),
    }
}

/// The state of the file at `path`.
fn state(host: &Host, path: PathBuf) -> Seen<UnitFile> {
    let Some(stat) = host.stat_itself(&path)? else {
        return Ok(UnitFile::Missing);
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    // In an image, /dev/null may not exist. So a link that leads nowhere is a mask, too.
    let target = host.stat(&path)?;
    let target = target.map(|stat| FileType::from_raw_mode(stat.st_mode));
    let is_empty = kind.is_file() && stat.st_size == 0;
    Ok(match is_empty || !target.is_some_and(FileType::is_file) {
        true => UnitFile::Masked(path),
        false => UnitFile::Installed(path),
    })
}

/// The drop-ins that count for a unit, by name. systemd reads them in the order of their names.
fn drop_ins(host: &Host, unit: &Name) -> Seen<BTreeMap<PathBuf, PathBuf>> {
    let mut all = BTreeMap::new();
    for directory in DIRECTORIES.map(Path::new) {
        for name in unit.of_drop_ins() {
            let directory = directory.join(format!("{name}.d"));
            for name in host.names(&directory)? {
                if name.extension().is_some_and(|it| it == "conf") {
                    let file = directory.join(&name);
                    all.entry(name).or_insert(file);
                }
            }
        }
    }
    Ok(all)
}

/// A setting that is a list, as a unit's file and its drop-ins give it.
#[derive(Default)]
pub(crate) struct List {
    pub(crate) values: Vec<String>,
    /// The last file that emptied the list.
    pub(crate) emptied_by: Option<PathBuf>,
}

impl List {
    /// The list of a unit. A value of any of `keys` adds to the list, and an empty one clears it.
    pub(crate) fn of(host: &Host, unit: &Name, keys: &[&str]) -> Seen<List> {
        let mut list = List::default();
        let drop_ins = drop_ins(host, unit)?.into_values();
        let own = match find(host, unit)? {
            UnitFile::Installed(file) => Some(file),
            UnitFile::Missing | UnitFile::Masked(_) => None,
        };
        for file in own.into_iter().chain(drop_ins) {
            list.add(host, &file, unit, keys)?;
        }
        Ok(list)
    }

    /// The list that one file of the unit gives by itself.
    pub(crate) fn of_file(host: &Host, file: &Path, unit: &Name, keys: &[&str]) -> Seen<List> {
        let mut list = List::default();
        list.add(host, file, unit, keys)?;
        Ok(list)
    }

    fn add(&mut self, host: &Host, file: &Path, unit: &Name, keys: &[&str]) -> Seen<()> {
        let UnitFile::Installed(file) = state(host, file.to_owned())? else {
            return Ok(());
        };
        let text = host.text(&file)?.unwrap_or_default();
        for (key, value) in settings(&text, &unit.section()) {
            match value.trim() {
                _ if !keys.contains(&key.trim()) => {}
                "" => {
                    self.values.clear();
                    self.emptied_by = Some(file.clone());
                }
                value => {
                    let value = value.replace("%i", &unit.instance).replace("%%", "%");
                    self.values.push(value);
                }
            }
        }
        Ok(())
    }
}

/// The settings in one section of a unit's text. A backslash at the end of a line joins the line to
/// the next one that is no comment (systemd.syntax(7)).
fn settings(text: &str, section: &str) -> Vec<(String, String)> {
    let lines = text.lines();
    let lines = lines.filter(|line| !line.trim_start().starts_with(['#', ';']));
    let lines: Vec<&str> = lines.collect();
    let text = lines.join("\n").replace("\\\n", " ");
    let mut is_inside = false;
    let mut settings = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            is_inside = line == section;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| is_inside) {
            settings.push((key.to_owned(), value.to_owned()));
        }
    }
    settings
}

/// Whether another unit wants this one. systemd goes by the link's name, and not by its target.
pub(crate) fn is_enabled_in(host: &Host, unit: &Name, directories: &[PathBuf]) -> Seen<bool> {
    for directory in directories {
        for name in host.names(directory)? {
            let wants = [".wants", ".requires", ".upholds"];
            let is_wants = wants.iter().any(|it| name.to_string_lossy().ends_with(it));
            let link = directory.join(&name).join(&unit.whole);
            if is_wants && host.stat_itself(&link)?.is_some() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
