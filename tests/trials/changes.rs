//! Every change makes stale, with its reason and no other; and only change does.
//!
//! Each case runs on a tree that was made just now, where contents decide, and on one that has settled, where stat identities
//! are evidence; there the change is judged at once and again when it has settled, too. Then all is put back with other inodes,
//! and that is fresh again. What needs root, or mounts something in a mount namespace of its own, says so.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use libtest_mimic::Arguments;
use rustix::fs::{CWD, FileType, Mode, RenameFlags, makedev, mknodat, renameat_with};
use support::test::{NOTHING, Needs, ROOT, Test, test};
use support::world::{GTK, MODULES, SETTLED, STAMP, World, sentences};

/// The cases that `arguments` ask for. The trees that are to settle are made now, and settle while the others run.
pub fn tests(arguments: &Arguments) -> Vec<Test> {
    let cases: Vec<Case> = of_every_file()
        .chain(of_links())
        .chain(of_subdirectories())
        .chain(of_module_directories())
        .chain(of_arrivals())
        .chain(of_variables())
        .chain(of_stamps())
        .chain(of_readers())
        .chain(of_no_change())
        .collect();
    let is_wanted = |case: &Case| {
        let filter = arguments.filter.as_deref();
        let name = format!("changes::{}", case.name_on("settled"));
        !arguments.list && filter.is_none_or(|filter| name.contains(filter))
    };
    let settled = |case: &Case| case.on_a_settled_tree(is_wanted(case));
    let settled: Vec<Test> = cases.iter().map(settled).collect();
    let new = cases.iter().map(Case::on_a_new_tree);
    new.chain(settled).collect()
}

/// What is done to a world. By the function it waits until what it changed has settled, where that is wanted.
type Scenario = dyn Fn(&World, fn()) + Send + Sync;

/// What is done to a world, and what must come of it.
struct Case {
    name: String,
    needs: Needs,
    prepare: fn(&World),
    scenario: Arc<Scenario>,
}

/// `change` makes stale for the reasons that `expected` has, in any order, and for no other. An expected “…” at the end stands
/// for any.
fn stale<const N: usize>(name: &str, expected: [&str; N], change: fn(&World)) -> Case {
    let expected = expected.map(str::to_owned).to_vec();
    stale_for(name, expected, change)
}

fn stale_for(
    name: &str,
    expected: Vec<String>,
    change: impl Fn(&World) + Send + Sync + 'static,
) -> Case {
    assert!(!expected.is_empty());
    case(&format!("stale_once::{name}"), move |world, settle| {
        let before = world.observe();
        change(world);
        expect(&sentences(&world.check(&before)), &expected);
        settle();
        expect(&sentences(&world.check(&before)), &expected);
        world.put_back();
        expect(&sentences(&world.check(&before)), &[]);
    })
}

/// `change` leaves fresh.
fn fresh(name: &str, change: fn(&World)) -> Case {
    case(&format!("fresh_though::{name}"), move |world, settle| {
        let before = world.observe();
        change(world);
        expect(&sentences(&world.check(&before)), &[]);
        settle();
        expect(&sentences(&world.check(&before)), &[]);
    })
}

fn case(name: &str, scenario: impl Fn(&World, fn()) + Send + Sync + 'static) -> Case {
    Case {
        name: name.to_owned(),
        needs: NOTHING,
        prepare: |_| (),
        scenario: Arc::new(scenario),
    }
}

impl Case {
    fn needs(self, needs: &[&str]) -> Case {
        let needs = Needs::of(needs);
        Case { needs, ..self }
    }

    /// Does something before anything is observed.
    fn after(self, prepare: fn(&World)) -> Case {
        Case { prepare, ..self }
    }

    fn on_a_new_tree(&self) -> Test {
        let (prepare, scenario) = (self.prepare, self.scenario.clone());
        self.test("new", move || scenario(&World::prepared(prepare), || ()))
    }

    fn on_a_settled_tree(&self, is_wanted: bool) -> Test {
        let scenario = self.scenario.clone();
        let is_wanted = is_wanted && self.needs.are_to_run();
        let world = is_wanted.then(|| World::prepared(self.prepare));
        self.test("settled", move || {
            let world = world.unwrap();
            world.settle();
            scenario(&world, || std::thread::sleep(SETTLED));
        })
    }

    fn test(&self, tree: &str, scenario: impl FnOnce() + Send + 'static) -> Test {
        test(self.name_on(tree), &self.needs, scenario)
    }

    fn name_on(&self, tree: &str) -> String {
        format!("{tree}::{}", self.name)
    }
}

/// Sees that the reasons are the expected ones.
#[track_caller]
fn expect(reasons: &[String], expected: &[String]) {
    let sorted = |lines: &[String]| {
        let mut lines = lines.to_vec();
        lines.sort();
        lines
    };
    let (reasons, expected) = (sorted(reasons), sorted(expected));
    let is_said = |(reason, expected): (&String, &String)| match expected.strip_suffix('…') {
        Some(start) => reason.starts_with(start),
        None => reason == expected,
    };
    let all = reasons.len() == expected.len() && reasons.iter().zip(&expected).all(is_said);
    assert!(all, "expected {expected:#?}, got {reasons:#?}");
}

// What can happen to any file: a module, one in a subdirectory, a program, a further file.

/// A file that a profile watches.
struct Subject {
    /// What the profile calls it.
    input: &'static str,
    path: &'static str,
    /// Another of its kind.
    beside: &'static str,
    /// One of its kind that is not there.
    new: &'static str,
}

