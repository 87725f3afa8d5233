//! The directories in which the loader looks for a library, by ld.so(8).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use object::elf::{
    EM_386, EM_AARCH64, EM_ARM, EM_LOONGARCH, EM_MIPS, EM_PPC, EM_PPC64, EM_RISCV, EM_S390,
    EM_X86_64,
};

use crate::observe::elf::Target;

/// The names that an architecture's directories have.
struct Architecture {
    target: Target,
    /// Below `/` and `/usr`, before `lib64` and `lib`.
    directories: &'static [&'static str],
    /// In the names of musl's files.
    musl: &'static [&'static str],
    /// `$PLATFORM`, unless it depends on the processor.
    platform: Option<&'static str>,
}

const fn architecture(
    (machine, is_64, is_little): (u16, bool, bool),
    directories: &'static [&'static str],
    musl: &'static [&'static str],
    platform: Option<&'static str>,
) -> Architecture {
    let target = Target {
        machine,
        is_64,
        is_little,
    };
    Architecture {
        target,
        directories,
        musl,
        platform,
    }
}

#[rustfmt::skip] // A table is read by its columns.
const ARCHITECTURES: [Architecture; 13] = [
    architecture((EM_X86_64.0, true, true), &["lib/x86_64-linux-gnu"], &["x86_64"], Some("x86_64")),
    architecture((EM_X86_64.0, false, true), &["lib/x86_64-linux-gnux32", "libx32"], &["x32"], Some("x86_64")),
    architecture((EM_386.0, false, true), &["lib/i386-linux-gnu"], &["i386"], Some("i686")),
    architecture((EM_AARCH64.0, true, true), &["lib/aarch64-linux-gnu"], &["aarch64"], Some("aarch64")),
    architecture((EM_ARM.0, false, true), &["lib/arm-linux-gnueabihf", "lib/arm-linux-gnueabi"], &["armhf", "arm"], None),
    architecture((EM_PPC64.0, true, true), &["lib/powerpc64le-linux-gnu"], &["powerpc64le"], None),
    architecture((EM_PPC64.0, true, false), &["lib/powerpc64-linux-gnu"], &["powerpc64"], None),
    architecture((EM_PPC.0, false, false), &["lib/powerpc-linux-gnu"], &["powerpc"], None),
    architecture((EM_S390.0, true, false), &["lib/s390x-linux-gnu"], &["s390x"], None),
    architecture((EM_RISCV.0, true, true), &["lib/riscv64-linux-gnu", "lib64/lp64d"], &["riscv64"], None),
    architecture((EM_LOONGARCH.0, true, true), &["lib/loongarch64-linux-gnu"], &["loongarch64"], None),
    architecture((EM_MIPS.0, true, true), &["lib/mips64el-linux-gnuabi64"], &["mips64el"], None),
    architecture((EM_MIPS.0, false, true), &["lib/mipsel-linux-gnu"], &["mipsel"], None),
];

fn of(target: Target) -> Option<&'static Architecture> {
    ARCHITECTURES.iter().find(|it| it.target == target)
}

/// The directories below `/` and `/usr` that have libraries for a target; for any, if it is `None`.
fn library_directories(target: Option<Target>) -> Vec<&'static str> {
    let of_architecture = ARCHITECTURES
        .iter()
        .filter(|it| target.is_none_or(|target| it.target == target));
    let mut names: Vec<&str> = of_architecture
        .flat_map(|it| it.directories)
        .copied()
        .collect();
    if target.is_none_or(|target| target.is_64) {
        names.push("lib64");
    }
    names.push("lib");
    names
}

/// The directories that need no configuration. Distributions differ in them; those of all count.
pub(crate) fn default_directories(target: Option<Target>) -> Vec<PathBuf> {
    let names = library_directories(target).into_iter();
    let pairs = names.flat_map(|name| [Path::new("/").join(name), Path::new("/usr").join(name)]);
    pairs.collect()
}

/// The files in which musl's loader finds its directories. glibc's has a cache instead.
pub(crate) fn musl_files(target: Option<Target>) -> Vec<PathBuf> {
    let architectures = ARCHITECTURES
        .iter()
        .filter(|it| target.is_none_or(|target| it.target == target));
    let names = architectures.flat_map(|it| it.musl);
    names
        .map(|name| PathBuf::from(format!("/etc/ld-musl-{name}.path")))
        .collect()
}

/// The directories in the text of such a file.
pub(crate) fn musl_directories(text: &[u8]) -> Vec<PathBuf> {
    let items = text.split(|byte| matches!(byte, b':' | b'\n'));
    let paths = items.map(|item| PathBuf::from(OsStr::from_bytes(item.trim_ascii())));
    paths.filter(|path| path.is_absolute()).collect()
}

