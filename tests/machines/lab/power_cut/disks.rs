//! The disks whose power is cut, what is packed for them, and the machine that works on them.

use std::path::Path;
use std::process::Command;

use super::super::Play;
use super::super::image::Image;
use super::super::machine::{Boot, Disk, Machine};
use super::super::scene::Scene;
use super::root::Root;
use super::{After, Moment};
use support::{deb, rpm, run};

/// Packages, and the modules that each of their versions has.
pub const PACKAGES: [(&str, [&[&str]; 3]); 2] = [
    ("block", [&["nfs", "iscsi", "ssh"]; 3]),
    ("display", [&["qxl"], &["gtk", "qxl"], &[]]),
];

/// Disks whose power is cut, and what boots beside them.
pub struct Disks {
    image: Image,
    packages: Disk,
    cut: [Disk; 3],
    /// What those are over.
    _empty: [Disk; 3],
}

impl Disks {
    pub fn new(image: Image) -> Disks {
        let packages = packages();
        let filled = ["mkfs.ext4", "-q", "-d", packages.path().to_str().unwrap()];
        let empty = [
            Disk::formatted(256, &["mkfs.ext4", "-q"]),
            Disk::formatted(320, &["mkfs.xfs", "-q"]),
            Disk::formatted(256, &["mkfs.btrfs", "-q"]),
        ];
        Disks {
            image,
            packages: Disk::formatted(64, &filled),
            cut: empty.each_ref().map(Disk::with_cache),
            _empty: empty,
        }
    }

    /// Starts a machine that replays the journals.
    pub fn boot(&self, scene: &mut Scene) -> Running {
        let own = Disk::over(&self.image);
        let boot = Boot::new(&self.image, &own).bare().disk(&self.packages);
        let machine = scene.start(self.cut.iter().fold(boot, Boot::disk));
        let mut running = Running { machine, _own: own };
        running.machine.put("/run/cut", include_str!("../cut"));
        running.order("mount_all", &[]);
        running
    }
}

pub struct Running {
    machine: Machine,
    _own: Disk,
}

impl Running {
    /// Runs a script of what `cut` has, in these roots; returns what it said of them.
    #[track_caller]
    pub fn order(&mut self, script: &str, roots: &[&Root]) -> Said {
        Said(self.machine.sh(&Running::script(script, roots)))
    }

    fn script(script: &str, roots: &[&Root]) -> String {
        let turn = |root: &&Root| {
            let asked = root.answers.iter().map(|answer| answer.number.to_string());
            let asked = asked.collect::<Vec<_>>().join(",");
            format!("{}:{}:{asked}", root.filesystem, root.manager)
        };
        let turns = roots.iter().map(turn).collect::<Vec<_>>().join(" ");
        format!(". /run/cut\nturns='{turns}'\n{script}")
    }

    /// Begins a transaction in each of the roots, cuts the power, and returns what was said until then.
    pub fn cut(mut self, play: Play, roots: &[&Root], synced: bool, moment: Moment) -> Said {
        let ask = if play.has_modstamp() {
            "ask"
        } else {
            "ask_libvirt"
        };
        let sync = if synced { "sync" } else { "-" };
        let versions: Vec<String> = roots.iter().map(|root| root.to.to_string()).collect();
        let script = format!("begin {ask} {sync} {}", versions.join(" "));
        self.machine.begin(&Running::script(&script, roots));
        let all = roots.iter().map(|root| match root.manager {
            "dpkg" => 11,
            _ => 9,
        });
        let all: usize = all.sum();
        self.machine.wait_until(|said| {
            let of_managers = ["begin", "line", "end"];
            let lines = said.lines().filter_map(|line| line.split(' ').nth(2));
            let lines = lines.filter(|word| of_managers.contains(word)).count();
            let is_there = match moment.after {
                After::Percent(100) => false,
                After::Percent(percent) => lines > 0 && lines * 100 >= all * percent,
                After::Triggers => said.contains(" Processing triggers "),
            };
            is_there || said.contains("\nall end\n")
        });
        std::thread::sleep(moment.delay);
        let said = Said(self.machine.said());
        self.machine.cut();
        said
    }
}

/// What a machine said: lines that begin with a root's file system and package manager.
pub struct Said(pub String);

impl Said {
    /// What it said of a root, as words.
    pub fn of(&self, root: &Root) -> Vec<Vec<&str>> {
        let lines = self.0.lines().map(|line| line.split(' ').collect());
        let own =
            lines.filter(|words: &Vec<&str>| words.starts_with(&[root.filesystem, root.manager]));
        own.map(|words| words[2..].to_vec()).collect()
    }
}

/// The words after `key` in the one line that has it.
#[track_caller]
pub fn fact<'a>(facts: &[Vec<&'a str>], key: &str) -> Vec<&'a str> {
    let found = facts.iter().find(|words| words[0] == key);
    found.unwrap_or_else(|| panic!("no “{key}” in {facts:#?}"))[1..].to_vec()
}

/// A directory with modstamp's packages and the modules', as dpkg and rpm take them, and the modules themselves.
fn packages() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: String| directory.path().join(name);
    for name in ["modstamp", "modstamp-qemu"] {
        let packed = rpm::built().join(format!("{name}-1.rpm"));
        std::fs::copy(deb::built(name), at(format!("{name}.deb"))).unwrap();
        std::fs::copy(packed, at(format!("{name}.rpm"))).unwrap();
    }
    for (name, versions) in PACKAGES {
        for (version, modules) in (1..).zip(versions) {
            let tree = tempfile::tempdir().unwrap();
            let mut files = Vec::new();
            for module in modules {
                let content = format!("{module}.so of {version}\n").repeat(3000);
                write(&at(format!("modules-{version}/{module}.so")), &content);
                write(
                    &tree.path().join(format!(".{}/{module}.so", *deb::MODULES)),
                    &content,
                );
                files.push((format!("{}/{module}.so", rpm::MODULES), content));
            }
            write(
                &tree.path().join("DEBIAN/control"),
                &format!(
                    "Package: {name}\nVersion: {version}\nArchitecture: all\n\
                     Maintainer: Nobody <nobody@example.org>\nDescription: a test's own package\n"
                ),
            );
            run(Command::new("dpkg-deb")
                .args(["--root-owner-group", "-Znone", "--build"])
                .args([tree.path(), &at(format!("{name}-{version}.deb"))]));
            let files = files
                .iter()
                .map(|(path, content)| (&**path, content.trim_end()));
            let package = rpm::Package {
                name,
                version: &version.to_string(),
                files: &files.collect::<Vec<_>>(),
                ..Default::default()
            };
            std::fs::copy(package.build(), at(format!("{name}-{version}.rpm"))).unwrap();
        }
    }
    directory
}

fn write(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}
