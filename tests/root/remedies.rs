//! The commands that make caches of other programs good, and the caches of other users.
//!
//! Each test has a scratch file system, a part of which is its `/var/lib`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::consumer::wait_until;
use support::mounted::Mounted;
use support::named;
use support::test::{self, Needs, Test};

use super::filesystems::{NOBODY, NOTHING, modstamp_for_all};

pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&["mount", "setpriv", "strace", "timeout", "unshare"]);
    test::tests(&needs, SCENARIOS).collect()
}

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![
    a_command_runs_once_for_a_change_and_not_at_all_without_one,
    a_touch_and_an_update_without_commands_leave_them_to_a_refresh,
    a_command_gets_no_shell_no_input_and_none_of_roots_variables,
    a_command_that_fails_is_told_with_its_last_line_and_runs_again,
    a_command_that_hangs_is_ended_with_all_that_it_started,
    a_command_that_leaves_a_process_behind_is_not_waited_for,
    a_command_that_floods_its_output_keeps_the_last_lines,
    a_command_that_does_not_exist_is_told_and_the_rest_goes_on,
    a_command_that_a_user_could_replace_does_not_run,
    no_command_of_a_profile_that_others_could_write_runs,
    no_file_is_removed_for_a_profile_that_others_could_write,
    a_command_runs_in_no_directory_that_others_could_fill,
    a_command_runs_once_for_two_updates_at_once,
    a_touch_while_a_command_runs_makes_the_cache_stale_again,
    no_command_runs_while_an_image_is_built,
    a_command_runs_in_each_directory_of_its_cache,
    the_files_that_a_command_makes_can_be_read_by_everybody,
    root_leaves_the_caches_of_users_alone,
    root_makes_the_caches_in_its_own_home_good,
    a_user_makes_their_own_cache_good_by_the_systems_stamp,
    a_users_update_looks_at_plug_ins_in_their_home,
    a_system_touch_is_no_change_of_plug_ins_in_a_home,
    a_user_is_served_no_answer_of_a_system_cache_that_is_stale,
    a_users_command_runs_as_that_user,
    root_with_the_home_of_another_user_leaves_it_alone,
    root_removes_no_file_of_another_user_and_enters_no_directory_of_theirs,
    what_another_user_made_in_a_shared_directory_is_left_alone_and_told_once,
    a_shared_directory_without_a_sticky_bit_is_an_error,
    a_file_system_that_another_user_serves_in_a_shared_directory_is_not_waited_for,
    a_cache_is_left_while_its_directory_is_read_only,
    a_directory_that_is_read_only_for_the_caller_alone_is_no_images,
    a_user_is_told_which_caches_only_root_can_make_good,
    a_trigger_waits_for_the_disk_no_longer_because_of_a_cache,
];

/// A profile, whose name is the scenario's own, with a module directory and a cache.
struct World {
    name: String,
    disk: Mounted,
}

impl World {
    /// The profile has these caches. “@” stands for the scratch directory.
    fn new(name: &str, caches: &str) -> World {
        let world = World {
            name: name.to_owned(),
            disk: Mounted::tmpfs("mode=755"),
        };
        for below in ["modules", "cache", "home", "lib"] {
            fs::create_dir_all(world.path(below)).unwrap();
            fs::set_permissions(world.path(below), fs::Permissions::from_mode(0o755)).unwrap();
        }
        chown(world.path("home"), Some(NOBODY), Some(NOBODY)).unwrap();
        world.write("modules/a.so", "1");
        world.write("cache/one", "answers");
        world.profile(caches);
        world
    }

    fn profile(&self, caches: &str) {
        let text = format!("module-directories = [\"@/modules\"]\n{caches}");
        let text = text.replace('@', self.path("").to_str().unwrap().trim_end_matches('/'));
        self.write(&format!("{}.toml", self.name), &text);
    }

    /// The profile's name. It has a number, because the profile is given by its path.
    fn profile_name(&self) -> String {
        let witness = self.succeed(&["observe"]);
        let first = witness.lines().next().unwrap();
        first.rsplit(' ').next().unwrap().to_owned()
    }

    fn path(&self, below: &str) -> PathBuf {
        self.disk.path().join(below)
    }

    fn write(&self, below: &str, text: &str) {
        fs::write(self.path(below), text).unwrap();
    }

    /// Makes a command. It adds a line to “ran” first.
    fn script(&self, body: &str) {
        let ran = self.path("ran");
        let script = format!("#!/bin/sh\necho >> {}\n{body}\n", ran.display());
        support::executable(&self.path("make"), script);
    }

    fn count(&self) -> usize {
        fs::read(self.path("ran")).map_or(0, |bytes| bytes.len())
    }

