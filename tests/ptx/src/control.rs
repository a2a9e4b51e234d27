//! Control flow: where the ways of a branch meet again.

use crate::op::{Code, Op};

/// Facts about every operation's place in the flow.
#[derive(Debug)]
pub struct Flow {
    /// Immediate post-dominator of the branch at an operation; the number of operations is the end.
    pub meets: Vec<u32>,
    /// Whether a thread that gets here ends without meeting others in a barrier or a warp-wide instruction.
    pub quits: Vec<bool>,
}

/// Operations `first..end` that are entered only at the first and left only at the last.
struct Block {
    first: usize,
    end: usize,
    next: Vec<usize>,
}

fn is_unconditional(op: &Op) -> bool {
    op.guard.slot == 0 && op.guard.flip == 0
}

fn blocks(ops: &[Op]) -> (Vec<Block>, Vec<usize>) {
    let mut leads = vec![false; ops.len() + 1];
    leads[0] = true;
    for (at, op) in ops.iter().enumerate() {
        match &op.code {
            Code::Branch { target } => leads[*target as usize] = true,
            Code::BranchIndexed { targets, .. } => {
                targets.iter().for_each(|target| leads[*target as usize] = true)
            }
            Code::Exit | Code::Trap => {}
            _ => continue,
        }
        leads[at + 1] = true;
    }
    let firsts: Vec<usize> = (0..ops.len()).filter(|&at| leads[at]).collect();
    // Block of every operation; one past the last is the end.
    let mut of = vec![firsts.len(); ops.len() + 1];
    let mut list = Vec::with_capacity(firsts.len());
    for (index, &first) in firsts.iter().enumerate() {
        let end = firsts.get(index + 1).copied().unwrap_or(ops.len());
        of[first..end].fill(index);
        list.push(Block { first, end, next: Vec::new() });
    }
    for block in &mut list {
        let last = &ops[block.end - 1];
        let falls = match &last.code {
            Code::Branch { target } => {
                block.next.push(of[*target as usize]);
                !is_unconditional(last)
            }
            Code::BranchIndexed { targets, .. } => {
                block.next.extend(targets.iter().map(|target| of[*target as usize]));
                !is_unconditional(last)
            }
            // Lanes that exit under a predicate meet nobody again: that is no way of its own.
            Code::Exit | Code::Trap if is_unconditional(last) => {
                block.next.push(of[ops.len()]);
                false
            }
            _ => true,
        };
        if falls {
            block.next.push(of[block.end]);
        }
    }
    (list, of)
}

/// Immediate post-dominator of every block; the end is its own.
fn post_dominators(list: &[Block]) -> Vec<usize> {
    let end = list.len();
    let mut before = vec![Vec::new(); end + 1];
    for (index, block) in list.iter().enumerate() {
        for &next in &block.next {
            before[next].push(index);
        }
    }
    // Order in which a walk back from the end leaves the blocks.
    let mut order = Vec::with_capacity(end + 1);
    let mut rank = vec![usize::MAX; end + 1];
    let mut seen = vec![false; end + 1];
    let mut stack = vec![(end, 0)];
    seen[end] = true;
    while let Some((block, child)) = stack.pop() {
        if let Some(&next) = before[block].get(child) {
            stack.push((block, child + 1));
            if !seen[next] {
                seen[next] = true;
                stack.push((next, 0));
            }
        } else {
            rank[block] = order.len();
            order.push(block);
        }
    }
    let mut dominator = vec![usize::MAX; end + 1];
    dominator[end] = end;
    let mut changed = true;
    while changed {
        changed = false;
        for &block in order.iter().rev().skip(1) {
            let mut found = usize::MAX;
            for &next in &list[block].next {
                if dominator[next] == usize::MAX {
                    continue;
                }
                found = if found == usize::MAX { next } else { meet(found, next, &dominator, &rank) };
            }
            if dominator[block] != found {
                dominator[block] = found;
                changed = true;
            }
        }
    }
    // What never ends (a loop without a way out) meets at the end.
    dominator.iter().map(|&block| if block == usize::MAX { end } else { block }).collect()
}

fn meet(mut a: usize, mut b: usize, dominator: &[usize], rank: &[usize]) -> usize {
    while a != b {
        while rank[a] < rank[b] {
            a = dominator[a];
        }
        while rank[b] < rank[a] {
            b = dominator[b];
        }
    }
    a
}

/// Whether nothing happens from here on but the thread's end.
fn only_exits(ops: &[Op], mut at: usize) -> bool {
    for _ in 0..ops.len() {
        match ops.get(at).map(|op| (&op.code, is_unconditional(op))) {
            Some((Code::Exit, true)) | None => return true,
            Some((Code::Branch { target }, true)) => at = *target as usize,
            _ => return false,
        }
    }
    false
}

impl Flow {
    /// Analyses a kernel.
    pub fn of(ops: &[Op]) -> Flow {
        let (list, of) = blocks(ops);
        let dominator = post_dominators(&list);
        let end = list.len();
        let first = |block: usize| if block == end { ops.len() as u32 } else { list[block].first as u32 };
        let mut quits = vec![false; end + 1];
        quits[end] = true;
        let quiet: Vec<bool> =
            list.iter().map(|block| !ops[block.first..block.end].iter().any(|op| op.code.meets())).collect();
        let mut changed = true;
        while changed {
            changed = false;
            for index in (0..end).rev() {
                let ends = quiet[index] && list[index].next.iter().all(|&next| quits[next]);
                changed |= ends && !quits[index];
                quits[index] |= ends;
            }
        }
        // A thread that returns early jumps to the same `ret` as all others end with: it does not wait there.
        let meet = |block: usize| {
            let at = first(dominator[block]);
            if only_exits(ops, at as usize) { ops.len() as u32 } else { at }
        };
        Flow {
            meets: of[..ops.len()].iter().map(|&block| meet(block)).collect(),
            quits: of[..ops.len()].iter().map(|&block| quits[block]).collect(),
        }
    }
}
