//! Random mutations of inputs, by a seed.

/// Words that the formats know, and some that they might stumble over.
const WORDS: [&[u8]; 24] = [
    b"\n",
    b"\0",
    b"\x1b[2J",
    b" ",
    b"-",
    b"~",
    b"!",
    b"?",
    b"=",
    b"\\x",
    b"\\x0a",
    b"/",
    b"/../",
    b"*",
    "\u{9b}".as_bytes(),
    "\u{202e}".as_bytes(),
    b"\xff",
    b"0",
    b"-1",
    b"18446744073709551615",
    b"9223372036854775808",
    b"<!DOCTYPE",
    b"&#x1b;",
    b"modstamp-witness 1 ",
];

/// The longest input that a mutation makes, in bytes.
const LONGEST: usize = 16 << 10;

/// Random numbers by a seed: xorshift64*.
pub struct Random(u64);

impl Random {
    pub fn of(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 11) as usize % bound.max(1)
    }

    /// A part of `length` bytes: where it begins and where it ends.
    fn part(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let most = [4, 32, length - start][self.below(3)];
        start..start + self.below(most.min(length - start) + 1)
    }

    /// One of the inputs with one to eight mutations.
    pub fn mutated(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut input = inputs[self.below(inputs.len())].clone();
        for _ in 0..1 << self.below(4) {
            let other = &inputs[self.below(inputs.len())];
            self.mutate(&mut input, other);
        }
        input.truncate(LONGEST);
        if self.below(2) == 0 {
            count_lines(&mut input);
        }
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(input.len());
        match self.below(10) {
            0 if !input.is_empty() => input[at] ^= 1 << self.below(8),
            1 if !input.is_empty() => input[at] = self.next() as u8,
            2 => input.truncate(at),
            3 => drop(input.drain(self.part(input.len()))),
            4 => {
                let part = input[self.part(input.len())].to_vec();
                input.splice(at..at, part);
            }
            5 => {
                let part = other[self.part(other.len())].to_vec();
                let place = self.part(input.len());
                input.splice(place, part);
            }
            6 => {
                let word = WORDS[self.below(WORDS.len())];
                let place = self.part(input.len());
                input.splice(place.start..place.start, word.iter().copied());
            }
            7 => self.swap_lines(input),
            8 => self.set_digit(input),
            _ => {
                let word = WORDS[self.below(WORDS.len())];
                input.splice(self.word_in(input), word.iter().copied());
            }
        }
    }

    /// Swaps two lines, or drops one, or doubles one.
    fn swap_lines(&mut self, input: &mut Vec<u8>) {
        let mut lines: Vec<Vec<u8>> = input.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        let (one, two) = (self.below(lines.len()), self.below(lines.len()));
        match self.below(3) {
            0 => lines.swap(one, two),
            1 => drop(lines.remove(one)),
            _ => lines.insert(two, lines[one].clone()),
        }
        *input = lines.join(&b'\n');
    }

    /// Changes one digit to another.
    fn set_digit(&mut self, input: &mut [u8]) {
        let digits = input.iter_mut().filter(|byte| byte.is_ascii_hexdigit());
        let mut digits: Vec<&mut u8> = digits.collect();
        let at = self.below(digits.len());
        if let Some(digit) = digits.get_mut(at) {
            **digit = b"0123456789abcdef"[self.below(16)];
        }
    }

    /// The place of a whole word.
    fn word_in(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let at = self.below(input.len());
        let is_space = |byte: &u8| byte.is_ascii_whitespace();
        let start = input[..at].iter().rposition(is_space);
        let end = input[at..].iter().position(is_space);
        start.map_or(0, |start| start + 1)..end.map_or(input.len(), |end| at + end)
    }
}

/// Puts the last line of a witness right, which counts those before it.
fn count_lines(input: &mut Vec<u8>) {
    let mut lines: Vec<Vec<u8>> = input.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    let is_start = |line: &Vec<u8>| line.starts_with(b"modstamp-witness ");
    let start = lines.iter().position(is_start).unwrap_or(0);
    let is_end = |line: &Vec<u8>| line.starts_with(b"end ");
    if let Some(count) = lines[start..].iter().position(is_end) {
        lines[start + count] = format!("end {count}").into_bytes();
        *input = lines.join(&b'\n');
    }
}
