//! PTX text to instructions.

pub mod ast;
mod body;
mod operand;
mod tokens;
mod variable;

use std::collections::HashMap;

use crate::Fault;
use ast::{Entry, File, Space, Variable};
pub use tokens::unknown;
use tokens::{Kind, Token, tokens};

/// Reads tokens in turn.
pub struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    file: File,
    /// Module-scope variables; `.shared` ones get their place in each kernel.
    variables: HashMap<String, Variable>,
    shared: Vec<variable::Declared>,
}

/// Parses a whole file.
pub fn parse(text: &str) -> Result<File, Fault> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        file: File::default(),
        variables: HashMap::new(),
        shared: Vec::new(),
    };
    while let Some(token) = parser.peek() {
        parser.module_item(token)?;
    }
    Ok(parser.file)
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    fn line(&self) -> usize {
        let at = self.at.min(self.tokens.len().saturating_sub(1));
        self.tokens.get(at).map_or(0, |token| token.line)
    }

    fn next(&mut self) -> Result<Token<'a>, Fault> {
        let token = self.peek().ok_or_else(|| unknown(self.line(), "the text ends here"))?;
        self.at += 1;
        Ok(token)
    }

    /// Takes this mark if it comes next.
    fn take(&mut self, mark: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is(mark));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, mark: &str) -> Result<(), Fault> {
        let token = self.next()?;
        if token.is(mark) {
            Ok(())
        } else {
            Err(unknown(token.line, &format!("`{}` where `{mark}` belongs", token.text)))
        }
    }

    fn word(&mut self) -> Result<&'a str, Fault> {
        let token = self.next()?;
        if token.kind == Kind::Word {
            Ok(token.text)
        } else {
            Err(unknown(token.line, &format!("`{}`", token.text)))
        }
    }

    /// Takes this word if it comes next.
    fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.kind == Kind::Word && token.text == word);
        self.at += usize::from(found);
        found
    }

    fn skip_line(&mut self, line: usize) {
        while self.peek().is_some_and(|token| token.line == line) {
            self.at += 1;
        }
    }

    fn number<T: TryFrom<i128>>(&mut self) -> Result<T, Fault> {
        let line = self.line();
        let value = self.integer()?;
        T::try_from(value).map_err(|_| unknown(line, &format!("the number {value}")))
    }

    fn module_item(&mut self, token: Token<'a>) -> Result<(), Fault> {
        match token.text {
            ".file" | ".loc" => self.skip_line(token.line),
            ".version" => {
                self.at += 1;
                let version = self.word()?;
                let parts =
                    version.split_once('.').map(|(major, minor)| [major, minor].map(str::parse::<u32>));
                if !matches!(parts, Some([Ok(_), Ok(_)])) {
                    return Err(unknown(token.line, version));
                }
            }
            ".address_size" => {
                self.at += 1;
                if self.number::<u32>()? != 64 {
                    return Err(unknown(token.line, ".address_size other than 64"));
                }
            }
            ".target" => {
                self.at += 1;
                let target = self.word()?;
                let digits = target.trim_start_matches("sm_").trim_end_matches('a');
                self.file.target = digits.parse().map_err(|_| unknown(token.line, target))?;
                self.file.warpgroups = target == "sm_90a";
                self.skip_line(token.line);
            }
            ".visible" | ".extern" | ".weak" => self.at += 1,
            ".entry" => {
                self.at += 1;
                self.entry()?;
            }
            ".global" | ".shared" => {
                let declared = self.variable()?;
                if declared.space == Space::Shared {
                    self.shared.push(declared);
                } else {
                    let offset = self.file.globals.len() as u64;
                    self.variables.insert(declared.name.clone(), Variable { space: Space::Global, offset });
                    self.file.globals.push(declared.into_global());
                }
            }
            ";" => self.at += 1,
            other => return Err(unknown(token.line, other)),
        }
        Ok(())
    }

    fn entry(&mut self) -> Result<(), Fault> {
        let line = self.line();
        let mut entry = Entry {
            name: self.word()?.to_string(),
            line,
            variables: self.variables.clone(),
            shared_align: 16,
            warpgroups: self.file.warpgroups,
            scopes: vec![0],
            ..Entry::default()
        };
        if self.take("(") {
            while !self.take(")") {
                if entry.parameter_bytes > 0 {
                    self.expect(",")?;
                }
                let declared = self.variable()?;
                if declared.space != Space::Param || declared.bytes == 0 {
                    return Err(unknown(line, &format!("parameter {}", declared.name)));
                }
                let offset = entry.parameter_bytes.next_multiple_of(declared.align);
                entry.parameter_bytes = offset + declared.bytes;
                entry.variables.insert(declared.name, Variable { space: Space::Param, offset });
            }
        }
        loop {
            let directive = self.next()?;
            match directive.text {
                ".maxntid" | ".reqntid" => {
                    entry.max_threads = Some(self.dimensions()?);
                    entry.exact_threads |= directive.text == ".reqntid";
                }
                ".minnctapersm" | ".maxnreg" => {
                    self.number::<u32>()?;
                }
                "{" => break,
                other => return Err(unknown(directive.line, other)),
            }
        }
        self.body(&mut entry)?;
        body::finish_shared(&mut entry, &self.shared);
        self.file.entries.push(entry);
        Ok(())
    }

    fn dimensions(&mut self) -> Result<[u32; 3], Fault> {
        let mut dimensions = [1; 3];
        for (i, dimension) in dimensions.iter_mut().enumerate() {
            if i > 0 && !self.take(",") {
                break;
            }
            *dimension = self.number()?;
        }
        Ok(dimensions)
    }
}
