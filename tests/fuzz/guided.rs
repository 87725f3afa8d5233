//! libFuzzer on the target that the variable `MODSTAMP_FUZZ_TARGET` names.
//!
//! It makes its worlds in the directory `MODSTAMP_FUZZ_SCRATCH`. It writes their seeds into `seeds`
//! there, before libFuzzer reads its corpora. libFuzzer ends the program by itself, so the number of
//! inputs that judged a changed world stands in `judged` there, to the last hundred.

#![no_main]

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use fuzz::{Reader, Tried, target};
use libfuzzer_sys::fuzz_target;

/// The target that libFuzzer feeds.
struct Session {
    reader: Box<dyn Reader>,
    judged: u64,
    count: PathBuf,
}

thread_local! {
    static SESSION: RefCell<Option<Session>> = const { RefCell::new(None) };
}

fn begin() {
    let name = std::env::var("MODSTAMP_FUZZ_TARGET").expect("the name of a target");
    let scratch = std::env::var_os("MODSTAMP_FUZZ_SCRATCH").expect("a scratch directory");
    let scratch = Path::new(&scratch);
    let session = Session {
        reader: (target(&name).begin)(scratch),
        judged: 0,
        count: scratch.join("judged"),
    };
    for (number, seed) in session.reader.seeds().iter().enumerate() {
        let file = scratch.join("seeds").join(number.to_string());
        fs::write(file, seed).expect("a seed that can be written");
    }
    SESSION.with_borrow_mut(|place| *place = Some(session));
}

impl Session {
    fn read(&mut self, input: &[u8]) {
        self.judged += u64::from(self.reader.read(input) == Tried::Judged);
        if self.judged % 100 == 1 {
            let _ = fs::write(&self.count, self.judged.to_string());
        }
    }
}

fuzz_target!(init: begin(), |input: &[u8]| {
    SESSION.with_borrow_mut(|session| session.as_mut().expect("a target that began").read(input));
});