/// The directories that the loader looks in if there is neither a cache nor a file of musl's.
pub(crate) fn directories_without_cache(target: Option<Target>) -> Vec<PathBuf> {
    let mut directories = default_directories(target);
    directories.push("/usr/local/lib".into());
    directories
}

/// The directories in a run path, of a file in the directory `origin`.
///
/// A relative path does not count: it depends on the directory that the program runs in.
pub(crate) fn run_path(text: &OsStr, origin: &Path, target: Target) -> Vec<PathBuf> {
    let items = text.as_bytes().split(|byte| *byte == b':');
    let paths = items.flat_map(|item| expanded(item, origin, target));
    paths.filter(|path| path.is_absolute()).collect()
}

/// The paths that a text stands for. `$LIB` has another value on each distribution; all count.
pub(crate) fn expanded(text: &[u8], origin: &Path, target: Target) -> Vec<PathBuf> {
    let mut texts = vec![Vec::new()];
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let token = (*first == b'$').then(|| TOKENS.iter().find_map(|it| it.strip(behind)));
        let Some((token, behind)) = token.flatten() else {
            texts.iter_mut().for_each(|text| text.push(*first));
            rest = behind;
            continue;
        };
        rest = behind;
        let values: Vec<&[u8]> = match token {
            Token::Origin => vec![origin.as_os_str().as_bytes()],
            Token::Lib => {
                let names = library_directories(Some(target)).into_iter();
                names.map(str::as_bytes).collect()
            }
            Token::Platform => {
                let platform = of(target).and_then(|it| it.platform);
                platform.into_iter().map(str::as_bytes).collect()
            }
        };
        let with = |text: &Vec<u8>| {
            let text = text.clone();
            let all = values.iter();
            all.map(move |value| [&text[..], value].concat())
                .collect::<Vec<_>>()
        };
        texts = texts.iter().take(MOST_VALUES).flat_map(with).collect();
    }
    let texts = texts.into_iter().map(OsString::from_vec);
    texts.map(PathBuf::from).collect()
}

/// The most values of one item: one with many `$LIB` in it would have no end of them.
const MOST_VALUES: usize = 64;

/// Something that the loader replaces in a run path.
#[derive(Clone, Copy)]
enum Token {
    Origin,
    Lib,
    Platform,
}

const TOKENS: [Token; 3] = [Token::Origin, Token::Lib, Token::Platform];

impl Token {
    /// The text behind this token, without its `$`; `None` if the text does not begin with it.
    fn strip(self, text: &[u8]) -> Option<(Token, &[u8])> {
        let name: &[u8] = match self {
            Token::Origin => b"ORIGIN",
            Token::Lib => b"LIB",
            Token::Platform => b"PLATFORM",
        };
        let behind = match text.strip_prefix(b"{") {
            Some(text) => text.strip_prefix(name)?.strip_prefix(b"}")?,
            None => {
                let behind = text.strip_prefix(name)?;
                let is_longer = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
                (!behind.first().is_some_and(is_longer)).then_some(behind)?
            }
        };
        Some((self, behind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86: Target = ARCHITECTURES[0].target;
    const POWER: Target = ARCHITECTURES[5].target;

    fn paths(text: &str, target: Target) -> Vec<String> {
        let paths = run_path(OsStr::new(text), Path::new("/opt/a/bin"), target);
        paths.iter().map(|it| it.display().to_string()).collect()
    }

    #[test]
    fn a_run_path_begins_at_the_file_s_directory_and_has_each_name_of_the_libraries() {
        let found = paths("$ORIGIN/../lib:${ORIGIN}:/usr/$LIB/x", X86);
        let lib = ["/usr/lib/x86_64-linux-gnu/x", "/usr/lib64/x", "/usr/lib/x"];
        let expected = ["/opt/a/bin/../lib", "/opt/a/bin"].into_iter().chain(lib);
        assert_eq!(found, expected.collect::<Vec<_>>());
    }

    #[test]
    fn an_item_that_depends_on_the_processor_or_the_working_directory_does_not_count() {
        assert_eq!(paths("/opt/$PLATFORM", X86), ["/opt/x86_64"]);
        assert!(paths("/opt/$PLATFORM", POWER).is_empty());
        assert!(paths(".:lib::", X86).is_empty());
        assert_eq!(
            paths("/opt/$ORIGINAL:/opt/$", X86),
            ["/opt/$ORIGINAL", "/opt/$"]
        );
    }

    #[test]
    fn an_item_with_many_tokens_has_an_end() {
        assert!(paths(&"/$LIB".repeat(700), X86).len() <= 3 * MOST_VALUES);
    }

    #[test]
    fn a_file_of_musl_has_a_directory_in_each_line_or_between_colons() {
        let found = musl_directories(b"/lib\n/opt/lib:/usr/lib\n\nrelative\n");
        assert_eq!(
            found,
            [
                Path::new("/lib"),
                Path::new("/opt/lib"),
                Path::new("/usr/lib")
            ]
        );
    }
}
