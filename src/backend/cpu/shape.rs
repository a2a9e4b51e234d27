//! The model cut into panels: which rows a panel holds, which thread owns it and where it lies.

use std::ops::Range;

use super::dot::{MAX_TOKENS, PANEL};
use super::isa::InstructionSet;
use super::panels::{Integers, Panels};
use crate::backend::weights::Tensor;
use crate::model::{ModelSpec, Precision};

/// A product of a layer, or the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matrix {
    /// q, k and v heads, each padded to whole panels; q and k heads in rotary order.
    Qkv,
    /// Output projection.
    O,
    /// Panels of gate and up in turn.
    GateUp,
    /// Down projection.
    Down,
    /// Vocabulary projection.
    Head,
}

impl Matrix {
    /// The matrices of a layer in the order of execution.
    pub const LAYER: [Matrix; 4] = [Matrix::Qkv, Matrix::O, Matrix::GateUp, Matrix::Down];
}

/// `total` split evenly into `parts` ranges; part `index` of them.
pub fn split(total: usize, parts: usize, index: usize) -> Range<usize> {
    let at = |i: usize| (total as u128 * i as u128 / parts as u128) as usize;
    at(index)..at(index + 1)
}

/// Where dimension `d` of a q or k head stands after packing: panel `j` holds dimensions 16j.. of the lower half in
/// its first line and their rotary partners in its second, so that a rotation stays within a panel.
pub fn rotary_place(head_dim: usize, d: usize) -> usize {
    let half = head_dim / 2;
    let (i, line) = if d < half { (d, 0) } else { (d - half, 16) };
    i / 16 * 32 + line + i % 16
}

/// A model's dimensions as the kernels see them.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Query heads per KV head.
    pub group: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Panels of one head: its width padded to multiples of 32.
    pub head_panels: usize,
    /// Rows of the head.
    pub vocab: usize,
    /// Threads that share the panels.
    pub threads: usize,
    /// Types of the weights and of what they are multiplied with.
    pub precision: Precision,
    /// What a token becomes where it meets quantised weights.
    pub integers: Integers,
}

impl Shape {
    /// The shape of `model` in these types, for the kernels of this set on this many threads.
    pub fn new(model: &ModelSpec, precision: Precision, isa: InstructionSet, threads: usize) -> Shape {
        let head_dim = model.head_dim as usize;
        Shape {
            hidden: model.hidden as usize,
            ffn: model.ffn as usize,
            heads: model.heads as usize,
            kv_heads: model.kv_heads as usize,
            group: (model.heads / model.kv_heads) as usize,
            head_dim,
            head_panels: head_dim.div_ceil(PANEL),
            vocab: model.vocab as usize,
            threads,
            precision,
            integers: Integers::of(isa, precision.activations),
        }
    }

    /// Width of one head with its padding.
    pub fn head_width(&self) -> usize {
        self.head_panels * PANEL
    }

    /// Width of all query heads together, without padding.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Columns of a matrix.
    pub fn columns(&self, matrix: Matrix) -> usize {
        match matrix {
            Matrix::Qkv | Matrix::GateUp | Matrix::Head => self.hidden,
            Matrix::O => self.q_width(),
            Matrix::Down => self.ffn,
        }
    }

    /// Panels that are finished together, and how many such units a matrix has.
    pub fn units(&self, matrix: Matrix) -> (usize, usize) {
        match matrix {
            Matrix::Qkv => (1, (self.heads + 2 * self.kv_heads) * self.head_panels),
            Matrix::O | Matrix::Down => (1, self.hidden.div_ceil(PANEL)),
            Matrix::GateUp => (2, self.ffn.div_ceil(PANEL)),
            Matrix::Head => (1, self.vocab.div_ceil(PANEL)),
        }
    }

    /// Units of a matrix that a thread owns.
    pub fn owned(&self, matrix: Matrix, thread: usize) -> Range<usize> {
        split(self.units(matrix).1, self.threads, thread)
    }

    /// A matrix as panels; `element` is the size of an activation.
    pub fn panels(&self, matrix: Matrix, element: usize) -> Panels {
        let Precision { weights, head, .. } = self.precision;
        let dtype = if matrix == Matrix::Head { head } else { weights };
        Panels { dtype, columns: self.columns(matrix), integers: self.integers, element }
    }

    /// Whether any matrix is quantised.
    pub fn is_quantised(&self) -> bool {
        self.precision.weights.is_quantised() || self.precision.head.is_quantised()
    }

    /// Most tokens that go together: as many as the kernels take columns.
    pub fn most_tokens(&self) -> usize {
        if self.is_quantised() { MAX_TOKENS / self.integers.columns() } else { MAX_TOKENS }
    }

    /// Bytes of one panel.
    pub fn panel_bytes(&self, matrix: Matrix) -> usize {
        self.panels(matrix, 2).bytes()
    }

    /// Bytes of a matrix in a thread's arena.
    pub fn owned_bytes(&self, matrix: Matrix, thread: usize) -> usize {
        self.owned(matrix, thread).len() * self.units(matrix).0 * self.panel_bytes(matrix)
    }

    /// Bytes of one layer in a thread's arena.
    pub fn layer_bytes(&self, thread: usize) -> usize {
        Matrix::LAYER.into_iter().map(|matrix| self.owned_bytes(matrix, thread)).sum()
    }

