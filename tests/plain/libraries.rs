//! The shared libraries that modules, programs and manifests need, each seen when it comes, changes
//! or goes. The ELF files are written by `object`, and hold no code.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use filetime::FileTime;
use modstamp::{Profile, Root, Witness};
use object::Endianness;
use object::elf;
use object::write::elf::{FileHeader, ProgramHeader, Writer};

/// An ELF file with these entries in its dynamic section.
#[derive(Clone, Default)]
struct Elf {
    needs: Vec<&'static str>,
    /// DT_FILTER and DT_AUXILIARY.
    filters: Option<[&'static str; 2]>,
    runpath: Option<&'static str>,
    rpath: Option<&'static str>,
    is_32: bool,
    /// Makes another content of the same size.
    mark: u64,
}

fn needs<const N: usize>(needs: [&'static str; N]) -> Elf {
    Elf {
        needs: needs.into(),
        ..Elf::default()
    }
}

impl Elf {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(Endianness::Little, !self.is_32, &mut bytes);
        let texts = self.needs.iter().map(|text| (elf::DT_NEEDED, *text));
        let filters = self.filters.iter().flatten().copied();
        let filters = [elf::DT_FILTER, elf::DT_AUXILIARY].into_iter().zip(filters);
        let rpath = self.rpath.map(|text| (elf::DT_RPATH, text));
        let runpath = self.runpath.map(|text| (elf::DT_RUNPATH, text));
        let texts: Vec<_> = texts
            .chain(filters)
            .chain(rpath)
            .chain(runpath)
            .map(|(tag, text)| (tag, writer.add_dynamic_string(text.as_bytes())))
            .collect();
        writer.reserve_file_header();
        writer.reserve_program_headers(2);
        writer.reserve_dynstr_section_index();
        writer.reserve_dynamic_section_index();
        writer.reserve_shstrtab_section_index();
        let table = writer.reserve_dynstr().unwrap();
        let dynamic = writer.reserve_dynamic(texts.len() + 3);
        writer.reserve_shstrtab().unwrap();
        let end = writer.reserved_len();
        writer
            .write_file_header(&FileHeader {
                os_abi: elf::ELFOSABI_NONE,
                abi_version: 0,
                e_type: elf::ET_DYN,
                e_machine: if self.is_32 {
                    elf::EM_386
                } else {
                    elf::EM_X86_64
                },
                e_entry: 0,
                e_flags: elf::FileFlags(0),
            })
            .unwrap();
        writer.write_align_program_headers();
        for (p_type, start) in [(elf::PT_LOAD, 0), (elf::PT_DYNAMIC, dynamic)] {
            writer.write_program_header(&ProgramHeader {
                p_type,
                p_flags: elf::PF_R,
                p_offset: start,
                p_vaddr: start,
                p_paddr: start,
                p_filesz: end - start,
                p_memsz: end - start,
                p_align: 8,
            });
        }
        writer.write_dynstr();
        writer.write_align_dynamic();
        for (tag, text) in texts {
            writer.write_dynamic_string(tag, text).unwrap();
        }
        writer.write_dynamic(elf::DT_STRTAB, table).unwrap();
        writer.write_dynamic(elf::DT_DEBUG, self.mark).unwrap();
        writer.write_dynamic(elf::DT_NULL, 0).unwrap();
        writer.write_shstrtab();
        bytes
    }
}

/// A scratch root with modules in `/opt/modules`.
struct World(tempfile::TempDir);

const MODULE: &str = "opt/modules/a.so";

impl World {
    fn new(files: &[(&str, Elf)]) -> World {
        let world = World(tempfile::tempdir().unwrap());
        files.iter().for_each(|(path, elf)| world.put(path, elf));
        world
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn put(&self, path: &str, elf: &Elf) {
        self.write(path, &elf.bytes());
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }

    /// The loader's cache, with a name and a path in each item.
    fn write_cache(&self, items: &[(&str, &str)]) {
        let mut bytes = b"glibc-ld.so.cache1.1".to_vec();
        bytes.extend((items.len() as u32).to_le_bytes());
        bytes.resize(48, 0);
        let (mut texts, first) = (Vec::new(), 48 + items.len() * 24);
        for (name, path) in items {
            bytes.extend(0x0303_u32.to_le_bytes());
            for text in [name, path] {
                bytes.extend(((first + texts.len()) as u32).to_le_bytes());
                texts.extend(text.as_bytes());
                texts.push(0);
            }
            bytes.extend([0; 12]);
        }
        bytes.extend(texts);
        self.write("etc/ld.so.cache", &bytes);
    }

    fn root(&self) -> Root {
        Root::open(self.0.path()).unwrap()
    }

    /// A profile of the modules and their libraries.
    fn profile(&self) -> Profile {
        let profile = Profile::new("x").unwrap().in_root(&self.root());
        let profile = profile.module_directories(["/opt/modules"]).unwrap();
        profile.libraries(true)
    }

    fn libraries(&self, profile: &Profile) -> Vec<String> {
        let inputs = profile.inputs().unwrap();
        inputs
            .libraries()
            .map(|it| it.display().to_string())
            .collect()
    }

    /// Runs `modstamp` with the profile of this text, and with this `LD_LIBRARY_PATH`.
    fn modstamp(&self, text: &str, arguments: &[&str], search_path: &str) -> (i32, String) {
        self.write("etc/modstamp/profiles.d/x.toml", text.as_bytes());
        let mut command = Command::new(env!("CARGO_BIN_EXE_modstamp"));
        command.env_clear().env("LD_LIBRARY_PATH", search_path);
        command.args(arguments).args(["--profile", "x", "--root"]);
        let output = command.arg(self.0.path()).output().unwrap();
        let texts = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
        (output.status.code().unwrap(), texts.concat())
    }

    /// The text of a witness in which every stat identity is evidence: as of files that a package
    /// manager installed some time ago.
    fn settled(&self, profile: &Profile) -> String {
        let old = FileTime::from_unix_time(1_000_000_001, 1);
        age(self.0.path(), old);
        let mut texts = (0..1000).map(|_| profile.observe().unwrap().to_string());
        let text = texts.find(|text| !text.contains(" ~"));
        text.expect("no stat identity is evidence on this file system")
    }

    /// What a change makes the answers of the profile stale by. The witness goes through its text.
    fn after(&self, profile: &Profile, change: impl FnOnce()) -> Vec<String> {
        let witness: Witness = self.settled(profile).parse().unwrap();
        assert_eq!(told(&witness, profile), NOTHING, "{witness}");
        change();
        let now = told(&witness, profile);
        // A look that takes nothing from an older one finds the same.
        let verdict = witness.judge(&profile.inputs().unwrap());
        let sentences: Vec<String> = verdict.reasons().iter().map(ToString::to_string).collect();
        assert_eq!(now, sentences, "{witness}");
        now
    }
}

const NOTHING: [String; 0] = [];

/// Gives a file, and all that is below it, these times.
fn age(path: &Path, time: FileTime) {
    if !path.is_symlink() && path.is_dir() {
        let below = fs::read_dir(path).unwrap();
        below.for_each(|entry| age(&entry.unwrap().path(), time));
    }
    filetime::set_symlink_file_times(path, time, time).unwrap();
}

fn told(witness: &Witness, profile: &Profile) -> Vec<String> {
    let verdict = witness.check(profile).unwrap();
    verdict.reasons().iter().map(ToString::to_string).collect()
}

const SPICE: &str = "usr/lib64/libspice-server.so.1";

fn spice() -> World {
    World::new(&[
        (
            "opt/modules/hw-display-qxl.so",
            needs(["libspice-server.so.1"]),
        ),
        (SPICE, needs(["libssl.so.3"])),
        ("usr/lib64/libssl.so.3", Elf::default()),
        ("usr/lib64/libother.so.1", Elf::default()),
    ])
}

#[test]
fn a_library_that_goes_is_told_with_the_module_that_needs_it() {
    let world = spice();
    let told = world.after(&world.profile(), || world.remove(SPICE));
    assert_eq!(
        told[0],
        "library libspice-server.so.1 removed, which hw-display-qxl.so needs"
    );
    let json = world.profile().observe().unwrap();
    world.put(SPICE, &needs([]));
    let json = serde_json::to_string(&json.check(&world.profile()).unwrap()).unwrap();
    let needer =
        r#""path":"/usr/lib64/libspice-server.so.1","needed_by":"/opt/modules/hw-display-qxl.so""#;
    assert!(json.contains(needer), "{json}");
}

#[test]
fn a_library_of_a_library_that_changes_in_place_is_told() {
    let world = spice();
    let told = world.after(&world.profile(), || {
        let changed = Elf {
            mark: 7,
            ..Elf::default()
        };
        world.put("usr/lib64/libssl.so.3", &changed);
    });
    assert_eq!(
        told,
        ["library libssl.so.3 changed: its content differs, which libspice-server.so.1 needs"]
    );
}

#[test]
fn a_needed_library_that_is_missing_is_told_when_it_appears() {
    let world = World::new(&[(MODULE, needs(["liba.so.1"]))]);
    let profile = world.profile();
    let missing = |profile: &Profile| {
        let inputs = profile.inputs().unwrap();
        inputs
            .missing_libraries()
            .map(PathBuf::from)
            .collect::<Vec<_>>()
    };
    assert_eq!(missing(&profile), [PathBuf::from("liba.so.1")]);
    let told = world.after(&profile, || world.put("usr/lib/liba.so.1", &Elf::default()));
    assert_eq!(told, ["library liba.so.1 added, which a.so needs"]);
    assert!(missing(&profile).is_empty());
}

#[test]
fn libraries_that_nothing_needs_leave_an_answer_fresh() {
    let world = spice();
    let told = world.after(&world.profile(), || {
        world.remove("usr/lib64/libother.so.1");
        world.put("usr/lib64/libnew.so.1", &Elf::default());
    });
    assert_eq!(told, NOTHING);
}

#[test]
fn the_same_libraries_in_new_inodes_leave_an_answer_fresh() {
    let world = spice();
    let told = world.after(&world.profile(), || {
        let copy = world.path("usr/lib64/copy");
        fs::copy(world.path(SPICE), &copy).unwrap();
        fs::rename(copy, world.path(SPICE)).unwrap();
    });
    assert_eq!(told, NOTHING);
}

#[test]
fn a_library_that_comes_to_an_earlier_directory_of_a_run_path_is_told() {
    let module = Elf {
        runpath: Some("$ORIGIN/../first:${ORIGIN}/../second"),
        ..needs(["liba.so.1"])
    };
    let world = World::new(&[
        (MODULE, module),
        ("opt/second/liba.so.1", Elf::default()),
        ("usr/lib64/liba.so.1", Elf::default()),
    ]);
    let profile = world.profile();
    assert_eq!(world.libraries(&profile), ["/opt/second/liba.so.1"]);
    for first in ["opt/first", "opt/first/liba.so.1"] {
        let told = world.after(&profile, || match first.ends_with(".1") {
            true => world.put(first, &Elf::default()),
            false => fs::create_dir(world.path(first)).unwrap(),
        });
        match first.ends_with(".1") {
            true => assert_eq!(told.len(), 2, "{told:?}"),
            false => assert_eq!(told, NOTHING),
        }
    }
    assert_eq!(world.libraries(&profile), ["/opt/first/liba.so.1"]);
}

#[test]
fn the_loaders_cache_decides_before_the_default_directories() {
    let world = World::new(&[
        (MODULE, needs(["liba.so.1"])),
        ("opt/x/liba.so.1", Elf::default()),
        ("opt/y/liba.so.1", Elf::default()),
        ("usr/lib64/liba.so.1", Elf::default()),
    ]);
    let profile = world.profile();
    assert_eq!(world.libraries(&profile), ["/usr/lib64/liba.so.1"]);
    let told = world.after(&profile, || {
        world.write_cache(&[("liba.so.1", "/opt/x/liba.so.1")]);
    });
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(world.libraries(&profile), ["/opt/x/liba.so.1"]);
    let told = world.after(&profile, || {
        let first = ("liba.so.1", "/opt/y/liba.so.1");
        world.write_cache(&[first, ("liba.so.1", "/opt/x/liba.so.1")]);
    });
    assert_eq!(told.len(), 2, "{told:?}");
}

/// Both libraries are needed before and after. Only their order in the cache is another.
#[test]
fn a_cache_in_another_order_is_told_although_all_libraries_are_the_same() {
    let world = World::new(&[
        (MODULE, needs(["liba.so.1"])),
        (
            "opt/modules/b.so",
            needs(["/opt/x/liba.so.1", "/opt/y/liba.so.1"]),
        ),
        ("opt/x/liba.so.1", Elf::default()),
        ("opt/y/liba.so.1", Elf::default()),
    ]);
    let (x, y) = (
        ("liba.so.1", "/opt/x/liba.so.1"),
        ("liba.so.1", "/opt/y/liba.so.1"),
    );
    world.write_cache(&[x, y]);
    let told = world.after(&world.profile(), || world.write_cache(&[y, x]));
    let expected = "the same modules and programs lead to other libraries than before";
    assert_eq!(told, [expected]);
}

#[test]
fn a_library_of_another_architecture_is_passed_over_and_told_when_it_is_replaced() {
    let other = Elf {
        is_32: true,
        ..Elf::default()
    };
    let module = Elf {
        runpath: Some("/opt/text:/opt/x:/opt/y"),
        ..needs(["liba.so.1"])
    };
    let world = World::new(&[
        (MODULE, module),
        ("opt/x/liba.so.1", other),
        ("opt/y/liba.so.1", Elf::default()),
    ]);
    world.write("opt/text/liba.so.1", b"INPUT(liba.so.2)");
    let profile = world.profile();
    assert_eq!(world.libraries(&profile), ["/opt/y/liba.so.1"]);
    let told = world.after(&profile, || {
        // In place: the directory's own time does not move.
        fs::write(world.path("opt/x/liba.so.1"), Elf::default().bytes()).unwrap();
    });
    assert_eq!(told.len(), 2, "{told:?}");
}

const TEXT: &str = "module-directories = [\"/opt/modules\"]\nlibraries = true\n";

#[test]
fn the_loaders_variable_counts_by_its_value_and_by_the_directories_in_it() {
    let world = World::new(&[
        (MODULE, needs(["liba.so.1"])),
        ("opt/x/liba.so.1", Elf::default()),
        ("usr/lib64/liba.so.1", Elf::default()),
    ]);
    let (_, witness) = world.modstamp(TEXT, &["observe"], "/opt/x:");
    assert!(witness.contains(" /opt/x/liba.so.1\n"), "{witness}");
    fs::write(world.path("witness"), witness).unwrap();
    let file = world.path("witness").display().to_string();
    let check = |search_path| world.modstamp(TEXT, &["check", &file], search_path);
    assert_eq!(check("/opt/x:"), (0, "fresh\n".to_owned()));
    let (_, told) = check("");
    let changed = "variable LD_LIBRARY_PATH changed: it was “/opt/x:”, now “”";
    assert!(told.contains(changed), "{told}");
    assert!(told.contains("library liba.so.1 removed"), "{told}");
    let (_, told) = check("/opt/x:lib");
    assert!(told.contains("library lib not known: "), "{told}");
    world.remove("opt/x/liba.so.1");
    assert_eq!(check("/opt/x:").0, 1);
}

#[test]
fn a_host_of_musl_has_a_file_instead_of_a_cache() {
    let world = World::new(&[
        (MODULE, needs(["liba.so.1"])),
        ("opt/musl/liba.so.1", Elf::default()),
        ("usr/local/lib/liba.so.1", Elf::default()),
    ]);
    let profile = world.profile();
    assert_eq!(world.libraries(&profile), ["/usr/local/lib/liba.so.1"]);
    let told = world.after(&profile, || {
        world.write("etc/ld-musl-x86_64.path", b"/lib\n/opt/musl\n");
    });
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(world.libraries(&profile), ["/opt/musl/liba.so.1"]);
}

#[test]
fn a_library_that_can_not_be_read_is_not_known() {
    let world = spice();
    let file = fs::File::options().write(true).open(world.path(SPICE));
    file.unwrap().set_len(5 << 30).unwrap();
    let witness = world.profile().observe().unwrap();
    let expected = "library libspice-server.so.1 not known: it is larger than 4 GiB";
    assert_eq!(told(&witness, &world.profile()), [expected]);
}

#[test]
fn an_update_touches_the_stamp_if_a_library_changed_and_status_counts_them() {
    let world = spice();
    let update = || world.modstamp(TEXT, &["update"], "");
    let stamp = || {
        fs::metadata(world.path("var/lib/modstamp/x.stamp"))
            .unwrap()
            .modified()
            .unwrap()
    };
    assert_eq!(update().0, 0);
    let first = stamp();
    assert_eq!(update().0, 0);
    assert_eq!(stamp(), first);
    let (_, status) = world.modstamp(TEXT, &["status"], "");
    let row = status
        .lines()
        .find(|line| line.contains("libraries"))
        .unwrap();
    assert!(row.ends_with("2 found, 0 missing"), "{status}");
    world.remove("usr/lib64/libssl.so.3");
    let (code, said) = update();
    assert_eq!(code, 0, "{said}");
    assert_ne!(stamp(), first, "{said}");
}

#[test]
fn each_variant_for_some_processors_counts() {
    let world = World::new(&[
        (MODULE, needs(["liba.so.1"])),
        ("usr/lib64/liba.so.1", Elf::default()),
        ("usr/lib64/glibc-hwcaps/x86-64-v3/liba.so.1", Elf::default()),
    ]);
    let profile = world.profile();
    let variant = "/usr/lib64/glibc-hwcaps/x86-64-v3/liba.so.1";
    assert_eq!(world.libraries(&profile), [variant, "/usr/lib64/liba.so.1"]);
    let told = world.after(&profile, || {
        world.put(
            "usr/lib64/glibc-hwcaps/x86-64-v4/liba.so.1",
            &Elf::default(),
        );
    });
    assert_eq!(told, ["library liba.so.1 added, which a.so needs"]);
}

#[test]
fn a_programs_rpath_counts_for_its_modules_and_ends_with_a_runpath() {
    let program = Elf {
        rpath: Some("$ORIGIN/../private"),
        ..Elf::default()
    };
    let with_runpath = Elf {
        runpath: Some("/nowhere"),
        ..needs(["libb.so.1"])
    };
    let world = World::new(&[
        ("opt/tool/bin/tool", program),
        (MODULE, needs(["liba.so.1"])),
        ("opt/modules/b.so", with_runpath),
        ("opt/tool/private/liba.so.1", Elf::default()),
        ("opt/tool/private/libb.so.1", Elf::default()),
    ]);
    fs::create_dir_all(world.path("usr/bin")).unwrap();
    symlink("/opt/tool/bin/tool", world.path("usr/bin/tool")).unwrap();
    let profile = world.profile().programs(["/usr/bin/tool"]).unwrap();
    assert_eq!(world.libraries(&profile), ["/opt/tool/private/liba.so.1"]);
}

/// The file is the same, but the loader replaces `$ORIGIN` by another directory.
#[test]
fn a_link_that_leads_to_another_name_of_the_same_program_leads_to_other_libraries() {
    let program = Elf {
        runpath: Some("$ORIGIN/../lib"),
        ..needs(["liba.so.1"])
    };
    let world = World::new(&[
        ("opt/a/bin/tool", program),
        ("opt/a/lib/liba.so.1", Elf::default()),
        ("opt/b/lib/liba.so.1", Elf::default()),
    ]);
    let link = |to: &str| {
        let _ = fs::remove_file(world.path("opt/current"));
        symlink(to, world.path("opt/current")).unwrap();
    };
    fs::create_dir_all(world.path("opt/b/bin")).unwrap();
    fs::hard_link(world.path("opt/a/bin/tool"), world.path("opt/b/bin/tool")).unwrap();
    link("a");
    let profile = Profile::new("x").unwrap().in_root(&world.root());
    let profile = profile.programs(["/opt/current/bin/tool"]).unwrap();
    let profile = profile.libraries(true);
    assert_eq!(world.libraries(&profile), ["/opt/a/lib/liba.so.1"]);
    let told = world.after(&profile, || link("b"));
    let expected =
        ["removed", "added"].map(|it| format!("library liba.so.1 {it}, which tool needs"));
    assert_eq!(told, expected);
    assert_eq!(world.libraries(&profile), ["/opt/b/lib/liba.so.1"]);
}

#[test]
fn a_library_that_lends_its_symbols_is_needed() {
    let module = Elf {
        filters: Some(["libfilter.so.1", "libauxiliary.so.1"]),
        ..Elf::default()
    };
    let world = World::new(&[
        (MODULE, module),
        ("usr/lib64/libfilter.so.1", Elf::default()),
    ]);
    let profile = world.profile();
    assert_eq!(world.libraries(&profile), ["/usr/lib64/libfilter.so.1"]);
    let library = "usr/lib64/libauxiliary.so.1";
    let told = world.after(&profile, || world.put(library, &Elf::default()));
    assert_eq!(told, ["library libauxiliary.so.1 added, which a.so needs"]);
}

/// Each hands its run path down to the other, so that a list of them has no end.
#[test]
fn libraries_that_need_each_other_by_other_run_paths_are_looked_up_once_each() {
    let with_rpath = |need, rpath| Elf {
        rpath: Some(rpath),
        ..needs([need])
    };
    let world = World::new(&[
        (MODULE, with_rpath("liba.so", "/opt/a")),
        ("opt/a/liba.so", with_rpath("libb.so", "/opt/b")),
        ("opt/b/libb.so", with_rpath("liba.so", "/opt/a")),
    ]);
    let found = ["/opt/a/liba.so", "/opt/b/libb.so"];
    assert_eq!(world.libraries(&world.profile()), found);
    let witness = world.profile().observe().unwrap().to_string();
    assert!(
        !witness.contains(" / \n") && !witness.contains(" /\n"),
        "{witness}"
    );
}

#[test]
fn a_file_that_names_thousands_of_libraries_is_not_known() {
    let name = "lib-with-a-long-name-that-many-items-share.so";
    let many = Elf {
        needs: vec![name; 5000],
        ..Elf::default()
    };
    let world = World::new(&[(MODULE, many)]);
    let witness = world.profile().observe().unwrap();
    let told = witness.check(&world.profile()).unwrap();
    let told = told.reasons_for_people(9).concat();
    assert!(
        told.contains("not known") && told.contains("a.so"),
        "{told}"
    );
}

#[test]
fn what_is_no_elf_file_has_no_libraries_and_is_no_error() {
    let world = World::new(&[]);
    let mut torn = needs(["liba.so.1"]).bytes();
    torn.truncate(100);
    world.write(MODULE, &torn);
    world.write("opt/modules/b.so", b"\x7fELF and no more");
    world.write("opt/modules/c.json", b"{}");
    symlink("nowhere", world.path("opt/modules/d.so")).unwrap();
    symlink("/", world.path("opt/e.so")).unwrap();
    let profile = world.profile();
    assert_eq!(world.libraries(&profile), NOTHING);
    assert_eq!(world.after(&profile, || ()), NOTHING);
}

#[test]
fn a_link_in_the_tree_leads_to_no_library_out_of_it() {
    let outside = World::new(&[("liba.so.1", Elf::default())]);
    let world = World::new(&[(MODULE, needs(["liba.so.1"]))]);
    fs::create_dir_all(world.path("usr/lib64")).unwrap();
    symlink(outside.0.path(), world.path("usr/lib")).unwrap();
    let library = outside.path("liba.so.1");
    symlink(library, world.path("usr/lib64/liba.so.1")).unwrap();
    assert_eq!(world.libraries(&world.profile()), NOTHING);
}

#[test]
fn a_witness_without_libraries_is_stale_for_a_profile_that_asks_for_them() {
    let world = spice();
    let witness = world.profile().libraries(false).observe().unwrap();
    let told_now = told(&witness, &world.profile());
    let expected = [
        "variable LD_LIBRARY_PATH was not observed, and the profile names it now",
        "libraries were not observed, and the profile asks for them now",
    ];
    assert_eq!(told_now, expected);
    // The other way round the witness has more than is asked.
    let witness = world.profile().observe().unwrap();
    world.remove(SPICE);
    let less = told(&witness, &world.profile().libraries(false));
    assert!(!less.concat().contains("library "), "{less:?}");
}

#[test]
fn the_libraries_of_another_program_do_not_count_for_the_answer_of_one() {
    let world = World::new(&[
        ("usr/bin/a", needs(["liba.so.1"])),
        ("usr/bin/b", needs(["libb.so.1"])),
        ("usr/lib64/liba.so.1", Elf::default()),
        ("usr/lib64/libb.so.1", Elf::default()),
    ]);
    let profile = world.profile().programs(["/usr/bin/*"]).unwrap();
    let [of_a, of_b] = ["/usr/bin/a", "/usr/bin/b"].map(|it| profile.observe_for(it).unwrap());
    world.remove("usr/lib64/libb.so.1");
    let now = profile.inputs().unwrap();
    let judged = |witness: &Witness| {
        let judged: Vec<String> = witness
            .judge(&now)
            .reasons()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(judged, told(witness, &profile));
        judged
    };
    assert_eq!(judged(&of_a), NOTHING);
    assert!(of_a.disturbed(&now).is_none());
    assert_eq!(judged(&of_b), ["library libb.so.1 removed, which b needs"]);
}

#[test]
fn a_manifest_counts_and_so_does_the_library_that_it_names() {
    let world = World::new(&[
        ("opt/drivers/lib/absolute.so", needs(["libdep.so.1"])),
        ("usr/share/vulkan/lib/relative.so", Elf::default()),
        ("usr/lib64/libbare.so", Elf::default()),
        ("usr/lib64/libdep.so.1", Elf::default()),
    ]);
    let manifest =
        |path: &str| format!(r#"{{"ICD": {{"library_path": "{path}", "api_version": "1.3.0"}}}}"#);
    for (name, path) in [
        ("a", "/opt/drivers/lib/absolute.so"),
        ("b", "../lib/relative.so"),
        ("c", "libbare.so"),
    ] {
        let file = format!("usr/share/vulkan/icd.d/{name}.json");
        world.write(&file, manifest(path).as_bytes());
    }
    let root = world.root();
    world.write(
        "etc/modstamp/profiles.d/vulkan.toml",
        b"manifests = [{ files = [\"/usr/share/vulkan/icd.d/*.json\"], library = \"ICD.library_path\" }]",
    );
    let profile = Profile::load_in("vulkan", &root).unwrap();
    assert_eq!(world.libraries(&profile).len(), 4);
    for (path, needer) in [
        ("opt/drivers/lib/absolute.so", "a.json"),
        ("usr/share/vulkan/icd.d/../lib/relative.so", "b.json"),
        ("usr/lib64/libbare.so", "c.json"),
        ("usr/lib64/libdep.so.1", "absolute.so"),
    ] {
        let bytes = fs::read(world.path(path)).unwrap();
        let told = world.after(&profile, || world.remove(path));
        let name = path.rsplit('/').next().unwrap();
        assert_eq!(
            told[0],
            format!("library {name} removed, which {needer} needs")
        );
        world.write(path, &bytes);
    }
    let told = world.after(&profile, || {
        world.write(
            "usr/share/vulkan/icd.d/d.json",
            manifest("libnone.so").as_bytes(),
        );
    });
    assert_eq!(told, ["file /usr/share/vulkan/icd.d/d.json added"]);
    let told = world.after(&profile, || {
        world.write(
            "usr/share/vulkan/icd.d/d.json",
            manifest("libdep.so.1").as_bytes(),
        );
    });
    assert!(
        told[0].starts_with("file /usr/share/vulkan/icd.d/d.json changed: "),
        "{told:?}"
    );
}

#[test]
fn a_directory_of_manifests_counts_by_each_of_them() {
    let world = World::new(&[("usr/lib64/libbare.so", Elf::default())]);
    world.write(
        "opt/icd.d/a.json",
        br#"{"ICD": {"library_path": "libbare.so"}}"#,
    );
    let profile = Profile::new("x").unwrap().in_root(&world.root());
    let profile = profile
        .manifests(["/opt/icd.d"], "ICD.library_path")
        .unwrap();
    let told = world.after(&profile, || world.remove("usr/lib64/libbare.so"));
    assert_eq!(told, ["library libbare.so removed, which a.json needs"]);
    // Only a file that is meant as a manifest has to be one.
    world.write("opt/icd.d/README", b"Put manifests here.");
    let warnings = || profile.inputs().unwrap().warnings(&profile);
    assert_eq!(warnings(), NOTHING);
    world.write("opt/icd.d/b.json", b"{");
    assert_eq!(warnings().len(), 1, "{:?}", warnings());
}

#[test]
fn a_profile_with_a_wrong_manifest_is_told_what_to_write() {
    let world = World::new(&[]);
    for (text, expected) in [
        (
            "manifests = \"/a\"",
            "“manifests” is of type string; write manifests = [{",
        ),
        (
            "manifests = [\"/a\"]",
            "“manifests” holds something of type string",
        ),
        (
            "manifests = [{ files = [\"/a\"] }]",
            "holds an item without “library”",
        ),
        (
            "manifests = [{ library = \"a\" }]",
            "holds an item without “files”",
        ),
        (
            "manifests = [{ files = [\"/a\"], library = \"a..b\" }]",
            "“library” is “a..b”, no place in JSON",
        ),
        (
            "manifests = [{ files = [\"/a\"], library = \"a\", x = 1 }]",
            "holds a key “x”",
        ),
        (
            "manifests = [{ files = [\"a\"], library = \"a\" }]",
            "a relative path",
        ),
        ("libraries = \"all\"", "write libraries = true or false"),
        ("libraries = true", "names nothing to watch"),
    ] {
        world.write("etc/modstamp/profiles.d/x.toml", text.as_bytes());
        let error = Profile::load_in("x", &world.root())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

/// A later witness has the needer of an older one only if the look for libraries was spared.
#[test]
fn a_look_parses_nothing_as_long_as_all_that_it_depends_on_is_the_same() {
    let module = Elf {
        runpath: Some("/opt/first"),
        ..needs(["liba.so.1", "libmissing.so.1"])
    };
    let world = World::new(&[
        (MODULE, module.clone()),
        ("usr/bin/tool", needs(["liba.so.1"])),
        ("opt/first/other", Elf::default()),
        (
            "opt/32/liba.so.1",
            Elf {
                is_32: true,
                ..Elf::default()
            },
        ),
        ("opt/x/liba.so.1", needs(["libb.so.1"])),
        ("usr/lib64/libb.so.1", Elf::default()),
    ]);
    let cache = [
        ("liba.so.1", "/opt/32/liba.so.1"),
        ("liba.so.1", "/opt/x/liba.so.1"),
    ];
    world.write_cache(&cache);
    let manifest = |text: &str| world.write("etc/a.json", text.as_bytes());
    manifest(r#"{"library": "libb.so.1"}"#);
    let profile = world.profile().programs(["/usr/bin/tool"]).unwrap();
    let profile = profile.manifests(["/etc/a.json"], "library").unwrap();
    let is_spared = |change: &dyn Fn()| {
        let marked = world
            .settled(&profile)
            .replace("needed-by /opt/modules/a.so", "needed-by /mark");
        assert_eq!(marked.matches("needed-by /mark").count(), 1, "{marked}");
        let older: Witness = marked.parse().unwrap();
        change();
        let newer = profile.observe_again(&older).unwrap();
        assert_eq!(told(&newer, &profile), NOTHING);
        newer.to_string().contains("needed-by /mark")
    };
    assert!(is_spared(&|| ()));
    assert!(is_spared(
        &|| world.put("opt/elsewhere/liba.so.1", &Elf::default())
    ));
    let changes: [&dyn Fn(); 9] = [
        &|| manifest(r#"{"library": "liba.so.1"}"#),
        &|| {
            world.put(
                MODULE,
                &Elf {
                    mark: 1,
                    ..module.clone()
                },
            )
        },
        &|| world.put("opt/modules/b.so", &Elf::default()),
        &|| {
            let tool = Elf {
                mark: 1,
                ..needs(["liba.so.1"])
            };
            world.put("usr/bin/tool", &tool);
        },
        &|| {
            world.put(
                "usr/lib64/libb.so.1",
                &Elf {
                    mark: 1,
                    ..Elf::default()
                },
            )
        },
        &|| world.put("opt/first/new", &Elf::default()),
        &|| {
            world.put(
                "opt/32/liba.so.1",
                &Elf {
                    is_32: true,
                    mark: 1,
                    ..Elf::default()
                },
            )
        },
        &|| world.write_cache(&cache),
        &|| world.put("usr/lib/libmissing.so.1", &Elf::default()),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        assert!(!is_spared(change), "{index}");
    }
}

#[test]
fn a_text_that_lost_the_line_of_a_library_proves_nothing() {
    let world = spice();
    let text = world.settled(&world.profile());
    let kept = text.lines().filter(|line| !line.contains("libssl"));
    let mut kept: Vec<String> = kept.map(str::to_owned).collect();
    let last = kept.len() - 1;
    kept[last] = format!("end {last}");
    let witness: Witness = format!("{}\n", kept.join("\n")).parse().unwrap();
    let told = told(&witness, &world.profile());
    assert_eq!(
        told,
        ["library libssl.so.3 added, which libspice-server.so.1 needs"]
    );
}
