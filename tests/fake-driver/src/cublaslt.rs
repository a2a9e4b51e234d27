//! cuBLASLt: descriptors, a heuristic with candidates of different speeds, and bf16 products computed on the host.
//!
//! It does what llmroof asks of it and refuses all else, as strictly as can be: the real one would go on with wrong
//! numbers or reach outside of what it was given.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cublaslt::sys::{
    self, cublasComputeType_t, cublasLtHandle_t, cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t,
    cublasLtMatmulDescAttributes_t, cublasLtMatmulHeuristicResult_t, cublasLtMatmulPreference_t,
    cublasLtMatmulPreferenceAttributes_t, cublasLtMatrixLayout_t, cublasStatus_t, cudaDataType,
    cudaDataType_t, cudaStream_t,
};

use crate::costs::{Cost, Span};
use crate::state::{Device, Fake};
use crate::work::{HostWork, Work, submit};

/// What `cublasLtGetVersion` says: 12.8.4.
const VERSION: usize = 120_804;
/// Where handles begin; nothing else of the fake has such addresses.
const FIRST: u64 = 0x6200_0000_0040;

const NOT_INITIALIZED: u32 = 1;
const INVALID_VALUE: u32 = 7;
const EXECUTION_FAILED: u32 = 13;
const INTERNAL_ERROR: u32 = 14;
const NOT_SUPPORTED: u32 = 15;

/// What a handle stands for.
#[derive(Debug, Clone, Copy)]
enum Object {
    Library { device: usize },
    Product { transposed: [bool; 2] },
    Layout { rows: u64, columns: u64, stride: u64 },
    Preference { workspace: u64, alignment: [u32; 4] },
}

/// All that were made and not destroyed, and the handle of the next.
static OBJECTS: Mutex<(u64, BTreeMap<u64, Object>)> = Mutex::new((FIRST, BTreeMap::new()));

type Answer<T = ()> = Result<T, u32>;

fn make<T>(to: *mut *mut T, object: Object) -> Answer {
    let mut objects = OBJECTS.lock().unwrap_or_else(PoisonError::into_inner);
    objects.0 += 0x40;
    let handle = objects.0;
    objects.1.insert(handle, object);
    give(to, std::ptr::without_provenance_mut(handle as usize))
}

fn find<T>(handle: *mut T) -> Answer<Object> {
    let objects = OBJECTS.lock().unwrap_or_else(PoisonError::into_inner);
    objects.1.get(&(handle as u64)).copied().ok_or(INVALID_VALUE)
}

fn change<T>(handle: *mut T, change: impl FnOnce(&mut Object) -> Answer) -> Answer {
    let mut objects = OBJECTS.lock().unwrap_or_else(PoisonError::into_inner);
    objects.1.get_mut(&(handle as u64)).ok_or(INVALID_VALUE).and_then(change)
}

fn destroy<T>(handle: *mut T, is: fn(&Object) -> bool) -> Answer {
    let mut objects = OBJECTS.lock().unwrap_or_else(PoisonError::into_inner);
    match objects.1.get(&(handle as u64)) {
        Some(object) if is(object) => {
            objects.1.remove(&(handle as u64));
            Ok(())
        }
        _ => Err(INVALID_VALUE),
    }
}

fn give<T>(to: *mut T, value: T) -> Answer {
    if to.is_null() {
        return Err(INVALID_VALUE);
    }
    // SAFETY: it is not null, and the caller keeps to the API.
    unsafe { to.write_unaligned(value) };
    Ok(())
}

/// The value of an attribute, which must have just the bytes of its type.
fn value<T: Copy>(from: *const c_void, bytes: usize) -> Answer<T> {
    if from.is_null() || bytes != size_of::<T>() {
        return Err(INVALID_VALUE);
    }
    // SAFETY: it is not null, and as long as said by a caller that keeps to the API.
    Ok(unsafe { from.cast::<T>().read_unaligned() })
}

