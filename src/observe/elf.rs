//! An ELF file: the names of the shared libraries that it needs, and where it wants them looked up.
//!
//! The file may hold any bytes. Only its headers, its dynamic section and some names are read, each
//! up to a bound.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;

use object::elf::{
    DT_AUXILIARY, DT_FILTER, DT_FLAGS_1, DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_STRTAB, FileHeader32,
    FileHeader64, PT_DYNAMIC, PT_LOAD,
};
use object::endian::Endianness;
use object::pod::slice_from_bytes;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use rustix::io::Errno;

/// What the loader reads in a program, a module or a library.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Elf {
    pub(crate) target: Target,
    /// The names of the libraries that it needs (DT_NEEDED), and of those that it takes symbols
    /// from (DT_FILTER, DT_AUXILIARY).
    pub(crate) needs: Vec<OsString>,
    /// DT_RPATH, unless there is a DT_RUNPATH.
    pub(crate) rpath: Option<OsString>,
    pub(crate) runpath: Option<OsString>,
    /// Whether the default directories do not count (`-z nodefaultlib`, ld(1)).
    pub(crate) lacks_defaults: bool,
}

/// The kind of processor and of address that machine code is for. A program loads only libraries
/// of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    /// `e_machine`, elf(5).
    pub(crate) machine: u16,
    pub(crate) is_64: bool,
    pub(crate) is_little: bool,
}

/// The first bytes of a file. Most files have all headers in them.
const START: usize = 1024;

/// The most bytes of program headers, or of a dynamic section, that are read.
const MOST_BYTES: u64 = 1 << 20;

/// The longest name or run path, in bytes. The kernel takes no longer path (PATH_MAX, limits.h).
const LONGEST_TEXT: u64 = 4096;

/// The most names of needed libraries, and their bytes in all. A large program has some hundred.
const MOST_NEEDS: usize = 4096;
const MOST_NAMES: usize = 256 << 10;

/// `DF_1_NODEFLIB` in DT_FLAGS_1.
const LACKS_DEFAULTS: u64 = 0x800;

/// Reads a regular file. `None` if the loader could make nothing of it.
pub(crate) fn read(file: &OwnedFd) -> io::Result<Option<Elf>> {
    let start = bytes_at(file, 0, START as u64)?;
    match start.get(..5) {
        Some(b"\x7fELF\x01") => parse::<FileHeader32<Endianness>>(file, &start),
        Some(b"\x7fELF\x02") => parse::<FileHeader64<Endianness>>(file, &start),
        _ => Ok(None),
    }
}

