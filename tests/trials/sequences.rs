//! Random sequences of real file operations, with every verdict held against a plain comparison of all contents.
//!
//! A stat identity is evidence only some seconds after the last write, and just that half of a verdict is the
//! interesting one. So there are `Settle` steps in a sequence, and while one sequence waits others run: thousands of them
//! are under way at once, and hardly a second is slept.
//!
//! Each sequence runs once more without these steps, and with a watch beside the whole checks. inotify(7) has room for
//! some hundred watches at once, and a sequence that never waits is soon over.
//!
//! `MODSTAMP_SEED=SEED` repeats a run, `MODSTAMP_SEED=SEED/CASE` one sequence of it; `MODSTAMP_SEQUENCES=N` sets their number.

use std::collections::hash_map::{DefaultHasher, RandomState};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hash, Hasher};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use filetime::FileTime;
use modstamp::{Profile, Root, Verdict, Watch, Witness};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use rustix::fs::{CWD, FileType, Mode, RenameFlags};
use support::test::{NOTHING, Needs, Test, test};

/// How many are under way at once. More would take more memory, fewer would have to sleep.
const UNDER_WAY: u64 = 4000;
/// A ctime that a write left must be older than three seconds, counted in whole ones, to be evidence.
const SETTLED: Duration = Duration::from_millis(4100);
/// How many witnesses, the last ones, are judged.
const MOST_WITNESSES: usize = 3;
/// How long a sequence that disagrees is made shorter.
const SHRINKING: Duration = Duration::from_secs(180);

pub fn tests() -> Vec<Test> {
    let few = || agree(1_000);
    let many = || agree(10_000);
    vec![
        test(
            "a_thousand_agree_with_a_comparison_of_contents",
            &NOTHING,
            few,
        ),
        test(
            "ten_thousand_agree_with_a_comparison_of_contents",
            &Needs::minutes(),
            many,
        ),
    ]
}

// What a sequence is made of. Alphabets are small, so that things collide and come back to what they were.

type Place = &'static str;
type Text = &'static str;

/// The names that operations are tried on: whatever is there, or nothing.
const MODULES: &str = "usr/lib64/qemu/a.so usr/lib64/qemu/b.so usr/lib64/qemu/sub usr/lib64/qemu/sub/a.so \
    usr/lib64/qemu/sub/b.so usr/lib64/qemu/sub/sub usr/lib64/qemu/sub/sub/a.so usr/lib64/qemu/zub \
    usr/lib64/qemu/zub/a.so";
const DIRECTORIES: &str = "usr/lib64/qemu usr/lib/qemu usr/lib/a-linux-b/qemu usr/lib/a-linux-b";
const PROGRAMS: &str =
    "usr/bin/qemu-system-x86_64 usr/bin/qemu-system-arm usr/bin/other usr/bin etc/qemu.conf";
/// What only links lead to.
const OUTSIDE: &str = "opt/a.so opt/sub opt/sub/a.so opt/link usr/lib/qemu/a.so opt/away";
/// Where something is put for a moment.
const AWAY: Place = "opt/away";
/// What is there before the random rest.
const BEGINNING: &str = "usr/lib64/qemu/a.so usr/lib64/qemu/sub/a.so usr/lib64/qemu/sub/sub/a.so usr/lib/a-linux-b/a.so \
    usr/bin/qemu-system-x86_64 etc/qemu.conf opt/a.so opt/sub/a.so";
const CONTENTS: [Text; 4] = ["one", "two", "three", ""];
const TARGETS: &str = "a.so b.so sub ../a.so . .. nowhere /opt/a.so /opt/sub /opt/link /usr/lib64/qemu/sub \
    /usr/lib64/qemu ../../../opt/sub/../a.so";