/// Runs one call; the status is that of a fault if there is one for it.
fn call(name: &'static str, body: impl FnOnce(&mut Fake) -> Answer) -> u32 {
    let run = || {
        Fake::with(|fake| match fake.room.strike(name, None) {
            Some(code) if code != 0 => Err(code as u32),
            _ => body(fake),
        })
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => 0,
        Ok(Err(status)) => status,
        Err(_) => {
            eprintln!("fake driver: {name} panicked");
            INTERNAL_ERROR
        }
    }
}

/// Functions of cuBLASLt. The status is a number, so that faults can be such that the bindings do not name. cudarc's
/// declaration of the same name must have the same parameters.
macro_rules! library {
    ($(fn $name:ident($fake:ident $(, $argument:ident: $type:ty)* $(,)?) $body:block)*) => {$(
        #[doc = concat!("`", stringify!($name), "` of cuBLASLt.")]
        ///
        /// # Safety
        /// As the API demands: every pointer is null or good for what it is used for.
        #[unsafe(no_mangle)]
        #[allow(clippy::too_many_arguments, non_snake_case)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> u32 {
            call(stringify!($name), |$fake: &mut Fake| $body)
        }
        const _: unsafe fn($($type),*) -> cublasStatus_t = sys::$name;
    )*};
}

