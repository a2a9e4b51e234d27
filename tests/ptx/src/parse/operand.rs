//! Operands: registers, numbers, addresses, vectors.

use super::ast::{Base, Operand};
use super::body::Scopes;
use super::tokens::Kind;
use super::{Parser, unknown};
use crate::Fault;

enum Number {
    Integer(i128),
    Single(u32),
    Double(u64),
    Decimal(f64),
}

fn number(word: &str) -> Option<Number> {
    let lower = word.to_ascii_lowercase();
    if let Some(digits) = lower.strip_prefix("0f") {
        return (digits.len() == 8).then(|| u32::from_str_radix(digits, 16).ok().map(Number::Single))?;
    }
    if let Some(digits) = lower.strip_prefix("0d") {
        return (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok().map(Number::Double))?;
    }
    if lower.contains('.') {
        return lower.parse().ok().map(Number::Decimal);
    }
    let digits = lower.trim_end_matches('u');
    let value = if let Some(hex) = digits.strip_prefix("0x") {
        i128::from_str_radix(hex, 16).ok()?
    } else if let Some(binary) = digits.strip_prefix("0b") {
        i128::from_str_radix(binary, 2).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') {
        i128::from_str_radix(&digits[1..], 8).ok()?
    } else {
        digits.parse().ok()?
    };
    Some(Number::Integer(value))
}

impl Parser<'_> {
    fn any_number(&mut self) -> Result<Number, Fault> {
        let line = self.line();
        let negative = self.take("-");
        let word = self.word()?;
        match number(word) {
            Some(Number::Integer(value)) => Ok(Number::Integer(if negative { -value } else { value })),
            Some(Number::Decimal(value)) => Ok(Number::Decimal(if negative { -value } else { value })),
            Some(float) if !negative => Ok(float),
            _ => Err(unknown(line, &format!("number {word}"))),
        }
    }

    pub(super) fn integer(&mut self) -> Result<i128, Fault> {
        let line = self.line();
        match self.any_number()? {
            Number::Integer(value) => Ok(value),
            _ => Err(unknown(line, "a float where an integer belongs")),
        }
    }

    /// The bits of a number of any kind.
    pub(super) fn bits(&mut self) -> Result<u64, Fault> {
        Ok(match self.any_number()? {
            Number::Integer(value) => value as u64,
            Number::Single(bits) => u64::from(bits),
            Number::Double(bits) => bits,
            Number::Decimal(_) => return Err(unknown(self.line(), "a decimal float as first value")),
        })
    }

    /// `+8`, `-8`, `+-8` or nothing.
    fn offset(&mut self) -> Result<i64, Fault> {
        let signed = self.take("+") || self.peek().is_some_and(|token| token.is("-"));
        if signed { self.number() } else { Ok(0) }
    }

    pub(super) fn operand(&mut self, scopes: &Scopes) -> Result<Operand, Fault> {
        let line = self.line();
        if self.take("{") {
            let mut parts = Vec::new();
            while !self.take("}") {
                if !parts.is_empty() {
                    self.expect(",")?;
                }
                parts.push(self.operand(scopes)?);
            }
            return Ok(Operand::Vector(parts));
        }
        if self.take("[") {
            let address = self.address(scopes)?;
            self.expect("]")?;
            return Ok(address);
        }
        if self.take("!") {
            let name = self.word()?;
            let register = scopes.register(name).ok_or_else(|| unknown(line, name))?;
            return Ok(Operand::Not(register));
        }
        let token = self.peek().ok_or_else(|| unknown(line, "the text ends here"))?;
        if token.is("-") || token.text.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(match self.any_number()? {
                Number::Integer(value) => Operand::Integer(value),
                Number::Single(bits) => Operand::Single(bits),
                Number::Double(bits) => Operand::Double(bits),
                Number::Decimal(value) => Operand::Decimal(value),
            });
        }
        if token.kind != Kind::Word {
            return Err(unknown(line, token.text));
        }
        self.at += 1;
        let operand = match token.text {
            "_" => Operand::Sink,
            "WARP_SZ" => Operand::Integer(32),
            name => match scopes.register(name) {
                Some(register) => Operand::Register(register),
                None if name.starts_with('%') => Operand::Special(name.to_string()),
                None => return Ok(Operand::Name(name.to_string(), self.offset()?)),
            },
        };
        if self.take("|") {
            let second = self.operand(scopes)?;
            return Ok(Operand::Pair(Box::new(operand), Box::new(second)));
        }
        Ok(operand)
    }

    fn address(&mut self, scopes: &Scopes) -> Result<Operand, Fault> {
        let line = self.line();
        let token = self.peek().ok_or_else(|| unknown(line, "the text ends here"))?;
        if token.is("-") || token.text.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(Operand::Address(Base::Absolute, self.number()?));
        }
        let name = self.word()?;
        let base = match scopes.register(name) {
            Some(register) => Base::Register(register),
            None if name.starts_with('%') => return Err(unknown(line, name)),
            None => Base::Name(name.to_string()),
        };
        Ok(Operand::Address(base, self.offset()?))
    }
}