/// Links that give directories more names, by a way that is not seen in the module directory.
const SECOND_NAMES: [(Place, Text); 4] = [
    ("opt/link", "/usr/lib64/qemu/sub"),
    ("usr/lib64/qemu/zub", "/opt/link"),
    ("usr/lib/qemu", "/usr/lib64/qemu"),
    ("usr/lib/a-linux-b/qemu", "/usr/lib64/qemu"),
];
const MTIMES: [i64; 4] = [0, 1, 1_000_000_000, 4_000_000_000];

#[derive(Debug, Clone)]
struct Case {
    tree: Vec<(Place, Verb)>,
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    Do(Place, Verb),
    /// The same, and the mtimes of what it is done to are put back, and of the directories around.
    DoQuietly(Place, Verb),
    Witness,
    /// A witness that takes over from the last one what is still the same.
    TrustingWitness,
    /// The last witnesses are judged.
    Check,
    Settle,
}

/// What is done to a place.
#[derive(Debug, Clone)]
enum Verb {
    /// In place, through a link, too.
    Write(Text),
    WriteTheSame,
    Append(Text),
    Truncate,
    ReplaceByRename(Text),
    MakeDirectory,
    MakeFifo,
    /// In the place of whatever is there.
    MakeLink(Text),
    HardLinkAs(Place),
    Remove,
    Empty,
    RenameTo(Place),
    ExchangeWith(Place),
    /// Takes the other's place, with the mtimes, and all that is below.
    CopyTo(Place),
    Redeploy,
    /// In octal.
    Chmod(Text),
    Chown(u32),
    SetMtime(i64),
}
use Verb::*;

fn word(words: &'static str) -> impl Strategy<Value = &'static str> {
    select(words.split_whitespace().collect::<Vec<_>>())
}

fn cases() -> impl Strategy<Value = Case> {
    let place = || {
        prop_oneof![
            12 => word(MODULES),
            2 => word(DIRECTORIES),
            3 => word(PROGRAMS),
            4 => word(OUTSIDE),
        ]
    };
    let text = || select(&CONTENTS[..]);
    let make = || {
        prop_oneof![
            4 => text().prop_map(Write),
            2 => Just(MakeDirectory),
            2 => word(TARGETS).prop_map(MakeLink),
        ]
    };
    let verb = || {
        prop_oneof![
            6 => make(),
            2 => Just(WriteTheSame),
            1 => text().prop_map(Append),
            1 => Just(Truncate),
            2 => text().prop_map(ReplaceByRename),
            1 => Just(MakeFifo),
            2 => place().prop_map(HardLinkAs),
            3 => Just(Remove),
            1 => Just(Empty),
            3 => place().prop_map(RenameTo),
            3 => place().prop_map(ExchangeWith),
            2 => place().prop_map(CopyTo),
            3 => Just(Redeploy),
            2 => word("644 755 700").prop_map(Chmod),
            1 => (0..2_u32).prop_map(Chown),
            3 => select(&MTIMES[..]).prop_map(SetMtime),
        ]
    };
    let there_and_back = |there: Step, back: Step| vec![there, Step::Check, back, Step::Check];
    // Simplified to the first of these, if not to none at all.
    let group = prop_oneof![
        1 => Just(vec![]),
        16 => (place(), verb()).prop_map(|(at, verb)| vec![Step::Do(at, verb)]),
        8 => (place(), verb()).prop_map(|(at, verb)| vec![Step::DoQuietly(at, verb)]),
        1 => (place(), place()).prop_map(move |(at, other)| {
            there_and_back(Step::Do(at, ExchangeWith(other)), Step::Do(at, ExchangeWith(other)))
        }),
        1 => place().prop_map(move |at| {
            there_and_back(Step::Do(at, RenameTo(AWAY)), Step::Do(AWAY, RenameTo(at)))
        }),
        6 => Just(vec![Step::Check]),
        2 => Just(vec![Step::Witness]),
        2 => Just(vec![Step::Settle, Step::Check]),
        2 => Just(vec![Step::Settle, Step::Witness]),
        2 => Just(vec![Step::Settle, Step::TrustingWitness]),
    ];
    let tree = prop_oneof![
        8 => (place(), make()),
        2 => select(&SECOND_NAMES[..]).prop_map(|(at, to)| (at, MakeLink(to))),
    ];
    let tree = vec(option::weighted(0.95, tree), 0..12);
    (tree, vec(group, 0..25)).prop_map(|(tree, groups)| {
        let mut steps = groups.concat();
        if !matches!(steps[..], [Step::Settle, ..]) {
            steps.insert(0, Step::Witness);
        }
        steps.push(Step::Check);
        let tree = tree.into_iter().flatten().collect();
        Case { tree, steps }
    })
}

/// The sequence of that number, by its strategy: it can be had again and simplified.
fn tree(seed: u64, number: u64) -> impl ValueTree<Value = Case> {
    // XorShift is quick, but must begin with bits that are mixed well.
    let mixed = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (seed, number, salt).hash(&mut hasher);
        hasher.finish().to_le_bytes()
    };
    let bytes = [mixed(0), mixed(1)].concat();
    let random = TestRng::from_seed(RngAlgorithm::XorShift, &bytes);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), random);
    cases().new_tree(&mut runner).unwrap()
}

