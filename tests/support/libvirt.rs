//! A scratch root with a made-up libvirt in it, laid out like Debian's, and the answers that this
//! libvirt would cache.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};

use filetime::FileTime;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::world::World;

/// The module directory that libvirt watches, in the root, and one of its modules.
pub const WATCHED: &str = "usr/lib/x86_64-linux-gnu/qemu";
pub const QXL: &str = "usr/lib/x86_64-linux-gnu/qemu/hw-display-qxl.so";

/// A module directory of the profile that libvirt does not watch.
pub const FOREIGN: &str = "usr/lib/aarch64-linux-gnu/qemu";

/// libvirt's driver for QEMU, in the root.
pub const DRIVER: &str =
    "usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so";

/// Programs that libvirt probes.
pub const X86: &str = "/usr/bin/qemu-system-x86_64";
pub const ARM: &str = "/usr/bin/qemu-system-arm";

/// The caches, in the root: the system daemon's, and that of the user whose home is `/home/me`.
pub const SYSTEM: &str = "var/cache/libvirt/qemu/capabilities";
pub const USER: &str = "home/me/.cache/libvirt/qemu/cache/capabilities";

/// The record of the last refresh, in the root.
pub const RECORD: &str = "var/lib/modstamp/qemu.libvirt";

/// The first lines of what libvirt 9.0.0 and 11.3.0 cached of QEMU 7.2 and 10.0, on Debian.
pub const SAMPLE: &str = include_str!("../fixtures/libvirt-9.0.0.xml");
pub const NEWER_SAMPLE: &str = include_str!("../fixtures/libvirt-11.3.0.xml");

/// A machine with libvirt.
pub struct Host(World);

impl Deref for Host {
    type Target = World;

    fn deref(&self) -> &World {
        &self.0
    }
}

fn install(world: &World) {
    let write = |path: &str, text: &str| {
        fs::create_dir_all(world.path(path).parent().unwrap()).unwrap();
        world.write(path, text);
    };
    write(QXL, "a module");
    write(&format!("{FOREIGN}/pxe.so"), "a module");
    let text = format!("\x7fELF\0/usr/lib/other\0/{WATCHED}\0/{WATCHED}/below\0/usr/bin\0");
    write(DRIVER, &text);
    for cache in [SYSTEM, USER] {
        fs::create_dir_all(world.path(cache)).unwrap();
    }
}

impl Host {
    pub fn new() -> Host {
        Host(World::prepared(install))
    }

    /// Like [`Host::new`], but on the file system that is mounted at `top`.
    pub fn on(top: &Path) -> Host {
        Host(World::on(top, install))
    }

    /// A command by `user`, for whom the root is `/`: modstamp, by the name `program`. Needs root.
    pub fn inside(&self, user: u32, program: &str) -> Command {
        let install = r#"
            test -e usr/libexec/modstamp && exit
            for file in $(ldd MODSTAMP | grep -o '/[^ ]*'); do
                mkdir -p ".${file%/*}"
                cp -L "$file" ".$file"
            done
            mkdir usr/libexec/modstamp
            cp MODSTAMP usr/bin/modstamp
            ln -s ../../bin/modstamp usr/libexec/modstamp/rpm-transaction
        "#;
        let modstamp = crate::program("modstamp");
        self.sh(&install.replace("MODSTAMP", modstamp.to_str().unwrap()));
        let mut command = Command::new("chroot");
        command.arg(format!("--userspec={user}:{user}"));
        command.arg(self.path("")).arg(program);
        at_home(command)
    }

    /// The program, in the environment of the user whose home is `/home/me`.
    pub fn modstamp(&self, arguments: &[&str]) -> Command {
        at_home(self.0.modstamp(arguments))
    }

    /// Runs a command that must succeed. Returns its standard output and error.
    #[track_caller]
    pub fn say(&self, arguments: &[&str]) -> (String, String) {
        let output = self.modstamp(arguments).output().unwrap();
        let said = self.said(&output);
        assert!(output.status.success(), "{arguments:?}: {said:?}");
        said
    }

    /// Like [`Host::say`], but the command must end with 1.
    #[track_caller]
    pub fn fail(&self, arguments: &[&str]) -> (String, String) {
        let output = self.modstamp(arguments).output().unwrap();
        let said = self.said(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said:?}");
        said
    }

