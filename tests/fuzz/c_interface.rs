//! The functions of the C interface, with any texts, with NULL and with nowhere to put a reason.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::ptr;

use crate::world::{Change, Facts, World, settle};
use crate::{Reader, Target, Tried, expect_sentence};

pub const TARGET: Target = Target {
    name: "c-interface",
    begin: |directory| {
        let world = World::new(directory, "c");
        // The C interface knows no root directory but `/`.
        let [modules, program] = ["usr/lib64/qemu", "usr/bin/qemu-system-x86_64"]
            .map(|path| world.path(path).to_str().unwrap().to_owned());
        let text = format!("module-directories = [{modules:?}]\nprograms = [{program:?}]\n");
        let file = directory.join("tried.toml");
        std::fs::write(&file, text).unwrap();
        settle();
        let profile = CString::new(file.into_os_string().into_vec()).unwrap();
        let before = observe(&profile);
        Change::ModuleRewritten.make(&world);
        let facts = Facts::between(&before, &observe(&profile));
        Box::new(Functions {
            directory: directory.to_owned(),
            profile,
            before,
            facts,
        })
    },
};

const OK: c_int = 0;
const STALE: c_int = 1;
const INVALID: c_int = -1;
const FAILED: c_int = -2;

/// The most lines of reasons that a check gives.
const MOST_LINES: usize = 10;

/// The variable that says that touches cannot reach this machine's own stamps.
const MAY_TOUCH: &str = "MODSTAMP_FUZZ_MAY_TOUCH";

unsafe extern "C" {
    fn modstamp_observe(
        profile: *const c_char,
        witness: *mut *mut c_char,
        why: *mut *mut c_char,
    ) -> c_int;
    fn modstamp_disturbed(
        profile: *const c_char,
        witness: *const c_char,
        why: *mut *mut c_char,
    ) -> c_int;
    fn modstamp_check(
        profile: *const c_char,
        witness: *const c_char,
        why: *mut *mut c_char,
    ) -> c_int;
    fn modstamp_touch(
        profile: *const c_char,
        reason: *const c_char,
        why: *mut *mut c_char,
    ) -> c_int;
    fn modstamp_free(text: *mut c_char);
}

struct Functions {
    directory: PathBuf,
    /// The path of a profile's file.
    profile: CString,
    /// A witness from before a change.
    before: String,
    facts: Facts,
}

/// One call: the first three bytes of an input choose it, and the rest is its texts.
struct Call {
    function: Function,
    /// NULL if it is missing, and so for the text.
    profile: Option<CString>,
    text: Option<CString>,
    wants_why: bool,
    wants_witness: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Observe,
    Disturbed,
    Check,
    Touch,
}

impl Functions {
    fn call_of(&self, input: &[u8]) -> Call {
        let mut head = [0; 3];
        let (chosen, texts) = input.split_at(input.len().min(3));
        head[..chosen.len()].copy_from_slice(chosen);
        let [function, flags, length] = head;
        let (name, text) = texts.split_at(texts.len().min(length.into()));
        let profile = match flags >> 4 & 3 {
            0 | 1 => self.profile.clone(),
            // No profile of this machine has such a name.
            2 => c_string(&[b"none-", name].concat()),
            _ => c_string(&[self.directory.as_os_str().as_bytes(), b"/", name].concat()),
        };
        let has = |bit: u8| flags & bit == 0;
        Call {
            function: [
                Function::Check,
                Function::Disturbed,
                Function::Observe,
                Function::Touch,
            ][usize::from(function % 4)],
            profile: has(1).then_some(profile),
            text: has(2).then(|| c_string(text)),
            wants_why: has(4),
            wants_witness: has(8),
        }
    }
}

impl Call {
    /// Calls the function. Returns its code, the witness and the reason.
    fn make(&self) -> (c_int, Option<Vec<u8>>, Option<Vec<u8>>) {
        let pointer = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |it| it.as_ptr());
        let (profile, text) = (pointer(&self.profile), pointer(&self.text));
        // No function may leave what the caller had there.
        let unset = ptr::dangling_mut::<c_char>();
        let (mut witness, mut why) = (unset, unset);
        let place = |wants, place| if wants { place } else { ptr::null_mut() };
        let why_place = place(self.wants_why, &raw mut why);
        // SAFETY: each text ends with a zero byte and outlives the call, and so do the places.
        let code = unsafe {
            match self.function {
                Function::Observe => {
                    let witness_place = place(self.wants_witness, &raw mut witness);
                    modstamp_observe(profile, witness_place, why_place)
                }
                Function::Disturbed => modstamp_disturbed(profile, text, why_place),
                Function::Check => modstamp_check(profile, text, why_place),
                Function::Touch => modstamp_touch(profile, text, why_place),
            }
        };
        (code, take(witness, unset), take(why, unset))
    }
}

/// A text that the library gave, which is freed. `None` for NULL, and if nobody asked for it.
fn take(text: *mut c_char, unset: *mut c_char) -> Option<Vec<u8>> {
    if text.is_null() || text == unset {
        return None;
    }
    // SAFETY: the library gave it, and nobody uses it after this.
    unsafe {
        let bytes = CStr::from_ptr(text).to_bytes().to_owned();
        modstamp_free(text);
        Some(bytes)
    }
}

/// The text up to the first zero byte, in memory that ends with it.
fn c_string(bytes: &[u8]) -> CString {
    let end = bytes.iter().position(|byte| *byte == 0);
    CString::new(&bytes[..end.unwrap_or(bytes.len())]).unwrap()
}

/// The witness of the profile whose file has this path.
fn observe(profile: &CStr) -> String {
    let call = Call {
        function: Function::Observe,
        profile: Some(profile.to_owned()),
        text: None,
        wants_why: true,
        wants_witness: true,
    };
    let (code, witness, why) = call.make();
    assert_eq!((code, why), (OK, None));
    String::from_utf8(witness.unwrap()).unwrap()
}

impl Reader for Functions {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let of = |function: u8, text: &str| [&[function, 0, 0], text.as_bytes()].concat();
        vec![
            of(0, &self.before),
            of(1, &self.before),
            of(2, ""),
            of(3, "a reason"),
        ]
    }

    fn read(&mut self, input: &[u8]) -> Tried {
        let call = self.call_of(input);
        if call.function == Function::Touch && std::env::var_os(MAY_TOUCH).is_none() {
            return Tried::Read;
        }
        let (code, witness, why) = call.make();
        assert!(
            [OK, STALE, INVALID, FAILED].contains(&code),
            "{code}: {why:?}"
        );
        let was_observed = call.function == Function::Observe && code == OK;
        assert_eq!(witness.is_some(), was_observed, "{code}");
        assert_eq!(why.is_some(), call.wants_why && code != OK, "{code}");
        let why = why.map(|why| String::from_utf8(why).expect("a reason in UTF-8"));
        let lines: Vec<&str> = why.iter().flat_map(|why| why.lines()).collect();
        assert!(lines.len() <= MOST_LINES, "{lines:?}");
        lines.into_iter().for_each(expect_sentence);
        if matches!(call.function, Function::Check | Function::Disturbed) {
            self.facts.expect_stale(code == OK, input);
            return Tried::Judged;
        }
        Tried::Read
    }
}