/// The sequence of that number. Odd ones are those before them, without a wait.
fn sequence(seed: u64, number: u64) -> Case {
    let case = tree(seed, number / 2).current();
    match number % 2 {
        0 => case,
        _ => hurried(case),
    }
}

fn hurried(mut case: Case) -> Case {
    case.steps.retain(|step| !matches!(step, Step::Settle));
    case
}

// The operations. Links in a scratch root may be absolute, and then the kernel would follow them out of it: everything
// is done at names that were resolved before.

/// Where `place` is, the links on the way to it resolved, and not itself.
fn at(root: &Path, place: &str) -> io::Result<PathBuf> {
    let path = Path::new(place);
    let parent = resolve(root, path.parent().unwrap()).ok_or(io::ErrorKind::NotFound)?;
    assert!(parent.canonicalize()?.starts_with(root), "{parent:?}");
    Ok(parent.join(path.file_name().unwrap()))
}

/// Where what a file operation does to `place` is done, if it is no link to nothing.
fn file(root: &Path, place: &str) -> io::Result<PathBuf> {
    let path = at(root, place)?;
    match fs::symlink_metadata(&path) {
        Err(_) => Ok(path),
        Ok(_) => resolve(root, Path::new(place))
            .filter(|path| path.is_file())
            .ok_or(io::ErrorKind::NotFound.into()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(from)?;
    if meta.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else if meta.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
        fs::set_permissions(to, meta.permissions())?;
    } else if meta.is_file() {
        fs::copy(from, to)?;
    } else {
        make_fifo(to, meta.mode())?;
    }
    if rustix::process::geteuid().is_root() {
        lchown(to, Some(meta.uid()), Some(meta.gid()))?;
    }
    set_mtime(to, FileTime::from_last_modification_time(&meta))
}

fn make_fifo(path: &Path, mode: u32) -> io::Result<()> {
    let mode = Mode::from_raw_mode(mode);
    Ok(rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0)?)
}

fn set_mtime(path: &Path, time: FileTime) -> io::Result<()> {
    filetime::set_symlink_file_times(path, time, time)
}