    /// Bytes of one copy of the held layers and the head in a thread's arena.
    pub fn copy_bytes(&self, layers: usize, thread: usize) -> usize {
        layers * self.layer_bytes(thread) + self.owned_bytes(Matrix::Head, thread)
    }

    /// Where a matrix starts in a thread's arena. For the head, `layer` is the number of layers held.
    pub fn offset(&self, layers: usize, copy: usize, layer: usize, matrix: Matrix, thread: usize) -> usize {
        let before: usize = Matrix::LAYER
            .into_iter()
            .take_while(|&m| m != matrix && matrix != Matrix::Head)
            .map(|m| self.owned_bytes(m, thread))
            .sum();
        copy * self.copy_bytes(layers, thread) + layer * self.layer_bytes(thread) + before
    }

    /// The row of the model that row `r` of a panel holds; `None` for padding.
    pub fn source(&self, matrix: Matrix, panel: usize, r: usize) -> Option<(Tensor, usize)> {
        let row = panel * PANEL + r;
        let inside = |tensor, row, rows| (row < rows).then_some((tensor, row));
        match matrix {
            Matrix::O => inside(Tensor::O, row, self.hidden),
            Matrix::Down => inside(Tensor::Down, row, self.hidden),
            Matrix::Head => inside(Tensor::Head, row, self.vocab),
            Matrix::GateUp => {
                let tensor = if panel.is_multiple_of(2) { Tensor::Gate } else { Tensor::Up };
                inside(tensor, panel / 2 * PANEL + r, self.ffn)
            }
            Matrix::Qkv => {
                let (slot, j) = (panel / self.head_panels, panel % self.head_panels);
                let half = self.head_dim / 2;
                let rotary = || {
                    let i = 16 * j + r % 16;
                    (i < half).then_some(if r < 16 { i } else { half + i })
                };
                let (tensor, head, d) = if slot < self.heads {
                    (Tensor::Q, slot, rotary()?)
                } else if slot < self.heads + self.kv_heads {
                    (Tensor::K, slot - self.heads, rotary()?)
                } else {
                    let d = 32 * j + r;
                    (Tensor::V, slot - self.heads - self.kv_heads, (d < self.head_dim).then_some(d)?)
                };
                Some((tensor, head * self.head_dim + d))
            }
        }
    }
}

/// `count` tokens in groups of nearly equal size, at most 12 each or fewer: the larger groups come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    /// Tokens.
    pub count: usize,
    /// Groups.
    pub groups: usize,
}

impl Groups {
    /// Groups of `count` tokens.
    pub fn new(count: usize) -> Groups {
        Groups::of_at_most(count, MAX_TOKENS)
    }

    /// Groups of at most `most` tokens each.
    pub fn of_at_most(count: usize, most: usize) -> Groups {
        Groups { count, groups: count.div_ceil(most).max(1) }
    }

    /// First token of a group; for the number of groups, the number of tokens.
    pub fn start(&self, group: usize) -> usize {
        let (size, larger) = (self.count / self.groups, self.count % self.groups);
        group * size + group.min(larger)
    }

    /// Tokens of a group.
    pub fn size(&self, group: usize) -> usize {
        self.count / self.groups + usize::from(group < self.count % self.groups)
    }

    /// Group of a token and its place there.
    pub fn locate(&self, token: usize) -> (usize, usize) {
        let (size, larger) = (self.count / self.groups, self.count % self.groups);
        let group = if token < larger * (size + 1) {
            token / (size + 1)
        } else {
            larger + (token - larger * (size + 1)) / size
        };
        (group, token - self.start(group))
    }

    /// Where element `k` of a token lies in a packed buffer `[group][k/2][token of the group][2]`.
    #[inline(always)]
    pub fn index(&self, token: usize, k: usize, columns: usize) -> usize {
        let (group, c) = self.locate(token);
        self.start(group) * columns + (k / 2 * self.size(group) + c) * 2 + k % 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_cover_all_tokens_and_locate_them() {
        for count in 1..200 {
            let groups = Groups::new(count);
            assert_eq!(groups.start(groups.groups), count);
            for token in 0..count {
                let (group, c) = groups.locate(token);
                assert!(c < groups.size(group) && groups.size(group) <= MAX_TOKENS);
                assert_eq!(groups.start(group) + c, token);
            }
        }
    }

    #[test]
    fn every_row_of_the_model_is_in_exactly_one_panel() {
        let model = ModelSpec {
            name: "odd".into(),
            hidden: 40,
            ffn: 72,
            layers: 1,
            heads: 6,
            kv_heads: 2,
            head_dim: 24,
            vocab: 77,
            tied_embeddings: false,
            rope_theta: 1e4,
            rope_scaling: None,
            norm_eps: 1e-5,
            max_position: 64,
            source: String::new(),
        };
        let shape = Shape::new(&model, Precision::BF16, InstructionSet::Portable, 1);
        let mut seen = std::collections::HashSet::new();
        for matrix in [Matrix::Qkv, Matrix::O, Matrix::GateUp, Matrix::Down, Matrix::Head] {
            let (unit, units) = shape.units(matrix);
            for panel in 0..unit * units {
                for r in 0..PANEL {
                    if let Some(row) = shape.source(matrix, panel, r) {
                        assert!(seen.insert(row), "{row:?} twice");
                    }
                }
            }
        }
        assert_eq!(seen.len(), (6 + 2 + 2) * 24 + 40 + 2 * 72 + 40 + 77);
    }
}
