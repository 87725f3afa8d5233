//! The C interface, `libmodstamp.so.0`. `include/modstamp.h` documents each function.
//!
//! Nothing unwinds into C, and nothing is printed: a panic becomes [`PANICKED`]. That needs the
//! Cargo profile `ffi`, because the programs' profile aborts on a panic.

#![allow(unsafe_code)]

use std::any::Any;
use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::ptr;

use crate::ground::environment::caller;
use crate::ground::error::Error;
use crate::judge::verdict::Verdict;
use crate::judge::witness::Witness;
use crate::observe::profile::Profile;
use crate::stamp::stamp::{Durability, Stamp};

mod watch;

/// Done. A checked witness still holds.
const OK: c_int = 0;
const STALE: c_int = 1;
const INVALID: c_int = -1;
const FAILED: c_int = -2;
const PANICKED: c_int = -3;

/// A return value other than [`OK`], and the reason as text.
struct Refusal(c_int, String);

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal(FAILED, error.to_string())
    }
}

/// `modstamp_observe` of modstamp.h.
///
/// # Safety
/// Each pointer is null or valid, and each text ends with a zero byte, as modstamp.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn modstamp_observe(
    profile: *const c_char,
    witness: *mut *mut c_char,
    why: *mut *mut c_char,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { modstamp_observe_for(profile, ptr::null(), ptr::null(), witness, why) }
}

/// `modstamp_observe_for` of modstamp.h.
///
/// # Safety
/// Like [`modstamp_observe`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn modstamp_observe_for(
    profile: *const c_char,
    program: *const c_char,
    tag: *const c_char,
    witness: *mut *mut c_char,
    why: *mut *mut c_char,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { put(witness, None) };
    let observe = || {
        if witness.is_null() {
            return Err(invalid(
                "witness",
                "it is NULL; give the place for the witness",
            ));
        }
        // SAFETY: the caller's promise.
        let mut profile = unsafe { tagged(load(profile)?, tag) }?;
        if !program.is_null() {
            // SAFETY: as above.
            profile = profile.of_program(unsafe { absolute("program", program) }?);
        }
        let text = profile.observe()?.to_string();
        // SAFETY: as above.
        unsafe { put(witness, Some(text)) };
        Ok(())
    };
    // SAFETY: as above.
    unsafe { answer(why, observe) }
}

/// `modstamp_disturbed` of modstamp.h.
///
/// # Safety
/// Like [`modstamp_observe`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn modstamp_disturbed(
    profile: *const c_char,
    witness: *const c_char,
    why: *mut *mut c_char,
) -> c_int {
    let look = || {
        // SAFETY: the caller's promise.
        let (profile, witness) = unsafe { (load(profile)?, text("witness", witness)?) };
        let why = match Witness::from_bytes(witness.to_bytes()) {
            Ok(before) => {
                let after = before.question(&profile).inputs()?;
                before.disturbed(&after).map(|why| why.to_string())
            }
            Err(error) => Some(error.to_string()),
        };
        why.map_or(Ok(()), |why| Err(Refusal(STALE, why)))
    };
    // SAFETY: the caller's promise.
    unsafe { answer(why, look) }
}

/// `modstamp_check` of modstamp.h.
///
/// # Safety
/// Like [`modstamp_observe`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn modstamp_check(
    profile: *const c_char,
    witness: *const c_char,
    why: *mut *mut c_char,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { modstamp_check_for(profile, ptr::null(), witness, why) }
}

/// `modstamp_check_for` of modstamp.h.
///
/// # Safety
/// Like [`modstamp_observe`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn modstamp_check_for(
    profile: *const c_char,
    tag: *const c_char,
    witness: *const c_char,
    why: *mut *mut c_char,
) -> c_int {
    let check = || {
        // SAFETY: the caller's promise.
        let profile = unsafe { tagged(load(profile)?, tag) }?;
        // SAFETY: as above.
        let witness = unsafe { text("witness", witness) }?;
        let verdict = match Witness::from_bytes(witness.to_bytes()) {
            Ok(witness) => witness.check(&profile)?,
            Err(error) => Verdict::from(error),
        };
        told(verdict)
    };
    // SAFETY: the caller's promise.
    unsafe { answer(why, check) }
}

/// `modstamp_touch` of modstamp.h.
///
/// # Safety
/// Like [`modstamp_observe`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn modstamp_touch(
    profile: *const c_char,
    reason: *const c_char,
    why: *mut *mut c_char,
) -> c_int {
    let touch = || {
        // SAFETY: the caller's promise.
        let (profile, reason) = unsafe { (load(profile)?, text("reason", reason)?) };
        let reason = utf8("reason", reason)?;
        let stamp = Stamp::own(profile.root(), profile.name())?;
        stamp.touch(&caller(), reason, Durability::Synced)?;
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { answer(why, touch) }
}

/// `modstamp_free` of modstamp.h.
///
/// # Safety
/// `text` is null, or another function of this library gave it. Nobody uses it after this call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn modstamp_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: each text that the library gives away comes from `CString::into_raw`.
        drop(unsafe { CString::from_raw(text) });
    }
}

