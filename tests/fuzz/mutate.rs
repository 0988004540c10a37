//! Makes hostile texts out of good ones.

/// What means something to one of the formats.
const TOKENS: &[&str] = &[
    ": ",
    "- ",
    "\n",
    "\r\n",
    "\t",
    "  ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "\\",
    "&a ",
    "*a",
    "<<: *a",
    "!!python/object:os.system",
    "! ",
    "? ",
    "| \n",
    ">-\n",
    "%YAML 1.2\n",
    "---\n",
    "...\n",
    "#",
    "\0",
    "\u{feff}",
    "\u{2028}",
    "\u{85}",
    "é",
    "\u{10FFFF}",
    "..",
    "../",
    "/",
    "//",
    ".",
    "~",
    "null",
    "true",
    "no",
    "0",
    "-0",
    "1e999",
    "-1",
    ".inf",
    ".nan",
    "0x10",
    "0o7",
    "1_000",
    "18446744073709551616",
    "9223372036854775808",
    "170141183460469231731687303715884105728",
    "${x}",
    "${",
    "$",
    "<<<<<<< HEAD\n",
    "=======\n",
    ">>>>>>> b\n",
    "schema_version: 1\n",
    "path: ",
    "hash: ",
    "size: ",
    "@",
    "=",
    "==",
    ",",
    "\u{1b}[31m",
    "s3://",
    "file://",
    "%00",
    "%2e%2e/",
    "%zz",
    "?",
    "python -m ",
    "\\u0000",
    "\\ud800",
];

const BYTES: [u8; 8] = [0, 9, 10, 0x22, 0x7f, 0x80, 0xc0, 0xff];

pub(crate) struct Mutator {
    state: u64,
    seeds: &'static [&'static str],
}

impl Mutator {
    pub(crate) fn new(seed: u64, seeds: &'static [&'static str]) -> Self {
        Self { state: seed, seeds }
    }

    /// A number below `below`, or 0 (splitmix64).
    fn below(&mut self, below: usize) -> usize {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % below.max(1) as u64) as usize
    }

    fn seed(&mut self) -> &'static [u8] {
        self.seeds[self.below(self.seeds.len())].as_bytes()
    }

    fn token(&mut self) -> &'static [u8] {
        TOKENS[self.below(TOKENS.len())].as_bytes()
    }

    /// A range of at most `longest` bytes of a text of this length.
    fn range(&mut self, length: usize, longest: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let end = (start + self.below(longest)).min(length);
        start..end
    }

    /// Puts the next text into `text`.
    pub(crate) fn next(&mut self, text: &mut Vec<u8>) {
        text.clear();
        text.extend_from_slice(self.seed());
        for _ in 0..=self.below(5) {
            let at = self.below(text.len() + 1);
            match self.below(9) {
                0 if at < text.len() => text[at] ^= 1 << self.below(8),
                1 => text.insert(at, BYTES[self.below(BYTES.len())]),
                2 | 3 => drop(text.splice(at..at, self.token().iter().copied())),
                4 => {
                    let range = self.range(text.len(), 20);
                    let token = self.token();
                    text.splice(range, token.iter().copied());
                }
                5 => drop(text.drain(self.range(text.len(), 40))),
                6 => {
                    let range = self.range(text.len(), 60);
                    let copied = text[range].to_vec();
                    text.splice(at..at, copied);
                }
                7 => {
                    // Deep or long, as nesting and repetition make it.
                    let count = 1 << self.below(11);
                    let token = self.token().repeat(count);
                    text.splice(at..at, token);
                }
                _ => {
                    let other = self.seed();
                    let range = self.range(other.len(), other.len() + 1);
                    text.splice(at..at, other[range].iter().copied());
                }
            }
        }
        text.truncate(16 * 1024);
    }
}
