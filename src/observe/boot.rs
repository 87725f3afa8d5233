//! The identity of a boot of this host.

use rustix::fs::{Mode, OFlags};

/// The length of a UUID as text, with its newline.
const LENGTH: usize = 37;

/// The identity of this boot (random(4)). `None` if the kernel does not tell, as in a container
/// that hides it.
pub(crate) fn identity() -> Option<[u8; LENGTH]> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let path = c"/proc/sys/kernel/random/boot_id";
    let file = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let mut text = [0; LENGTH + 1];
    let length = rustix::io::read(file, &mut text).ok()?;
    of_text(&text[..length])
}

/// The identity in the text of that file. Text of another kind is none, and neither are zeros.
fn of_text(text: &[u8]) -> Option<[u8; LENGTH]> {
    let text: [u8; LENGTH] = text.try_into().ok()?;
    let (uuid, newline) = text.split_at(LENGTH - 1);
    let is_uuid = uuid
        .iter()
        .all(|byte| byte.is_ascii_hexdigit() || *byte == b'-');
    let is_zero = uuid.iter().all(|byte| matches!(byte, b'0' | b'-'));
    (is_uuid && !is_zero && newline == b"\n").then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_boot_has_no_identity() {
        let real = b"0f61a3b0-2d3c-4d1e-9a57-3c7a2f0c9e11\n";
        assert_eq!(of_text(real), Some(*real));
        let zero = b"00000000-0000-0000-0000-000000000000\n";
        for text in [
            &b""[..],
            b"\n",
            &real[..36],
            zero,
            b"hidden",
            &[b'x'; LENGTH],
        ] {
            assert_eq!(of_text(text), None, "{}", String::from_utf8_lossy(text));
        }
    }
}