fn parse<E: FileHeader<Endian = Endianness>>(
    file: &OwnedFd,
    start: &[u8],
) -> io::Result<Option<Elf>> {
    let Ok(header) = E::parse(start) else {
        return Ok(None);
    };
    let Ok(endian) = header.endian() else {
        return Ok(None);
    };
    let mut elf = Elf {
        target: Target {
            machine: header.e_machine(endian).0,
            is_64: header.is_type_64(),
            is_little: endian == Endianness::Little,
        },
        needs: Vec::new(),
        rpath: None,
        runpath: None,
        lacks_defaults: false,
    };
    let (first, count) = (header.e_phoff(endian).into(), header.e_phnum(endian));
    let size = size_of::<E::ProgramHeader>() as u64 * u64::from(count);
    let bytes = bytes_at(file, first, size)?;
    let Ok((segments, _)) = slice_from_bytes::<E::ProgramHeader>(&bytes, count.into()) else {
        return Ok(None);
    };
    let mut all = segments.iter();
    // A program that was linked statically needs nothing.
    let Some(dynamic) = all.find(|segment| segment.p_type(endian) == PT_DYNAMIC) else {
        return Ok(Some(elf));
    };
    let (offset, size) = dynamic.file_range(endian);
    let bytes = bytes_at(file, offset, size)?;
    let count = bytes.len() / size_of::<E::Dyn>();
    let Ok((items, _)) = slice_from_bytes::<E::Dyn>(&bytes, count) else {
        return Ok(Some(elf));
    };
    let items: Vec<_> = items
        .iter()
        .map(|item| (item.tag(endian), item.val(endian)))
        .take_while(|(tag, _)| tag.0 != 0)
        .collect();
    let mut tables = items.iter().filter(|(tag, _)| *tag == DT_STRTAB);
    let table = tables.next().and_then(|(_, address)| {
        let mut segments = segments.iter().filter(|it| it.p_type(endian) == PT_LOAD);
        segments.find_map(|segment| {
            let (offset, size) = segment.file_range(endian);
            let below = address.checked_sub(segment.p_vaddr(endian).into())?;
            (below < size).then(|| offset.checked_add(below))?
        })
    });
    let Some(table) = table else {
        return Ok(Some(elf));
    };
    let mut names = 0;
    for (tag, value) in items {
        let text = || text_at(file, table.saturating_add(value));
        match tag {
            DT_NEEDED | DT_FILTER | DT_AUXILIARY => {
                elf.needs.extend(text()?);
                names += elf.needs.last().map_or(0, |name| name.len());
                if elf.needs.len() > MOST_NEEDS || names > MOST_NAMES {
                    return Err(Errno::FBIG.into());
                }
            }
            DT_RPATH => elf.rpath = text()?,
            DT_RUNPATH => elf.runpath = text()?,
            DT_FLAGS_1 => elf.lacks_defaults = value & LACKS_DEFAULTS != 0,
            _ => {}
        }
    }
    if elf.runpath.is_some() {
        elf.rpath = None;
    }
    Ok(Some(elf))
}

/// The text that a zero byte ends. `None` if none does, or if it is too long.
fn text_at(file: &OwnedFd, offset: u64) -> io::Result<Option<OsString>> {
    let mut bytes = bytes_at(file, offset, LONGEST_TEXT)?;
    let end = bytes.iter().position(|byte| *byte == 0);
    Ok(end.map(|end| {
        bytes.truncate(end);
        OsString::from_vec(bytes)
    }))
}

/// At most `most` bytes at an offset. There are fewer at the end of the file, and none beyond it.
fn bytes_at(file: &OwnedFd, offset: u64, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; most.min(MOST_BYTES) as usize];
    let mut length = 0;
    // pread(2) takes no offset beyond a signed number.
    while let Some(at) = offset.checked_add(length as u64) {
        if length == bytes.len() || at > i64::MAX as u64 {
            break;
        }
        match rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut bytes[length..], at))? {
            0 => break,
            count => length += count,
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    use proptest::prelude::*;

    fn read_bytes(bytes: &[u8]) -> Option<Elf> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        read(&file.into()).unwrap()
    }

    /// The program of this test: a real one.
    fn own() -> Vec<u8> {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        bytes_at(&file.into(), 0, 64 << 10).unwrap()
    }

    #[test]
    fn a_file_that_the_loader_could_make_nothing_of_has_no_libraries() {
        for bytes in [
            &b""[..],
            b"\x7fELF",
            b"\x7fELF\x02",
            b"#!/bin/sh\n",
            &[0; 64],
        ] {
            assert_eq!(read_bytes(bytes), None, "{bytes:?}");
        }
        assert!(
            read(&std::fs::File::open("/proc/self/exe").unwrap().into())
                .unwrap()
                .is_some()
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn any_bytes_behind_the_mark_of_an_elf_file_are_read_without_a_panic(
            class in 1..3_u8, rest in proptest::collection::vec(any::<u8>(), 0..512),
        ) {
            let mut bytes = b"\x7fELF".to_vec();
            bytes.extend([class, 1, 1]);
            bytes.extend(rest);
            read_bytes(&bytes);
        }

        #[test]
        fn a_program_with_any_bytes_changed_or_cut_off_is_read_without_a_panic(
            changes in proptest::collection::vec((0..2000_usize, any::<u8>()), 1..20), cut in 0..8000_usize,
        ) {
            let mut bytes = own();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            bytes.truncate(bytes.len() - cut);
            read_bytes(&bytes);
        }
    }
}
