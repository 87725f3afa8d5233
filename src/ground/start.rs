//! The start of a program without libc and std, and the parts that compiled code expects of these:
//! memory functions, an allocator and an end for a panic.
//!
//! rpm's trigger is such a program. In a virtual machine, glibc's start alone costs more than the
//! trigger's work. All of the program's unsafe code is here.
#![allow(unsafe_code)]

use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::arch::{asm, global_asm};
use core::ffi::CStr;
use core::hint::black_box;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use rustix::fd::BorrowedFd;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::process::{Signal, getpid, kill_process};

// The kernel starts a program with the stack pointer at the argument count. There is no return
// address, and no frame before this one (System V ABI, “Process Initialization”).
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {begin}",
    "ud2",
    begin = sym begin,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, sp",
    "bl {begin}",
    "brk #1",
    begin = sym begin,
);

unsafe extern "C" {
    /// The program's own `main`.
    safe fn main(count: i32, arguments: *const *const u8) -> i32;
}

/// The arguments, a null, the environment and another null, as the kernel laid them out.
static ARGUMENTS: AtomicPtr<*mut u8> = AtomicPtr::new(null_mut());

/// The number of arguments.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Runs `main` with the kernel's stack, and ends the program.
unsafe extern "C" fn begin(stack: *mut usize) -> ! {
    // SAFETY: the kernel put the count at `stack`, the arguments and the environment behind it, and
    // the auxiliary vector, which rustix reads, behind those. They stay as long as the process.
    let (count, arguments) = unsafe {
        let (count, arguments) = (*stack, stack.add(1).cast::<*mut u8>());
        rustix::param::init(arguments.add(count + 1).cast());
        (count, arguments)
    };
    COUNT.store(count, Relaxed);
    ARGUMENTS.store(arguments, Relaxed);
    end(main(count as i32, arguments.cast()))
}

/// Ends the program.
fn end(status: i32) -> ! {
    loop {
        // SAFETY: exit_group(2) takes any number, and nothing comes after it.
        unsafe { system_call(EXIT_GROUP, [status as usize, 0, 0, 0]) };
    }
}

/// The first argument of the program.
pub(crate) fn first_argument() -> Option<Vec<u8>> {
    (COUNT.load(Relaxed) > 1).then(|| string(1)).flatten()
}

/// The value of an environment variable.
pub(crate) fn variable(name: &str) -> Option<Vec<u8>> {
    let environment = (COUNT.load(Relaxed) + 1..).map_while(string);
    environment.into_iter().find_map(|text| {
        let value = text.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(value.to_owned())
    })
}

/// The string at a place among the arguments and the environment. `None` at the null behind them.
fn string(place: usize) -> Option<Vec<u8>> {
    let strings = ARGUMENTS.load(Relaxed);
    if strings.is_null() {
        return None;
    }
    // SAFETY: callers stop at the first null, so `place` is within the kernel's lists. An entry
    // that is not null points to a C string.
    let text = unsafe {
        let text = *strings.add(place);
        (!text.is_null()).then(|| CStr::from_ptr(text.cast_const().cast()))
    };
    text.map(|text| text.to_bytes().to_owned())
}

/// Standard input.
pub(crate) fn stdin() -> BorrowedFd<'static> {
    // SAFETY: the program begins with `fill_standard_descriptors`, and never closes this one.
    unsafe { rustix::stdio::stdin() }
}

/// Standard error.
pub(crate) fn stderr() -> BorrowedFd<'static> {
    // SAFETY: as for standard input.
    unsafe { rustix::stdio::stderr() }
}

/// Has writes fail instead of sending the signals SIGPIPE and SIGXFSZ.
pub(crate) fn ignore_signals_of_writes() {
    /// The kernel's own `struct sigaction`: handler, flags, restorer and mask.
    const IGNORE: [usize; 4] = [1, 0, 0, 0];
    const SIZE_OF_MASK: usize = 8;
    for signal in [Signal::PIPE, Signal::XFSZ] {
        let (number, action) = (signal.as_raw() as usize, IGNORE.as_ptr() as usize);
        // SAFETY: rt_sigaction(2) reads the new action. It writes no old action, because the
        // pointer to that is null. No code runs at an ignored signal.
        unsafe { system_call(RT_SIGACTION, [number, action, 0, SIZE_OF_MASK]) };
    }
}

#[cfg(target_arch = "x86_64")]
const EXIT_GROUP: usize = 231;
#[cfg(target_arch = "x86_64")]
const RT_SIGACTION: usize = 13;

#[cfg(target_arch = "aarch64")]
const EXIT_GROUP: usize = 94;
#[cfg(target_arch = "aarch64")]
const RT_SIGACTION: usize = 134;

/// A system call that rustix does not offer (syscall(2)).
///
/// # Safety
/// The arguments must be valid for the system call.
unsafe fn system_call(number: usize, arguments: [usize; 4]) {
    let [first, second, third, fourth] = arguments;
    // SAFETY: the kernel takes these registers. The code names each register that the kernel may
    // change, and lets it change all memory.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => _,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            in("r10") fourth,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    // SAFETY: as for x86_64.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") first => _,
            in("x1") second,
            in("x2") third,
            in("x3") fourth,
            options(nostack),
        );
    }
}

/// The most memory that the allocator takes from the kernel, in bytes.
const MOST_ROOM: usize = 32 << 20;

/// The allocator takes this much at once. A page of it costs nothing until it is used.
const STEP: usize = 256 << 10;

