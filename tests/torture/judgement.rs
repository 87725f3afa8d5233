//! Judges what a run did, said and left, by the promises of SECURITY.md.

use modstamp::Witness;

use crate::injection::Ran;
use crate::scene::{BEFORE, Scene, Verb};

/// The state before a run.
pub struct Before {
    pub stamp: Option<i128>,
    pub moved: [Option<i128>; 3],
}

/// How a run ended, as far as its words can be judged.
enum Ending {
    /// A fault killed it, as it was meant.
    Killed,
    /// The fault hit the command of `modstamp run`, whose affair its words are.
    Foreign,
    /// It could not write its messages.
    Mute,
    Heard,
}

impl Ending {
    fn of(verb: Verb, ran: &Ran) -> Ending {
        let hit = |call: &str| ran.faulty.iter().any(|fault| fault.call.starts_with(call));
        let is_runs = matches!(verb, Verb::RunHit | Verb::RunMiss);
        let is_killed = ran.faulty.is_empty();
        match (ran.signal, ran.code) {
            (Some(9), _) if is_killed => Ending::Killed,
            (_, Some(137)) if is_killed && is_runs => Ending::Foreign,
            _ if ran.faulty.iter().any(|fault| fault.is_foreign) => Ending::Foreign,
            // The C program tells on standard output.
            _ if hit(if verb.is_c() { "write(1," } else { "write(2," }) => Ending::Mute,
            _ => Ending::Heard,
        }
    }
}

impl Before {
    pub fn of(scene: &Scene) -> Before {
        Before {
            stamp: scene.stamp(),
            moved: scene.moved(),
        }
    }

    /// The promises that a run broke. `sound` is what the verb says in a sound world, if a fault
    /// was to hit this run.
    pub fn problems(&self, scene: &Scene, verb: Verb, ran: &Ran, sound: &[Heard]) -> Vec<String> {
        let mut problems = Vec::new();
        let mut broken = |problem: &str| problems.push(problem.to_owned());
        if scene.stamp().is_none() || scene.stamp() < self.stamp {
            broken("the stamp is lost or wound back");
        }
        let panics = ["panicked", "RUST_BACKTRACE", "fatal runtime"];
        if panics.iter().any(|word| ran.err.contains(word)) {
            broken("a panic");
        }
        let ending = Ending::of(verb, ran);
        match (&ending, ran.signal) {
            (Ending::Killed, _) | (_, None) => {}
            (_, Some(0)) => broken("it hangs"),
            (_, Some(_)) => broken("a signal ended it"),
        }
        let value = value(verb, ran);
        let is_well = value == Some(sound_value(verb));
        let is_documented = is_well || value.is_some_and(|value| verb.failures().contains(&value));
        let told = told(verb, ran);
        match ending {
            Ending::Killed | Ending::Foreign => return problems,
            Ending::Mute if verb.is_c() => return problems,
            _ if !is_documented && value == Some(0) => broken("it calls a stale answer fresh"),
            _ if !is_documented => broken("the exit status is none of the documented ones"),
            Ending::Mute => return problems,
            Ending::Heard => {}
        }
        problems.extend(vague_sentences(&told));
        if is_well {
            problems.extend(stale_as_fresh(scene, verb, ran));
        }
        if told.is_empty() {
            problems.extend(match is_well {
                true => self.silent_losses(scene, verb, ran, sound),
                false => vec!["it fails and tells nothing".to_owned()],
            });
        }
        problems
    }

    /// What a run that tells of no trouble did not do.
    fn silent_losses(&self, scene: &Scene, verb: Verb, ran: &Ran, sound: &[Heard]) -> Vec<String> {
        let mut problems = Vec::new();
        let mut lost = |what: &str| problems.push(format!("it tells of no trouble, and {what}"));
        // An update does only what the one before it left undone.
        let is_due = verb != Verb::Update || !sound.is_empty();
        if verb.moves_stamp() && scene.stamp() <= self.stamp && is_due {
            lost("did not move the stamp");
        }
        if verb.refreshes() && scene.moved() == self.moved && is_due {
            lost("did not refresh libvirt");
        }
        if verb == Verb::Evict && scene.answers() > 0 {
            lost("left stale answers of libvirt's");
        }
        let is_status = matches!(verb, Verb::Status | Verb::LibvirtStatus);
        let heard = Heard::of(verb, ran);
        let is_known = sound.is_empty() || sound.contains(&heard);
        let out = match verb {
            // The rows of a sound world, too, say that something is not known.
            Verb::LibvirtStatus => heard.lines_beside(sound),
            _ => String::from_utf8_lossy(&ran.out).into_owned(),
        };
        // The doctor's line counts the places at which it could not look.
        let of_doctor = (verb == Verb::Status).then_some("could not check");
        let mut words = ["cannot", "not known"].into_iter().chain(of_doctor);
        let tells = words.any(|word| out.contains(word));
        // A directory that the caller may not enter has no modules for the caller.
        let mut faulty = ran.faulty.iter();
        let is_shut_out = faulty.any(|fault| fault.call.contains("EACCES"));
        if is_status && !is_known && !tells && !is_shut_out {
            problems.push("its exit status says that it shows all, and it does not".to_owned());
        }
        problems
    }
}

