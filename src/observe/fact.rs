//! A fact: a named text that answers depend on, and that is no file of the profile's. It is the
//! value of an environment variable, or something that the running host gives.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, FileType, Stat};
use rustix::io::Errno;

use crate::files::read::read_at_most;
use crate::files::root::Root;
use crate::files::way::{Steps, Stop};
use crate::ground::environment::variable;
use crate::observe::boot;
use crate::observe::evidence::hash;

/// A named text that answers depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) name: String,
    pub(crate) value: Value,
}

/// The value of a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// The variable is not set, or the host has no such thing.
    Absent,
    Text(OsString),
    /// The number of the error that the system gave.
    Unreadable(i32),
}

/// The facts that the running host gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HostFacts {
    /// Sorted by name.
    pub(crate) facts: Vec<Fact>,
    /// A fingerprint of this boot, of its microcode, and of the processor's fact. While it is the
    /// same, so is the processor. `None` if the host does not tell.
    pub(crate) processor: Option<u64>,
}

/// The range of inputs in an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Scope {
    #[default]
    Whole,
    /// Only inputs from packages: no variables, and nothing of the running host.
    Packages,
}

/// Something that the running host gives: an item of a profile's `host`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HostInput {
    /// The release and the version of the kernel.
    Kernel,
    /// The model, the features and the microcode of the first processor.
    Cpu,
    /// A device, or a short file such as a parameter of a kernel module.
    Path(PathBuf),
}

/// The longest file that a host input may be, in bytes. A kernel's parameter has some bytes.
const LONGEST_FILE: u64 = 64 << 10;

/// The longest text of a file that becomes a fact as it is, in bytes. A longer text counts by its
/// digest.
const LONGEST_TEXT: usize = 64;

/// The bytes of /proc/cpuinfo that are read. They cover the first processor. Each further processor
/// costs the kernel time.
const CPU_BYTES: usize = 4096;

/// The lines of /proc/cpuinfo that tell of the model, the features and the microcode, on the
/// processors that KVM runs on. All other lines may change without the processor.
const CPU_LINES: [&str; 24] = [
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "stepping",
    "microcode",
    "flags",
    "vmx flags",
    // ARM
    "CPU implementer",
    "CPU architecture",
    "CPU variant",
    "CPU part",
    "CPU revision",
    "Features",
    // s390
    "features",
    "facilities",
    "processor 0",
    // POWER
    "cpu",
    "revision",
    "machine",
    // RISC-V
    "isa",
    "mvendorid",
    "marchid",
    "mimpid",
];

impl Fact {
    /// The value of an environment variable.
    pub(crate) fn of_variable(name: &str) -> Fact {
        Fact {
            name: name.to_owned(),
            value: variable(name).map_or(Value::Absent, Value::Text),
        }
    }
}

impl HostFacts {
    /// The inputs of the running host, whose root directory is `system`. The `older` facts spare a
    /// look at the processor.
    pub(crate) fn of(inputs: &[HostInput], system: &Root, older: Option<&HostFacts>) -> HostFacts {
        let mut host = HostFacts::default();
        for input in inputs {
            let value = match input {
                HostInput::Kernel => kernel(),
                HostInput::Path(path) => at(path, system),
                HostInput::Cpu => {
                    let boot = boot(system);
                    let known = older.and_then(|older| older.known_processor(boot?));
                    let value = known.cloned().unwrap_or_else(|| cpu(system));
                    host.processor = boot.and_then(|boot| fingerprint(boot, &value));
                    value
                }
            };
            let name = input.to_string();
            host.facts.push(Fact { name, value });
        }
        host
    }

    /// The processor's value, if the processor must be the same in `boot`.
    fn known_processor(&self, boot: u64) -> Option<&Value> {
        let name = HostInput::Cpu.to_string();
        let fact = self.facts.iter().find(|fact| fact.name == name)?;
        let is_same = self.processor? == fingerprint(boot, &fact.value)?;
        is_same.then_some(&fact.value)
    }
}

impl HostInput {
    /// Parses an item of `host`. An error continues the sentence “… holds “ITEM”, ”.
    pub(crate) fn parse(text: &str) -> Result<HostInput, String> {
        match text {
            "kernel" => Ok(HostInput::Kernel),
            "cpu" => Ok(HostInput::Cpu),
            path if path.starts_with('/') && !path.contains(['*', '?', '[']) => {
                Ok(HostInput::Path(Path::new(path).components().collect()))
            }
            _ => Err(
                "which is none; write \"kernel\", \"cpu\", or an absolute path without “*”".into(),
            ),
        }
    }
}