/// The size of the smallest piece, and the alignment of each.
const SMALLEST: usize = 16;

/// An allocator of pieces whose sizes are powers of two. A piece that is given back is used again.
struct Heap {
    /// The room that the kernel gave last, from the first byte that no piece was cut from.
    room: AtomicPtr<u8>,
    /// The length of that room.
    left: AtomicUsize,
    /// The length of all room that the kernel gave.
    taken: AtomicUsize,
    /// A list of the free pieces of each size. Each piece begins with the address of the next.
    free: [AtomicPtr<u8>; usize::BITS as usize],
}

#[global_allocator]
static HEAP: Heap = Heap {
    room: AtomicPtr::new(null_mut()),
    left: AtomicUsize::new(0),
    taken: AtomicUsize::new(0),
    free: [const { AtomicPtr::new(null_mut()) }; usize::BITS as usize],
};

impl Heap {
    /// Takes room for a piece of `size` bytes from the kernel. The end of the last room is lost.
    fn take_room(&self, size: usize) -> Option<()> {
        let length = size.max(STEP);
        let taken = self.taken.load(Relaxed) + length;
        (taken <= MOST_ROOM).then_some(())?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the place, where nothing else is.
        let room = unsafe { mmap_anonymous(null_mut(), length, access, MapFlags::PRIVATE) };
        self.room.store(room.ok()?.cast(), Relaxed);
        self.left.store(length, Relaxed);
        self.taken.store(taken, Relaxed);
        Some(())
    }
}

/// The size of the piece for a layout. `None` if there can be no such piece.
fn size_of_piece(layout: Layout) -> Option<usize> {
    let is_possible = layout.align() <= SMALLEST && layout.size() <= MOST_ROOM;
    is_possible.then(|| layout.size().max(SMALLEST).next_power_of_two())
}

// SAFETY: no two pieces that are in use overlap. A piece is as large as its layout, and begins at a
// multiple of `SMALLEST`.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(size) = size_of_piece(layout) else {
            return null_mut();
        };
        let free = &self.free[size.trailing_zeros() as usize];
        let piece = free.load(Relaxed);
        if !piece.is_null() {
            // SAFETY: `dealloc` wrote the address of the next piece there.
            free.store(unsafe { piece.cast::<*mut u8>().read() }, Relaxed);
            return piece;
        }
        if self.left.load(Relaxed) < size && self.take_room(size).is_none() {
            return null_mut();
        }
        let piece = self.room.load(Relaxed);
        self.room.store(piece.wrapping_add(size), Relaxed);
        self.left.fetch_sub(size, Relaxed);
        piece
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        let Some(size) = size_of_piece(layout) else {
            return;
        };
        let free = &self.free[size.trailing_zeros() as usize];
        // SAFETY: nobody uses the piece any more, and it has room for an address.
        unsafe { piece.cast::<*mut u8>().write(free.load(Relaxed)) };
        free.store(piece, Relaxed);
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size is valid at this alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if size_of_piece(wanted) == size_of_piece(layout) {
            return piece;
        }
        // SAFETY: the caller's piece has the old layout. The new piece does not overlap it.
        unsafe {
            let new = self.alloc(wanted);
            if !new.is_null() {
                new.copy_from_nonoverlapping(piece, layout.size().min(size));
                self.dealloc(piece, layout);
            }
            new
        }
    }
}

/// Ends the program by SIGABRT, as std does.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    let text = "modstamp: rpm's trigger has a fault and ended early; run “modstamp touch”\n";
    let _ = rustix::io::write(stderr(), text.as_bytes());
    let _ = kill_process(getpid(), Signal::ABORT);
    end(134) // The signal may be ignored or blocked. This is a shell's status for it.
}

// The compiled crate alloc refers to these two functions, which would unwind after a panic. Here a
// panic ends the program before that.

#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() {}

// The memory functions that the compiler calls. Each reads and writes the bytes that the caller
// names.
// `black_box` and assembly keep the compiler from turning a loop into a call of its own function.

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller owns `count` bytes at both places. The direction flag is clear (ABI).
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") count => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
    }
    // SAFETY: as for x86_64.
    #[cfg(not(target_arch = "x86_64"))]
    for at in 0..count {
        unsafe { to.add(at).write(from.add(black_box(at)).read()) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= count {
        // SAFETY: going forward, no byte is written before it is read.
        return unsafe { memcpy(to, from, count) };
    }
    for at in (0..count).rev() {
        // SAFETY: going backward, no byte is written before it is read.
        unsafe { to.add(at).write(from.add(black_box(at)).read()) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller owns `count` bytes. The direction flag is clear (ABI).
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "rep stosb",
            inout("rcx") count => _,
            inout("rdi") to => _,
            in("al") byte as u8,
            options(nostack, preserves_flags),
        );
    }
    // SAFETY: as for x86_64.
    #[cfg(not(target_arch = "x86_64"))]
    for at in 0..count {
        unsafe { to.add(black_box(at)).write(byte as u8) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    for at in 0..count {
        // SAFETY: the caller owns `count` bytes at both places.
        let (left, right) = unsafe { (left.add(at).read(), right.add(black_box(at)).read()) };
        if left != right {
            return i32::from(left) - i32::from(right);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    // SAFETY: the caller owns `count` bytes at both places.
    unsafe { memcmp(left, right, count) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller's text ends with a zero.
    while unsafe { text.add(black_box(length)).read() } != 0 {
        length += 1;
    }
    length
}