library! {
    fn cublasLtCreate(fake, handle: *mut cublasLtHandle_t) {
        let device = fake.current().map_err(|_| NOT_INITIALIZED)?;
        make(handle, Object::Library { device })
    }

    fn cublasLtDestroy(_fake, handle: cublasLtHandle_t) {
        destroy(handle, |object| matches!(object, Object::Library { .. }))
    }

    fn cublasLtMatmulDescCreate(
        _fake, desc: *mut cublasLtMatmulDesc_t, compute: cublasComputeType_t, scale: cudaDataType_t,
    ) {
        if compute != cublasComputeType_t::CUBLAS_COMPUTE_32F || scale != cudaDataType_t::CUDA_R_32F {
            return Err(NOT_SUPPORTED);
        }
        make(desc, Object::Product { transposed: [false; 2] })
    }

    fn cublasLtMatmulDescSetAttribute(
        _fake, desc: cublasLtMatmulDesc_t, attribute: cublasLtMatmulDescAttributes_t, from: *const c_void,
        bytes: usize,
    ) {
        use cublasLtMatmulDescAttributes_t as A;
        let side = match attribute {
            A::CUBLASLT_MATMUL_DESC_TRANSA => 0,
            A::CUBLASLT_MATMUL_DESC_TRANSB => 1,
            _ => return Err(NOT_SUPPORTED),
        };
        let which = value::<u32>(from, bytes)?;
        change(desc, |object| match object {
            Object::Product { transposed } if which <= 1 => {
                transposed[side] = which == 1;
                Ok(())
            }
            _ => Err(INVALID_VALUE),
        })
    }

    fn cublasLtMatmulDescDestroy(_fake, desc: cublasLtMatmulDesc_t) {
        destroy(desc, |object| matches!(object, Object::Product { .. }))
    }

    fn cublasLtMatrixLayoutCreate(
        _fake, layout: *mut cublasLtMatrixLayout_t, dtype: cudaDataType, rows: u64, columns: u64, stride: i64,
    ) {
        if dtype != cudaDataType_t::CUDA_R_16BF {
            return Err(NOT_SUPPORTED);
        }
        if rows == 0 || columns == 0 || stride < rows as i64 {
            return Err(INVALID_VALUE);
        }
        make(layout, Object::Layout { rows, columns, stride: stride as u64 })
    }

    fn cublasLtMatrixLayoutDestroy(_fake, layout: cublasLtMatrixLayout_t) {
        destroy(layout, |object| matches!(object, Object::Layout { .. }))
    }

    fn cublasLtMatmulPreferenceCreate(_fake, preference: *mut cublasLtMatmulPreference_t) {
        // As the real one: no workspace, and pointers that are aligned to 256 bytes.
        make(preference, Object::Preference { workspace: 0, alignment: [256; 4] })
    }

    fn cublasLtMatmulPreferenceSetAttribute(
        _fake, preference: cublasLtMatmulPreference_t, attribute: cublasLtMatmulPreferenceAttributes_t,
        from: *const c_void, bytes: usize,
    ) {
        use cublasLtMatmulPreferenceAttributes_t as P;
        let side = match attribute {
            P::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES => None,
            P::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES => Some(0),
            P::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES => Some(1),
            P::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES => Some(2),
            P::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES => Some(3),
            _ => return Err(NOT_SUPPORTED),
        };
        change(preference, |object| {
            let Object::Preference { workspace, alignment } = object else { return Err(INVALID_VALUE) };
            match side {
                None => *workspace = value(from, bytes)?,
                Some(side) => {
                    alignment[side] = value(from, bytes)?;
                    if !alignment[side].is_power_of_two() {
                        return Err(INVALID_VALUE);
                    }
                }
            }
            Ok(())
        })
    }

    fn cublasLtMatmulPreferenceDestroy(_fake, preference: cublasLtMatmulPreference_t) {
        destroy(preference, |object| matches!(object, Object::Preference { .. }))
    }

    fn cublasLtMatmulAlgoGetHeuristic(
        _fake, handle: cublasLtHandle_t, desc: cublasLtMatmulDesc_t, a: cublasLtMatrixLayout_t,
        b: cublasLtMatrixLayout_t, c: cublasLtMatrixLayout_t, d: cublasLtMatrixLayout_t,
        preference: cublasLtMatmulPreference_t, most: c_int, into: *mut cublasLtMatmulHeuristicResult_t,
        count: *mut c_int,
    ) {
        let Object::Library { .. } = find(handle)? else { return Err(INVALID_VALUE) };
        let product = Product::of(desc, [a, b, c, d])?;
        let Object::Preference { workspace, alignment } = find(preference)? else { return Err(INVALID_VALUE) };
        if most < 1 || into.is_null() {
            return Err(INVALID_VALUE);
        }
        let candidates = product.candidates(workspace, alignment);
        let found = candidates.len().min(most as usize);
        for (i, candidate) in candidates.into_iter().take(found).enumerate() {
            // SAFETY: there is room for `most`, as the API demands.
            unsafe { into.add(i).write_unaligned(candidate) };
        }
        give(count, found as c_int)?;
        if found == 0 { Err(NOT_SUPPORTED) } else { Ok(()) }
    }

    fn cublasLtMatmul(
        fake, handle: cublasLtHandle_t, desc: cublasLtMatmulDesc_t, alpha: *const c_void, a_at: *const c_void,
        a: cublasLtMatrixLayout_t, b_at: *const c_void, b: cublasLtMatrixLayout_t, beta: *const c_void,
        c_at: *const c_void, c: cublasLtMatrixLayout_t, d_at: *mut c_void, d: cublasLtMatrixLayout_t,
        algorithm: *const cublasLtMatmulAlgo_t, workspace: *mut c_void, workspace_bytes: usize,
        stream: cudaStream_t,
    ) {
        let Object::Library { device } = find(handle)? else { return Err(INVALID_VALUE) };
        if fake.current().map_err(|_| NOT_INITIALIZED)? != device {
            return Err(NOT_INITIALIZED);
        }
        let product = Product::of(desc, [a, b, c, d])?;
        let (alpha, beta) = (value::<f32>(alpha, 4)?, value::<f32>(beta, 4)?);
        let algorithm = value::<cublasLtMatmulAlgo_t>(algorithm.cast(), size_of::<cublasLtMatmulAlgo_t>())?;
        let chosen = product.chosen(&algorithm).ok_or(INVALID_VALUE)?;
        let at = [a_at as u64, b_at as u64, c_at as u64, d_at as u64];
        let aligned = at.iter().zip(chosen.alignment).all(|(at, to)| at % u64::from(to) == 0);
        let scratch = workspace as u64;
        if alpha != 1.0 || ![0.0, 1.0].contains(&beta) || at[2] != at[3] {
            return Err(NOT_SUPPORTED);
        }
        if !aligned || (workspace_bytes as u64) < chosen.workspace || !scratch.is_multiple_of(256) {
            return Err(INVALID_VALUE);
        }
        let work = product.work(at, beta == 1.0, chosen, scratch);
        submit(fake, stream.cast(), Work::Host(Arc::new(work))).map_err(|_| EXECUTION_FAILED)
    }
}