/// Does it. Much of it cannot be done where it is tried, and then nothing is different.
fn apply(root: &Path, place: Place, verb: &Verb) -> io::Result<()> {
    let path = at(root, place)?;
    let other = |place: Place| at(root, place);
    let file = || file(root, place);
    let spare = root.join("spare");
    match *verb {
        Write(text) => fs::write(file()?, text),
        WriteTheSame => fs::write(file()?, fs::read(file()?)?),
        Append(text) => {
            let mut file = File::options().append(true).open(file()?)?;
            file.write_all(text.as_bytes())
        }
        Truncate => File::options().write(true).open(file()?)?.set_len(1),
        ReplaceByRename(text) => {
            // A copy whose rename failed may have left a FIFO there, which a write would wait for.
            let _ = remove(&spare);
            fs::write(&spare, text)?;
            fs::rename(&spare, path)
        }
        MakeDirectory => fs::create_dir(path),
        MakeFifo => make_fifo(&path, 0o644),
        MakeLink(target) => {
            let _ = remove(&path);
            symlink(target, path)
        }
        HardLinkAs(place) => fs::hard_link(path, other(place)?),
        Remove => remove(&path),
        Empty if fs::symlink_metadata(&path)?.is_dir() => {
            fs::read_dir(path)?.try_for_each(|entry| remove(&entry?.path()))
        }
        Empty => Ok(()),
        RenameTo(place) => fs::rename(path, other(place)?),
        ExchangeWith(place) => {
            let flags = RenameFlags::EXCHANGE;
            Ok(rustix::fs::renameat_with(
                CWD,
                path,
                CWD,
                other(place)?,
                flags,
            )?)
        }
        CopyTo(place) => put_copy(&path, &spare, &other(place)?),
        Redeploy => put_copy(&path, &spare, &path),
        Chmod(mode) => {
            let path = resolve(root, Path::new(place)).ok_or(io::ErrorKind::NotFound)?;
            // A directory stays one that its owner can look into.
            let mode = u32::from_str_radix(mode, 8).unwrap();
            let mode = if path.is_dir() { mode | 0o100 } else { mode };
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        }
        Chown(owner) => lchown(path, Some(owner), Some(owner)),
        SetMtime(time) => set_mtime(&path, FileTime::from_unix_time(time, 0)),
    }
}

fn put_copy(from: &Path, spare: &Path, to: &Path) -> io::Result<()> {
    let _ = remove(spare);
    copy(from, spare)?;
    let _ = remove(to);
    fs::rename(spare, to)
}

fn apply_quietly(root: &Path, place: Place, verb: &Verb) -> io::Result<()> {
    let other = match *verb {
        HardLinkAs(other) | RenameTo(other) | ExchangeWith(other) | CopyTo(other) => other,
        _ => place,
    };
    let mut times = Vec::new();
    for path in [at(root, place), at(root, other), file(root, place)]
        .into_iter()
        .flatten()
    {
        for path in [path.as_path(), path.parent().unwrap()] {
            if let Ok(meta) = fs::symlink_metadata(path) {
                times.push((
                    path.to_owned(),
                    FileTime::from_last_modification_time(&meta),
                ));
            }
        }
    }
    let done = apply(root, place, verb);
    times
        .iter()
        .for_each(|(path, time)| drop(set_mtime(path, *time)));
    done
}

// The oracle: everything that there is, by name. It reads all files each time, so that their atimes move, too.

type Listing = BTreeMap<String, String>;

/// All that a profile depends on, as somebody sees it who loads modules by it.
fn listing(root: &Path) -> Listing {
    let mut listing = Listing::new();
    let below_lib = names(root, "usr/lib").into_iter();
    let of_architectures = below_lib.filter(|name| name.contains("-linux-"));
    let by_pattern = of_architectures.map(|name| Path::new("usr/lib").join(name).join("qemu"));
    let mut tops = Vec::new();
    for path in by_pattern {
        let is_file = resolve(root, &path).is_some_and(|it| it.is_file());
        match entry(root, &path).filter(|_| is_file) {
            // Of what a pattern matches, a file counts by its content.
            Some(entry) => drop(listing.insert(path.display().to_string(), entry)),
            None => tops.push(path),
        }
    }
    let programs = names(root, "usr/bin")
        .into_iter()
        .filter(|name| name.starts_with("qemu-system-"));
    let programs = programs.map(|name| format!("usr/bin/{name}"));
    // A directory counts with all that is in it, and a file by its content, in whichever list.
    let plain = ["usr/lib/qemu", "usr/lib64/qemu", "etc/qemu.conf"].map(str::to_owned);
    for path in programs.chain(plain) {
        let is_module_directory = path.starts_with("usr/lib");
        let path = PathBuf::from(path);
        if directory(root, &path).is_some() {
            tops.push(path);
        } else if !is_module_directory || resolve(root, &path).is_some_and(|it| it.exists()) {
            if let Some(entry) = entry(root, &path) {
                listing.insert(path.display().to_string(), entry);
            }
        }
    }
    tops.sort();
    let mut seen = HashMap::new();
    for top in tops {
        let Some(real) = directory(root, &top) else {
            continue;
        };
        let name = format!("{}:", top.display());
        if let Some(first) = seen.insert(identity(&real), name.clone()) {
            listing.insert(name, format!("the same as {first}"));
            seen.insert(identity(&real), first);
            continue;
        }
        walk(root, &real, &name, &mut HashMap::new(), &mut listing);
        listing.insert(name, facts(&real));
    }
    listing
}

