//! The CPU's forward pass against a naive one in f64, and against itself in other arrangements.

#![allow(clippy::unwrap_used)]

use llmroof::backend::cpu::{CpuBackend, InstructionSet};
use llmroof::backend::weights::{RandomWeights, Tensor, WeightSource, from_bf16};
use llmroof::backend::{Backend, OpenOptions, Probe, Residency, Session, StageOutput, Work};
use llmroof::model::{DType, ModelSpec, Precision, RopeScaling};
use llmroof::workload::{Phase, Stage};

fn model(hidden: u32, ffn: u32, heads: u32, kv_heads: u32, head_dim: u32, vocab: u32) -> ModelSpec {
    ModelSpec {
        name: "tiny".into(),
        hidden,
        ffn,
        layers: 2,
        heads,
        kv_heads,
        head_dim,
        vocab,
        tied_embeddings: false,
        rope_theta: 10_000.0,
        rope_scaling: Some(RopeScaling {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position: 64,
        }),
        norm_eps: 1e-5,
        max_position: 512,
        source: String::new(),
    }
}

fn session(model: &ModelSpec, isa: InstructionSet, threads: usize, activations: DType) -> Box<dyn Session> {
    let options = OpenOptions {
        threads: Some(threads),
        instruction_set: Some(isa.name().to_owned()),
        ..OpenOptions::default()
    };
    let mut session = CpuBackend.open(&options).unwrap();
    let residency =
        Residency { model: model.clone(), layers: model.layers, precision: activations.into(), copies: 1 };
    session.load(&residency, &RandomWeights::new(7, model)).unwrap();
    session
}

fn matrix(model: &ModelSpec, tensor: Tensor, layer: u32, rows: u32, columns: u32) -> Vec<Vec<f64>> {
    let random = RandomWeights::new(7, model);
    (0..rows)
        .map(|row| {
            let mut bits = vec![0; columns as usize];
            random.row(tensor, layer, row, &mut bits);
            bits.into_iter().map(|b| f64::from(from_bf16(b))).collect()
        })
        .collect()
}

fn multiply(m: &[Vec<f64>], x: &[f64]) -> Vec<f64> {
    m.iter().map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
}

fn norm(x: &[f64], weight: &[f64], eps: f64) -> Vec<f64> {
    let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    x.iter().zip(weight).map(|(v, w)| v / (mean + eps).sqrt() * w).collect()
}