/// `cublasLtGetVersion`
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub extern "C" fn cublasLtGetVersion() -> usize {
    VERSION
}

/// `cublasLtGetStatusString`
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub extern "C" fn cublasLtGetStatusString(status: u32) -> *const c_char {
    let text = match status {
        0 => c"success",
        NOT_INITIALIZED => c"the library was not initialized",
        3 => c"the resource allocation failed",
        INVALID_VALUE => c"an unsupported value or parameter was passed to the function",
        EXECUTION_FAILED => c"the function failed to launch on the GPU",
        INTERNAL_ERROR => c"an internal operation failed",
        NOT_SUPPORTED => c"the functionality requested is not supported",
        _ => c"<unknown>",
    };
    text.as_ptr()
}

/// D = A^T B, plus C in its place: A is [k][m], B [k][n], D [m][n], column by column.
#[derive(Debug, Clone, Copy)]
struct Product {
    m: u64,
    n: u64,
    k: u64,
    /// From one column to the next, of A, B and D.
    strides: [u64; 3],
}

/// A candidate that was proposed, as its algorithm says.
#[derive(Debug, Clone, Copy)]
struct Chosen {
    of_peak: f64,
    workspace: u64,
    alignment: [u32; 4],
}

/// Share of the peak and workspace of each candidate: the heuristic's first is not the best.
const CANDIDATES: [(f64, u64); 3] = [(0.72, 0), (0.80, 2 << 20), (0.76, 16 << 20)];

impl Product {
    fn of(desc: cublasLtMatmulDesc_t, layouts: [cublasLtMatrixLayout_t; 4]) -> Answer<Product> {
        let Object::Product { transposed } = find(desc)? else { return Err(INVALID_VALUE) };
        let mut all = [(0, 0, 0); 4];
        for (one, layout) in all.iter_mut().zip(layouts) {
            let Object::Layout { rows, columns, stride } = find(layout)? else { return Err(INVALID_VALUE) };
            *one = (rows, columns, stride);
        }
        let [(k, m, a), (b_rows, n, b), c, d] = all;
        if transposed != [true, false] {
            return Err(NOT_SUPPORTED);
        }
        if b_rows != k || (d.0, d.1) != (m, n) || c != d {
            return Err(INVALID_VALUE);
        }
        Ok(Product { m, n, k, strides: [a, b, d.2] })
    }

    /// What identifies the shape in an algorithm.
    fn print(self) -> u64 {
        [self.m, self.n, self.k]
            .into_iter()
            .chain(self.strides)
            .fold(0xcb, |hash: u64, x| (hash ^ x).wrapping_mul(0x100_0000_01b3).rotate_left(17))
    }