/// Adds what is in the directory `real`, and below it. One that was walked already stands with the name it has there.
fn walk(
    root: &Path,
    real: &Path,
    name: &str,
    walked: &mut HashMap<Identity, String>,
    listing: &mut Listing,
) {
    walked.insert(identity(real), name.to_owned());
    let real = real.strip_prefix(root).unwrap();
    for entry_name in names(root, real) {
        let (real, name) = (real.join(&entry_name), format!("{name}/{entry_name}"));
        let mut text = entry(root, &real).unwrap();
        if let Some(below) = directory(root, &real) {
            match walked.get(&identity(&below)) {
                Some(first) => text += &format!(", the same as {first}"),
                None => walk(root, &below, &name, walked, listing),
            }
        }
        listing.insert(name, text);
    }
}

/// What is at a path, and what that leads to; `None` where there is nothing.
fn entry(root: &Path, path: &Path) -> Option<String> {
    let real = resolve(root, path.parent()?)?.join(path.file_name()?);
    let is_link = fs::symlink_metadata(&real).ok()?.is_symlink();
    let text = facts(&real);
    Some(match resolve(root, path).filter(|_| is_link) {
        Some(target) => format!("{text} to {}", facts(&target)),
        None => text,
    })
}

fn facts(path: &Path) -> String {
    let meta = fs::symlink_metadata(path).unwrap();
    let content = match meta.file_type() {
        kind if kind.is_file() => format!("file {:?}", fs::read_to_string(path).unwrap()),
        kind if kind.is_symlink() => format!("link {:?}", fs::read_link(path).unwrap()),
        kind => if kind.is_dir() { "directory" } else { "FIFO" }.to_owned(),
    };
    format!(
        "{content} {:o} {}:{}",
        meta.mode() & 0o7777,
        meta.uid(),
        meta.gid()
    )
}

type Identity = (u64, u64);

fn identity(path: &Path) -> Identity {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.dev(), meta.ino())
}

/// The directory that a path leads to.
fn directory(root: &Path, path: &Path) -> Option<PathBuf> {
    resolve(root, path).filter(|real| real.is_dir())
}