fn rotate(model: &ModelSpec, head: &mut [f64], position: usize) {
    let half = head.len() / 2;
    let s = model.rope_scaling.unwrap();
    for i in 0..half {
        let plain = model.rope_theta.powf(-(2.0 * i as f64) / head.len() as f64);
        let wavelength = std::f64::consts::TAU / plain;
        let (low, high) = (64.0 / s.low_freq_factor, 64.0 / s.high_freq_factor);
        let frequency = if wavelength < high {
            plain
        } else if wavelength > low {
            plain / s.factor
        } else {
            let t = (64.0 / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
            (1.0 - t) * plain / s.factor + t * plain
        };
        let (sin, cos) = (position as f64 * frequency).sin_cos();
        let (a, b) = (head[i], head[half + i]);
        head[i] = a * cos - b * sin;
        head[half + i] = b * cos + a * sin;
    }
}

/// All stage outputs for one sequence from an empty cache, as `StageOutput` has them.
fn reference(m: &ModelSpec, tokens: &[u32]) -> Vec<(Stage, Vec<f64>)> {
    let (d, group) = (m.head_dim as usize, m.group() as usize);
    let embedding = matrix(m, Tensor::Embedding, 0, m.vocab, m.hidden);
    let mut x: Vec<Vec<f64>> = tokens.iter().map(|&t| embedding[t as usize].clone()).collect();
    let mut out = vec![(Stage::Embed, x.concat())];
    for l in 0..m.layers {
        let weight = |t, rows, columns| matrix(m, t, l, rows, columns);
        let attention_norm = weight(Tensor::AttentionNorm, 1, m.hidden).remove(0);
        let [q, k, v] = [(Tensor::Q, m.q_width()), (Tensor::K, m.kv_width()), (Tensor::V, m.kv_width())]
            .map(|(t, rows)| weight(t, rows, m.hidden));
        let mut qkv = Vec::new();
        for (position, x) in x.iter().enumerate() {
            let y = norm(x, &attention_norm, m.norm_eps);
            let (mut q, mut k, v) = (multiply(&q, &y), multiply(&k, &y), multiply(&v, &y));
            q.chunks_mut(d).for_each(|head| rotate(m, head, position));
            k.chunks_mut(d).for_each(|head| rotate(m, head, position));
            qkv.push((q, k, v));
        }
        out.push((
            Stage::Qkv,
            qkv.iter().flat_map(|(q, k, v)| [q.clone(), k.clone(), v.clone()].concat()).collect(),
        ));
        let mut attended = Vec::new();
        for i in 0..tokens.len() {
            let mut row = Vec::new();
            for head in 0..m.heads as usize {
                let q = &qkv[i].0[head * d..(head + 1) * d];
                let at = head / group * d;
                let scores: Vec<f64> = (0..=i)
                    .map(|j| {
                        let k = &qkv[j].1[at..at + d];
                        (q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>() / (d as f64).sqrt()).exp()
                    })
                    .collect();
                let sum: f64 = scores.iter().sum();
                row.extend((0..d).map(|e| {
                    scores.iter().enumerate().map(|(j, p)| p / sum * qkv[j].2[at + e]).sum::<f64>()
                }));
            }
            attended.push(row);
        }
        out.push((Stage::Attention, attended.concat()));
        let o = weight(Tensor::O, m.hidden, m.q_width());
        for (x, a) in x.iter_mut().zip(&attended) {
            x.iter_mut().zip(multiply(&o, a)).for_each(|(x, y)| *x += y);
        }
        out.push((Stage::OutProj, x.concat()));
        let ffn_norm = weight(Tensor::FfnNorm, 1, m.hidden).remove(0);
        let [gate, up] = [Tensor::Gate, Tensor::Up].map(|t| weight(t, m.ffn, m.hidden));
        let activated: Vec<Vec<f64>> = x
            .iter()
            .map(|x| {
                let y = norm(x, &ffn_norm, m.norm_eps);
                multiply(&gate, &y)
                    .iter()
                    .zip(multiply(&up, &y))
                    .map(|(g, u)| g / (1.0 + (-g).exp()) * u)
                    .collect()
            })
            .collect();
        out.push((Stage::GateUp, activated.concat()));
        let down = weight(Tensor::Down, m.hidden, m.ffn);
        for (x, a) in x.iter_mut().zip(&activated) {
            x.iter_mut().zip(multiply(&down, a)).for_each(|(x, y)| *x += y);
        }
        out.push((Stage::Down, x.concat()));
    }
    let final_norm = matrix(m, Tensor::FinalNorm, 0, 1, m.hidden).remove(0);
    let y = norm(x.last().unwrap(), &final_norm, m.norm_eps);
    out.push((Stage::LmHead, multiply(&matrix(m, Tensor::Head, 0, m.vocab, m.hidden), &y)));
    out
}

/// Largest difference relative to the largest value.
fn difference(a: &[f32], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let size = b.iter().fold(0f64, |m, v| m.max(v.abs()));
    a.iter().zip(b).fold(0f64, |m, (&a, b)| m.max((f64::from(a) - b).abs())) / size
}

fn ids(n: usize, vocab: u32, salt: u32) -> Vec<u32> {
    (0..n as u32).map(|i| (i * 31 + salt * 17 + i * i * 7) % vocab).collect()
}

fn logits(outputs: &[StageOutput]) -> &[f32] {
    &outputs.last().unwrap().values
}

fn shapes() -> Vec<ModelSpec> {
    vec![
        model(64, 96, 4, 2, 32, 100),
        model(40, 72, 6, 2, 24, 77),
        model(128, 200, 4, 4, 40, 131),
        model(64, 128, 14, 1, 16, 64),
        model(256, 320, 2, 1, 128, 96),
    ]
}

#[test]
fn every_stage_agrees_with_float64_on_every_instruction_set() {
    for model in shapes() {
        for tokens in [1, 5, 70, 93] {
            let tokens = ids(tokens, model.vocab, 1);
            let expected = reference(&model, &tokens);
            for isa in InstructionSet::available() {
                for (activations, tolerance) in [(DType::F32, 2e-5), (DType::Bf16, 3e-2)] {
                    let mut session = session(&model, isa, 2, activations);
                    session.begin(1, 100, None).unwrap();
                    let got = session.forward(std::slice::from_ref(&tokens), true).unwrap();
                    assert_eq!(got.len(), expected.len());
                    for (got, (stage, values)) in got.iter().zip(&expected) {
                        assert_eq!(got.stage, *stage);
                        let off = difference(&got.values, values);
                        assert!(
                            off < tolerance,
                            "{stage} of layer {} is off by {off}: {isa:?} {activations} hidden {} tokens {}",
                            got.layer,
                            model.hidden,
                            tokens.len()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn decoding_after_a_prompt_equals_a_longer_prompt() {
    for model in shapes() {
        for isa in InstructionSet::available() {
            let tokens = ids(75, model.vocab, 3);
            let mut session = session(&model, isa, 2, DType::F32);
            session.begin(1, 75, None).unwrap();
            let whole = logits(&session.forward(std::slice::from_ref(&tokens), false).unwrap()).to_vec();
            session.begin(1, 75, None).unwrap();
            session.forward(&[tokens[..40].to_vec()], false).unwrap();
            session.forward(&[tokens[40..70].to_vec()], false).unwrap();
            for token in &tokens[70..74] {
                session.forward(&[vec![*token]], false).unwrap();
            }
            let last = session.forward(&[vec![tokens[74]]], false).unwrap();
            let whole: Vec<f64> = whole.into_iter().map(f64::from).collect();
            assert!(difference(logits(&last), &whole) < 1e-5, "{isa:?} hidden {}", model.hidden);
        }
    }
}

#[test]
fn a_batch_equals_its_sequences_one_by_one() {
    let model = model(64, 96, 4, 2, 32, 100);
    for isa in InstructionSet::available() {
        for batch in [2, 5, 13, 30] {
            let prompts: Vec<Vec<u32>> = (0..batch).map(|s| ids(9, model.vocab, s)).collect();
            let next: Vec<Vec<u32>> = (0..batch).map(|s| vec![(s * 3) % model.vocab]).collect();
            let mut together = session(&model, isa, 2, DType::F32);
            together.begin(batch, 10, None).unwrap();
            together.forward(&prompts, false).unwrap();
            let all = logits(&together.forward(&next, false).unwrap()).to_vec();
            for (s, (prompt, next)) in prompts.iter().zip(&next).enumerate() {
                together.begin(1, 10, None).unwrap();
                together.forward(std::slice::from_ref(prompt), false).unwrap();
                let one = together.forward(std::slice::from_ref(next), false).unwrap();
                let one: Vec<f64> = logits(&one).iter().copied().map(f64::from).collect();
                let vocab = model.vocab as usize;
                assert!(difference(&all[s * vocab..(s + 1) * vocab], &one) < 1e-5, "{isa:?} {batch}");
            }
        }
    }
}

/// Logits of three sequences after a prompt, its continuation, tokens one by one and some together.
fn logits_in_pages(session: &mut dyn Session, vocab: u32, kv_page: Option<u32>) -> Vec<f32> {
    session.begin(3, 150, kv_page).unwrap();
    let mut all = Vec::new();
    for (pass, count) in [70, 25, 1, 1, 5, 40, 1, 7].into_iter().enumerate() {
        let tokens: Vec<Vec<u32>> = (0..3).map(|s| ids(count, vocab, 10 * pass as u32 + s)).collect();
        let out = session.forward(&tokens, true).unwrap();
        all.extend(out.into_iter().flat_map(|output| output.values));
    }
    all
}

#[test]
fn a_cache_in_pages_gives_what_a_contiguous_one_gives() {
    let types = [(DType::F32, DType::F32), (DType::Bf16, DType::Bf16), (DType::Bf16, DType::Int8)];
    for model in shapes() {
        for (isa, (activations, kv)) in
            InstructionSet::available().into_iter().flat_map(|isa| types.map(|types| (isa, types)))
        {
            let mut session = session(&model, isa, 2, activations);
            let precision = Precision { kv, ..activations.into() };
            let residency = Residency { model: model.clone(), layers: model.layers, precision, copies: 1 };
            session.load(&residency, &RandomWeights::new(7, &model)).unwrap();
            let contiguous = logits_in_pages(session.as_mut(), model.vocab, None);
            let expected: Vec<f64> = contiguous.iter().copied().map(f64::from).collect();
            for page in [16, 32, 64, 128, 256] {
                let paged = logits_in_pages(session.as_mut(), model.vocab, Some(page));
                if page >= 64 || kv == DType::Int8 {
                    // The same sums in the same order, or exact ones.
                    assert!(paged == contiguous, "{isa:?} {kv} hidden {} pages of {page}", model.hidden);
                }
                // Values are summed up page by page: other roundings, which bf16 makes much of.
                let (off, most) =
                    (difference(&paged, &expected), if activations == DType::F32 { 1e-5 } else { 2e-2 });
                assert!(off < most, "{isa:?} {kv} hidden {} pages of {page}: {off}", model.hidden);
            }
        }
    }
}

#[test]
fn every_stage_over_a_cache_in_pages_agrees_with_float64() {
    for model in shapes() {
        let tokens = ids(93, model.vocab, 1);
        let expected = reference(&model, &tokens);
        for isa in InstructionSet::available() {
            for (page, (activations, tolerance)) in [16, 32, 128]
                .into_iter()
                .flat_map(|page| [(DType::F32, 2e-5), (DType::Bf16, 3e-2)].map(|t| (page, t)))
            {
                let mut session = session(&model, isa, 2, activations);
                session.begin(1, 100, Some(page)).unwrap();
                let got = session.forward(std::slice::from_ref(&tokens), true).unwrap();
                for (got, (stage, values)) in got.iter().zip(&expected) {
                    let off = difference(&got.values, values);
                    assert!(
                        off < tolerance,
                        "{stage} is off by {off}: {isa:?} {activations} pages of {page}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_the_result() {
    // One KV head for two threads: the context itself is cut.
    let model = model(64, 128, 14, 1, 16, 64);
    let run = |threads| {
        let mut session = session(&model, InstructionSet::available()[0], threads, DType::F32);
        session.begin(1, 300, None).unwrap();
        session.forward(&[ids(290, model.vocab, 2)], false).unwrap();
        logits(&session.forward(&[vec![5]], false).unwrap()).to_vec()
    };
    let one: Vec<f64> = run(1).into_iter().map(f64::from).collect();
    if std::thread::available_parallelism().map_or(1, usize::from) > 1 {
        assert!(difference(&run(2), &one) < 1e-5);
    }
}

#[test]
fn timed_passes_and_probes_run_and_add_up() {
    let model = model(64, 96, 4, 2, 32, 100);
    for isa in InstructionSet::available() {
        let options = OpenOptions {
            threads: None,
            instruction_set: Some(isa.name().to_owned()),
            ..OpenOptions::default()
        };
        let mut session = CpuBackend.open(&options).unwrap();
        let residency = Residency { model: model.clone(), layers: 2, precision: Precision::BF16, copies: 3 };
        session.load(&residency, &RandomWeights::new(1, &model)).unwrap();
        for (phase, batch, tokens, context, kv_page) in [
            (Phase::Decode, 1, 1, 130, None),
            (Phase::Decode, 17, 1, 64, None),
            (Phase::Prefill, 2, 70, 70, None),
            (Phase::Prefill, 1, 20, 90, None),
            (Phase::Decode, 3, 1, 130, Some(16)),
            (Phase::Decode, 1, 4, 300, Some(256)),
            (Phase::Prefill, 2, 70, 90, Some(32)),
        ] {
            session.prepare(&Work { phase, batch, tokens, context, chunk: None, kv_page }).unwrap();
            for execution in session.run(4).unwrap() {
                assert!(execution.stages.iter().all(|&s| s > 0.0));
                assert!(execution.stages.iter().sum::<f64>() <= execution.seconds * 1.001 + 1e-6);
            }
        }
        for probe in [
            Probe::MemoryRead,
            Probe::MemoryCopy,
            Probe::CacheRead,
            Probe::Compute(DType::Bf16),
            Probe::Compute(DType::F32),
            Probe::Compute(DType::Int8),
        ] {
            let rate = session.probe(probe, 0.002).unwrap().rate();
            assert!(rate > 1e6 && rate < 1e16, "{probe:?} {rate}");
        }
    }
}

#[test]
fn what_cannot_be_done_is_said_with_a_hint() {
    let unknown =
        OpenOptions { threads: None, instruction_set: Some("avx9".into()), ..OpenOptions::default() };
    let failure = CpuBackend.open(&unknown).err().unwrap();
    assert!(failure.hint.unwrap().contains("portable"));
    let too_many = OpenOptions { threads: Some(100_000), ..OpenOptions::default() };
    assert!(CpuBackend.open(&too_many).is_err());
    let mut session = CpuBackend.open(&OpenOptions::default()).unwrap();
    assert!(session.run(1).is_err());
    assert!(
        session
            .prepare(&Work {
                phase: Phase::Decode,
                batch: 1,
                tokens: 1,
                context: 1,
                chunk: None,
                kv_page: None
            })
            .is_err()
    );
    let mut model = model(64, 96, 4, 2, 32, 100);
    let residency = Residency { model: model.clone(), layers: 2, precision: Precision::BF16, copies: 1 };
    session.load(&residency, &RandomWeights::new(1, &model)).unwrap();
    for page in [0, 8, 24] {
        assert!(session.begin(1, 50, Some(page)).unwrap_err().hint.unwrap().contains("power of two"));
    }
    model.vocab = 1 << 24;
    model.hidden = 1 << 20;
    let residency = Residency { model: model.clone(), layers: 2, precision: Precision::BF16, copies: 1 };
    let failure = session.load(&residency, &RandomWeights::new(1, &model)).unwrap_err();
    assert!(failure.what.contains("TB"), "{failure}");
}