    /// Matrix units take rows of whole 16 bytes; others get one slow candidate.
    fn candidates(self, workspace: u64, alignment: [u32; 4]) -> Vec<cublasLtMatmulHeuristicResult_t> {
        let even = self.strides.iter().all(|stride| stride % 8 == 0) && alignment.iter().all(|&to| to >= 16);
        let count = if even { CANDIDATES.len() } else { 1 };
        CANDIDATES[..count]
            .iter()
            .enumerate()
            .filter(|(_, (_, needs))| *needs <= workspace)
            .map(|(i, &(_, needs))| {
                let [low, high] = [[alignment[0], alignment[1]], [alignment[2], alignment[3]]]
                    .map(|[a, b]| u64::from(a) << 32 | u64::from(b));
                let data = [self.print(), i as u64, u64::from(even), needs, low, high, 0, 0];
                cublasLtMatmulHeuristicResult_t {
                    algo: cublasLtMatmulAlgo_t { data },
                    workspaceSize: needs as usize,
                    state: cublasStatus_t::CUBLAS_STATUS_SUCCESS,
                    wavesCount: 1.0,
                    reserved: [0; 4],
                }
            })
            .collect()
    }

    /// The candidate of this shape that an algorithm is; `None` for one of another shape, or of none.
    fn chosen(self, algorithm: &cublasLtMatmulAlgo_t) -> Option<Chosen> {
        let [print, index, even, workspace, low, high, ..] = algorithm.data;
        let (of_peak, _) = CANDIDATES.get(index as usize).filter(|_| print == self.print())?;
        let alignment = [low >> 32, low, high >> 32, high].map(|to| to as u32);
        if alignment.contains(&0) {
            return None;
        }
        Some(Chosen { of_peak: if even == 1 { *of_peak } else { 0.2 }, workspace, alignment })
    }

    fn work(self, [a, b, _, d]: [u64; 4], add: bool, chosen: Chosen, scratch: u64) -> HostWork {
        let bytes = |rows: u64, columns: u64, stride: u64| 2 * ((columns - 1) * stride + rows);
        let Product { m, n, k, strides } = self;
        let span = |address, bytes, what| Span { address, bytes, what };
        let mut spans = vec![
            span(a, bytes(k, m, strides[0]), "A"),
            span(b, bytes(k, n, strides[1]), "B"),
            span(d, bytes(m, n, strides[2]), "D"),
        ];
        if chosen.workspace > 0 {
            spans.push(span(scratch, chosen.workspace, "workspace"));
        }
        let moved = 2 * (m * k + n * k + m * n * if add { 2 } else { 1 });
        let cost = Cost::product(moved as f64, 2.0 * m as f64 * n as f64 * k as f64);
        HostWork {
            name: "cublasLtMatmul",
            cost: Cost { of_peak: chosen.of_peak, ..cost },
            spans,
            part: None,
            compute: Box::new(move |device| self.compute(device, [a, b, d], add)),
        }
    }

    fn compute(self, device: &mut Device, [a, b, d]: [u64; 3], add: bool) -> Result<(), String> {
        let columns = |device: &Device, at: u64, rows: u64, count: u64, stride: u64| {
            (0..count)
                .map(|column| {
                    let mut bytes = vec![0; 2 * rows as usize];
                    let read = device.machine.read(at + 2 * column * stride, &mut bytes);
                    read.map_err(|fault| fault.to_string())?;
                    let widen = |pair: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*pair)) << 16);
                    Ok(bytes.as_chunks::<2>().0.iter().map(widen).collect())
                })
                .collect::<Result<Vec<Vec<f32>>, String>>()
        };
        let w = columns(device, a, self.k, self.m, self.strides[0])?;
        let x = columns(device, b, self.k, self.n, self.strides[1])?;
        for (column, x) in (0..).zip(&x) {
            let at = d + 2 * column * self.strides[2];
            let old = match add {
                true => columns(device, at, self.m, 1, self.m)?.concat(),
                false => vec![0.0; self.m as usize],
            };
            let products = w.iter().map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>());
            let bytes: Vec<u8> =
                products.zip(old).flat_map(|(product, old)| narrow(product + old).to_le_bytes()).collect();
            device.machine.write(at, &bytes).map_err(|fault| fault.to_string())?;
        }
        Ok(())
    }
}

/// Rounds to the nearest bf16, ties to even.
fn narrow(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}
