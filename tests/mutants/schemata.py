"""Puts all mutants into one tree, so that one build serves for all.

The variable MUTANT chooses one of them by its number when a test runs. Without it, the program is
unchanged.
"""

import re

import tree_sitter
import tree_sitter_rust

PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_rust.language()))

CHOICE = """
/// Whether the mutant of that number is chosen.
#[doc(hidden)]
pub fn mutant(number: u32) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<u32>> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| std::env::var("MUTANT").ok()?.parse().ok()) == Some(number)
}
"""

EXPRESSIONS = {
    "BinaryOperator": ("binary_expression", "compound_assignment_expr"),
    "UnaryOperator": ("unary_expression",),
    "MatchArm": ("match_arm",),
}


class File:
    """A source file, and the mutants in it."""

    def __init__(self, text):
        self.text = text.encode()
        self.root = PARSER.parse(self.text).root_node
        self.inserts = {}  # texts by offset
        self.choices = {}  # (number, text) by the span of an expression

    def offset(self, place):
        """The offset of a line and a column, which cargo-mutants counts in characters from 1."""
        lines = self.text.split(b"\n")
        before = sum(len(line) + 1 for line in lines[: place["line"] - 1])
        return before + len(lines[place["line"] - 1].decode()[: place["column"] - 1].encode())

    def add(self, number, mutant):
        """Adds a mutant of cargo-mutants' list."""
        start, end = (self.offset(mutant["span"][side]) for side in ("start", "end"))
        genre, new = mutant["genre"], mutant["replacement"]
        if genre == "FnValue":
            # A hidden type is that of the first return, so the error would name another place.
            if "impl " in mutant["function"]["return_type"]:
                return
            text = f"\nif crate::mutant({number}) {{ return {new}; }}\n"
            self.inserts.setdefault(start, []).append(text)
            return
        if genre == "MatchArmGuard":
            self.choices.setdefault((start, end), []).append((number, new))
            return
        node = self.root.descendant_for_byte_range(start, end)
        while node.type not in EXPRESSIONS[genre]:
            node = node.parent
        if genre == "MatchArm":
            pattern = node.child_by_field_name("pattern")
            guard = pattern.child_by_field_name("condition")
            if guard is None:
                # Without a catch-all, a match with a conditional arm does not compile.
                arms = [it for it in node.parent.named_children if it.type == "match_arm"]
                if b"_" not in [it.child_by_field_name("pattern").text for it in arms]:
                    return
                text = f"\nif !crate::mutant({number})\n"
                self.inserts.setdefault(pattern.end_byte, []).append(text)
                return
            node, text = guard, "false"
        else:
            text = self.slice(node.start_byte, start) + new + self.slice(end, node.end_byte)
        self.choices.setdefault((node.start_byte, node.end_byte), []).append((number, text))

    def slice(self, start, end):
        return self.text[start:end].decode()

    def rewritten(self):
        """The text in which the variable chooses. Each mutant has lines of its own."""
        return self.render(0, len(self.text), None)

    def render(self, start, end, outer):
        inner = [span for span in self.choices if start <= span[0] and span[1] <= end]
        inner = sorted((span for span in inner if span != outer), key=lambda it: (it[0], -it[1]))
        out, position = [], start
        for span in inner:
            if span[0] >= position:
                out += [self.plain(position, span[0]), self.choice(span)]
                position = span[1]
        return "".join(out + [self.plain(position, end)])

    def plain(self, start, end):
        out, position = [], start
        for offset in sorted(offset for offset in self.inserts if start <= offset < end):
            out += [self.slice(position, offset), *self.inserts[offset]]
            position = offset
        return "".join(out + [self.slice(position, end)])

    def choice(self, span):
        text = self.render(*span, span)
        for number, new in self.choices[span]:
            text = f"(\nif crate::mutant({number}) {{ {new} }}\nelse {{ {text} }})"
        return text


def rewrite(tree, mutants):
    """Rewrites the files below `tree` so that each of the numbered mutants can be chosen."""
    files = {}
    for number, mutant in mutants.items():
        name = mutant["file"]
        if name not in files:
            files[name] = File((tree / name).read_text())
        files[name].add(number, mutant)
    for name, file in files.items():
        (tree / name).write_text(file.rewritten())
    with open(tree / "src/lib.rs", "a") as lib:
        lib.write(CHOICE)


def all_numbers(text):
    """The numbers of the mutants in a rewritten text."""
    return {int(number) for number in re.findall(r"crate::mutant\((\d+)\)", text)}


def numbers_at(text, first, last):
    """The numbers of the mutants on those lines, or on the nearest line above."""
    lines = text.split("\n")
    found = all_numbers("\n".join(lines[first - 1 : last]))
    while not found and first > 1:
        first -= 1
        found = all_numbers(lines[first - 1])
    return found
