//! What the tests have in common: PTX around a body, a machine to run it on, and what a fault must say.

use ptx_interpreter::{Fault, FaultKind, Launch, Machine, Module, Profile, Traffic};

/// Values that go to the machine's memory and come back.
pub trait Plain: Copy {
    /// Size in bytes.
    const BYTES: usize;
    /// Appends the value's bytes.
    fn put(self, to: &mut Vec<u8>);
    /// The value of these bytes.
    fn get(from: &[u8]) -> Self;
}

macro_rules! plain {
    ($($t:ty),*) => {$(
        impl Plain for $t {
            const BYTES: usize = size_of::<$t>();
            fn put(self, to: &mut Vec<u8>) {
                to.extend(self.to_le_bytes());
            }
            fn get(from: &[u8]) -> Self {
                <$t>::from_le_bytes(from.try_into().unwrap())
            }
        }
    )*};
}
plain!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64);

/// A PTX file for this target.
pub fn module(target: &str, text: &str) -> String {
    format!(".version 8.0\n.target {target}\n.address_size 64\n\n{text}")
}

/// An entry with a 64-bit pointer for each name. The body finds registers `%p0-9` (predicates), `%h0-19`, `%r0-99`,
/// `%l0-39` (16, 32, 64 bits), `%f0-39`, `%w0-19` (f32, f64), and in `%t` its thread, in `%lane` its lane, in
/// `%block` its block, in `%i` its index in the grid (all of x), and each pointer in the register of its name.
pub fn entry(name: &str, pointers: &[&str], body: &str) -> String {
    let list: Vec<_> = pointers.iter().map(|p| format!("\t.param .u64 {name}_{p}")).collect();
    let loads: String = pointers
        .iter()
        .map(|p| {
            format!(
                "\t.reg .b64 %{p};\n\tld.param.u64 %{p}, [{name}_{p}];\n\tcvta.to.global.u64 %{p}, %{p};\n"
            )
        })
        .collect();
    format!(
        ".visible .entry {name}(\n{}\n)\n{{
	.reg .pred %p<10>;
	.reg .b16 %h<20>;
	.reg .b32 %r<100>;
	.reg .b64 %l<40>;
	.reg .f32 %f<40>;
	.reg .f64 %w<20>;
	.reg .b32 %t, %lane, %block, %i;
	mov.u32 %t, %tid.x;
	mov.u32 %lane, %laneid;
	mov.u32 %block, %ctaid.x;
	mov.u32 %i, %ntid.x;
	mad.lo.u32 %i, %block, %i, %t;
{loads}
{body}
	ret;
}}
",
        list.join(",\n")
    )
}

/// A file with the one entry `k`.
pub fn kernel(pointers: &[&str], body: &str) -> String {
    module("sm_80", &entry("k", pointers, body))
}

/// The parsed text; panics with the fault.
#[track_caller]
pub fn parse(ptx: &str) -> Module {
    Module::parse(ptx).unwrap_or_else(|fault| panic!("line {}: {fault}\n{ptx}", fault.line))
}

/// A machine, and short ways to fill it, run on it and read it.
pub struct Lab {
    /// The machine.
    pub machine: Machine,
}

impl Lab {
    /// One worker.
    pub fn new() -> Lab {
        Lab::with_workers(1)
    }

    /// Blocks run on so many host threads.
    pub fn with_workers(workers: usize) -> Lab {
        Lab { machine: Machine::new(workers) }
    }

    /// An allocation that nothing has written.
    pub fn room(&mut self, name: &str, bytes: usize) -> u64 {
        self.machine.allocate(bytes as u64, name)
    }

    /// An allocation with these values.
    pub fn upload<T: Plain>(&mut self, name: &str, values: &[T]) -> u64 {
        let mut bytes = Vec::new();
        values.iter().for_each(|v| v.put(&mut bytes));
        let address = self.room(name, bytes.len());
        self.machine.write(address, &bytes).unwrap();
        address
    }

    /// So many values from there; panics where nothing wrote them.
    #[track_caller]
    pub fn read<T: Plain>(&self, from: u64, count: usize) -> Vec<T> {
        let mut bytes = vec![0; count * T::BYTES];
        self.machine.read(from, &mut bytes).unwrap();
        bytes.chunks_exact(T::BYTES).map(T::get).collect()
    }

