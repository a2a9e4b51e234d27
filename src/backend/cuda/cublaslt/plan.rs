//! One shape of product as cuBLASLt is told of it, and what it proposes for it.
//!
//! cuBLASLt's matrices are column-major, and ours are the transposes of such: it is asked for
//! `y^T[n][rows] = w[k][n]^T x^T[k][rows]`.

use std::ffi::c_void;
use std::ptr;

use cudarc::cublaslt::sys::cublasLtMatmulDescAttributes_t as ProductAttribute;
use cudarc::cublaslt::sys::cublasLtMatmulPreferenceAttributes_t as PreferenceAttribute;
use cudarc::cublaslt::sys::{cublasComputeType_t, cudaDataType_t};

use super::ProductArgs;
use super::library::{Calling, Candidate, Functions, Raw, Status};
use crate::error::{Failure, Result};

/// Most proposals that are asked for.
const MOST: usize = 8;

const BF16: u32 = cudaDataType_t::CUDA_R_16BF as u32;
/// `CUBLAS_OP_T`
const TRANSPOSED: u32 = 1;
const F32: u32 = cudaDataType_t::CUDA_R_32F as u32;

/// The descriptors of a shape, its candidates and which of them runs.
#[derive(Debug)]
pub(super) struct Plan {
    product: Owned,
    w: Owned,
    x: Owned,
    y: Owned,
    /// What cuBLASLt expects to be fastest comes first; at least one.
    pub candidates: Vec<Candidate>,
    /// The one that runs.
    pub chosen: usize,
    /// Whether they were timed.
    pub tuned: bool,
}

impl Plan {
    /// Describes the shape and asks for candidates that do with `workspace` bytes.
    pub fn new(functions: &Functions, handle: Raw, args: &ProductArgs, workspace: u64) -> Result<Plan> {
        let check = |status| functions.check(status, args);
        let product = Owned::new(functions.destroy_product, |raw| {
            let compute = cublasComputeType_t::CUBLAS_COMPUTE_32F as u32;
            // SAFETY: the pointer is to a local.
            check(unsafe { (functions.create_product)(raw, compute, F32) })
        })?;
        // SAFETY: the value is a u32, as the attribute demands.
        check(unsafe {
            let which = ProductAttribute::CUBLASLT_MATMUL_DESC_TRANSA as u32;
            (functions.set_product)(product.raw, which, ptr::from_ref(&TRANSPOSED).cast(), size_of::<u32>())
        })?;
        let layout = |rows: u32, columns: u32, stride: u32| {
            Owned::new(functions.destroy_layout, |raw| {
                // SAFETY: the pointer is to a local.
                check(unsafe {
                    (functions.create_layout)(raw, BF16, rows.into(), columns.into(), stride.into())
                })
            })
        };
        let w = layout(args.k, args.n, args.k)?;
        let x = layout(args.k, args.rows, args.x_stride)?;
        let y = layout(args.n, args.rows, args.y_stride)?;
        let preference = Owned::new(functions.destroy_preference, |raw| {
            // SAFETY: the pointer is to a local.
            check(unsafe { (functions.create_preference)(raw) })
        })?;
        let prefer = |which: PreferenceAttribute, value: *const c_void, bytes: usize| {
            // SAFETY: the value is alive and as long as the attribute's type.
            check(unsafe { (functions.set_preference)(preference.raw, which as u32, value, bytes) })
        };
        let shape = args.shape();
        prefer(
            PreferenceAttribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
            ptr::from_ref(&workspace).cast(),
            size_of::<u64>(),
        )?;
        // A is w, B is x; C and D are y.
        for (which, alignment) in [
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, shape.w as u32),
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, shape.x as u32),
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, shape.y as u32),
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, shape.y as u32),
        ] {
            prefer(which, ptr::from_ref(&alignment).cast(), size_of::<u32>())?;
        }

        let (mut candidates, mut found) = ([Candidate::default(); MOST], 0);
        // SAFETY: all descriptors are alive, and there is room for as many candidates as are asked for.
        check(unsafe {
            (functions.candidates)(
                handle,
                product.raw,
                w.raw,
                x.raw,
                y.raw,
                y.raw,
                preference.raw,
                MOST as i32,
                candidates.as_mut_ptr(),
                &mut found,
            )
        })?;
        let candidates: Vec<Candidate> = candidates
            .into_iter()
            .take(found.max(0) as usize)
            .filter(|candidate| candidate.status == 0 && candidate.workspace as u64 <= workspace)
            .collect();
        if candidates.is_empty() {
            let ProductArgs { rows, n, k, .. } = args;
            return Err(Failure::device(format!(
                "cuBLASLt has no algorithm for a product of {rows} x {n} x {k}"
            ))
            .hint("--gemm own does without cuBLASLt"));
        }
        Ok(Plan { product, w, x, y, candidates, chosen: 0, tuned: false })
    }

    /// Queues the product with one of the candidates.
    pub fn run(
        &self,
        functions: &Functions,
        calling: Calling,
        args: &ProductArgs,
        candidate: usize,
    ) -> Status {
        let Some(candidate) = self.candidates.get(candidate) else { return NOT_SUPPORTED };
        let (alpha, beta) = (1f32, if args.accumulate == 0 { 0f32 } else { 1f32 });
        let (workspace, bytes) = calling.workspace;
        // SAFETY: the descriptors are alive and describe these matrices, whose addresses the launch has from allocations
        // of these sizes; alpha and beta are read during the call.
        unsafe {
            (functions.multiply)(
                calling.handle,
                self.product.raw,
                &alpha,
                args.w,
                self.w.raw,
                args.x,
                self.x.raw,
                &beta,
                args.y,
                self.y.raw,
                args.y,
                self.y.raw,
                &candidate.algorithm,
                workspace,
                bytes as usize,
                calling.stream,
            )
        }
    }
}

/// `CUBLAS_STATUS_NOT_SUPPORTED`
const NOT_SUPPORTED: Status = 15;

/// A descriptor that is given back.
#[derive(Debug)]
struct Owned {
    raw: Raw,
    destroy: unsafe extern "C" fn(Raw) -> Status,
}

impl Owned {
    fn new(
        destroy: unsafe extern "C" fn(Raw) -> Status,
        create: impl FnOnce(&mut Raw) -> Result<()>,
    ) -> Result<Owned> {
        let mut raw = ptr::null_mut();
        create(&mut raw)?;
        Ok(Owned { raw, destroy })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: it was created, and nothing uses it any more.
        unsafe { (self.destroy)(self.raw) };
    }
}