const SUBJECTS: [Subject; 4] = [
    Subject {
        input: "module",
        path: "usr/lib64/qemu/ui-gtk.so",
        beside: "usr/lib64/qemu/ui-sdl.so",
        new: "usr/lib64/qemu/ui-new.so",
    },
    Subject {
        input: "module",
        path: "usr/lib64/qemu/below/a.so",
        beside: "usr/lib64/qemu/below/b.so",
        new: "usr/lib64/qemu/below/new.so",
    },
    Subject {
        input: "program",
        path: "usr/bin/qemu-system-x86_64",
        beside: "usr/bin/qemu-system-arm",
        new: "usr/bin/qemu-system-new",
    },
    Subject {
        input: "file",
        path: "etc/qemu/a.conf",
        beside: "etc/qemu/b.conf",
        new: "etc/qemu/new.conf",
    },
];

impl Subject {
    /// A module is called by its name, all else by its path.
    fn sentence(&self, path: &str, place: &str, what: &str) -> String {
        match path.strip_prefix("usr/lib64/qemu/") {
            Some(name) => format!("{} {name} {place}{what}", self.input),
            None => format!("{} /{path} {what}", self.input),
        }
    }

    fn added(&self, path: &str) -> String {
        match self.input {
            "module" => self.sentence(path, "added to /usr/lib64/qemu", ""),
            _ => self.sentence(path, "", "added"),
        }
    }

    fn removed(&self, path: &str) -> String {
        match self.input {
            "module" => self.sentence(path, "removed from /usr/lib64/qemu", ""),
            _ => self.sentence(path, "", "removed"),
        }
    }

    fn changed(&self, path: &str, how: &str) -> String {
        self.sentence(path, "in /usr/lib64/qemu ", &format!("changed: {how}"))
    }

    fn differs(&self) -> Vec<String> {
        vec![self.changed(self.path, "its content differs")]
    }

    /// A directory counts with all that is in it, also in a list of files. In a module directory it
    /// is a module like any other.
    fn is_now_a_directory(&self) -> Vec<String> {
        match self.input {
            "module" => self.is_now("directory"),
            _ => vec![
                format!("module directory /{} added", self.path),
                self.removed(self.path),
            ],
        }
    }

    fn is_now(&self, kind: &str) -> Vec<String> {
        vec![self.changed(self.path, &format!("it was a file, now a {kind}"))]
    }

    /// Makes something of another type in its place.
    fn replace(&self, world: &World, kind: FileType, device: u64) {
        world.remove(self.path);
        let mode = Mode::from_raw_mode(0o644);
        mknodat(CWD, world.path(self.path), kind, mode, device).unwrap();
    }
}

fn of_every_file() -> impl Iterator<Item = Case> {
    SUBJECTS.iter().flat_map(|subject| {
        WAYS.iter().map(move |(way, needs, change, expected)| {
            let of = subject.path.rsplit('/').next().unwrap();
            let change = move |world: &World| change(world, subject);
            stale_for(&format!("{of}_{way}"), expected(subject), change).needs(needs)
        })
    })
}

type Way = (
    &'static str,
    &'static [&'static str],
    fn(&World, &Subject),
    fn(&Subject) -> Vec<String>,
);

const MOUNT: &[&str] = &[ROOT, "mount", "umount", "unshare"];

const WAYS: &[Way] = &[
    (
        "gets_another_beside_it",
        &[],
        |w, s| w.write(s.new, "new"),
        |s| vec![s.added(s.new)],
    ),
    (
        "goes",
        &[],
        |w, s| w.remove(s.path),
        |s| vec![s.removed(s.path)],
    ),
    (
        "is_renamed",
        &[],
        |w, s| w.rename(s.path, s.new),
        |s| vec![s.removed(s.path), s.added(s.new)],
    ),
    (
        "swaps_names_by_three_renames",
        &[],
        |w, s| {
            w.rename(s.path, s.new);
            w.rename(s.beside, s.path);
            w.rename(s.new, s.beside);
        },
        both_differ,
    ),
    (
        "swaps_names_by_one_exchange",
        &[],
        |w, s| exchange(&w.path(s.path), &w.path(s.beside)),
        both_differ,
    ),
    (
        "is_replaced_by_rename",
        &[],
        |w, s| {
            w.write("usr/share/new", "after  1");
            w.rename("usr/share/new", s.path);
        },
        Subject::differs,
    ),
    (
        "is_replaced_by_rename_with_its_mtime",
        &[],
        |w, s| {
            w.keep_mtime(s.path, || {
                w.write("usr/share/new", "after  1");
                w.rename("usr/share/new", s.path);
            });
        },
        Subject::differs,
    ),
    (
        "becomes_a_hard_link_to_another",
        &[],
        |w, s| {
            w.remove(s.path);
            fs::hard_link(w.path(s.beside), w.path(s.path)).unwrap();
        },
        Subject::differs,
    ),
    (
        "is_rewritten_with_another_size",
        &[],
        |w, s| w.write(s.path, "longer than before"),
        |s| vec![s.changed(s.path, "its size was 8 bytes, now 18 bytes")],
    ),
    (
        "is_rewritten_with_the_same_size",
        &[],
        |w, s| w.write(s.path, "after  1"),
        Subject::differs,
    ),
    (
        "is_rewritten_with_the_same_size_and_mtime",
        &[],
        |w, s| w.keep_mtime(s.path, || w.write(s.path, "after  1")),
        Subject::differs,
    ),
    (
        "is_rewritten_by_another_of_its_names",
        &[],
        |w, s| {
            fs::hard_link(w.path(s.path), w.path("usr/share/name")).unwrap();
            w.keep_mtime(s.path, || w.write("usr/share/name", "after  1"));
        },
        Subject::differs,
    ),
    (
        "is_truncated",
        &[],
        |w, s| drop(fs::File::create(w.path(s.path)).unwrap()),
        |s| vec![s.changed(s.path, "its size was 8 bytes, now 0 bytes")],
    ),
    (
        "gets_other_permissions",
        &[],
        |w, s| w.set_permissions(s.path, 0o600),
        |s| vec![s.changed(s.path, "its permissions were 0644, now 0600")],
    ),
    (
        "gets_another_owner",
        &[ROOT],
        |w, s| chown(w.path(s.path), Some(65534), None).unwrap(),
        |s| vec![s.changed(s.path, "its owner was 0:0, now 65534:0")],
    ),
    (
        "gets_another_group",
        &[ROOT],
        |w, s| chown(w.path(s.path), None, Some(65534)).unwrap(),
        |s| vec![s.changed(s.path, "its owner was 0:0, now 0:65534")],
    ),
    (
        "becomes_a_directory",
        &[],
        |w, s| {
            w.remove(s.path);
            fs::create_dir(w.path(s.path)).unwrap();
        },
        |s| s.is_now_a_directory(),
    ),
    (
        "becomes_a_fifo",
        &[],
        |w, s| s.replace(w, FileType::Fifo, 0),
        |s| s.is_now("FIFO"),
    ),
    (
        "becomes_a_socket",
        &[],
        |w, s| {
            w.remove(s.path);
            UnixListener::bind(w.path(s.path)).unwrap();
        },
        |s| s.is_now("socket"),
    ),
    (
        "becomes_a_device",
        &[ROOT],
        |w, s| s.replace(w, FileType::CharacterDevice, makedev(1, 3)),
        |s| s.is_now("device"),
    ),
    (
        "becomes_a_link_to_the_very_same_content",
        &[],
        |w, s| {
            w.rename(s.path, "usr/share/moved");
            w.link(s.path, "/usr/share/moved");
        },
        |s| s.is_now("link"),
    ),
    (
        "is_hidden_under_another_file",
        MOUNT,
        |w, s| {
            let another = w.path(s.beside);
            w.mount(&["--bind", another.to_str().unwrap()], s.path);
        },
        Subject::differs,
    ),
];