    /// Standard output and error, with paths as seen from inside the root.
    pub fn said(&self, output: &Output) -> (String, String) {
        let root = self.path("").display().to_string();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&root, "/");
        (text(&output.stdout), text(&output.stderr))
    }

    /// Refreshes. Returns the second that the module directory then has.
    #[track_caller]
    pub fn refresh(&self) -> i64 {
        let (_, err) = self.say(&["libvirt", "refresh"]);
        assert_eq!(err, "");
        self.mtime(WATCHED)
    }

    /// Like [`Host::refresh`], but the module directory cannot be moved, or is gone.
    #[track_caller]
    pub fn refresh_by_ctime(&self) {
        let (out, err) = self.say(&["libvirt", "refresh"]);
        assert!(
            out.contains("moved the ctime") && !out.contains("moved the time"),
            "{out}"
        );
        let is_missing = !self.path(WATCHED).exists();
        let why = "; the other times that could be moved were moved\n";
        assert!(
            err.is_empty() == is_missing && (is_missing || err.ends_with(why)),
            "{err}"
        );
    }

    pub fn mtime(&self, path: &str) -> i64 {
        fs::metadata(self.path(path)).unwrap().mtime()
    }

    pub fn set_mtime(&self, path: &str, second: i64) {
        filetime::set_file_mtime(self.path(path), FileTime::from_unix_time(second, 0)).unwrap();
    }

    pub fn ctime(&self, path: &str) -> i64 {
        let below = path.trim_start_matches('/');
        fs::metadata(self.path(below)).unwrap().ctime()
    }

    /// The text that libvirt would write after a probe of `program` now.
    pub fn answer(&self, program: &str) -> String {
        let directory = fs::metadata(self.path(WATCHED)).ok();
        let mtime = directory.map(|stat| stat.mtime().to_string());
        let text = set(SAMPLE, "emulator", Some(program));
        let text = set(&text, "qemuctime", Some(&self.ctime(program).to_string()));
        set(&text, "qemumoddirmtime", mtime.as_deref())
    }

    /// Writes an answer into a cache directory. Returns the file's path in the root.
    pub fn keep(&self, cache: &str, text: &str) -> String {
        let program = element(text, "emulator").or(element(text, "path"));
        let file = format!("{cache}/{}", file_name(program.unwrap()));
        fs::create_dir_all(self.path(cache)).unwrap();
        self.write(&file, text);
        file
    }

    /// Has the system's libvirt probe `program` now.
    pub fn ask(&self, program: &str) -> String {
        self.keep(SYSTEM, &self.answer(program))
    }

    /// All rows of the status.
    #[track_caller]
    pub fn rows(&self, arguments: &[&str]) -> Vec<Value> {
        let (out, _) = self.say(&[&["libvirt", "status", "--json"], arguments].concat());
        let json: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json["version"], 2);
        json["files"].as_array().unwrap().clone()
    }

    /// The only row of `program`.
    #[track_caller]
    pub fn row(&self, program: &str) -> Value {
        let mut rows = self.rows(&[]);
        rows.retain(|row| row["recorded"]["program"] == program);
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows.remove(0)
    }

    /// modstamp's verdict on the answer of `program`, in words.
    #[track_caller]
    pub fn words(&self, program: &str) -> String {
        let (out, _) = self.say(&["libvirt", "status"]);
        let line = out.lines().find(|line| line.starts_with(program));
        let line = line.unwrap_or_else(|| panic!("no {program} in {out}"));
        line.rsplit("  ").next().unwrap().trim().to_owned()
    }

    /// Whether the system's libvirt would serve the answer of `program`, and so not probe.
    ///
    /// It compares whole seconds, for equality, and passes over a directory that is gone.
    #[track_caller]
    pub fn serves(&self, program: &str) -> bool {
        let file = self.path(SYSTEM).join(file_name(program));
        let text = fs::read_to_string(file).unwrap();
        let number = |name| element(&text, name).map_or(0, |text| text.parse::<i64>().unwrap());
        let directory = fs::metadata(self.path(WATCHED)).ok();
        directory.is_none_or(|stat| stat.mtime() == number("qemumoddirmtime"))
            && self.ctime(program) == number("qemuctime")
    }

    /// All paths in the root but modstamp's own files and the caches, each with its facts. Atimes
    /// and ctimes are left out.
    pub fn listing(&self) -> BTreeMap<String, String> {
        let find = r#"find . \( -path ./var/lib/modstamp -o -path ./var/cache -o -path ./home \) -prune -o \
            -printf '%P\t%y %m %U:%G %s %T@ %l ' \( -type f -exec cksum {} \; -o -printf '\n' \)"#;
        let lines = self.sh(find);
        let lines = lines.lines().map(|line| line.split_once('\t').unwrap());
        lines
            .map(|(path, facts)| (path.to_owned(), facts.to_owned()))
            .collect()
    }

    /// The paths that `action` makes different in [`Host::listing`].
    pub fn different<T>(&self, action: impl FnOnce() -> T) -> Vec<String> {
        let before = self.listing();
        action();
        let after = self.listing();
        let paths: std::collections::BTreeSet<&String> =
            before.keys().chain(after.keys()).collect();
        let is_other = |path: &&&String| before.get(**path) != after.get(**path);
        paths
            .iter()
            .filter(is_other)
            .map(|path| (*path).clone())
            .collect()
    }
}

/// Gives a command a user's environment that is the same on every machine.
pub fn at_home(mut command: Command) -> Command {
    for variable in [
        "XDG_CACHE_HOME",
        "XDG_STATE_HOME",
        "XDG_CONFIG_HOME",
        "QEMU_MODULE_DIR",
    ] {
        command.env_remove(variable);
    }
    command.env("HOME", "/home/me");
    command
}

/// The name that libvirt gives to the file of a program.
pub fn file_name(program: &str) -> String {
    let digest = Sha256::digest(program.as_bytes());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    digest + ".xml"
}

/// The text of the first element of that name.
pub fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

/// Sets the text of the first element of that name. `None` removes the element.
pub fn set(text: &str, name: &str, value: Option<&str>) -> String {
    let (start, end) = (format!("<{name}>"), format!("</{name}>"));
    let (before, rest) = text.split_once(&start).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    match value {
        Some(value) => format!("{before}{start}{value}{end}{after}"),
        None => format!("{before}{after}"),
    }
}
