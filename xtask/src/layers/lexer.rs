//! Rust's tokens, as far as the layer test needs them: names, marks, and where comments are.
//!
//! It knows what can hide a token or look like one: nested comments, strings of every kind,
//! characters and lifetimes, raw names. It does not judge: on text that is no Rust it yields some
//! tokens and never fails.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name or keyword; raw names without their `r#`.
    Ident,
    /// One character of punctuation, or `::`.
    Mark,
    /// A string, character, number or lifetime; its text is not kept.
    Literal,
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// The name or the mark; empty for literals.
    pub text: String,
    /// The line it begins in, from 1.
    pub line: usize,
}

impl Token {
    /// Whether this is the name or mark `text`.
    pub fn is(&self, text: &str) -> bool {
        self.text == text
    }
}

/// A comment; adjacent `//` lines are one comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// Its first line.
    pub first: usize,
    /// Its last line.
    pub last: usize,
    /// All of it, the slashes included.
    pub text: String,
}

/// Splits a source into its tokens and its comments.
pub fn lex(text: &str) -> (Vec<Token>, Vec<Comment>) {
    let mut lexer = Lexer {
        chars: text.chars().collect(),
        at: 0,
        line: 1,
        tokens: Vec::new(),
        comments: Vec::new(),
    };
    while lexer.at < lexer.chars.len() {
        lexer.next_token();
    }
    (lexer.tokens, lexer.comments)
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: usize,
    tokens: Vec<Token>,
    comments: Vec<Comment>,
}

fn starts_name(c: char) -> bool {
    c == '_' || c.is_alphabetic()
}