fn both_differ(subject: &Subject) -> Vec<String> {
    let how = "its content differs";
    vec![
        subject.changed(subject.path, how),
        subject.changed(subject.beside, how),
    ]
}

fn exchange(one: &Path, other: &Path) {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

// Links, and what they lead to.

/// Two links lead to one target.
const BOTH_LINKS: [&str; 2] = [
    "module below/link.so in /usr/lib64/qemu changed: its content differs",
    "module link.so in /usr/lib64/qemu changed: its content differs",
];

fn of_links() -> impl Iterator<Item = Case> {
    const TARGET: &str = "usr/share/linked.so";
    const LINK: &str = "usr/lib64/qemu/link.so";
    const DIFFERS: &str = "module link.so in /usr/lib64/qemu changed: its content differs";
    const KVM: &str = "program /usr/libexec/qemu-kvm changed: its content differs";
    [
        stale("a_links_target_is_rewritten", BOTH_LINKS, |w| {
            w.keep_mtime(TARGET, || w.write(TARGET, "after  1"));
        }),
        stale("a_links_target_is_replaced", BOTH_LINKS, |w| {
            w.keep_mtime(TARGET, || w.rename("usr/share/kvm-2", TARGET));
        }),
        stale("a_links_target_grows", BOTH_LINKS, |w| {
            w.write(TARGET, "longer than before");
        }),
        stale("a_links_target_goes", BOTH_LINKS, |w| w.remove(TARGET)),
        stale("a_links_target_comes", [DIFFERS], |w| {
            w.write("usr/share/new.so", "new");
        })
        .after(|w| w.link(LINK, "/usr/share/new.so")),
        stale("a_links_target_gets_other_permissions", BOTH_LINKS, |w| {
            w.set_permissions(TARGET, 0o600);
        }),
        stale("a_links_target_gets_another_owner", BOTH_LINKS, |w| {
            chown(w.path(TARGET), Some(65534), None).unwrap();
        })
        .needs(&[ROOT]),
        stale(
            "a_links_target_becomes_a_directory",
            [
                BOTH_LINKS[0],
                BOTH_LINKS[1],
                "module below/link.so/d.so added to /usr/lib64/qemu",
            ],
            |w| {
                w.remove(TARGET);
                fs::create_dir(w.path(TARGET)).unwrap();
                w.write("usr/share/linked.so/d.so", "new");
            },
        ),
        stale("a_link_is_turned_to_another_file", [DIFFERS], |w| {
            w.link(LINK, "/usr/share/kvm-2");
        }),
        stale(
            "a_link_is_turned_to_the_very_same_content",
            [DIFFERS],
            |w| {
                w.link(LINK, "/usr/share/kvm-1");
            },
        ),
        stale(
            "a_link_becomes_a_file_with_the_very_same_content",
            ["module link.so in /usr/lib64/qemu changed: it was a link, now a file"],
            |w| {
                w.remove(LINK);
                fs::copy(w.path(TARGET), w.path(LINK)).unwrap();
            },
        ),
        stale(
            "a_link_gets_another_owner",
            ["module link.so in /usr/lib64/qemu changed: its owner was 0:0, now 65534:0"],
            |w| lchown(w.path(LINK), Some(65534), None).unwrap(),
        )
        .needs(&[ROOT]),
        stale(
            "a_link_goes",
            ["module link.so removed from /usr/lib64/qemu"],
            |w| {
                w.remove(LINK);
            },
        ),
        stale("a_programs_link_of_a_link_is_turned", [KVM], |w| {
            w.link("etc/alternatives/qemu-kvm", "/usr/share/kvm-2");
        }),
        stale(
            "a_programs_link_of_a_link_leads_to_a_rewritten_one",
            [KVM],
            |w| {
                w.keep_mtime("usr/share/kvm-1", || w.write("usr/share/kvm-1", "after  1"));
            },
        ),
    ]
    .into_iter()
}

// Subdirectories of a module directory.

fn of_subdirectories() -> impl Iterator<Item = Case> {
    const BELOW_GOES: [&str; 3] = [
        "module below/a.so removed from /usr/lib64/qemu",
        "module below/b.so removed from /usr/lib64/qemu",
        "module below/link.so removed from /usr/lib64/qemu",
    ];
    const PLUGINS: &str = "module plugins in /usr/lib64/qemu changed: its content differs";
    const PLUGIN: &str = "module plugins/c.so in /usr/lib64/qemu changed: its content differs";
    [
        stale(
            "a_subdirectory_comes",
            [
                "module new added to /usr/lib64/qemu",
                "module new/d.so added to /usr/lib64/qemu",
            ],
            |w| {
                fs::create_dir(w.module("new")).unwrap();
                fs::write(w.module("new/d.so"), "new").unwrap();
            },
        ),
        stale(
            "a_subdirectory_goes",
            [
                "module below removed from /usr/lib64/qemu",
                BELOW_GOES[0],
                BELOW_GOES[1],
                BELOW_GOES[2],
            ],
            |w| fs::remove_dir_all(w.module("below")).unwrap(),
        ),
        stale(
            "a_subdirectory_is_renamed",
            [
                "module below removed from /usr/lib64/qemu",
                BELOW_GOES[0],
                BELOW_GOES[1],
                BELOW_GOES[2],
                "module new added to /usr/lib64/qemu",
                "module new/a.so added to /usr/lib64/qemu",
                "module new/b.so added to /usr/lib64/qemu",
                "module new/link.so added to /usr/lib64/qemu",
            ],
            |w| fs::rename(w.module("below"), w.module("new")).unwrap(),
        ),
        stale(
            "a_subdirectory_gets_other_permissions",
            ["module below in /usr/lib64/qemu changed: its permissions were 0755, now 0700"],
            |w| w.set_permissions("usr/lib64/qemu/below", 0o700),
        ),
        stale(
            "a_subdirectory_gets_another_owner",
            ["module below in /usr/lib64/qemu changed: its owner was 0:0, now 65534:0"],
            |w| chown(w.module("below"), Some(65534), None).unwrap(),
        )
        .needs(&[ROOT]),
        stale(
            "a_subdirectory_becomes_a_link_to_itself",
            ["module below in /usr/lib64/qemu changed: it was a directory, now a link"],
            |w| {
                fs::create_dir(w.path("usr/lib64/away")).unwrap();
                w.rename("usr/lib64/qemu/below", "usr/lib64/away/below");
                w.link("usr/lib64/qemu/below", "../away/below");
            },
        ),
        stale("a_subdirectory_is_hidden", BELOW_GOES, |w| {
            w.mount(
                &["-t", "tmpfs", "-o", "mode=755", "tmpfs"],
                "usr/lib64/qemu/below",
            );
        })
        .needs(MOUNT),
        stale("a_linked_subdirectory_is_turned", [PLUGINS, PLUGIN], |w| {
            w.link("usr/lib64/qemu/plugins", "../../share/plugins-2");
        }),
        stale(
            "a_linked_subdirectorys_target_goes",
            [PLUGINS, "module plugins/c.so removed from /usr/lib64/qemu"],
            |w| w.rename("usr/share/plugins", "usr/share/away"),
        ),
        stale(
            "a_linked_subdirectorys_target_is_exchanged",
            [PLUGIN],
            |w| {
                exchange(&w.path("usr/share/plugins"), &w.path("usr/share/plugins-2"));
            },
        ),
        stale(
            "a_module_in_a_linked_subdirectory_is_rewritten",
            [PLUGIN],
            |w| {
                let module = "usr/share/plugins/c.so";
                w.keep_mtime(module, || w.write(module, "after  1"));
            },
        ),
        stale(
            "a_module_comes_to_a_linked_subdirectory",
            ["module plugins/d.so added to /usr/lib64/qemu"],
            |w| w.write("usr/share/plugins/d.so", "new"),
        ),
    ]
    .into_iter()
}

// Module directories as a whole.

const ALL_GO: [&str; 10] = [
    "module below removed from /usr/lib64/qemu",
    "module below/a.so removed from /usr/lib64/qemu",
    "module below/b.so removed from /usr/lib64/qemu",
    "module below/link.so removed from /usr/lib64/qemu",
    "module hw-display-qxl.so removed from /usr/lib64/qemu",
    "module link.so removed from /usr/lib64/qemu",
    "module plugins removed from /usr/lib64/qemu",
    "module plugins/c.so removed from /usr/lib64/qemu",
    "module ui-gtk.so removed from /usr/lib64/qemu",
    "module ui-sdl.so removed from /usr/lib64/qemu",
];

const GONE: [&str; 1] = ["module directory /usr/lib64/qemu removed"];

const GTK_DIFFERS: [&str; 1] = ["module ui-gtk.so in /usr/lib64/qemu changed: its content differs"];

fn of_module_directories() -> impl Iterator<Item = Case> {
    const LINKED_DIFFERS: [&str; 1] = ["module m.so in /usr/lib/qemu changed: its content differs"];
    const LINKED_GONE: [&str; 1] = ["module directory /usr/lib/qemu removed"];
    let comes = [
        "usr/lib/x86_64-linux-gnu/qemu",
        "usr/lib64/qemu-kvm",
        "usr/local/lib/qemu",
        "run/qemu/8.2",
    ];
    let comes = comes.into_iter().map(|directory| {
        let expected = vec![format!("module directory /{directory} added")];
        let name = format!(
            "a_module_directory_comes_at_{}",
            directory.replace('/', "_")
        );
        stale_for(&name, expected, move |w| {
            fs::create_dir_all(w.path(directory)).unwrap()
        })
    });
    let others = [
        stale("a_module_directory_is_emptied", ALL_GO, |w| {
            w.keep_mtime(MODULES, || drop(w.sh("rm -r usr/lib64/qemu/*")));
        }),
        stale("a_module_directory_is_renamed", GONE, |w| {
            w.rename(MODULES, "usr/lib64/away");
        }),
        stale("a_module_directory_is_removed", GONE, |w| {
            fs::remove_dir_all(w.path(MODULES)).unwrap();
        }),
        stale(
            "a_module_directory_becomes_a_file",
            ["file /usr/lib64/qemu added", GONE[0]],
            |w| {
                w.rename(MODULES, "usr/lib64/away");
                w.write(MODULES, "");
            },
        ),
        stale(
            "a_module_directory_is_replaced_by_another_with_its_mtime",
            GTK_DIFFERS,
            |w| {
                w.keep_mtime(MODULES, || {
                    staged(w, |w| w.write("usr/share/staged/ui-gtk.so", "after  1"));
                    exchange(&w.path(MODULES), &w.path("usr/share/staged"));
                });
            },
        ),
        stale("the_directory_above_is_replaced", GTK_DIFFERS, |w| {
            w.sh("cp -a usr/lib64 usr/new");
            w.write("usr/new/qemu/ui-gtk.so", "after  1");
            exchange(&w.path("usr/lib64"), &w.path("usr/new"));
        }),
        stale(
            "a_module_directory_gets_other_permissions",
            ["module directory /usr/lib64/qemu changed: its permissions were 0755, now 0700"],
            |w| w.set_permissions(MODULES, 0o700),
        ),
        stale(
            "a_module_directory_gets_another_owner",
            ["module directory /usr/lib64/qemu changed: its owner was 0:0, now 65534:0"],
            |w| chown(w.path(MODULES), Some(65534), None).unwrap(),
        )
        .needs(&[ROOT]),
        stale("a_linked_module_directory_is_turned", LINKED_DIFFERS, |w| {
            w.link("usr/lib/qemu", "../share/modules-2");
        }),
        stale(
            "a_linked_module_directorys_target_is_renamed",
            LINKED_GONE,
            |w| {
                w.rename("usr/share/modules", "usr/share/away");
            },
        ),
        stale(
            "a_linked_module_directorys_target_is_exchanged",
            LINKED_DIFFERS,
            |w| {
                exchange(&w.path("usr/share/modules"), &w.path("usr/share/modules-2"));
            },
        ),
        stale("a_linked_module_directory_goes", LINKED_GONE, |w| {
            w.remove("usr/lib/qemu")
        }),
        stale(
            "a_module_directory_is_hidden_under_an_empty_one",
            ALL_GO,
            |w| {
                w.mount(&["-t", "tmpfs", "-o", "mode=755", "tmpfs"], MODULES);
            },
        )
        .needs(MOUNT),
        stale(
            "a_module_directory_is_hidden_under_another",
            GTK_DIFFERS,
            |w| {
                staged(w, |w| w.write("usr/share/staged/ui-gtk.so", "after  1"));
                let staged = w.path("usr/share/staged");
                w.mount(&["--bind", staged.to_str().unwrap()], MODULES);
            },
        )
        .needs(MOUNT),
        case(
            "stale_once::a_module_directory_is_no_longer_hidden_under_another",
            |w, _| {
                staged(w, |w| w.write("usr/share/staged/ui-gtk.so", "after  1"));
                let staged = w.path("usr/share/staged");
                w.mount(&["--bind", staged.to_str().unwrap()], MODULES);
                let before = w.observe();
                w.unmount();
                expect(
                    &sentences(&w.check(&before)),
                    &GTK_DIFFERS.map(str::to_owned),
                );
            },
        )
        .needs(MOUNT),
    ];
    comes.chain(others)
}

/// A copy of the module directory, mtimes and all, with which something is done.
fn staged(world: &World, change: impl FnOnce(&World)) {
    world.sh("cp -a usr/lib64/qemu usr/share/staged");
    change(world);
}

// The tools by which modules arrive with their mtimes, and their directory's.

fn of_arrivals() -> impl Iterator<Item = Case> {
    type Bring = (&'static str, &'static [&'static str], &'static str);
    const TOOLS: [Bring; 3] = [
        (
            "rsync",
            &["rsync"],
            "rsync -a --checksum --delete usr/share/staged/ usr/lib64/qemu",
        ),
        (
            "tar",
            &["tar"],
            "tar -C usr/share/staged -cf - . | tar -C usr/lib64/qemu -xpf -",
        ),
        ("cp", &[], "cp -a usr/share/staged/. usr/lib64/qemu"),
    ];
    let case = |(tool, needs, bring): &Bring, what, expected: &str, stage: fn(&World)| {
        let bring = *bring;
        let name = format!("{tool}_brings_{what}_with_its_directorys_mtime");
        let arrives = move |w: &World| {
            let mtime = || fs::metadata(w.path(MODULES)).unwrap().modified().unwrap();
            let before = mtime();
            staged(w, |w| w.keep_mtime("usr/share/staged", || stage(w)));
            w.sh(bring);
            assert_eq!(mtime(), before, "the tool was to put it back");
        };
        // Not all of them look further than whole seconds.
        let case = stale_for(&name, vec![expected.to_owned()], arrives).needs(needs);
        case.after(|w| every_mtime(w, 1_000_000_000))
    };
    let each = TOOLS.iter().flat_map(move |tool| {
        [
            case(tool, "another_content", GTK_DIFFERS[0], |w| {
                let module = "usr/share/staged/ui-gtk.so";
                w.keep_mtime(module, || w.write(module, "after  1"));
            }),
            case(
                tool,
                "a_module",
                "module new.so added to /usr/lib64/qemu",
                |w| {
                    w.write("usr/share/staged/new.so", "new");
                },
            ),
        ]
    });
    let goes = "module ui-gtk.so removed from /usr/lib64/qemu";
    each.chain([case(&TOOLS[0], "one_module_less", goes, |w| {
        w.remove("usr/share/staged/ui-gtk.so");
    })])
}

// The variable that names a module directory. Each process has its own.

fn of_variables() -> impl Iterator<Item = Case> {
    fn ask(world: &World, arguments: &[&str], variable: Option<&str>) -> Output {
        let mut command = world.modstamp(arguments);
        match variable {
            Some(value) => command.env("QEMU_MODULE_DIR", value),
            None => command.env_remove("QEMU_MODULE_DIR"),
        };
        command.output().unwrap()
    }
    type Values = [Option<&'static str>; 2];
    fn changes(name: &str, values: Values, expected: &[&str], change: fn(&World)) -> Case {
        let expected: Vec<String> = expected.iter().map(|line| line.to_string()).collect();
        case(&format!("stale_once::{name}"), move |world, _| {
            let file = world.beside("witness");
            fs::write(&file, ask(world, &["observe"], values[0]).stdout).unwrap();
            let check = ["check", file.to_str().unwrap()];
            assert_eq!(ask(world, &check, values[0]).stdout, b"fresh\n");
            change(world);
            expect(&said(&ask(world, &check, values[1])), &expected);
        })
    }
    const ONE: Option<&str> = Some("/opt/modules");
    const OTHER: Option<&str> = Some("/opt/modules-2");
    let nothing: fn(&World) = |_| ();
    [
        changes(
            "the_variable_is_set",
            [None, ONE],
            &[
                "variable QEMU_MODULE_DIR changed: it was not set, now “/opt/modules”",
                "module directory /opt/modules added",
            ],
            nothing,
        ),
        changes(
            "the_variable_is_unset",
            [ONE, None],
            &[
                "variable QEMU_MODULE_DIR changed: it was “/opt/modules”, now not set",
                "module directory /opt/modules removed",
            ],
            nothing,
        ),
        changes(
            "the_variable_is_changed",
            [ONE, OTHER],
            &[
                "variable QEMU_MODULE_DIR changed: it was “/opt/modules”, now “/opt/modules-2”",
                "module directory /opt/modules removed",
                "module directory /opt/modules-2 added",
            ],
            nothing,
        ),
        changes(
            "the_variables_directory_has_another_module",
            [ONE, ONE],
            &["module o.so in /opt/modules changed: its content differs"],
            |w| exchange(&w.path("opt/modules"), &w.path("opt/modules-2")),
        ),
        changes(
            "a_directory_that_the_variable_lists_has_another_module",
            [Some("/opt/nothing:/opt/modules"); 2],
            &["module o.so in /opt/modules changed: its content differs"],
            |w| exchange(&w.path("opt/modules"), &w.path("opt/modules-2")),
        ),
        changes(
            "the_variables_directory_goes",
            [ONE, ONE],
            &["module directory /opt/modules removed"],
            |w| w.rename("opt/modules", "opt/away"),
        ),
    ]
    .into_iter()
}

/// The reasons that `modstamp check` printed.
fn said(output: &Output) -> Vec<String> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(
        output.status.code().is_some_and(|code| code < 2),
        "{output:?}"
    );
    let reasons = text.lines().filter(|line| *line != "fresh");
    reasons
        .map(|line| line.strip_prefix("stale: ").unwrap().to_owned())
        .collect()
}

// The stamp.

fn of_stamps() -> impl Iterator<Item = Case> {
    const TOUCHED: [&str; 1] = ["system stamp touched: its time was 2020-09-13T12:26:40Z, now …"];
    const FIRST: [&str; 1] = ["system stamp touched for the first time: its time is …"];
    fn touch(world: &World) {
        assert!(world.output(&["touch"]).status.success());
    }
    [
        stale("a_stamp_is_touched_by_modstamp", TOUCHED, touch),
        stale("a_stamp_is_touched_by_touch", TOUCHED, |w| {
            w.sh(&format!("touch {STAMP}"));
        }),
        stale(
            "a_stamp_is_touched_with_a_date_in_the_past",
            ["system stamp touched: its time was 2020-09-13T12:26:40Z, now 2017-07-14T02:40:00Z"],
            |w| drop(w.sh(&format!("touch -d @1500000000 {STAMP}"))),
        ),
        stale(
            "a_stamp_is_touched_by_a_nanosecond",
            [
                "system stamp touched: its time was 2020-09-13T12:26:40.000000000Z, \
              now 2020-09-13T12:26:40.000000001Z",
            ],
            |w| drop(w.sh(&format!("touch -d @1600000000.000000001 {STAMP}"))),
        ),
        stale("a_stamp_goes", ["system stamp gone"], |w| w.remove(STAMP)),
        stale("a_stamp_goes_and_is_made_by_modstamp", TOUCHED, |w| {
            w.remove(STAMP);
            touch(w);
        }),
        stale("a_stamp_goes_and_is_made_by_touch", TOUCHED, |w| {
            w.remove(STAMP);
            w.sh(&format!("touch {STAMP}"));
        }),
        stale("a_stamp_comes", FIRST, touch).after(|w| w.remove(STAMP)),
        stale(
            "a_stamp_becomes_a_link",
            ["system stamp not known: it cannot be read, or is not a regular file"],
            |w| w.link(STAMP, "/etc/qemu/a.conf"),
        ),
        fresh("a_stamp_is_rewritten_with_its_mtime", |w| {
            w.keep_mtime(STAMP, || w.write(STAMP, "foreign"));
        }),
    ]
    .into_iter()
}

// What another user cannot read.

fn of_readers() -> impl Iterator<Item = Case> {
    const NEEDS: &[&str] = &[ROOT, "setpriv"];
    fn as_nobody(world: &World, arguments: &[&str]) -> Output {
        let command = world.modstamp(arguments);
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        nobody
            .arg(world.beside("modstamp"))
            .args(command.get_args());
        nobody.output().unwrap()
    }
    fn changes(name: &str, change: fn(&World), expected: &[&str]) -> Case {
        let expected: Vec<String> = expected.iter().map(|line| line.to_string()).collect();
        let case = case(&format!("stale_once::{name}"), move |world, settle| {
            let top = world.beside("");
            fs::set_permissions(&top, fs::Permissions::from_mode(0o755)).unwrap();
            // Where every user can start it.
            let (program, here) = (env!("CARGO_BIN_EXE_modstamp"), world.beside("modstamp"));
            if fs::hard_link(program, &here).is_err() {
                support::executable(&here, fs::read(program).unwrap());
            }
            let file = world.beside("witness");
            fs::write(&file, as_nobody(world, &["observe"]).stdout).unwrap();
            change(world);
            let check = || said(&as_nobody(world, &["check", file.to_str().unwrap()]));
            expect(&check(), &expected);
            settle();
            expect(&check(), &expected);
        });
        case.needs(NEEDS)
    }
    const DENIED: &str = "Permission denied (os error 13)";
    let hide: [fn(&World); 3] = [
        |w| w.set_permissions("usr/lib64/qemu/ui-gtk.so", 0o600),
        |w| w.set_permissions("usr/lib64/qemu/below", 0o700),
        |w| w.set_permissions(MODULES, 0o700),
    ];
    let module = format!("module ui-gtk.so in /usr/lib64/qemu not known: {DENIED}");
    let below = format!("module below in /usr/lib64/qemu not known: {DENIED}");
    let directory = format!("module directory /usr/lib64/qemu not known: {DENIED}");
    let could_not = |not_known: &str| format!("{not_known}, when the witness was taken");
    [
        changes(
            "a_module_can_no_longer_be_read",
            hide[0],
            &[
                "module ui-gtk.so in /usr/lib64/qemu changed: its permissions were 0644, now 0600",
                &module,
            ],
        ),
        changes("a_module_can_not_be_read", |_| (), &[&module]).after(hide[0]),
        changes(
            "a_module_can_be_read_again",
            |w| w.set_permissions("usr/lib64/qemu/ui-gtk.so", 0o644),
            &[
                "module ui-gtk.so in /usr/lib64/qemu changed: its permissions were 0600, now 0644",
                &could_not(&module),
            ],
        )
        .after(hide[0]),
        changes(
            "a_subdirectory_can_no_longer_be_read",
            hide[1],
            &[
                "module below in /usr/lib64/qemu changed: its permissions were 0755, now 0700",
                &below,
            ],
        ),
        changes("a_subdirectory_can_not_be_read", |_| (), &[&below]).after(hide[1]),
        // Who may enter it can start a program in it, and cannot find one.
        changes(
            "a_directory_of_programs_can_be_entered_and_not_searched",
            |w| w.write("usr/bin/qemu-system-arm", "before 3"),
            &[&format!("program /usr/bin not known: {DENIED}")],
        )
        .after(|w| w.set_permissions("usr/bin", 0o711)),
        changes(
            "a_subdirectory_can_be_read_again",
            |w| w.set_permissions("usr/lib64/qemu/below", 0o755),
            &[
                "module below in /usr/lib64/qemu changed: its permissions were 0700, now 0755",
                &could_not(&below),
            ],
        )
        .after(hide[1]),
        changes(
            "a_subdirectory_can_no_longer_be_searched",
            |w| w.set_permissions("usr/lib64/qemu/below", 0o744),
            &[
                "module below in /usr/lib64/qemu changed: its permissions were 0755, now 0744",
                &below,
            ],
        ),
        changes(
            "a_module_directory_can_no_longer_be_read",
            hide[2],
            &[
                "module directory /usr/lib64/qemu changed: its permissions were 0755, now 0700",
                &directory,
            ],
        ),
        changes("a_module_directory_can_not_be_read", |_| (), &[&directory]).after(hide[2]),
        changes(
            "a_module_directory_can_be_read_again",
            |w| w.set_permissions(MODULES, 0o755),
            &[
                "module directory /usr/lib64/qemu changed: its permissions were 0700, now 0755",
                &could_not(&directory),
            ],
        )
        .after(hide[2]),
        changes(
            "a_module_directory_can_no_longer_be_searched",
            |w| w.set_permissions(MODULES, 0o744),
            &[
                "module directory /usr/lib64/qemu changed: its permissions were 0755, now 0744",
                &directory,
            ],
        ),
    ]
    .into_iter()
}

// What leaves the modules as they were.

fn of_no_change() -> impl Iterator<Item = Case> {
    /// Puts what `copy` makes of the module directory in its place.
    fn redeploy(world: &World, copy: &str) {
        let inode = || fs::metadata(world.path(MODULES)).unwrap().ino();
        let before = inode();
        world.sh(copy);
        exchange(&world.path(MODULES), &world.path("usr/lib64/new"));
        assert_ne!(inode(), before);
        fs::remove_dir_all(world.path("usr/lib64/new")).unwrap();
    }
    [
        fresh("nothing_is_done", |_| ()),
        fresh("a_redeploy_with_other_inodes_and_times", |w| {
            redeploy(w, "cp -r usr/lib64/qemu usr/lib64/new");
        }),
        fresh("a_redeploy_with_other_inodes", |w| {
            redeploy(w, "cp -a usr/lib64/qemu usr/lib64/new");
        }),
        fresh("a_redeploy_by_hard_links", |w| {
            let inode = || fs::metadata(w.path(GTK)).unwrap().ino();
            let before = inode();
            redeploy(w, "cp -al usr/lib64/qemu usr/lib64/new");
            assert_eq!(inode(), before);
        }),
        fresh("a_redeploy_by_rsync", |w| {
            redeploy(w, "rsync -a usr/lib64/qemu/ usr/lib64/new");
        })
        .needs(&["rsync"]),
        fresh("a_redeploy_by_tar", |w| {
            redeploy(
                w,
                "mkdir usr/lib64/new; tar -C usr/lib64/qemu -c . | tar -C usr/lib64/new -xp",
            );
        })
        .needs(&["tar"]),
        fresh("a_redeploy_on_another_device", |w| {
            let device = || fs::metadata(w.path(GTK)).unwrap().dev();
            let before = device();
            fs::create_dir(w.path("usr/device")).unwrap();
            w.mount(&["-t", "tmpfs", "tmpfs"], "usr/device");
            w.sh("cp -r usr/lib64/qemu usr/device/qemu");
            let other = w.path("usr/device/qemu");
            w.mount(&["--bind", other.to_str().unwrap()], MODULES);
            assert_ne!(device(), before);
        })
        .needs(MOUNT),
        fresh("every_mtime_becomes_0", |w| every_mtime(w, 0)),
        fresh("every_mtime_becomes_1", |w| every_mtime(w, 1)),
        fresh("modules_are_touched", |w| {
            w.sh("find usr/lib64/qemu -type f -exec touch {} +; touch usr/lib64/qemu");
        }),
        fresh("modules_are_rewritten_as_they_were", |w| {
            w.write(GTK, "before 1")
        }),
        fresh("a_module_is_renamed_and_renamed_back", |w| {
            there_and_back(w, GTK)
        }),
        fresh("a_program_is_renamed_and_renamed_back", |w| {
            there_and_back(w, "usr/bin/qemu-system-arm");
        }),
        fresh("a_module_directory_is_renamed_and_renamed_back", |w| {
            there_and_back(w, MODULES);
        }),
        fresh("modules_swap_names_twice", |w| {
            for _ in 0..2 {
                exchange(&w.module("ui-gtk.so"), &w.module("ui-sdl.so"));
            }
        }),
        fresh("permissions_are_set_as_they_are", |w| {
            w.set_permissions(GTK, 0o644)
        }),
        fresh("permissions_are_changed_and_changed_back", |w| {
            w.set_permissions(GTK, 0o600);
            w.set_permissions(GTK, 0o644);
        }),
        fresh("a_module_gets_another_name_elsewhere", |w| {
            fs::hard_link(w.path(GTK), w.path("usr/share/name")).unwrap();
        }),
        fresh("a_link_is_made_again", |w| {
            w.link("usr/lib64/qemu/link.so", "/usr/share/linked.so");
        }),
        fresh("unrelated_files_come_beside_the_directories", |w| {
            for path in [
                "usr/lib64/other.so",
                "usr/lib64/qemu.so",
                "usr/bin/other",
                "etc/other",
            ] {
                w.write(path, "other");
            }
        }),
        fresh("unrelated_files_beside_the_directories_change", |w| {
            for path in [
                "usr/share/modules-2/m.so",
                "usr/share/kvm-2",
                "opt/modules/o.so",
            ] {
                w.write(path, "after  1");
            }
        }),
        fresh("a_module_directory_is_hidden_and_shown_again", |w| {
            w.mount(&["-t", "tmpfs", "tmpfs"], MODULES);
            w.unmount();
        })
        .needs(MOUNT),
        fresh("every_file_is_read", |w| {
            let root = w.path("");
            w.mount(&["--bind", root.to_str().unwrap()], "");
            w.sh("mount -o remount,bind,strictatime .");
            let atime = || {
                let stat = fs::metadata(w.path(GTK)).unwrap();
                (stat.atime(), stat.atime_nsec())
            };
            let before = atime();
            w.sh("find . -type f -exec cat {} + ; ls -R >/dev/null");
            assert_ne!(atime(), before);
        })
        .needs(MOUNT),
    ]
    .into_iter()
}

fn every_mtime(world: &World, seconds: i64) {
    world.sh(&format!(
        "find usr etc -exec touch --no-dereference -d @{seconds} {{}} +"
    ));
    assert_eq!(
        fs::metadata(world.module("below/a.so")).unwrap().mtime(),
        seconds
    );
    assert_eq!(fs::metadata(world.path(MODULES)).unwrap().mtime(), seconds);
}

fn there_and_back(world: &World, path: &str) {
    let there = format!("{path}.away");
    world.rename(path, &there);
    world.rename(&there, path);
}
