//! The path list of a trigger, and the body of one of rpm's.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use modstamp::Profile;
use modstamp::trigger::{Body, Cause, Deadline, read_paths};

use crate::{Reader, Target, Tried, expect_sentence};

/// No path is longer (PATH_MAX). Of a longer line only the beginning counts.
const LONGEST_PATH: usize = 4096;

pub const PATHS: Target = Target {
    name: "path-list",
    begin: |directory| {
        let root = modstamp::Root::system().unwrap();
        Box::new(Paths {
            file: directory.join("paths"),
            profile: Profile::built_in("qemu", &root).unwrap(),
        })
    },
};

struct Paths {
    file: PathBuf,
    profile: Profile,
}

impl Reader for Paths {
    /// The first path of the list that the profile covers is the cause.
    fn read(&mut self, input: &[u8]) -> Tried {
        fs::write(&self.file, input).unwrap();
        let list = File::open(&self.file).unwrap();
        let covers = |path: &Path| self.profile.covers(path);
        let cause = read_paths(covers, list, Deadline::after(Duration::from_secs(5)));
        let lines = input.split(|byte| *byte == b'\n');
        let lines = lines.map(|line| &line[..line.len().min(LONGEST_PATH)]);
        let lines: Vec<&[u8]> = lines.filter(|line| !line.is_empty()).collect();
        let paths = lines.iter();
        let mut paths = paths.map(|line| Path::new("/").join(OsStr::from_bytes(line)));
        let expected = match paths.find(|path| covers(path)) {
            Some(path) => Some(Cause::Path(path.display().to_string())),
            None => lines.is_empty().then_some(Cause::NoPaths),
        };
        assert_eq!(cause, expected);
        Tried::Read
    }
}

pub const BODY: Target = Target {
    name: "body",
    begin: |directory| Box::new(BodyFile(directory.join("body"))),
};

struct BodyFile(PathBuf);

impl Reader for BodyFile {
    fn read(&mut self, input: &[u8]) -> Tried {
        fs::write(&self.0, input).unwrap();
        let body = Body::read(Some(self.0.clone().into_os_string()));
        for warning in body.warnings {
            expect_sentence(&warning);
        }
        assert!(body.directories.iter().all(|path| path.is_absolute()));
        Tried::Read
    }
}