/// `modstamp_version` of modstamp.h.
#[unsafe(no_mangle)]
pub extern "C" fn modstamp_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// A verdict, as the caller is told of it.
fn told(verdict: Verdict) -> Result<(), Refusal> {
    match verdict {
        Verdict::Fresh => Ok(()),
        stale @ Verdict::Stale(_) => {
            let reasons = stale.reasons_for_people(Verdict::MOST_LINES);
            Err(Refusal(STALE, reasons.join("\n")))
        }
    }
}

/// Does the work, and returns its code. `why` gets the reason, or NULL after [`OK`].
///
/// # Safety
/// `why` is null or valid.
unsafe fn answer(why: *mut *mut c_char, work: impl FnOnce() -> Result<(), Refusal>) -> c_int {
    // glibc unwinds the stack of a cancelled thread (pthread_cancel(3)), and nobody may catch that.
    // So the cancellation waits until we are done.
    let mut before = 0;
    // SAFETY: it only changes the calling thread, and `before` takes the old state.
    unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &mut before) };
    // Unwind safe: no later call sees the state that a panic leaves.
    let worked = catch_unwind(AssertUnwindSafe(work));
    // SAFETY: as above.
    unsafe { pthread_setcancelstate(before, ptr::null_mut()) };
    let (code, reason) = match worked {
        Ok(Ok(())) => (OK, None),
        Ok(Err(Refusal(code, reason))) => (code, Some(reason)),
        Err(panic) => (PANICKED, Some(fault(panic.as_ref()))),
    };
    // SAFETY: the caller's promise.
    unsafe { put(why, reason) };
    code
}

/// The reason that a caller gets for a panic.
fn fault(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("no message");
    format!("modstamp found a fault of its own ({message}); take it as stale, and report it")
}

/// Gives the caller a text, or NULL, if the caller wants one.
///
/// # Safety
/// `place` is null or valid.
unsafe fn put(place: *mut *mut c_char, text: Option<String>) {
    if place.is_null() {
        return;
    }
    // No text of ours has a zero byte: all foreign text is escaped.
    let text = text.map(|text| CString::new(text).unwrap_or_default());
    // SAFETY: the caller's promise.
    unsafe { *place = text.map_or(ptr::null_mut(), CString::into_raw) };
}

/// A text that the caller passed.
///
/// # Safety
/// `pointer` is null, or a text that ends with a zero byte and outlives the result.
unsafe fn text<'a>(argument: &str, pointer: *const c_char) -> Result<&'a CStr, Refusal> {
    if pointer.is_null() {
        return Err(invalid(argument, "it is NULL; give a text"));
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { CStr::from_ptr(pointer) })
}

/// Loads the profile that the caller named.
///
/// # Safety
/// Like [`text`].
unsafe fn load(name: *const c_char) -> Result<Profile, Refusal> {
    // SAFETY: the caller's promise.
    let name = unsafe { text("profile", name) }?;
    let name = name.to_str().map_err(|_| {
        invalid(
            "profile",
            "it is not text in UTF-8; name a profile that “modstamp status” lists",
        )
    })?;
    Ok(Profile::load(name)?)
}

/// The profile with the consumer's text, if there is one.
///
/// # Safety
/// `tag` is null, or like [`text`].
unsafe fn tagged(profile: Profile, tag: *const c_char) -> Result<Profile, Refusal> {
    if tag.is_null() {
        return Ok(profile);
    }
    // SAFETY: the caller's promise.
    let tag = unsafe { text("tag", tag) }?;
    Ok(profile.tagged(utf8("tag", tag)?))
}

/// An absolute path that the caller passed.
///
/// # Safety
/// Like [`text`].
unsafe fn absolute(argument: &str, pointer: *const c_char) -> Result<PathBuf, Refusal> {
    // SAFETY: the caller's promise.
    let path = unsafe { text(argument, pointer) }?;
    let path = PathBuf::from(OsStr::from_bytes(path.to_bytes()));
    match path.is_absolute() {
        true => Ok(path),
        false => Err(invalid(argument, "it is relative; give an absolute path")),
    }
}

fn utf8<'a>(argument: &str, text: &'a CStr) -> Result<&'a str, Refusal> {
    let problem = "it is not text in UTF-8; write it in UTF-8, or leave it empty";
    text.to_str().map_err(|_| invalid(argument, problem))
}

fn invalid(argument: &str, problem: &str) -> Refusal {
    Refusal(
        INVALID,
        format!("cannot use the argument “{argument}”: {problem}"),
    )
}

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
}

/// pthread_setcancelstate(3), in glibc and musl.
const PTHREAD_CANCEL_DISABLE: c_int = 1;

/// Makes the library's panics silent when it is loaded. The library has its own copy of Rust's
/// standard library, so a program in Rust that loads it keeps its own hook.
#[used]
#[unsafe(link_section = ".init_array")]
static SILENCE: extern "C" fn() = {
    extern "C" fn silence() {
        std::panic::set_hook(Box::new(|_| {}));
    }
    silence
};
