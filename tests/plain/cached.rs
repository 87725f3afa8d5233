//! `modstamp::cached`: the stored answer while it is fresh, the probe's otherwise. These tests need
//! nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use filetime::FileTime;
use modstamp::{Answer, NotKept, Profile, Root, Verdict, cached};
use support::world::{GTK, STAMP, World, sentences};

/// A world, and a program that keeps the names of its modules in one file.
struct Program {
    world: World,
    file: PathBuf,
    probes: AtomicUsize,
}

impl Program {
    fn new() -> Program {
        let world = World::new();
        let file = world.beside("cache").join("answer");
        Program {
            world,
            file,
            probes: AtomicUsize::new(0),
        }
    }

    /// Counts a probe, and returns its answer: what the modules hold.
    fn probe(&self) -> Vec<u8> {
        self.probes.fetch_add(1, Ordering::SeqCst);
        let gtk = fs::read(self.world.path(GTK)).unwrap_or_default();
        [b"gtk: ", &*gtk].concat()
    }

    fn ask_in(&self, file: &Path) -> Answer {
        cached(&self.world.profile, file, || Ok::<_, ()>(self.probe())).unwrap()
    }

    fn ask(&self) -> Answer {
        self.ask_in(&self.file)
    }

    /// Asks, while something happens during the probe.
    fn ask_while(&self, during: impl FnOnce()) -> Answer {
        let probe = || {
            let answer = self.probe();
            during();
            Ok::<_, ()>(answer)
        };
        cached(&self.world.profile, &self.file, probe).unwrap()
    }

    fn probes(&self) -> usize {
        self.probes.load(Ordering::SeqCst)
    }

    /// Asks again, and returns why. After that the answer is fresh.
    #[track_caller]
    fn why(&self) -> String {
        let before = self.probes();
        let answer = self.ask();
        assert_eq!(self.probes(), before + 1);
        let verdict = answer.verdict.expect("there was an answer");
        assert!(answer.not_kept.is_none(), "{:?}", answer.not_kept);
        assert!(is_served(&self.ask()));
        sentences(&verdict).join("\n")
    }
}

fn is_served(answer: &Answer) -> bool {
    assert!(answer.not_kept.is_none(), "{:?}", answer.not_kept);
    answer.verdict == Some(Verdict::Fresh)
}

