//! Declarations of variables: `.shared .align 16 .b8 name[128];`.

use super::ast::{Global, Space};
use super::{Parser, unknown};
use crate::Fault;

/// A declaration.
#[derive(Debug, Clone)]
pub struct Declared {
    pub space: Space,
    pub name: String,
    pub align: u64,
    /// 0 for `name[]`.
    pub bytes: u64,
    first: Vec<u8>,
}

impl Declared {
    /// A variable of the module: what has no first value is zero.
    pub fn into_global(self) -> Global {
        let mut contents = self.first;
        contents.resize(self.bytes as usize, 0);
        Global { name: self.name, contents }
    }
}

/// Bytes of a type's values.
pub fn size_of(name: &str) -> Option<u64> {
    Some(match name {
        "b8" | "u8" | "s8" => 1,
        "b16" | "u16" | "s16" | "f16" | "bf16" => 2,
        "b32" | "u32" | "s32" | "f32" | "f16x2" | "bf16x2" => 4,
        "b64" | "u64" | "s64" | "f64" => 8,
        _ => return None,
    })
}

impl Parser<'_> {
    /// `.space [.align n] .type name {[n]} {= value}`, with its semicolon but for parameters.
    pub(super) fn variable(&mut self) -> Result<Declared, Fault> {
        let line = self.line();
        let space = match self.word()? {
            ".global" => Space::Global,
            ".shared" => Space::Shared,
            ".local" => Space::Local,
            ".param" => Space::Param,
            other => return Err(unknown(line, other)),
        };
        let mut align = 0;
        let size = loop {
            match self.word()? {
                ".align" => align = self.number()?,
                other => break size_of(other.trim_start_matches('.')).ok_or_else(|| unknown(line, other))?,
            }
        };
        let name = self.word()?.to_string();
        let mut count = 1;
        while self.take("[") {
            if self.take("]") {
                count = 0;
            } else {
                count *= self.number::<u64>()?;
                self.expect("]")?;
            }
        }
        let mut first = Vec::new();
        if self.take("=") {
            self.values(size as usize, &mut first)?;
        }
        if space != Space::Param {
            self.expect(";")?;
        }
        Ok(Declared { space, name, align: align.max(size), bytes: size * count, first })
    }

    fn values(&mut self, size: usize, into: &mut Vec<u8>) -> Result<(), Fault> {
        if self.take("{") {
            while !self.take("}") {
                self.values(size, into)?;
                self.take(",");
            }
            return Ok(());
        }
        let bits = self.bits()?;
        into.extend_from_slice(&bits.to_le_bytes()[..size]);
        Ok(())
    }
}
