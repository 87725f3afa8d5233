//! libvirt's cache file, and the record of the last refresh.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use modstamp::libvirt::{Cached, refresh};
use modstamp::{Durability, Profile};

use crate::world::{Change, Changed, World, settle};
use crate::{Reader, Target, Tried, expect_sentence};

/// The beginning of a cache file of libvirt 9.0.0, on Debian.
const SAMPLE: &str = include_str!("../fixtures/libvirt-9.0.0.xml");

const PROGRAM: &str = "/usr/bin/qemu-system-x86_64";

/// libvirt's names of the answers of that program, and of /usr/sbin/nbdkit: SHA-256 of the paths.
const XML_FILE: &str = "var/cache/libvirt/qemu/capabilities/\
    926803a9278e445ec919c2b6cbd8c1c449c75b26dcb1686b774314180376c725.xml";
const NBDKIT_FILE: &str = "var/cache/libvirt/qemu/nbdkitcapabilities/\
    9c2babbed3958767ab90100f70c66b13a5ad348b268824fca02cf5e50f67eee3.xml";
const RECORD_FILE: &str = "var/lib/modstamp/qemu.libvirt";

const NBDKIT: &str =
    "<nbdkitCaps><path>/usr/sbin/nbdkit</path><nbdkitctime>1700000000</nbdkitctime>
<plugindir>/usr/lib64/nbdkit/plugins</plugindir><plugindirmtime>1700000001</plugindirmtime>
<filterdir>/usr/lib64/nbdkit/filters</filterdir><filterdirmtime>0</filterdirmtime>
<version>1.32.5</version></nbdkitCaps>
";

/// The record of a refresh, and libvirt's answer from after it, about a world that changed since.
struct Host {
    changed: Changed,
    nbdkit: Profile,
    record: String,
    xml: String,
}

impl Host {
    fn new(directory: &Path) -> Host {
        let world = World::new(directory, "qemu");
        settle();
        let refreshed = refresh(&world.profile, Durability::NotSynced).unwrap();
        assert!(refreshed.is_done, "{:?}", refreshed.warnings);
        let stat = |path: &str| fs::metadata(world.path(path)).unwrap();
        let ctime = stat(&PROGRAM[1..]).ctime().to_string();
        let xml = set(SAMPLE, "emulator", PROGRAM);
        let xml = set(&xml, "qemuctime", &ctime);
        let mtime = stat("usr/lib64/qemu").mtime().to_string();
        let xml = set(&xml, "qemumoddirmtime", &mtime);
        world.write(XML_FILE, &xml);
        assert_eq!(
            verdicts(&world.profile),
            [true],
            "the refreshed answer is stale"
        );
        let nbdkit = Profile::built_in("nbdkit", world.profile.root()).unwrap();
        world.write(NBDKIT_FILE, NBDKIT);
        let record = fs::read_to_string(world.path(RECORD_FILE)).unwrap();
        let changed = world.changed_by(Change::ModuleRewritten);
        assert_eq!(verdicts(&changed.world.profile), [false]);
        Host {
            changed,
            nbdkit,
            record,
            xml,
        }
    }

    fn expect_stale(&self, record: &[u8]) {
        for is_fresh in verdicts(&self.changed.world.profile) {
            self.changed.expect_stale(is_fresh, record);
        }
    }
}

/// Whether each answer is fresh. Checks the sentences that tell it.
fn verdicts(profile: &Profile) -> Vec<bool> {
    let cached = Cached::find(profile).unwrap();
    assert!(cached.errors().is_empty(), "{:?}", cached.errors());
    let verdict = |file| {
        let verdict = cached.verdict(file);
        for reason in verdict.reasons() {
            expect_sentence(&reason.to_string());
        }
        expect_sentence(&file.title());
        if let Err(error) = file.recorded() {
            expect_sentence(error);
        }
        verdict.is_fresh()
    };
    cached.files().iter().map(verdict).collect()
}

/// Sets the text of the first element of that name.
fn set(text: &str, name: &str, value: &str) -> String {
    let (start, end) = (format!("<{name}>"), format!("</{name}>"));
    let (before, rest) = text.split_once(&start).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    format!("{before}{start}{value}{end}{after}")
}

pub const RECORD: Target = Target {
    name: "record",
    begin: |directory| {
        let host = Host::new(directory);
        let file = host.changed.world.path(RECORD_FILE);
        Box::new(RecordFile { host, file })
    },
};

struct RecordFile {
    host: Host,
    file: PathBuf,
}

impl Reader for RecordFile {
    fn seeds(&self) -> Vec<Vec<u8>> {
        vec![self.host.record.clone().into_bytes()]
    }

    fn read(&mut self, input: &[u8]) -> Tried {
        fs::write(&self.file, input).unwrap();
        self.host.expect_stale(input);
        Tried::Judged
    }
}

pub const XML: Target = Target {
    name: "libvirt-xml",
    begin: |directory| Box::new(XmlFile(Host::new(directory))),
};

struct XmlFile(Host);

impl Reader for XmlFile {
    fn seeds(&self) -> Vec<Vec<u8>> {
        vec![self.0.xml.clone().into_bytes(), NBDKIT.into()]
    }

    fn read(&mut self, input: &[u8]) -> Tried {
        let world = &self.0.changed.world;
        world.write(XML_FILE, input);
        world.write(NBDKIT_FILE, input);
        // The record has no fact of the changed world, whatever the answer says.
        self.0.expect_stale(self.0.record.as_bytes());
        assert_eq!(verdicts(&self.0.nbdkit), [false], "nothing was refreshed");
        Tried::Judged
    }
}
