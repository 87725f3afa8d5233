//! libFuzzer on the target that the variable `MODSTAMP_FUZZ_TARGET` names.
//!
//! It makes its worlds in the directory `MODSTAMP_FUZZ_SCRATCH`. It writes their seeds into `seeds`
//! there, before libFuzzer reads its corpora.

#![no_main]

use std::cell::RefCell;
use std::path::Path;

use fuzz::{Reader, target};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static READER: RefCell<Option<Box<dyn Reader>>> = const { RefCell::new(None) };
}

fn begin() {
    let name = std::env::var("MODSTAMP_FUZZ_TARGET").expect("the name of a target");
    let scratch = std::env::var_os("MODSTAMP_FUZZ_SCRATCH").expect("a scratch directory");
    let scratch = Path::new(&scratch);
    let reader = (target(&name).begin)(scratch);
    for (number, seed) in reader.seeds().iter().enumerate() {
        let file = scratch.join("seeds").join(number.to_string());
        std::fs::write(file, seed).expect("a seed that can be written");
    }
    READER.with_borrow_mut(|place| *place = Some(reader));
}

fuzz_target!(init: begin(), |input: &[u8]| {
    READER.with_borrow_mut(|reader| {
        reader.as_mut().expect("a target that began").read(input);
    });
});