/// The names in a directory, sorted.
fn names(root: &Path, path: impl AsRef<Path>) -> Vec<String> {
    let read = directory(root, path.as_ref()).map(|real| fs::read_dir(real).unwrap());
    let mut names: Vec<String> = read
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Follows all links as path_resolution(7) does, with `root` for `/`.
fn resolve(root: &Path, path: &Path) -> Option<PathBuf> {
    let reversed = |path: &Path| {
        path.components()
            .rev()
            .map(|step| step.as_os_str().to_owned())
            .collect()
    };
    let mut todo: Vec<OsString> = reversed(path);
    let (mut real, mut links) = (root.to_owned(), 0);
    while let Some(step) = todo.pop() {
        match Path::new(&step).components().next()? {
            Component::RootDir => real = root.to_owned(),
            Component::CurDir => {}
            Component::ParentDir => {
                if !fs::symlink_metadata(&real).ok()?.is_dir() {
                    return None;
                }
                if real != root {
                    real.pop();
                }
            }
            _ => {
                real.push(&step);
                if fs::symlink_metadata(&real).ok()?.is_symlink() {
                    links += 1;
                    if links > 40 {
                        return None;
                    }
                    let target: Vec<OsString> = reversed(&fs::read_link(&real).ok()?);
                    todo.extend(target);
                    real.pop();
                }
            }
        }
    }
    Some(real)
}

// The run.

/// A sequence under way, in a scratch root of its own.
struct World {
    number: u64,
    case: Case,
    done: usize,
    root: PathBuf,
    taken: Vec<(String, Listing)>,
    /// If the sequence never waits.
    watch: Option<Watch>,
    since: Instant,
}

static OPERATIONS: AtomicU64 = AtomicU64::new(0);
static FRESH: AtomicU64 = AtomicU64::new(0);
static FRESH_BY_STAT: AtomicU64 = AtomicU64::new(0);
static STALE: AtomicU64 = AtomicU64::new(0);

impl World {
    fn new(base: &Path, number: u64, case: Case) -> World {
        let root = base.join(number.to_string());
        let write = |place: &str, text| {
            let path = root.join(place);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        BEGINNING.split(' ').for_each(|place| write(place, "one"));
        let profile = "etc/modstamp/profiles.d/qemu.toml";
        write(profile, "files = [\"/etc/qemu.conf\"]");
        for (place, verb) in &case.tree {
            let _ = apply(&root, place, verb);
        }
        let (done, taken, since) = (0, Vec::new(), Instant::now());
        let waits = case.steps.iter().any(|step| matches!(step, Step::Settle));
        let watch = (!waits).then(|| load(&root).watch().unwrap());
        World {
            number,
            case,
            done,
            root,
            taken,
            watch,
            since,
        }
    }

    /// Goes on until the next step that has to wait; false where there is none. The error says how verdicts disagree.
    fn go_on(&mut self) -> Result<bool, String> {
        let profile = load(&self.root);
        let count = |done: io::Result<()>| OPERATIONS.fetch_add(done.is_ok().into(), Relaxed);
        while let Some(step) = self.case.steps.get(self.done) {
            self.done += 1;
            match step {
                Step::Do(place, verb) => drop(count(apply(&self.root, place, verb))),
                Step::DoQuietly(place, verb) => drop(count(apply_quietly(&self.root, place, verb))),
                Step::Witness => self.take(&profile.observe().unwrap()),
                Step::TrustingWitness => {
                    let older = self.taken.last().map(|(older, _)| older.parse().unwrap());
                    let witness = older.map(|older: Witness| profile.observe_again(&older));
                    self.take(&witness.unwrap_or_else(|| profile.observe()).unwrap());
                }
                Step::Check => self.check(&profile)?,
                Step::Settle => {
                    self.since = Instant::now();
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn take(&mut self, witness: &Witness) {
        self.taken.push((witness.to_string(), listing(&self.root)));
    }

    fn check(&mut self, profile: &Profile) -> Result<(), String> {
        let now = listing(&self.root);
        let inputs = profile.inputs().unwrap();
        for (text, then) in self.taken.iter().rev().take(MOST_WITNESSES) {
            let witness: Witness = text.parse().unwrap();
            let (_, before) = bytes_read();
            let checked = witness.check(profile).unwrap();
            let is_by_stat = bytes_read().0 == before;
            let watched = self.watch.as_mut().map(|it| it.check(&witness).unwrap());
            let judged = witness.judge(&inputs);
            for verdict in [&checked, &judged].into_iter().chain(&watched) {
                if verdict.is_fresh() != (*then == now) {
                    return Err(disagreement(verdict, then, &now));
                }
            }
            match (checked.is_fresh(), is_by_stat) {
                (true, true) => FRESH_BY_STAT.fetch_add(1, Relaxed),
                (true, false) => FRESH.fetch_add(1, Relaxed),
                (false, _) => STALE.fetch_add(1, Relaxed),
            };
        }
        Ok(())
    }
}

fn load(root: &Path) -> Profile {
    Profile::load_in("qemu", &Root::open(root).unwrap()).unwrap()
}

fn disagreement(verdict: &Verdict, then: &Listing, now: &Listing) -> String {
    let mut text = match verdict {
        Verdict::Fresh => "The verdict is fresh, but".to_owned(),
        Verdict::Stale(_) => format!(
            "The verdict is stale: {:#?}\nand",
            verdict.reasons_for_people(9)
        ),
    };
    for (sign, of, other) in [('-', then, now), ('+', now, then)] {
        for (name, what) in of
            .iter()
            .filter(|(name, what)| other.get(*name) != Some(what))
        {
            write!(text, "\n{sign} {name} {what}").unwrap();
        }
    }
    if then == now {
        write!(text, " nothing differs in {now:#?}").unwrap();
    }
    text
}

/// How many bytes this thread has read, where the kernel counts them, before this very question and after it.
fn bytes_read() -> (u64, u64) {
    thread_local!(static IO: Option<File> = File::open("/proc/thread-self/io").ok());
    let mut buffer = [0; 256];
    let length = IO.with(|io| {
        io.as_ref()
            .map_or(0, |io| io.read_at(&mut buffer, 0).unwrap_or(0))
    });
    let text = String::from_utf8_lossy(&buffer[..length]);
    let count = text
        .lines()
        .find_map(|line| line.strip_prefix("rchar: ")?.parse().ok());
    let count: u64 = count.unwrap_or(0);
    (count, count + length as u64)
}

/// Runs sequences until `most` of them disagree, as many at once as it takes for none to wait long. Returns which, and how.
fn run(cases: &(dyn Fn(u64) -> Option<Case> + Sync), most: usize) -> Vec<(u64, String)> {
    let base = tempfile::tempdir_in(scratch()).unwrap();
    let path = base.path().canonicalize().unwrap();
    let threads = 4 * thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let next = AtomicU64::new(0);
    let found = Mutex::new(Vec::new());
    let work = || {
        let mut waiting: VecDeque<World> = VecDeque::new();
        let mut is_last = false;
        while found.lock().unwrap().len() < most && !(is_last && waiting.is_empty()) {
            let is_settled = |world: &World| world.since.elapsed() >= SETTLED;
            let is_full = waiting.len() as u64 >= UNDER_WAY / threads;
            let mut world = if is_last || is_full || waiting.front().is_some_and(is_settled) {
                let world = waiting.pop_front().unwrap();
                thread::sleep(SETTLED.saturating_sub(world.since.elapsed()));
                world
            } else {
                let number = next.fetch_add(1, Relaxed);
                let Some(case) = cases(number) else {
                    is_last = true;
                    continue;
                };
                World::new(&path, number, case)
            };
            let went = catch_unwind(AssertUnwindSafe(|| world.go_on()));
            match went.unwrap_or_else(|_| Err("it panicked".to_owned())) {
                Ok(true) => waiting.push_back(world),
                Ok(false) => fs::remove_dir_all(&world.root).unwrap(),
                Err(how) => found.lock().unwrap().push((world.number, how)),
            }
        }
    };
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    found.into_inner().unwrap()
}

/// Where there is memory for files, to be quick.
fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => memory.to_owned(),
        false => std::env::temp_dir(),
    }
}

/// The simplest sequence to be found that disagrees, beginning with the one of that number.
///
/// proptest tries one after the other, and each may have to settle. So what it would try next is run at once, for several
/// guesses at what of it will disagree, and then it is asked again.
fn simplest(seed: u64, number: u64, how: String) -> (Case, String) {
    const GUESSES: [u64; 5] = [
        0,
        u64::MAX,
        0x5555_5555_5555_5555,
        0x7777_7777_7777_7777,
        0xFF00_FF00_FF00_FF00,
    ];
    let begun = Instant::now();
    let run = |cases: &[Case]| run(&|number| cases.get(number as usize).cloned(), usize::MAX);
    let original = sequence(seed, number);
    let must_settle = run(&[hurried(original.clone())]).is_empty();
    let prepared = |case: Case| if must_settle { case } else { hurried(case) };
    let key = |case: &Case| format!("{case:?}");
    let original = prepared(original);
    let mut known = HashMap::from([(key(&original), (original, Some(how)))]);
    while begun.elapsed() < SHRINKING {
        let mut unknown = HashMap::new();
        for guess in GUESSES {
            let (mut tree, mut guessed) = (tree(seed, number / 2), 0);
            let mut goes_on = true;
            while goes_on && guessed < u64::BITS {
                let case = prepared(tree.current());
                let disagrees = match known.get(&key(&case)) {
                    Some((_, how)) => how.is_some(),
                    None => {
                        unknown.insert(key(&case), case);
                        guessed += 1;
                        guess >> (guessed - 1) & 1 == 1
                    }
                };
                goes_on = if disagrees {
                    tree.simplify()
                } else {
                    tree.complicate()
                };
            }
            if unknown.is_empty() {
                break;
            }
        }
        let unknown: Vec<Case> = unknown.into_values().collect();
        if unknown.is_empty() {
            break;
        }
        let mut found: HashMap<u64, String> = run(&unknown).into_iter().collect();
        for (number, case) in (0..).zip(unknown) {
            known.insert(key(&case), (case, found.remove(&number)));
        }
    }
    let disagreeing = known
        .into_values()
        .filter_map(|(case, how)| Some((case, how?)));
    disagreeing.min_by_key(|(case, _)| key(case).len()).unwrap()
}

fn agree(count: u64) {
    let given = std::env::var("MODSTAMP_SEED").unwrap_or_default();
    let (seed, only) = match given.split_once('/') {
        Some((seed, number)) => (
            seed,
            Some(number.parse::<u64>().expect("MODSTAMP_SEED=SEED/CASE")),
        ),
        None => (given.as_str(), None),
    };
    let seed = match seed {
        "" => RandomState::new().build_hasher().finish(),
        seed => seed.parse().expect("MODSTAMP_SEED=SEED, a number"),
    };
    let count = match std::env::var("MODSTAMP_SEQUENCES") {
        Ok(count) => count.parse().expect("MODSTAMP_SEQUENCES=N, a number"),
        Err(_) => count,
    };
    eprintln!("seed {seed}, in {}", scratch().display());
    let case = |number| {
        let is_one = number < only.map_or(2 * count, |_| 1);
        is_one.then(|| sequence(seed, only.unwrap_or(number)))
    };
    if let Some((number, how)) = run(&case, 1).into_iter().next() {
        let number = only.unwrap_or(number);
        eprintln!("sequence {number} disagrees; making it shorter");
        let (case, how) = simplest(seed, number, how);
        let mut text = format!("MODSTAMP_SEED={seed}/{number} repeats this. Made shorter:\n");
        for made in &case.tree {
            writeln!(text, "     {made:?}").unwrap();
        }
        for (number, step) in case.steps.iter().enumerate() {
            writeln!(text, "{number:4} {step:?}").unwrap();
        }
        panic!("{text}{how}");
    }
    let [operations, by_stat, by_content, stale] =
        [&OPERATIONS, &FRESH_BY_STAT, &FRESH, &STALE].map(|count| count.load(Relaxed));
    let fresh = by_stat + by_content;
    eprintln!(
        "{count} sequences, each twice, {operations} operations, {} verdicts ({fresh} fresh, {by_stat} of them by stat alone; {stale} \
         stale), seed {seed}",
        fresh + stale
    );
    // What hardly ever happens is not tested.
    let rare = (fresh + stale) / 20;
    let is_rare = |count: &u64| *count <= rare;
    assert!(
        only.is_some() || ![by_stat, by_content, stale].iter().any(is_rare),
        "one kind of verdict is too rare"
    );
}
