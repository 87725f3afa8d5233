//! A scratch root with all that a verb reads and writes, which each case finds alike.
//!
//! A touch, a cached answer and libvirt's answers were made while a module had its old content. The
//! module then changed. No verb may take an answer from before that for a fresh one.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use filetime::FileTime;
use support::libvirt::{ARM, FOREIGN, Host, SYSTEM, USER, WATCHED, X86, at_home};
use support::world::{GTK, MODULES, STAMP};
use support::{program, run};

/// The content of the module when everything was kept, and since then.
pub const BEFORE: &str = "before 1";
pub const AFTER: &str = "after  1";

/// The content of one more change.
pub const LATER: &str = "later  1";

/// Directories whose files a verb may change, in the root.
const KEPT: [&str; 3] = ["var/lib/modstamp", "var/cache", "home"];

/// The body of rpm's trigger, and the stored witness, in the root.
const BODY: &str = "usr/share/body";
const WITNESS: &str = "usr/share/witness";

/// A scratch root in which one case runs at a time.
pub struct Scene {
    pub host: Host,
    kept: Vec<Kept>,
    /// The module directories, whose times a refresh moves.
    directories: Vec<(PathBuf, FileTime)>,
    /// Outside the root: the traces and outputs of the case.
    pub scratch: PathBuf,
}

/// A file or a directory as each case finds it.
struct Kept {
    path: PathBuf,
    mode: u32,
    mtime: FileTime,
    content: Option<Vec<u8>>,
}

