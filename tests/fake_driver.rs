//! The real binary finds GPUs behind the fake driver, and says in one line why it finds none.

mod support {
    pub mod fake;
}

use std::process::Output;

use support::fake::FakeDriver;

fn devices(fake: &FakeDriver) -> (String, String) {
    let Output { status, stdout, stderr } = fake.llmroof(&["devices"]).output().expect("it starts");
    assert!(status.success(), "{status}");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(stdout), text(stderr))
}

#[test]
fn gpus_are_listed() {
    let (table, _) = devices(&FakeDriver::new().gpus("h200,a100-40gb,unknown"));
    for name in ["NVIDIA H200", "NVIDIA A100-SXM4-40GB", "NVIDIA Graphics Device"] {
        assert!(table.lines().any(|line| line.contains(name) && line.contains("yes")), "{name} in\n{table}");
    }
}

#[test]
fn a_broken_driver_is_no_end_of_the_list() {
    let broken = [
        FakeDriver::new().fault("cuInit=803"),
        FakeDriver::new().gpus(""),
        FakeDriver::new().without_symbol("cuDeviceTotalMem_v2"),
        FakeDriver::new().without("cuda"),
    ];
    for fake in broken {
        let (table, stderr) = devices(&fake);
        let present = table.lines().filter(|line| line.contains("yes")).count();
        assert_eq!(present, 1, "the CPU alone in\n{table}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}
