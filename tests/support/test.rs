//! Tests that state their needs, and their runner, which counts the tests that cannot run here.
//!
//! `MODSTAMP_TESTS` names the target of the Makefile whose tests run; each of them fails if it
//! lacks something. Without the variable, every test runs whose needs are met. [`Needs::minutes`]
//! is then never met, and long forms are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Conclusion, Failed, Trial};

/// The need for root's rights, mounts among them.
pub const ROOT: &str = "root";

/// What a test needs, and whether it is here.
#[derive(Debug, Clone)]
pub struct Needs {
    target: Target,
    missing: Option<String>,
}

/// The needs of a test that runs everywhere.
pub const NOTHING: Needs = Needs {
    target: Target::Check,
    missing: None,
};

impl Needs {
    /// Programs, and perhaps [`ROOT`].
    pub fn of(needs: &[&str]) -> Needs {
        if needs.is_empty() {
            return NOTHING;
        }
        let missing = match needs.contains(&ROOT) && !is_met(ROOT) {
            true => BTreeSet::from([ROOT]), // Some programs are only in root's PATH.
            false => needs.iter().copied().filter(|need| !is_met(need)).collect(),
        };
        let missing: Vec<&str> = missing.into_iter().collect();
        Needs {
            target: Target::CheckAll,
            missing: (!missing.is_empty()).then(|| missing.join(", ")),
        }
    }

    /// Programs, and root's rights.
    pub fn root_and(programs: &[&str]) -> Needs {
        Needs::of(&[&[ROOT], programs].concat())
    }

    /// The needs of a test that takes minutes: it is left out unless `MODSTAMP_TESTS` is set.
    pub fn minutes() -> Needs {
        Needs {
            target: Target::CheckAll,
            missing: CHOSEN.is_none().then(|| "minutes".to_owned()),
        }
    }

    /// These needs and one more. `missing` says why that is not met, if it is not.
    pub fn and(self, missing: Option<String>) -> Needs {
        let missing = self.missing.or(missing);
        Needs { missing, ..self }
    }

    /// These needs, for a test that only `make check-release` runs.
    pub fn of_release(self) -> Needs {
        let target = Target::CheckRelease;
        Needs { target, ..self }
    }

    /// Whether nothing is missing.
    pub fn are_met(&self) -> bool {
        self.missing.is_none()
    }

    /// Whether a test that needs this runs now.
    pub fn are_to_run(&self) -> bool {
        self.are_met() && self.why_left_out().is_none()
    }

    /// Why a test that needs this does not run now.
    fn why_left_out(&self) -> Option<String> {
        let target = self.target;
        match (*CHOSEN, &self.missing) {
            (Some(chosen), _) if chosen == target => None,
            (None, None) if target != Target::CheckRelease => None,
            (None, Some(missing)) => Some(format!("{target} runs them; they need {missing}")),
            _ => Some(format!("{target} runs them")),
        }
    }
}

/// A target of the Makefile that runs tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Check,
    CheckAll,
    CheckRelease,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Target::Check => "`make check`",
            Target::CheckAll => "`make check-all`",
            Target::CheckRelease => "`make check-release`",
        })
    }
}

/// The target that the caller names, if any.
static CHOSEN: LazyLock<Option<Target>> = LazyLock::new(|| {
    match std::env::var("MODSTAMP_TESTS").as_deref() {
        Ok("check") => Some(Target::Check),
        Ok("check-all") => Some(Target::CheckAll),
        Ok("check-release") => Some(Target::CheckRelease),
        Ok(other) => {
            panic!(
                "MODSTAMP_TESTS is “{other}”; make it check, check-all or check-release, or unset it"
            )
        }
        Err(_) => None,
    }
});

fn is_met(need: &str) -> bool {
    match need {
        ROOT => *IS_ROOT,
        program => {
            let path = std::env::var("PATH").unwrap_or_default();
            let mut directories = path.split(':');
            directories.any(|directory| Path::new(directory).join(program).exists())
        }
    }
}

/// Whether the process is root, and may mount: in some containers root may not.
static IS_ROOT: LazyLock<bool> = LazyLock::new(|| {
    let mounts = || {
        let mut command = Command::new("unshare");
        command.args(["--mount", "true"]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    rustix::process::geteuid().is_root() && mounts()
});

/// One test.
pub struct Test {
    name: String,
    needs: Needs,
    scenario: Box<dyn FnOnce() + Send>,
}

/// Makes a test.
pub fn test(
    name: impl Into<String>,
    needs: &Needs,
    scenario: impl FnOnce() + Send + 'static,
) -> Test {
    Test {
        name: name.into(),
        needs: needs.clone(),
        scenario: Box::new(scenario),
    }
}

/// Makes a test of each function. All have the same needs.
pub fn tests<'a>(
    needs: &'a Needs,
    scenarios: &'a [(&'static str, fn())],
) -> impl Iterator<Item = Test> + 'a {
    let of = |(name, scenario): &(&'static str, fn())| test(*name, needs, *scenario);
    scenarios.iter().map(of)
}

impl Test {
    /// The same test, found below `module`.
    pub fn of(mut self, module: &str) -> Test {
        self.name = format!("{module}::{}", self.name);
        self
    }

    fn trial(self) -> Trial {
        let Test {
            name,
            needs,
            scenario,
        } = self;
        let own = name.clone();
        Trial::test(name, move || match needs.missing {
            Some(missing) => Err(Failed::from(format!("missing here: {missing}"))),
            None => {
                let start = Instant::now();
                scenario();
                TIMES.lock().unwrap().push((start.elapsed(), own));
                Ok(())
            }
        })
    }
}

/// The times of the tests that passed.
static TIMES: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());

/// Lists or runs the tests. The last lines name those of 20 s or more, and count those left out.
pub fn run(arguments: &Arguments, tests: Vec<Test>) -> Conclusion {
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    let mut trials = Vec::new();
    for test in tests {
        match test.needs.why_left_out().filter(|_| !arguments.list) {
            None => trials.push(test.trial()),
            Some(reason) => *left_out.entry(reason).or_default() += 1,
        }
    }
    let conclusion = libtest_mimic::run(arguments, trials);
    let mut times = TIMES.lock().unwrap();
    times.sort_unstable_by(|a, b| b.cmp(a));
    for (time, name) in times.iter().take_while(|(time, _)| time.as_secs() >= 20) {
        println!("{} s: {name}", time.as_secs());
    }
    for (reason, count) in left_out {
        println!("left out: {count} tests; {reason}");
    }
    conclusion
}

/// Pairs each function with its name.
#[macro_export]
macro_rules! named {
    ($($scenario:ident,)*) => { &[$((stringify!($scenario), $scenario as Scenario)),*] };
}
