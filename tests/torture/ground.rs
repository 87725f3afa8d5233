//! A tree in which one directory belongs to the hostile user, and a guarded tree of the same shape.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use support::libvirt::{Host, USER as USER_CACHE, X86, at_home};
use support::program;

use super::guarded::{Ran, as_user, give};

/// Where root's tree is for the program that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// `--root` names it, and it lies in the hostile user's home.
    Named,
    /// It is `/`, by chroot(2).
    System,
}

/// Programs with their libraries, as a tree that a chroot can use.
pub struct Programs(PathBuf);

impl Programs {
    pub fn below(top: &Path) -> Programs {
        let script = r#"
            copy() {
                mkdir -p ".${2%/*}"
                cp -L "$1" ".$2"
                for file in $(ldd "$1" | grep -o '/[^ ]*'); do
                    mkdir -p ".${file%/*}"
                    cp -L "$file" ".$file"
                done
            }
            mkdir "$1" && cd "$1"
            copy "$2" /programs/modstamp
            copy "$3" /programs/rpm-trigger
            copy "$(command -v cat)" /programs/cat
            mkdir dev
            mknod dev/null c 1 3
        "#;
        let programs = top.join("programs");
        let mut copy = Command::new("sh");
        copy.args(["-euc", script, "sh"]).arg(&programs);
        copy.args([program("modstamp"), program("modstamp-rpm-trigger")]);
        support::run(&mut copy);
        Programs(programs)
    }
}

/// A place for one attack.
pub struct Ground {
    pub view: View,
    pub host: Host,
    top: PathBuf,
    guarded: Host,
}

impl Ground {
    /// Makes a new one in `top`, which has no other.
    pub fn new(top: &Path, view: View, programs: &Programs) -> Ground {
        let top = top.join("ground");
        fs::create_dir_all(top.join("home")).unwrap();
        let host = Host::on(&top.join("home"));
        let beside = match view {
            View::Named => top.join("guarded"),
            View::System => host.path("guarded"),
        };
        fs::create_dir(&beside).unwrap();
        let guarded = Host::on(&beside);
        for host in [&host, &guarded] {
            host.ask(X86);
            host.keep(USER_CACHE, &host.answer(X86));
            fs::create_dir_all(host.path("home/me/.cache/modstamp")).unwrap();
            fs::create_dir_all(host.path("home/me/.config/modstamp/profiles.d")).unwrap();
        }
        fs::write(top.join("word"), "asked").unwrap();
        if view == View::System {
            let mut link = Command::new("cp");
            link.args(["--archive", "--link"]).arg(programs.0.join("."));
            support::run(link.arg(host.path("")));
            fs::write(
                host.path("body"),
                "--no-sync /usr/lib/x86_64-linux-gnu/qemu\n",
            )
            .unwrap();
            fs::write(host.path("word"), "asked").unwrap();
        }
        Ground {
            view,
            host,
            top,
            guarded,
        }
    }

    /// A command of root's, with the tree as its root. Its programs are on no way that is swapped.
    pub fn root(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = match self.view {
            View::Named => {
                let mut command = Command::new(support::program("modstamp"));
                command.args(arguments);
                command.arg("--root").arg(self.host.path(""));
                command
            }
            View::System => {
                let mut command = Command::new("chroot");
                command.arg(self.host.path(""));
                command.arg(Path::new("/programs").join(program));
                command.args(arguments);
                command
            }
        };
        command.current_dir("/");
        at_home(command)
    }

    /// `modstamp run` of a command that prints a word.
    pub fn run(&self, cache: &Path) -> Command {
        let mut command = self.root("modstamp", &["run", "--profile", "qemu"]);
        command.arg("--cache").arg(self.seen(cache));
        let print = match self.view {
            View::Named => "/usr/bin/cat",
            View::System => "/programs/cat",
        };
        command.args(["--", print]);
        command.arg(self.seen(&self.word()));
        command
    }

    /// Has root keep an answer of its own in the guarded tree.
    pub fn keep_private_answer(&self) {
        fs::write(self.word(), "private").unwrap();
        let kept = Ran::of(self.run(&self.outside("home/me/.cache/modstamp")));
        assert_eq!(kept.out, "private", "{kept:?}");
        fs::write(self.word(), "asked").unwrap();
    }

