//! Reasons: as data, which `packaging/verdict-2.schema.json` describes, and as sentences.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use boon::{Compiler, SchemaIndex, Schemas};
use modstamp::{FactKind, Input, Reason, Subject, Verdict};
use serde_json::{Value, json};
use support::world::{STAMP, World};

/// The schema that people read the JSON by.
struct Schema {
    text: Value,
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    fn new() -> Schema {
        Schema::of(include_str!("../../packaging/verdict-2.schema.json"))
    }

    fn of(text: &str) -> Schema {
        let text: Value = serde_json::from_str(text).unwrap();
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("schema.json", text.clone()).unwrap();
        let index = compiler.compile("schema.json", &mut schemas).unwrap();
        Schema {
            text,
            schemas,
            index,
        }
    }

    fn allows(&self, verdict: &Value) -> bool {
        self.schemas.validate(verdict, self.index).is_ok()
    }

    /// The values that the schema has for a key of a reason.
    fn words(&self, key: &str) -> BTreeSet<String> {
        let mut words = BTreeSet::new();
        let shapes = self.text["$defs"]["reason"]["oneOf"].as_array().unwrap();
        for shape in shapes.iter().map(|shape| &shape["properties"][key]) {
            let shape = match shape["$ref"].as_str() {
                Some(_) => &self.text["$defs"][key],
                None => shape,
            };
            let listed = shape["enum"].as_array().into_iter().flatten();
            words.extend(listed.chain(shape.get("const")).map(text));
        }
        words
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The program, for a user with a stamp, and with a module directory that is a relative path.
fn modstamp(world: &World, arguments: &[&str]) -> Command {
    let mut command = world.modstamp(arguments);
    command.env("HOME", "/home/me").env_remove("XDG_STATE_HOME");
    command.env("QEMU_MODULE_DIR", "relative");
    command
}

/// A question about the witness `text`.
fn check(world: &World, text: &str, arguments: &[&str]) -> Command {
    let file = world.beside("witness");
    fs::write(&file, text).unwrap();
    modstamp(
        world,
        &[&["check", file.to_str().unwrap()], arguments].concat(),
    )
}

fn printed(command: &mut Command) -> String {
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// A world in which every kind of change happened, and a witness from before.
fn much_has_happened() -> (World, String) {
    let world = World::new();
    let observed = printed(&mut modstamp(&world, &["observe"]));
    let lines = observed.lines().filter(|line| !line.starts_with("end "));
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    // In the witness one program has another owner: only root could change the real one. The
    // witness also has a command.
    let arm = lines
        .iter_mut()
        .find(|line| line.ends_with("qemu-system-arm"))
        .unwrap();
    let mut words: Vec<&str> = arm.split(' ').collect();
    (words[2], words[4]) = ("4242:4242", "-");
    *arm = words.join(" ");
    lines.push("command 100755 0:0 1 - 00000000000000000000000000000000 /bin/ask".to_owned());
    lines.push(format!("end {}\n", lines.len()));

    world.sh(&format!("touch {STAMP}"));
    let state = "home/me/.local/state/modstamp";
    fs::create_dir_all(world.path(state)).unwrap();
    world.write(&format!("{state}/qemu.stamp"), "");
    for number in 0..9 {
        fs::write(world.module(&format!("{number}.so")), "").unwrap();
    }
    world.remove("usr/lib64/qemu/ui-sdl.so");
    world.remove("usr/lib64/qemu/ui-gtk.so");
    fs::create_dir(world.module("ui-gtk.so")).unwrap();
    world.set_permissions("usr/lib64/qemu/hw-display-qxl.so", 0o600);
    world.write("usr/bin/qemu-system-x86_64", "after  1");
    world.write("etc/qemu/a.conf", "longer than before");
    (world, lines.join("\n"))
}

fn other_reasons() -> Vec<Reason> {
    let subject = || Subject {
        input: Input::Module,
        name: "a.so".into(),
        path: "/usr/lib64/qemu/a.so".into(),
        needed_by: None,
    };
    let error = || "it is not XML".to_owned();
    vec![
        Reason::NotRead(subject()),
        Reason::Disturbed(subject()),
        Reason::TouchedSinceRefresh(subject()),
        Reason::NotObserved {
            kind: FactKind::Host,
            name: "kernel".into(),
        },
        Reason::NotObserved {
            kind: FactKind::Libraries,
            name: "libraries".into(),
        },
        Reason::Removed(Subject {
            input: Input::Library,
            name: "libssl.so.3".into(),
            path: "/usr/lib64/libssl.so.3".into(),
            needed_by: Some(Box::new("/usr/lib64/qemu/a.so".into())),
        }),
        Reason::NewlyNamed {
            input: Input::File,
            item: "/etc/*.conf".into(),
        },
        Reason::Links,
        Reason::UnknownFact {
            kind: FactKind::Variable,
            name: "A".into(),
            error: error(),
        },
        Reason::Host {
            name: "/dev/kvm".into(),
            old: None,
            new: Some("device 10:232".into()),
        },
        Reason::Tag {
            old: None,
            new: Some("libvirt 11".into()),
        },
        Reason::Program {
            old: Some("/usr/bin/a".into()),
            new: None,
        },
        Reason::NothingKept,
        Reason::NeverRefreshed,
        Reason::BeforeRefresh,
        Reason::SinceRefresh,
        Reason::NotOwnCache,
        Reason::UselessAnswer { error: error() },
        Reason::UselessRecord { error: error() },
        Reason::CacheFile { error: error() },
    ]
}

#[test]
fn every_reason_that_there_is_prints_as_the_schema_says() {
    let schema = Schema::new();
    let (world, witness) = much_has_happened();
    let json = ["--json"];
    let mut verdicts = vec![
        printed(&mut check(&world, &witness, &json)),
        printed(check(&world, &witness, &json).env_remove("QEMU_MODULE_DIR")),
        printed(&mut check(
            &world,
            &witness.replacen("2 qemu", "2 other", 1),
            &["--json", "--profile", "qemu"],
        )),
        printed(&mut check(&world, "", &json)),
        printed(&mut check(
            &world,
            &printed(&mut world.modstamp(&["observe"])),
            &json,
        )),
    ];
    world.link(STAMP, "/etc/qemu/a.conf");
    verdicts.push(printed(&mut check(&world, &witness, &json)));

    // Only other verbs give these causes.
    verdicts.push(serde_json::to_string(&Verdict::Stale(other_reasons())).unwrap());

    let mut reasons = Vec::new();
    for verdict in &verdicts {
        let value: Value = serde_json::from_str(verdict).unwrap();
        assert!(schema.allows(&value), "{verdict}");
        reasons.extend(value["reasons"].as_array().unwrap().clone());
    }
    for key in ["cause", "what", "input", "owner", "kind"] {
        let said: BTreeSet<String> = reasons
            .iter()
            .filter_map(|reason| reason.get(key))
            .map(text)
            .collect();
        assert_eq!(
            said,
            schema.words(key),
            "each {key} is in the schema, and can be had"
        );
    }
}

#[test]
fn what_the_schema_does_not_say_is_refused_by_it() {
    let schema = Schema::new();
    let stale = |reason: Value| json!({"version": 2, "fresh": false, "reasons": [reason]});
    let module = |more: Value| {
        let mut reason = json!({"input": "module", "name": "a.so", "path": "/usr/lib64/qemu/a.so"});
        reason
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        stale(reason)
    };
    let changed = |what| module(json!({"cause": "changed", "what": what, "old": "1", "new": "2"}));
    for right in [
        json!({"version": 2, "fresh": true, "reasons": []}),
        module(json!({"cause": "added"})),
        changed("size"),
        stale(json!({"cause": "stamp", "owner": "user", "old": null, "new": "1.000000000"})),
    ] {
        assert!(schema.allows(&right), "{right}");
    }
    for wrong in [
        json!({"version": 1, "fresh": true, "reasons": []}),
        json!({"version": 2, "fresh": false, "reasons": []}),
        json!({"version": 2, "fresh": true, "reasons": [{"cause": "witness", "error": "it is empty"}]}),
        json!({"version": 2, "fresh": true}),
        json!([]),
        module(json!({"cause": "vanished"})),
        module(json!({"cause": "added", "input": "plug-in"})),
        module(json!({"cause": "added", "path": 1})),
        stale(json!({"cause": "added", "input": "module", "name": "a.so"})),
        stale(json!({"cause": "stamp", "owner": "user", "old": null, "new": "1"})),
        stale(json!({"cause": "witness"})),
        stale(json!({})),
        changed("colour"),
    ] {
        assert!(!schema.allows(&wrong), "{wrong}");
    }
}

/// A reader of version 1 keeps its schema, and tells by the number that it does not know version 2.
#[test]
fn the_schema_of_version_1_stays_and_takes_no_verdict_of_version_2_for_its_own() {
    let schema = Schema::of(include_str!("../../packaging/verdict-1.schema.json"));
    for (version, is_its_own) in [(1, true), (2, false)] {
        let reason = json!({"cause": "witness", "error": "it is empty"});
        let verdict = json!({"version": version, "fresh": false, "reasons": [reason]});
        assert_eq!(schema.allows(&verdict), is_its_own, "{verdict}");
    }
}

#[test]
fn people_get_ten_lines_of_which_the_last_counts_the_rest_and_json_has_all() {
    let (world, witness) = much_has_happened();
    let text = printed(&mut check(&world, &witness, &[]));
    let json = printed(&mut check(&world, &witness, &["--json"]));
    let all = json.matches("\"cause\":").count();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 10, "{text}");
    assert_eq!(
        lines[0], "stale: module directory relative not known: Invalid argument (os error 22)",
        "a reason that says that something is not known is not among the rest"
    );
    assert!(
        lines[1].starts_with("stale: system stamp touched: its time was "),
        "{text}"
    );
    assert_eq!(lines[9], format!("stale: and {} more", all - 9));
    assert_eq!(all, 19, "{json}");
}

/// Sets the stamp's time. Returns what people read of it in that zone, and the JSON.
fn stamped_at(world: &World, witness: &str, time: &str) -> (String, String) {
    world.sh(&format!("touch -d @{time} {STAMP}"));
    let of = |arguments: &[&str]| {
        let mut check = check(world, witness, arguments);
        printed(check.env("TZ", "XYZ-2").env_remove("QEMU_MODULE_DIR"))
    };
    (of(&[]), of(&["--json"]))
}

#[test]
fn people_read_times_in_their_own_zone_and_json_has_them_exactly() {
    let world = World::new();
    let witness = printed(modstamp(&world, &["observe"]).env_remove("QEMU_MODULE_DIR"));
    let (text, json) = stamped_at(&world, &witness, "1500000000.5");
    let touched = "stale: system stamp touched: its time was ";
    let times = "2020-09-13 14:26:40 +02:00, now 2017-07-14 04:40:00 +02:00";
    assert_eq!(text, format!("{touched}{times}\n"));
    let exact = r#""old":"1600000000.000000000","new":"1500000000.500000000""#;
    assert!(json.contains(exact), "{json}");
    let (text, _) = stamped_at(&world, &witness, "1600000000.000000001");
    let times = "2020-09-13 14:26:40.000000000 +02:00, now 2020-09-13 14:26:40.000000001 +02:00";
    assert_eq!(text, format!("{touched}{times}\n"), "within one second");

    world.remove(STAMP);
    let witness = printed(modstamp(&world, &["observe"]).env_remove("QEMU_MODULE_DIR"));
    let (text, _) = stamped_at(&world, &witness, "1500000000.5");
    let first = "stale: system stamp touched for the first time: its time is ";
    assert_eq!(text, format!("{first}2017-07-14 04:40:00 +02:00\n"));
}

#[test]
fn a_user_of_the_library_reads_times_in_utc() {
    let world = World::new();
    let verdict = world.verdict(|world| drop(world.sh(&format!("touch -d @1500000000 {STAMP}"))));
    let times = "its time was 2020-09-13T12:26:40Z, now 2017-07-14T02:40:00Z";
    let sentence = format!("system stamp touched: {times}");
    assert_eq!(verdict.reasons_for_people(1), [sentence]);
    let times = "its time was 2020-09-13T12:26:40.000000000Z, now 2020-09-13T12:26:40.000000001Z";
    world.sh(&format!("touch -d @1600000000 {STAMP}"));
    let verdict =
        world.verdict(|world| drop(world.sh(&format!("touch -d @1600000000.000000001 {STAMP}"))));
    assert_eq!(
        verdict.reasons()[0].to_string(),
        format!("system stamp touched: {times}")
    );
}

#[test]
fn a_reason_that_says_that_something_is_not_known_is_not_hidden_behind_the_number_of_the_rest() {
    let subject = |name: &str| Subject {
        input: Input::Module,
        name: name.into(),
        path: Path::new("/usr/lib64/qemu").join(name),
        needed_by: None,
    };
    let unknown = Reason::Unknown {
        subject: subject("c.so"),
        error: "Input/output error".to_owned(),
    };
    let not_read = Reason::NotRead(subject("d.so"));
    let known = || {
        vec![
            Reason::Added(subject("a.so")),
            Reason::Removed(subject("b.so")),
        ]
    };
    for unknown in [unknown, not_read] {
        let reasons = [known(), vec![unknown.clone()]].concat();
        let verdict = Verdict::Stale(reasons);
        let lines = verdict.reasons_for_people(2);
        assert_eq!(lines, [unknown.to_string(), "and 2 more".to_owned()]);
        // If all are shown, they keep their order.
        let lines = verdict.reasons_for_people(3);
        assert_eq!(lines[2], unknown.to_string());
    }
}