/// The programs that run in the root, each at its place there, with the libraries they need.
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Builds the C library, and the program that calls it.
    pub fn build(directory: &Path) -> Programs {
        let library = r#"
            make install-library DESTDIR="$1/c" PREFIX=/usr
            gcc -Wall -Wextra -Werror -I"$1/c/usr/include" -o "$1/calls" tests/torture/calls.c \
                -L"$1/c/usr/lib" -lmodstamp -Wl,-rpath,/usr/libexec/modstamp
        "#;
        let target = support::kept().join("c");
        fs::create_dir_all(&target).unwrap();
        run(Command::new("flock")
            .arg(target.join("lock"))
            .args(["sh", "-ec", library, "sh"])
            .arg(directory)
            .current_dir(support::sources())
            .env("CARGO_TARGET_DIR", target.join("target"))
            .env_remove("MAKEFLAGS")
            .env_remove("MFLAGS")
            .env_remove("RUSTFLAGS"));
        let place = r#"
            cd "$1"
            mkdir -p root/usr/libexec/modstamp
            for program in "$2" "$3"; do
                strip -o "root/usr/libexec/modstamp/${program##*/}" "$program"
            done
            mv calls root/usr/libexec/modstamp
            cp -L c/usr/lib/libmodstamp.so.0 root/usr/libexec/modstamp
            ln -s modstamp root/usr/libexec/modstamp/rpm-transaction
            path='s|.*[[:space:]]\(/[^ ]*\) (0x.*|\1|p'
            for file in $(ldd root/usr/libexec/modstamp/* | sed -n "$path" | sort -u); do
                mkdir -p "root${file%/*}"
                cp -L "$file" "root$file"
            done
        "#;
        run(Command::new("sh")
            .args(["-ec", place, "sh"])
            .arg(directory)
            .args([program("modstamp"), program("modstamp-rpm-trigger")]));
        Programs {
            directory: directory.join("root"),
        }
    }
}

impl Scene {
    /// Makes one below `top`, which is on the file system of the programs.
    pub fn new(top: &Path, programs: &Programs) -> Scene {
        fs::create_dir(top).unwrap();
        let host = Host::on(top);
        run(Command::new("cp")
            .args(["--archive", "--link", "--no-clobber"])
            .arg(programs.directory.join("."))
            .arg(host.path("")));
        host.write(BODY, "--profile qemu /usr/lib64/qemu\n");
        fs::create_dir(host.path("dev")).unwrap();
        host.write("dev/null", "");
        host.settle();
        host.say(&["touch"]);
        host.write(WITNESS, &host.observe().to_string());
        let gtk = host.path(GTK);
        run(&mut host.run_command(&gtk));
        host.keep(USER, &host.answer(X86));
        let mut scene = Scene {
            host,
            kept: Vec::new(),
            directories: Vec::new(),
            scratch: top.to_owned(),
        };
        for directory in KEPT {
            scene.keep(&scene.host.path(directory));
        }
        for directory in [WATCHED, FOREIGN, MODULES, "usr/share/modules"] {
            let path = scene.host.path(directory);
            let stat = fs::metadata(&path).unwrap();
            let mtime = FileTime::from_last_modification_time(&stat);
            scene.directories.push((path, mtime));
        }
        fs::write(top.join("nothing"), "").unwrap();
        fs::write(
            top.join("paths"),
            "/usr/share/other\n/usr/lib64/qemu/ui-gtk.so\n",
        )
        .unwrap();
        scene
    }

    fn keep(&mut self, path: &Path) {
        let stat = fs::symlink_metadata(path).unwrap();
        let content = stat.is_file().then(|| fs::read(path).unwrap());
        self.kept.push(Kept {
            path: path.to_owned(),
            mode: stat.mode() & 0o7777,
            mtime: FileTime::from_last_modification_time(&stat),
            content,
        });
        if stat.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.keep(&entry.unwrap().path());
            }
        }
    }

    /// Puts everything back to what it was just after the change.
    pub fn put_back(&self) {
        for directory in KEPT {
            let _ = fs::remove_dir_all(self.host.path(directory));
        }
        for kept in &self.kept {
            match &kept.content {
                Some(content) => fs::write(&kept.path, content).unwrap(),
                None => fs::create_dir(&kept.path).unwrap(),
            }
            fs::set_permissions(&kept.path, fs::Permissions::from_mode(kept.mode)).unwrap();
        }
        for kept in self.kept.iter().rev() {
            filetime::set_file_mtime(&kept.path, kept.mtime).unwrap();
        }
        for (directory, mtime) in &self.directories {
            filetime::set_file_mtime(directory, *mtime).unwrap();
        }
        self.host.ask(X86);
        self.host.ask(ARM);
        self.set_module(AFTER);
    }

    /// Rewrites the module, unless it has that content.
    pub fn set_module(&self, content: &str) {
        if fs::read_to_string(self.host.path(GTK)).unwrap() != content {
            self.host.write(GTK, content);
        }
    }

    /// The stamp's mtime, in nanoseconds since 1970; `None` if it is lost.
    pub fn stamp(&self) -> Option<i128> {
        nanoseconds(&self.host.path(STAMP))
    }

    /// What a refresh of libvirt moves.
    pub fn moved(&self) -> [Option<i128>; 3] {
        let ctime = |program: &str| {
            let stat = fs::metadata(self.host.path(program.trim_start_matches('/'))).ok()?;
            Some(i128::from(stat.ctime()) * 1_000_000_000 + i128::from(stat.ctime_nsec()))
        };
        [
            nanoseconds(&self.host.path(WATCHED)),
            ctime(X86),
            ctime(ARM),
        ]
    }

    /// How many answers libvirt's caches have.
    pub fn answers(&self) -> usize {
        let count = |cache: &str| fs::read_dir(self.host.path(cache)).map_or(0, Iterator::count);
        count(SYSTEM) + count(USER)
    }

    /// All names in the directories that verbs change. The name of a cached answer has a digest of
    /// the root's path, which differs between scenes.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut left: Vec<PathBuf> = KEPT.iter().map(|below| self.host.path(below)).collect();
        left.extend([WATCHED, MODULES, "etc/modstamp"].map(|below| self.host.path(below)));
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten() {
                let entry = entry.unwrap();
                let path = entry.path();
                let below = path.strip_prefix(self.host.path("")).unwrap();
                let parts = below.to_str().unwrap().split_inclusive(['/', '.']);
                names.push(parts.map(without_digest).collect());
                if entry.file_type().unwrap().is_dir() {
                    left.push(path);
                }
            }
        }
        names.sort();
        names
    }

    /// The input of the verb: rpm's paths, or nothing.
    pub fn input(&self, verb: Verb) -> PathBuf {
        self.scratch.join(match verb {
            Verb::TriggerRpm | Verb::RpmTransaction | Verb::RpmTrigger => "paths",
            _ => "nothing",
        })
    }

    /// The verb's command.
    pub fn command(&self, verb: Verb) -> Command {
        let host = &self.host;
        let modstamp = |arguments: &[&str]| stripped(host, &host.modstamp(arguments));
        let inside = |program: &str, arguments: &[&str]| {
            let mut command = Command::new("chroot");
            command
                .arg(host.path(""))
                .arg(format!("/usr/libexec/modstamp/{program}"));
            command.args(arguments);
            plain(command)
        };
        let witness = host.path(WITNESS);
        let witness = witness.to_str().unwrap();
        let (body, stored) = (format!("/{BODY}"), format!("/{WITNESS}"));
        match verb {
            Verb::Touch => modstamp(&["touch"]),
            Verb::TriggerRpm => modstamp(&["trigger", "rpm"]),
            Verb::TriggerDpkg => modstamp(&["trigger", "dpkg", "/usr/lib64/qemu"]),
            Verb::Update => modstamp(&["update"]),
            Verb::Observe => modstamp(&["observe"]),
            Verb::Check => modstamp(&["check", witness]),
            Verb::RunHit | Verb::RunMiss => stripped(host, &host.run_command(&host.path(GTK))),
            Verb::Status => modstamp(&["status"]),
            Verb::LibvirtStatus => modstamp(&["libvirt", "status"]),
            Verb::Refresh => modstamp(&["libvirt", "refresh"]),
            Verb::Evict => modstamp(&["libvirt", "evict"]),
            Verb::RpmTrigger => inside("modstamp-rpm-trigger", &[&body]),
            Verb::RpmTransaction => inside("rpm-transaction", &[&body]),
            Verb::CTouch => inside("calls", &["touch"]),
            Verb::CObserve => inside("calls", &["observe"]),
            Verb::CCheck => inside("calls", &["check", &stored]),
            Verb::CDisturbed => inside("calls", &["disturbed", &stored]),
        }
    }
}

/// A part of a path, up to a slash or a dot.
fn without_digest(part: &str) -> String {
    let name = part.trim_end_matches(['/', '.']);
    match name.len() == 16 && u64::from_str_radix(name, 16).is_ok() {
        true => format!("DIGEST{}", &part[name.len()..]),
        false => part.to_owned(),
    }
}

/// The same command by the stripped program, which starts sooner.
fn stripped(host: &Host, command: &Command) -> Command {
    let mut other = Command::new(host.path("usr/libexec/modstamp/modstamp"));
    other.args(command.get_args());
    plain(other)
}

/// Gives a command a user's environment, in which few calls are made at start-up.
fn plain(command: Command) -> Command {
    let mut command = at_home(command);
    command.env("LC_ALL", "C").env_remove("LD_LIBRARY_PATH");
    command
}

/// `modstamp run` of a command that prints a module.
trait RunCommand {
    fn run_command(&self, module: &Path) -> Command;
}

impl RunCommand for Host {
    fn run_command(&self, module: &Path) -> Command {
        let mut command = self.modstamp(&["run", "--profile", "qemu"]);
        command.args(["--", "cat"]).arg(module);
        command
    }
}

fn nanoseconds(path: &Path) -> Option<i128> {
    let stat = fs::symlink_metadata(path).ok()?;
    Some(i128::from(stat.mtime()) * 1_000_000_000 + i128::from(stat.mtime_nsec()))
}

/// A verb, one of rpm's programs, or a function of the C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    Touch,
    TriggerRpm,
    TriggerDpkg,
    RpmTransaction,
    RpmTrigger,
    Update,
    Observe,
    Check,
    /// The answer in the cache is fresh.
    RunHit,
    /// The answer in the cache is stale.
    RunMiss,
    Status,
    LibvirtStatus,
    Refresh,
    Evict,
    CTouch,
    CObserve,
    CCheck,
    CDisturbed,
}

impl Verb {
    pub const ALL: [Verb; 18] = [
        Verb::Touch,
        Verb::TriggerRpm,
        Verb::TriggerDpkg,
        Verb::RpmTransaction,
        Verb::RpmTrigger,
        Verb::Update,
        Verb::Observe,
        Verb::Check,
        Verb::RunHit,
        Verb::RunMiss,
        Verb::Status,
        Verb::LibvirtStatus,
        Verb::Refresh,
        Verb::Evict,
        Verb::CTouch,
        Verb::CObserve,
        Verb::CCheck,
        Verb::CDisturbed,
    ];

    /// The first call after start-up, in the log of strace.
    pub fn start(self) -> &'static str {
        match self {
            Verb::CTouch | Verb::CObserve | Verb::CCheck | Verb::CDisturbed => "getppid(",
            _ => "open(\"/\", O_RDONLY|O_LARGEFILE|O_CLOEXEC|O_PATH)", // `main` begins with it.
        }
    }

    /// The content that the module has meanwhile.
    pub fn module(self) -> &'static str {
        match self {
            Verb::RunHit => BEFORE,
            _ => AFTER,
        }
    }

    pub fn is_trigger(self) -> bool {
        let triggers = [
            Verb::TriggerRpm,
            Verb::TriggerDpkg,
            Verb::RpmTransaction,
            Verb::RpmTrigger,
        ];
        triggers.contains(&self)
    }

    /// Whether it prints the value of a C function, and ends with 0.
    pub fn is_c(self) -> bool {
        matches!(
            self,
            Verb::CTouch | Verb::CObserve | Verb::CCheck | Verb::CDisturbed
        )
    }

    /// Whether it only looks.
    pub fn only_looks(self) -> bool {
        let looks = [
            Verb::Observe,
            Verb::Check,
            Verb::Status,
            Verb::LibvirtStatus,
        ];
        looks.contains(&self) || matches!(self, Verb::CObserve | Verb::CCheck | Verb::CDisturbed)
    }

    /// Whether it moves the stamp.
    pub fn moves_stamp(self) -> bool {
        self.is_trigger() || matches!(self, Verb::Touch | Verb::Update | Verb::CTouch)
    }

    /// Whether it also has libvirt probe again.
    pub fn refreshes(self) -> bool {
        self == Verb::Refresh
            || (self.moves_stamp() && !matches!(self, Verb::CTouch | Verb::RpmTrigger))
    }

    /// The exit statuses that its manual page has, if it does not end well.
    pub fn failures(self) -> &'static [i32] {
        match self {
            _ if self.is_trigger() => &[],
            Verb::Check => &[1, 2],
            Verb::CTouch | Verb::CObserve | Verb::CCheck | Verb::CDisturbed => &[-2],
            Verb::RunHit | Verb::RunMiss => &[1, 126, 127],
            _ => &[1],
        }
    }
}
