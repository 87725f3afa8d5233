//! The plausible errors of each system call, and the calls that do not fail.

use crate::injection::Point;

/// A system call and its plausible errors. A name that is missing here fails the test.
const ERRORS: &[(&[&str], &[&str])] = &[
    (&["read", "pread64"], &["EIO", "EINTR", "EAGAIN", "ENOMEM"]),
    (
        &["write", "pwrite64"],
        &["EIO", "ENOSPC", "EDQUOT", "EINTR", "EAGAIN", "EPERM"],
    ),
    (&["getdents64"], &["EIO", "ENOMEM"]),
    (&["fstat", "lstat", "stat"], &["EIO", "ENOMEM", "EACCES"]),
    (
        &["statx", "faccessat2"],
        &["EIO", "ENOMEM", "EACCES", "ENOSYS"],
    ),
    (
        &["newfstatat", "readlinkat", "readlink"],
        &["EIO", "ENOMEM", "EACCES"],
    ),
    (
        &["access", "faccessat"],
        &["EIO", "ENOMEM", "EACCES", "EROFS"],
    ),
    (
        &["statfs", "fstatfs"],
        &["EIO", "ENOMEM", "EACCES", "ENOSYS", "EINTR"],
    ),
    (
        &[
            "getxattr",
            "fgetxattr",
            "lgetxattr",
            "listxattr",
            "flistxattr",
            "llistxattr",
        ],
        &["EIO", "ENOMEM", "EPERM", "EACCES"],
    ),
    (&["mkdir", "mkdirat"], CREATING),
    (&["linkat", "symlinkat", "renameat", "rename"], CREATING),
    (
        &["renameat2"],
        &[
            "EIO", "ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "ENOMEM", "ENOSYS", "EINVAL",
        ],
    ),
    (
        &["unlink", "unlinkat", "rmdir"],
        &["EIO", "EROFS", "EACCES", "EPERM", "ENOMEM"],
    ),
    (
        &[
            "fchmod",
            "fchmodat",
            "fchmodat2",
            "chmod",
            "fchown",
            "fchownat",
            "utimensat",
        ],
        &["EIO", "EROFS", "EACCES", "EPERM", "ENOMEM", "EDQUOT"],
    ),
    (
        &["fsync", "fdatasync", "syncfs"],
        &["EIO", "ENOSPC", "EDQUOT", "EROFS"],
    ),
    (
        &["ftruncate", "fallocate"],
        &["EIO", "ENOSPC", "EPERM", "EINTR", "EDQUOT"],
    ),
    (&["flock"], &["EINTR", "EAGAIN", "ENOMEM", "EIO"]),
    (&["lseek"], &["EIO"]),
    (&["poll", "ppoll"], &["EINTR", "ENOMEM"]),
    (
        &[
            "pipe2",
            "dup",
            "dup2",
            "dup3",
            "socketpair",
            "epoll_create1",
            "eventfd2",
            "timerfd_create",
            "signalfd4",
            "memfd_create",
        ],
        &["EMFILE", "ENOMEM"],
    ),
    (
        &["pidfd_open", "pidfd_send_signal"],
        &["EMFILE", "ENOMEM", "EPERM", "ENOSYS"],
    ),
    (&["setrlimit"], &["EPERM"]),
    (&["clone3"], &["EAGAIN", "ENOMEM", "EPERM", "ENOSYS"]),
    (&["clone", "fork", "vfork"], &["EAGAIN", "ENOMEM", "EPERM"]),
    (&["execve"], &["EIO", "EACCES", "EPERM", "ENOMEM", "EMFILE"]),
    (
        &["wait4", "waitid", "clock_nanosleep", "nanosleep"],
        &["EINTR"],
    ),
    (&["getcwd", "chdir"], &["EACCES", "ENOMEM", "EIO"]),
    (
        &["copy_file_range", "sendfile", "splice"],
        &["EIO", "ENOSPC", "EINTR", "ENOSYS"],
    ),
    (&["kill", "tgkill", "setpriority", "prctl"], &["EPERM"]),
    (&["getrandom"], &["EINTR", "EAGAIN", "ENOSYS"]),
    (&["sysinfo", "uname"], &[]),
];