    /// Runs the entry `k` with pointers as its parameters.
    pub fn run(&mut self, ptx: &str, grid: u32, block: u32, pointers: &[u64]) -> Result<Profile, Fault> {
        self.launch(ptx, "k", [grid, 1, 1], [block, 1, 1], 0, pointers)
    }

    /// Runs any entry with dynamic shared memory.
    pub fn launch(
        &mut self,
        ptx: &str,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        pointers: &[u64],
    ) -> Result<Profile, Fault> {
        let mut parameters = Vec::new();
        pointers.iter().for_each(|p| p.put(&mut parameters));
        self.machine.launch(
            &parse(ptx),
            &Launch { kernel, grid, block, shared, early: false, parameters: &parameters },
        )
    }
}

/// The result of `body` for each row of values: it finds them in `%a`, `%b`, `%c`, `%e` and leaves its result in `%d`.
#[track_caller]
pub fn eval<I: Plain, O: Plain, const N: usize>(body: &str, rows: &[[I; N]]) -> Vec<O> {
    eval_on("sm_80", body, rows)
}

/// As [`eval`], for instructions that another target has.
#[track_caller]
pub fn eval_on<I: Plain, O: Plain, const N: usize>(target: &str, body: &str, rows: &[[I; N]]) -> Vec<O> {
    let (i, o) = (I::BYTES, O::BYTES);
    let mut text = format!(
        "	.reg .b{} %a, %b, %c, %e;
	.reg .b{} %d;
	mad.wide.u32 %l0, %i, {}, %in;
	mad.wide.u32 %l1, %i, {o}, %out;
",
        8 * i,
        8 * o,
        N * i
    );
    for (n, register) in ["%a", "%b", "%c", "%e"].iter().enumerate().take(N) {
        text += &format!("\tld.global.b{} {register}, [%l0+{}];\n", 8 * i, n * i);
    }
    // A load that nothing waits for is under way meanwhile.
    text += "\tld.global.u8 %r99, [%in];\n";
    text += &format!("\t{body}\n\tst.global.b{} [%l1], %d;\n", 8 * o);
    let ptx = module(target, &entry("k", &["out", "in"], &text));

    let threads = rows.len().min(128);
    let blocks = rows.len().div_ceil(threads);
    let mut values: Vec<I> = rows.iter().flatten().copied().collect();
    for n in 0..(blocks * threads - rows.len()) * N {
        values.push(rows[0][n % N]);
    }
    let mut lab = Lab::new();
    let out = lab.room("out", blocks * threads * o);
    let input = lab.upload("in", &values);
    lab.run(&ptx, blocks as u32, threads as u32, &[out, input])
        .unwrap_or_else(|fault| panic!("line {}: {fault}\n{ptx}", fault.line));
    lab.read(out, rows.len())
}

/// Number of the only line that holds this text.
#[track_caller]
pub fn line_of(ptx: &str, text: &str) -> usize {
    let mut lines = ptx.lines().enumerate().filter(|(_, line)| line.contains(text));
    let (number, _) = lines.next().unwrap_or_else(|| panic!("no line has {text:?}"));
    assert_eq!(lines.next(), None, "more than one line has {text:?}");
    number + 1
}

/// The launch stopped with this kind of fault at the line that holds `at`, and its message has every word of `says`.
#[track_caller]
pub fn assert_fault(result: Result<Profile, Fault>, kind: FaultKind, ptx: &str, at: &str, says: &[&str]) {
    let fault = result.expect_err("the planted bug was not found");
    assert_eq!(fault.kind, kind, "line {}: {fault}", fault.line);
    assert_eq!(fault.line, line_of(ptx, at), "expected at {at:?}: {fault}");
    for word in says.iter().chain(&["k: block (", at]) {
        assert!(fault.message.contains(word), "{word:?} is not in: {fault}");
    }
    assert!(!fault.message.contains('\n'), "more than one line: {fault}");
}

/// The traffic of the allocation of this name.
#[track_caller]
pub fn traffic<'a>(profile: &'a Profile, name: &str) -> &'a Traffic {
    profile.traffic.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("no traffic of {name}"))
}
