//! Tries a target's corpus and random mutations of it, or the files that are named.
//!
//!     replay TARGET CORPUS MUTATIONS SEED
//!     replay TARGET FILE…
//!
//! Prints how many inputs it tried, and by how many of them a changed world was judged. An input
//! that breaks a promise ends the program, and is left in a file that the message names.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fuzz::mutate::Random;
use fuzz::{Reader, Tried, target};

/// No input takes so long, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The input that is being tried, and when it began.
static NOW: Mutex<Option<(Vec<u8>, Instant)>> = Mutex::new(None);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = arguments.first().expect("the name of a target");
    watch(name.clone());
    let memory = tempfile::tempdir_in("/dev/shm");
    let scratch = memory
        .or_else(|_| tempfile::tempdir())
        .expect("a scratch directory");
    let mut reader = (target(name).begin)(scratch.path());
    let counts = match &arguments[1..] {
        [corpus, mutations, seed] if Path::new(corpus).is_dir() => {
            let number = |text: &String| text.parse().expect("a number");
            let corpus = files(Path::new(corpus));
            // Half of the inputs stem from this run's own worlds.
            let mut inputs = reader.seeds();
            while (1..corpus.len()).contains(&inputs.len()) {
                inputs.extend(reader.seeds());
            }
            inputs.extend(corpus);
            let mut random = Random::of(number(seed));
            let mutated: Vec<Vec<u8>> = (0..number(mutations))
                .map(|_| random.mutated(&inputs))
                .collect();
            inputs.extend(mutated);
            try_all(&mut *reader, inputs)
        }
        files => {
            let read = |file| std::fs::read(file).expect("a file that can be read");
            try_all(&mut *reader, files.iter().map(read).collect())
        }
    };
    let (tried, judged) = counts;
    println!("{name}: {tried} inputs, {judged} of them judged");
}

/// Tries all inputs. Returns their number, and the number of those that judged a changed world.
fn try_all(reader: &mut dyn Reader, inputs: Vec<Vec<u8>>) -> (usize, usize) {
    let tried = inputs.len();
    let mut judged = 0;
    for input in inputs {
        *NOW.lock().unwrap() = Some((input.clone(), Instant::now()));
        judged += usize::from(reader.read(&input) == Tried::Judged);
    }
    *NOW.lock().unwrap() = None;
    (tried, judged)
}

/// The contents of a corpus, in the order of the names.
fn files(corpus: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(corpus).expect("a corpus");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

/// Ends the program if it panics, or if an input takes too long. Leaves the input in a file.
fn watch(name: String) {
    let of_panic = name.clone();
    std::panic::set_hook(Box::new(move |panic| fail(&of_panic, &panic.to_string())));
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let began = NOW.lock().unwrap().as_ref().map(|(_, began)| *began);
            if began.is_some_and(|began| began.elapsed() > PATIENCE) {
                fail(&name, "an input takes too long");
            }
        }
    });
}

fn fail(name: &str, problem: &str) {
    eprintln!("{problem}");
    if let Some((input, _)) = NOW.lock().unwrap().take() {
        let file = std::env::temp_dir().join(format!("modstamp-fuzz-{name}"));
        let _ = std::fs::write(&file, input);
        eprintln!(
            "the input is in {}; try it with: replay {name} FILE",
            file.display()
        );
    }
    std::process::exit(1);
}
