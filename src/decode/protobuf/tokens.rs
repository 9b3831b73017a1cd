//! The words of a .proto file, without comments.

/// A word of a .proto file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A name or a keyword.
    Name(&'a str),
    /// Anything that begins with a digit.
    Number(&'a str),
    /// What stands between quotes, escapes as they are.
    Text(&'a str),
    /// Any other character.
    Sign(char),
}

/// The words still to be read.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    tokens: Vec<(Token<'a>, usize)>,
    next: usize,
}

impl<'a> Tokens<'a> {
    /// Takes a file apart.
    pub(super) fn of(text: &'a str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let (mut rest, mut line) = (text, 1);
        while let Some(first) = rest.chars().next() {
            let word = |belongs: fn(char) -> bool| rest.find(|c| !belongs(c)).unwrap_or(rest.len());
            let length = match first {
                _ if first.is_whitespace() => first.len_utf8(),
                '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
                '/' if rest.starts_with("/*") => match rest.find("*/") {
                    Some(end) => end + 2,
                    None => return Err(format!("line {line}: a comment has no end")),
                },
                '"' | '\'' => {
                    let length = quoted(rest, first).ok_or_else(|| format!("line {line}: a text has no end"))?;
                    tokens.push((Token::Text(&rest[1..length - 1]), line));
                    length
                }
                _ if first.is_ascii_alphabetic() || first == '_' => {
                    let length = word(|c| c.is_ascii_alphanumeric() || c == '_');
                    tokens.push((Token::Name(&rest[..length]), line));
                    length
                }
                _ if first.is_ascii_digit() => {
                    let length = word(|c| c.is_ascii_alphanumeric() || c == '.');
                    tokens.push((Token::Number(&rest[..length]), line));
                    length
                }
                _ => {
                    tokens.push((Token::Sign(first), line));
                    first.len_utf8()
                }
            };
            line += rest[..length].matches('\n').count();
            rest = &rest[length..];
        }
        Ok(Self { tokens, next: 0 })
    }

    pub(super) fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.next).map(|(token, _)| *token)
    }

    /// The next word.
    pub(super) fn any(&mut self) -> Result<Token<'a>, String> {
        let token = self.peek().ok_or("it ends too early")?;
        self.next += 1;
        Ok(token)
    }

    /// Passes the next word if it is this one.
    pub(super) fn passes(&mut self, token: Token<'_>) -> bool {
        let passes = self.peek() == Some(token);
        self.next += usize::from(passes);
        passes
    }

    /// The next word, which must be this sign.
    pub(super) fn sign(&mut self, sign: char) -> Result<(), String> {
        if self.passes(Token::Sign(sign)) { Ok(()) } else { Err(self.wrong(&format!("'{sign}'"))) }
    }

    /// The next word, which must be a name.
    pub(super) fn name(&mut self) -> Result<&'a str, String> {
        match self.peek() {
            Some(Token::Name(name)) => {
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.wrong("a name")),
        }
    }

    /// Names with dots between them, and one before them where there is one.
    pub(super) fn path(&mut self) -> Result<String, String> {
        let mut path = String::new();
        if self.passes(Token::Sign('.')) {
            path.push('.');
        }
        path.push_str(self.name()?);
        while self.passes(Token::Sign('.')) {
            path.push('.');
            path.push_str(self.name()?);
        }
        Ok(path)
    }

    /// The next word or two, which must be a whole number.
    pub(super) fn number(&mut self) -> Result<i64, String> {
        let negative = self.passes(Token::Sign('-'));
        let Some(Token::Number(digits)) = self.peek() else { return Err(self.wrong("a number")) };
        let number = match (digits.strip_prefix("0x").or(digits.strip_prefix("0X")), digits.strip_prefix('0')) {
            (Some(digits), _) => i64::from_str_radix(digits, 16),
            (None, Some(digits)) if !digits.is_empty() => i64::from_str_radix(digits, 8),
            _ => digits.parse(),
        };
        let number = number.map_err(|_| self.wrong("a whole number"))?;
        self.next += 1;
        Ok(if negative { -number } else { number })
    }

    /// Passes everything up to the `;` of a statement, or up to the end of its braces.
    pub(super) fn pass_statement(&mut self) -> Result<(), String> {
        let mut depth = 0_usize;
        loop {
            match self.any()? {
                Token::Sign(';') if depth == 0 => return Ok(()),
                Token::Sign('{') => depth += 1,
                Token::Sign('}') if depth <= 1 => {
                    // `option x = { … };` goes on to its `;`.
                    self.passes(Token::Sign(';'));
                    return Ok(());
                }
                Token::Sign('}') => depth -= 1,
                _ => {}
            }
        }
    }

    /// Passes `[ … ]` where it comes next.
    pub(super) fn pass_options(&mut self) -> Result<(), String> {
        if !self.passes(Token::Sign('[')) {
            return Ok(());
        }
        let mut depth = 1_usize;
        while depth > 0 {
            match self.any()? {
                Token::Sign('[' | '{') => depth += 1,
                Token::Sign(']' | '}') => depth -= 1,
                _ => {}
            }
        }
        Ok(())
    }

    /// What was expected, and what is there.
    pub(super) fn wrong(&self, expected: &str) -> String {
        match self.tokens.get(self.next) {
            Some((token, line)) => format!("line {line}: expected {expected}, found {token}"),
            None => format!("expected {expected}, but it ends"),
        }
    }
}

impl std::fmt::Display for Token<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(word) | Self::Number(word) | Self::Text(word) => write!(formatter, "{word:?}"),
            Self::Sign(sign) => write!(formatter, "{sign:?}"),
        }
    }
}

/// Bytes of a text with its quotes; `None` where it has no end.
fn quoted(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '\n' => return None,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}
