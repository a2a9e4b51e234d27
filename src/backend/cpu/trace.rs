//! Outputs of stages in the model's own order, taken from the buffers that the next stage reads.

use super::activation::Activation;
use super::feed::Place;
use super::shape::rotary_place;
use super::step::Step;
use crate::workload::Stage;

impl Step<'_> {
    /// What a stage left, as [`crate::backend::StageOutput::values`] has it.
    ///
    /// # Safety
    /// No thread runs a stage meanwhile.
    pub(super) unsafe fn output<A: Activation>(&self, stage: Stage, layer: usize) -> Vec<f32> {
        let (shape, pass) = (self.shape, self.pass);
        // SAFETY: all indices are those that the stage has written.
        unsafe {
            match stage {
                Stage::Embed | Stage::OutProj | Stage::Down => {
                    let len = pass.groups.count * shape.hidden;
                    std::slice::from_raw_parts(pass.x.ptr::<f32>(), len).to_vec()
                }
                Stage::Attention => self.unpack::<A>(pass.attended.ptr(), shape.q_width()),
                Stage::GateUp => self.unpack::<A>(pass.activated.ptr(), shape.ffn),
                Stage::Qkv => self.qkv_output::<A>(layer),
                Stage::LmHead => pass.logits.as_ref().map_or_else(Vec::new, |logits| {
                    std::slice::from_raw_parts(logits.ptr::<f32>(), pass.headed.count * shape.vocab).to_vec()
                }),
            }
        }
    }

    /// `[token][element]` of packed activations.
    unsafe fn unpack<A: Activation>(&self, packed: *const A, width: usize) -> Vec<f32> {
        let groups = self.pass.groups;
        let mut values = Vec::with_capacity(groups.count * width);
        for token in 0..groups.count {
            // SAFETY: the buffer holds all tokens.
            values
                .extend((0..width).map(|k| unsafe { (*packed.add(groups.index(token, k, width))).value() }));
        }
        values
    }

    /// Rotated q and k and v of each token, from the queries and the cache.
    unsafe fn qkv_output<A: Activation>(&self, layer: usize) -> Vec<f32> {
        let (shape, pass) = (self.shape, self.pass);
        let (head_dim, width) = (shape.head_dim, shape.head_width());
        let mut values = Vec::new();
        for token in 0..pass.groups.count {
            let (feed, Place { sequence, position, new }) = pass.place(token);
            // SAFETY: the indices are those that the stage has written.
            unsafe {
                for head in 0..shape.heads {
                    let unit = sequence * shape.kv_heads + head / shape.group;
                    let column = new * shape.group + head % shape.group;
                    let q = pass.q.ptr::<A>().add(feed.queries(unit, shape));
                    values.extend((0..head_dim).map(|d| {
                        let place = rotary_place(head_dim, d);
                        (*q.add(feed.columns.index(column, place, width))).value()
                    }));
                }
                for (is_key, head) in
                    [true, false].into_iter().flat_map(|k| (0..shape.kv_heads).map(move |head| (k, head)))
                {
                    let unit = sequence * shape.kv_heads + head;
                    let piece = self.kv.of(self.kv_copy, layer, unit, position);
                    values.extend((0..head_dim).map(|d| {
                        if self.kv.is_quantised() {
                            let which = usize::from(!is_key);
                            let d = if is_key { rotary_place(head_dim, d) } else { d };
                            let code = f32::from(*self.kv.code(piece, position, which, d));
                            return A::kv_value(A::kv(code * *self.kv.scale(piece, position, which)));
                        }
                        let at = if is_key {
                            self.kv.key::<A>(piece, position, rotary_place(head_dim, d))
                        } else {
                            self.kv.value::<A>(piece, position, d)
                        };
                        A::kv_value(*at)
                    }));
                }
            }
        }
        values
    }
}