impl fmt::Display for HostInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostInput::Kernel => f.write_str("kernel"),
            HostInput::Cpu => f.write_str("cpu"),
            HostInput::Path(path) => path.display().fmt(f),
        }
    }
}

/// The release and the version of the kernel. libvirt compares them, too (`virQEMUCapsIsValid`).
fn kernel() -> Value {
    let uname = rustix::system::uname();
    let words = [uname.release(), uname.version()].map(|word| word.to_string_lossy());
    Value::Text(words.join(" ").into())
}

/// A fingerprint of this boot and of its microcode. `None` if the host does not tell.
///
/// On x86, the kernel looks at the processor when it boots, and when somebody loads microcode.
/// Elsewhere, a host can move to another processor while it is up.
fn boot(system: &Root) -> Option<u64> {
    if !cfg!(any(target_arch = "x86", target_arch = "x86_64")) {
        return None;
    }
    let boot = boot::identity()?;
    let processor = "/sys/devices/system/cpu/cpu0";
    let microcode = match beginning(system, &format!("{processor}/microcode/version"), 64) {
        Ok(version) => version,
        // The kernel of a virtual machine loads no microcode.
        Err(Errno::NOENT) if !system.lacks(Path::new(processor)) => Vec::new(),
        Err(_) => return None,
    };
    Some(hash(hash(0, &boot), &microcode))
}

/// The evidence that the processor has this value in `boot`.
fn fingerprint(boot: u64, processor: &Value) -> Option<u64> {
    match processor {
        Value::Text(text) => Some(hash(boot, text.as_bytes())),
        Value::Absent | Value::Unreadable(_) => None,
    }
}

/// The first bytes of a file that the kernel writes, in one read.
fn beginning(system: &Root, path: &str, most: usize) -> rustix::io::Result<Vec<u8>> {
    let file = system.read(Path::new(path), Steps::Any);
    let file = file.map_err(|stop| stop.errno())?;
    let mut bytes = vec![0; most];
    let length = rustix::io::read(&file, &mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// The processor, by /proc/cpuinfo. This read takes 20 µs. Before Linux 5.19 it may take 10 ms,
/// because the kernel asks all processors for their speed.
fn cpu(system: &Root) -> Value {
    match beginning(system, "/proc/cpuinfo", CPU_BYTES) {
        Ok(bytes) => match std::str::from_utf8(&bytes) {
            Ok(text) => cpu_of(text),
            Err(_) => cpu_of(&String::from_utf8_lossy(&bytes)),
        },
        Err(errno) => unreadable(&errno.into()),
    }
}

/// The processor in a text of /proc/cpuinfo.
fn cpu_of(text: &str) -> Value {
    let first = text
        .trim_start()
        .lines()
        .take_while(|line| !line.is_empty());
    let pairs = first.filter_map(|line| line.split_once(':'));
    let pairs = pairs.map(|(name, value)| (name.trim(), value.trim()));
    let pairs: Vec<(&str, &str)> = pairs.filter(|(name, _)| CPU_LINES.contains(name)).collect();
    let sum = pairs.iter().fold(0, |sum, (name, value)| {
        hash(hash(sum, name.as_bytes()), value.as_bytes())
    });
    let of = |name: &str| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1);
    let model = of("model name").or(of("cpu")).unwrap_or("model");
    let microcode = of("microcode").map(|it| format!("microcode {it}, "));
    let microcode = microcode.unwrap_or_default();
    Value::Text(format!("{model}, {microcode}digest {sum:016x}").into())
}

/// The value of a path on the running host.
fn at(path: &Path, system: &Root) -> Value {
    let stat = match rustix::fs::stat(path) {
        Ok(stat) => stat,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Value::Absent,
        Err(errno) => return Value::Unreadable(errno.raw_os_error()),
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let file = system.read(path, Steps::Any).map_err(Stop::into);
            match file.and_then(|file| read_at_most(LONGEST_FILE, file)) {
                Ok(bytes) => text_of(&bytes),
                Err(error) => unreadable(&error),
            }
        }
        kind => Value::Text(device(path, kind, &stat).into()),
    }
}