    fn word(&self) -> PathBuf {
        match self.view {
            View::Named => self.top.join("word"),
            View::System => self.host.path("word"),
        }
    }

    /// The way by which the program finds a path.
    pub fn seen(&self, path: &Path) -> PathBuf {
        match self.view {
            View::Named => path.to_owned(),
            View::System => Path::new("/").join(path.strip_prefix(self.host.path("")).unwrap()),
        }
    }

    /// A step of a path in the tree; "" is the tree itself.
    pub fn step(&self, step: &str) -> PathBuf {
        match step {
            "" => self.top.join("home/root"),
            step => self.host.path(step),
        }
    }

    /// The same step in the guarded tree.
    pub fn outside(&self, step: &str) -> PathBuf {
        match step {
            "" => self.guarded.path("").parent().unwrap().join("root"),
            step => self.guarded.path(step),
        }
    }

    /// Lets the hostile user swap a step.
    pub fn give_parent_of(&self, step: &str) {
        let parent = self.step(step).parent().unwrap().to_owned();
        fs::create_dir_all(&parent).unwrap();
        give(&parent);
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // Not by descriptors: a tree of a thousand levels needs more than a process may have.
        let _ = Command::new("rm").arg("-rf").arg(&self.top).status();
    }
}

/// What the hostile user puts in the place of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// A link to the guarded tree, up by “..” and down again.
    LinkUp,
    /// An absolute link to the guarded tree.
    LinkAway,
    /// A directory of theirs, full of links to the guarded tree. Or a file that all may write.
    Theirs,
    /// A FIFO, whose other end nobody opens.
    Fifo,
    /// Nothing.
    Gone,
}

impl Swap {
    pub const ALL: [Swap; 5] = [
        Swap::LinkUp,
        Swap::LinkAway,
        Swap::Theirs,
        Swap::Fifo,
        Swap::Gone,
    ];

    /// Makes what takes the place of a step, beside it.
    pub fn prepare(self, ground: &Ground, step: &str) {
        let (at, outside) = (beside(&ground.step(step)), ground.outside(step));
        let away = |path: &Path| ground.seen(path);
        as_user(|| match self {
            Swap::LinkUp => symlink(up_and_down(&at, &outside), &at).unwrap(),
            Swap::LinkAway => symlink(away(&outside), &at).unwrap(),
            Swap::Theirs if outside.is_dir() => {
                fs::create_dir(&at).unwrap();
                for name in fs::read_dir(&outside).unwrap() {
                    let name = name.unwrap().file_name();
                    symlink(away(&outside.join(&name)), at.join(name)).unwrap();
                }
            }
            Swap::Theirs => fs::write(&at, "a lie\n").unwrap(),
            Swap::Fifo => {
                let mode = rustix::fs::Mode::from_raw_mode(0o666);
                rustix::fs::mknodat(CWD, &at, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            }
            Swap::Gone => {}
        });
    }

    /// Swaps a step and what was made beside it. A second time swaps them back.
    pub fn swap(self, ground: &Ground, step: &str) {
        let (step, beside) = (ground.step(step), beside(&ground.step(step)));
        as_user(|| {
            if renameat_with(CWD, &beside, CWD, &step, RenameFlags::EXCHANGE).is_ok() {
                return;
            }
            match step.symlink_metadata().is_ok() {
                true => fs::rename(&step, &beside).unwrap(),
                // The directory may be missing, too, if an earlier swap took it.
                false => drop(fs::rename(&beside, &step)),
            }
        });
    }
}

fn beside(step: &Path) -> PathBuf {
    let mut name = step.file_name().unwrap().to_owned();
    name.push(".theirs");
    step.with_file_name(name)
}

/// The way from a link to a path, through the directory that both are in.
fn up_and_down(link: &Path, target: &Path) -> PathBuf {
    let mut above = link.ancestors().skip(1).enumerate();
    let (up, top) = above.find(|(_, top)| target.starts_with(top)).unwrap();
    Path::new(&"../".repeat(up)).join(target.strip_prefix(top).unwrap())
}
