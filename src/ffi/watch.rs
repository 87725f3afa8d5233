//! The watch of the C interface: a handle that the caller opens, checks by and closes.

use std::ffi::{c_char, c_int};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use crate::ffi::{Refusal, answer, invalid, load, tagged, text, told};
use crate::judge::watch::Watch;
use crate::judge::witness::Witness;
use crate::observe::evidence::hash;

/// The most witnesses that a watch keeps parsed.
const MOST_WITNESSES: usize = 1024;

/// `modstamp_watch` of modstamp.h.
#[allow(non_camel_case_types)] // C has this name.
pub struct modstamp_watch {
    watch: Watch,
    /// Parsed witnesses, each with the hash of its text.
    witnesses: Vec<(u64, Witness)>,
}

/// `modstamp_watch_open` of modstamp.h.
///
/// # Safety
/// Each pointer is null or valid, and each text ends with a zero byte, as modstamp.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn modstamp_watch_open(
    profile: *const c_char,
    tag: *const c_char,
    watch: *mut *mut modstamp_watch,
    why: *mut *mut c_char,
) -> c_int {
    if !watch.is_null() {
        // SAFETY: the caller's promise.
        unsafe { *watch = ptr::null_mut() };
    }
    let open = || {
        if watch.is_null() {
            return Err(invalid("watch", "it is NULL; give the place for the watch"));
        }
        // SAFETY: the caller's promise.
        let profile = unsafe { tagged(load(profile)?, tag) }?;
        let opened = Box::new(modstamp_watch {
            watch: profile.watch()?,
            witnesses: Vec::new(),
        });
        // SAFETY: as above.
        unsafe { *watch = Box::into_raw(opened) };
        Ok(())
    };
    // SAFETY: as above.
    unsafe { answer(why, open) }
}

/// `modstamp_watch_check` of modstamp.h.
///
/// # Safety
/// Like [`modstamp_watch_open`]. `watch` is null or open, and no other thread uses it meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn modstamp_watch_check(
    watch: *mut modstamp_watch,
    witness: *const c_char,
    why: *mut *mut c_char,
) -> c_int {
    let check = || {
        // SAFETY: the caller's promise.
        let Some(watch) = (unsafe { watch.as_mut() }) else {
            return Err(invalid("watch", "it is NULL; open a watch"));
        };
        // SAFETY: as above.
        let text = unsafe { text("witness", witness) }?;
        watch.check(text.to_bytes())
    };
    // SAFETY: as above.
    unsafe { answer(why, check) }
}

/// `modstamp_watch_fd` of modstamp.h.
///
/// # Safety
/// `watch` is null or open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn modstamp_watch_fd(watch: *const modstamp_watch) -> c_int {
    // SAFETY: the caller's promise.
    let watch = unsafe { watch.as_ref() };
    watch.map_or(-1, |it| it.watch.as_fd().as_raw_fd())
}

/// `modstamp_watch_close` of modstamp.h.
///
/// # Safety
/// `watch` is null, or open. Nobody uses it after this call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn modstamp_watch_close(watch: *mut modstamp_watch) {
    if !watch.is_null() {
        // SAFETY: each open watch comes from `Box::into_raw`.
        drop(unsafe { Box::from_raw(watch) });
    }
}

impl modstamp_watch {
    fn check(&mut self, text: &[u8]) -> Result<(), Refusal> {
        let key = hash(0, text);
        let known = self.witnesses.iter().position(|(known, _)| *known == key);
        let index = match known {
            Some(index) => index,
            None => {
                let witness = match Witness::from_bytes(text) {
                    Ok(witness) => witness,
                    Err(error) => return told(error.into()),
                };
                if self.witnesses.len() == MOST_WITNESSES {
                    self.witnesses.clear();
                }
                self.witnesses.push((key, witness));
                self.witnesses.len() - 1
            }
        };
        told(self.watch.check(&self.witnesses[index].1)?)
    }
}