#[track_caller]
fn why_not_kept(answer: &Answer) -> String {
    answer.not_kept.as_ref().expect("it is kept").to_string()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn an_answer_is_served_while_nothing_changed() {
    let program = Program::new();
    let first = program.ask();
    assert_eq!(first.bytes, b"gtk: before 1");
    assert!(first.verdict.is_none() && first.not_kept.is_none());
    for _ in 0..3 {
        let answer = program.ask();
        assert!(is_served(&answer));
        assert_eq!(answer.bytes, first.bytes);
    }
    // Other inodes and times for the same contents are no change.
    program.world.put_back();
    assert!(is_served(&program.ask()));
    assert!(is_served(&program.ask()));
    assert_eq!(program.probes(), 1);
}

#[test]
fn any_bytes_are_an_answer() {
    let program = Program::new();
    let big: Vec<u8> = (0..3_000_000u32).map(|number| number as u8).collect();
    for bytes in [&b""[..], b"\0\n\xff\nmodstamp-cache 3 ", &big] {
        let file = program.file.with_file_name(bytes.len().to_string());
        for _ in 0..2 {
            let probe = || Ok::<_, ()>(bytes);
            let answer = cached(&program.world.profile, &file, probe).unwrap();
            assert!(answer.bytes == bytes);
        }
        assert!(is_served(&program.ask_in(&file)));
    }
}

#[test]
fn a_change_asks_again_and_says_why() {
    let program = Program::new();
    program.ask();
    program.world.write(GTK, "after");
    let why = "module ui-gtk.so in /usr/lib64/qemu changed: its size was 8 bytes, now 5 bytes";
    assert_eq!(program.why(), why);
    assert_eq!(program.ask().bytes, b"gtk: after");
}

#[test]
fn a_touch_asks_again_and_says_why() {
    let program = Program::new();
    program.ask();
    let time = FileTime::from_unix_time(1_600_000_001, 0);
    filetime::set_file_mtime(program.world.path(STAMP), time).unwrap();
    assert!(program.why().starts_with("system stamp touched"));
}

#[test]
fn a_torn_file_asks_again_and_says_why() {
    let program = Program::new();
    program.ask();
    let whole = fs::read(&program.file).unwrap();
    let told = format!("the answer in {} is cut off", program.file.display());
    for length in ("modstamp-cache ".len()..whole.len()).step_by(97) {
        fs::write(&program.file, &whole[..length]).unwrap();
        assert_eq!(program.why(), told, "cut off after {length} bytes");
    }
    fs::write(&program.file, [&whole[..], b"x"].concat()).unwrap();
    assert_eq!(program.why(), told);
    fs::write(&program.file, "").unwrap();
    assert!(program.ask().verdict.is_none());
    assert!(is_served(&program.ask()));
}

#[test]
fn an_answer_of_another_version_costs_one_probe_and_is_replaced() {
    let program = Program::new();
    fs::create_dir_all(program.file.parent().unwrap()).unwrap();
    for version in ["1 0 0 0", "2 0 0 0 0", "4 0 0 0 0", "300"] {
        let text = format!("modstamp-cache {version}\n");
        fs::write(&program.file, text).unwrap();
        let told = "is of another version of modstamp";
        assert!(program.why().ends_with(told), "{version}");
    }
    for numbers in ["", "x", "1 2 3", "99999999999999999999 0 0 0", "-1 0 0 0"] {
        let text = format!("modstamp-cache 3 {numbers}\n");
        fs::write(&program.file, text).unwrap();
        assert!(program.why().ends_with("is cut off"), "{numbers}");
    }
    let most = u64::MAX;
    let text = format!("modstamp-cache 3 0 0 {most} {most}\n");
    fs::write(&program.file, text).unwrap();
    assert!(program.why().ends_with("is cut off"));
}

#[test]
fn another_profile_asks_again_and_says_why() {
    let mut program = Program::new();
    program.ask();
    let text = "module-directories = [\"/usr/lib64/qemu\"]";
    program
        .world
        .write("etc/modstamp/profiles.d/other.toml", text);
    let root = Root::open(&program.world.path("")).unwrap();
    program.world.profile = Profile::load_in("other", &root).unwrap();
    let why = program.why();
    assert!(why.contains("is of the profile qemu"), "{why}");
}

#[test]
fn another_root_asks_again_and_says_why() {
    let (program, other) = (Program::new(), World::new());
    program.ask();
    let probe = || Ok::<_, ()>("other");
    let answer = cached(&other.profile, &program.file, probe).unwrap();
    assert_eq!(answer.bytes, b"other");
    let why = sentences(&answer.verdict.unwrap()).join("\n");
    assert!(why.ends_with("is to another question"), "{why}");
}

#[test]
fn a_change_during_the_probe_is_never_kept() {
    let program = Program::new();
    let world = &program.world;
    let there_and_back = || {
        world.rename(GTK, "usr/gtk");
        world.rename("usr/gtk", GTK);
    };
    let changes: [(&dyn Fn(), &str); 4] = [
        (
            &|| world.write(GTK, "after"),
            "ui-gtk.so in /usr/lib64/qemu changed",
        ),
        (&|| world.remove(GTK), "ui-gtk.so removed"),
        (&|| world.remove(STAMP), "system stamp gone"),
        (&there_and_back, "ui-gtk.so was touched during the probe"),
    ];
    for (change, why) in changes {
        world.put_back();
        let _ = fs::remove_file(&program.file);
        let told = why_not_kept(&program.ask_while(change));
        assert!(told.contains(why), "{told}");
        assert!(!program.file.exists());
        // The answer of before stays, and is stale or not by itself.
        world.put_back();
        program.ask();
        world.write("usr/lib64/qemu/new.so", "");
        let kept = fs::read(&program.file).unwrap();
        why_not_kept(&program.ask_while(change));
        assert!(fs::read(&program.file).unwrap() == kept);
    }
}

#[test]
fn concurrent_threads_share_one_probe() {
    let program = Program::new();
    let all_ask = || {
        std::thread::scope(|scope| {
            let ask = || program.ask_while(|| std::thread::sleep(Duration::from_millis(300)));
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            let answers = threads.into_iter().map(|thread| thread.join().unwrap());
            answers.collect::<Vec<_>>()
        })
    };
    for text in ["before 1", "after"] {
        program.world.write(GTK, text);
        let before = program.probes();
        let answers = all_ask();
        assert_eq!(program.probes(), before + 1);
        let expected = format!("gtk: {text}").into_bytes();
        assert!(answers.iter().all(|answer| answer.bytes == expected));
        let served = answers.iter().filter(|answer| is_served(answer));
        assert_eq!(served.count(), 7);
    }
}

#[test]
fn concurrent_threads_that_learn_leave_whole_answers() {
    let program = Program::new();
    let files: Vec<PathBuf> = (0..50)
        .map(|number| program.file.with_file_name(format!("answer-{number}")))
        .collect();
    files.iter().for_each(|file| drop(program.ask_in(file)));
    program.world.settle(); // From now on, each hit can learn until one of them has.
    let ask_all = || {
        for file in &files {
            assert!(is_served(&program.ask_in(file)), "{}", file.display());
        }
    };
    std::thread::scope(|scope| {
        (0..8).for_each(|_| drop(scope.spawn(ask_all)));
    });
    assert_eq!(program.probes(), files.len());
    let names = fs::read_dir(program.file.parent().unwrap()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_new = |name: &String| name.contains(".new.");
    assert_eq!(names.filter(is_new).count(), 0);
}

#[test]
fn a_probes_error_is_passed_on_and_the_old_answer_stays() {
    let program = Program::new();
    program.ask();
    program.world.write(GTK, "after");
    let fail = || Err::<Vec<u8>, _>("no");
    let answer = cached(&program.world.profile, &program.file, fail);
    assert_eq!(answer.unwrap_err(), "no");
    program.world.write(GTK, "before 1");
    assert!(is_served(&program.ask()));
    assert_eq!(program.probes(), 1);
}

#[test]
fn a_probe_that_panics_keeps_nobody_waiting() {
    let program = Program::new();
    let panics = || program.ask_while(|| panic!("on purpose"));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).unwrap_err();
    program.ask();
    assert!(is_served(&program.ask()));
}

#[test]
fn a_file_that_is_not_ours_is_left_as_it_is() {
    let program = Program::new();
    fs::create_dir_all(program.file.parent().unwrap()).unwrap();
    let told = format!(
        "{} is not an answer of modstamp's, so",
        program.file.display()
    );
    let texts = [
        "x",
        "modstamp-cache",
        "modstamp-cachet 3 0 0 0 0\n",
        "modstamp-witness 1 qemu\n",
    ];
    for (text, mode) in texts.iter().flat_map(|text| [(text, 0o600), (text, 0o666)]) {
        fs::write(&program.file, text).unwrap();
        set_mode(&program.file, mode);
        let answer = program.ask();
        assert_eq!(answer.bytes, b"gtk: before 1");
        let why = why_not_kept(&answer);
        assert!(why.starts_with(&told), "{why}");
        assert_eq!(fs::read_to_string(&program.file).unwrap(), *text);
    }
    fs::remove_file(&program.file).unwrap();
    // One that is put there during the probe is left alone, too.
    let why = why_not_kept(&program.ask_while(|| fs::write(&program.file, "mine").unwrap()));
    assert!(why.starts_with(&told), "{why}");
    assert_eq!(fs::read(&program.file).unwrap(), b"mine");
}

#[test]
fn a_link_a_directory_and_a_fifo_are_left_as_they_are() {
    let program = Program::new();
    program.ask();
    let moved = program.file.with_file_name("moved");
    fs::rename(&program.file, &moved).unwrap();
    type Make<'a> = &'a dyn Fn(&Path);
    let make: [(&str, Make); 3] = [
        ("is a symbolic link", &|path| symlink(&moved, path).unwrap()),
        ("is not a regular file", &|path| {
            fs::create_dir(path).unwrap()
        }),
        ("is not a regular file", &|path| {
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
        }),
    ];
    for (problem, make) in make {
        make(&program.file);
        let kind = || fs::symlink_metadata(&program.file).unwrap().file_type();
        let before = kind();
        let answer = program.ask();
        assert_eq!(answer.bytes, b"gtk: before 1");
        assert!(matches!(answer.not_kept, Some(NotKept::LeftAlone { .. })));
        assert!(why_not_kept(&answer).contains(problem));
        assert_eq!(kind(), before);
        let _ = fs::remove_file(&program.file).or_else(|_| fs::remove_dir(&program.file));
    }
}

#[test]
fn a_file_that_others_could_have_written_is_not_believed() {
    let program = Program::new();
    program.ask();
    for (mode, problem) in [
        (0o602, "can be written by every user"),
        (0o620, "can be written by group "),
    ] {
        set_mode(&program.file, mode);
        let why = program.why();
        let told = format!("{} {problem}", program.file.display());
        assert!(why.starts_with(&told), "{why}");
        assert!(why.contains("so its answer is not believed"), "{why}");
    }
}

#[test]
fn a_directory_that_others_could_bend_costs_only_the_keeping() {
    let program = Program::new();
    program.ask();
    set_mode(program.file.parent().unwrap(), 0o777);
    let why = why_not_kept(&program.ask());
    assert!(why.starts_with("refused to use the cache"), "{why}");
    assert_eq!(program.probes(), 2);
}

#[test]
fn an_unwritable_directory_costs_only_the_keeping() {
    let program = Program::new();
    let in_the_way = program.world.beside("in-the-way");
    fs::write(&in_the_way, "").unwrap();
    let cases = [
        (in_the_way.join("answer"), "cannot use the cache"),
        (PathBuf::from("/"), "cannot keep the answer in /"),
        (PathBuf::from(""), "cannot find the answer"),
        // Nobody can write there: proc(5).
        (
            PathBuf::from("/proc/self/fdinfo/answer"),
            "cannot keep the answer in",
        ),
    ];
    for (count, (file, told)) in (1..).zip(cases) {
        let answer = program.ask_in(&file);
        assert_eq!(answer.bytes, b"gtk: before 1");
        let why = why_not_kept(&answer);
        assert!(why.starts_with(told), "{why}");
        assert_eq!(program.probes(), count);
    }
    let long = "x".repeat(255); // There is no room for the names of the files beside it.
    let why = why_not_kept(&program.ask_in(&program.file.with_file_name(long)));
    assert!(why.contains("File name too long"), "{why}");
}

#[test]
fn a_missing_directory_is_made_for_the_caller_alone() {
    let program = Program::new();
    let top = program.world.beside("a");
    let file = top.join("b/answer");
    program.ask_in(&file);
    assert!(is_served(&program.ask_in(&file)));
    for path in [&top, &top.join("b")] {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{}", path.display());
    }
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn a_relative_path_begins_at_the_working_directory() {
    let program = Program::new();
    let here = std::env::current_dir().unwrap();
    let up = "../".repeat(here.components().count() - 1);
    let relative = Path::new(&up).join(program.file.strip_prefix("/").unwrap());
    assert!(relative.is_relative());
    program.ask_in(&relative);
    assert!(is_served(&program.ask()));
}

#[test]
fn an_answer_that_was_moved_to_another_file_is_asked_again() {
    let program = Program::new();
    program.ask();
    let other = program.file.with_file_name("other");
    fs::rename(&program.file, &other).unwrap();
    let answer = program.ask_in(&other);
    assert_eq!(program.probes(), 2);
    let why = answer.verdict.unwrap().reasons_for_people(1).join("");
    assert!(why.ends_with("is to another question"), "{why}");
}

#[test]
fn files_of_the_callers_beside_the_answer_are_left_as_they_are() {
    let program = Program::new();
    let names = [
        ".answer.lock",
        ".answer.news",
        ".answer.new.lock",
        ".answer.new",
    ];
    fs::create_dir(program.file.parent().unwrap()).unwrap();
    let beside = names.map(|name| program.file.with_file_name(name));
    for file in &beside {
        fs::write(file, "mine").unwrap();
    }
    program.ask();
    program.world.write(GTK, "after  1");
    program.ask();
    assert_eq!(program.probes(), 2);
    for file in beside {
        assert_eq!(
            fs::read_to_string(&file).unwrap(),
            "mine",
            "{}",
            file.display()
        );
    }
}

#[test]
fn a_profile_that_names_nothing_has_no_fresh_answer() {
    let program = Program::new();
    let profile = Profile::new("nothing").unwrap();
    for asked in 1..=2 {
        let probe = || Ok::<_, ()>(program.probe());
        let answer = cached(&profile, &program.file, probe).unwrap();
        assert!(
            matches!(answer.not_kept, Some(NotKept::NotObserved(_))),
            "{answer:?}"
        );
        assert_eq!(program.probes(), asked);
    }
}