fn text_of(bytes: &[u8]) -> Value {
    let text = std::str::from_utf8(bytes).map(str::trim);
    Value::Text(match text {
        Ok(text) if text.len() <= LONGEST_TEXT => text.into(),
        _ => format!("digest {:016x}", hash(0, bytes)).into(),
    })
}

/// A device as the caller sees it. The kernel gives a miscellaneous device any minor number at each
/// boot, so that number does not count (`MISC_MAJOR`, linux/major.h).
fn device(path: &Path, kind: FileType, stat: &Stat) -> String {
    const MISCELLANEOUS: u32 = 10;
    let what = match (kind, rustix::fs::major(stat.st_rdev)) {
        (FileType::CharacterDevice, MISCELLANEOUS) => "device".to_owned(),
        (FileType::CharacterDevice | FileType::BlockDevice, major) => {
            format!("device {major}:{}", rustix::fs::minor(stat.st_rdev))
        }
        _ => "no device or file".to_owned(),
    };
    let both = Access::READ_OK | Access::WRITE_OK;
    // A group or an ACL may open it to the caller. libvirt asks that, too (`virQEMUCapsIsValid`).
    let is_open = rustix::fs::accessat(CWD, path, both, AtFlags::EACCESS).is_ok();
    let access = if is_open { "open" } else { "closed" };
    let mode = stat.st_mode & 0o7777;
    let (uid, gid) = (stat.st_uid, stat.st_gid);
    format!("{what}, mode {mode:04o}, owner {uid}:{gid}, {access} to the caller")
}

fn unreadable(error: &io::Error) -> Value {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    match errno {
        Errno::NOENT | Errno::NOTDIR => Value::Absent,
        errno => Value::Unreadable(errno.raw_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86: &str = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\n\
        model name\t: Xeon\nstepping\t: 7\nmicrocode\t: 0x5003605\ncpu MHz\t\t: 2100.000\n\
        core id\t\t: 0\nflags\t\t: fpu vmx\n\nprocessor\t: 1\nmicrocode\t: 0x1\n";

    /// The facts of a look at a made-up processor in `boot`.
    fn seen(processor: &str, boot: u64) -> HostFacts {
        let value = Value::Text(processor.into());
        HostFacts {
            processor: fingerprint(boot, &value),
            facts: vec![Fact {
                name: HostInput::Cpu.to_string(),
                value,
            }],
        }
    }

    #[test]
    fn a_processor_is_known_only_in_its_boot_and_by_its_whole_text() {
        let known = seen("Xeon", 1);
        assert_eq!(known.known_processor(1), Some(&Value::Text("Xeon".into())));
        assert_eq!(known.known_processor(2), None);
        let torn = HostFacts {
            processor: known.processor,
            ..seen("Xeo", 1)
        };
        assert_eq!(torn.known_processor(1), None);
        let unproven = HostFacts {
            processor: None,
            ..known
        };
        assert_eq!(unproven.known_processor(1), None);
    }

    #[test]
    fn a_look_in_the_same_boot_spares_one_at_the_processor_and_no_other_does() {
        let system = Root::system().unwrap();
        let look = |older: Option<&HostFacts>| HostFacts::of(&[HostInput::Cpu], &system, older);
        let real = look(None);
        let Some(boot) = boot(&system) else {
            return assert_eq!(real.processor, None);
        };
        let made_up = seen("made up", boot);
        assert_eq!(look(Some(&made_up)), made_up);
        assert_eq!(look(Some(&seen("made up", !boot))), real);
    }

    #[test]
    fn the_processor_is_its_model_features_and_microcode_and_not_its_speed() {
        let cpu = cpu_of(X86);
        let same = X86
            .replace("2100.000", "800.000")
            .replace("core id\t\t: 0", "core id\t\t: 1");
        assert_eq!(cpu_of(&same), cpu);
        let cut = &X86[..X86.len() - 20];
        assert_eq!(cpu_of(cut), cpu);
        for (old, new) in [
            ("model\t\t: 85", "model\t\t: 86"),
            ("stepping\t: 7", "stepping\t: 8"),
            ("0x5003605", "0x5003606"),
            ("fpu vmx", "fpu"),
        ] {
            assert_ne!(cpu_of(&X86.replace(old, new)), cpu, "{new}");
        }
        let Value::Text(text) = cpu else {
            panic!("{cpu:?}");
        };
        let text = text.into_string().unwrap();
        assert!(
            text.starts_with("Xeon, microcode 0x5003605, digest "),
            "{text}"
        );
    }
}