fn continues_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn bump(&mut self) -> char {
        let c = self.peek(0);
        if c == '\n' {
            self.line += 1;
        }
        self.at += 1;
        c
    }

    fn push(&mut self, kind: Kind, text: String, line: usize) {
        self.tokens.push(Token { kind, text, line });
    }

    fn next_token(&mut self) {
        let (c, line) = (self.peek(0), self.line);
        match c {
            '/' if self.peek(1) == '/' => self.line_comment(),
            '/' if self.peek(1) == '*' => self.block_comment(),
            '"' => self.string(0, true),
            '\'' => self.quote(),
            c if c.is_whitespace() => {
                self.bump();
            }
            c if c.is_ascii_digit() => self.number(),
            c if starts_name(c) => self.name(),
            ':' if self.peek(1) == ':' => {
                self.at += 2;
                self.push(Kind::Mark, String::from("::"), line);
            }
            c => {
                self.bump();
                self.push(Kind::Mark, c.to_string(), line);
            }
        }
    }

    fn line_comment(&mut self) {
        let (start, line) = (self.at, self.line);
        while self.at < self.chars.len() && self.peek(0) != '\n' {
            self.at += 1;
        }
        let text: String = self.chars[start..self.at].iter().collect();
        let code_between = self.tokens.last().map_or(0, |t| t.line);
        match self.comments.last_mut() {
            Some(last)
                if last.last + 1 == line && last.text.starts_with("//") && code_between < line =>
            {
                last.last = line;
                last.text.push('\n');
                last.text.push_str(&text);
            }
            _ => self.comments.push(Comment {
                first: line,
                last: line,
                text,
            }),
        }
    }

    fn block_comment(&mut self) {
        let (start, first) = (self.at, self.line);
        let mut depth = 0;
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => {
                    depth += 1;
                    self.at += 2;
                }
                ('*', '/') => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        break;
                    }
                }
                _ => {
                    self.bump();
                }
            }
        }
        let text = self.chars[start..self.at.min(self.chars.len())]
            .iter()
            .collect();
        self.comments.push(Comment {
            first,
            last: self.line,
            text,
        });
    }

    /// At the opening `"` of a string that ends with `"` and `hashes` times `#`.
    fn string(&mut self, hashes: usize, escapes: bool) {
        let line = self.line;
        self.bump();
        while self.at < self.chars.len() {
            match self.bump() {
                '\\' if escapes => {
                    self.bump();
                }
                '"' if (0..hashes).all(|i| self.peek(i) == '#') => {
                    self.at += hashes;
                    break;
                }
                _ => {}
            }
        }
        self.push(Kind::Literal, String::new(), line);
    }

    /// At a `'`: a lifetime, or a character.
    fn quote(&mut self) {
        let line = self.line;
        if starts_name(self.peek(1)) && self.peek(2) != '\'' {
            self.bump();
            while continues_name(self.peek(0)) {
                self.bump();
            }
        } else {
            self.bump();
            while self.at < self.chars.len() {
                match self.bump() {
                    '\\' => {
                        self.bump();
                    }
                    '\'' => break,
                    _ => {}
                }
            }
        }
        self.push(Kind::Literal, String::new(), line);
    }

    fn number(&mut self) {
        let line = self.line;
        while continues_name(self.peek(0)) {
            self.bump();
        }
        // 1.5, but neither 1..2 nor 1.max(2) nor 0.0 (a tuple's field, harmless).
        if self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
            self.bump();
            while continues_name(self.peek(0)) {
                self.bump();
            }
        }
        self.push(Kind::Literal, String::new(), line);
    }

    fn name(&mut self) {
        let line = self.line;
        let start = self.at;
        while continues_name(self.peek(0)) {
            self.at += 1;
        }
        let name: String = self.chars[start..self.at].iter().collect();
        let raw = matches!(name.as_str(), "r" | "br" | "cr");
        match self.peek(0) {
            '"' if raw => self.string(0, false),
            '"' if matches!(name.as_str(), "b" | "c") => self.string(0, true),
            '\'' if name == "b" => self.quote(),
            '#' if raw => {
                let hashes = (0..).take_while(|&i| self.peek(i) == '#').count();
                if self.peek(hashes) == '"' {
                    self.at += hashes;
                    self.string(hashes, false);
                } else if name == "r" && starts_name(self.peek(1)) {
                    self.at += 1;
                    self.name();
                } else {
                    self.push(Kind::Ident, name, line);
                }
            }
            _ => self.push(Kind::Ident, name, line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let (tokens, _) = lex(text);
        tokens
            .into_iter()
            .filter(|t| t.kind == Kind::Ident)
            .map(|t| t.text)
            .collect()
    }

    #[test]
    fn strings_characters_and_comments_hide_names() {
        assert_eq!(names("a \"b \\\" c\" d"), ["a", "d"]);
        assert_eq!(
            names("a r#\"b \" c\"# d br\"e\\\" f b\"g\" b'h' i"),
            ["a", "d", "f", "i"]
        );
        assert_eq!(names("a // b\nc /* d /* e */ f */ g"), ["a", "c", "g"]);
        assert_eq!(
            names("'x' a '\\'' b '\"' c '\\u{41}' d"),
            ["a", "b", "c", "d"]
        );
        assert_eq!(
            names("fn f<'a>(x: &'a str) -> 'b {"),
            ["fn", "f", "x", "str"]
        );
        assert_eq!(names("r#type 1.max(2) 0x1f_u64 1..b"), ["type", "max", "b"]);
    }

    #[test]
    fn lines_are_counted_through_everything() {
        let (tokens, comments) = lex("\"a\nb\"\n/* c\nd */ e\n// f\n// g\nh // i\n// j\n");
        let at: Vec<_> = tokens.iter().map(|t| (t.text.as_str(), t.line)).collect();
        assert_eq!(at, [("", 1), ("e", 4), ("h", 7)]);
        let spans: Vec<_> = comments.iter().map(|c| (c.first, c.last)).collect();
        assert_eq!(spans, [(3, 4), (5, 6), (7, 8)]);
    }

    #[test]
    fn unfinished_text_ends() {
        for text in ["\"a", "r##\"a\"#", "/* a", "'", "b'", "a ::", "r#", "'\\"] {
            lex(text);
        }
    }
}