    /// The command that runs another one with a `/var/lib` of this world's own. Other tests empty
    /// the one that they share.
    fn confined(&self) -> Command {
        let script = r#"mount --bind "$0" /var/lib; exec timeout 50 "$@""#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", script]);
        command.arg(self.path("lib")).env_remove("HOME");
        command
    }

    fn add(&self, command: &mut Command, arguments: &[&str]) {
        let profile = self.path(&format!("{}.toml", self.name));
        command.arg(modstamp_for_all()).args(arguments);
        command.arg("--profile").arg(profile);
    }

    fn modstamp(&self, arguments: &[&str]) -> Command {
        let mut command = self.confined();
        self.add(&mut command, arguments);
        command
    }

    /// The same, as another user, whose home is “home”.
    fn as_nobody(&self, arguments: &[&str]) -> Command {
        let mut command = self.confined();
        let user = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
        command.args(["setpriv", "--clear-groups"]).args(user);
        self.add(&mut command, arguments);
        for name in ["XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"] {
            command.env_remove(name);
        }
        command.env("HOME", self.path("home")).current_dir("/");
        command
    }

    #[track_caller]
    fn succeed(&self, arguments: &[&str]) -> String {
        succeed(&mut self.modstamp(arguments))
    }

    /// The messages of a verb, which has to fail.
    #[track_caller]
    fn fail(&self, arguments: &[&str]) -> String {
        let output = self.modstamp(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

#[track_caller]
fn succeed(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let [out, err] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(status.success() && err.is_empty(), "{status}: {out}{err}");
    out
}

/// A cache that the scenario's command makes.
const MADE: &str = "
    [[cache]]
    files = [\"@/cache/*\"]
    remedy = [\"@/make\", \"a b\", \"$HOME\"]
";

/// A world whose cache was made good.
fn updated(name: &str, body: &str) -> World {
    let world = World::new(name, MADE);
    world.script(body);
    world.succeed(&["update"]);
    assert_eq!(world.count(), 1);
    assert_eq!(world.succeed(&["update"]), NOTHING);
    world
}

fn a_command_runs_once_for_a_change_and_not_at_all_without_one() {
    let world = updated("remedy-once", "");
    for _ in 0..3 {
        world.succeed(&["touch"]); // as by three packages
    }
    let said = world.succeed(&["update"]);
    assert!(
        said.contains("\nran ") && said.contains("/make a b $HOME\n"),
        "{said}"
    );
    assert_eq!(world.succeed(&["update"]), NOTHING);
    assert_eq!(
        world.succeed(&["refresh", "--stale"]),
        "there was nothing to do\n"
    );
    assert_eq!(world.count(), 2);
}

fn a_touch_and_an_update_without_commands_leave_them_to_a_refresh() {
    let world = updated("remedy-later", "");
    world.succeed(&["touch"]);
    let directory = world.path("modules");
    let trigger = ["trigger", "dpkg", directory.to_str().unwrap()];
    world.succeed(&trigger);
    assert_eq!(world.succeed(&["update", "--no-commands"]), NOTHING);
    assert_eq!(world.count(), 1);
    let said = world.succeed(&["refresh", "--stale"]);
    assert!(said.starts_with("ran "), "{said}");
    assert_eq!(world.count(), 2);
}

fn a_command_gets_no_shell_no_input_and_none_of_roots_variables() {
    let said = "{ env | sort; pwd; echo \"$1|$2\"; cat; } > ${0%/*}/said";
    let world = updated("remedy-bare", said);
    let mut command = world.modstamp(&["refresh"]);
    command.env("HOME", "/root").env("LD_PRELOAD_TEST", "x");
    succeed(&mut command);
    let said = fs::read_to_string(world.path("said")).unwrap();
    let expected = "LC_ALL=C.UTF-8\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/\n/\na b|$HOME\n";
    assert_eq!(said, expected);
}

fn a_command_that_fails_is_told_with_its_last_line_and_runs_again() {
    let world = updated("remedy-fails", "");
    world.script("echo first; echo no room >&2; exit 3");
    world.succeed(&["touch"]);
    let said = world.fail(&["update"]);
    let problem = "/make: it exited with status 3, and said “no room”; run it by hand to see why";
    assert!(said.contains(problem), "{said}");
    let status = world.succeed(&["status"]);
    assert!(status.contains("stale: the last remedy failed"), "{status}");
    world.script("");
    world.succeed(&["update"]);
    assert_eq!(world.succeed(&["update"]), NOTHING);
    assert_eq!(world.count(), 3);
}

fn a_command_that_hangs_is_ended_with_all_that_it_started() {
    let limited = format!("{MADE}time-limit = 1\n");
    let world = World::new("remedy-hangs", &limited);
    world.script("trap '' TERM; sleep 1000 & echo $! > ${0%/*}/child; wait; sleep 1000");
    let said = world.fail(&["update"]);
    assert!(
        said.contains("it was ended, because it took longer than 1 seconds"),
        "{said}"
    );
    let child = fs::read_to_string(world.path("child")).unwrap();
    let child = PathBuf::from(format!("/proc/{}/stat", child.trim()));
    // The kernel ends it a moment later, and nobody may have waited for it yet.
    wait_until("it has ended", || {
        let stat = fs::read_to_string(&child).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
}

fn a_command_that_leaves_a_process_behind_is_not_waited_for() {
    let limited = format!("{MADE}time-limit = 30\n");
    let world = World::new("remedy-leaves", &limited);
    world.script("sleep 1000 & echo $! > ${0%/*}/child; echo done");
    let said = world.succeed(&["update"]);
    assert!(said.contains("\nran "), "{said}");
    let child = fs::read_to_string(world.path("child")).unwrap();
    support::run(Command::new("kill").arg(child.trim()));
}

fn a_command_that_floods_its_output_keeps_the_last_lines() {
    let world = World::new("remedy-floods", MADE);
    world.script("yes flood | head -c 60000000; echo the end");
    world.succeed(&["update"]);
    let json = world.succeed(&["status", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let last = &json["profiles"][0]["foreign_caches"][0]["last"];
    let output = last["output"].as_array().unwrap();
    assert_eq!(output.last().unwrap(), "the end");
    assert!(output.len() <= 8, "{output:?}");
    let record = format!("lib/modstamp/{}.remedies", world.profile_name());
    assert!(fs::metadata(world.path(&record)).unwrap().len() < 8192);
}

fn a_command_that_does_not_exist_is_told_and_the_rest_goes_on() {
    let caches = "
        [[cache]]
        files = [\"@/cache/*\"]
        remedy = [\"modstamp-no-such-program\"]
        [[cache]]
        files = [\"@/cache/one\"]
        remedy = [\"@/none*\"]
        [[cache]]
        files = [\"@/cache/one\"]
        remedy = \"remove\"
    ";
    let world = World::new("remedy-missing", caches);
    let said = world.fail(&["update"]);
    let named = "by modstamp-no-such-program: it is in none of /usr/sbin, /usr/bin, /sbin, /bin; \
                 install it, or correct the profile";
    assert!(
        said.contains(named) && said.contains("/none*: there is no such program; "),
        "{said}"
    );
    assert!(!world.path("cache/one").exists());
    // Where nothing of the profile is installed, neither is its command.
    fs::remove_dir_all(world.path("modules")).unwrap();
    let caches = caches.split("[[cache]]").take(2).collect::<Vec<_>>();
    world.profile(&caches.join("[[cache]]"));
    world.succeed(&["update"]);
}

fn a_command_that_a_user_could_replace_does_not_run() {
    let world = World::new("remedy-replaced", MADE);
    world.script("");
    let make = world.path("make");
    fs::set_permissions(&make, fs::Permissions::from_mode(0o777)).unwrap();
    let said = world.fail(&["update"]);
    assert!(
        said.contains("refused to run the remedy") && said.contains("can be written by"),
        "{said}"
    );
    fs::set_permissions(&make, fs::Permissions::from_mode(0o755)).unwrap();
    chown(&make, Some(NOBODY), None).unwrap();
    let said = world.fail(&["update"]);
    assert!(
        said.contains(&format!("belongs to user {NOBODY}")),
        "{said}"
    );
    // Neither does one in a directory in which that user could replace it.
    let theirs = MADE.replace("@/make", "@/home/make");
    world.profile(&theirs);
    support::executable(&world.path("home/make"), "#!/bin/sh\n");
    let said = world.fail(&["update"]);
    assert!(
        said.contains(&format!("belongs to user {NOBODY}")),
        "{said}"
    );
    assert_eq!(world.count(), 0);
}

fn no_command_of_a_profile_that_others_could_write_runs() {
    let world = World::new("remedy-foreign", MADE);
    world.script("");
    let profile = world.path("remedy-foreign.toml");
    chown(&profile, Some(NOBODY), None).unwrap();
    let said = world.fail(&["update"]);
    // The name of a profile that is given by its path has a number.
    let problem = "others could have written it";
    let start = "cannot run a command of the profile remedy-foreign-";
    assert!(said.contains(start) && said.contains(problem), "{said}");
    chown(&profile, Some(0), None).unwrap();
    fs::set_permissions(&profile, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(world.fail(&["update"]).contains(problem));
    assert_eq!(world.count(), 0);
    fs::set_permissions(&profile, fs::Permissions::from_mode(0o644)).unwrap();
    world.succeed(&["update"]);
    assert_eq!(world.count(), 1);
}

fn no_file_is_removed_for_a_profile_that_others_could_write() {
    let caches = "
        [[cache]]
        files = [\"@/cache/*\"]
        remedy = \"remove\"
    ";
    let world = World::new("remedy-foreign-removal", caches);
    let profile = world.path("remedy-foreign-removal.toml");
    chown(&profile, Some(NOBODY), None).unwrap();
    for verb in [&["update"][..], &["refresh"]] {
        let said = world.fail(verb);
        let start = "cannot remove a cache that is named by remedy-foreign-removal-";
        assert!(said.contains(start), "{said}");
    }
    let output = world.modstamp(&["touch"]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("others could have written it"), "{told}");
    assert!(world.path("cache/one").exists());
    chown(&profile, Some(0), None).unwrap();
    world.succeed(&["update"]);
    assert!(!world.path("cache/one").exists());
}

fn a_command_runs_in_no_directory_that_others_could_fill() {
    let caches = "
        [[cache]]
        files = [\"@/cache/*/made\"]
        remedy = [\"@/make\", \"{directory}\"]
    ";
    let world = World::new("remedy-filled", caches);
    for below in ["cache/a", "cache/b"] {
        fs::create_dir(world.path(below)).unwrap();
    }
    chown(world.path("cache/b"), Some(NOBODY), None).unwrap();
    symlink(world.path("home"), world.path("cache/c")).unwrap();
    world.script("");
    let said = world.fail(&["update"]);
    for refused in ["cache/b", "cache/c"] {
        let path = world.path(refused).display().to_string();
        assert!(said.contains(&format!("run a remedy in {path}")), "{said}");
    }
    assert_eq!(world.count(), 1, "in cache/a alone");
}

fn a_command_runs_once_for_two_updates_at_once() {
    let world = updated("remedy-twice", "sleep 1");
    world.succeed(&["touch"]);
    let spawn = || world.modstamp(&["update"]).spawn().unwrap();
    for mut update in [spawn(), spawn(), spawn()] {
        assert!(update.wait().unwrap().success());
    }
    assert_eq!(world.count(), 2);
}

fn a_touch_while_a_command_runs_makes_the_cache_stale_again() {
    let world = updated("remedy-meanwhile", "");
    let stamp = format!("/var/lib/modstamp/{}.stamp", world.profile_name());
    world.script(&format!(
        "test $(wc -c < ${{0%/*}}/ran) -gt 2 || touch {stamp}"
    ));
    world.succeed(&["touch"]);
    world.succeed(&["update"]);
    let status = world.succeed(&["status"]);
    assert!(status.contains("stale: the stamp was touched"), "{status}");
    world.succeed(&["update"]);
    assert_eq!(world.succeed(&["update"]), NOTHING);
    assert_eq!(world.count(), 3);
}

fn no_command_runs_while_an_image_is_built() {
    let world = updated("remedy-image", "");
    world.succeed(&["touch"]);
    for verb in ["update", "refresh"] {
        succeed(world.modstamp(&[verb]).env("SOURCE_DATE_EPOCH", "1"));
    }
    assert_eq!(world.count(), 1);
    world.succeed(&["update"]);
    assert_eq!(world.count(), 2);
}

fn a_command_runs_in_each_directory_of_its_cache() {
    let caches = "
        [[cache]]
        files = [\"@/cache/*/made\"]
        remedy = [\"@/make\", \"{directory}\", \"--to={directory}/made\"]
    ";
    let world = World::new("remedy-each", caches);
    for below in ["cache/a", "cache/b"] {
        fs::create_dir(world.path(below)).unwrap();
    }
    world.script("echo > ${2#--to=}; test ${2#--to=} = $1/made");
    world.succeed(&["update"]);
    assert!(world.path("cache/a/made").exists() && world.path("cache/b/made").exists());
    assert_eq!(world.count(), 2);
}

fn the_files_that_a_command_makes_can_be_read_by_everybody() {
    let world = World::new("remedy-umask", MADE);
    world.script("echo > ${0%/*}/cache/made");
    let mut command = Command::new("sh");
    command.args(["-c", "umask 077; exec \"$@\"", "sh"]);
    let inner = world.modstamp(&["update"]);
    succeed(
        command
            .arg(inner.get_program())
            .args(inner.get_args())
            .env_remove("HOME"),
    );
    let made = fs::metadata(world.path("cache/made")).unwrap();
    assert_eq!(made.mode() & 0o777, 0o644);
}

/// A cache of each user's own, and one of the system.
const BOTH: &str = "
    [[cache]]
    files = [\"$XDG_CACHE_HOME/toy/*\", \"@/cache/*\"]
    remedy = \"remove\"
";

/// Makes the user's cache, as that user's file.
fn users_cache(world: &World) -> PathBuf {
    let cache = world.path("home/.cache/toy");
    fs::create_dir_all(&cache).unwrap();
    fs::write(cache.join("one"), "answers").unwrap();
    for path in ["home/.cache", "home/.cache/toy", "home/.cache/toy/one"] {
        chown(world.path(path), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    cache.join("one")
}

fn root_leaves_the_caches_of_users_alone() {
    let world = World::new("remedy-users", BOTH);
    let theirs = users_cache(&world);
    let caches = world.path("home/.cache");
    succeed(world.modstamp(&["update"]).env("XDG_CACHE_HOME", caches));
    assert!(!world.path("cache/one").exists() && theirs.exists());
}

fn root_makes_the_caches_in_its_own_home_good() {
    let world = World::new("remedy-root", BOTH);
    let own = users_cache(&world);
    support::run(
        Command::new("chown")
            .args(["-R", "0:0"])
            .arg(world.path("home")),
    );
    let mut update = world.modstamp(&["update"]);
    succeed(update.env("HOME", world.path("home")));
    assert!(!own.exists());
}

fn a_user_makes_their_own_cache_good_by_the_systems_stamp() {
    let world = World::new("remedy-own", BOTH);
    world.succeed(&["update"]);
    let theirs = users_cache(&world);
    world.write("cache/one", "answers");
    let said = succeed(&mut world.as_nobody(&["update"]));
    assert!(
        said.contains(&format!("removed {}\n", theirs.display())),
        "{said}"
    );
    assert!(world.path("cache/one").exists(), "that is root's");
    users_cache(&world);
    // A cache that is shut to them is no failure of theirs.
    fs::set_permissions(world.path("cache"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(succeed(&mut world.as_nobody(&["update"])), NOTHING);
    assert!(theirs.exists());
    world.succeed(&["touch"]);
    assert!(theirs.exists(), "root never writes in a home");
    let status = succeed(&mut world.as_nobody(&["status"]));
    let line = status.lines().find(|line| line.contains("user cache"));
    assert!(
        line.unwrap().contains("stale: the stamp was touched"),
        "{status}"
    );
    succeed(&mut world.as_nobody(&["update"]));
    assert!(!theirs.exists());
    let record = world.path(&format!(
        "home/.local/state/modstamp/{}.remedies",
        world.profile_name()
    ));
    assert_eq!(fs::metadata(record).unwrap().uid(), NOBODY);
    // Their own touch reaches it, too.
    users_cache(&world);
    succeed(&mut world.as_nobody(&["touch"]));
    assert!(!theirs.exists());
}

/// A user's cache that depends on files in the home, and on those of a variable.
const OF_HOME: &str = "
    files = [\"~/.toys\", \"$XDG_DATA_HOME/toys\", \"$TOY_PLUGINS\"]
    [[cache]]
    files = [\"$XDG_CACHE_HOME/toy/*\"]
    remedy = \"remove\"
";

/// Writes a file of the user's.
fn write_of_nobody(world: &World, below: &str, text: &str) {
    let mut write = Command::new("setpriv");
    write.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
    let script = r#"mkdir -p "${1%/*}"; printf %s "$2" > "$1""#;
    write.args(["--clear-groups", "sh", "-euc", script, "sh"]);
    support::run(write.arg(world.path(below)).arg(text));
}

fn a_users_update_looks_at_plug_ins_in_their_home() {
    let world = World::new("remedy-home", OF_HOME);
    let update = || succeed(&mut world.as_nobody(&["update"]));
    world.succeed(&["update"]);
    update();
    let touched = |what: &str| format!("touched your own stamp: {what}");
    for (below, text, what) in [
        ("home/.toys/a.so", "1", "module directory"),
        ("home/.toys/b.so", "1", "module b.so added"),
        ("home/.toys/b.so", "2", "module b.so in"),
        ("home/.local/share/toys/c.so", "1", "module directory"),
    ] {
        let theirs = users_cache(&world);
        assert_eq!(update(), NOTHING);
        write_of_nobody(&world, below, text);
        let status = succeed(&mut world.as_nobody(&["status"]));
        assert!(status.contains("stale: modules changed since"), "{status}");
        let said = update();
        assert!(said.starts_with(&touched(what)), "{said}");
        assert!(!theirs.exists());
    }
    // Another variable may differ in the user's manager, so no update looks there.
    write_of_nobody(&world, "home/plugins/d.so", "1");
    let mut in_shell = world.as_nobody(&["update"]);
    in_shell.env("TOY_PLUGINS", world.path("home/plugins"));
    assert_eq!(succeed(&mut in_shell), NOTHING);
    // Root's update looks at no home, not even at its own.
    let mut roots = world.modstamp(&["update"]);
    roots.env("HOME", world.path("home"));
    assert_eq!(succeed(&mut roots), NOTHING);
}

fn a_system_touch_is_no_change_of_plug_ins_in_a_home() {
    let world = World::new("remedy-home-kept", OF_HOME);
    world.succeed(&["update"]);
    write_of_nobody(&world, "home/.toys/a.so", "1");
    let update = || succeed(&mut world.as_nobody(&["update"]));
    update();
    let theirs = users_cache(&world);
    world.write("modules/b.so", "1");
    world.succeed(&["update"]);
    let said = update();
    assert!(said.starts_with("not touched: "), "{said}");
    assert!(!theirs.exists());
    assert_eq!(update(), NOTHING);
    write_of_nobody(&world, "home/.toys/a.so", "2");
    assert!(update().starts_with("touched your own stamp: module a.so in"));
    assert_eq!(update(), NOTHING);
    // A touch by hand records the plug-ins in the home, too.
    write_of_nobody(&world, "home/.toys/a.so", "3");
    succeed(&mut world.as_nobody(&["touch"]));
    assert_eq!(update(), NOTHING);
}

fn a_user_is_served_no_answer_of_a_system_cache_that_is_stale() {
    let world = World::new("remedy-answers", MADE);
    world.script("cat ${0%/*}/modules/* > ${0%/*}/cache/one");
    world.succeed(&["update"]);
    let ask = || {
        let mut run = world.as_nobody(&["run", "--explain"]);
        let output = run
            .args(["--", "cat"])
            .arg(world.path("cache/one"))
            .output();
        let Output {
            status,
            stdout,
            stderr,
        } = output.unwrap();
        assert!(status.success());
        [stdout, stderr].map(|text| String::from_utf8(text).unwrap())
    };
    let fresh = "modstamp: served from the cache: nothing changed\n";
    ask();
    assert_eq!(ask(), ["1", fresh]);
    world.write("modules/a.so", "2");
    let sentence = "modules changed since the last touch; run “modstamp update” for the profile, \
                    as root\n";
    for _ in 0..2 {
        let [said, why] = ask();
        assert!(said == "1" && why.ends_with(sentence), "{said}, {why}");
    }
    world.succeed(&["update"]);
    ask();
    assert_eq!(ask(), ["2", fresh]);
}

fn a_users_command_runs_as_that_user() {
    let caches = "
        [[cache]]
        files = [\"~/.cache/toy/*\"]
        remedy = [\"@/make\"]
    ";
    let world = World::new("remedy-user-command", caches);
    support::executable(
        &world.path("make"),
        "#!/bin/sh\n{ id -u; echo $HOME; } > ~/said\n",
    );
    world.succeed(&["update"]);
    succeed(&mut world.as_nobody(&["update"]));
    let said = fs::read_to_string(world.path("home/said")).unwrap();
    assert_eq!(
        said,
        format!("{NOBODY}\n{}\n", world.path("home").display())
    );
}

fn root_with_the_home_of_another_user_leaves_it_alone() {
    let world = World::new("remedy-sudo", BOTH);
    let theirs = users_cache(&world);
    chown(&theirs, Some(0), Some(0)).unwrap(); // as by an earlier sudo(8)
    let home = world.path("home");
    for verb in ["update", "refresh", "touch"] {
        succeed(world.modstamp(&[verb]).env("HOME", &home));
    }
    assert!(theirs.exists());
    assert!(!home.join(".local").exists());
}

fn root_removes_no_file_of_another_user_and_enters_no_directory_of_theirs() {
    let caches = "
        [[cache]]
        files = [\"@/home/toy/one\", \"@/*/below/one\", \"@/cache/*\"]
        remedy = \"remove\"
    ";
    let world = World::new("remedy-theirs", caches);
    for below in ["home/toy", "home/below"] {
        fs::create_dir(world.path(below)).unwrap();
        world.write(&format!("{below}/one"), "answers");
    }
    world.write("cache/theirs", "answers");
    chown(world.path("cache/theirs"), Some(NOBODY), None).unwrap();
    let said = world.fail(&["update"]);
    let theirs = format!("cache/theirs: it belongs to user {NOBODY}; look at it");
    assert!(said.contains(&theirs), "{said}");
    let refused = format!("/home belongs to user {NOBODY}, so others could redirect it");
    assert_eq!(said.matches(&refused).count(), 2, "{said}");
    let left = ["home/toy/one", "home/below/one", "cache/theirs"];
    assert!(left.iter().all(|below| world.path(below).exists()));
    assert!(!world.path("cache/one").exists(), "the rest goes on");
}

/// A cache in a directory of root's in a shared one, and files in that itself.
const SHARED: &str = "
    [[cache]]
    files = [\"@/shared/.toy-0/one\", \"@/shared/toy-*\", \"@/shared/*-toy/one\"]
    remedy = \"remove\"
    [[cache]]
    files = [\"@/shared/.toy-0/made\"]
    remedy = [\"@/make\", \"{directory}\"]
";

/// A world with a directory in which everybody may create files.
fn shared(name: &str, mode: u32) -> World {
    let world = World::new(name, SHARED);
    world.script("");
    fs::create_dir(world.path("shared")).unwrap();
    let mode = fs::Permissions::from_mode(mode);
    fs::set_permissions(world.path("shared"), mode).unwrap();
    world
}

fn give_to_nobody(path: &Path) {
    std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
}

fn what_another_user_made_in_a_shared_directory_is_left_alone_and_told_once() {
    let world = shared("remedy-shared", 0o1777);
    let theirs = ["shared/.toy-0", "shared/toy-sub", "shared/a-toy"];
    for path in theirs {
        fs::create_dir(world.path(path)).unwrap();
        world.write(&format!("{path}/one"), "answers");
        give_to_nobody(&world.path(path));
    }
    symlink("/etc/passwd", world.path("shared/toy-link")).unwrap();
    world.write("shared/toy-theirs", "answers");
    for name in ["shared/toy-link", "shared/toy-theirs"] {
        give_to_nobody(&world.path(name));
    }
    world.write("shared/toy-own", "answers");
    let said = world.succeed(&["update"]);
    let first = world.path("shared/.toy-0").display().to_string();
    let told = format!("{first} belongs to user {NOBODY}, and is no cache of yours");
    assert!(
        said.contains(&format!("{told}; there are 4 more such files\n")),
        "{said}"
    );
    assert!(said.contains(&format!("made: {told}\n")), "{said}");
    assert!(!world.path("shared/toy-own").exists(), "the rest goes on");
    assert!(world.path("shared/toy-theirs").exists() && world.path("shared/.toy-0/one").exists());
    assert_eq!(world.count(), 0);
    assert_eq!(world.succeed(&["update"]), NOTHING);
    let status = world.succeed(&["status"]);
    assert!(
        status.contains(&told) && !status.contains("stale"),
        "{status}"
    );
    assert_eq!(world.succeed(&["log"]).matches(&told).count(), 2);
    // Without them, all is as it would have been.
    for path in theirs {
        fs::remove_dir_all(world.path(path)).unwrap();
    }
    fs::create_dir(world.path("shared/.toy-0")).unwrap();
    world.write("shared/.toy-0/one", "answers");
    world.succeed(&["touch"]);
    assert!(!world.path("shared/.toy-0/one").exists());
    world.succeed(&["update"]);
    assert_eq!(world.count(), 1);
}

fn a_shared_directory_without_a_sticky_bit_is_an_error() {
    let world = shared("remedy-open", 0o777);
    fs::create_dir(world.path("shared/.toy-0")).unwrap();
    let said = world.fail(&["update"]);
    let problem = "/shared can be written by every user, so others could redirect it";
    assert!(said.contains(problem), "{said}");
    // Neither is a link of root's another user's.
    fs::set_permissions(world.path("shared"), fs::Permissions::from_mode(0o1777)).unwrap();
    symlink("/etc/passwd", world.path("shared/toy-link")).unwrap();
    let said = world.fail(&["update"]);
    assert!(said.contains("toy-link: it is a symbolic link"), "{said}");
}

/// Mounts a file system whose server never answers on `$1`, as a user's program does.
const HANGS: &str = r#"
    mount --bind "$0" /var/lib
    exec 9<>/dev/fuse
    mount -i -t fuse -o fd=9,rootmode="$2",user_id=65534,group_id=65534"$3" hangs "$1"
    shift 3
    timeout --signal=KILL 20 "$@" 9<&-
"#;

fn a_file_system_that_another_user_serves_in_a_shared_directory_is_not_waited_for() {
    if !Path::new("/dev/fuse").exists() {
        return;
    }
    for (number, (at, mode)) in [
        (".toy-0", "40000"),
        ("toy-directory", "40000"),
        ("toy-file", "100000"),
        ("a-toy", "40000"),
    ]
    .into_iter()
    .enumerate()
    {
        for options in ["", ",allow_other"] {
            let name = format!("remedy-served-{number}-{}", options.len());
            let world = shared(&name, 0o1777);
            let path = world.path("shared").join(at);
            match mode {
                "40000" => fs::create_dir(&path).unwrap(),
                _ => fs::write(&path, "").unwrap(),
            }
            give_to_nobody(&path);
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-euc", HANGS]);
            command
                .arg(world.path("lib"))
                .arg(&path)
                .args([mode, options]);
            world.add(command.env_remove("HOME"), &["update"]);
            let said = succeed(&mut command);
            let told = format!("{} belongs to user {NOBODY}", path.display());
            assert!(said.contains(&told), "{at} {options}: {said}");
        }
    }
}

/// A cache that a command makes, and one that is removed. “%” stands for the directory.
const OF_IMAGE: &str = "
    [[cache]]
    files = [\"%/made\"]
    remedy = [\"@/make\", \"{directory}\"]
    [[cache]]
    files = [\"%/made\"]
    remedy = [\"@/make\"]
    [[cache]]
    files = [\"%/one\"]
    remedy = \"remove\"
";

/// A world in which each command first runs `mount`, with the scratch directory as `$1`.
fn of_image(name: &str, directory: &str) -> World {
    let world = World::new(name, &OF_IMAGE.replace('%', directory));
    world.script("echo > ${0%/*}/cache/made");
    world
}

fn mounted(world: &World, mount: &str, arguments: &[&str]) -> Output {
    let script = format!(r#"mount --bind "$0" /var/lib; {mount}; shift; exec timeout 50 "$@""#);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-euc", &script]);
    command.arg(world.path("lib")).arg(world.path(""));
    world.add(command.env_remove("HOME"), arguments);
    command.output().unwrap()
}

fn a_cache_is_left_while_its_directory_is_read_only() {
    let whole = "mount -t tmpfs none $1/cache; echo > $1/cache/one; mount -o remount,ro $1/cache";
    let of_mount = "mount --bind $1/cache /opt; mount -o remount,bind,ro /opt";
    for (name, directory, mount) in [
        ("remedy-image", "@/cache", whole),
        ("remedy-ostree", "/opt", of_mount),
    ] {
        let world = of_image(name, directory);
        let update = |mount: &str| {
            let output = mounted(&world, mount, &["update"]);
            assert!(
                output.status.success() && output.stderr.is_empty(),
                "{output:?}"
            );
            String::from_utf8(output.stdout).unwrap()
        };
        let said = update(mount);
        let directory = directory.replace('@', world.path("").to_str().unwrap());
        let directory = directory.replace("//", "/");
        let told =
            format!("its directory {directory} is read-only; the builder of the image makes it\n");
        assert_eq!(said.matches(&told).count(), 3, "{said}");
        assert_eq!((world.count(), &*update(mount)), (0, NOTHING));
        // Once it can be written, the next touch makes the cache good.
        let writable = mount.replace("ro ", "rw ");
        assert_eq!(update(&writable), NOTHING);
        world.succeed(&["touch", "--no-sync"]);
        update(&writable);
        assert_eq!(world.count(), 2);
    }
}

/// As for a unit with `ProtectSystem=strict` (systemd.exec(5)).
fn a_directory_that_is_read_only_for_the_caller_alone_is_no_images() {
    let world = of_image("remedy-sandbox", "@/cache");
    let mount = "mount --bind $1/cache $1/cache; mount -o remount,bind,ro $1/cache";
    let output = mounted(&world, mount, &["update"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.matches("ead-only file system").count(), 3, "{said}");
    assert_eq!(world.count(), 2);
}

fn a_user_is_told_which_caches_only_root_can_make_good() {
    let world = World::new("remedy-told", BOTH);
    let say = |arguments: &[&str]| {
        let output = world.as_nobody(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let profile = world.path("remedy-told.toml");
    let told = format!(
        "modstamp: note: only root can make the system's caches good; run “sudo modstamp refresh \
         --profile {}”\n",
        profile.display()
    );
    assert_eq!(say(&["update"]), told, "no remedy is on record");
    world.succeed(&["update"]);
    assert_eq!(say(&["update"]), "");
    assert_eq!(say(&["refresh", "--stale"]), "");
    assert_eq!(say(&["refresh"]), told);
    world.profile(&BOTH.replace(", \"@/cache/*\"", ""));
    assert_eq!(say(&["refresh"]), "");
}

fn a_trigger_waits_for_the_disk_no_longer_because_of_a_cache() {
    let syncs = |name: &str, caches: &str| {
        let world = World::new(name, caches);
        let directory = world.path("modules").display().to_string();
        world.succeed(&["trigger", "dpkg", &directory]);
        world.write("cache/one", "answers");
        let log = world.path("log");
        let mut command = world.confined();
        command.args([
            "strace",
            "-f",
            "-e",
            "trace=fsync,fdatasync,sync,syncfs",
            "-o",
        ]);
        command.arg(&log);
        world.add(&mut command, &["trigger", "dpkg", &directory]);
        succeed(&mut command);
        let log = fs::read_to_string(log).unwrap();
        log.lines().filter(|line| line.contains("sync")).count()
    };
    let removal = "
        [[cache]]
        files = [\"@/cache/*\"]
        remedy = \"remove\"
    ";
    let bare = syncs("remedy-no-cache", "");
    assert!(bare > 0);
    assert_eq!(syncs("remedy-synced", removal), bare);
}