/// What a run takes for fresh though it is stale. All that was kept is from before a change.
fn stale_as_fresh(scene: &Scene, verb: Verb, ran: &Ran) -> Option<String> {
    let out = String::from_utf8_lossy(&ran.out);
    let is_fresh = |line: &str| line.trim_end().ends_with(" fresh");
    let problem = match verb {
        Verb::RunHit | Verb::RunMiss if out != verb.module() => {
            "it printed another answer than that of now"
        }
        Verb::Observe | Verb::CObserve => return blind_witness(scene, verb, &out),
        Verb::Status | Verb::LibvirtStatus if out.lines().any(is_fresh) => {
            "it calls a stale answer fresh"
        }
        _ => return None,
    };
    Some(problem.to_owned())
}

/// A witness that was observed in spite of a fault must still see every later change.
fn blind_witness(scene: &Scene, verb: Verb, out: &str) -> Option<String> {
    let text = match verb {
        Verb::CObserve => out
            .split_once('\n')
            .map_or("", |(_, text)| text.trim_end_matches('\n')),
        _ => out,
    };
    let text = format!("{}\n", text.trim_end_matches('\n'));
    let Ok(witness) = text.parse::<Witness>() else {
        return Some("it printed no whole witness".to_owned());
    };
    scene.set_module(BEFORE);
    let verdict = witness.check(&scene.host.profile).unwrap();
    scene.set_module(verb.module());
    let blind = "its witness is fresh after a change";
    verdict.is_fresh().then(|| blind.to_owned())
}

/// What a caller gets from a run, without numbers and times.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard {
    value: Option<i32>,
    out: String,
    err: String,
}

impl Heard {
    pub fn of(verb: Verb, ran: &Ran) -> Heard {
        let out = match verb {
            Verb::Observe | Verb::CObserve => String::new(), // It has ctimes.
            // They do what the earlier run left undone.
            Verb::Update | Verb::Evict => String::new(),
            // The first line is the doctor's. Its numbers of problems count.
            Verb::Status => {
                let out = String::from_utf8_lossy(&ran.out);
                let (health, rest) = out.split_once("; see ").unwrap_or((&out, ""));
                format!("{health}; see {}", masked(rest))
            }
            // With the reasons: libvirt's answers are stale for the same ones each time.
            Verb::LibvirtStatus => without_numbers(&String::from_utf8_lossy(&ran.out)),
            _ => masked(&String::from_utf8_lossy(&ran.out)),
        };
        Heard {
            value: value(verb, ran),
            out,
            err: masked(&ran.err),
        }
    }

    /// The lines of the output that no sound run has.
    fn lines_beside(&self, sound: &[Heard]) -> String {
        let is_sound = |line: &&str| {
            sound
                .iter()
                .any(|sound| sound.out.lines().any(|it| it == *line))
        };
        let lines = self.out.lines().filter(|line| !is_sound(line));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// The exit status, or the value of a C function; `None` after a signal.
pub fn value(verb: Verb, ran: &Ran) -> Option<i32> {
    match verb.is_c() {
        false => ran.code,
        true => {
            let out = String::from_utf8_lossy(&ran.out);
            let line = out.lines().next()?;
            ran.code.filter(|code| *code == 0)?;
            line.parse().ok()
        }
    }
}

/// What is right in a sound world. The witness that a check gets is stale.
fn sound_value(verb: Verb) -> i32 {
    match verb {
        Verb::Check | Verb::CCheck | Verb::CDisturbed => 1,
        _ => 0,
    }
}

/// The messages, one a line.
pub fn told(verb: Verb, ran: &Ran) -> Vec<String> {
    let out = String::from_utf8_lossy(&ran.out);
    let why: Vec<&str> = match value(verb, ran) {
        Some(-2) if verb.is_c() => out
            .lines()
            .skip(1)
            .filter(|line| !line.is_empty())
            .collect(),
        _ => Vec::new(),
    };
    let err = ran
        .err
        .lines()
        .filter(|line| !line.starts_with("modstamp: note: "));
    err.chain(why).map(str::to_owned).collect()
}

/// The messages that lack the attempt, the path or the remedy.
fn vague_sentences(told: &[String]) -> Vec<String> {
    let subjects = [
        "/",
        "standard output",
        "standard input",
        "the paths",
        "the modules",
        "what the command printed",
        "the command ",
        "the profile ",
    ];
    let remedies = ["; ", "to be safe", ", so "];
    let has = |line: &String, words: &[&str]| words.iter().any(|word| line.contains(word));
    let is_vague = |line: &&String| !has(line, &subjects) || !has(line, &remedies);
    let vague = told.iter().filter(is_vague);
    vague
        .map(|line| format!("this lacks its path or its remedy: {line}"))
        .collect()
}

/// A text without numbers, words of time, and the reasons of verdicts.
pub fn masked(text: &str) -> String {
    let verdict = |line: &str| {
        let reasons = ["stale:", "): "]
            .iter()
            .filter_map(|mark| Some(line.find(mark)? + mark.len()));
        format!("{}\n", &line[..reasons.min().unwrap_or(line.len())])
    };
    let text: String = text.lines().map(verdict).collect();
    without_numbers(&text)
}

/// A text without numbers and words of time.
fn without_numbers(text: &str) -> String {
    let mut masked = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let is_time = ["second", "minute", "hour", "ago", "now", "just", "an"]
            .iter()
            .any(|time| {
                word.trim_end_matches(|c: char| !c.is_alphanumeric())
                    .trim_end_matches('s')
                    == *time
            });
        match is_time || word.contains(|c: char| c.is_ascii_digit()) {
            true => masked.push('#'),
            false => masked.push_str(word),
        }
    }
    while masked.contains("##") || masked.contains("  ") {
        masked = masked.replace("##", "#").replace("  ", " ");
    }
    masked
}