const CREATING: &[&str] = &[
    "EIO", "ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "ENOMEM",
];
const OPENING: &[&str] = &["EIO", "EACCES", "EPERM", "EMFILE", "ENOMEM", "EINTR"];
const OPENING_TO_WRITE: &[&str] = &[
    "EIO", "EACCES", "EPERM", "EMFILE", "ENOMEM", "EINTR", "ENOSPC", "EROFS", "EDQUOT", "EAGAIN",
];

/// The calls that do not fail here, and why.
const LEFT_OUT: &[(&[&str], &str)] = &[
    (
        &["brk", "mmap", "mremap"],
        "the allocator ends the program, which the C interface's header says",
    ),
    (
        &["munmap", "mprotect", "madvise"],
        "they only fail for wrong addresses, and the C library passes right ones",
    ),
    (
        &[
            "rt_sigaction",
            "rt_sigprocmask",
            "rt_sigreturn",
            "sigaltstack",
        ],
        "they only fail for wrong signals or addresses",
    ),
    (
        &[
            "exit",
            "exit_group",
            "restart_syscall",
            "setitimer",
            "timerfd_settime",
            "fadvise64",
        ],
        "they do not fail for right values",
    ),
    (
        &[
            "set_tid_address",
            "set_robust_list",
            "rseq",
            "arch_prctl",
            "prlimit64",
            "futex",
        ],
        "the C library's threads make them of right values",
    ),
    (
        &[
            "sched_getaffinity",
            "sched_yield",
            "gettid",
            "getpid",
            "getppid",
            "geteuid",
            "getuid",
            "getegid",
            "getgid",
            "getgroups",
            "getresuid",
            "getresgid",
            "clock_gettime",
            "umask",
        ],
        "they ask the kernel for a number, which it always has",
    ),
    (
        &["close"],
        "Linux frees the descriptor even if close fails, and strace would leave it open",
    ),
    (
        &["fcntl"],
        "only the checks of a debug build make them, with F_GETFD",
    ),
    (
        &["ioctl"],
        "they ask whether a descriptor is a terminal, and any error says no",
    ),
];

/// The plausible errors of a call; none if it is left out.
pub fn errors(point: &Point) -> Vec<&'static str> {
    let name = point.name.as_str();
    let has = |names: &&[&str]| names.contains(&name);
    if LEFT_OUT.iter().any(|(names, _)| has(names)) {
        return Vec::new();
    }
    if name.starts_with("open") {
        let writes = ["O_WRONLY", "O_RDWR", "O_CREAT"];
        let writes = |text: &String| writes.iter().any(|flag| text.contains(flag));
        let errors = match point.arguments.iter().any(writes) {
            true => OPENING_TO_WRITE,
            false => OPENING,
        };
        let newer = (name == "openat2").then_some("ENOSYS");
        return errors.iter().copied().chain(newer).collect();
    }
    let known = ERRORS.iter().find(|(names, _)| has(names));
    let (_, errors) = known.unwrap_or_else(|| {
        panic!("add the plausible errors of {name} to ERRORS, or the reason to LEFT_OUT")
    });
    // Only a standard descriptor may be one that does not block.
    let is_standard = |text: &String| ["0,", "1,", "2,"].iter().any(|fd| text.starts_with(fd));
    let may_block = match name {
        "read" | "write" => point.arguments.iter().any(is_standard),
        // With this flag it never blocks: getrandom(2).
        "getrandom" => !point
            .arguments
            .iter()
            .any(|flag| flag.contains("GRND_INSECURE")),
        _ => true,
    };
    let errors = errors.iter().copied();
    errors
        .filter(|error| *error != "EAGAIN" || may_block)
        .collect()
}
